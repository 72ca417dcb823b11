"""Affine forms of the images of a family over boxes of its parameters, by the kind of the family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from corgi.changes.family import Family, LinearFamily
from corgi.changes.gamma import GammaFamily
from corgi.changes.geometry import MotionFamily
from corgi.engines.forward.moved import moved
from corgi.engines.forward.values import larger_of_zero
from corgi.engines.parametric import AffineForms, Boxes
from corgi.engines.rigour import RAISED, gamma, roundings, smallest
from corgi.errors import EngineError

_LEAST_POWER = 1e-290
"""Powers above it are normal numbers, and so is what is made of them."""


def images(family: Family, boxes: Boxes) -> AffineForms:
    """The images of a family over boxes, rounded outwards: terms [N, 1 + d, C, H, W].

    Raises:
        TypeError: there is no rule for a family of its kind.
        EngineError: a box reaches the limit of the family, beyond which no rule holds.
    """
    if bool(((boxes.lower <= -family.limit) | (boxes.upper >= family.limit)).any()):
        raise EngineError(
            f"a box of parameters reaches {family.limit:g}: no bounds of {family.formula}",
            hint=f"Sizes are below {family.limit:g}.",
        )
    for kind in type(family).__mro__:
        if kind in RULES:
            return RULES[kind](family, boxes)
    raise TypeError(f"no rule for {type(family).__name__}")


def _linear(family: LinearFamily, boxes: Boxes) -> AffineForms:
    """Of clip(x + A t, 0, 1).

    For t = m + h s the exact pixel is x + sum_j A_j m_j + sum_j (A_j h_j) s_j before it is clipped. Computed,
    c is a sum of d + 1 terms with one product each, g_j one product: gamma of d + 4 of the absolute terms is
    more than they are off by together, and `smallest` what a product loses by underflow.
    """
    middle, half = (v[:, :, None, None, None] for v in (boxes.middle, boxes.half))
    shifts, generators = middle * family.directions, half * family.directions
    terms = torch.cat([family.image + shifts.sum(1, keepdim=True), generators], 1)
    size = family.image.abs() + shifts.abs().sum(1) + generators.abs().sum(1)
    count = family.dimensions + 4
    remainder = gamma(count, torch.float64) * size + 2 * count * smallest(torch.float64)
    above_zero = larger_of_zero(AffineForms(terms, remainder)).boxed()
    return _mirrored(larger_of_zero(_mirrored(above_zero)).boxed())


def _mirrored(value: AffineForms) -> AffineForms:
    """1 - v; the subtraction is off by one rounding."""
    terms = -value.terms
    terms[:, 0] += 1
    remainder = value.remainder * RAISED + roundings(2) * terms[:, 0].abs()
    return AffineForms(terms, remainder)


def _gamma(family: GammaFamily, boxes: Boxes) -> AffineForms:
    """Of x^(1 + t), which lies in [0, 1].

    With y = x^(1 + m), q = -ln x >= 0 and w = q h the pixel at t = m + h s is y exp(-w s), and
    exp(-w s) - (1 - w s), convex in s and 0 at 0, lies in [0, exp(w) - 1 - w] for |s| <= 1. 0 and 1 stay
    what they are.

    1 + m is off by a rounding of itself, which changes y by (1 + m) q of them, as a share; pow, log and expm1
    by a few units each, for which 8 are counted. So y, w and exp(w) - 1 are off by no more than 64 roundings
    of (1 + (1 + m) q), 1 and 1, as shares, together with the products that are made of them.
    """
    middle, half = (v[:, :, None, None] for v in (boxes.middle, boxes.half))
    still = (family.image == 0) | (family.image == 1)
    fall = torch.where(still, 0.0, -family.image.log())
    power, reach = family.image ** (1 + middle), fall * half
    curve = torch.expm1(reach)
    bend = power * (curve - reach).clamp(min=0) / 2
    terms = torch.stack([power + bend, -power * reach], 1)
    error = roundings(64) * power * (1 + (1 + middle) * fall) * (1 + reach + curve)
    remainder = (bend + error) * RAISED + 8 * smallest(torch.float64)
    # A power that may have lost digits by underflow says nothing of its error: the pixel is in [0, 1].
    lost = ~still & ~(power > _LEAST_POWER)
    terms = torch.stack([terms[:, 0].masked_fill(lost, 0.5), terms[:, 1].masked_fill(lost, 0)], 1)
    return AffineForms(terms, remainder.masked_fill(still, 0).masked_fill(lost, 0.5))


RULES: dict[type, Callable[[Any, Boxes], AffineForms]] = {
    LinearFamily: _linear,
    GammaFamily: _gamma,
    MotionFamily: moved,
}
"""What the images of each kind of family lie in; a kind that stands in no row is refused."""
