"""The values every layer speaks in: balls around an image, and intervals of real numbers."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.errors import EngineError, UsageError
from corgi.terms import Norm as Norm

_UP = torch.tensor(math.inf, dtype=torch.float64)
_DOWN = -_UP


@dataclass(frozen=True, eq=False)
class Where:
    """Which entries of an image may change, and how far in radii of the ball: equal if they say the same.

    Attributes:
        scale: float64 [C, H, W], or [1, H, W] for all channels alike, in [0, 1]; 0 for what may not change.
        source: in words, as `inside of 10,10,40,40`; of shares what they come from.

    Raises:
        UsageError: another type or shape, a value outside [0, 1], or no 1 among them: then the radius would
            be that of no entry.
    """

    scale: Tensor
    source: str

    def __post_init__(self) -> None:
        scale, name = self.scale, f"{self.source}: how far entries may change"
        if scale.dtype is not torch.float64 or scale.ndim != 3:
            raise UsageError(
                f"{name} is {scale.dtype} of shape {tuple(scale.shape)}, expected float64 [C, H, W]"
            )
        if not (bool(((scale >= 0) & (scale <= 1)).all()) and bool((scale == 1).any())):
            raise UsageError(
                f"{name}: expected values in [0, 1], the largest of them 1",
                hint="They are in radii of the ball: divide by the largest.",
            )
        # A copy: the caller may write into the same memory.
        object.__setattr__(self, "scale", scale.detach().clone())

    @property
    def binary(self) -> bool:
        """Whether entries change by the whole radius or not at all."""
        return bool(((self.scale == 0) | (self.scale == 1)).all())

    @property
    def in_words(self) -> str:
        """What changes, as a clause."""
        if not self.binary:
            return f"each entry changes by the radius times its share in {self.source} at most"
        apart = "" if bool((self.scale == self.scale[:1]).all()) else "only some channels of "
        return f"{apart}pixels {self.source} alone change"

    @property
    def count(self) -> int:
        """How many places of the image may change, in one channel or more."""
        return int((self.scale > 0).any(0).sum())

    @property
    def sha256(self) -> str:
        """Digest of shape and values."""
        content = repr(tuple(self.scale.shape)).encode() + self.scale.contiguous().numpy().tobytes()
        return hashlib.sha256(content).hexdigest()

    def __eq__(self, other: object) -> bool:
        # By what it says now: nothing keeps a caller from writing into it.
        if not isinstance(other, Where):
            return False
        return self.source == other.source and torch.equal(self.scale, other.scale)

    def __hash__(self) -> int:
        return hash((self.source, self.scale.shape))

    def __repr__(self) -> str:
        return f"Where({self.source!r}, sha256={self.sha256})"


@dataclass(frozen=True)
class Ball:
    """All images within `radius` of `center`, cut to the pixel box.

    With `where`, those that differ from the centre only there: entry i by d_i with |d_i| <= radius scale_i in
    l_inf; in other norms ||d||_p <= radius.

    Attributes:
        center: image of shape [C, H, W], in the pixel scale of the network input (before any
            normalisation inside the network), within the pixel box.
        radius: a finite number >= 0 in the same scale.
        norm: the norm of the ball.
        pixel_box: smallest and largest value a pixel can take.
        where: which entries may change; None for all, by the whole radius.

    Raises:
        UsageError: the radius is negative or not finite, the norm is none, the centre leaves the pixel
            box, or `where` is of another shape, or, in other norms than l_inf, of shares of the radius.
    """

    center: Tensor
    radius: float
    norm: Norm = Norm.LINF
    pixel_box: tuple[float, float] = (0.0, 1.0)
    where: Where | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise UsageError(f"radius {self.radius} is not a finite number >= 0")
        if not isinstance(self.norm, Norm):  # a string equals a member and is none
            raise UsageError(f"norm {self.norm!r}: expected a Norm, as Norm.LINF")
        low, high = self.pixel_box
        if not bool(((self.center >= low) & (self.center <= high)).all()):
            raise UsageError(f"the centre of the ball has pixels outside [{low}, {high}]")
        if self.where is not None:
            self._check_where(self.where)

    def _check_where(self, where: Where) -> None:
        shape, wanted = tuple(where.scale.shape), tuple(self.center.shape)
        if shape not in (wanted, (1, *wanted[1:])):
            raise UsageError(f"{where.source}: of shape {shape}, but the image is {wanted}")
        if self.norm is not Norm.LINF and not where.binary:
            hint = "There a pixel may change or not: 0 or 1."
            raise UsageError(f"{where.source}: shares of a radius in {self.norm.label}", hint=hint)

    def with_radius(self, radius: float) -> Ball:
        """The ball of another radius around the same centre."""
        return Ball(self.center, radius, self.norm, self.pixel_box, self.where)

    def copy(self) -> Ball:
        """The same in memory of its own: a caller may write another image, other places, into theirs."""
        where = None if self.where is None else Where(self.where.scale, self.where.source)
        return Ball(self.center.clone(), self.radius, self.norm, self.pixel_box, where)

    @property
    def scale(self) -> Tensor | None:
        """How far entries may change, in radii: float64 [C, H, W]; None for all of them by the radius."""
        return None if self.where is None else self.where.scale.expand(self.center.shape)

    @property
    def largest(self) -> float:
        """The largest radius that makes a difference, of n entries that may change.

        1 in l_inf, sqrt(n) in l_2, n in l_1: there the ball holds every image that `where` allows, but where
        entries change by shares of the radius.
        """
        count, width = self.center.numel(), self.pixel_box[1] - self.pixel_box[0]
        if self.scale is not None:
            count = int((self.scale > 0).sum())
        return width * {Norm.LINF: 1.0, Norm.L2: math.sqrt(count), Norm.L1: float(count)}[self.norm]

    def box(self, dtype: torch.dtype) -> Interval:
        """The smallest pixel interval around the ball that `dtype` can hold, each of shape [C, H, W].

        The same for all norms: one pixel alone may change by the whole radius. Computed in float64 and
        rounded outwards, so it contains the real ball whatever `dtype` is; what may not change is exact in
        float64.
        """
        center = self.center.to(torch.float64)
        low, high = self.pixel_box
        lower, upper = center, center
        if self.radius > 0:
            reach = self.radius if self.scale is None else (self.radius * self.scale).nextafter(_UP)
            lower, upper = (center - reach).nextafter(_DOWN), (center + reach).nextafter(_UP)
            if self.scale is not None:
                fixed = self.scale == 0
                lower, upper = torch.where(fixed, center, lower), torch.where(fixed, center, upper)
        # Cut in float64, then round: `dtype` may not hold the ends of the pixel box.
        return Interval(_round_down(lower.clamp(min=low), dtype), _round_up(upper.clamp(max=high), dtype))

    def inner_box(self, dtype: torch.dtype) -> Interval:
        """The largest pixel interval inside the real l_inf ball, each [C, H, W]: where witnesses live.

        Rounded inwards, so an image of type `dtype` between the two is in that ball in exact arithmetic. In
        other norms no box is the ball: see `attacks/steps.py: Projection`.
        """
        center = self.center.to(torch.float64)
        low, high = self.pixel_box
        # A little less than the share, so that `distance` does not find more than the radius either.
        reach = self.radius if self.scale is None else self.radius * self.scale * (1 - 2.0**-50)
        lower = _round_up((center - reach).nextafter(_UP), dtype)
        upper = _round_down((center + reach).nextafter(_DOWN), dtype)
        held = center.to(dtype)
        return Interval(torch.minimum(lower, held).clamp(min=low), torch.maximum(upper, held).clamp(max=high))

    def distance(self, image: Tensor) -> float:
        """Distance of an image [C, H, W] from the centre in the ball's norm, computed in float64.

        In l_2 and l_1, whose sums are rounded, and in shares of a radius never below the true distance. inf
        where the image differs in what may not change.
        """
        change = (image.to(torch.float64) - self.center.to(torch.float64)).abs()
        if self.scale is not None:
            if bool(((change > 0) & (self.scale == 0)).any()):
                return math.inf
            # Of a share so small that the quotient overflows it is inf, which is not below the truth either.
            shares = (change / self.scale).nextafter(_UP)
            change = torch.where(self.scale == 1, change, torch.where(change > 0, shares, 0.0))
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
