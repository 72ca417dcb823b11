"""Two lines around an activation: lower <= f(z) <= upper on [l, u] (CROWN, Zhang et al. 2018).

Here those of sigmoid and tanh; others are drawn in smooth.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from corgi.engines.patch.intervals import Centre, cast_up, magnitude
from corgi.engines.patch.power import relax_power
from corgi.engines.patch.smooth import relax_curve
from corgi.engines.rigour import smallest, unit
from corgi.network import layers
from corgi.types import Interval

Function = Callable[[Tensor], Tensor]

_HALVINGS = 40
_ROUNDINGS = 64


@dataclass(frozen=True)
class Lines:
    """lower_slope d + lower_shift <= f(c + d) - f(c) <= upper_slope d + upper_shift.

    All [B, C, H, W], for a centre c and a deviation d (intervals.py).
    """

    lower_slope: Tensor
    lower_shift: Tensor
    upper_slope: Tensor
    upper_shift: Tensor

    def stacked(self) -> Tensor:
        """The four fields as channels, [B, 4 C, H, W]: one window serves them all."""
        return torch.cat([self.lower_slope, self.lower_shift, self.upper_slope, self.upper_shift], 1)


def relax(layer: nn.Module, known: Interval, before: Centre, after: Centre) -> Lines:
    """The lines of an activation of deviations, drawn in float64, with room for rounding."""
    dtype, centre = known.lower.dtype, before.value
    lower = (centre + known.lower).nextafter(torch.full_like(centre, -torch.inf))
    upper = (centre + known.upper).nextafter(torch.full_like(centre, torch.inf))
    # Values and slopes of f are right to a few units of 1 + |z| times the slope (float64).
    size, steepest = torch.maximum(lower.abs(), upper.abs()), torch.ones_like(lower)
    own = _ROUNDINGS * unit(torch.float64) * (1 + size)
    match layer:
        case layers.Sigmoid():
            low, low_shift, up, up_shift = relax_s_shape(torch.sigmoid, _sigmoid_slope, lower, upper)
        case layers.Tanh():
            low, low_shift, up, up_shift = relax_s_shape(torch.tanh, _tanh_slope, lower, upper)
        case layers.Curve():
            steepest = torch.full_like(lower, max(1.0, layer.steepest))
            own = steepest * own
            low, low_shift, up, up_shift = relax_curve(layer, lower, upper)
        case layers.Power():
            low, low_shift, up, up_shift, own = relax_power(layer, lower, upper)
            steepest = torch.maximum(low.abs(), up.abs())
        case _:
            raise TypeError(f"no relaxation of {type(layer).__name__}")
    # The slope in working precision and the products of the pass that uses the lines are off by a few units
    # of |d| times the slope. An input that nothing is known of (NaN, inf) gets NaN or infinite shifts, which
    # make every row through it vacuous.
    error = own + (_ROUNDINGS * unit(dtype) * steepest + 4 * smallest(dtype)) * magnitude(known)
    low_shift, up_shift = low_shift + low * centre - after.value, up_shift + up * centre - after.value
    error = error + _ROUNDINGS * unit(dtype) * torch.maximum(low_shift.abs(), up_shift.abs())
    return Lines(
        low.to(dtype), -cast_up(error - low_shift, dtype), up.to(dtype), cast_up(up_shift + error, dtype)
    )


def relax_s_shape(
    function: Function, slope: Function, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An odd-around-0 S curve: convex below 0, concave above, slope greatest at 0.

    The upper line: where f is concave on [l, u], the tangent in the middle; where the chord lies above f, the
    chord; else the tangent that passes through (l, f(l)). The lower line is the upper one of the mirrored
    curve. Returns slope and shift of the lower line, then of the upper one.
    """
    up_slope, up_shift = _upper_line(function, slope, lower, upper)
    # g(z) = 2 f(0) - f(-z) = f(z) for sigmoid and tanh, so f >= line on [l, u] iff f(-z) <= 2 f(0) - line.
    middle = 2 * function(torch.zeros_like(lower))
    low_slope, mirrored = _upper_line(function, slope, -upper, -lower)
    return low_slope, middle - mirrored, up_slope, up_shift


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
