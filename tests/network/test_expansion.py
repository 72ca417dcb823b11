"""Expansions are exact, against rational numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.network import expansion
from corgi.network.expansion import UNIT, added, product, quotient, root_quotient, rounded, scaled

numbers = st.one_of(
    st.floats(-(2.0**60), 2.0**60, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 2.0**-60),
    st.sampled_from([0.0, 1.0, -1.0, 2.0**53, -(2.0**53), 3.0, 1 / 3]),
    st.floats(width=32, min_value=-4, max_value=4).filter(lambda v: v == 0 or abs(v) > 2.0**-60),
)


def matrix(rows: int, columns: int) -> st.SearchStrategy[Tensor]:
    entries = st.lists(numbers, min_size=rows * columns, max_size=rows * columns)
    return entries.map(lambda values: torch.tensor(values, dtype=torch.float64).reshape(rows, columns))


def fractions(x: Tensor) -> list[list[Fraction]]:
    return [[Fraction(v) for v in row] for row in x.tolist()]


def meant(x: expansion.Expansion) -> list[list[Fraction]]:
    parts = [fractions(part) for part in x]
    return [
        [sum(entry, Fraction(0)) for entry in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)
    ]


def times(a: list[list[Fraction]], b: list[list[Fraction]]) -> list[list[Fraction]]:
    return [
        [
            sum((x * y for x, y in zip(row, column, strict=True)), Fraction(0))
            for column in zip(*b, strict=True)
        ]
        for row in a
    ]


@given(a=matrix(2, 5), b=matrix(5, 3), c=matrix(3, 2), scale=matrix(1, 3))
def test_products_are_exact_and_rounded_once(a: Tensor, b: Tensor, c: Tensor, scale: Tensor) -> None:
    once = product((a,), (b,))
    exact = times(fractions(a), fractions(b))
    assert meant(once) == exact
    columns = [[v * s for v, s in zip(row, fractions(scale)[0], strict=True)] for row in exact]
    assert meant(scaled(once, (scale,))) == columns
    twice = product(scaled(once, (scale,)), (c,))
    exact = times(columns, fractions(c))
    assert meant(twice) == exact
    for row, expected in zip(rounded(twice).tolist(), exact, strict=True):
        for value, real in zip(row, expected, strict=True):
            assert abs(Fraction(value) - real) <= 2 * Fraction(UNIT) * abs(real)


@given(parts=st.lists(matrix(1, 4), min_size=1, max_size=6))
def test_sums_are_exact(parts: list[Tensor]) -> None:
    exact = meant(tuple(parts))
    total = added(*parts)
    assert meant(total) == exact
    for value, real in zip(rounded(total)[0].tolist(), exact[0], strict=True):
        assert abs(Fraction(value) - real) <= 2 * Fraction(UNIT) * abs(real)


positive = numbers.map(abs).filter(lambda v: v > 0)


@given(gamma=numbers, a=positive, b=positive)
def test_quotients_are_as_close_as_they_say(gamma: float, a: float, b: float) -> None:
    x, y, z = (torch.tensor([v], dtype=torch.float64) for v in (gamma, a, b))
    error = Fraction(expansion.QUOTIENT_ERROR)
    (value,) = meant(tuple(v[None] for v in quotient(x, y)))[0]
    assert abs(value * Fraction(a) - Fraction(gamma)) <= error * abs(Fraction(gamma))
    (value,) = meant(tuple(v[None] for v in root_quotient(x, y, z)))[0]
    squared = value * value * (Fraction(a) + Fraction(b))
    assert abs(squared - Fraction(gamma) ** 2) <= error * Fraction(gamma) ** 2


def test_what_could_under_or_overflow_is_refused() -> None:
    one = torch.ones(2, 2, dtype=torch.float64)
    for odd in (1e200, 1e-200, float("inf"), float("nan")):
        with pytest.raises(ArithmeticError):
            product((one,), (one * odd,))
