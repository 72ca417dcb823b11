"""One backward pass: rows of linear coefficients on a value, carried to the image.

Each activation is replaced by the line that is sound for the sign of its coefficient, until only pixels are
left (CROWN, Zhang et al. 2018):

    sum_i a_i f(z_i) >= sum_{a_i >= 0} a_i lower_i(z_i) + sum_{a_i < 0} a_i upper_i(z_i)

All of it on deviations from the middle of the ball (intervals.py): a convolution adds no bias, a decided
window nothing at all, and what is left of the row in the end is a . d >= a . middle - |a| . half-width, d in
the box; in other norms than l_inf also d in the ball (norms.py).

Rounding. At every step the bound is  a . d + total - error  for the computed a and total, whatever they
are; a step that computes new coefficients adds to `error` what their rounding can change on deviations
|d| <= size (rigour.py). The coefficients themselves are not bounded again: errors add up and do not multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from corgi.budget import check
from corgi.engines.patch.curves import Lines
from corgi.engines.patch.halfspace import HalfSpace, box_fields, least, least_within
from corgi.engines.patch.intervals import Centre, weighted
from corgi.engines.patch.maximum import Planes, Rivals
from corgi.engines.patch.norms import Reach, least_in_cap, least_in_reach
from corgi.engines.patch.patches import Indices, Patches, Places, on_device, on_host
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.product import ProductPlanes
from corgi.engines.patch.resample import amplification, through_resample
from corgi.engines.rigour import FOLDING, SPARE, fan_out, gamma, roundings, smallest, unit
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Interval

ACTIVATIONS = (Maximum, layers.Sigmoid, layers.Tanh, layers.Curve, layers.Power, layers.Mul)
"""Layers that are not linear: rows take lines or planes instead."""


@dataclass(frozen=True)
class MaximumLines:
    """How a Maximum is replaced.

    Attributes:
        weights: d_y = sum_e weights_e d_e where the window is decided, `planes.up` where it is not. Element
            by element, [B, elements * C, H', W']; where windows tile their input, at the elements:
            [B, C, H, W].
        planes: of the undecided windows.
        rivals: other planes around them.
    """

    weights: Tensor
    planes: Planes
    rivals: Rivals | None = None

    @cached_property
    def units(self) -> Indices:
        """`planes.units` on the host, [4, U]."""
        return np.ascontiguousarray(on_host(self.planes.units).T)

    @cached_property
    def corrections(self) -> tuple[Tensor, Tensor]:
        """What a coefficient of 1 adds to `weights` and to the constant: [V, elements], float64 [V].

        Two entries a window, for negative and for positive coefficients; then those of the rivals.
        """
        base, changes, shifts = self.planes.up[:, 1:], [], []
        for lines in (self.planes, self.rivals):
            if lines is not None:
                changes.append(torch.stack([lines.up[:, 1:] - base, lines.low[:, 1:] - base], 1))
                shifts.append(torch.stack([lines.up_shift, lines.low_shift], 1))
        change, shift = torch.cat(changes).flatten(0, 1), torch.cat(shifts).flatten()
        return change, shift.to(torch.float64)


AnyLines = MaximumLines | Lines | ProductPlanes


def _no_lines(value: str) -> AnyLines:
    raise AssertionError(f"{value}: no lines yet")


@dataclass
class Relaxation:
    """What a backward pass needs to know of the network over the balls.

    Attributes:
        graph: prepared steps.
        centres: of every value; intervals: its deviations, each [B, C, H, W].
        sizes: largest deviations by channel, [B, C].
        lines: the lines of an activation, by the name of its output.
        half_space: if only a part of the ball is meant, which.
        reaches: norms of deviations, where the ball is not a box and something is known of them.
        norms: Euclidean norms of deviations, float64 [B], by value; None where intervals are used alone.
    """

    graph: TorchGraph
    centres: dict[str, Centre]
    intervals: dict[str, Interval]
    sizes: dict[str, Tensor]
    lines: Callable[[str], AnyLines] = _no_lines
    half_space: HalfSpace | None = None
    reaches: dict[str, Reach] = field(default_factory=dict)
    norms: dict[str, Tensor] | None = None
    _fields: dict[str, tuple[Interval, Tensor]] = field(default_factory=dict, init=False)
    _weighted: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False)

    def fields(self, value: str) -> Tensor:
        """`box_fields` of a value's interval, made once for as long as that interval stands."""
        known = self.intervals[value]
        if value not in self._fields or self._fields[value][0] is not known:
            self._fields[value] = known, box_fields(known.lower, known.upper)
        return self._fields[value][1]

    def weighted(self, value: str, conv: layers.Conv, size: Tensor) -> Tensor:
        """`weighted` of the convolution that makes a value, made once for as long as the size stands."""
        if value not in self._weighted or self._weighted[value][0] is not size:
            self._weighted[value] = size, weighted(conv, size)
        return self._weighted[value][1]

    @property
    def dtype(self) -> torch.dtype:
        """The precision the coefficients have."""
        return self.intervals[self.graph.input_name].lower.dtype

    def channels(self, value: str) -> int:
        """How many channels a value has."""
        return self.intervals[value].lower.shape[1]

    def shape(self, value: str) -> tuple[int, int]:
        """Height and width of a value."""
        height, width = self.centres[value].value.shape[2:]
        return height, width


@dataclass(frozen=True)
class Met:
    """What patches meet at a Maximum.

    Attributes:
        weights: the window of `MaximumLines.weights`.
        row, window: int64 [pairs], the undecided windows under every patch: row, and place in `planes`.
        at: int64 [pairs], where the coefficient of each is in the flattened patches.
        elements: int64 [pairs * elements], where those of its elements are in the flattened spread.
    """

    weights: Tensor
    row: Tensor
    window: Tensor
    at: Tensor
    elements: Tensor


Choices = Mapping[str, Tensor]
"""Lower weights of rows' own instead of `planes.low`, by Maximum: [pairs, E], in the order of `Met`."""


@dataclass
class BackwardPass:
    """State of one pass over R rows.

    Attributes:
        total, error: float64 [R]; at the start the rows' value in the middle of the ball.
        choices: lower planes of these rows' own.
        rival: which rows take the rivals of planes, bool [R]; None for none. Not with `choices`.
        memo: what depends on the places of the rows only; passes with the same rows may share it.
        rigorous: whether rounding is set aside; without it a pass only guides.
        ended: the rows on the image, and constant: their bound without it, rounded down; after `run`.
    """

    relaxation: Relaxation
    total: Tensor
    error: Tensor
    choices: Choices = field(default_factory=dict)
    memo: dict[str, Met] = field(default_factory=dict)
    rigorous: bool = True
    rival: Tensor | None = None
    ended: dict[str, Patches] = field(default_factory=dict)
    constant: Tensor = field(init=False)
    _best: Tensor = field(init=False)
    _alive: Tensor = field(init=False)

    def run(
        self, start: Mapping[str, Patches], enough: float | None = None, until: str | None = None
    ) -> Tensor:
        """Lower bounds of the rows, float64 [R].

        With `enough`, a row is dropped as soon as intervals at some layer already show it to be that large;
        not behind its first activation, where they know hardly more than those that called for the row.
        With `until`, rows end at that value, all of them pass through it, and its deviations are only known
        by their interval: looser, sound, and for less work.
        """
        pending = {name: [patches] for name, patches in start.items()}
        # What products of constants lose by underflow, 2^20 at most in each of fewer than 2^20 sums.
        self.error = self.error + 2.0**40 * smallest(self.relaxation.dtype)
        for name, patches in start.items():
            # The rows themselves were rounded to working precision.
            self._allow(patches, 2 * unit(self.relaxation.dtype) * self.relaxation.sizes[name])
        self._best = torch.full_like(self.total, -torch.inf)
        self._alive = torch.arange(len(self.total), device=self.total.device)
        activations = 0
        for step in reversed(self.relaxation.graph.steps):
            if until is not None and set(pending) == {until}:
                break
            if step.output not in pending:
                continue
            check()
            patches = self._sum(step.output, pending.pop(step.output))
            for name, part in zip(step.inputs, self._backward(step, patches), strict=True):
                pending.setdefault(name, []).append(part)
            activations += isinstance(step.layer, ACTIVATIONS)
            known_better = isinstance(step.layer, ACTIVATIONS) and activations > 1 and len(pending) == 1
            if enough is not None and known_better:
                pending = self._dropped(pending, enough)
        for name, waiting in pending.items():
            self.ended[name] = self._sum(name, waiting)
            self.constant = self._closed(self.total)
            self._add(self._least(name, self.ended[name]))
        final = self._closed(self.total)
        if enough is None:
            return final
        self._best[self._alive] = torch.fmax(self._best[self._alive], final)
        return self._best

    def _dropped(self, pending: dict[str, list[Patches]], enough: float) -> dict[str, list[Patches]]:
        """Without the rows that intervals show to be large enough here."""
        ((name, waiting),) = pending.items()
        patches = self._sum(name, waiting)
        here = self._closed(self.total + self._least(name, patches))
        self._best[self._alive] = torch.fmax(self._best[self._alive], here)
        # A NaN stays: it is not known to be large.
        left = (~(here >= enough)).nonzero().reshape(-1)
        self._alive, self.total, self.error = self._alive[left], self.total[left], self.error[left]
        self.rival = None if self.rival is None else self.rival[left]
        return {name: [patches.chosen(left)]} if len(left) else {}

    def _closed(self, total: Tensor) -> Tensor:
        """A bound from its two parts, rounded down."""
        return total - SPARE * self.error - roundings(8) * total.abs()

    def _add(self, constant: Tensor) -> None:
        self.total = self.total + constant
        self._rounded(self.total.detach().abs() + constant.detach().abs(), 1)

    def _sum_up(self, constants: Tensor, row: Tensor, terms: int) -> None:
        """Add constants to the rows they belong to, at most `terms` to each."""
        nothing = torch.zeros_like(self.total)
        self.total = self.total + nothing.index_add(0, row, constants)
        amounts = nothing.index_add(0, row, constants.detach().abs())
        self._rounded(self.total.detach().abs(), 1)
        self._rounded(amounts, terms + 1)

    def _rounded(self, amounts: Tensor, times: int) -> None:
        """Set aside what so many sums in float64 lose, `amounts` their absolute terms."""
        self.error = torch.add(self.error, amounts, alpha=roundings(2 * times))

    def _sum(self, value: str, parts: list[Patches]) -> Patches:
        """The sum of what reaches a value on several ways."""
        total = parts[0]
        for part in parts[1:]:
            total = total.plus(part, self.relaxation.shape(value))
            self._allow(total, 2 * unit(total.values.dtype) * self.relaxation.sizes[value])
        return total

    def _allow(self, patches: Patches, size: Tensor) -> None:
        """Add sum |a| size to the error, `size` by ball and channel [B, C]."""
        if not self.rigorous:
            return
        values = patches.values.detach()
        flat = size.to(values.dtype).repeat_interleave(values[0, 0].numel() if len(values) else 1, 1)
        amounts = values.abs().reshape(len(values), flat.shape[1]) @ flat.T
        amounts = amounts[:, 0] if len(size) == 1 else amounts.gather(1, patches.ball[:, None])[:, 0]
        # The rounding of this sum itself, of so many terms.
        share = SPARE + flat.shape[1] * unit(values.dtype)
        self.error = torch.add(self.error, amounts, alpha=share)

    def _least(self, value: str, patches: Patches) -> Tensor:
        """The least value of rows on deviations in their interval, and in their ball: float64 [R]."""
        fields = self.relaxation.fields(value)
        half_space, reach = self.relaxation.half_space, self.relaxation.reaches.get(value)
        if reach is not None:
            found = least_in_reach(patches, fields, reach)
            if value == self.relaxation.graph.input_name and half_space is not None:
                inside = patches.inside(self.relaxation.shape(value))
                found = torch.fmax(found, least_in_cap(inside, reach, half_space))
            return found
        if value == self.relaxation.graph.input_name and half_space is not None:
            return least_within(patches, fields, half_space)
        by_interval = least(patches.values, *patches.window(fields).chunk(2, 1))
        if self.relaxation.norms is None:
            return by_interval
        # a . d >= -|a| |d|, Cauchy-Schwarz.
        length = torch.linalg.vector_norm(patches.values, dim=(1, 2, 3), dtype=torch.float64)
        return torch.fmax(by_interval, -SPARE * length * self.relaxation.norms[value][patches.ball])

    def _backward(self, step: Step, patches: Patches) -> list[Patches]:
        """Rows on a step's output as rows on its inputs."""
        match step.layer:
            case layers.Conv():
                return [self._conv(step, step.layer, patches)]
            case layers.Affine():
                return [self._affine(step, step.layer, patches)]
            case layers.Resample():
                return [self._resample(step, step.layer, patches)]
            case layers.Add() | layers.Sub():
                self._allow(patches, self.relaxation.centres[step.output].error)
                second = patches.negated() if isinstance(step.layer, layers.Sub) else patches
                return [patches, second]
            case layers.Concat():
                return patches.parted([self.relaxation.channels(name) for name in step.inputs])
            case Maximum():
                return [self._maximum(step, step.layer, patches)]
            case layers.Sigmoid() | layers.Tanh() | layers.Curve() | layers.Power():
                return [self._curve(step, patches)]
            case layers.Mul():
                return self._product(step, patches)
        raise TypeError(f"no rule for {type(step.layer).__name__}")

    def _conv(self, step: Step, conv: layers.Conv, patches: Patches) -> Patches:
        """The product a . W d is (W^T a) . d.

        A coefficient of W^T a is a sum of at most `fan_out` products, so its rounding changes the row by at
        most gamma sum_o |a_o| (|W| |d|)_o. Each product loses at most the smallest normal number by
        underflow.
        """
        inside = patches.inside(self.relaxation.shape(step.output))
        dtype, size = conv.weight.dtype, self.relaxation.sizes[step.inputs[0]]
        amounts = self.relaxation.weighted(step.output, conv, size)
        terms = fan_out(conv, inside.size)
        share = gamma(terms + FOLDING, dtype)
        self._allow(inside, share * amounts + self.relaxation.centres[step.output].error)
        reached = inside.size[0] * inside.size[1] * conv.weight.shape[2] * conv.weight.shape[3]
        lost = terms * smallest(dtype) * reached * size.sum(1).to(torch.float64)
        self.error = self.error + (lost if len(lost) == 1 else lost[inside.ball])
        return inside.through_conv(conv, self.relaxation.shape(step.inputs[0]))

    def _resample(self, step: Step, layer: layers.Resample, patches: Patches) -> Patches:
        """The product a . A d B^T is (A^T a B) . d; its rounding as in `_conv`, by sums along both axes."""
        inside = patches.inside(self.relaxation.shape(step.output))
        dtype, size = layer.rows.dtype, self.relaxation.sizes[step.inputs[0]]
        terms, most = sum(inside.size) + 2 * FOLDING + 2, amplification(layer)
        self._allow(inside, gamma(terms, dtype) * most * size + self.relaxation.centres[step.output].error)
        found = through_resample(inside, layer)
        reached = found.size[0] * found.size[1]
        lost = 2 * terms * most * smallest(dtype) * reached * size.sum(1).to(torch.float64)
        self.error = self.error + (lost if len(lost) == 1 else lost[inside.ball])
        return found

    def _affine(self, step: Step, affine: layers.Affine, patches: Patches) -> Patches:
        """The product a . s d is (a s) . d."""
        shape, size = self.relaxation.shape(step.output), self.relaxation.sizes[step.inputs[0]]
        patches = patches.inside(shape)
        scale = affine.scale.broadcast_to(patches.values.shape[1], *shape)
        share = (FOLDING + 2) * unit(scale.dtype) * scale.abs().amax((1, 2)) + smallest(scale.dtype)
        self._allow(patches, share * size + self.relaxation.centres[step.output].error)
        window = patches.window(scale.expand(len(size), -1, -1, -1))
        return patches.times(window)

    def _curve(self, step: Step, patches: Patches) -> Patches:
        lines = self.relaxation.lines(step.output)
        assert isinstance(lines, Lines)
        low_slope, low_shift, up_slope, up_shift = self._under(patches, lines)
        positive, negative = patches.values.clamp(min=0), patches.values.clamp(max=0)
        self._add_shifts(positive * low_shift + negative * up_shift)
        self._lose(step, patches)
        return Patches(positive * low_slope + negative * up_slope, patches.places, patches.place)

    def _product(self, step: Step, patches: Patches) -> list[Patches]:
        """Both planes have the same slopes."""
        planes = self.relaxation.lines(step.output)
        assert isinstance(planes, ProductPlanes)
        first, second, low_shift, up_shift = self._under(patches, planes)
        positive, negative = patches.values.clamp(min=0), patches.values.clamp(max=0)
        self._add_shifts(positive * low_shift + negative * up_shift)
        self._lose(step, patches)
        return [Patches(patches.values * part, patches.places, patches.place) for part in (first, second)]

    def _lose(self, step: Step, patches: Patches) -> None:
        """Set aside what products of coefficients and slopes lose by underflow."""
        reached = patches.size[0] * patches.size[1] * smallest(patches.values.dtype)
        for name in step.inputs:
            lost = reached * self.relaxation.sizes[name].sum(1).to(torch.float64)
            self.error = self.error + (lost if len(lost) == 1 else lost[patches.ball])

    def _under(self, patches: Patches, lines: Lines | ProductPlanes) -> tuple[Tensor, ...]:
        """The four fields of lines or planes under every row, [R, C, h, w] each."""
        window = patches.window(lines.stacked())
        if len(window) != len(patches.values):
            window = window.repeat(patches.repeats, 1, 1, 1)
        return window.chunk(4, 1)

    def _add_shifts(self, shifts: Tensor) -> None:
        """Add what shifts [R, C, h, w] come to in every row."""
        constants = shifts.to(torch.float64)
        terms = constants[0].numel() if len(constants) else 1
        rows = torch.arange(len(constants), device=constants.device).repeat_interleave(terms)
        self._sum_up(constants.flatten(), rows, terms)

    def _maximum(self, step: Step, layer: Maximum, patches: Patches) -> Patches:
        """Decided windows pass the coefficient on to their maximum, undecided ones through their planes.

        All rows first take the upper planes; where a coefficient is positive the difference to the lower
        plane is added, which concerns few entries.
        """
        lines = self.relaxation.lines(step.output)
        assert isinstance(lines, MaximumLines)
        if step.output not in self.memo:
            window = weights_under(layer, patches, lines.weights)
            self.memo[step.output] = Met(window, *met(layer, patches, lines.units))
        spread = over_elements(layer, patches, self.memo[step.output].weights)
        spread = self._correct(step, layer, patches, spread, lines)
        if layer.overlaps:
            amounts = self.relaxation.sizes[step.inputs[0]]
            self._allow(patches, gamma(2 * layer.elements, spread.dtype) * amounts)
        # What reaches over the edge is 0: it comes from a window outside, or stands in the padding, where no
        # element is ever live.
        places = element_places(layer, patches.places)
        return Patches(spread, places, patches.place).on(self.relaxation.shape(step.inputs[0]))

    def _correct(
        self, step: Step, layer: Maximum, patches: Patches, spread: Tensor, lines: MaximumLines
    ) -> Tensor:
        known, here = lines.planes, self.memo[step.output]
        if len(here.row) == 0:
            return spread
        amount = patches.values.reshape(-1).index_select(0, here.at)
        choice = self.choices.get(step.output)
        if choice is None:
            changes, shifts = lines.corrections
            line = 2 * here.window + (amount > 0)
            if self.rival is not None and lines.rivals is not None:
                line = line + 2 * len(known) * self.rival[here.row]
            change, shift = amount[:, None] * changes.index_select(0, line), shifts.index_select(0, line)
        else:
            above = amount > 0
            change = torch.where(above, amount, 0)[:, None] * (choice - known.up[here.window])[:, 1:]
            low_shift = known.shift_below(here.window, choice)
            shift = torch.where(above, low_shift, known.up_shift[here.window].to(torch.float64))
        # A coefficient that is 0 reads nothing, whatever is known of the window.
        constants = torch.where(amount == 0, 0, amount.to(torch.float64) * shift)
        self._sum_up(constants, here.row, patches.values[0].numel())
        spread = spread.contiguous()
        spread.view(-1).index_add_(0, here.elements, change.flatten())
        return spread


@dataclass
class TwoSidedPass(BackwardPass):
    """A pass whose rows are bounded from both sides: undecided windows keep one slope, and gain a width.

    Of an undecided window, sum_e w_e x_e <= y <= sum_e w_e x_e + shift for the convex weights of its upper
    plane (maximum.py), so with those below, too, coefficients serve both bounds. All activations on the way
    must be Maximum.

    Attributes:
        gap: what the upper bound has over the lower one but for the image: float64 [R].
    """

    gap: Tensor = field(init=False)

    def both(self, start: Mapping[str, Patches], until: str | None = None) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of the rows, float64 [R] each."""
        self.gap = torch.zeros_like(self.total)
        lower = self.run(start, until=until)
        upper, size = self.total + self.gap, self.total.abs() + self.gap
        for name, patches in self.ended.items():
            least, most = self._least(name, patches), -self._least(name, patches.negated())
            upper, size = upper - least + most, size + least.abs() + most.abs()
        return lower, upper + SPARE * self.error + roundings(256) * size

    def _correct(
        self, step: Step, layer: Maximum, patches: Patches, spread: Tensor, lines: MaximumLines
    ) -> Tensor:
        known, here = lines.planes, self.memo[step.output]
        if len(here.row) == 0:
            return spread
        amount = patches.values.reshape(-1).index_select(0, here.at).to(torch.float64)
        low = known.shift_below(here.window, known.up[here.window])
        high = known.up_shift[here.window].to(torch.float64)
        constants = torch.where(amount == 0, 0, amount * torch.where(amount > 0, low, high))
        self._sum_up(constants, here.row, patches.values[0].numel())
        widths = torch.where(amount == 0, 0, amount.abs() * (high - low))
        self.gap = self.gap.index_add(0, here.row, SPARE * widths)
        return spread


def met(layer: Maximum, patches: Patches, windows: Indices) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which of some windows [4, U] are under every patch: `row`, `window`, `at` and `elements` of `Met`."""
    places, (height, width) = patches.places, patches.size
    (first_y, last_y), (first_x, last_x) = places.rows, places.columns
    ball, channel, y, x = windows
    near = (y >= first_y) & (y < last_y + height) & (x >= first_x) & (x < last_x + width)
    units = (near & (ball <= places.balls[1])).nonzero()[0]
    pairs = _by_place if len(places) < height * width else _by_point
    # In the order of the windows, some at a time: their tables may be far larger than what is found.
    size = max(1, _TABLE // min(len(places), height * width))
    parts = [
        pairs(patches, ball[some], y[some], x[some])
        for some in (units[start : start + size] for start in range(0, len(units), size))
    ]
    starts = range(0, len(units), size)
    nothing = np.zeros(0, np.int64)
    window = np.concatenate([nothing, *(part[0] + start for part, start in zip(parts, starts, strict=True))])
    place, within = (np.concatenate([nothing, *(part[i] for part in parts)]) for i in (1, 2))
    window = units[window]
    if patches.repeats:
        row = (np.arange(patches.repeats)[:, None] * len(places) + place).reshape(-1)
        window, within = (found[None].repeat(patches.repeats, 0).reshape(-1) for found in (window, within))
    else:
        # Every row of a place meets what the place meets.
        order = patches.place.argsort(kind="stable")
        counts = np.bincount(patches.place, minlength=len(places))
        each = counts[place]
        pair = np.arange(len(place)).repeat(each)
        turn = np.arange(len(pair)) - (each.cumsum() - each)[pair]
        row = order[(counts.cumsum() - counts)[place[pair]] + turn]
        window, within = window[pair], within[pair]
    of_channel = row * patches.values.shape[1] + channel[window]
    top, left = within // width * layer.stride[0], within % width * layer.stride[1]
    reach_y = (height - 1) * layer.stride[0] + layer.reach[0]
    reach_x = (width - 1) * layer.stride[1] + layer.reach[1]
    corner = (of_channel * reach_y + top) * reach_x + left
    elements = corner[:, None] + np.array([down * reach_x + right for down, right in layer.offsets])
    found = row, window, of_channel * (height * width) + within, elements.reshape(-1)
    return tuple(on_device(indices, patches.values.device) for indices in found)  # type: ignore[return-value]


_TABLE = 2**22
"""Entries of a table of windows and places, at a time."""


def _by_place(patches: Patches, ball: Indices, y: Indices, x: Indices) -> tuple[Indices, Indices, Indices]:
    """Windows, the places of patches they are under, and where in those: every window against every place."""
    places, (height, width) = patches.places, patches.size
    down, right = y[:, None] - places.top, x[:, None] - places.left
    under = (ball[:, None] == places.ball) & (down >= 0) & (down < height) & (right >= 0) & (right < width)
    window, place = under.nonzero()
    return window, place, down[window, place] * width + right[window, place]


def _by_point(patches: Patches, ball: Indices, y: Indices, x: Indices) -> tuple[Indices, Indices, Indices]:
    """The same: every window against every point of a patch that could be over it."""
    places, (height, width) = patches.places, patches.size
    (first_y, last_y), (first_x, last_x) = places.rows, places.columns
    # Which place, if any, stands at a point; with a margin, so that all points up to a patch away exist.
    high, wide = last_y - first_y + 2 * height - 1, last_x - first_x + 2 * width - 1

    def point(ball: Indices, y: Indices, x: Indices) -> Indices:
        return (ball * high + y + (height - 1 - first_y)) * wide + x + (width - 1 - first_x)

    standing = np.full((places.balls[1] + 1) * high * wide, -1)
    standing[point(places.ball, places.top, places.left)] = np.arange(len(places))
    back = (np.arange(height)[:, None] * wide + np.arange(width)).reshape(-1)
    place = standing[point(ball, y, x)[:, None] - back]
    window, within = (place >= 0).nonzero()
    return window, place[window, within], within


def element_places(layer: Maximum, places: Places) -> Places:
    """Where the elements stand that windows at some places read."""
    return places.read(layer.stride, (layer.pads[0], layer.pads[1]))


def weights_under(layer: Maximum, patches: Patches, weights: Tensor) -> Tensor:
    """The window of `MaximumLines.weights` that patches on the output of a Maximum meet."""
    if not layer.tiles:
        return patches.window(weights)
    height, width = patches.size
    places = element_places(layer, patches.places)
    moved = Patches(patches.values, places, patches.place)
    return moved.window(weights, (height * layer.kernel[0], width * layer.kernel[1]))


def over_elements(layer: Maximum, patches: Patches, window: Tensor) -> Tensor:
    """Coefficients on windows, given to their elements by the weights of `weights_under`: [R, C, h, w]."""
    if not layer.tiles:
        return _spread(layer, [patches.times(share).values for share in window.chunk(layer.elements, 1)])
    if layer.elements == 1:
        return patches.times(window).values
    (rows, channels, height, width), (kh, kw) = patches.values.shape, layer.kernel
    spread = patches.values.new_empty(rows, channels, height * kh, width * kw)
    for down, right in layer.offsets:
        spread[:, :, down::kh, right::kw] = patches.times(window[:, :, down::kh, right::kw]).values
    return spread


def _spread(layer: Maximum, parts: list[Tensor]) -> Tensor:
    """Coefficients of every element, put where it stands in its window."""
    rows, channels, height, width = parts[0].shape
    (sy, sx), (reach_y, reach_x) = layer.stride, layer.reach
    high, wide = (height - 1) * sy + reach_y, (width - 1) * sx + reach_x
    spread = parts[0].new_zeros(rows, channels, high, wide)
    for (down, right), part in zip(layer.offsets, parts, strict=True):
        last_y, last_x = down + (height - 1) * sy + 1, right + (width - 1) * sx + 1
        spread[:, :, down:last_y:sy, right:last_x:sx] += part
    return spread
