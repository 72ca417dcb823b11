"""Bounds of every activation input over one ball: intervals first, and rows only where they pay.

For a linear function of some value, the backward pass replaces each activation by the line that is sound for
the sign of its coefficient, until only pixels are left:

    sum_i a_i f(z_i) >= sum_{a_i >= 0} a_i lower_i(z_i) + sum_{a_i < 0} a_i upper_i(z_i)     (CROWN)

and over the box, a . x >= a . centre - |a| . half-width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.patch.patches import Patches, unit_rows
from corgi.engines.patch.relax import Lines, relax
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Interval

ACTIVATIONS = (layers.Relu, layers.Sigmoid, layers.Tanh)


@dataclass(frozen=True)
class Contribution:
    """Rows that reach a value: directly, or through a convolution still to be applied.

    Convolutions wait so that those that read one value in one way (the selections of a pooling window) are
    applied as one, over all their channels.
    """

    patches: Patches
    through: layers.Conv | None = None


def resolve(contributions: list[Contribution]) -> Patches:
    """The sum of contributions to one value."""
    parts: list[Patches] = []
    waiting: list[Contribution] = []
    for contribution in contributions:
        if contribution.through is None:
            parts.append(contribution.patches)
        else:
            waiting.append(contribution)
    while waiting:
        first, *rest = waiting
        together = [first, *(c for c in rest if _alike(first, c))]
        waiting = [c for c in rest if not _alike(first, c)]
        parts.append(_through_all(together))
    total = parts[0]
    for part in parts[1:]:
        total = total.plus(part)
    return total


def _alike(a: Contribution, b: Contribution) -> bool:
    assert a.through is not None
    assert b.through is not None
    shapes = a.through.weight.shape[1:] == b.through.weight.shape[1:]
    geometry = (a.through.stride, a.through.padding) == (b.through.stride, b.through.padding)
    return shapes and geometry and a.patches.aligned(b.patches)


def _through_all(contributions: list[Contribution]) -> Patches:
    convs = [c.through for c in contributions if c.through is not None]
    if len(convs) == 1:
        return contributions[0].patches.through_conv(convs[0])
    weight, bias = torch.cat([c.weight for c in convs]), torch.cat([c.bias for c in convs])
    first = contributions[0].patches
    values = torch.cat([c.patches.values for c in contributions], 1)
    joined = layers.Conv(weight, bias, convs[0].stride, convs[0].padding)
    return Patches(values, first.top, first.left).through_conv(joined)


@dataclass
class BallBounds:
    """What is known of a network over one ball.

    Attributes:
        graph: plain, composed steps.
        box: the pixels' interval, each [C, H, W].
        refine: whether activation inputs that intervals leave undecided get rows of their own (CROWN), or not
            (CROWN-IBP).
        budget: bytes a backward pass may use for its patches.
        values: of the network at the middle of the ball, by name.
        intervals: of every value, an activation's input refined; lines: of every activation, by its output.
        rows: bounded so far.
    """

    graph: TorchGraph
    box: Interval
    refine: bool
    budget: int
    values: dict[str, Tensor] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    lines: dict[str, Lines] = field(default_factory=dict)
    rows: int = 0

    def __post_init__(self) -> None:
        self.intervals[self.graph.input_name] = self.box
        middle = ((self.box.lower + self.box.upper) / 2)[None]
        self.values = {name: value[0] for name, value in self.graph.values(middle).items()}
        self._producers = {step.output: step for step in self.graph.steps}
        for step in self.graph.steps:
            self._forward(step)

    def _forward(self, step: Step) -> None:
        inputs = [self.intervals[name] for name in step.inputs]
        if isinstance(step.layer, ACTIVATIONS):
            source = step.inputs[0]
            if self.refine and not self._is_exact(source):
                self._refine(step, source)
            known = self.intervals[source]
            self.lines[step.output] = relax(step.layer, known.lower, known.upper)
            inputs = [known]
        known = interval_step(step, inputs)
        either = self._interval_of_maximum(step)
        if either is not None:
            known = Interval(torch.fmax(known.lower, either.lower), torch.fmin(known.upper, either.upper))
        self.intervals[step.output] = known

    def _is_exact(self, value: str) -> bool:
        """Whether the interval of a value is exact, as it is for one convolution of the image."""
        producer = self._producers.get(value)
        if producer is None:
            return True
        return isinstance(producer.layer, layers.Conv) and producer.inputs == (self.graph.input_name,)

    def _interval_of_maximum(self, step: Step) -> Interval | None:
        """For b + relu(a - b): max(a, b) lies in [max(l_a, l_b), max(u_a, u_b)], well inside the sum's.

        Two forms of a - b are recognised: a Sub, and two convolutions that compose.py made one.
        """
        if not isinstance(step.layer, layers.Add):
            return None
        b, over = step.inputs
        relu = self._producers.get(over)
        if relu is None or not isinstance(relu.layer, layers.Relu):
            return None
        difference, base = self._producers.get(relu.inputs[0]), self._producers.get(b)
        if difference is None:
            return None
        if isinstance(difference.layer, layers.Sub) and difference.inputs[1] == b:
            first = self.intervals[difference.inputs[0]]
        elif base is not None and _same_geometry(difference, base):
            conv, other = difference.layer, base.layer
            assert isinstance(conv, layers.Conv)
            assert isinstance(other, layers.Conv)
            a = layers.Conv(conv.weight + other.weight, conv.bias + other.bias, conv.stride, conv.padding)
            first = interval_step(replace(difference, layer=a), [self.intervals[difference.inputs[0]]])
        else:
            return None
        second = self.intervals[b]
        # An unknown (NaN) upper end of either leaves the maximum unknown.
        return Interval(torch.fmax(first.lower, second.lower), torch.maximum(first.upper, second.upper))

    def _refine(self, step: Step, source: str) -> None:
        """Rows for the units of an activation's input that its interval leaves undecided."""
        known = self.intervals[source]
        lower, upper = known.lower.clone(), known.upper.clone()
        if isinstance(step.layer, layers.Relu):
            self._refine_signs(source, lower, upper)
        else:
            units = (upper > lower).nonzero()
            where = units.unbind(1)
            sides = self.both_sides(source, unit_rows(units, lower.shape[0], lower.dtype, 1.0))
            lower[where] = torch.fmax(lower[where], sides[0])
            upper[where] = torch.fmin(upper[where], sides[1])
        # Rounding may cross two nearly equal bounds: keep the interval, which holds alone.
        crossed = ~(lower <= upper)
        self.intervals[source] = Interval(
            torch.where(crossed, known.lower, lower), torch.where(crossed, known.upper, upper)
        )

    def _refine_signs(self, source: str, lower: Tensor, upper: Tensor) -> None:
        """Decide the signs of a relu's input, in place; where that fails, bound it on both sides.

        A relu whose input has one sign is linear: how far from 0 it stays changes nothing. At the middle of
        the ball the unit has a sign, and only that one can be proved; so the row for it comes first and
        is dropped once decided, and the other side is bounded only for units that remain.
        """
        units = ((lower < 0) & (upper > 0)).nonzero()
        sign = torch.where(self.values[source][units.unbind(1)] >= 0, 1.0, -1.0).to(lower.dtype)
        least = self.lower_rows(source, unit_rows(units, lower.shape[0], lower.dtype, sign), sign_only=True)
        _tighten(lower, upper, units, sign, least)
        open_units = least < 0
        units, sign = units[open_units], -sign[open_units]
        least = self.lower_rows(source, unit_rows(units, lower.shape[0], lower.dtype, sign))
        _tighten(lower, upper, units, sign, least)

    def lower_rows(self, value: str, rows: Patches, sign_only: bool = False) -> Tensor:
        """Lower bounds of rows of coefficients on a value, over the ball: [R]. Chunked to the budget.

        With `sign_only`, a row is dropped as soon as some layer's intervals already show it to be >= 0.
        """
        count = len(rows.top)
        self.rows += count
        size = max(1, int(self.budget / self._bytes_a_row(value)))
        parts = [
            self._lower_chunk(value, rows.chosen(slice(i, i + size)), sign_only)
            for i in range(0, count, size)
        ]
        return torch.cat(parts) if parts else rows.values.new_zeros(0)

    def both_sides(self, value: str, rows: Patches) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of rows, in one pass."""
        doubled = Patches(torch.cat([rows.values, -rows.values]), rows.top.repeat(2), rows.left.repeat(2))
        lower, negated = self.lower_rows(value, doubled).chunk(2)
        return lower, -negated

    def _bytes_a_row(self, value: str) -> int:
        """Memory of one row: its largest patch, twelve times over (windows of four lines, products)."""
        sizes = cone_sizes(self.graph, value)
        units = (self.intervals[name].lower.shape[0] * h * w for name, (h, w) in sizes.items())
        return 12 * max(units) * self.box.lower.element_size()

    def _lower_chunk(self, value: str, rows: Patches, sign_only: bool) -> Tensor:
        total = torch.zeros(len(rows.top), dtype=rows.values.dtype, device=rows.values.device)
        best = torch.full_like(total, -torch.inf)
        alive = torch.arange(len(total), device=total.device)
        pending = {value: [Contribution(rows)]}
        for step in reversed(self.graph.steps):
            if step.output not in pending:
                continue
            parts, constant = self._backward(step, resolve(pending.pop(step.output)))
            total = total + constant
            for name, part in zip(step.inputs, parts, strict=True):
                pending.setdefault(name, []).append(part)
            if sign_only and isinstance(step.layer, ACTIVATIONS) and len(pending) == 1:
                ((name, waiting),) = pending.items()
                patches = resolve(waiting)
                here = total + self._least(name, patches)
                best[alive] = torch.fmax(best[alive], here)
                undecided = (here < 0).nonzero().reshape(-1)
                alive, total = alive[undecided], total[undecided]
                pending = {name: [Contribution(patches.chosen(undecided))]}
                if len(alive) == 0:
                    return best
        for name, waiting in pending.items():
            total = total + self._least(name, resolve(waiting))
        best[alive] = torch.fmax(best[alive], total)
        return best

    def _least(self, value: str, patches: Patches) -> Tensor:
        """The least value of rows on a value that is only known to lie in its interval: [R]."""
        known = self.intervals[value]
        centre, half = (known.upper + known.lower) / 2, (known.upper - known.lower) / 2
        window = patches.window(torch.cat([centre, half]))
        channels = centre.shape[0]
        low = patches.values * window[:, :channels] - patches.values.abs() * window[:, channels:]
        return low.sum((1, 2, 3))

    def _backward(self, step: Step, patches: Patches) -> tuple[list[Contribution], Tensor | float]:
        """Rows on a step's output as rows on its inputs, and what they add to the bound."""
        match step.layer:
            case layers.Conv():
                inside = self._inside(step.output, patches)
                constant = inside.values.sum((2, 3)) @ step.layer.bias
                return [Contribution(inside, step.layer)], constant
            case layers.Add():
                return [Contribution(patches), Contribution(patches)], 0.0
            case layers.Sub():
                return [Contribution(patches), Contribution(patches.negated())], 0.0
            case layers.Concat():
                parts, start = [], 0
                for name in step.inputs:
                    count = self.intervals[name].lower.shape[0]
                    parts.append(Contribution(patches.channels(start, count)))
                    start += count
                return parts, 0.0
        return self._backward_activation(step, patches)

    def _inside(self, value: str, patches: Patches) -> Patches:
        """Coefficients over the edge of the value set to 0: padding is not a value of the network."""
        height, width = self.intervals[value].lower.shape[1:]
        high, wide = patches.values.shape[2:]
        if len(patches.top) == 0:
            return patches
        cut = int(patches.top.min()) < 0 or int(patches.left.min()) < 0
        cut = cut or int(patches.top.max()) + high > height or int(patches.left.max()) + wide > width
        if not cut:
            return patches
        ones = torch.ones(1, height, width, dtype=patches.values.dtype, device=patches.values.device)
        return Patches(patches.values * patches.window(ones), patches.top, patches.left)

    def _backward_activation(self, step: Step, patches: Patches) -> tuple[list[Contribution], Tensor]:
        lines = self.lines[step.output]
        channels = lines.lower_slope.shape[0]
        window = patches.window(lines.stacked())
        low_slope, low_shift, up_slope, up_shift = torch.split(window, channels, 1)
        positive, negative = patches.values.clamp(min=0), patches.values.clamp(max=0)
        constant = (positive * low_shift + negative * up_shift).sum((1, 2, 3))
        values = positive * low_slope + negative * up_slope
        return [Contribution(Patches(values, patches.top, patches.left))], constant


def cone_sizes(graph: TorchGraph, value: str) -> dict[str, tuple[int, int]]:
    """Height and width of the patch that one unit of a value has on every value below it."""
    sizes = {value: (1, 1)}
    for step in reversed(graph.steps):
        if step.output not in sizes:
            continue
        height, width = sizes[step.output]
        if isinstance(step.layer, layers.Conv):
            kernel, stride = step.layer.weight.shape[2:], step.layer.stride
            height = (height - 1) * stride[0] + kernel[0]
            width = (width - 1) * stride[1] + kernel[1]
        for name in step.inputs:
            before = sizes.get(name, (1, 1))
            sizes[name] = (max(before[0], height), max(before[1], width))
    return sizes


def map_reach(graph: TorchGraph) -> tuple[int, int]:
    """From which distance on, in map pixels, the cones of two map pixels share no image pixel."""
    return _reach_along(graph, 0), _reach_along(graph, 1)


def _reach_along(graph: TorchGraph, axis: int) -> int:
    """Unit o of the map reads image pixels o s + low .. o s + high, which are disjoint far enough apart.

    Through a convolution (stride t, padding p, kernel k), o s + [low, high] becomes o s t + [low t - p,
    high t - p + k - 1]; branches that meet are joined. Branches of different strides have no such form:
    then no distance counts as far.
    """
    reads = {graph.output_name: (1, 0, 0)}
    for step in reversed(graph.steps):
        if step.output not in reads:
            continue
        stride, low, high = reads[step.output]
        if isinstance(step.layer, layers.Conv):
            t, p, k = step.layer.stride[axis], step.layer.padding[axis], step.layer.weight.shape[2 + axis]
            stride, low, high = stride * t, low * t - p, high * t - p + k - 1
        for name in step.inputs:
            before = reads.get(name, (stride, low, high))
            if before[0] != stride:
                return 2**31
            reads[name] = (stride, min(before[1], low), max(before[2], high))
    stride, low, high = reads.get(graph.input_name, (1, 0, 0))
    return (high - low) // stride + 1


def _same_geometry(a: Step, b: Step) -> bool:
    """Whether two steps are convolutions that read the same value in the same way."""
    if not (isinstance(a.layer, layers.Conv) and isinstance(b.layer, layers.Conv) and a.inputs == b.inputs):
        return False
    same = (a.layer.stride, a.layer.padding) == (b.layer.stride, b.layer.padding)
    return same and a.layer.weight.shape == b.layer.weight.shape


def _tighten(lower: Tensor, upper: Tensor, units: Tensor, sign: Tensor, least: Tensor) -> None:
    """Put in place what rows sign * z >= least say of units [R, 3]."""
    for positive in (True, False):
        rows = (sign > 0) == positive
        where = units[rows].unbind(1)
        if positive:
            lower[where] = torch.fmax(lower[where], least[rows])
        else:
            upper[where] = torch.fmin(upper[where], -least[rows])


def interval_step(step: Step, inputs: list[Interval]) -> Interval:
    """Interval arithmetic through one step."""
    match step.layer:
        case layers.Conv():
            conv, (known,) = step.layer, inputs
            centre, half = (known.upper + known.lower) / 2, (known.upper - known.lower) / 2
            middle = F.conv2d(centre[None], conv.weight, conv.bias, conv.stride, conv.padding)[0]
            reach = F.conv2d(half[None], conv.weight.abs(), None, conv.stride, conv.padding)[0]
            return Interval(middle - reach, middle + reach)
        case layers.Add():
            return Interval(inputs[0].lower + inputs[1].lower, inputs[0].upper + inputs[1].upper)
        case layers.Sub():
            return Interval(inputs[0].lower - inputs[1].upper, inputs[0].upper - inputs[1].lower)
        case layers.Concat():
            return Interval(torch.cat([i.lower for i in inputs]), torch.cat([i.upper for i in inputs]))
    # Activations grow.
    return Interval(step.layer(inputs[0].lower), step.layer(inputs[0].upper))
