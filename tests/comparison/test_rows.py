"""Radii of one norm as radii of the other."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corgi.comparison.options import CompareOptions
from corgi.comparison.rows import Guarantee, Row, converted, wanted
from corgi.errors import UsageError
from corgi.types import Norm


def row(norm: Norm, *steps: tuple[int, float], guarantee: Guarantee = Guarantee.STATISTICAL) -> Row:
    pixels = tuple(range(5))
    return Row("method", "map", np.zeros((3, 3)), pixels, guarantee, norm, steps, "work", 1.0)


@given(st.floats(1e-12, 1e3), st.integers(1, 10**7))
def test_a_converted_ball_lies_inside_the_original(radius, inputs) -> None:
    """Every change of a converted l_inf ball is within the l_2 radius, in exact arithmetic."""
    inner = Fraction(converted(radius, Norm.L2, Norm.LINF, inputs))
    assert inner**2 * inputs <= Fraction(radius) ** 2
    assert float(inner) == pytest.approx(radius / math.sqrt(inputs), rel=1e-12)
    assert converted(radius, Norm.LINF, Norm.L2, inputs) == radius
    for norm in (Norm.LINF, Norm.L2):
        assert converted(radius, norm, norm, inputs) == radius
        assert converted(0.0, norm, Norm.LINF, inputs) == 0.0


def test_a_radius_for_fewer_pixels_is_not_smaller() -> None:
    found = row(Norm.L2, (5, 0.1), (3, 0.4))
    assert [found.radius(kept, Norm.L2, 4) for kept in (5, 4, 3, 1)] == [0.1, 0.1, 0.4, 0.4]
    assert found.radius(3, Norm.LINF, 4) == pytest.approx(0.2)
    assert row(Norm.L2, (3, 0.4)).radius(5, Norm.L2, 4) == 0.0
    assert row(Norm.L2).radius(1, Norm.L2, 4) == 0.0


@pytest.mark.parametrize(("share", "kept"), [(1.0, 5), (0.8, 4), (0.81, 5), (0.2, 1), (0.01, 1)])
def test_a_share_is_rounded_up(share, kept) -> None:
    assert wanted(share, row(Norm.L2).k) == kept


@pytest.mark.parametrize("change", [{"share": 0.0}, {"share": 1.1}, {"samples": 0}, {"failure": 1.0}])
def test_options_out_of_range_are_refused(change) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(change))}"):
        CompareOptions(**change)
