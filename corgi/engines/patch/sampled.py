"""What bounds of a ball take, found on a few rows: the engine's own steps, most rows of them left out.

Of every batch of rows that `BallBounds` asks for, a few drawn at random are bounded and timed. The others are
taken to narrow what intervals say by the same shares, and to take as long. So later layers have about as
many undecided windows as they would have, and what bounds take is known in seconds where they take hours.
Nothing that comes of it is a bound.

Memory is counted: what is kept of every value and window, by its shape, and what one pass holds.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.engines.interface import Cost
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.builder import RowBuilder
from corgi.engines.patch.cones import cone_sizes, horizons
from corgi.engines.patch.engine import PatchBounder
from corgi.engines.patch.gains import Gains, euclidean
from corgi.engines.patch.inputs import CurveInputs
from corgi.engines.patch.patches import Patches, Places
from corgi.engines.patch.plan import Plan
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.region import middle_of
from corgi.engines.patch.state import State
from corgi.engines.rigour import plainly
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Ball

_ROWS = 64
"""Rows of a batch that are bounded at most: fewer take as long (`transposed_conv`)."""

_EFFORT, _LONGEST = 0.8, 3600.0
"""Seconds that rows may take here, and what bounds may take before nothing more is found out."""

_HELD = 200 * 2**20
"""Bytes that may be kept here of one ball, and half of those of its centres."""

_MET = 16
"""Numbers of 8 bytes that a pass makes, for a while, of every undecided window that a row meets (`met`)."""

_MORE = 1.4
"""What a pass holds beyond what is counted."""


class _Enough(Exception):
    """Nothing more is to be found out."""


@dataclass
class _Ledger:
    """What the rows of a ball take.

    Attributes:
        rows: asked for; multiply_adds: of the convolutions on their way.
        left_out: seconds of the rows that were not bounded; spent: of those that were; effort: that may be.
        held: most bytes of a pass.
        rate: seconds a multiply-add, of the last batch of many rows.
        share: of the way to where intervals end, of the last rows bounded.
    """

    rows: int = 0
    multiply_adds: float = 0.0
    left_out: float = 0.0
    spent: float = 0.0
    effort: float = _EFFORT
    held: float = 0.0
    rate: float = 0.0
    share: Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.float64))
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def tired(self) -> bool:
        """Whether no more rows are to be bounded: they are taken to be like the last ones."""
        return self.spent >= self.effort

    def note(self, rows: int, work: float, left_out: float) -> None:
        """Add a batch of rows of so many multiply-adds each.

        Raises:
            _Enough: all batches together take too long.
        """
        self.rows += rows
        self.multiply_adds += rows * work
        self.left_out += left_out
        if self.left_out > _LONGEST:
            raise _Enough

    def drawn(self, count: int, most: int) -> Tensor:
        """At most so many places below `count`, all different."""
        return torch.from_numpy(self.random.choice(count, min(count, most), replace=False))

    def learn(self, share: Tensor) -> None:
        """Take over the shares of rows that were bounded, 1 where nothing was gained or is known."""
        self.share = torch.where(share < 1, share.clamp(min=0.0), 1.0)

    def shares(self, count: int) -> Tensor:
        """Shares of so many rows that were left out: float64 [count]."""
        return self.share[torch.from_numpy(self.random.integers(len(self.share), size=count))]


class _SampledState(State):
    """Intervals, some of them forgotten. `ledger` is set before anything is required."""

    ledger: _Ledger
    forgets = False
    _kept = 0

    def complete(self) -> None:
        """The same, but for what was forgotten."""
        if not self.forgets:
            super().complete()

    def forward(self, step: Step) -> None:
        """Intervals of a step. Once too much is kept no more rows are bounded, nor what they need kept."""
        if step.output not in self.relaxation.intervals:
            self._kept += _kept_of(
                step, self.relaxation.centres[step.output].value.numel(), self.relaxation.dtype
            )
            if self._kept > _HELD:
                self._forget_before(step)
        super().forward(step)

    def _forget_before(self, step: Step) -> None:
        """All that only backward passes would read."""
        self.forgets, self.ledger.effort = True, 0.0
        known, centres = self.relaxation.intervals, self.relaxation.centres
        if self.relaxation.norms is None:
            self.relaxation.norms = {name: euclidean(interval) for name, interval in known.items()}
        for before, done in zip(self.graph.steps, self.graph.read_last, strict=True):
            if before is step:
                break
            self.windows.pop(before.output, None)
            self.leads.pop(before.output, None)
            self._lines.pop(before.output, None)
            for name in done - {self.graph.input_name}:
                known.pop(name, None)
                value = centres[name].value
                centres[name] = replace(centres[name], value=value.new_empty(()).expand(value.shape))

    def join_norms(self) -> None:
        """Norms of what is known; of all else when it is met."""
        self.relaxation.norms = {self.graph.input_name: self.image_norm()}
        for step in self.graph.steps:
            if step.output in self.relaxation.intervals:
                self.forward(step)


class _SampledRows(RowBuilder):
    """Rows, most of them left out."""

    state: _SampledState
    _in_a_pass = 1

    def __init__(self, state: State, plan: Plan, budget: int, *, largest_error: float = 0.0) -> None:
        super().__init__(state, plan, budget, largest_error=largest_error)
        self._undecided: dict[str, float] = {}

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
        """What rows on windows would find, by a few of them."""
        real = super().window_rows

        def bounded(some: Tensor) -> Tensor:
            those = None if rival is None else rival[some]
            return real(step, layer, units[some], weights[some], at_centre[some], enough, those)

        self.look_at(step.inputs[0], layer.reach, self.plan.until.get(step.output), len(units))
        way = self._by_intervals(step, layer, units, weights)
        some, found = self.sampled(len(units), bounded, self._work_until(step, layer))
        if len(some):
            self.state.ledger.learn((found - at_centre[some]) / way[some])
        guessed: Tensor = at_centre + self.state.ledger.shares(len(units)) * way
        guessed[some] = found
        return guessed

    def two_sided_rows(
        self, step: Step, layer: Maximum, units: Tensor, element: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What two-sided rows would find, by a few of them."""
        real, ends = super().two_sided_rows, list(torch.zeros(3, 0, dtype=torch.float64))

        def bounded(some: Tensor) -> Tensor:
            ends[:] = real(step, layer, units[some], element[some])
            low: Tensor = ends[0]
            return low

        self.look_at(step.inputs[0], layer.reach, self.plan.until.get(step.output), len(units))
        one = F.one_hot(element, layer.elements).to(torch.float64)
        low, high = self._by_intervals(step, layer, units, one), -self._by_intervals(step, layer, units, -one)
        some, _ = self.sampled(len(units), bounded, self._work_until(step, layer))
        if len(some):
            self.state.ledger.learn(torch.cat([ends[0] / low[some], ends[1] / high[some]]))
        share = self.state.ledger.shares(len(units))
        low, high, error = share * low, share * high, torch.zeros_like(low)
        low[some], high[some], error[some] = ends
        return low, high, error

    def sampled(self, count: int, bounded: Callable[[Tensor], Tensor], work: float) -> tuple[Tensor, Tensor]:
        """Some of so many rows, and what they find; the time of the others is noted.

        One row first, for what is made once.
        """
        ledger, begun = self.state.ledger, time.thread_time()
        if count == 0 or ledger.tired:
            ledger.note(count, work, count * work * ledger.rate)
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
        some = ledger.drawn(count, 1)
        found = bounded(some)
        again = time.thread_time()
        if count > 1:
            some = ledger.drawn(count, min(_ROWS, self._in_a_pass))
            found = bounded(some)
        each = (time.thread_time() - (again if count > 1 else begun)) / len(some)
        ledger.spent += time.thread_time() - begun
        if ledger.rate == 0 or 2 * len(some) > min(_ROWS, self._in_a_pass):  # few rows take as long as many
            ledger.rate = each / max(work, 1.0)
        ledger.note(count, work, each * (count - len(some)))
        return some, found

    def look_at(self, value: str, size: tuple[int, int], until: str | None, count: int) -> None:
        """Note what a pass of at most so many rows holds, each a patch of some size on a value."""
        if self.state.forgets:
            return
        nothing = np.zeros(0, np.int64)
        values = torch.zeros(0, 1, *size, dtype=self.relaxation.dtype)
        row = self.bytes_a_row(value, Patches(values, Places(nothing, nothing, nothing), nothing), until)
        self._in_a_pass = max(1, int(self.budget / row))
        row += self._met_by(cone_sizes(self.state.graph, value, size, self.relaxation.shape), until)
        self.state.ledger.held = max(self.state.ledger.held, row * min(count, self._in_a_pass))

    def _met_by(self, sizes: Mapping[str, tuple[int, int]], until: str | None) -> float:
        """Bytes a row of what passes keep, and make for a while, of the windows that they meet (`Met`)."""
        kept, made, size = 0.0, 0.0, self.relaxation.dtype.itemsize
        for step in reversed(self.state.graph.steps):
            windows = self.state.windows.get(step.output)
            if step.output == until:
                break
            if step.output not in sizes or windows is None or not isinstance(step.layer, Maximum):
                continue
            if step.output not in self._undecided:
                self._undecided[step.output] = float(windows.undecided.to(torch.float32).mean())
            count, elements = math.prod(sizes[step.output]) * windows.live.shape[1], step.layer.elements
            met = count * self._undecided[step.output] * 8
            kept += count * elements * size + met * (3 + elements)
            made = max(made, met * _MET)
        return kept + made

    def _work_until(self, step: Step, layer: Maximum) -> float:
        ends = horizons(self.state.graph, step.inputs[0], layer.reach, self.relaxation.shape)
        return dict(ends).get(self.plan.until.get(step.output, ""), ends[-1][1])

    def _by_intervals(self, step: Step, layer: Maximum, units: Tensor, weights: Tensor) -> Tensor:
        """What intervals say of sums of the elements of windows: less than 0, float64 [R]."""
        known, at = self.relaxation.intervals[step.inputs[0]], units.unbind(1)
        largest = torch.finfo(torch.float32).max
        lower, upper = (
            layer.windows(end)[at].to(torch.float64).nan_to_num(0.0).clamp(-largest, largest)
            for end in (known.lower, known.upper)
        )
        return (weights.clamp(min=0) * lower + weights.clamp(max=0) * upper).sum(1).clamp(max=-1e-300)


class _SampledInputs(CurveInputs):
    """What a product is made of may be forgotten."""

    def bound(self, step: Step, todo: Tensor) -> None:
        """Spend rows, but for such products."""
        assert isinstance(self.state, _SampledState)
        if not (self.state.forgets and isinstance(step.layer, layers.Mul)):
            super().bound(step, todo)


class _SampledBounds(BallBounds):
    """Bounds of one ball, most rows left out."""

    state_kind, builder_kind, inputs_kind = _SampledState, _SampledRows, _SampledInputs
    builder: _SampledRows

    def lower_rows(self, value: str, rows: Patches, at_centre: Tensor, enough: float | None = None) -> Tensor:
        """Rows on the output: nothing is believed of them."""
        real = super().lower_rows

        def bounded(some: Tensor) -> Tensor:
            return real(value, rows.chosen(some), at_centre[some], enough)

        work = horizons(self.graph, value, rows.size, self.relaxation.shape)[-1][1]
        self.builder.look_at(value, rows.size, None, len(at_centre))
        self.builder.sampled(len(at_centre), bounded, work)
        return torch.full_like(at_centre, -torch.inf)


class SampledBounder(PatchBounder):
    """Says what bounds of the whole map take; no other question is to be asked of it."""

    _kind = _SampledBounds
    _ledger = _Ledger()

    @plainly
    def taken_by(self, ball: Ball) -> Cost:
        """What the bounds of a ball take.

        Of a network that is large, only what is in float32: nearly all of the work is.
        """
        self._ledger, started, complete = _Ledger(), time.thread_time(), True
        self._gains = _Guesses(self._exact)
        image = ball.center[None]
        units = _units(self._fast, image.to(torch.float32))
        narrow, wide = (_kept_in(self._graph, units, dtype) for dtype in (torch.float32, torch.float64))
        bounds: BallBounds | None = None
        try:
            if wide < _HELD:
                self._pixels(ball)
                bounds = self._known[-1].bounds
            elif 8 * sum(units.values()) > 2 * _HELD:
                raise _Enough
            else:
                found = middle_of(self._exact, image, self._engine.device)
                with self._mode():
                    bounds = self._begun(self._fast, torch.float32, ball, found, None)
                    bounds.require(self._graph.output_name, self._where_all())
        except _Enough:
            complete = False
        ledger = self._ledger
        complete &= ledger.rate > 0 or ledger.rows == 0
        seconds = time.thread_time() - started + ledger.left_out
        shortened = bounds is not None and bool(bounds.plan.shortened)
        # Bounds hold themselves in a circle.
        self._known.clear()
        bounds = None
        gc.collect()
        held = int(_MORE * ledger.held)
        return Cost(ledger.rows, ledger.multiply_adds, seconds, complete, shortened, narrow + wide + held)

    def _begun(self, *begun: Any) -> BallBounds:
        bounds = super()._begun(*begun)
        assert isinstance(bounds.state, _SampledState)
        bounds.state.ledger = self._ledger
        return bounds


class _Guesses(Gains):
    """Gains of convolutions by a few steps of power iteration on a small map: not bounds."""

    def of(self, value: str) -> float:
        """About the largest |d_out|_2 / |d_in|_2 of the layer that makes a value."""
        layer = self._layers[value]
        if value not in self._known and isinstance(layer, layers.Conv):
            self._known[value] = _norm(layer)
        return super().of(value)


_SIDE, _STEPS = 16, 6
"""The map, and the steps, of a power iteration."""


def _norm(conv: layers.Conv) -> float:
    weight = conv.weight.to(torch.float32)
    options: dict[str, Any] = {"stride": conv.stride, "dilation": conv.dilation, "groups": conv.groups}
    value = torch.ones(1, weight.shape[1] * conv.groups, _SIDE + weight.shape[2], _SIDE + weight.shape[3])
    value, size = torch.sin(torch.arange(value.numel(), dtype=torch.float32)).reshape(value.shape), 0.0
    for _ in range(_STEPS):
        value = value / value.norm().clamp(min=1e-30)
        found = F.conv2d(value, weight, **options)
        size = float(found.norm())
        value = F.conv_transpose2d(found, weight, **options)
    return size


def _units(graph: TorchGraph, image: Tensor) -> dict[str, int]:
    """How many numbers every value of a graph has, for an image [1, C, H, W]."""
    found: list[int] = []

    def note(_layer: nn.Module, _inputs: object, value: Tensor) -> None:
        found.append(value.numel())

    hooks = [layer.register_forward_hook(note) for layer in set(graph.layers)]
    try:
        graph(image)
    finally:
        for hook in hooks:
            hook.remove()
    return dict(zip((step.output for step in graph.steps), found, strict=True))


def _kept_in(graph: TorchGraph, units: Mapping[str, int], dtype: torch.dtype) -> int:
    """Bytes kept of a graph in one precision at most, all windows undecided; the centres with float64."""
    found = sum(_kept_of(step, units[step.output], dtype, undecided=True) for step in graph.steps)
    return found + (8 * sum(units.values()) if dtype is torch.float64 else 0)


def _kept_of(step: Step, units: int, dtype: torch.dtype, undecided: bool = False) -> int:
    """Bytes of a step's interval and windows (`Windows`, `Leads`), with the planes of undecided ones."""
    size = dtype.itemsize
    total = 2 * size
    if isinstance(step.layer, Maximum):
        count = step.layer.elements + 1
        total += count * (8 + 4 * size + 2) + 8
        # `Planes`, `Rowed` and `MaximumLines`.
        planes = 56 + 9 * count + (3 * count**2 + 5 * count) * size
        total += planes if undecided else 0
    return units * total
