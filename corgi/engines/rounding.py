"""An a-priori bound on the float64 rounding error of a bound of the map (theory 5; docs/theory.md).

With u = 2^-53, n the accumulated operation count along the deepest path, gamma_n = n u / (1 - n u),
M the map's value when every weight and every pixel is replaced by its largest magnitude over the pixel box,
and A the number of activations on the deepest path:

    |computed bound - bound in real arithmetic| <= gamma_n (1 + A)^2 M.

One factor (1 + A) counts the intercepts a backward pass collects (one an activation, each at most M in
total); the other counts the activations whose own input bounds were computed with the same error, which
moves a relaxation with slopes in [0, 1] by at most that error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.lowering import explained_class, lower_trunk
from corgi.network import layers
from corgi.network.convert import Step
from corgi.network.network import Network

_UNIT = 2.0**-53
_ACTIVATION_OPS = 16
"""Operations spent to relax one activation, generously: slopes, intercepts, one library function."""


@dataclass(frozen=True)
class Magnitude:
    """Largest magnitudes of a value over the pixel box, with what it took to compute it.

    Attributes:
        value: [1, C, h, w] sum of absolute terms.
        operations: n; activations: A; both along the deepest path.
    """

    value: Tensor
    operations: int
    activations: int


def rounding_bound(network: Network, class_id: int) -> Tensor:
    """Bound on the float64 rounding error of any bound of each map pixel: float64 [pixels].

    For the difference of two pixels add both entries.

    Raises:
        EngineError: the trunk cannot be lowered.
    """
    top = _map_magnitude(network, class_id)
    return _gamma(top) * (1 + top.activations) ** 2 * top.value.reshape(-1)


def value_rounding(network: Network, class_id: int) -> float:
    """Bound on the float64 rounding error of the map's own value at any image, over all pixels.

    Forward evaluation relaxes nothing, so the factors (1 + A) are 1.

    Raises:
        EngineError: the trunk cannot be lowered.
    """
    top = _map_magnitude(network, class_id)
    return float(_gamma(top) * top.value.max())


def _gamma(magnitude: Magnitude) -> float:
    """gamma_n, doubled: the magnitudes were themselves computed in float64."""
    n = magnitude.operations * _UNIT
    return 2 * n / (1 - n)


def _map_magnitude(network: Network, class_id: int) -> Magnitude:
    plain = lower_trunk(network)
    ones = torch.ones(1, *network.input_shape, dtype=torch.float64)
    # Pixels lie in [0, 1]; rounding the box and taking its centre and half-width costs four operations.
    values = {plain.input_name: Magnitude(ones, 4, 0)}
    for step in plain.steps:
        values[step.output] = _through(step, [values[name] for name in step.inputs])
    return _through_conv(explained_class(network, class_id), values[plain.output_name])


def _through(step: Step, inputs: list[Magnitude]) -> Magnitude:
    operations = max(i.operations for i in inputs)
    activations = max(i.activations for i in inputs)
    match step.layer:
        case layers.Conv():
            return _through_conv(step.layer, inputs[0])
        case layers.Add() | layers.Sub():
            return Magnitude(inputs[0].value + inputs[1].value, operations + 1, activations)
        case layers.Concat():
            return Magnitude(torch.cat([i.value for i in inputs], 1), operations, activations)
        case layers.Relu():
            return Magnitude(inputs[0].value, operations + _ACTIVATION_OPS, activations + 1)
    # Sigmoid and tanh: slopes at most 1, values at most 1, so input magnitude plus one bounds both.
    return Magnitude(inputs[0].value + 1, operations + _ACTIVATION_OPS, activations + 1)


def _through_conv(conv: layers.Conv, value: Magnitude) -> Magnitude:
    terms = int((conv.weight != 0).sum((1, 2, 3)).max()) + 1
    magnitude = F.conv2d(value.value, conv.weight.abs(), conv.bias.abs(), conv.stride, conv.padding)
    return Magnitude(magnitude, value.operations + terms, value.activations)
