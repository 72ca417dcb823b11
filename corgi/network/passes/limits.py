"""Drop limits of Clip that no image reaches: exporters write the end of the float32 range for "no limit".

requires: a converted network.
ensures: the same function of images up to `LARGEST_PIXEL`; a limit is dropped only where the value before it
is smaller in magnitude, whatever the image is. That magnitude is bounded layer by layer: by the layer of all
absolute values, or by what the layer's values can be at most.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.network import layers
from corgi.network.convert import Converted

LARGE_LIMIT = 2.0**20
"""Limits up to here are left alone: subtracting one from a value costs float64 nothing that matters."""

LARGEST_PIXEL = 2.0**10
"""Magnitude of pixels: those of images are at most 1, smoothing adds noise."""

_OWN_ERROR = 1.01
"""Magnitudes are sums of non-negative terms, so their relative error in float64 is far below 1%."""

_MONOTONE = (
    layers.Relu, layers.LeakyRelu, layers.PRelu, layers.MaxPool, layers.AveragePool, layers.Reduction,
    layers.Concat, layers.Slice, layers.Channels, layers.Reshape, layers.Transpose, layers.Identity,
    layers.Pad, layers.Take,
)  # fmt: skip
"""Layers whose outputs are at most, in magnitude, what they make of the magnitudes."""

_WITHIN_ONE = (layers.Sigmoid, layers.Tanh, layers.Erf, layers.HardSigmoid, layers.Softmax)


def without_unreached_limits(found: Converted) -> Converted:
    """The network without limits beyond `LARGE_LIMIT` that no image in [0, 1] reaches."""
    clips = [step.layer for step in found.module.steps if isinstance(step.layer, layers.Clip)]
    if not any(LARGE_LIMIT < abs(limit) < math.inf for clip in clips for limit in (clip.low, clip.high)):
        return found
    magnitudes = found.module.with_layers(_Magnitude)
    with torch.no_grad():
        shape = found.shapes[found.module.input_name]
        magnitudes(torch.full(shape, LARGEST_PIXEL, dtype=torch.float64))
    reach = {id(m.layer): m.reach for m in magnitudes.layers if isinstance(m, _Magnitude)}

    def within(layer: nn.Module) -> nn.Module:
        if not isinstance(layer, layers.Clip):
            return layer
        largest = max(LARGE_LIMIT, _OWN_ERROR * reach[id(layer)])
        low = -math.inf if layer.low < -largest else layer.low
        return layers.Clip(low, math.inf if layer.high > largest else layer.high)

    return replace(found, module=found.module.with_layers(within))


class _Magnitude(nn.Module):
    """A layer on magnitudes: m bounds |x| element by element, and what it returns bounds |layer(x)|.

    reach: the largest magnitude it was given.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.reach = layer, math.inf

    def forward(self, *given: Tensor) -> Tensor:
        """Shapes as the layer has them."""
        (m, *others), layer = given, self.layer
        self.reach = float(m.nan_to_num(torch.inf, torch.inf).max())
        match layer:
            case layers.Conv():
                weight, bias = layer.weight.abs(), layer.bias.abs()
                return F.conv2d(m, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
            case layers.Affine():
                return m * layer.scale.abs() + layer.shift.abs()
            case layers.Linear():
                return m @ layer.weight.abs() + layer.bias.abs()
            case layers.Clip(low=low, high=high):
                return m.clamp(min=max(low, -high)).clamp(max=max(abs(low), abs(high)))
            case layers.Add() | layers.Sub():
                return sum(others, m)
            case layers.Mul():
                return math.prod(others, start=m)
            case layers.Curve():
                at_zero: Tensor = layer(torch.zeros_like(m))
                return m * layer.steepest + at_zero.abs()
        made: Tensor = layer(*given)
        if isinstance(layer, _MONOTONE):
            return made.abs()  # what Pad puts around a value may be negative
        return torch.ones_like(made) if isinstance(layer, _WITHIN_ONE) else torch.full_like(made, torch.inf)
