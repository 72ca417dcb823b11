"""Exact sums and products of float64 tensors: an expansion is a tuple of tensors whose real sum is meant.

Error-free transformations: Knuth's sum, Dekker's and Veltkamp's product (Ogita, Rump and Oishi 2005, sections
2 and 3). Matrix products are split into slices of so few bits that float64 multiplies them without rounding
(Ozaki et al. 2012). All of this is exact as long as nothing over- or underflows, which products and quotients
check.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Expansion = tuple[Tensor, ...]

UNIT = 2.0**-53
_RANGE = 2.0**-400, 2.0**400
"""Magnitudes of factors: their products, and the last bits of those, are then normal numbers."""


def two_sum(a: Tensor, b: Tensor) -> Expansion:
    """The rounded a + b, and what rounding lost."""
    total = a + b
    seen = total - a
    return total, (a - (total - seen)) + (b - seen)


def two_product(a: Tensor, b: Tensor) -> Expansion:
    """The rounded a * b, and what rounding lost."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    high = a * b
    return high, a_low * b_low - (((high - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(a: Tensor) -> Expansion:
    turned = (2.0**27 + 1) * a
    high = turned - (turned - a)
    return high, a - high


def scaled(x: Expansion, scale: Expansion) -> Expansion:
    """The product entry by entry; factors broadcast."""
    _check_range(*x, *scale)
    return added(*(part for a in x for b in scale for part in two_product(a, b)))


def added(*parts: Tensor) -> Expansion:
    """Tensors that broadcast, as an expansion with little overlap, the largest part first."""
    nothing = sum((torch.zeros_like(part) for part in parts[1:]), torch.zeros_like(parts[0]))
    kept = [part.expand_as(nothing) for part in parts]
    while True:
        total, lost = kept[0], []
        for part in kept[1:]:
            total, error = two_sum(total, part)
            if bool(error.any()):
                lost.append(error)
        if len(lost) + 1 >= len(kept):
            return total, *lost
        kept = [total, *lost]


def product(a: Expansion, b: Expansion) -> Expansion:
    """The matrix product of [m, n] and [n, p]."""
    _check_range(*a, *b)
    length = a[0].shape[1]
    bits = (53 - math.ceil(math.log2(max(length, 2)))) // 2  # length * 2^bits * 2^bits <= 2^53
    left = [part for x in a for part in _slices(x, 1, bits)]
    right = [part for x in b for part in _slices(x, 0, bits)]
    none = a[0].new_zeros(a[0].shape[0], b[0].shape[1])
    return added(none, *(x @ y for x in left for y in right))


def _slices(x: Tensor, axis: int, bits: int) -> list[Tensor]:
    """Parts that add up to x: along the axis, multiples up to 2^bits of one number."""
    found = []
    while bool(x.any()):
        largest = x.abs().amax(axis, keepdim=True)
        exponent = torch.frexp(largest).exponent
        # What is added has a last bit worth 2^(exponent - bits), so the sum is rounded to multiples of it.
        anchor = torch.ldexp(torch.full_like(largest, 1.5), exponent - bits + 52)
        part = torch.where(largest > 0, (x + anchor) - anchor, 0.0)
        found.append(part)
        x = x - part
    return found


def rounded(x: Expansion) -> Tensor:
    """Its value in float64, off by at most 2 units of itself."""
    first, *rest = x
    if not rest:
        return first
    others, size = torch.zeros_like(first), torch.zeros_like(first)
    for part in reversed(rest):
        others, size = others + part, size + part.abs()
    value = first + others
    # The small parts were added with an error of at most so many units of their size.
    doubtful = len(rest) * size > value.abs()
    if bool(doubtful.any()):
        entries = torch.stack([part[doubtful] for part in x], 1).tolist()
        value[doubtful] = value.new_tensor([math.fsum(terms) for terms in entries])
    return value


def root_quotient(gamma: Tensor, a: Tensor, b: Tensor) -> Expansion:
    """The value of gamma / sqrt(a + b), a + b > 0, in two parts: off by at most 2^-95 of itself."""
    under, under_low = two_sum(a, b)
    root = under.sqrt()
    square, square_low = two_product(root, root)
    root_low = (((under - square) - square_low) + under_low) / (2 * root)
    return _quotient(gamma, root, root_low)


def quotient(a: Tensor, b: Tensor) -> Expansion:
    """The value of a / b in two parts: off by at most 2^-95 of itself."""
    return _quotient(a, b, torch.zeros_like(b))


def _quotient(a: Tensor, b: Tensor, b_low: Tensor) -> Expansion:
    _check_range(a, b)
    first = a / b
    back, back_low = two_product(first, b)
    return first, (((a - back) - back_low) - first * b_low) / b


QUOTIENT_ERROR = 2.0**-95


def _check_range(*parts: Tensor) -> None:
    """Raises ArithmeticError: a factor is so small or large that exactness is not given."""
    for part in parts:
        sizes = part.abs()
        extreme = (sizes > _RANGE[1]) | ((sizes < _RANGE[0]) & (sizes > 0))
        if bool(extreme.any()) or not bool(torch.isfinite(part).all()):
            raise ArithmeticError(f"numbers beyond {_RANGE[0]:.3g} or {_RANGE[1]:.3g}")
