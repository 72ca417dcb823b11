"""Rows of the Jacobian over a ball, in intervals, carried backward from a value to the image.

Each generalized gradient of a row is a product of the layers' own (Clarke's chain rule), so every coefficient
of it lies in an interval that interval arithmetic carries on: through a convolution by its transpose, through
an activation by the interval of its derivatives over the ball (Fast-Lip, Weng et al. 2018; RecurJac, Zhang et
al. 2019). A window of a Maximum that can have only one maximum passes the coefficient on. Otherwise its
derivative is any convex combination over the live elements: each of them gets the coefficient times [0, 1].

The coefficients of the windows with several live elements can be kept apart instead (`combine.py`).

All of it is rounded outwards, so the intervals hold the gradients of the network in real arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from corgi.budget import check
from corgi.engines.lipschitz.slopes import slope_range
from corgi.engines.patch.backward import element_places, met, over_elements, weights_under
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.intervals import magnitude, widened
from corgi.engines.patch.norms import raised
from corgi.engines.patch.patches import Patches, on_host
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.windows import as_field
from corgi.engines.rigour import FOLDING, fan_out, gamma, smallest, unit
from corgi.network import layers
from corgi.network.convert import Step
from corgi.types import Interval, Norm


@dataclass(frozen=True)
class Rows:
    """R rows on one value, every coefficient in an interval.

    Attributes:
        lower, upper: the ends, on the same patches.
    """

    lower: Patches
    upper: Patches

    @staticmethod
    def around(rows: Patches, roundings: int = 2) -> Rows:
        """Rows whose coefficients were rounded so many times."""
        slack = roundings * unit(rows.values.dtype) * rows.values.abs()
        return Rows(rows.holding(rows.values - slack), rows.holding(rows.values + slack))

    @property
    def span(self) -> Interval:
        """The coefficients, [R, C, h, w]."""
        return Interval(self.lower.values, self.upper.values)

    def both(self, moved: Callable[[Patches], Patches]) -> Rows:
        """The same done to both ends."""
        return Rows(moved(self.lower), moved(self.upper))

    def with_span(self, span: Interval) -> Rows:
        """Other coefficients on the same patches."""
        return Rows(self.lower.holding(span.lower), self.lower.holding(span.upper))

    def negated(self) -> Rows:
        """The opposite rows."""
        return Rows(self.upper.negated(), self.lower.negated())

    def plus(self, other: Rows, shape: tuple[int, int]) -> Rows:
        """The sum of rows that reach a value of height and width `shape` on two ways."""
        total = Rows(self.lower.plus(other.lower, shape), self.upper.plus(other.upper, shape))
        # A computed sum of 0 is exact.
        return total.with_span(_widened(total.span, 0.0, _zero(total.span)))

    def dense(self, shape: tuple[int, int]) -> Interval:
        """The coefficients on a whole value, [R, C, H, W]."""
        whole = self.both(lambda rows: rows.inside(shape).dense(shape))
        return whole.span


@dataclass(frozen=True)
class OnWindows:
    """Coefficients of rows on undecided windows of one Maximum, one entry a row and window.

    Attributes:
        row, window: int64 [entries], the row, and the place in `JacobianPass.undecided`.
        span: the coefficients, [entries].
    """

    row: Tensor
    window: Tensor
    span: Interval


LAYERS = (
    layers.Conv,
    layers.Affine,
    Maximum,
    layers.Sigmoid,
    layers.Tanh,
    layers.Curve,
    layers.Add,
    layers.Sub,
    layers.Concat,
)
"""The layers whose Jacobians are bounded, here and in `product.py`."""


@dataclass
class JacobianPass:
    """What a backward pass of Jacobian rows needs, and what it leaves.

    Attributes:
        bounds: of the network over one ball.
        keep: whether coefficients on undecided windows are kept apart in `kept` and not carried on.
        kept: by the name of a Maximum; after `run`.
    """

    bounds: BallBounds
    keep: bool = False
    kept: dict[str, OnWindows] = field(default_factory=dict)

    def run(self, start: Mapping[str, Rows]) -> Rows | None:
        """The rows on the image; None if none of them reaches it."""
        graph, shape = self.bounds.graph, self.bounds.relaxation.shape
        pending = dict(start)
        for step in reversed(graph.steps):
            if step.output not in pending:
                continue
            check()
            rows = pending.pop(step.output)
            for name, part in zip(step.inputs, self._backward(step, rows), strict=True):
                pending[name] = part if name not in pending else pending[name].plus(part, shape(name))
        return pending.get(graph.input_name)

    def undecided(self, value: str) -> Tensor:
        """The windows of a Maximum with several live elements: int64 [U, 4]."""
        return (self.bounds.live(value).sum(-1) > 1).nonzero()

    def _backward(self, step: Step, rows: Rows) -> list[Rows]:
        """Rows on a step's output as rows on its inputs."""
        match step.layer:
            case layers.Conv():
                return [self._conv(step, step.layer, rows)]
            case layers.Affine():
                return [self._affine(step, step.layer, rows)]
            case layers.Add():
                return [rows, rows]
            case layers.Sub():
                return [rows, rows.negated()]
            case layers.Concat():
                counts = [self.bounds.relaxation.channels(name) for name in step.inputs]
                return list(map(Rows, rows.lower.parted(counts), rows.upper.parted(counts)))
            case Maximum():
                return [self._maximum(step, step.layer, rows)]
            case layers.Sigmoid() | layers.Tanh() | layers.Curve():
                return [self._curve(step, rows)]
        raise TypeError(f"no rule for {type(step.layer).__name__}")

    def _conv(self, step: Step, conv: layers.Conv, rows: Rows) -> Rows:
        """Middle and half-width: W^T a +- |W|^T h; rounding as in intervals.py, transposed."""
        shape = self.bounds.relaxation.shape
        rows = rows.both(lambda one: one.inside(shape(step.output)))
        span, terms = rows.span, fan_out(conv, rows.lower.size)
        share = gamma(2 * terms + FOLDING + 4, span.lower.dtype)
        middle = rows.lower.holding((span.upper + span.lower) / 2)
        half = (span.upper - span.lower) / 2 + share * magnitude(span)
        options = (conv.stride, conv.padding, conv.dilation)
        absolute = layers.Conv(conv.weight.abs(), conv.bias, *options, conv.groups)
        middle = middle.through_conv(conv, shape(step.inputs[0]))
        reach = rows.lower.holding(half).through_conv(absolute, shape(step.inputs[0]))
        off = reach.values * (1 + share)
        ends = Interval(middle.values - off, middle.values + off)
        ones = torch.ones(1, 1, *conv.weight.shape[2:], dtype=conv.weight.dtype, device=conv.weight.device)
        window = layers.Conv(ones, ones[0, 0, 0], *options)
        counted = rows.lower.holding((~_zero(span)).any(1, keepdim=True).to(ones.dtype))
        nothing = counted.through_conv(window, shape(step.inputs[0])).values == 0
        return Rows(middle, middle).with_span(_widened(ends, terms * smallest(ones.dtype), nothing))

    def _affine(self, step: Step, affine: layers.Affine, rows: Rows) -> Rows:
        shape = self.bounds.relaxation.shape(step.output)
        channels = self.bounds.relaxation.channels(step.output)
        scale = affine.scale.broadcast_to(channels, *shape)[None]
        slack = (FOLDING + 2) * unit(scale.dtype) * scale.abs()
        return _times(rows, Interval(scale - slack, scale + slack))

    def _curve(self, step: Step, rows: Rows) -> Rows:
        (source,) = step.inputs
        known, centre = self.bounds.relaxation.intervals[source], self.bounds.relaxation.centres[source].value
        lower, upper = centre + known.lower, centre + known.upper
        down, up = torch.full_like(lower, -torch.inf), torch.full_like(upper, torch.inf)
        least, most = slope_range(step.layer, lower.nextafter(down), upper.nextafter(up))
        dtype = known.lower.dtype
        return _times(rows, widened(least.to(dtype), most.to(dtype), 0.0))

    def _maximum(self, step: Step, layer: Maximum, rows: Rows) -> Rows:
        """Live elements get the coefficient, times [0, 1] where there are several."""
        live = self.bounds.live(step.output)
        several = (live.sum(-1) > 1).to(rows.lower.values.dtype)
        if self.keep:
            self._keep(step.output, layer, rows)
        several = rows.lower.window(several)
        if len(several) != len(rows.lower.values):
            several = several.repeat(rows.lower.repeats, 1, 1, 1)
        span = rows.span
        lower, upper = (0.0, 0.0) if self.keep else (span.lower.clamp(max=0), span.upper.clamp(min=0))
        rows = rows.with_span(
            Interval(torch.where(several > 0, lower, span.lower), torch.where(several > 0, upper, span.upper))
        )
        shape = self.bounds.relaxation.shape(step.inputs[0])
        weights = as_field(layer, live[..., 1:].to(span.lower.dtype), shape)
        under = weights_under(layer, rows.lower, weights)
        places = element_places(layer, rows.lower.places)
        found = Interval(*(over_elements(layer, end, under) for end in (rows.lower, rows.upper)))
        if layer.overlaps:
            # Sums over the windows an element stands in; over_elements of |a| has their absolute terms.
            largest = Patches(magnitude(span), rows.lower.places, rows.lower.place)
            sizes = over_elements(layer, largest, under)
            found = _widened(found, gamma(layer.elements, sizes.dtype) * sizes, sizes == 0)
        moved = Patches(found.lower, places, rows.lower.place), Patches(found.upper, places, rows.lower.place)
        return Rows(*moved).both(lambda one: one.on(shape))

    def _keep(self, value: str, layer: Maximum, rows: Rows) -> None:
        row, window, at, _ = met(layer, rows.lower, on_host(self.undecided(value)).T)
        span = Interval(*(one.values.reshape(-1).index_select(0, at) for one in (rows.lower, rows.upper)))
        used = (~_zero(span)).nonzero().reshape(-1)
        self.kept[value] = OnWindows(row[used], window[used], Interval(span.lower[used], span.upper[used]))


def interval_norms(bounds: BallBounds, value: str, rows: Patches, norm: Norm) -> Tensor:
    """Upper bounds of the dual norms of rows' generalized gradients over a ball: float64 [R].

    Args:
        bounds: of one ball.
        value: what the rows read.
        rows: their coefficients.
        norm: of the ball.
    """
    found = JacobianPass(bounds).run({value: Rows.around(rows)})
    if found is None:
        return torch.zeros(len(rows.place), dtype=torch.float64)
    inside = found.both(lambda one: one.inside(bounds.relaxation.shape(bounds.graph.input_name)))
    largest = magnitude(inside.span)
    return raised(norm.dual.sizes(largest), largest[0].numel()).cpu()


def _times(rows: Rows, factors: Interval) -> Rows:
    """Rows multiplied by what lies in [B, C, H, W] under them; 0 over the edge."""
    products = [
        end.times(end.window(factor)).values
        for end in (rows.lower, rows.upper)
        for factor in (factors.lower, factors.upper)
    ]
    stacked = torch.stack(products)
    found = _widened(Interval(stacked.amin(0), stacked.amax(0)), 0.0, _zero(rows.span))
    places, place = rows.lower.places, rows.lower.place
    return Rows(Patches(found.lower, places, place), Patches(found.upper, places, place))


def _zero(span: Interval) -> Tensor:
    """Where coefficients are exactly 0; NaN is not."""
    return (span.lower == 0) & (span.upper == 0)


def _widened(span: Interval, error: Tensor | float, zero: Tensor) -> Interval:
    """Coefficients with an error added on both sides, but where they are known to be exactly 0."""
    found = widened(span.lower, span.upper, error)
    return Interval(found.lower.masked_fill(zero, 0), found.upper.masked_fill(zero, 0))
