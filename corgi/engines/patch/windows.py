"""The windows of a Maximum: which elements can be the largest, and what intervals and rows say of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.patch.backward import MaximumLines
from corgi.engines.patch.intervals import cast_up
from corgi.engines.patch.maximum import pairs_of, planes, rivals
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.tables import Table
from corgi.engines.patch.tournament import Outcome, none_played
from corgi.engines.rigour import roundings, unit
from corgi.types import Interval

_MANY = 0.05
"""Share of undecided windows from which on a thorough bound is drawn of a whole layer."""


@dataclass(frozen=True)
class Leads:
    """What is the same of windows in all balls around an image: see `Windows`; `real` elements, bool."""

    lead: Tensor
    low: Tensor
    high: Tensor
    real: Tensor

    @staticmethod
    def of(layer: Maximum, before: Tensor, after: Tensor, dtype: torch.dtype) -> Leads:
        """From the centres of a Maximum's input and output."""
        elements = F.pad(layer.windows(before), (1, 0), value=0.0 if layer.zero else -torch.inf)
        # The padding, and a zero where there is none, are never the maximum.
        real = ~(elements == -torch.inf)
        lead = torch.where(real, elements - after[..., None], -torch.inf)
        error = roundings(2) * lead.abs()
        high = cast_up(lead + error, dtype).masked_fill(~real, -torch.inf)
        return Leads(lead, -cast_up(error - lead, dtype), high, real)


@dataclass(frozen=True)
class Undecided(Table):
    """Windows with several live elements, once rows were spent on the differences of those.

    Attributes:
        units: [U, 4]; live: bool [U, E].
        above, by_rows: as in `Rowed`; by_rivals: by rows that took the rivals of planes, where `disputed`.
        disputed: bool [U], whether a window with rival planes is in the cone of the elements.
        lower, upper: elements by intervals, as in `Windows`, before there were rows: [U, E].
    """

    units: Tensor
    live: Tensor
    above: Tensor
    by_rows: Tensor
    by_rivals: Tensor
    disputed: Tensor
    lower: Tensor
    upper: Tensor


@dataclass(frozen=True)
class Rowed(Table):
    """What rows said of undecided windows.

    Attributes:
        above: [U, E, E], see maximum.py; by_rows: the same where rows alone are believed.
        joint_weights, joint_shift: [U, E], [U], the joint bound of maximum.py.
        outcome: of tournaments, where they were played.
    """

    above: Tensor
    by_rows: Tensor
    joint_weights: Tensor
    joint_shift: Tensor
    outcome: Outcome

    def to(self, dtype: torch.dtype) -> Rowed:
        """In another precision, which must not be lower; tournaments always are in float64."""
        return replace(
            self,
            above=self.above.to(dtype),
            by_rows=self.by_rows.to(dtype),
            joint_weights=self.joint_weights.to(dtype),
            joint_shift=self.joint_shift.to(dtype),
        )


@dataclass
class Windows:
    """The windows of one Maximum; E elements, the zero first.

    Attributes:
        lead: float64 [B, C, H', W', E], the centre of each element minus the centre of the maximum, <= 0;
            lead_low, lead_high: around it, in working precision.
        lower, upper: each element over the ball, minus the centre of the maximum.
        live: bool, elements that may be the maximum.
        done: bool [B, H', W'], where rows were spent already.
        place: int64 [B, C, H', W'], the place of a window in `above`, -1 where rows were not spent or decided
        it.
        rowed: what rows said of the others, by that place.
    """

    lead: Tensor
    lead_low: Tensor
    lead_high: Tensor
    lower: Tensor
    upper: Tensor
    live: Tensor
    done: Tensor
    place: Tensor
    rowed: Rowed

    @staticmethod
    def begun(known: Leads) -> Windows:
        """Nothing known but which elements there are."""
        unknown = torch.full_like(known.low, torch.inf)
        count = known.lead.shape[-1]
        done = torch.zeros_like(known.real[:, 0, :, :, 0])
        place = torch.full_like(known.real[..., 0], -1, dtype=torch.int64)
        above, live = unknown.new_zeros(0, count, count), known.real.clone()
        rowed = Rowed(above, above, above[:, 0], above[:, 0, 0], none_played(live.new_zeros(0, count)))
        return Windows(known.lead, known.low, known.high, -unknown, unknown, live, done, place, rowed)

    @property
    def undecided(self) -> Tensor:
        """Which windows have several live elements: bool [B, C, H', W']."""
        return self.live.sum(-1) > 1

    @property
    def range(self) -> Interval:
        """The maximum over the ball: at least every live element, at most the largest."""
        ends = (torch.where(self.live, end, -torch.inf) for end in (self.lower, self.upper))
        return Interval(*(reduce(torch.maximum, end.unbind(-1)) for end in ends))

    @property
    def bytes(self) -> int:
        """Memory, about."""
        tensors = [value for value in vars(self).values() if isinstance(value, Tensor)]
        tensors += [self.rowed.above, self.rowed.by_rows]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def many(self, todo: Tensor) -> bool:
        """Whether so many windows at [B, H', W'] are undecided that the next intervals would say nothing."""
        share = (self.undecided & todo[:, None]).sum() / (todo.sum() * self.live.shape[1])
        return bool(share > _MANY)

    def update(self, layer: Maximum, source: Interval) -> None:
        """Elements by intervals of a Maximum's input; what rows had found before is kept."""
        # The deviation of an element plus its lead, rounded outwards; the lead of the leader is exactly 0.
        lower, upper = (F.pad(layer.windows(v), (1, 0)) for v in (source.lower, source.upper))
        ulps = 2 * unit(lower.dtype)
        lower, upper = self.lead_low + lower, self.lead_high + upper
        lower, upper = lower - ulps * lower.abs(), upper + ulps * upper.abs()
        self.lower, self.upper = torch.fmax(self.lower, lower), torch.fmin(self.upper, upper)
        self.drop_beaten()

    def drop_beaten(self) -> None:
        """Live elements that never exceed the surest live one are not needed to reach the maximum."""
        if self.live.shape[-1] == 2:  # the same for two, in a few simple operations
            first, second = self.live.unbind(-1)
            beaten = (self.upper[..., 0] <= self.lower[..., 1]) & second
            first &= ~beaten
            second &= ~((self.upper[..., 1] <= self.lower[..., 0]) & first)
            return
        surest = self.lower.masked_fill(~self.live, -torch.inf).argmax(-1, keepdim=True)
        beaten = self.upper <= self.lower.gather(-1, surest)
        self.live &= ~beaten.scatter(-1, surest, False)

    def again(self) -> Windows:
        """The same, with rows to be spent once more on what is undecided."""
        kept = {name: getattr(self, name).clone() for name in ("lower", "upper", "live", "place")}
        return replace(self, done=torch.zeros_like(self.done), **kept)

    def learned(self, theirs: Windows) -> Windows:
        """The same, with what is known of the same windows in a lower precision."""
        dtype = self.lower.dtype
        return replace(
            self,
            lower=torch.fmax(self.lower, theirs.lower.to(dtype)),
            upper=torch.fmin(self.upper, theirs.upper.to(dtype)),
            live=self.live & theirs.live,
            done=theirs.done.clone(),
            place=theirs.place.clone(),
            rowed=theirs.rowed.to(dtype),
        )

    def above(self, units: Tensor) -> Tensor:
        """Bounds of x_j - x_i by intervals: [U, E, E]; inf for padding, and for a zero that is none."""
        at = units.unbind(1)
        known, lower, upper = self.lead[at] > -torch.inf, self.lower[at], self.upper[at]
        above = upper[:, :, None] - lower[:, None, :]
        above = above + 2 * unit(above.dtype) * (upper.abs()[:, :, None] + lower.abs()[:, None, :])
        same = torch.eye(known.shape[1], dtype=torch.bool, device=known.device)
        return torch.where(pairs_of(known), above, torch.inf).masked_fill(same, 0)

    def note_signs(self, at: tuple[Tensor, ...], live: Tensor, above: Tensor) -> None:
        """What differences with the zero say of the elements themselves."""
        zero = live[:, :1] & live
        # The zero stands at its lead, exactly; an element x is at most lead_0 + above[x, 0].
        lead, dtype = self.lead[at][:, :1], self.lower.dtype
        slack = roundings(2) * (lead.abs() + above[:, 0, :].abs().nan_to_num(posinf=0.0))
        low = -cast_up(above[:, 0, :] - lead + slack, dtype)
        slack = roundings(2) * (lead.abs() + above[:, :, 0].abs().nan_to_num(posinf=0.0))
        high = cast_up(above[:, :, 0] + lead + slack, dtype)
        lower, upper = self.lower[at], self.upper[at]
        self.lower[at] = torch.where(zero, torch.fmax(lower, low), lower)
        self.upper[at] = torch.where(zero, torch.fmin(upper, high), upper)

    def lines(self, layer: Maximum, shape: tuple[int, int]) -> MaximumLines:
        """How the Maximum is replaced; `shape`: of its input."""
        # A window whose one live element is not its centre's leader (a tie) is given a plane for that, too.
        trailing = (self.live & (self.lead < 0)).any(-1)
        units = (trailing | self.undecided).nonzero()
        at = units.unbind(1)
        live, above = self.live[at], self.above(units)
        place = self.place[at]
        rowed = (place >= 0).nonzero()[:, 0]
        known, by_rows = self.rowed.chosen(place[rowed]), above.clone()
        by_rows[rowed], above[rowed] = known.by_rows, torch.fmin(above[rowed], known.above)
        joint = None
        if bool(torch.isfinite(known.joint_shift).any()):
            joint = torch.zeros_like(above[:, 0]), torch.full_like(above[:, 0, 0], torch.inf)
            joint[0][rowed], joint[1][rowed] = known.joint_weights, known.joint_shift
        lead = self.lead[at]
        sizes = torch.maximum(self.lower[at].abs(), self.upper[at].abs()).to(torch.float64) + lead.abs()
        size = torch.where(live, sizes, 0).amax(1)
        drawn = planes(units, live, above, by_rows, lead, size, joint)
        others = None
        if bool(torch.isfinite(known.outcome.height).any()):
            outcome = none_played(live)
            outcome.put(rowed, known.outcome)
            others = rivals(drawn, outcome, lead, sizes)
        weights = self.live.to(above.dtype)
        weights[at] = drawn.up
        return MaximumLines(as_field(layer, weights[..., 1:], shape), drawn, others)


def as_field(layer: Maximum, weights: Tensor, shape: tuple[int, int]) -> Tensor:
    """Weights [B, C, H', W', elements] as `MaximumLines.weights`; `shape` is that of the input."""
    balls, channels, height, width, elements = weights.shape
    if not layer.tiles:
        by_element = weights.permute(0, 4, 1, 2, 3)
        return by_element.reshape(balls, elements * channels, height, width).contiguous()
    placed = weights.reshape(balls, channels, height, width, *layer.kernel).permute(0, 1, 2, 4, 3, 5)
    placed = placed.reshape(balls, channels, height * layer.kernel[0], width * layer.kernel[1])
    # Rows and columns behind the last window are read by none.
    return F.pad(placed, (0, shape[1] - placed.shape[3], 0, shape[0] - placed.shape[2])).contiguous()
