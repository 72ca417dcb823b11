"""Base maps whose smoothed values are known, and tallies made up by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from corgi.results import FloatArray
from corgi.smoothing.noise import Noise
from corgi.smoothing.tally import Tally


@dataclass(frozen=True)
class Halfspaces:
    """Pixel i is 1 where directions[i] . z > offsets[i]; images are [1, 1, D], directions have length 1.

    Its smoothed value is Phi((directions[i] . x - offsets[i]) / sigma).
    """

    directions: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]
    binary: bool = True
    name: str = "half-spaces"
    model: str = ""
    live: int = 20

    @property
    def shape(self) -> tuple[int, int]:
        return (1, len(self.offsets))

    @property
    def n(self) -> int:
        return len(self.offsets)

    def __call__(self, images: Tensor) -> Tensor:
        sums = images.flatten(1).double() @ torch.tensor(self.directions, dtype=torch.float64).T
        return (sums > torch.tensor(self.offsets, dtype=torch.float64)).double()

    def population(self, x: FloatArray, sigma: float) -> FloatArray:
        return ndtr((np.array(self.directions) @ x.ravel() - np.array(self.offsets)) / sigma)


@dataclass(frozen=True)
class Spread:
    """Values anywhere in [0, 1], different at each pixel."""

    n: int = 6
    binary: bool = False
    name: str = "spread"
    model: str = ""
    live: int = 20

    @property
    def shape(self) -> tuple[int, int]:
        return (1, self.n)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.sigmoid(
            images.flatten(1).double() @ torch.linspace(-2, 2, self.n).double().expand(4, self.n)
        )


def tally_of(
    sums: FloatArray,
    samples: int,
    *,
    squares: FloatArray | None = None,
    sigma: float = 0.5,
    shape: float = 2.0,
    rung: int | None = None,
    inputs: int = 4,
    name: str = "made up",
) -> Tally:
    """Sums as if sampled; 0/1 values unless squares are given."""
    return Tally(
        map_name=name,
        map_shape=(1, len(sums)),
        binary=squares is None,
        subject="",
        noise=Noise(sigma, shape),
        inputs=inputs,
        batch=1,
        samples=samples,
        sums=np.asarray(sums, dtype=np.float64),
        squares=np.asarray(sums if squares is None else squares, dtype=np.float64),
        rung_sums=np.zeros(len(sums)),
        rung_squares=np.zeros(len(sums)),
        rung=rung,
    )


def allowed_failures(trials: int, failure: float) -> float:
    """More failures than this in so many trials happen with probability below 0.001 if the claim holds."""
    return trials * failure + 3.1 * np.sqrt(trials * failure * (1 - failure))
