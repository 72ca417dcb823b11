"""Networks evaluated without rounding.

Every float is an integer times a power of two, so values are kept as whole numbers n and one exponent:
n / 2^scale. Sums, products and maxima of such are exact; curved activations are right to 57 digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from corgi.engines.patch.prepare import Maximum
from corgi.network import layers
from corgi.network.convert import TorchGraph

_BITS = 400
_CURVE_SCALE = 190  # 2^-190 < 10^-57


@dataclass(frozen=True)
class Exact:
    """Numbers n / 2^scale, `numbers` an array of Python integers."""

    numbers: NDArray[Any]
    scale: int

    def to(self, scale: int) -> NDArray[Any]:
        """The integers on a finer scale."""
        return self.numbers * (1 << (scale - self.scale))

    def __add__(self, other: Exact) -> Exact:
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other: Exact) -> Exact:
        return self._with(other, lambda a, b: a - b)

    def __mul__(self, other: Exact) -> Exact:
        return Exact(self.numbers * other.numbers, self.scale + other.scale)

    def __getitem__(self, index: Any) -> Exact:
        return Exact(np.asarray(self.numbers[index], dtype=object), self.scale)

    def _with(self, other: Exact, combined: Callable[[Any, Any], Any]) -> Exact:
        scale = max(self.scale, other.scale)
        return Exact(combined(self.to(scale), other.to(scale)), scale)

    def float(self) -> Tensor:
        """Rounded to float64."""
        flat = [n / (1 << self.scale) for n in self.numbers.flat]  # division of integers rounds once
        return torch.tensor(flat, dtype=torch.float64).reshape(self.numbers.shape)


def exact(values: Tensor) -> Exact:
    """Finite floats as they are."""
    parts = [math.frexp(v) for v in values.detach().to(torch.float64).flatten().tolist()]
    scale = max([0, *(53 - e for m, e in parts if m)])
    flat = np.empty(len(parts), dtype=object)
    flat[:] = [int(m * 2**53) << (e - 53 + scale) if m else 0 for m, e in parts]
    return Exact(flat.reshape(tuple(values.shape)), scale)


def at_most(bound: Tensor, value: Exact) -> bool:
    """Whether bound <= value everywhere; -inf always is, NaN and inf never are."""
    if bool((bound.isnan() | (bound == torch.inf)).any()):
        return False
    known = torch.isfinite(bound)
    low = exact(torch.where(known, bound, 0))
    scale = max(low.scale, value.scale)
    return bool((~known.numpy() | (low.to(scale) <= value.to(scale))).all())


def at_least(bound: Tensor, value: Exact) -> bool:
    """Whether bound >= value everywhere."""
    return at_most(-bound, Exact(-value.numbers, value.scale))


def values(graph: TorchGraph, image: Tensor) -> Mapping[str, Exact]:
    """All values of a network at one image [C, H, W], each [C, H, W]."""
    found = {graph.input_name: exact(image)}
    for step in graph.steps:
        found[step.output] = step_value(step.layer, [found[name] for name in step.inputs])
    return found


def cam(graph: TorchGraph, weight: Tensor, image: Tensor) -> Exact:
    """The map of one image: sum_k w_k f_k, [pixels]."""
    features = values(graph, image)[graph.output_name]
    flat = Exact(features.numbers.reshape(len(features.numbers), -1), features.scale)
    terms = exact(weight.reshape(-1, 1)) * flat
    return Exact(terms.numbers.sum(0), terms.scale)


def step_value(layer: nn.Module, inputs: list[Exact]) -> Exact:
    """What a layer makes of values [C, H, W] of one image."""
    first = inputs[0]
    match layer:
        case layers.Conv():
            return conv(first, layer)
        case layers.Affine():
            return first * exact(layer.scale) + exact(layer.shift)
        case layers.Resample():
            return _resampled(first, layer)
        case layers.Add():
            return first + inputs[1]
        case layers.Sub():
            return first - inputs[1]
        case layers.Mul():
            return first * inputs[1]
        case layers.Concat():
            scale = max(i.scale for i in inputs)
            return Exact(np.concatenate([i.to(scale) for i in inputs]), scale)
        case layers.Relu():
            return Exact(np.maximum(first.numbers, 0), first.scale)
        case Maximum():
            return _maximum(first, layer)
        case layers.Sigmoid() | layers.Tanh() | layers.Curve() | layers.Power():
            return _curve(first, layer)
        case layers.Identity():
            return first
    raise TypeError(f"no exact rule for {type(layer).__name__}")


def conv(value: Exact, layer: layers.Conv) -> Exact:
    """A convolution of [C, H, W]: [C', H', W']."""
    (py, px), (sy, sx), (dy, dx) = layer.padding, layer.stride, layer.dilation
    padded = _padded(value.numbers, (py, px, py, px), 0)
    weight, bias = exact(layer.weight), exact(layer.bias)
    out, per_group, kh, kw = weight.numbers.shape
    high = (padded.shape[1] - (kh - 1) * dy - 1) // sy + 1
    wide = (padded.shape[2] - (kw - 1) * dx - 1) // sx + 1
    total = np.zeros((out, high, wide), dtype=object)
    for o, c, y, x in zip(*np.nonzero(weight.numbers), strict=True):
        first_y, first_x = y * dy, x * dx
        channel = o // (out // layer.groups) * per_group + c
        taken = padded[channel, first_y : first_y + (high - 1) * sy + 1 : sy]
        total[o] += weight.numbers[o, c, y, x] * taken[:, first_x : first_x + (wide - 1) * sx + 1 : sx]
    return Exact(total, value.scale + weight.scale) + bias[:, None, None]


def _resampled(value: Exact, layer: layers.Resample) -> Exact:
    rows, columns = exact(layer.rows), exact(layer.columns)
    numbers = [rows.numbers.dot(channel).dot(columns.numbers.T) for channel in value.numbers]
    return Exact(np.stack(numbers), value.scale + rows.scale + columns.scale)


def _padded(numbers: NDArray[Any], pads: tuple[int, int, int, int], fill: int | None) -> NDArray[Any]:
    """numpy.pad would fill with int64, which overflows."""
    top, left, bottom, right = pads
    channels, height, width = numbers.shape
    padded = np.full((channels, top + height + bottom, left + width + right), fill, dtype=object)
    padded[:, top : top + height, left : left + width] = numbers
    return padded


def _maximum(value: Exact, layer: Maximum) -> Exact:
    padded, channels = _padded(value.numbers, layer.pads, None), len(value.numbers)
    high = (padded.shape[1] - layer.reach[0]) // layer.stride[0] + 1
    wide = (padded.shape[2] - layer.reach[1]) // layer.stride[1] + 1
    largest = np.empty((channels, high, wide), dtype=object)
    for c, y, x in np.ndindex(largest.shape):
        at_y, at_x = y * layer.stride[0], x * layer.stride[1]
        window = [padded[c, at_y + down, at_x + across] for down, across in layer.offsets]
        largest[c, y, x] = max([n for n in window if n is not None] + [0] * layer.zero)
    return Exact(largest, value.scale)


def _curve(value: Exact, layer: nn.Module) -> Exact:
    found = np.empty(value.numbers.shape, dtype=object)
    with mpmath.workprec(_BITS + value.scale):
        for index in np.ndindex(found.shape):
            z = mpmath.ldexp(mpmath.mpf(value.numbers[index]), -value.scale)
            found[index] = int(mpmath.nint(mpmath.ldexp(curve(layer, z), _CURVE_SCALE)))
    return Exact(found, _CURVE_SCALE)


def curve(layer: nn.Module, z: Any) -> Any:
    """A curved activation of one number, in mpmath's present precision."""
    match layer:
        case layers.Sigmoid():
            return _sigmoid(z)
        case layers.Tanh():
            return 2 * _sigmoid(2 * z) - 1
        case layers.Power():
            return z**layer.exponent
        case layers.Silu():
            return layer.factor * z * _sigmoid(layer.beta * z)
        case layers.Gelu():
            return layer.factor * z * mpmath.erfc(-layer.scale * z)
        case layers.TanhGelu():
            return 2 * layer.factor * z * _sigmoid(2 * (layer.linear * z + layer.cubic * z**3))
        case layers.HardSwish():
            gate = layer.alpha * z + layer.beta
            return layer.factor * z * min(max(gate, mpmath.mpf(0)), mpmath.mpf(1))
        case layers.Elu():
            return layer.scale * (z if z > 0 else layer.alpha * mpmath.expm1(layer.rate * z))
        case layers.Softplus():
            return max(z, mpmath.mpf(0)) + mpmath.log1p(mpmath.exp(-abs(z)))
    raise TypeError(f"no exact rule for {type(layer).__name__}")


def _sigmoid(z: Any) -> Any:
    # Beyond 500 it is flat to all digits kept.
    return 1 / (1 + mpmath.exp(-max(min(z, mpmath.mpf(500)), mpmath.mpf(-500))))
