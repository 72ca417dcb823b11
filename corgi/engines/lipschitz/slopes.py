"""The derivative of a curved activation, over intervals of its input.

Between its turns a derivative is monotone, so its extremes are at the ends of an interval and at the turns
inside. At a kink of the activation the derivative jumps; there the generalized one takes all values between
both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from corgi.engines.rigour import roundings
from corgi.engines.rules import rule_of
from corgi.network import layers

_ROUNDING = roundings(8192)
"""What a derivative may be off by, in units of the activation's steepest slope: constants are read as rounded
12 times and library functions make a few units of 2^-53. The product of z and the second derivative, which is
what rounding z or a constant moves, is at most 2 steepest slopes for each of them."""

WITHOUT_SLOPES = (layers.TanhGelu,)
"""Curves whose derivatives nothing here bounds."""

_SILU_TURN = 2.3993572805154675
"""Where the second derivative of t sigmoid(t) vanishes: t tanh(t / 2) = 2."""


@dataclass(frozen=True)
class _Kink:
    """Where a derivative jumps.

    Attributes:
        place: where, up to `around`.
        sides: both one-sided limits.
    """

    place: float
    around: float
    sides: tuple[float, float]


@dataclass(frozen=True)
class _Rule:
    """What is known of a derivative.

    Attributes:
        derivative: the function.
        turns: where it may change between growing and falling.
        kinks: where it jumps.
        steepest: its largest absolute value.
    """

    derivative: Callable[[Tensor], Tensor]
    steepest: float
    turns: tuple[float, ...] = ()
    kinks: tuple[_Kink, ...] = ()


def slope_range(layer: nn.Module, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest derivative of an activation on [lower, upper], float64, rounded outwards.

    NaN where an end is NaN.
    """
    rule = rule_of(_RULES, layer)(layer)
    turns = (torch.minimum(torch.maximum(lower, lower.new_tensor(turn)), upper) for turn in rule.turns)
    values = torch.stack([rule.derivative(point) for point in (lower, upper, *turns)])
    least, most = values.amin(0), values.amax(0)
    for kink in rule.kinks:
        here = (lower <= kink.place + kink.around) & (upper >= kink.place - kink.around)
        least = torch.where(here, least.clamp(max=min(kink.sides)), least)
        most = torch.where(here, most.clamp(min=max(kink.sides)), most)
    unknown, error = lower.isnan() | upper.isnan(), _ROUNDING * rule.steepest
    return (least - error).masked_fill(unknown, torch.nan), (most + error).masked_fill(unknown, torch.nan)


def _sigmoid(layer: layers.Sigmoid) -> _Rule:
    return _Rule(_sigmoid_slope, 1.0, turns=(0.0,))


def _tanh(layer: layers.Tanh) -> _Rule:
    # Four times the slope of sigmoid at 2 z, without cancellation.
    return _Rule(lambda z: 4 * _sigmoid_slope(2 * z), 1.0, turns=(0.0,))


def _silu(layer: layers.Silu) -> _Rule:
    turn = _SILU_TURN / abs(layer.beta)

    def slope(z: Tensor) -> Tensor:
        t = (layer.beta * z).clamp(-800, 800)  # beyond, both terms are straight to 1e-300
        return layer.factor * (torch.sigmoid(t) + t * _sigmoid_slope(t))

    return _Rule(slope, layer.steepest, turns=(-turn, turn))


def _gelu(layer: layers.Gelu) -> _Rule:
    turn = 1 / abs(layer.scale)

    def slope(z: Tensor) -> Tensor:
        t = (layer.scale * z).clamp(-30, 30)  # beyond, exp(-t^2) is below 1e-300
        return layer.factor * (torch.erfc(-t) + 2 / math.sqrt(math.pi) * t * torch.exp(-(t**2)))

    return _Rule(slope, layer.steepest, turns=(-turn, turn))


def _hard_swish(layer: layers.HardSwish) -> _Rule:
    first, last = -layer.beta / layer.alpha, (1 - layer.beta) / layer.alpha
    around = _ROUNDING * (1 + abs(layer.beta)) / layer.alpha

    def slope(z: Tensor) -> Tensor:
        inside = 2 * layer.alpha * z + layer.beta
        return layer.factor * torch.where(z < first, 0.0, torch.where(z > last, 1.0, inside))

    begins = _Kink(first, around, (0.0, -layer.beta * layer.factor))
    ends = _Kink(last, around, ((2 - layer.beta) * layer.factor, layer.factor))
    return _Rule(slope, layer.steepest, kinks=(begins, ends))


def _elu(layer: layers.Elu) -> _Rule:
    below = layer.scale * layer.alpha * layer.rate

    def slope(z: Tensor) -> Tensor:
        return torch.where(z > 0, layer.scale, below * torch.exp(layer.rate * z.clamp(max=0)))

    return _Rule(slope, layer.steepest, kinks=(_Kink(0.0, 0.0, (below, layer.scale)),))


def _softplus(layer: layers.Softplus) -> _Rule:
    return _Rule(torch.sigmoid, 1.0)


def _sigmoid_slope(t: Tensor) -> Tensor:
    decay = torch.exp(-t.abs())
    return decay / (1 + decay) ** 2


_RULES: dict[type[nn.Module], Callable[[Any], _Rule]] = {
    layers.Sigmoid: _sigmoid,
    layers.Tanh: _tanh,
    layers.Silu: _silu,
    layers.Gelu: _gelu,
    layers.HardSwish: _hard_swish,
    layers.Elu: _elu,
    layers.Softplus: _softplus,
}
