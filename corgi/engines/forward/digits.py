"""Numbers as digits that float64 adds and multiplies without rounding.

A value is sum_k d_k 2^(B (k - F)), its digits d_k whole numbers of at most 2^(B - 1), F of them behind the
point: slices of one grid (Ozaki et al. 2012). A sum of products of digits is a whole number below 2^53, so
any order of a convolution's sums gives it exactly; what lies below the grid is dropped once for each product,
and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.engines.rigour import RAISED

BITS = 19
"""B: of a digit."""

MOST_TERMS = 2 ** (52 - 2 * (BITS - 1))
"""Products of two digits that a float64 adds up without rounding, with room for what is carried."""

_LONGEST = 40
"""Digits behind the point at most: 2^760, times what a network computes, is no overflow."""

_SPARE = 1
"""Digits below the grid that products are added up in before they are dropped."""


@dataclass(frozen=True)
class Digits:
    """Values [...] on a grid.

    Attributes:
        digits: the lowest first, float64 [K, ...], whole numbers up to 2^(B - 1) in size.
        fraction: F.
    """

    digits: Tensor
    fraction: int

    @staticmethod
    def of(values: Tensor, most: int = _LONGEST) -> tuple[Digits, float]:
        """Float64 values on a grid of at most so many digits behind the point; and what they are off by.

        The grid is the coarsest that holds them exactly, and then they are off by 0.

        Raises:
            ArithmeticError: a value is infinite or NaN.
        """
        if not bool(torch.isfinite(values * _power(most)).all()):
            raise ArithmeticError("digits of a number that is not finite, or too large for the grid")
        fraction = 0
        while fraction < most and not _whole(values * _power(fraction)):
            fraction += 1
        rest = values * _power(fraction)
        # frexp: |rest| < 2^exponent, so the first digit is below 2^(B - 1) in size.
        size = int(torch.frexp(rest.abs().max() if rest.numel() else rest.new_zeros(())).exponent)
        count = max(1, -(-(size + 1) // BITS))
        digits = []
        for k in reversed(range(count)):
            # What is left is a whole number of the last places of a float64, as is the digit: exact.
            digit = torch.round(rest * _power(-k))
            rest = rest - digit * _power(k)
            digits.append(digit)
        error = 0.0 if not bool(rest.any()) else grid(fraction)
        return Digits(torch.stack(digits[::-1]), fraction), error

    def __getitem__(self, index: slice | Tensor) -> Digits:
        """Some of the values, behind the digits' own axis."""
        return Digits(self.digits[:, index], self.fraction)

    def map(self, function: Callable[[Tensor], Tensor]) -> Digits:
        """The same of every digit: it must only move entries, or multiply them by 1, 0 or -1."""
        return Digits(function(self.digits), self.fraction)

    def rounded(self) -> Tensor:
        """Its values in float64: off by at most 4 units roundoff of themselves.

        From the lowest digit upwards each sum so far is below 2^(B k) (1/2 + 2^-B) of the grid, and where the
        digit k is the first that is not 0 the value is at least 2^(B k) (1/2 - 2^-B); so the roundings of all
        sums before weigh little more than the last two.
        """
        total = torch.zeros_like(self.digits[0])
        for k, digit in enumerate(self.digits):
            total = total + digit * _power(k - self.fraction)
        return total

    def aligned(self, fraction: int) -> tuple[Digits, float]:
        """The same on another grid, and what values are off by there."""
        more = fraction - self.fraction
        if more >= 0:
            nothing = self.digits.new_zeros(more, *self.digits.shape[1:])
            return (Digits(torch.cat([nothing, self.digits]), fraction) if more else self), 0.0
        kept = self.digits[-more:] if -more < len(self.digits) else torch.zeros_like(self.digits[:1])
        # What is dropped is below 1/2 + 2^-B of the grid.
        return Digits(kept, fraction), grid(fraction)

    def widened(self, count: int) -> Digits:
        """With zeros in front up to so many digits."""
        more = count - len(self.digits)
        if more <= 0:
            return self
        nothing = self.digits.new_zeros(more, *self.digits.shape[1:])
        return Digits(torch.cat([self.digits, nothing]), self.fraction)


def grid(fraction: int) -> float:
    """The distance of neighbours on a grid."""
    return 2.0 ** (-BITS * fraction)


def added(first: Digits, second: Digits, sign: int = 1) -> Digits:
    """The sum of values on one grid, or with sign -1 the difference; exact."""
    count = max(len(first.digits), len(second.digits))
    return carried(first.widened(count).digits + sign * second.widened(count).digits, first.fraction)


def multiplied(
    value: Digits,
    factor: Digits,
    combine: Callable[[Tensor, Tensor], Tensor],
    terms: int,
    fraction: int,
    plus: Digits | None = None,
) -> tuple[Digits, float]:
    """A bilinear map of a value and a factor on a grid, and what entries are off by there.

    Args:
        value: on any grid.
        factor: on any grid.
        combine: of a digit of the value and one of the factor; each entry of it is a sum of products.
        terms: products that an entry adds up at most.
        fraction: of the grid.
        plus: what is added, a digit of which broadcasts.

    Raises:
        ArithmeticError: the sums would not be exact.
    """
    place = value.fraction + factor.fraction - fraction
    pairs = [
        (k, j, k + j - place + _SPARE)
        for k in range(len(value.digits))
        for j, digit in enumerate(factor.digits)
        if bool(digit.any())
    ]
    if terms * max(1, len(factor.digits)) >= MOST_TERMS:
        raise ArithmeticError(f"sums of {terms} terms are not exact in digits of {BITS} bits")
    dropped = (
        sum(2.0 ** (BITS * (at - _SPARE)) for _, _, at in pairs if at < 0) * terms * 2.0 ** (2 * BITS - 2)
    )
    kept = [pair for pair in pairs if pair[2] >= 0]
    sums: list[Tensor | None] = [None] * (1 + max((at for _, _, at in kept), default=0))
    shape = None
    for k, j, at in kept:
        found = combine(value.digits[k], factor.digits[j])
        shape = found.shape
        before = sums[at]
        sums[at] = found if before is None else before.add_(found)
    if shape is None:
        shape = combine(value.digits[0], factor.digits[0]).shape
    total = [value.digits.new_zeros(shape) if found is None else found for found in sums]
    if plus is not None:
        constant, off = plus.aligned(fraction + _SPARE)
        total += [value.digits.new_zeros(shape) for _ in range(len(constant.digits) - len(total))]
        for entry, digit in zip(total, constant.digits, strict=False):
            entry += digit
        dropped += off / grid(fraction)
    result, lost = carried(total, fraction + _SPARE).aligned(fraction)
    return result, (dropped * grid(fraction) + lost) * RAISED


def carried(sums: Sequence[Tensor] | Tensor, fraction: int) -> Digits:
    """K whole numbers [...] below 2^53 in the places of digits as digits, `sums` themselves being used up."""
    carry = torch.zeros_like(sums[0])
    digits = []
    for k in range(len(sums)):
        entry = sums[k].add_(carry)
        carry = torch.round(entry * _power(-1))
        digits.append(entry.sub_(carry, alpha=2.0**BITS))
    while bool(carry.any()):
        entry, carry = carry, torch.round(carry * _power(-1))
        digits.append(entry - carry * 2.0**BITS)
    while len(digits) > 1 and not bool(digits[-1].any()):
        digits.pop()
    return Digits(torch.stack(digits), fraction)


def _power(digits: int) -> float:
    return 2.0 ** (BITS * digits)


def _whole(values: Tensor) -> bool:
    return bool((values == torch.round(values)).all())
