"""Interval arithmetic through one step, on deviations, rounded outwards.

Every value v of the network is kept as v = c + d: c is what float64 computes at the image in the middle of
the ball, d lies in an interval [lower, upper] around 0. Rounding of d is relative to d, which is small; c
enters through `Centre.error`, a bound on what float64 got wrong in the step that made c (docs/theory.md,
section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.budget import check
from corgi.engines.patch.power import power_error, power_range
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.resample import absolute, amplification, middle_and_reach, terms_of
from corgi.engines.patch.smooth import function_error, value_range
from corgi.engines.rigour import FOLDING, RAISED, SPARE, fan_in, gamma, smallest, unit
from corgi.engines.rules import rule_of
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Interval

_BLOCK = 32
"""Terms that a convolution at the centre adds up one after the other."""

_FUNCTION_ULPS = 8
"""Units of 1 that sigmoid and tanh may be off by, generously."""


@dataclass(frozen=True)
class Centre:
    """A value at the images in the middle of the balls, as float64 computes it.

    Attributes:
        value: float64 [B, C, H, W].
        error: |step(exact inputs = their centres) - value| by channel, float64 [B, C].
    """

    value: Tensor
    error: Tensor

    @property
    def spread(self) -> Tensor:
        """The error of every unit: [B, C, 1, 1]."""
        return self.error[:, :, None, None]

    @property
    def size(self) -> Tensor:
        """Largest absolute value by channel: [B, C]."""
        return self.value.abs().amax((2, 3))


def centres(graph: TorchGraph, images: Tensor) -> dict[str, Centre]:
    """All values of the network at images [B, C, H, W], float64; the graph is float64, too."""
    found = {graph.input_name: Centre(images, torch.zeros(images.shape[:2], dtype=images.dtype))}
    for step in graph.steps:
        check()
        inputs = [found[name] for name in step.inputs]
        if isinstance(step.layer, layers.Conv):
            found[step.output] = _convolved(step.layer, inputs[0].value)
        else:
            value = step.layer(*(c.value for c in inputs))
            found[step.output] = Centre(value, _centre_error(step, value, inputs))
    return found


def _convolved(conv: layers.Conv, value: Tensor) -> Centre:
    """A convolution, summed in blocks of channels and those in pairs.

    A term then meets the additions of its block and of log2(blocks) pairs, and gamma_n of that many bounds
    the error: in a layer of 4608 terms a fiftieth of what a running sum may be off by. What the layers behind
    make of these errors is what a deep network's bounds begin from, however small the ball.
    """
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    across, depth = conv.weight.shape[1], conv.weight[0, 0].numel()
    width = across if conv.groups > 1 else max(1, _BLOCK // depth)
    blocks = [slice(start, start + width) for start in range(0, across, width)]
    parts: list[tuple[int, Tensor]] = []
    for block in blocks:
        read = value if conv.groups > 1 else value[:, block]
        level, total = 0, F.conv2d(read, conv.weight[:, block], None, *options)
        while parts and parts[-1][0] == level:
            level, total = level + 1, parts.pop()[1] + total
        parts.append((level, total))
    total = parts.pop()[1]
    while parts:
        total = parts.pop()[1] + total
    if conv.bias is not None:
        total = total + conv.bias[:, None, None]
    # Unequal pairs at the end and the bias add at most one level each.
    terms = width * depth + len(blocks).bit_length() + 2 + FOLDING
    absolute = SPARE * F.conv2d(value.abs(), conv.weight.abs(), None, *options).amax((2, 3))
    return Centre(total, gamma(terms, torch.float64) * (absolute + conv.bias_magnitude))


def _centre_error(step: Step, value: Tensor, inputs: list[Centre]) -> Tensor:
    layer, first = step.layer, inputs[0]
    u = unit(torch.float64)
    match layer:
        case layers.Affine():
            shape = value.shape[1:]
            scale, shift = (
                v.abs().broadcast_to(shape).amax((1, 2)) for v in (layer.scale, layer.shift_magnitude)
            )
            return gamma(FOLDING + 2, torch.float64) * (scale * first.size + shift)
        case layers.Resample():
            most: Tensor = absolute(layer)(first.value.abs()).amax((2, 3))
            return SPARE * gamma(terms_of(layer), torch.float64) * most
        case layers.Add() | layers.Sub():
            return u * (first.size + inputs[1].size)
        case layers.Mul():
            return SPARE * u * value.abs().amax((2, 3)) + smallest(torch.float64)
        case layers.Power():
            return power_error(value.abs().amax((2, 3)))
        case layers.Concat():
            return torch.zeros_like(torch.cat([c.error for c in inputs], 1))
        case layers.Sigmoid() | layers.Tanh():
            return torch.full_like(first.error, _FUNCTION_ULPS * u)
        case layers.Curve():
            return function_error(layer, first.size)
        case Maximum():
            return torch.zeros_like(first.error)
    raise TypeError(f"no rule for {type(layer).__name__}")


def weighted(conv: layers.Conv, size: Tensor) -> Tensor:
    """Bound of |W| |v| by output channel, [B, C'], from |v| by input channel, [B, C]."""
    taps = conv.weight.abs().sum((2, 3)).to(size.dtype)
    if conv.groups == 1:
        return SPARE * (size @ taps.T)
    groups = size.reshape(len(size), conv.groups, -1)
    weights = taps.reshape(conv.groups, -1, taps.shape[1])
    return SPARE * torch.einsum("bgi,goi->bgo", groups, weights).reshape(len(size), -1)


def interval_step(layer: nn.Module, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    """Deviations [B, C, H, W] of a step's output from deviations of its inputs; all steps but Maximum."""
    return rule_of(_RULES, layer)(layer, inputs, before, after)


def _affine(layer: layers.Affine, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    a, b = layer.scale * inputs[0].lower, layer.scale * inputs[0].upper
    rounding = gamma(FOLDING + 2, a.dtype) * layer.scale.abs() * magnitude(inputs[0])
    return widened(torch.minimum(a, b), torch.maximum(a, b), rounding + after.spread)


def _resample(
    layer: layers.Resample, inputs: list[Interval], before: list[Centre], after: Centre
) -> Interval:
    dtype = inputs[0].lower.dtype
    share = gamma(2 * terms_of(layer), dtype)
    lost = 2 * terms_of(layer) * amplification(layer) * smallest(dtype)
    found = middle_and_reach(layer, inputs[0], share, lost)
    return widened(found.lower, found.upper, after.spread + lost)


def _sum(layer: layers.Add, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    first, second = inputs
    return widened(first.lower + second.lower, first.upper + second.upper, after.spread)


def _difference(layer: layers.Sub, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    first, second = inputs
    return widened(first.lower - second.upper, first.upper - second.lower, after.spread)


def _power(layer: layers.Power, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    lower, upper = (v.to(torch.float64) for v in (inputs[0].lower, inputs[0].upper))
    lower = (before[0].value + lower).nextafter(torch.full_like(lower, -torch.inf))
    upper = (before[0].value + upper).nextafter(torch.full_like(upper, torch.inf))
    least, most = power_range(layer, lower, upper)
    slack = power_error(least, most, after.value) + after.spread
    return cast_out(widened(least - after.value, most - after.value, slack), inputs[0].lower.dtype)


def _concat(layer: layers.Concat, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    return Interval(torch.cat([i.lower for i in inputs], 1), torch.cat([i.upper for i in inputs], 1))


def _s_shape(layer: nn.Module, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    lower, upper = (layer(before[0].value + d) - after.value for d in (inputs[0].lower, inputs[0].upper))
    return cast_out(widened(lower, upper, 2 * after.spread), inputs[0].lower.dtype)


def _curve(layer: layers.Curve, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    ends = [before[0].value + d for d in (inputs[0].lower, inputs[0].upper)]
    lower, upper = (v - after.value for v in value_range(layer, *ends))
    size = torch.maximum(ends[0].abs(), ends[1].abs())
    return cast_out(widened(lower, upper, function_error(layer, size)), inputs[0].lower.dtype)


def _conv(conv: layers.Conv, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    """Middle +- reach; the rounding of both sums is a share gamma of what `reach` adds up."""
    options, known = (conv.stride, conv.padding, conv.dilation, conv.groups), inputs[0]
    centre, half = (known.upper + known.lower) / 2, (known.upper - known.lower) / 2
    dtype = centre.dtype
    share = gamma(2 * fan_in(conv) + FOLDING + 4, dtype)
    half = half + share * magnitude(known) + fan_in(conv) * smallest(dtype)
    middle = F.conv2d(centre, conv.weight, None, *options)
    reach = F.conv2d(half, conv.weight.abs(), None, *options) * (1 + share)
    return widened(middle - reach, middle + reach, after.spread + fan_in(conv) * smallest(dtype))


def _product(layer: layers.Mul, inputs: list[Interval], before: list[Centre], after: Centre) -> Interval:
    """Of c_x d_y + c_y d_x + d_x d_y, which is linear in each: its extremes are at the corners of the box."""
    (cx, cy), dtype = (c.value for c in before), inputs[0].lower.dtype
    found, sizes = [], []
    for dx in (inputs[0].lower, inputs[0].upper):
        for dy in (inputs[1].lower, inputs[1].upper):
            terms = torch.stack([cx * dy, cy * dx, dx.to(torch.float64) * dy])
            found.append(terms.sum(0))
            sizes.append(terms.abs().sum(0))
    values, size = torch.stack(found), torch.stack(sizes).amax(0)
    error = 8 * unit(torch.float64) * size + 4 * smallest(torch.float64) + after.spread
    wide = widened(values.amin(0), values.amax(0), error)
    # Where more is known of the product it is cut to that: fmax and fmin pass NaN over.
    most = layer.largest * RAISED
    low, high = -most - after.value, most - after.value
    slack = 4 * unit(torch.float64) * (most + after.value.abs()) if math.isfinite(most) else 0.0
    wide = Interval(torch.fmax(wide.lower, low - slack), torch.fmin(wide.upper, high + slack))
    return cast_out(wide, dtype)


_RULES: dict[type[nn.Module], Callable[[Any, list[Interval], list[Centre], Centre], Interval]] = {
    layers.Conv: _conv,
    layers.Affine: _affine,
    layers.Resample: _resample,
    layers.Add: _sum,
    layers.Sub: _difference,
    layers.Mul: _product,
    layers.Power: _power,
    layers.Concat: _concat,
    layers.Sigmoid: _s_shape,
    layers.Tanh: _s_shape,
    layers.Curve: _curve,
}
"""Deviations of an output from those of the inputs, the centres before and the one after."""


def magnitude(known: Interval) -> Tensor:
    """Largest absolute deviation of every unit."""
    return torch.maximum(known.lower.abs(), known.upper.abs())


def by_channel(known: Interval) -> Tensor:
    """Largest absolute deviation of every channel: [B, C]."""
    return magnitude(known).amax((2, 3))


def widened(lower: Tensor, upper: Tensor, error: Tensor | float) -> Interval:
    """The interval with an error added on both sides, and the rounding of doing so."""
    dtype = lower.dtype
    error = torch.as_tensor(error, device=lower.device).to(dtype) * SPARE + 4 * smallest(dtype)
    ulps = 8 * unit(dtype)
    return Interval(lower - error - ulps * lower.abs(), upper + error + ulps * upper.abs())


def cast_out(known: Interval, dtype: torch.dtype) -> Interval:
    """The interval in another precision, rounded outwards."""
    return Interval(-cast_up(-known.lower, dtype), cast_up(known.upper, dtype))


def cast_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in another precision, none below what it was."""
    if values.dtype == dtype:
        return values
    rounded = values.to(dtype)
    above = rounded.nextafter(torch.full_like(rounded, torch.inf))
    return torch.where(rounded.to(values.dtype) < values, above, rounded)
