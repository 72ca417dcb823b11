"""Two lines around every activation: lower <= f(z) <= upper on [l, u] (CROWN, Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from corgi.network import layers

Function = Callable[[Tensor], Tensor]

_HALVINGS = 40


@dataclass(frozen=True)
class Lines:
    """lower_slope z + lower_shift <= f(z) <= upper_slope z + upper_shift; [C, H, W], slopes in [0, 1]."""

    lower_slope: Tensor
    lower_shift: Tensor
    upper_slope: Tensor
    upper_shift: Tensor

    def stacked(self) -> Tensor:
        """The four fields as channels, [4 C, H, W]: one window serves them all."""
        return torch.cat([self.lower_slope, self.lower_shift, self.upper_slope, self.upper_shift])


def relax(layer: nn.Module, lower: Tensor, upper: Tensor) -> Lines:
    """The lines of an activation on [lower, upper]."""
    match layer:
        case layers.Relu():
            return relax_relu(lower, upper)
        case layers.Sigmoid():
            return relax_s_shape(torch.sigmoid, _sigmoid_slope, lower, upper)
        case layers.Tanh():
            return relax_s_shape(torch.tanh, _tanh_slope, lower, upper)
    raise TypeError(f"no relaxation of {type(layer).__name__}")


def relax_relu(lower: Tensor, upper: Tensor) -> Lines:
    """Upper: the chord from (l, 0) to (u, u). Lower: z or 0, whichever leaves the smaller area."""
    unstable = (lower < 0) & (upper > 0)
    active = (lower >= 0).to(lower.dtype)
    width = torch.where(unstable, upper - lower, 1)
    chord = torch.where(unstable, upper / width, active)
    shift = torch.where(unstable, -lower * chord, 0)
    kept = torch.where(unstable, (upper >= -lower).to(lower.dtype), active)
    # Of an input that nothing is known of (NaN) there is no line: NaN makes every row through it vacuous.
    unknown = torch.where(lower <= upper, 0.0, torch.nan).to(lower.dtype)
    return Lines(kept + unknown, unknown, chord + unknown, shift + unknown)


def relax_s_shape(function: Function, slope: Function, lower: Tensor, upper: Tensor) -> Lines:
    """An odd-around-0 S curve: convex below 0, concave above, slope greatest at 0.

    The upper line: where f is concave on [l, u], the tangent in the middle; where the chord lies above f, the
    chord; else the tangent that passes through (l, f(l)). The lower line is the upper one of the mirrored
    curve.
    """
    up_slope, up_shift = _upper_line(function, slope, lower, upper)
    # g(z) = 2 f(0) - f(-z) = f(z) for sigmoid and tanh, so f >= line on [l, u] iff f(-z) <= 2 f(0) - line.
    middle = 2 * function(torch.zeros_like(lower))
    low_slope, mirrored = _upper_line(function, slope, -upper, -lower)
    return Lines(low_slope, middle - mirrored, up_slope, up_shift)


def _upper_line(function: Function, slope: Function, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    at_lower, width = function(lower), upper - lower
    point = width < 1e-6  # no chord through rounding noise: the slope at an end bounds it from above instead
    chord = torch.where(point, 0, (function(upper) - at_lower) / torch.where(point, 1, width))
    # The tangent at d >= 0 passes above (l, f(l)) iff f(d) + f'(d) (l - d) - f(l) >= 0, which grows with d.
    low, high = lower.clamp(min=0), torch.maximum(upper, lower.clamp(min=0))
    reaches = function(high) + slope(high) * (lower - high) >= at_lower
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = function(middle) + slope(middle) * (lower - middle) >= at_lower
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    touch = torch.where(lower >= 0, (lower + upper) / 2, high)
    tangent = slope(touch)
    by_tangent = ((lower >= 0) | reaches) & ~point
    slopes = torch.where(by_tangent, tangent, chord)
    shifts = torch.where(by_tangent, function(touch) - tangent * touch, at_lower - chord * lower)
    # A point-like interval: the constant f(u), since f grows.
    return slopes, torch.where(point, function(upper), shifts)


def _sigmoid_slope(z: Tensor) -> Tensor:
    value = torch.sigmoid(z)
    return value * (1 - value)


def _tanh_slope(z: Tensor) -> Tensor:
    return 1 - torch.tanh(z) ** 2
