"""The noise images are averaged over: Gaussian, Laplace and generalized normal (theory 7.7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corgi.errors import UsageError


@dataclass(frozen=True)
class Noise:
    """Independent noise on every input value, density proportional to exp(-|e / scale|^shape).

    The noise of sample i is a function of (seed, i) alone: a run that is resumed, or cut into other batches,
    draws the same noise.

    Attributes:
        sigma: standard deviation, pixel scale [0, 1].
        shape: 2 for Gaussian noise, 1 for Laplace, any other number > 0 for a generalized normal.
        seed: of the generator, 0 <= seed < 2^64.

    Raises:
        UsageError: a number outside its range.
    """

    sigma: float
    shape: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise UsageError(f"sigma {self.sigma}: expected a finite number > 0")
        if not (math.isfinite(self.shape) and self.shape > 0):
            raise UsageError(f"noise shape {self.shape}: expected a finite number > 0")
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"seed {self.seed}: expected 0 <= seed < 2^64")

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return {1.0: "Laplace", 2.0: "Gaussian"}.get(self.shape, f"generalized normal b = {self.shape:g}")

    @property
    def scale(self) -> float:
        """The s of theory 7.7, sigma sqrt(Gamma(1/b) / Gamma(3/b)).

        sigma sqrt(2) for Gaussian, sigma / sqrt(2) for Laplace noise.
        """
        return self.sigma * math.exp((math.lgamma(1 / self.shape) - math.lgamma(3 / self.shape)) / 2)

    def draw(self, first: int, count: int, size: tuple[int, ...]) -> NDArray[np.float64]:
        """The noise of samples `first` to `first + count - 1`: float64 [count, *size]."""
        drawn = np.empty((count, *size))
        for row, sample in zip(drawn, range(first, first + count), strict=True):
            # A counter-based generator: the last of its four words is never reached by counting.
            generator = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, sample]))
            row[...] = self._draw(generator, size)
        return drawn

    def _draw(self, generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
        if self.shape == 2.0:
            return self.sigma * generator.standard_normal(size)
        if self.shape == 1.0:
            return generator.laplace(scale=self.scale, size=size)
        # |e / s|^b has a Gamma(1/b, 1) distribution.
        magnitude = generator.standard_gamma(1 / self.shape, size) ** (1 / self.shape)
        sign = 2.0 * generator.integers(2, size=size) - 1.0
        return self.scale * sign * magnitude


def shape_for(order: float, inputs: int) -> float:
    """The shape b = d* of noise against l_d perturbations of `inputs` values (theory 7.7).

    1 for d = 1; else d rounded up to an even number, but not beyond 2 ceil(ln(inputs) / 2).

    Raises:
        UsageError: d < 1, or fewer than 2 inputs.
    """
    if not order >= 1:
        raise UsageError(f"norm l_{order:g}: expected an order >= 1")
    if inputs < 2:
        raise UsageError(f"{inputs} inputs: expected at least 2")
    if order == 1:
        return 1.0
    most = 2 * math.ceil(math.log(inputs) / 2)
    return float(most if order > most else 2 * math.ceil(order / 2))
