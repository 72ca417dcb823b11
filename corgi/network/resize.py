"""Resize and Upsample -> the linear map of rows and columns they are.

Per axis, output i stands at a real place x of the input, which the attribute coordinate_transformation_mode
gives (ONNX specification, Resize); `nearest` takes one input for it, `linear` the two around it, both cut to
the input, `cubic` the four around it (Keys 1981). Places are computed in exact fractions of what the file
says: scales are float32 numbers, and where sizes are given instead the scale is the ratio of two sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from corgi.network import layers
from corgi.network.checks import LARGEST_VALUE
from corgi.network.node_reader import NodeReader

_HALF = Fraction(1, 2)

_NEAREST: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda x: math.ceil(x - _HALF),
    "round_prefer_ceil": lambda x: math.floor(x + _HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}

_COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_half_pixel_for_nn",
)  # fmt: skip


@dataclass(frozen=True)
class _Sampling:
    """The attributes that say where outputs stand, and what is taken for them there."""

    mode: str
    coordinates: str = "asymmetric"
    nearest: str = "floor"
    coefficient: Fraction = Fraction(0)

    def matrix(self, size: int, count: int, scale: Fraction) -> Tensor:
        """The map of `size` inputs along an axis to `count` outputs: [count, size]."""
        places = [_place(i, scale, size, count, self.coordinates) for i in range(count)]
        match self.mode:
            case "linear":
                return _linear(places, size)
            case "cubic":
                return _cubic(places, size, self.coefficient)
        return _picked(places, size, _NEAREST[self.nearest])


def resize(node: NodeReader) -> layers.Resample:
    """Resize of height and width; up to opset 10 it has scales alone, and is asymmetric."""
    shape = node.shape()
    mode = node.choice("mode", "nearest", "linear", "cubic")
    if len(shape) != 4:
        node.refuse(f"an operand of rank {len(shape)}", supported="[N, C, H, W]")
    if node.node.op == "Upsample" or len(node.node.inputs) == 2:  # later versions have the scales third
        given = node.tensor(1).tolist() if node.has(1) else node.floats_attribute("scales")
        return _resample(node, [Fraction(scale) for scale in given], None, _Sampling(mode))
    node.require("antialias", 0)
    node.float_attribute("extrapolation_value")  # speaks of tf_crop_and_resize, as the regions do
    node.require("exclude_outside", 0)
    node.choice("keep_aspect_ratio_policy", "stretch")
    if node.has(1):
        node.array(1)
    sampling = _Sampling(
        mode,
        node.choice("coordinate_transformation_mode", *_COORDINATES),
        node.choice("nearest_mode", *_NEAREST),
        Fraction(node.float_attribute("cubic_coeff_a")),
    )
    axes = [axis % 4 for axis in node.ints_attribute("axes") or range(4)]
    scales, sizes = [Fraction(1)] * 4, list(shape)
    # Exporters leave the operand they do not use out, or empty.
    by_size = node.has(3) and node.array(3).size > 0
    given = [] if not node.has(2) else node.tensor(2).tolist()
    if bool(given) == by_size:
        node.refuse("scales and sizes at once, or neither", supported="one of them")
    for axis, number in zip(axes, node.integers(3) if by_size else given, strict=True):
        if by_size:
            sizes[axis], scales[axis] = int(number), Fraction(int(number), shape[axis])
        else:
            scales[axis] = Fraction(number)
    return _resample(node, scales, sizes if by_size else None, sampling)


def _resample(
    node: NodeReader, scales: list[Fraction], sizes: list[int] | None, sampling: _Sampling
) -> layers.Resample:
    shape = node.shape()
    if len(scales) != 4 or scales[:2] != [1, 1] or min(scales) <= 0:
        node.refuse(
            f"scales {[float(scale) for scale in scales]}", supported="four, of height and width alone, > 0"
        )
    # Without sizes an axis of the output has floor(size * scale) entries, the product a float32 number as in
    # onnx's shape inference and onnxruntime: 6 * 0.8333333 is 5 there.
    counts = sizes or [
        math.floor(np.float32(size) * np.float32(scale)) for size, scale in zip(shape, scales, strict=True)
    ]
    if min(counts) < 1 or math.prod(counts) > LARGEST_VALUE:
        node.refuse(f"a value of {counts}", supported=f"1 to {LARGEST_VALUE} elements")
    return layers.Resample(*map(sampling.matrix, shape[2:], counts[2:], scales[2:]))


def _place(i: int, scale: Fraction, size: int, count: int, coordinates: str) -> Fraction:
    """Where output i of `count` stands among `size` inputs."""
    match coordinates:
        case "half_pixel":
            return (i + _HALF) / scale - _HALF
        case "half_pixel_symmetric":
            # The ratio of the length that is there to the one the scale asks for keeps the middle in place.
            adjusted = count / (scale * size)
            return Fraction(size, 2) * (1 - adjusted) + (i + _HALF) / scale - _HALF
        case "pytorch_half_pixel":
            return (i + _HALF) / scale - _HALF if count > 1 else Fraction(0)
        case "align_corners":
            return Fraction(i * (size - 1), count - 1) if count > 1 else Fraction(0)
        case "tf_half_pixel_for_nn":
            return (i + _HALF) / scale
    return i / scale


def _picked(places: list[Fraction], size: int, nearest: Callable[[Fraction], int]) -> Tensor:
    """One input an output: [outputs, inputs]."""
    matrix = torch.zeros(len(places), size, dtype=torch.float64)
    for i, place in enumerate(places):
        matrix[i, min(max(nearest(place), 0), size - 1)] = 1.0
    return matrix


def _linear(places: list[Fraction], size: int) -> Tensor:
    """The two inputs around each output, by its distance to them: [outputs, inputs]."""
    matrix = torch.zeros(len(places), size, dtype=torch.float64)
    for i, place in enumerate(places):
        cut = min(max(place, Fraction(0)), Fraction(size - 1))
        before = math.floor(cut)
        share = cut - before
        matrix[i, before] = float(1 - share)
        if share:
            matrix[i, before + 1] = float(share)
    return matrix


def _cubic(places: list[Fraction], size: int, a: Fraction) -> Tensor:
    """The four inputs around each output, those beyond the ends repeated: [outputs, inputs].

    An input at distance d has the weight (a + 2) d^3 - (a + 3) d^2 + 1 up to 1, and from there to 2
    a d^3 - 5 a d^2 + 8 a d - 4 a.
    """
    matrix = torch.zeros(len(places), size, dtype=torch.float64)
    for i, place in enumerate(places):
        before = math.floor(place)
        weights: dict[int, Fraction] = {}
        for at in range(before - 1, before + 3):
            d = abs(place - at)
            near = ((a + 2) * d - (a + 3)) * d * d + 1
            weight = near if d <= 1 else a * (((d - 5) * d + 8) * d - 4)
            kept = min(max(at, 0), size - 1)
            weights[kept] = weights.get(kept, Fraction(0)) + weight
        for at, weight in weights.items():
            matrix[i, at] = float(weight)
    return matrix
