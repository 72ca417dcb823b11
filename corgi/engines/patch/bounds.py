"""What is known of a network over some balls: intervals first, rows only where they pay.

A window of a Maximum that can have only one maximum is linear and needs nothing. For the others rows are
spent: differences of elements, which decide them or bound how far they are from it. Only windows in the cone
of what is asked for get rows, and nothing that a larger ball around the same image had decided is asked
again. Inputs of curved activations get rows where their lines lie far apart.

Rows of a deep network on a large image cost a pass through the network each. Where those of a layer would
take more work than is left, norms join the intervals (gains.py), which leaves fewer windows undecided. If it
is too much even then, rows end at an earlier layer, at what intervals and norms know of it; and where that
would still be too much, there are none: CROWN-IBP for that layer. `shortened` says so.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.budget import check
from corgi.engines.patch.backward import (
    AnyLines,
    BackwardPass,
    MaximumLines,
    Relaxation,
    TwoSidedPass,
)
from corgi.engines.patch.cones import cone_masks, cone_sizes, horizons, read_places, readers
from corgi.engines.patch.curves import Lines, relax
from corgi.engines.patch.gains import Gains, conv_reach, euclidean, norm_step
from corgi.engines.patch.halfspace import HalfSpace, box_fields, least
from corgi.engines.patch.intervals import (
    Centre,
    by_channel,
    cast_out,
    cast_up,
    interval_step,
    magnitude,
)
from corgi.engines.patch.maximum import best_weights, pairs_of, planes, rivals
from corgi.engines.patch.norms import Reach, held_interval, reach_step
from corgi.engines.patch.patches import Patches, distinct_places, kernels_of, on_device, on_host
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.product import ProductPlanes, product_norm, product_planes
from corgi.engines.patch.tables import Table
from corgi.engines.patch.tournament import Outcome, Tournament, first_games, none_played
from corgi.engines.rigour import FOLDING, gamma, unit
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Interval

_APART = 0.001
"""Lines further apart than this share of the activation's range are worth rows for its input."""

_CURVES = (layers.Sigmoid, layers.Tanh, layers.Curve, layers.Power, layers.Mul)
_MANY = 0.05
"""Share of undecided windows from which on a thorough bound is drawn of a whole layer."""


@dataclass(frozen=True)
class _Leads:
    """What is the same of windows in all balls around an image: see `_Windows`; `real` elements, bool."""

    lead: Tensor
    low: Tensor
    high: Tensor
    real: Tensor


@dataclass(frozen=True)
class _Undecided(Table):
    """Windows with several live elements, once rows were spent on the differences of those.

    Attributes:
        units: [U, 4]; live: bool [U, E].
        above, by_rows: as in `_Rowed`; by_rivals: by rows that took the rivals of planes, where `disputed`.
        disputed: bool [U], whether a window with rival planes is in the cone of the elements.
        lower, upper: elements by intervals, as in `_Windows`, before there were rows: [U, E].
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
class _Rowed(Table):
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

    def to(self, dtype: torch.dtype) -> _Rowed:
        """In another precision, which must not be lower; tournaments always are in float64."""
        return replace(
            self,
            above=self.above.to(dtype),
            by_rows=self.by_rows.to(dtype),
            joint_weights=self.joint_weights.to(dtype),
            joint_shift=self.joint_shift.to(dtype),
        )


@dataclass
class _Windows:
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
    rowed: _Rowed

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

    def again(self) -> _Windows:
        """The same, with rows to be spent once more on what is undecided."""
        kept = {name: getattr(self, name).clone() for name in ("lower", "upper", "live", "place")}
        return replace(self, done=torch.zeros_like(self.done), **kept)


class BallBounds:
    """Bounds of a network over balls, each [B, ...].

    Attributes:
        relaxation: what backward passes see; rows: how many were bounded so far.
        largest_error: set aside for rounding in a row on the network's output.
        shortened: by output of a Maximum, where the rows on its windows ended before the image because the
            work would have been too much, None where there were none.
    """

    def __init__(
        self,
        graph: TorchGraph,
        centres: dict[str, Centre],
        box: Interval,
        *,
        refine: bool,
        budget: int,
        work: float = math.inf,
        gains: Gains | None = None,
        thorough: bool = False,
        tournaments: bool = True,
        outer: BallBounds | None = None,
        reach: Reach | None = None,
        sibling: BallBounds | None = None,
        lazy: bool = False,
    ) -> None:
        """Interval bounds of everything.

        Args:
            graph: prepared steps, in working precision.
            centres: values in the middle of the balls.
            box: the pixels' deviations from it, [B, C, H, W].
            refine: whether undecided windows get rows (CROWN) or not (CROWN-IBP).
            budget: bytes a backward pass may use for its patches.
            work: multiply-adds that rows on windows may take; those of tournaments are not counted.
            gains: of the graph's layers, if they are to be shared.
            thorough: whether layers that intervals leave undecided in many places are bounded everywhere,
                from both sides; all activations must be Maximum.
            tournaments: whether rows that read windows with three or more candidates are bounded with the
                planes of tournaments, too; not where `thorough` bounds whole layers.
            outer: bounds of balls around the same images that contain these ones, if known.
            reach: the norm of the pixels' deviations, if the balls are not boxes.
            sibling: bounds of any other balls around the same images, in the same precision.
            lazy: whether intervals wait for `require` or `complete`: behind windows that rows decide they
                would be drawn twice.
        """
        self.graph, self.refine, self.budget = graph, refine, budget
        self.rows, self.largest_error = 0, 0.0
        self.shortened: dict[str, str | None] = {}
        self._work, self._gains, self._thorough = work, gains or Gains(graph), thorough
        self._tournaments = tournaments and not thorough
        sizes = {graph.input_name: by_channel(box)}
        self.relaxation = Relaxation(graph, centres, {graph.input_name: box}, sizes, self._lines_of)
        self._steps = {step.output: step for step in graph.steps}
        self._lines: dict[str, AnyLines] = {}
        if reach is not None:
            self.relaxation.reaches[graph.input_name] = reach
        self._exact = _exact_values(graph) if reach is None else set()
        self._windows: dict[str, _Windows] = {}
        self._leads: dict[str, _Leads] = {} if sibling is None else sibling._leads
        self._rowed: dict[str, Tensor] = {}
        self._marked: dict[str, Tensor] = {}
        self._disputed: dict[str, Tensor] = {}
        self._ends: dict[str, list[tuple[str, float]]] = {}
        self._until: dict[str, str] = {}
        if outer is not None and outer.relaxation.norms is not None:
            self.relaxation.norms = {graph.input_name: self._image_norm()}
        self._outer = None if outer is None else outer.complete()
        if not lazy:
            self.complete()

    def live(self, value: str) -> Tensor:
        """Which elements of the windows of a Maximum can be the maximum: bool [B, C, H', W', E], zero first.

        Everywhere in the ball the Maximum is the largest of them.
        """
        return self._windows[value].live

    def complete(self) -> BallBounds:
        """The same, with intervals of every value."""
        for step in self.graph.steps:
            if step.output not in self.relaxation.intervals:
                self._forward(step)
        self._outer = None
        return self

    @property
    def bytes(self) -> int:
        """Memory of intervals and windows, about."""
        tensors = [end for known in self.relaxation.intervals.values() for end in (known.lower, known.upper)]
        for windows in self._windows.values():
            tensors += [value for value in vars(windows).values() if isinstance(value, Tensor)]
            tensors += [windows.rowed.above, windows.rowed.by_rows]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def within(self, half_space: HalfSpace) -> BallBounds:
        """The same bounds, to be refined again for a part of the balls."""
        part = copy.copy(self)
        part.relaxation = replace(
            self.relaxation,
            intervals=dict(self.relaxation.intervals),
            sizes=dict(self.relaxation.sizes),
            lines=part._lines_of,
            half_space=half_space,
            norms=None if self.relaxation.norms is None else dict(self.relaxation.norms),
        )
        part.shortened = dict(self.shortened)
        part._lines = dict(self._lines)
        part._windows = {name: windows.again() for name, windows in self._windows.items()}
        part._rowed = {}
        # Rows are to be decided by what holds on the part alone; a second form costs more than it brings.
        part._tournaments = False
        return part

    def learn(self, other: BallBounds) -> None:
        """Take over what is known of the same balls in a lower precision."""
        self.complete()
        dtype = self.relaxation.dtype
        norms = other.relaxation.norms
        self.relaxation.norms = None if norms is None else dict(norms)
        self.shortened.update(other.shortened)
        self.rows += other.rows
        for step in self.graph.steps:
            if step.output in self._windows:
                mine, theirs = self._windows[step.output], other._windows[step.output]
                self._windows[step.output] = replace(
                    mine,
                    lower=torch.fmax(mine.lower, theirs.lower.to(dtype)),
                    upper=torch.fmin(mine.upper, theirs.upper.to(dtype)),
                    live=mine.live & theirs.live,
                    done=theirs.done.clone(),
                    place=theirs.place.clone(),
                    rowed=theirs.rowed.to(dtype),
                )
            self._note(step, cast_out(other.relaxation.intervals[step.output], dtype))
        self._rowed = dict(other._rowed)
        self._lines.clear()

    def half_space(self, backward: BackwardPass) -> HalfSpace | None:
        """Where in the ball the one row of a finished pass can be <= 0.

        None where the row is not a function of the image alone, or nothing is known of it.
        """
        name, constant = self.graph.input_name, float(backward.constant[0])
        if set(backward.ended) != {name} or not math.isfinite(constant):
            return None
        shape, known = self.relaxation.shape(name), self.relaxation.intervals[name]
        row = backward.ended[name].inside(shape).dense(shape).values
        low = float(least(row, *box_fields(known.lower, known.upper).chunk(2, 1))[0])
        reach = 1.01 * float((row.abs() * magnitude(known)).sum())
        return HalfSpace(row, constant, low - 2.0**-50 * abs(low), reach)

    def lower_rows(self, value: str, rows: Patches, at_centre: Tensor, enough: float | None = None) -> Tensor:
        """Lower bounds of rows on a value, float64 [R]. Chunked to the budget.

        Sound whatever was required before; tight where `require` was told of the cone. Rows that read windows
        with rival planes are bounded with either.

        Args:
            value: what the rows read.
            rows: their coefficients.
            at_centre: a float64 lower bound of each row at the value's centre.
            enough: a row may be given up once it is known to be at least that large.
        """
        found = self._lower(value, rows, at_centre, enough)
        mask = self._disputed.get(value) if self._tournaments else None
        if mask is not None and len(found):
            there = rows.places.cut(mask[:, None].to(rows.values.dtype), *rows.size).amax((1, 2, 3)) > 0
            some = there[on_device(rows.place, there.device)].nonzero()[:, 0]
            if len(some):
                rival = torch.ones_like(some, dtype=torch.bool)
                again = self._lower(value, rows.chosen(some), at_centre[some], enough, rival=rival)
                found[some] = torch.fmax(found[some], again)
        return found

    def _lower(
        self,
        value: str,
        rows: Patches,
        at_centre: Tensor,
        enough: float | None = None,
        until: str | None = None,
        rival: Tensor | None = None,
    ) -> Tensor:
        """The same with planes, or their rivals where `rival`, bool [R]; `until`: see `BackwardPass.run`."""
        parts = [torch.zeros_like(at_centre[:0])]
        for some, chunk in self._chunks(value, rows, until):
            total, those = at_centre[some], None if rival is None else rival[some]
            backward = BackwardPass(self.relaxation, total, torch.zeros_like(total), rival=those)
            parts.append(backward.run({value: chunk}, enough, until))
            if value == self.graph.output_name and len(backward.error):
                self.largest_error = max(self.largest_error, float(backward.error.detach().max()))
        return torch.cat(parts)

    def _chunks(self, value: str, rows: Patches, until: str | None) -> Iterator[tuple[slice, Patches]]:
        """Rows, as many at a time as the budget allows."""
        count = len(rows.place)
        self.rows += count
        size = max(1, int(self.budget / self.bytes_a_row(value, rows, until)))
        for start in range(0, count, size):
            some = slice(start, min(start + size, count))
            yield some, rows if size >= count else rows.chosen(some)

    def require(self, value: str, where: Tensor) -> bool:
        """Bound what rows on a value at places [B, H, W] will meet; False if that was known already."""
        todo = self._todo(value, where)
        missing = {name for name, mask in todo.items() if bool(mask.any())}
        changed = False
        for step in self.graph.steps:
            if not missing:
                break
            if changed or step.output not in self.relaxation.intervals:
                self._forward(step)
            if step.output in missing:
                missing.remove(step.output)
                if not isinstance(step.layer, Maximum):
                    self._bound_input(step, todo[step.output])
                    self._forward(step)
                    changed = True
                    continue
                windows = self._windows[step.output]
                if self.relaxation.norms is None and self._work_of(step, todo[step.output]) > self._work:
                    self._join_norms()
                    return self.require(value, where)
                if self._plan(step, todo[step.output]):
                    self._decide(step, windows, todo[step.output])
                windows.done |= todo[step.output]
                self._note(step, _range_of(windows))
                changed = True
        self.complete()
        return changed

    def _todo(self, value: str, where: Tensor) -> dict[str, Tensor]:
        """Where, in the cone of a value at places [B, H, W], activations had no rows spent on them yet."""
        masks = cone_masks(self.graph, {value: where}, self.relaxation.shape)
        todo = {}
        for step in self.graph.steps:
            if isinstance(step.layer, Maximum) and step.output in masks:
                windows = self._windows.get(step.output)
                todo[step.output] = masks[step.output] & (True if windows is None else ~windows.done)
            if self.refine and isinstance(step.layer, _CURVES) and step.output in masks:
                done = self._rowed.get(step.output)
                todo[step.output] = masks[step.output] if done is None else masks[step.output] & ~done
        return todo

    def work_of(self, value: str, where: Tensor) -> float:
        """Multiply-adds that rows for all that `require` would ask for may take; most are dropped earlier."""
        self.complete()
        todo = self._todo(value, where)
        return sum(self._work_of(self._steps[name], todo[name]) for name in self._windows if name in todo)

    def _work_of(self, step: Step, todo: Tensor) -> float:
        """The same for the undecided windows of one Maximum at [B, H', W']."""
        rows = self._rows_of(step, todo)
        return rows * self._horizons(step)[-1][1] if rows else 0.0

    def _rows_of(self, step: Step, todo: Tensor) -> float:
        """How many rows those windows can take."""
        windows = self._windows[step.output]
        if self._needs_none(step, windows):
            return 0.0
        live = (windows.live.sum(-1) * todo[:, None]).to(torch.float64)
        everywhere = float(live.sum()) if self._thorough and self._many(windows, todo) else 0.0
        return float((live * (live - 1)).clamp(min=0).sum()) + everywhere

    def _horizons(self, step: Step) -> list[tuple[str, float]]:
        assert isinstance(step.layer, Maximum)
        if step.output not in self._ends:
            shape = self.relaxation.shape
            self._ends[step.output] = horizons(self.graph, step.inputs[0], step.layer.reach, shape)
        return self._ends[step.output]

    def _plan(self, step: Step, todo: Tensor) -> bool:
        """Where rows on windows at [B, H', W'] are to end, so that the work left suffices; False: nowhere.

        A layer that cannot have all the way to the image gets at most half of what is left.
        """
        rows = self._rows_of(step, todo)
        if not self.refine or rows == 0:
            return True
        ends = self._horizons(step)
        share = self._work if rows * ends[-1][1] <= self._work else 0.5 * self._work
        affordable = [(end, work) for end, work in ends if rows * work <= share]
        self._until.pop(step.output, None)
        if len(affordable) < len(ends):
            self.shortened[step.output] = affordable[-1][0] if affordable else None
        if not affordable:
            return False
        self._until[step.output] = affordable[-1][0]
        self._work -= rows * affordable[-1][1]
        return True

    def _needs_none(self, step: Step, windows: _Windows) -> bool:
        """Whether intervals say of each element all that rows could: a Relu of one convolution of the image.

        Not where only a part of the ball is meant.
        """
        whole = self.relaxation.half_space is None
        return whole and step.inputs[0] in self._exact and windows.live.shape[-1] == 2

    def _image_norm(self) -> Tensor:
        """Largest Euclidean norm of the image's deviations: of the box, or of the ball where it is one."""
        image = self.graph.input_name
        norm, reach = euclidean(self.relaxation.intervals[image]), self.relaxation.reaches.get(image)
        # In l_1 and l_2 it is at most the ball's radius: |d|_2 <= |d|_1.
        return norm if reach is None else torch.fmin(norm, reach.radius)

    def _join_norms(self) -> None:
        """All intervals once more, with norms."""
        self.relaxation.norms = {self.graph.input_name: self._image_norm()}
        for step in self.graph.steps:
            self._forward(step)

    def bytes_a_row(self, value: str, patches: Patches, until: str | None = None) -> float:
        """Memory of one row: its largest patch, eight times over (windows, products, convolutions)."""
        sizes = cone_sizes(self.graph, value, patches.size, self.relaxation.shape)
        if until is not None:
            names = [self.graph.input_name, *self._steps]
            met = names[names.index(until) : names.index(value) + 1]
            sizes = {name: size for name, size in sizes.items() if name in met}
        intervals = self.relaxation.intervals
        units = (intervals[name].lower.shape[1] * h * w for name, (h, w) in sizes.items())
        return 8.0 * max(units) * patches.values.element_size()

    def _forward(self, step: Step) -> None:
        """Intervals of a step's output, intersected with what was known; the windows follow."""
        check()
        # What a larger ball knows is taken over once.
        outer = self._outer if step.output not in self.relaxation.intervals else None
        known, centres, norms = self.relaxation.intervals, self.relaxation.centres, self.relaxation.norms
        if isinstance(step.layer, Maximum):
            found = _range_of(self._update_windows(step, step.layer, outer))
        else:
            before = [centres[name] for name in step.inputs]
            inputs = [known[name] for name in step.inputs]
            found = interval_step(step.layer, inputs, before, centres[step.output])
            found = self._held(step, found)
        if outer is not None:
            old = cast_out(outer.relaxation.intervals[step.output], found.lower.dtype)
            found = _intersected(found, old)
        if norms is not None and isinstance(step.layer, layers.Conv):
            (name,), error = step.inputs, centres[step.output].error
            reach = cast_up(conv_reach(step.layer, known[name], norms[name], error), found.lower.dtype)
            found = _intersected(found, Interval(-reach, reach))
        self._note(step, found)
        if norms is not None:
            sizes, error = [norms[name] for name in step.inputs], centres[step.output].error
            if isinstance(step.layer, layers.Mul):
                operands = [known[name] for name in step.inputs]
                sizes = [product_norm(operands, [centres[name] for name in step.inputs], sizes)]
            norm = norm_step(step, sizes, error, self.relaxation.shape(step.output), self._gains)
            norms[step.output] = torch.fmin(norm, euclidean(known[step.output]))

    def _held(self, step: Step, found: Interval) -> Interval:
        """An interval cut to what the norm of the image's deviations allows, which is carried on."""
        reaches, after = self.relaxation.reaches, self.relaxation.centres[step.output]
        before = reaches.get(step.inputs[0])
        reach = reach_step(step.layer, before, after)
        if reach is not None:
            reaches[step.output] = reach
        return held_interval(step.layer, found, before, after)

    def _note(self, step: Step, found: Interval) -> None:
        """Keep an interval of a step's output, intersected with what was known."""
        known = self.relaxation.intervals
        before = known.get(step.output)
        known[step.output] = found if before is None else _intersected(found, before)
        self.relaxation.sizes[step.output] = by_channel(known[step.output])
        self._lines.pop(step.output, None)

    def _update_windows(self, step: Step, layer: Maximum, outer: BallBounds | None) -> _Windows:
        """Elements of all windows by intervals; what rows had found before is kept."""
        source = self.relaxation.intervals[step.inputs[0]]
        windows = self._windows.get(step.output)
        if windows is None:
            windows = self._begin_windows(step, layer)
            self._windows[step.output] = windows
            if outer is not None:
                windows.live &= outer._windows[step.output].live
        # The deviation of an element plus its lead, rounded outwards; the lead of the leader is exactly 0.
        lower, upper = (F.pad(layer.windows(v), (1, 0)) for v in (source.lower, source.upper))
        ulps = 2 * unit(lower.dtype)
        lower, upper = windows.lead_low + lower, windows.lead_high + upper
        lower, upper = lower - ulps * lower.abs(), upper + ulps * upper.abs()
        windows.lower, windows.upper = torch.fmax(windows.lower, lower), torch.fmin(windows.upper, upper)
        windows.drop_beaten()
        return windows

    def _begin_windows(self, step: Step, layer: Maximum) -> _Windows:
        """Nothing known but which elements there are."""
        dtype = self.relaxation.dtype
        if step.output not in self._leads:
            before, after = (self.relaxation.centres[name].value for name in (step.inputs[0], step.output))
            elements = F.pad(layer.windows(before), (1, 0), value=0.0 if layer.zero else -torch.inf)
            # The padding, and a zero where there is none, are never the maximum.
            real = ~(elements == -torch.inf)
            lead = torch.where(real, elements - after[..., None], -torch.inf)
            error = 2.0**-52 * lead.abs()
            high = cast_up(lead + error, dtype).masked_fill(~real, -torch.inf)
            self._leads[step.output] = _Leads(lead, -cast_up(error - lead, dtype), high, real)
        known = self._leads[step.output]
        unknown = torch.full_like(known.lead, torch.inf, dtype=dtype)
        count = known.lead.shape[-1]
        done = torch.zeros_like(known.real[:, 0, :, :, 0])
        place = torch.full_like(known.real[..., 0], -1, dtype=torch.int64)
        above, live = unknown.new_zeros(0, count, count), known.real.clone()
        rowed = _Rowed(above, above, above[:, 0], above[:, 0, 0], none_played(live.new_zeros(0, count)))
        return _Windows(known.lead, known.low, known.high, -unknown, unknown, live, done, place, rowed)

    def _decide(self, step: Step, windows: _Windows, todo: Tensor) -> None:
        """Spend rows on the undecided windows at [B, H', W'], and keep what they say."""
        if not self.refine or self._needs_none(step, windows):
            return
        if self._thorough and self._many(windows, todo):
            self._bound_everywhere(step, windows, todo)
        units = ((windows.live.sum(-1) > 1) & todo[:, None]).nonzero()
        if len(units) == 0 or (self._many(windows, todo) and self._thorough):
            return
        at, disputed = units.unbind(1), self._disputed_windows(step, units)
        by_intervals, lower, upper = self._above(windows, units), windows.lower[at], windows.upper[at]
        live, by_rows, by_rivals = self._rows_decide(
            step, units, windows.live[at], windows.lead[at], by_intervals, disputed
        )
        windows.live[at] = live
        # Joint planes are drawn from rows of their own kind: tighter ones would change which are chosen.
        above, place = torch.fmin(by_intervals, by_rows), windows.place[at]
        before = place >= 0
        above[before] = torch.fmin(above[before], windows.rowed.above[place[before]])
        self._note_signs(windows, at, live, above)
        known = _Undecided(units, live, above, by_rows, by_rivals, disputed, lower, upper)
        left = known.chosen((live.sum(1) > 1).nonzero()[:, 0])
        start = len(windows.rowed.above)
        places = torch.arange(start, start + len(left.units), device=place.device)
        # First the rows, then what points at them: no place is ever one that other windows could fill.
        windows.rowed = windows.rowed.joined(self._around(step, left))
        windows.place[left.units.unbind(1)] = places

    def _bound_input(self, step: Step, todo: Tensor) -> None:
        """Spend rows on the inputs of a curved activation at [B, H', W'], where they can move its lines.

        Of a product first on the operand that has fewer units: where it is known well, the other need not be.
        """
        done = self._rowed.get(step.output)
        self._rowed[step.output] = todo if done is None else done | todo
        if not isinstance(step.layer, layers.Mul):
            self._bound_value(step, step.inputs[0], self._apart(step) & todo[:, None])
            return
        shape, known = self.relaxation.shape, self.relaxation.intervals
        operands = [self._original(name) for name in step.inputs]
        for source, copies in sorted(operands, key=lambda found: known[found[0]].lower.numel()):
            which = self._apart(step) & todo[:, None]
            for made in copies:
                read = read_places(made.layer, which.any(1), shape(made.inputs[0]))
                channels = known[made.inputs[0]].lower.shape[1]
                which = read[:, None].expand(-1, channels, -1, -1)
            self._bound_value(step, source, which)
            for made in (*reversed(copies), step):
                self._forward(made)

    def _original(self, value: str) -> tuple[str, list[Step]]:
        """What a value is a copy of, along channels, height or width; the copying steps, the last first."""
        copies: list[Step] = []
        while (step := self._steps.get(value)) is not None:
            match step.layer:
                case layers.Resample(rows=rows, columns=columns) if 1 in (rows.shape[1], columns.shape[1]):
                    pass
                case layers.Conv(weight=weight) if weight.shape[1:] == (1, 1, 1) and step.layer.groups == 1:
                    pass
                case _:
                    break
            copies.append(step)
            (value,) = step.inputs
        return value, copies

    def _bound_value(self, step: Step, source: str, which: Tensor) -> None:
        """Spend rows on units [B, C, H, W] of a value, from both sides."""
        whole = self.relaxation.half_space is None
        if source == self.graph.input_name or (whole and source in self._exact):
            return
        units = which.nonzero()
        if len(units) == 0:
            return
        work = 2 * len(units) * horizons(self.graph, source, (1, 1), self.relaxation.shape)[-1][1]
        if work > self._work:
            self.shortened[step.output] = None
            return
        self._work -= work
        known, at = self.relaxation.intervals[source], units.unbind(1)
        one, nothing = (
            torch.ones(len(units), 1, device=units.device),
            torch.zeros(len(units), device=units.device),
        )
        # A deviation is 0 in the middle of the ball. Its row is the one of a window of one element.
        reader = replace(step, inputs=(source,))
        low, high = (
            self.window_rows(reader, Maximum(), units, sign * one, nothing.to(torch.float64))
            for sign in (1, -1)
        )
        lower, upper = known.lower.clone(), known.upper.clone()
        lower[at] = torch.fmax(lower[at], -cast_up(-low, lower.dtype))
        upper[at] = torch.fmin(upper[at], cast_up(-high, upper.dtype))
        self.relaxation.intervals[source] = Interval(lower, upper)
        self.relaxation.sizes[source] = by_channel(self.relaxation.intervals[source])

    def _apart(self, step: Step) -> Tensor:
        """Where the lines of a curved activation lie apart, by more than rounding: bool [B, C, H, W]."""
        lines, known = self._lines_of(step.output), self.relaxation.intervals
        if isinstance(lines, ProductPlanes):
            after, gap = known[step.output], lines.up_shift - lines.low_shift
            value = self.relaxation.centres[step.output].value.abs()
            rounding = 2**12 * (unit(torch.float64) * value + unit(self.relaxation.dtype) * magnitude(after))
            return ~(gap <= _APART * (after.upper - after.lower) + rounding)
        assert isinstance(lines, Lines)
        before, after = known[step.inputs[0]], known[step.output]
        gaps = [
            (lines.upper_slope - lines.lower_slope) * d + lines.upper_shift - lines.lower_shift
            for d in (before.lower, before.upper)
        ]
        size = 1 + self.relaxation.centres[step.inputs[0]].value.abs() + magnitude(before)
        rounding = 2**12 * unit(torch.float64) * size + 2**12 * unit(self.relaxation.dtype) * magnitude(
            before
        )
        # Written so that NaN is apart.
        return ~(torch.maximum(*gaps) <= _APART * (after.upper - after.lower) + rounding)

    def _many(self, windows: _Windows, todo: Tensor) -> bool:
        """Whether so many windows at [B, H', W'] are undecided that the next intervals would say nothing."""
        share = ((windows.live.sum(-1) > 1) & todo[:, None]).sum() / (todo.sum() * windows.live.shape[1])
        return bool(share > _MANY)

    def _bound_everywhere(self, step: Step, windows: _Windows, todo: Tensor) -> None:
        """Rows for all live elements of all windows at [B, H', W'], from both sides.

        Without, elements of decided windows keep the deviations of their intervals, which grow with every
        layer, and with them those of all that reads them, and what is set aside for rounding.
        """
        layer = step.layer
        assert isinstance(layer, Maximum)
        live = windows.live[..., 1:] & todo[:, None, :, :, None]
        *at, element = live.nonzero(as_tuple=True)
        lower, upper, error = self.two_sided_rows(step, layer, torch.stack(at, 1), element)
        where = (*at, element + 1)
        lead = windows.lead[where]
        slack = error * 1.01 + 2.0**-50 * (lead.abs() + lower.abs() + upper.abs())
        low = -cast_up(slack - lead - lower, windows.lower.dtype)
        high = cast_up(lead + upper + slack, windows.upper.dtype)
        windows.lower[where] = torch.fmax(windows.lower[where], low)
        windows.upper[where] = torch.fmin(windows.upper[where], high)
        windows.drop_beaten()

    def two_sided_rows(
        self, step: Step, layer: Maximum, units: Tensor, element: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Bounds of elements [R] of windows [R, 4] from both sides, and what both are off by: float64 [R]."""
        parts = [torch.zeros(3, 0, dtype=torch.float64, device=units.device)]
        size, until = self._at_once(step, layer), self._until.get(step.output)
        for start in range(0, len(units), size):
            some = slice(start, start + size)
            weights = F.one_hot(element[some], layer.elements).to(torch.float64)
            name, rows, error = self.window_patches(step, layer, units[some], weights)
            for part, chunk in self._chunks(name, rows, until):
                nothing = torch.zeros_like(error[part])
                lower, upper = TwoSidedPass(self.relaxation, nothing, nothing).both({name: chunk}, until)
                parts.append(torch.stack([lower, upper, error[part]]))
        lower, upper, error = torch.cat(parts, 1)
        return lower, upper, error

    def _at_once(self, step: Step, layer: Maximum) -> int:
        """How many rows on windows may begin at once, for the memory of their patches."""
        source = self.relaxation.intervals[step.inputs[0]].lower
        producer, entries = self._steps.get(step.inputs[0]), source.shape[1] * layer.elements
        if producer is not None and isinstance(producer.layer, layers.Conv):
            entries = producer.layer.weight[0].numel() * layer.elements
        return max(1, self.budget // (2 * entries * source.element_size()))

    def _around(self, step: Step, known: _Undecided) -> _Rowed:
        """Planes around windows as a whole: joint ones of three or more live elements, and tournaments.

        Tournaments are played where their planes can differ: for those windows, and where the rows of others
        read such windows. All rows that are known share passes.
        """
        layer, units, live, above = step.layer, known.units, known.live, known.above
        assert isinstance(layer, Maximum)
        weights, shift = torch.zeros_like(above[:, 0]), torch.full_like(above[:, 0, 0], torch.inf)
        rowed = _Rowed(above, known.by_rows, weights, shift, none_played(live))
        joint = (live.sum(1) > 2).nonzero()[:, 0]
        played = torch.arange(len(units) * self._plays(live, known.disputed), device=units.device)
        if len(joint) + len(played) == 0:
            return rowed
        lead = self._windows[step.output].lead[units.unbind(1)]
        entrants = lead > -torch.inf
        lead = torch.where(entrants, lead, 0)
        weights[joint] = best_weights(
            live[joint],
            torch.where(pairs_of(live[joint]), above[joint], 0),
            torch.where(live[joint], lead[joint], 0),
        )
        place, element = live[joint].nonzero(as_tuple=True)
        window, sums = joint[place], weights[joint[place]].to(torch.float64)
        sums[torch.arange(len(place), device=place.device), element] -= 1
        ends = known.lower[played], known.upper[played]
        game = Tournament(layer, entrants[played], known.by_rivals[played], *ends)
        while len(window) + len(game.windows):
            asked, wanted = torch.cat([window, played[game.windows]]), torch.cat([sums, game.coefficients])
            terms = wanted * lead[asked]
            at_centre = terms.sum(1) - 2.0**-48 * terms.abs().sum(1)
            rival = torch.arange(len(asked), device=asked.device) >= len(window)
            least = self.window_rows(step, layer, units[asked], wanted[:, 1:], at_centre, rival=rival)
            most = torch.full_like(lead[:, 0], -torch.inf)
            most = most.scatter_reduce(0, window, -least[: len(window)], "amax")
            shift[window] = cast_up(most, shift.dtype)[window]
            if len(game.windows):
                game.play(least[len(window) :])
            window, sums = window[:0], sums[:0]
        rowed.outcome.put(played, game.outcome)
        if self._tournaments and len(joint):
            self._note_dispute(step.output, units[joint])
        return rowed

    def _plays(self, live: Tensor, disputed: Tensor) -> bool:
        """Whether the planes of tournaments, around windows with live elements [U, E], are of use."""
        undecided = live.sum(1)
        return self._tournaments and bool(((undecided > 2) | (disputed & (undecided > 1))).any())

    def _note_dispute(self, value: str, units: Tensor) -> None:
        """Rows that read these windows are to be bounded with rival planes, too."""
        marked = self._marked.get(value)
        if marked is None:
            marked = torch.zeros_like(self._windows[value].done)
        ball, _, y, x = units.unbind(1)
        marked[ball, y, x] = True
        self._marked[value] = marked
        self._disputed = readers(self.graph, self._marked, self.relaxation.shape)

    def _disputed_windows(self, step: Step, units: Tensor) -> Tensor:
        """Which windows [U, 4] have a window with rival planes in the cone of their elements: bool [U]."""
        nothing = torch.zeros_like(units[:, 0], dtype=torch.bool)
        if not self._tournaments or step.inputs[0] not in self._disputed:
            return nothing
        ball, _, y, x = units.unbind(1)
        return self._disputed[step.output][ball, y, x]

    def _above(self, windows: _Windows, units: Tensor) -> Tensor:
        """Bounds of x_j - x_i by intervals: [U, E, E]; inf for padding, and for a zero that is none."""
        at = units.unbind(1)
        known, lower, upper = windows.lead[at] > -torch.inf, windows.lower[at], windows.upper[at]
        above = upper[:, :, None] - lower[:, None, :]
        above = above + 2 * unit(above.dtype) * (upper.abs()[:, :, None] + lower.abs()[:, None, :])
        same = torch.eye(known.shape[1], dtype=torch.bool, device=known.device)
        return torch.where(pairs_of(known), above, torch.inf).masked_fill(same, 0)

    def _rows_decide(
        self,
        step: Step,
        units: Tensor,
        live: Tensor,
        lead: Tensor,
        by_intervals: Tensor,
        disputed: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows for the differences of elements of undecided windows: what stays live, `above`, and by rivals.

        At the middle of the ball one element is the largest, and only its lead can be proved: those rows come
        first and are dropped once they are >= 0. All other pairs are bounded where several elements stay.
        """
        count = live.shape[1]
        live, entrants = live.clone(), lead > -torch.inf
        above = torch.full((len(units), count, count), torch.inf, device=units.device)
        above = above.to(self.relaxation.dtype)
        ranks = torch.arange(count, device=live.device)
        above[:, ranks, ranks] = 0
        leader = torch.where(live, lead, -torch.inf).argmax(1)
        leads = ranks[None] == leader[:, None]
        rivalling = live & ~leads
        unit, other = rivalling.nonzero(as_tuple=True)
        least = self.difference_rows(step, units[unit], leader[unit], other, enough=0.0)
        live[unit, other] &= ~(least >= 0)
        above[unit, other, leader[unit]] = cast_up(-least, above.dtype)
        # [unit, j, i] bounds x_j - x_i. Those against the leader are known; a tournament wants some of
        # elements that have been beaten, but not what the leader has over them.
        wanted = pairs_of(live)
        if count > 2 and self._plays(live, disputed):
            wanted |= pairs_of(entrants) & first_games(count).to(live.device) & (by_intervals > 0)
            wanted &= ~(leads[:, :, None] & ~live[:, None, :])
        wanted &= (live.sum(1) > 1)[:, None, None] & (ranks[:, None] != ranks)
        pairs = (wanted & ~(rivalling[:, :, None] & leads[:, None, :])).nonzero()
        rivals, known = (wanted & disputed[:, None, None]).nonzero(), len(pairs)
        unit, over, under = torch.cat([pairs, rivals]).unbind(1)
        rival = None if len(rivals) == 0 else torch.arange(len(unit), device=unit.device) >= known
        found = cast_up(-self.difference_rows(step, units[unit], under, over, rival=rival), above.dtype)
        above[unit[:known], over[:known], under[:known]] = found[:known]
        if rival is None:
            return live, above, above
        by_rivals = above.clone()
        by_rivals[unit[known:], over[known:], under[known:]] = found[known:]
        return live, above, by_rivals

    def _note_signs(self, windows: _Windows, at: tuple[Tensor, ...], live: Tensor, above: Tensor) -> None:
        """What differences with the zero say of the elements themselves."""
        zero = live[:, :1] & live
        # The zero stands at its lead, exactly; an element x is at most lead_0 + above[x, 0].
        lead, dtype = windows.lead[at][:, :1], windows.lower.dtype
        slack = 2.0**-52 * (lead.abs() + above[:, 0, :].abs().nan_to_num(posinf=0.0))
        low = -cast_up(above[:, 0, :] - lead + slack, dtype)
        slack = 2.0**-52 * (lead.abs() + above[:, :, 0].abs().nan_to_num(posinf=0.0))
        high = cast_up(above[:, :, 0] + lead + slack, dtype)
        lower, upper = windows.lower[at], windows.upper[at]
        windows.lower[at] = torch.where(zero, torch.fmax(lower, low), lower)
        windows.upper[at] = torch.where(zero, torch.fmin(upper, high), upper)

    def difference_rows(
        self,
        step: Step,
        units: Tensor,
        first: Tensor,
        second: Tensor,
        enough: float | None = None,
        rival: Tensor | None = None,
    ) -> Tensor:
        """Lower bounds of x_first - x_second, elements [R] of windows [R, 4], over the ball: float64 [R].

        `rival`: bool [R], rows that take the rivals of planes.
        """
        layer = step.layer
        assert isinstance(layer, Maximum)
        if len(units) == 0:
            return torch.zeros(0, dtype=torch.float64, device=units.device)
        signs = torch.zeros(len(units), layer.elements + 1, dtype=torch.float64, device=units.device)
        rows = torch.arange(len(units), device=units.device)
        signs[rows, first] += 1
        signs[rows, second] -= 1
        lead = self._windows[step.output].lead[units.unbind(1)]
        at_centre = lead[rows, first] - lead[rows, second]
        # Three roundings: both leads and their difference; centres themselves were rounded, too, but not
        # here.
        at_centre = at_centre - 2.0**-51 * (lead[rows, first].abs() + lead[rows, second].abs())
        return self.window_rows(step, layer, units, signs[:, 1:], at_centre, enough, rival)

    def window_rows(
        self,
        step: Step,
        layer: Maximum,
        units: Tensor,
        weights: Tensor,
        at_centre: Tensor,
        enough: float | None = None,
        rival: Tensor | None = None,
    ) -> Tensor:
        """Lower bounds of sum_e weights_e x_e over windows [R, 4], weights [R, elements]: float64 [R].

        The patches they begin with are made for as many at a time as the budget allows.
        """
        size, until = self._at_once(step, layer), self._until.get(step.output)
        found = [torch.zeros_like(at_centre[:0])]
        for start in range(0, len(units), size):
            some = slice(start, start + size)
            name, rows, error = self.window_patches(step, layer, units[some], weights[some])
            those = None if rival is None else rival[some]
            found.append(self._lower(name, rows, at_centre[some] - error, enough, until, those))
        return torch.cat(found)

    def window_patches(
        self, step: Step, layer: Maximum, units: Tensor, weights: Tensor
    ) -> tuple[str, Patches, Tensor]:
        """Rows sum_e weights_e x_e as patches on an earlier value: its name, the rows, their error [R]."""
        source, dtype = step.inputs[0], self.relaxation.dtype
        ball, channel, y, x = units.unbind(1)
        top, left = y * layer.stride[0] - layer.pads[0], x * layer.stride[1] - layer.pads[1]
        places, place = distinct_places(*map(on_host, (ball, top, left)))
        producer = self._steps.get(source)
        weights = weights.to(dtype)
        if producer is not None and isinstance(producer.layer, layers.Conv):
            rows = Patches(weights, places, place)
            return self._conv_patches(producer, producer.layer, layer, channel, rows)
        channels = self.relaxation.intervals[source].lower.shape[1]
        values = torch.zeros(len(units), channels, *layer.reach, dtype=dtype, device=units.device)
        at = torch.arange(len(units), device=units.device)
        for e, (down, right) in enumerate(layer.offsets):
            values[at, channel, down, right] = weights[:, e]
        return source, Patches(values, places, place), torch.zeros_like(weights[:, 0], dtype=torch.float64)

    def _conv_patches(
        self, producer: Step, conv: layers.Conv, layer: Maximum, channel: Tensor, rows: Patches
    ) -> tuple[str, Patches, Tensor]:
        """The same on the input of the convolution that makes the elements: its kernel, element by element.

        `rows.values`: [R, elements]. Rounding as in `BackwardPass._conv`, with one product an element.
        """
        (source,) = producer.inputs
        kernel = kernels_of(conv, channel)
        (sy, sx), (kh, kw) = conv.stride, kernel.shape[2:]
        weights = rows.values
        high, wide = (layer.reach[0] - 1) * sy + kh, (layer.reach[1] - 1) * sx + kw
        values = kernel.new_zeros(len(kernel), kernel.shape[1], high, wide)
        for e, (down, right) in enumerate(layer.offsets):
            here = values[:, :, down * sy : down * sy + kh, right * sx : right * sx + kw]
            here += weights[:, e, None, None, None] * kernel
        share = gamma(layer.elements + FOLDING, values.dtype)
        size = (
            share * self.relaxation.weighted(producer.output, conv, self.relaxation.sizes[source])
            + self.relaxation.centres[producer.output].error
        )
        error = weights.abs().sum(1) * size[rows.ball, channel] * 1.01
        patches = Patches(values, rows.places.read(conv.stride, conv.padding), rows.place, clean=False)
        return source, patches.on(self.relaxation.shape(source)), error.to(torch.float64)

    def _lines_of(self, value: str) -> AnyLines:
        """The lines of an activation from what is known of its input by now."""
        if value not in self._lines:
            step = self._steps[value]
            if isinstance(step.layer, Maximum):
                shape = self.relaxation.shape(step.inputs[0])
                self._lines[value] = self._maximum_lines(step.layer, self._windows[value], shape)
            elif isinstance(step.layer, layers.Mul):
                self._lines[value] = self._product_planes(step)
            else:
                (source,) = step.inputs
                centres = self.relaxation.centres
                known = self.relaxation.intervals[source]
                self._lines[value] = relax(step.layer, known, centres[source], centres[value])
        return self._lines[value]

    def _product_planes(self, step: Step) -> ProductPlanes:
        known, centres = self.relaxation.intervals, self.relaxation.centres
        inputs, before = [known[name] for name in step.inputs], [centres[name] for name in step.inputs]
        return product_planes(inputs, before, centres[step.output], known[step.output])

    def without_planes(self, value: str) -> AnyLines:
        """The lines of an activation, undecided windows of a Maximum given no weight at all."""
        lines = self._lines_of(value)
        layer = self._steps[value].layer
        if not isinstance(lines, MaximumLines) or not isinstance(layer, Maximum):
            return lines
        weights = self._windows[value].live.to(self.relaxation.dtype)
        weights[lines.planes.units.unbind(1)] = 0
        shape = self.relaxation.shape(self._steps[value].inputs[0])
        return MaximumLines(as_field(layer, weights[..., 1:], shape), lines.planes)

    def _maximum_lines(self, layer: Maximum, windows: _Windows, shape: tuple[int, int]) -> MaximumLines:
        # A window whose one live element is not its centre's leader (a tie) is given a plane for that, too.
        trailing = (windows.live & (windows.lead < 0)).any(-1)
        units = (trailing | (windows.live.sum(-1) > 1)).nonzero()
        at = units.unbind(1)
        live, above = windows.live[at], self._above(windows, units)
        place = windows.place[at]
        rowed = (place >= 0).nonzero()[:, 0]
        known, by_rows = windows.rowed.chosen(place[rowed]), above.clone()
        by_rows[rowed], above[rowed] = known.by_rows, torch.fmin(above[rowed], known.above)
        joint = None
        if bool(torch.isfinite(known.joint_shift).any()):
            joint = torch.zeros_like(above[:, 0]), torch.full_like(above[:, 0, 0], torch.inf)
            joint[0][rowed], joint[1][rowed] = known.joint_weights, known.joint_shift
        lead = windows.lead[at]
        sizes = torch.maximum(windows.lower[at].abs(), windows.upper[at].abs()).to(torch.float64) + lead.abs()
        size = torch.where(live, sizes, 0).amax(1)
        drawn = planes(units, live, above, by_rows, lead, size, joint)
        others = None
        if bool(torch.isfinite(known.outcome.height).any()):
            outcome = none_played(live)
            outcome.put(rowed, known.outcome)
            others = rivals(drawn, outcome, lead, sizes)
        weights = windows.live.to(above.dtype)
        weights[at] = drawn.up
        return MaximumLines(as_field(layer, weights[..., 1:], shape), drawn, others)


def _range_of(windows: _Windows) -> Interval:
    """The maximum over the ball: at least every live element, at most the largest."""
    ends = (torch.where(windows.live, end, -torch.inf) for end in (windows.lower, windows.upper))
    return Interval(*(reduce(torch.maximum, end.unbind(-1)) for end in ends))


def _intersected(a: Interval, b: Interval) -> Interval:
    """NaN, of which nothing is known, gives way."""
    return Interval(torch.fmax(a.lower, b.lower), torch.fmin(a.upper, b.upper))


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


def _exact_values(graph: TorchGraph) -> set[str]:
    """Values whose intervals are exact up to rounding: one convolution of the image, scaled by elements."""
    pointwise, exact = {graph.input_name}, {graph.input_name}
    for step in graph.steps:
        (source, *_) = step.inputs
        if isinstance(step.layer, layers.Affine) and source in exact:
            exact.add(step.output)
            if source in pointwise:
                pointwise.add(step.output)
        elif isinstance(step.layer, layers.Conv) and source in pointwise:
            exact.add(step.output)
    return exact
