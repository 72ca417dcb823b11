"""Intervals of every value over some balls, and the lines and planes that follow from them."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from corgi.budget import check
from corgi.engines.patch.backward import AnyLines, BackwardPass, MaximumLines, Relaxation
from corgi.engines.patch.curves import relax
from corgi.engines.patch.gains import Gains, conv_reach, euclidean, norm_step
from corgi.engines.patch.halfspace import HalfSpace, box_fields, least
from corgi.engines.patch.intervals import by_channel, cast_out, cast_up, interval_step, magnitude
from corgi.engines.patch.norms import held_interval, reach_step
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.product import product_norm, product_planes
from corgi.engines.patch.windows import Leads, Windows, as_field
from corgi.engines.rigour import SPARE, roundings
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Interval


class State:
    """What is known of the values of a network over balls, each [B, ...].

    Attributes:
        graph: prepared steps, in working precision; steps: by their outputs.
        relaxation: what backward passes see.
        windows: by output of a Maximum; leads: the same of all balls around an image.
        exact: values whose intervals are exact up to rounding.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        gains: Gains,
        leads: dict[str, Leads],
        exact: set[str],
        outer: State | None = None,
    ) -> None:
        self.graph, self.relaxation, self.leads, self.exact = relaxation.graph, relaxation, leads, exact
        self.steps = {step.output: step for step in self.graph.steps}
        self.windows: dict[str, Windows] = {}
        self._gains, self._outer = gains, outer
        self._lines: dict[str, AnyLines] = {}
        relaxation.lines = self.lines_of
        if outer is not None and outer.relaxation.norms is not None:
            relaxation.norms = {self.graph.input_name: self.image_norm()}

    def part(self, half_space: HalfSpace) -> State:
        """The same on a part of the balls, windows to be refined again."""
        known = self.relaxation
        relaxation = replace(
            known,
            intervals=dict(known.intervals),
            sizes=dict(known.sizes),
            half_space=half_space,
            norms=None if known.norms is None else dict(known.norms),
        )
        part = State(relaxation, self._gains, self.leads, self.exact)
        part.windows = {name: windows.again() for name, windows in self.windows.items()}
        part._lines = dict(self._lines)
        return part

    @property
    def whole(self) -> bool:
        """Whether all of the balls is meant, and not a part of them."""
        return self.relaxation.half_space is None

    @property
    def bytes(self) -> int:
        """Memory of intervals and windows, about."""
        ends = [end for known in self.relaxation.intervals.values() for end in (known.lower, known.upper)]
        total = sum(end.numel() * end.element_size() for end in ends)
        return total + sum(windows.bytes for windows in self.windows.values())

    def complete(self) -> None:
        """Draw intervals of every value that has none."""
        for step in self.graph.steps:
            if step.output not in self.relaxation.intervals:
                self.forward(step)
        self._outer = None

    def learn(self, other: State) -> None:
        """Take over what is known of the same balls in a lower precision."""
        self.complete()
        norms, dtype = other.relaxation.norms, self.relaxation.dtype
        self.relaxation.norms = None if norms is None else dict(norms)
        for step in self.graph.steps:
            if step.output in self.windows:
                self.windows[step.output] = self.windows[step.output].learned(other.windows[step.output])
            self.note(step, cast_out(other.relaxation.intervals[step.output], dtype))
        self._lines.clear()

    def needs_none(self, step: Step) -> bool:
        """Whether intervals say of each element all that rows could: a Relu of one convolution of the image.

        Not where only a part of the ball is meant.
        """
        return self.whole and step.inputs[0] in self.exact and self.windows[step.output].live.shape[-1] == 2

    def image_norm(self) -> Tensor:
        """Largest Euclidean norm of the image's deviations: of the box, or of the ball where it is one."""
        image = self.graph.input_name
        norm, reach = euclidean(self.relaxation.intervals[image]), self.relaxation.reaches.get(image)
        # In l_1 and l_2 it is at most the ball's radius: |d|_2 <= |d|_1.
        return norm if reach is None else torch.fmin(norm, reach.radius)

    def join_norms(self) -> None:
        """All intervals once more, with norms."""
        self.relaxation.norms = {self.graph.input_name: self.image_norm()}
        for step in self.graph.steps:
            self.forward(step)

    def forward(self, step: Step) -> None:
        """Intervals of a step's output, intersected with what was known; the windows follow."""
        check()
        # What a larger ball knows is taken over once.
        outer = self._outer if step.output not in self.relaxation.intervals else None
        known, centres, norms = self.relaxation.intervals, self.relaxation.centres, self.relaxation.norms
        if isinstance(step.layer, Maximum):
            found = self._update_windows(step, step.layer, outer).range
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
        self.note(step, found)
        if norms is not None:
            norms[step.output] = torch.fmin(self._norm(step, norms), euclidean(known[step.output]))

    def _norm(self, step: Step, norms: dict[str, Tensor]) -> Tensor:
        """The Euclidean norm of a step's output by those of its inputs: float64 [B]."""
        known, centres = self.relaxation.intervals, self.relaxation.centres
        sizes = [norms[name] for name in step.inputs]
        if isinstance(step.layer, layers.Mul):
            operands = [known[name] for name in step.inputs]
            sizes = [product_norm(operands, [centres[name] for name in step.inputs], sizes)]
        shape, error = self.relaxation.shape(step.output), centres[step.output].error
        return norm_step(step, sizes, error, shape, self._gains)

    def _held(self, step: Step, found: Interval) -> Interval:
        """An interval cut to what the norm of the image's deviations allows, which is carried on."""
        reaches, after = self.relaxation.reaches, self.relaxation.centres[step.output]
        before = reaches.get(step.inputs[0])
        reach = reach_step(step.layer, before, after)
        if reach is not None:
            reaches[step.output] = reach
        return held_interval(step.layer, found, before, after)

    def note(self, step: Step, found: Interval) -> None:
        """Keep an interval of a step's output, intersected with what was known."""
        known = self.relaxation.intervals
        before = known.get(step.output)
        self.keep(step.output, found if before is None else _intersected(found, before))
        self._lines.pop(step.output, None)

    def keep(self, value: str, known: Interval) -> None:
        """Keep an interval of a value, in the place of what was known."""
        self.relaxation.intervals[value] = known
        self.relaxation.sizes[value] = by_channel(known)

    def _update_windows(self, step: Step, layer: Maximum, outer: State | None) -> Windows:
        """Elements of all windows by intervals; what rows had found before is kept."""
        if step.output not in self.windows:
            if step.output not in self.leads:
                before, after = (self.relaxation.centres[n].value for n in (step.inputs[0], step.output))
                self.leads[step.output] = Leads.of(layer, before, after, self.relaxation.dtype)
            self.windows[step.output] = Windows.begun(self.leads[step.output])
            if outer is not None:
                self.windows[step.output].live &= outer.windows[step.output].live
        windows = self.windows[step.output]
        windows.update(layer, self.relaxation.intervals[step.inputs[0]])
        return windows

    def lines_of(self, value: str) -> AnyLines:
        """The lines of an activation from what is known of its input by now."""
        if value not in self._lines:
            step, known, centres = self.steps[value], self.relaxation.intervals, self.relaxation.centres
            inputs, before = [known[n] for n in step.inputs], [centres[n] for n in step.inputs]
            if isinstance(step.layer, Maximum):
                shape = self.relaxation.shape(step.inputs[0])
                self._lines[value] = self.windows[value].lines(step.layer, shape)
            elif isinstance(step.layer, layers.Mul):
                self._lines[value] = product_planes(inputs, before, centres[value], known[value])
            else:
                self._lines[value] = relax(step.layer, inputs[0], before[0], centres[value])
        return self._lines[value]

    def without_planes(self, value: str) -> AnyLines:
        """The lines of an activation, undecided windows of a Maximum given no weight at all."""
        lines, step = self.lines_of(value), self.steps[value]
        if not isinstance(lines, MaximumLines) or not isinstance(step.layer, Maximum):
            return lines
        weights = self.windows[value].live.to(self.relaxation.dtype)
        weights[lines.planes.units.unbind(1)] = 0
        shape = self.relaxation.shape(step.inputs[0])
        return MaximumLines(as_field(step.layer, weights[..., 1:], shape), lines.planes)

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
        reach = SPARE * float((row.abs() * magnitude(known)).sum())
        return HalfSpace(row, constant, low - roundings(8) * abs(low), reach)


def _intersected(a: Interval, b: Interval) -> Interval:
    """NaN, of which nothing is known, gives way."""
    return Interval(torch.fmax(a.lower, b.lower), torch.fmin(a.upper, b.upper))


def exact_values(graph: TorchGraph) -> set[str]:
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
