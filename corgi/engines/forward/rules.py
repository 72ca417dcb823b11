"""Affine forms through one step of a prepared trunk, rounded outwards.

A linear layer v = W u + b takes c + sum_j g_j s_j + e, |e| <= r, to

    (W c + b) + sum_j (W g_j) s_j + W e,    |W e| <= |W| r.

What is computed of W c + b and W g_j is off by at most gamma_n of |W| |c| + |b| and |W| |g_j| (rigour.py), n
the terms of a sum and the roundings of a weight before it came here. All of that is one more sum: |W| applied
to r + gamma_n (|c| + sum_j |g_j|).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.engines.forward.values import larger, larger_of_zero
from corgi.engines.parametric import AffineForms
from corgi.engines.patch.curves import relax
from corgi.engines.patch.intervals import Centre
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.resample import absolute, amplification, terms_of
from corgi.engines.rigour import FOLDING, RAISED, fan_in, gamma, roundings, smallest
from corgi.engines.rules import rule_of
from corgi.network import layers
from corgi.types import Interval

_DTYPE = torch.float64


def forward_step(layer: nn.Module, inputs: list[AffineForms]) -> AffineForms:
    """A step's output [N, 1 + d, C, H, W] from its inputs.

    Raises:
        TypeError: there is no rule for the layer.
    """
    return rule_of(RULES, layer)(layer, *inputs)


def _each(function: Callable[[Tensor], Tensor], terms: Tensor) -> Tensor:
    """A map of images [M, C, H, W] on every term [N, 1 + d, C, H, W]."""
    found = function(terms.flatten(0, 1))
    return found.reshape(*terms.shape[:2], *found.shape[1:])


def _conv(conv: layers.Conv, value: AffineForms) -> AffineForms:
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    terms = _each(lambda x: F.conv2d(x, conv.weight, None, *options), value.terms)
    terms[:, 0] += conv.bias[:, None, None]
    return AffineForms(terms, conv_remainder(conv, value.remainder, value))


def conv_remainder(conv: layers.Conv, remainder: Tensor, value: AffineForms) -> Tensor:
    """What a convolution makes of a remainder of its input, and of roundings with the terms of that.

    See above; 2 n roundings for both sums, the second of non-negative terms, and a few for what it adds. A
    product that underflows loses `smallest`, in each of the 2 + d sums.
    """
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    share = gamma(2 * fan_in(conv) + FOLDING + 8, _DTYPE)
    reach = F.conv2d(remainder + share * value.size, conv.weight.abs(), None, *options)
    lost = (value.terms.shape[1] + 1) * fan_in(conv) * smallest(_DTYPE)
    found = reach * (1 + share) + share * conv.bias_magnitude[:, None, None] + 2 * lost
    return found * RAISED


def _affine(layer: layers.Affine, value: AffineForms) -> AffineForms:
    """A product and a sum, and the roundings of the constants before."""
    terms = value.terms * layer.scale
    terms[:, 0] += layer.shift
    share, scale = gamma(FOLDING + 4, _DTYPE), layer.scale.abs()
    remainder = scale * (value.remainder * (1 + share) + share * value.size)
    remainder = remainder + share * layer.shift_magnitude + 2 * terms.shape[1] * smallest(_DTYPE)
    return AffineForms(terms, remainder * RAISED)


def _resample(layer: layers.Resample, value: AffineForms) -> AffineForms:
    """A v B^T: as a convolution, with the terms and the underflow of both sums (resample.py)."""
    share = gamma(2 * terms_of(layer) + 8, _DTYPE)
    terms = _each(layer, value.terms)
    reach = absolute(layer)(value.remainder + share * value.size)
    lost = 2 * (terms.shape[1] + 1) * terms_of(layer) * amplification(layer) * smallest(_DTYPE)
    return AffineForms(terms, (reach * (1 + share) + lost) * RAISED)


def _sum(layer: layers.Add, first: AffineForms, second: AffineForms) -> AffineForms:
    return _added(first, second, first.terms + second.terms)


def _difference(layer: layers.Sub, first: AffineForms, second: AffineForms) -> AffineForms:
    return _added(first, second, first.terms - second.terms)


def _added(first: AffineForms, second: AffineForms, terms: Tensor) -> AffineForms:
    """Each term is off by one rounding of itself."""
    remainder = first.remainder + second.remainder + roundings(2) * terms.abs().sum(1)
    return AffineForms(terms, remainder * RAISED + terms.shape[1] * smallest(_DTYPE))


def _product(layer: layers.Mul, first: AffineForms, second: AffineForms) -> AffineForms:
    """With v = c + D and |D| <= reach = sum_j |g_j| + r, the product is c c' + c D' + c' D + D D'.

    So the remainder is |c| r' + |c'| r + reach reach'. What is rounded is off by fewer than 8 units of
    (|c| + sum |g|) (|c'| + sum |g'|).
    """
    (at, spread), (other, others) = ((v.terms[:, :1], v.terms[:, 1:]) for v in (first, second))
    terms = torch.cat([at * other, at * others + other * spread], 1)
    reach, reaches = (v.terms[:, 1:].abs().sum(1) + v.remainder for v in (first, second))
    remainder = at[:, 0].abs() * second.remainder + other[:, 0].abs() * first.remainder + reach * reaches
    error = roundings(16) * first.size * second.size + 4 * terms.shape[1] * smallest(_DTYPE)
    return AffineForms(terms, (remainder + error) * RAISED)


def _concat(layer: layers.Concat, *values: AffineForms) -> AffineForms:
    return AffineForms(torch.cat([v.terms for v in values], 2), torch.cat([v.remainder for v in values], 1))


def _maximum(layer: Maximum, value: AffineForms) -> AffineForms:
    """Of the elements of each window one after the other, then of 0."""

    def element(number: int) -> AffineForms:
        return AffineForms(taken(layer, value.terms, number), taken(layer, value.remainder, number))

    found, *others = (value,) if layer.elementwise else (element(number) for number in range(layer.elements))
    for other, both in zip(others, present(layer, value.remainder), strict=True):
        found = larger(found, other, both).boxed()
    return larger_of_zero(found).boxed() if layer.zero else found


def present(layer: Maximum, value: Tensor) -> Iterator[tuple[Tensor, Tensor] | None]:
    """For each element of a window but the first: where those before it exist, and where it does.

    Elements in the padding do not; None where all do. `value` [..., H, W] is what the windows read.
    """
    inside = torch.ones(value.shape[-2:], dtype=torch.bool)
    before = taken(layer, inside, 0)
    for number in range(1, layer.elements):
        now = taken(layer, inside, number)
        yield None if bool(before.all()) and bool(now.all()) else (before, now)
        before = before | now


def taken(layer: Maximum, values: Tensor, number: int) -> Tensor:
    """One element of all windows of values [..., H, W]: [..., H', W']; 0 in the padding."""
    top, left, bottom, right = layer.pads
    values = F.pad(values, (left, right, top, bottom)) if any(layer.pads) else values
    (y, x), (step_y, step_x) = layer.offsets[number], layer.stride
    ends = [
        (size - reach) // stride * stride + 1
        for size, reach, stride in zip(values.shape[-2:], layer.reach, layer.stride, strict=True)
    ]
    return values[..., y : y + ends[0] : step_y, x : x + ends[1] : step_x]


def _curved(layer: nn.Module, value: AffineForms) -> AffineForms:
    """Between two lines (curves.py), which become one slope and a wider remainder.

    With d = v - c in [-reach, reach], low d + low_shift <= f(v) - f(c) <= up d + up_shift; for any slope s
    f(v) - f(c) - s d lies between the ends of (low - s) d + low_shift and (up - s) d + up_shift, at -reach
    or reach. f(c) is what was computed: the lines are drawn from there, with room for rounding.
    """
    centre, known = value.terms[:, 0], value.interval()
    at_centre = layer(centre)
    # Rounded once: a step outwards is more.
    far = torch.maximum(known.upper - centre, centre - known.lower) * RAISED + smallest(_DTYPE)
    none = torch.zeros(centre.shape[:2], dtype=_DTYPE)
    lines = relax(layer, Interval(-far, far), Centre(centre, none), Centre(at_centre, none))
    slope = (lines.lower_slope + lines.upper_slope) / 2
    below = lines.lower_shift - (lines.lower_slope - slope).abs() * far
    above = lines.upper_shift + (lines.upper_slope - slope).abs() * far
    terms = value.terms * slope[:, None]
    terms[:, 0] = at_centre + (below + above) / 2
    # `below`, `above`, their middle and c: a few roundings of what they are made of; one of each s g_j.
    width = torch.maximum(below.abs(), above.abs())
    amounts = (
        at_centre.abs() + width + (slope.abs() + lines.lower_slope.abs() + lines.upper_slope.abs()) * far
    )
    error = roundings(32) * (amounts + terms.abs().sum(1)) + 2 * terms.shape[1] * smallest(_DTYPE)
    remainder = slope.abs() * value.remainder + (above - below) / 2 + error
    return AffineForms(terms, remainder * RAISED)


RULES: dict[type[nn.Module], Callable[..., AffineForms]] = {
    layers.Conv: _conv,
    layers.Affine: _affine,
    layers.Resample: _resample,
    layers.Add: _sum,
    layers.Sub: _difference,
    layers.Mul: _product,
    layers.Concat: _concat,
    Maximum: _maximum,
    layers.Sigmoid: _curved,
    layers.Tanh: _curved,
    layers.Curve: _curved,
    layers.Power: _curved,
}
"""What a step makes of affine forms; layers that stand in no row are refused."""
