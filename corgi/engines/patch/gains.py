"""Euclidean norms of deviations, layer by layer: what intervals lose in a deep network, norms keep.

Interval arithmetic multiplies deviations by the sum of absolute weights, some 10 to 30 a layer, so after ten
layers even rounding fills the intervals. Over the same ball |d|_2 only grows by the largest singular value,

    |W d|_2 <= |W|_2 |d|_2,    and one unit obeys    |w . d| <= |w|_2 |d|_2   (Cauchy-Schwarz),

d restricted to what the unit reads. Neither replaces the other: intervals win in the first layers, where one
unit reads few others.

The largest singular value of a convolution. Zero padding and borders are restrictions of the convolution on
all of Z^2, whose norm is sup |F(t)|_2 over frequencies t in [0, 2 pi)^2, F(t) = sum_k W[k] e^(i k . t);
with a stride, of the same map written on the phases of the input as channels. For unit v, |F(t) v|^2 is a
non-negative trigonometric polynomial of degree at most k - 1 along each axis, and around a maximum M of one
of degree n its values are at least M cos(n (t - t_max)) (M. Riesz). So on a grid of N points an axis

    sup |F|^2 <= max_grid |F|^2 / cos(pi (k_y - 1) / N_y) / cos(pi (k_x - 1) / N_x).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.budget import check
from corgi.engines.patch.intervals import magnitude
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.resample import resample_norm
from corgi.engines.rigour import FAR_RAISED, FOLDING, LOST_ROOT, RAISED, gamma
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.network.rules import spread_dilation
from corgi.types import Interval

_POINTS = 8
"""Grid points an axis for every degree: the cosines cost 8% of the norm."""

_SQUARINGS = 4
"""|G|_2 <= |G^16|_F^(1/16): at most 9% above for 512 channels, the root of it in the norm."""


LIPSCHITZ: dict[type[torch.nn.Module], float] = {layers.Sigmoid: 0.25, layers.Tanh: 1.0}
"""Largest slope of the curves."""


class Gains:
    """Largest singular values of the layers of a graph, computed when first asked for."""

    def __init__(self, graph: TorchGraph) -> None:
        self._layers = {step.output: step.layer for step in graph.steps}
        self._known: dict[str, float] = {}

    def of(self, value: str) -> float:
        """Upper bound of |d_out|_2 / |d_in|_2 of the layer that makes a value, rounding not counted."""
        if value not in self._known:
            self._known[value] = gain(self._layers[value])
        return self._known[value]


def gain(layer: torch.nn.Module) -> float:
    """Lipschitz constant of a layer of one input in the Euclidean norm, an upper bound; inf if unknown."""
    match layer:
        case layers.Conv():
            return convolution_norm(layer)
        case layers.Affine():
            return float(layer.scale.abs().max()) * FAR_RAISED
        case Maximum():
            # |d_y| <= max |d_e| over its elements.
            return math.sqrt(layer.readers) * RAISED
        case layers.Resample():
            return resample_norm(layer)
        case layers.Curve():
            return layer.steepest * RAISED
    return LIPSCHITZ.get(type(layer), math.inf)


def convolution_norm(conv: layers.Conv) -> float:
    """Upper bound of the largest singular value of a convolution, bias aside.

    Groups read and write channels of their own, so the norm of all is that of the largest.
    """
    spread = spread_dilation(conv.weight, conv.dilation).cpu().to(torch.float64)
    kernel = _phases(spread, conv.stride)
    kernel = kernel.reshape(conv.groups, -1, *kernel.shape[1:])
    # By a power of two, so that no square in float32 overflows or is lost; exact, and taken back at the end.
    scale = 2.0 ** math.frexp(float(kernel.abs().max()))[1] if kernel.numel() else 0.0
    if scale == 0 or not math.isfinite(scale) or not bool((kernel != 0).any()):
        return 0.0 if not bool((kernel != 0).any()) else math.inf
    kernel = kernel / scale
    degrees = [side - 1 for side in kernel.shape[3:]]
    points = [_POINTS * degree or 1 for degree in degrees]
    narrow = kernel.shape[1] <= kernel.shape[2]
    largest = 0.0
    spectrum = torch.fft.fft(kernel, points[0], dim=3)
    # A real kernel has conjugate values at opposite frequencies: half of them will do.
    for row in range(points[0] // 2 + 1):
        check()
        values = torch.fft.fft(spectrum[:, :, :, row], points[1], dim=3).permute(3, 0, 1, 2).flatten(0, 1)
        values = values if narrow else values.mH
        parts = values.real.to(torch.float32), values.imag.to(torch.float32)
        squared = _squared_norm(*parts)
        if not math.isfinite(squared):  # max() would drop a NaN: nothing is known of the norm
            return math.inf
        largest = max(largest, squared)
    shares = [math.cos(math.pi * degree / count) for degree, count in zip(degrees, points, strict=True)]
    # Weights were folded and rounded, and the transform is off by a few units of its largest terms.
    return scale * math.sqrt(largest / (shares[0] * shares[1])) * FAR_RAISED


def _phases(kernel: Tensor, stride: tuple[int, int]) -> Tensor:
    """The kernel [O, C, kh, kw] on the phases of its input, without stride: [O, C sy sx, h, w]."""
    (sy, sx), (out, channels, kh, kw) = stride, kernel.shape
    padded = F.pad(kernel, (0, -kw % sx, 0, -kh % sy))
    split = padded.reshape(out, channels, padded.shape[2] // sy, sy, padded.shape[3] // sx, sx)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(out, channels * sy * sx, split.shape[2], split.shape[4])


def _squared_norm(real: Tensor, imaginary: Tensor) -> float:
    """Upper bound of |A|_2^2 over matrices A, given by real and imaginary parts, float32 [N, rows, columns].

    With H_0 = A A^* and H_{i+1} = H_i^2, |H_i|_2 = sqrt(|H_{i+1}|_2), and the last one is at most its
    Frobenius norm. H = S + i T with S symmetric and T antisymmetric, so both products take three real ones.
    What is computed is off by at most sqrt(2) gamma |H|_F^2 in the Frobenius norm (sums of 2 n products and a
    difference); each H is scaled to |H|_F = 1 first, which is one rounding more.
    """
    size = _frobenius(real, imaginary)
    errors, scales = [1.5 * gamma(2 * real.shape[2] + 4, torch.float32) * size.square()], []
    mixed = imaginary @ real.mT
    real, imaginary = real @ real.mT + imaginary @ imaginary.mT, mixed - mixed.mT
    for _ in range(_SQUARINGS):
        size = _frobenius(real, imaginary).clamp(min=torch.finfo(torch.float32).tiny)
        scales.append(size)
        real, imaginary = (part / size.to(torch.float32)[:, None, None] for part in (real, imaginary))
        mixed = real @ imaginary
        real, imaginary = real @ real - imaginary @ imaginary, mixed - mixed.mT
        errors.append(torch.full_like(size, 1.5 * gamma(2 * real.shape[1] + 16, torch.float32)))
    bound = _frobenius(real, imaginary)
    for error, scale in zip(reversed(errors[1:]), reversed(scales), strict=True):
        bound = scale * (bound + error).sqrt() * FAR_RAISED
    return float((bound + errors[0]).max())


def _frobenius(real: Tensor, imaginary: Tensor) -> Tensor:
    """Frobenius norms of matrices, rounded up: float64 [N]."""
    parts = (torch.linalg.vector_norm(part, dim=(1, 2), dtype=torch.float64) for part in (real, imaginary))
    return torch.hypot(*parts) * RAISED


def euclidean(known: Interval) -> Tensor:
    """Largest Euclidean norm of deviations in an interval: float64 [B]."""
    return magnitude(known).to(torch.float64).square().sum((1, 2, 3)).sqrt() * FAR_RAISED + LOST_ROOT


def norm_step(step: Step, inputs: list[Tensor], error: Tensor, size: tuple[int, int], gains: Gains) -> Tensor:
    """Largest Euclidean norm of a step's output over the balls: float64 [B].

    Args:
        step: the step.
        inputs: the norms of its inputs, each [B].
        error: `Centre.error` of the output, [B, C].
        size: height and width of the output.
        gains: singular values.
    """
    match step.layer:
        case layers.Add() | layers.Sub():
            total = inputs[0] + inputs[1]
        case layers.Mul():  # of its operands (`product_norm`)
            total = inputs[0]
        case layers.Concat():
            total = torch.stack(inputs).square().sum(0).sqrt()
        case _:
            total = gains.of(step.output) * inputs[0]
    return (total + (error.square().sum(1) * size[0] * size[1]).sqrt()) * RAISED


def conv_reach(conv: layers.Conv, known: Interval, norm: Tensor, error: Tensor) -> Tensor:
    """How far one unit of a convolution can deviate, by what it reads: float64 [B, C, H, W].

    Args:
        conv: the convolution.
        known: deviations of its input.
        norm: their Euclidean norm over the balls, [B].
        error: `Centre.error` of the output, [B, C].
    """
    squares = magnitude(known).to(torch.float64).square().sum(1, keepdim=True)
    ones = torch.ones(1, 1, *conv.weight.shape[2:], dtype=torch.float64, device=squares.device)
    read = (
        F.conv2d(squares, ones, None, conv.stride, conv.padding, conv.dilation).clamp(min=0).sqrt()
        + LOST_ROOT
    )
    read = torch.fmin(read, norm[:, None, None, None])
    length = conv.weight.to(torch.float64).square().sum((1, 2, 3)).sqrt()
    share = 1 + gamma(conv.weight[0].numel() + FOLDING + 16, torch.float64) + (FAR_RAISED - 1)
    return (read * length[:, None, None] + error[:, :, None, None]) * share
