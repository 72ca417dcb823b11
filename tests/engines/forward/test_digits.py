"""Digits against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.forward.digits import BITS, Digits, added, carried, grid, multiplied

NUMBERS = st.one_of(
    st.floats(-(2.0**60), 2.0**60),
    st.floats(-1, 1),
    st.integers(-255, 255).map(lambda n: float(torch.tensor(n / 255, dtype=torch.float32))),
    st.sampled_from([0.0, 5e-324, -(2.0**-300), 2.0**37, 2.0**18 - 0.5, 1 - 2.0**-53]),
)
VALUES = st.lists(NUMBERS, min_size=1, max_size=6)


def tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def exactly(value: Digits) -> list[Fraction]:
    columns = value.digits.flatten(1).T.tolist()
    unit = Fraction(2) ** BITS
    return [sum(Fraction(d) * unit ** (k - value.fraction) for k, d in enumerate(one)) for one in columns]


def are_digits(value: Digits) -> bool:
    whole = bool((value.digits == value.digits.round()).all())
    return whole and float(value.digits.abs().max()) <= 2.0 ** (BITS - 1)


@given(VALUES, st.integers(0, 40))
def test_numbers_on_a_grid(values: list[float], most: int) -> None:
    found, off = Digits.of(tensor(values), most)
    assert are_digits(found)
    assert found.fraction <= most
    for exact, value in zip(exactly(found), values, strict=True):
        assert abs(exact - Fraction(value)) <= Fraction(off)
        near = Fraction(float(Digits.of(tensor([value]), 40)[0].rounded()))
        assert abs(near - Fraction(value)) <= Fraction(grid(40)) + 4 * abs(Fraction(value)) / 2**53


@given(VALUES, VALUES, st.integers(0, 20), st.sampled_from([1, -1]))
def test_sums_are_exact_and_other_grids_are_off_by_what_they_say(
    values: list[float], others: list[float], fraction: int, sign: int
) -> None:
    count = min(len(values), len(others))
    (first, off), (second, off_2) = (Digits.of(tensor(v[:count]), 20) for v in (values, others))
    before = exactly(first)
    (first, lost), (second, lost_2) = first.aligned(fraction), second.aligned(fraction)
    assert all(abs(a - b) <= Fraction(lost) for a, b in zip(before, exactly(first), strict=True))
    total = added(first, second, sign)
    assert are_digits(total)
    expected = [a + sign * b for a, b in zip(exactly(first), exactly(second), strict=True)]
    assert exactly(total) == expected
    for value, a, b in zip(exactly(total), values, others, strict=False):
        assert abs(value - Fraction(a) - sign * Fraction(b)) <= Fraction(off + lost + off_2 + lost_2) * 2


@given(VALUES, VALUES, st.integers(0, 12), st.integers(1, 8), NUMBERS)
def test_products_are_off_by_what_they_say(
    values: list[float], factors: list[float], fraction: int, most: int, plus: float
) -> None:
    count = min(len(values), len(factors))
    value, factor = Digits.of(tensor(values[:count]), 40)[0], Digits.of(tensor(factors[:count]), most)[0]
    constant = Digits.of(tensor([plus]), 30)[0]
    found, off = multiplied(value, factor, torch.mul, 1, fraction, constant)
    assert are_digits(found)
    assert found.fraction == fraction
    for exact, a, b in zip(exactly(found), exactly(value), exactly(factor), strict=True):
        assert abs(exact - (a * b + exactly(constant)[0])) <= Fraction(off)


@pytest.mark.parametrize("fraction", [0, 1, 3, 9, 20])
def test_convolutions_are_off_by_what_they_say(fraction: int) -> None:
    generator = torch.Generator().manual_seed(fraction)
    scale = 2.0 ** torch.randint(-30, 20, (2, 5, 4, 4), generator=generator).to(torch.float64)
    x = Digits.of(torch.randn(2, 5, 4, 4, generator=generator, dtype=torch.float64) * scale)[0]
    w = Digits.of(torch.randn(3, 5, 3, 3, generator=generator).to(torch.float64))[0]
    found, off = multiplied(x, w, lambda a, b: F.conv2d(a, b), 45, fraction)
    inputs, weights = exactly(x), exactly(w)
    at = iter(exactly(found))
    for n in range(2):
        for o in range(3):
            for y in range(2):
                for z in range(2):
                    exact = sum(
                        weights[((o * 5 + c) * 3 + i) * 3 + j] * inputs[((n * 5 + c) * 4 + y + i) * 4 + z + j]
                        for c in range(5)
                        for i in range(3)
                        for j in range(3)
                    )
                    assert abs(next(at) - exact) <= Fraction(off)


def test_the_largest_sums_are_carried_exactly() -> None:
    sums = torch.tensor([2.0**52, 2.0**52 - 1, -(2.0**52)], dtype=torch.float64)[:, None]
    found = carried(sums.clone(), 2)
    assert are_digits(found)
    unit = Fraction(2) ** BITS
    assert exactly(found) == [sum(Fraction(float(s)) * unit ** (k - 2) for k, s in enumerate(sums[:, 0]))]


def test_sums_of_too_many_terms_are_refused() -> None:
    one = Digits.of(torch.ones(1, dtype=torch.float64))[0]
    with pytest.raises(ArithmeticError, match="not exact"):
        multiplied(one, one, torch.mul, 2**16, 1)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_finite_has_no_digits(wrong: float) -> None:
    with pytest.raises(ArithmeticError, match="not finite"):
        Digits.of(torch.tensor([1.0, wrong], dtype=torch.float64))
