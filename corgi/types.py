"""The values every layer speaks in: balls around an image, and intervals of real numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.errors import EngineError, UsageError
from corgi.terms import Norm as Norm

_UP = torch.tensor(math.inf, dtype=torch.float64)
_DOWN = -_UP


@dataclass(frozen=True)
class Ball:
    """All images within `radius` of `center`, cut to the pixel box.

    Attributes:
        center: image of shape [C, H, W], in the pixel scale of the network input (before any
            normalisation inside the network), within the pixel box.
        radius: a finite number >= 0 in the same scale.
        norm: the norm of the ball.
        pixel_box: smallest and largest value a pixel can take.

    Raises:
        UsageError: the radius is negative or not finite, the norm is none, or the centre leaves the pixel
            box.
    """

    center: Tensor
    radius: float
    norm: Norm = Norm.LINF
    pixel_box: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise UsageError(f"radius {self.radius} is not a finite number >= 0")
        if not isinstance(self.norm, Norm):  # a string equals a member and is none
            raise UsageError(f"norm {self.norm!r}: expected a Norm, as Norm.LINF")
        low, high = self.pixel_box
        if not bool(((self.center >= low) & (self.center <= high)).all()):
            raise UsageError(f"the centre of the ball has pixels outside [{low}, {high}]")

    def with_radius(self, radius: float) -> Ball:
        """The ball of another radius around the same centre."""
        return Ball(self.center, radius, self.norm, self.pixel_box)

    @property
    def largest(self) -> float:
        """A radius at which the ball holds every image: 1 in l_inf, sqrt(n) in l_2, n in l_1 for n pixels."""
        count, width = self.center.numel(), self.pixel_box[1] - self.pixel_box[0]
        return width * {Norm.LINF: 1.0, Norm.L2: math.sqrt(count), Norm.L1: float(count)}[self.norm]

    def box(self, dtype: torch.dtype) -> Interval:
        """The smallest pixel interval around the ball that `dtype` can hold, each of shape [C, H, W].

        The same for all norms: one pixel alone may change by the whole radius. Computed in float64 and
        rounded outwards, so it contains the real ball whatever `dtype` is.
        """
        center = self.center.to(torch.float64)
        low, high = self.pixel_box
        lower, upper = center, center
        if self.radius > 0:
            lower = (center - self.radius).nextafter(_DOWN)
            upper = (center + self.radius).nextafter(_UP)
        # Cut in float64, then round: `dtype` may not hold the ends of the pixel box.
        return Interval(_round_down(lower.clamp(min=low), dtype), _round_up(upper.clamp(max=high), dtype))

    def inner_box(self, dtype: torch.dtype) -> Interval:
        """The largest pixel interval inside the real l_inf ball, each [C, H, W]: where witnesses live.

        Rounded inwards, so an image of type `dtype` between the two is in that ball in exact arithmetic. In
        other norms no box is the ball: see `attacks/steps.py: Projection`.
        """
        center = self.center.to(torch.float64)
        low, high = self.pixel_box
        lower = _round_up((center - self.radius).nextafter(_UP), dtype)
        upper = _round_down((center + self.radius).nextafter(_DOWN), dtype)
        held = center.to(dtype)
        return Interval(torch.minimum(lower, held).clamp(min=low), torch.maximum(upper, held).clamp(max=high))

    def distance(self, image: Tensor) -> float:
        """Distance of an image [C, H, W] from the centre in the ball's norm, computed in float64.

        In l_2 and l_1, whose sums are rounded, never below the true distance.
        """
        change = (image.to(torch.float64) - self.center.to(torch.float64)).abs()
        largest = float(change.max())
        if self.norm is Norm.LINF or not 0 < largest < math.inf:
            return largest
        # In units of the largest change no square underflows that counts. The differences, n squares, their
        # sum, its root and the product: at most n + 8 roundings of 2^-53, on sums of positive terms.
        share = float(self.norm.sizes(change[None] / largest)[0])
        return math.nextafter(largest * share * (1 + (change.numel() + 8) * 2.0**-52), math.inf)


def _round_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = values.to(dtype)
    below = rounded.nextafter(torch.tensor(-math.inf, dtype=dtype, device=values.device))
    return torch.where(rounded.to(torch.float64) > values, below, rounded)


def _round_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = values.to(dtype)
    above = rounded.nextafter(torch.tensor(math.inf, dtype=dtype, device=values.device))
    return torch.where(rounded.to(torch.float64) < values, above, rounded)


@dataclass(frozen=True)
class Interval:
    """Elementwise bounds lower <= upper, two tensors of one shape."""

    lower: Tensor
    upper: Tensor

    @staticmethod
    def from_engine(lower: Tensor, upper: Tensor, *, slack: float, engine: str) -> Interval:
        """Bounds as an engine returned them, made safe: the one contract of all engines.

        NaN says nothing, so it becomes the vacuous bound (-inf or inf). Bounds that cross by no more
        than `slack` (rounding of a point-like set) become their hull; a wider crossing is a
        broken engine.

        Raises:
            EngineError: the shapes differ, or lower exceeds upper by more than `slack`.
        """
        if lower.shape != upper.shape:
            raise EngineError(
                f"engine {engine} returned bounds of shapes {tuple(lower.shape)} and {tuple(upper.shape)}"
            )
        lower = lower.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        upper = upper.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
        # A lower bound of +inf or an upper bound of -inf is an overflow, never a proof.
        lower = torch.where(lower == math.inf, -math.inf, lower)
        upper = torch.where(upper == -math.inf, math.inf, upper)
        crossing = float((lower - upper).max()) if lower.numel() else -math.inf
        if not crossing <= slack:  # a slack of NaN explains nothing
            raise EngineError(
                f"engine {engine} returned a lower bound above its upper bound by {crossing:.3g}"
                f" (rounding explains {slack:.3g})",
                hint="This is a fault of the engine, not of your input; no bound is used.",
            )
        return Interval(torch.minimum(lower, upper), torch.maximum(lower, upper))
