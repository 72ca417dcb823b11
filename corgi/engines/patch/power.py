"""Ranges and lines of powers f(z) = z^p: squares of any number, the other powers of positive ones.

They are convex (p < 0 or p > 1) or concave there, and f' is monotone. A line of ANY slope s lies above a
convex f if it does at both ends of the interval; a tangent lies below. So the chord's slope, which is mostly
rounding where the interval is narrow, may be off as it likes. For a concave f both change places.

What is computed of f is relative to f: a few units of it. Beyond the domain nothing is known (NaN).
"""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.engines.rigour import FAR_RAISED, roundings, smallest, unit
from corgi.network import layers

_ULPS = 64
"""Units of its terms that a value or a line may be off by, generously: pow is right to 2, a root and a
quotient to 1 each, and what is made of them takes fewer than 16 operations."""


def _known(layer: layers.Power, lower: Tensor) -> Tensor:
    """Where f is what is said above: 0 has no negative power, and negative numbers only squares."""
    if layer.exponent == 2:
        return ~lower.isnan()
    return lower > 0 if layer.exponent < 0 else lower >= 0


def _from(layer: layers.Power, lower: Tensor) -> Tensor:
    """The lower end, and what is known beside it; fmax passes NaN over."""
    return torch.fmax(lower, torch.full_like(lower, layer.least - roundings(8192) * abs(layer.least)))


def power_error(*sizes: Tensor) -> Tensor:
    """What float64 may be off by, given the absolute values of what was computed."""
    total = torch.stack(sizes).abs().sum(0)
    return _ULPS * unit(torch.float64) * total + smallest(torch.float64)


def power_range(layer: layers.Power, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest f on [lower, upper], float64, up to `power_error` of them."""
    lower = _from(layer, lower)
    ends = layer(lower), layer(upper)
    least, most = torch.minimum(*ends), torch.maximum(*ends)
    if layer.exponent == 2:
        least = torch.where((lower <= 0) & (upper >= 0), 0, least)
    unknown = ~_known(layer, lower) | upper.isnan()
    return least.masked_fill(unknown, torch.nan), most.masked_fill(unknown, torch.nan)


def slope(layer: layers.Power, z: Tensor) -> Tensor:
    """f'(z) = p z^(p - 1)."""
    return 2 * z if layer.exponent == 2 else layer.exponent * layer(z) / z


def steepest(layer: layers.Power, lower: Tensor, upper: Tensor) -> Tensor:
    """Upper bound of |f'| on [lower, upper]; it is monotone. NaN where nothing is known."""
    most = torch.maximum(slope(layer, lower).abs(), slope(layer, upper).abs()) * FAR_RAISED
    return most.masked_fill(~_known(layer, lower), torch.nan)


def relax_power(
    layer: layers.Power, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Slope and shift of a line below f on [lower, upper], then of one above, and what they may be off by.

    All float64.
    """
    lower = _from(layer, lower)
    middle = (lower + upper) / 2
    values = torch.stack([layer(lower), layer(upper)])
    tangent, at_ends = slope(layer, middle), torch.stack([slope(layer, lower), slope(layer, upper)])
    width = upper - lower
    chord = torch.where(width > 0, (values[1] - values[0]) / width, tangent)
    chord = torch.minimum(torch.maximum(chord, at_ends.amin(0)), at_ends.amax(0))
    chord = torch.where(chord.isfinite(), chord, tangent)
    convex = layer.exponent < 0 or layer.exponent > 1
    over = values - chord * torch.stack([lower, upper])
    by_chord = over.amax(0) if convex else over.amin(0)
    by_tangent = layer(middle) - tangent * middle
    size = torch.maximum(lower.abs(), upper.abs())
    error = power_error(*values, layer(middle), chord * size, tangent * size)
    unknown = ~_known(layer, lower) | upper.isnan()
    by_chord, by_tangent = (shift.masked_fill(unknown, torch.nan) for shift in (by_chord, by_tangent))
    if convex:
        return tangent, by_tangent, chord, by_chord, error
    return chord, by_chord, tangent, by_tangent, error
