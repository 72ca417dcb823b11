"""An a-priori bound on the float64 rounding error of a bound of the map (theory 5; docs/theory.md section 5).

With u = 2^-53, gamma_n = n u / (1 - n u), n the number of terms a backward pass accumulates for one row,
M the map's value when every weight and every pixel is replaced by its largest magnitude over the pixel box,
and A the number of activations on the deepest path:

    |computed bound - bound in real arithmetic| <= gamma_n (1 + A) (1 + A / 2) M.

(1 + A) M bounds the absolute terms of one backward pass: the expansion itself and one intercept an
activation. Each activation's own input bounds carry the same error with the activations before it counted,
which moves a relaxation with slopes in [0, 1] by at most that much: together
sum_{a=0}^{A} (1 + a) M = (1 + A) (1 + A / 2) M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.lowering import KeepingGroups, explained_class
from corgi.engines.rigour import FOLDING, gamma, unit
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.network.network import Network

UNIT_RATIO = {dtype: unit(dtype) / unit(torch.float64) for dtype in (torch.float64, torch.float32)}
"""Unit roundoff relative to float64's: what scales the bounds below to another precision."""

_ACTIVATION_OPS = 16
"""Operations spent to relax one activation, generously: slopes, intercepts, one library function."""

_CURVE_OPS = 64
"""The same for the activations of `engines/patch/smooth.py`, rounding of their constants included."""


@dataclass(frozen=True)
class Rounding:
    """Bounds on float64 rounding errors for one network and class.

    Attributes:
        pixels: of any bound of each map pixel, [pixels]; for a difference of two pixels add both.
        features: of any bound of any value of the feature map.
        value: of the map's own value at any image, over all pixels (nothing is relaxed: A = 0).
    """

    pixels: Tensor
    features: float
    value: float


@dataclass(frozen=True)
class _Magnitude:
    """Largest magnitudes of a value over the pixel box, with what it takes to bound it.

    value: [1, C, h, w] sum of absolute terms; terms: fan-in or fan-out and activation work along the
    deepest path; activations: A along it.
    """

    value: Tensor
    terms: int
    activations: int


def rounding(network: Network, class_id: int) -> Rounding:
    """Bounds on the rounding errors of everything an engine says of the map of a class.

    Raises:
        EngineError: the trunk cannot be lowered.
    """
    plain = KeepingGroups(network).run()
    values = _magnitudes(network, plain)
    features = values[plain.output_name]
    top = _through_conv(explained_class(network, class_id), features)
    # A difference of two pixels adds up two cones.
    n = top.terms + 2 * _cone_units(top.value, [m.value for m in values.values()])
    # Magnitudes are sums of non-negative numbers, off by far less than the 1% that gamma has to spare.
    share = gamma(n, torch.float64)
    relaxed = (1 + top.activations) * (1 + top.activations / 2)
    with torch.no_grad():
        return Rounding(
            pixels=(share * relaxed * top.value).reshape(-1),
            features=share * relaxed * float(features.value.max()),
            value=share * float(top.value.max()),
        )


def _magnitudes(network: Network, plain: TorchGraph) -> dict[str, _Magnitude]:
    """Magnitudes of all values; pixels lie in [0, 1]."""
    ones = torch.ones(1, *network.input_shape, dtype=torch.float64, requires_grad=True)
    # Rounding the box and taking its centre and half-width costs four operations.
    values = {plain.input_name: _Magnitude(ones, 4, 0)}
    for step in plain.steps:
        values[step.output] = _through(step, [values[name] for name in step.inputs])
    return values


def _cone_units(top: Tensor, values: list[Tensor]) -> int:
    """How many units one map pixel depends on, over all values: what its bias and input sums add up.

    Zeros are added without error. The cone of the middle 3 x 3 pixels holds that of any single pixel up to a
    shift: those at the border are cut, never larger.
    """
    height, width = top.shape[-2:]
    middle = top[..., max(height // 2 - 1, 0) : height // 2 + 2, max(width // 2 - 1, 0) : width // 2 + 2]
    gradients = torch.autograd.grad(middle.sum(), values, allow_unused=True)
    return sum(int((g != 0).sum()) for g in gradients if g is not None)


def _through(step: Step, inputs: list[_Magnitude]) -> _Magnitude:
    terms = max(i.terms for i in inputs)
    activations = max(i.activations for i in inputs)
    match step.layer:
        case layers.Conv():
            return _through_conv(step.layer, inputs[0])
        case layers.Add() | layers.Sub():
            return _Magnitude(inputs[0].value + inputs[1].value, terms + 1, activations)
        case layers.Concat():
            return _Magnitude(torch.cat([i.value for i in inputs], 1), terms, activations)
        case layers.Relu():
            return _Magnitude(inputs[0].value, terms + _ACTIVATION_OPS, activations + 1)
        case layers.Curve():
            # Rounding of the input is passed on by at most `steepest`; |f(z)| <= 1 + steepest |z|.
            steepest = max(1.0, step.layer.steepest)
            return _Magnitude(steepest * inputs[0].value + 1, terms + _CURVE_OPS, activations + 1)
        case layers.Sigmoid() | layers.Tanh():
            # Slopes at most 1, values at most 1, so input magnitude plus one bounds both.
            return _Magnitude(inputs[0].value + 1, terms + _ACTIVATION_OPS, activations + 1)
    raise TypeError(f"no rule for {type(step.layer).__name__}")


def _through_conv(conv: layers.Conv, value: _Magnitude) -> _Magnitude:
    used = conv.weight != 0
    # Forwards a sum runs over the inputs of a unit, backwards over the units an input feeds; the weights were
    # rounded before.
    fans = used.reshape(conv.groups, -1, *used.shape[1:]).sum((1, 3, 4))
    terms = max(int(used.sum((1, 2, 3)).max()), int(fans.max())) + 1 + FOLDING
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    magnitude = F.conv2d(value.value, conv.weight.abs(), conv.bias_magnitude, *options)
    return _Magnitude(magnitude, value.terms + terms, value.activations)
