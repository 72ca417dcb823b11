"""Lines and ranges of activations that are neither S-shaped nor piecewise linear: SiLU, GELU, ELU and so on.

Let [l, u] be cut at points p_0 = l, ..., p_n = u, the kinks of f among them, and |f''| <= M_i between p_i and
p_i+1. There f leaves its chord by at most e_i = M_i (p_i+1 - p_i)^2 / 8. So

    a line above all points (p_i, f(p_i) + max(e_i-1, e_i)) is above f on [l, u],

because on each piece it is above the raised chord; and likewise below. Of the lines with a given slope the
lowest is known at once, and how high it is in the middle of [l, u] is convex in the slope: bisection finds
the best one. The points lie densely around 0 and further apart outwards, where these functions become
straight: M_i falls exponentially, so wide intervals keep good lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.engines.rigour import unit
from corgi.network import layers

_PIECES = 32
_HALVINGS = 12
_CHUNK = 2**12
"""Units that are relaxed at once: what is known of them fits a cache."""

_ULPS = 64
"""Units of 1 + steepest |z| that a computed f(z) may be off by, generously. One library function and its
operations make less than 16. Constants count as rounded 12 times; if all of them change by a share, f(z)
changes by at most 4 steepest |z| times that share (most for HardSwish: its gate moves by 2 + 2 |beta|)."""

_SILU_TURN = -1.2784645427610738
"""Where t sigmoid(t) is least: 1 + exp(-t) + t exp(-t) = 0."""

_GELU_TURN = -0.5315968851493852
"""Where t (1 + erf(t)) is least: 1 + erf(t) + 2 t exp(-t^2) / sqrt(pi) = 0."""


@dataclass(frozen=True)
class _Shape:
    """What is known of a function f.

    Attributes:
        bend: bound of |f''| between two points where f is bent.
        length: on which scale f bends around 0.
        turns: where f may change between growing and falling.
        first, last: where f begins and ends to be bent; it is straight outside, and kinks are here only.
    """

    bend: Callable[[Tensor, Tensor], Tensor]
    length: float = 1.0
    turns: tuple[float, ...] = ()
    first: float = -math.inf
    last: float = math.inf


def _shape(layer: layers.Curve) -> _Shape:
    match layer:
        case layers.Silu():
            # With t = beta z: f'' = factor beta s'(t) (2 - t tanh(t / 2)), s' the slope of sigmoid; so
            # |f''| <= |factor beta| s'(t) max(2, |t|), which falls as |t| grows.
            rate, factor = abs(layer.beta), abs(layer.factor * layer.beta)

            def silu(a: Tensor, b: Tensor) -> Tensor:
                t = rate * _nearest(a, b)
                return factor * _sigmoid_slope(t) * t.clamp(min=2)

            return _Shape(silu, 1 / rate, (_SILU_TURN / layer.beta,))
        case layers.Gelu():
            # With t = scale z: f'' = factor scale 4 / sqrt(pi) exp(-t^2) (1 - t^2), where |1 - t^2| is at
            # most max(1, t^2); the product falls as |t| grows.
            rate, factor = abs(layer.scale), abs(layer.factor * layer.scale) * 4 / math.sqrt(math.pi)

            def gelu(a: Tensor, b: Tensor) -> Tensor:
                t = (rate * _nearest(a, b)).clamp(max=30)  # exp(-900) is 0, and t^2 stays finite
                return factor * torch.exp(-(t**2)) * (t**2).clamp(min=1)

            return _Shape(gelu, 1 / rate, (_GELU_TURN / layer.scale,))
        case layers.TanhGelu():
            return _tanh_gelu(layer)
        case layers.HardSwish():
            # Quadratic between its kinks.
            first, last = -layer.beta / layer.alpha, (1 - layer.beta) / layer.alpha
            turn, twice = -layer.beta / (2 * layer.alpha), abs(2 * layer.factor * layer.alpha)
            return _Shape(
                lambda a, b: torch.full_like(a, twice), 1 / layer.alpha, (first, turn, last), first, last
            )
        case layers.Elu():
            # f'' = scale alpha rate^2 exp(rate z) below 0, which grows.
            rate, factor = layer.rate, layer.scale * layer.alpha * layer.rate**2
            return _Shape(lambda a, b: factor * torch.exp(rate * b.clamp(max=0)), 1 / rate, last=0.0)
        case layers.Softplus():
            # f'' is the slope of sigmoid, which falls as |z| grows.
            return _Shape(lambda a, b: _sigmoid_slope(_nearest(a, b)))
    raise TypeError(f"no rule for {type(layer).__name__}")


def _tanh_gelu(layer: layers.TanhGelu) -> _Shape:
    """TanhGelu, with q = linear x + cubic x^3, T = tanh(q) and S = 1 - T^2.

        f' = factor (1 + T + x q' S),    f'' = factor S (2 q' + x q'' - 2 x q'^2 T),

    and as x T >= 0, |f''| <= |factor| S max(A, B) with A = 2 q' + x q'' and B = 2 |x| q'^2. S falls, A and B
    grow with |x|. The logarithms of A and B grow by at most 5 / |x|, and that of S falls by 2 T q', which is
    at least 2 T q / x: from q = 2.6 on both products fall. So on a piece of |x| from a to b both are at most
    S at a times A and B at b; and where b lies beyond, times A and B at max(a, 2.6 / linear), where q >= 2.6.
    """
    linear, cubic, factor = layer.linear, layer.cubic, abs(layer.factor)
    falls, flat = 2.6 / linear, 400 / linear  # from `flat` on S is 0, and powers stay finite

    def bend(a: Tensor, b: Tensor) -> Tensor:
        near = _nearest(a, b).clamp(max=flat)
        far = torch.maximum(torch.maximum(a.abs(), b.abs()).clamp(max=falls), near)
        slope = linear + 3 * cubic * far**2
        most = torch.maximum(2 * linear + 12 * cubic * far**2, 2 * far * slope**2)
        return factor * 4 * _sigmoid_slope(2 * near * (linear + cubic * near**2)) * most

    # For x < 0, f' = 0 where x q' (1 - T) = -1, whose left side grows: halving finds the place.
    low, high = -falls, 0.0
    for _ in range(60):
        x = (low + high) / 2
        argument = x * (linear + cubic * x * x)
        before = x * (linear + 3 * cubic * x * x) * (1 - math.tanh(argument)) < -1
        low, high = (x, high) if before else (low, x)
    return _Shape(bend, 1 / linear, (low,))


def function_error(layer: layers.Curve, size: Tensor) -> Tensor:
    """By how much float64 may miss f(z), where |z| <= size, and what rounding z adds to that."""
    return _ULPS * unit(torch.float64) * (1 + layer.steepest * size)


def value_range(layer: layers.Curve, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest f on [lower, upper], float64, up to `function_error`.

    Between two turns f is monotone, so one of the ends and turns is the place.
    """
    points = [lower, upper, *(_clamped(turn, lower, upper) for turn in _shape(layer).turns)]
    values = torch.stack([layer(p) for p in points])
    return values.amin(0), values.amax(0)


def relax_curve(layer: layers.Curve, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slope and shift of a line below f on [lower, upper], then of one above, float64.

    `function_error` is allowed for, rounding of the lines themselves is not. NaN where nothing is known.
    """
    shape = _shape(layer)
    parts = [
        torch.stack(_lines(layer, shape, low, high))
        for low, high in zip(*(torch.split(v.flatten(), _CHUNK) for v in (lower, upper)), strict=True)
    ]
    low, low_shift, up, up_shift = torch.cat(parts, 1).reshape(4, *lower.shape)
    return low, low_shift, up, up_shift


def _lines(
    layer: layers.Curve, shape: _Shape, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    bent = _points(shape, lower, upper)
    points = torch.cat([lower[None], bent, upper[None]])
    values, widths = layer(points), points.diff(dim=0)
    # 1.0001: rounding of this product, and points that rounding puts in the wrong order.
    off = 1.0001 * shape.bend(bent[:-1], bent[1:]) * widths[1:-1] ** 2 / 8
    none = torch.zeros_like(points[:2])
    margin = torch.maximum(torch.cat([none, off, none[:1]]), torch.cat([none[:1], off, none]))
    margin = margin + function_error(layer, points.abs())
    secants, steepest = values.diff(dim=0) / widths, layer.steepest
    least = torch.where(widths > 0, secants, torch.inf).amin(0).clamp(-steepest, steepest)
    most = torch.where(widths > 0, secants, -torch.inf).amax(0).clamp(-steepest, steepest)
    up, up_shift = _line_above(points, values + margin, least, most)
    low, low_shift = _line_above(points, margin - values, -most, -least)
    return -low, -low_shift, up, up_shift


def _points(shape: _Shape, lower: Tensor, upper: Tensor) -> Tensor:
    """Points [n + 1, units] over the part of [lower, upper] where f is bent, even in asinh(z / length)."""
    first, last = (_clamped(kink, lower, upper) for kink in (shape.first, shape.last))
    share = torch.linspace(0, 1, _PIECES + 1, dtype=lower.dtype, device=lower.device)[1:-1, None]
    start, end = torch.asinh(first / shape.length), torch.asinh(last / shape.length)
    inner = _clamped(shape.length * torch.sinh(start + share * (end - start)), first, last)
    return torch.cat([first[None], inner, last[None]])


def _line_above(points: Tensor, heights: Tensor, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """The line above all points that is lowest in the middle, its slope between two limits.

    If the point that the line of some slope rests on lies right of the middle, a steeper one is lower there.
    """
    right = points > (points[0] + points[-1]) / 2
    rights, lefts = (torch.where(side, heights, -torch.inf) for side in (right, ~right))
    for _ in range(_HALVINGS):
        slope = (least + most) / 2
        across = slope * points
        steeper = (rights - across).amax(0) > (lefts - across).amax(0)
        least, most = torch.where(steeper, slope, least), torch.where(steeper, most, slope)
    slope = (least + most) / 2
    return slope, (heights - slope * points).amax(0)


def _clamped(value: Tensor | float, lower: Tensor, upper: Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=lower.dtype, device=lower.device)
    return torch.minimum(torch.maximum(value, lower), upper)


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    """The distance of [a, b] from 0."""
    return torch.maximum(a, -b).clamp(min=0)


def _sigmoid_slope(t: Tensor) -> Tensor:
    """For t >= 0."""
    decay = torch.exp(-t)
    return decay / (1 + decay) ** 2
