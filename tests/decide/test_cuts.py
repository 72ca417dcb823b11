"""Cuts against the function they cut: never below it, not even by rounding, and as low as can be."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from corgi.decide import cuts
from corgi.decide.reach import Reach
from corgi.decide.solver import Vector
from corgi.terms import Norm


def window(
    rng: np.random.Generator, elements: int, variables: int
) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    """Rows, constants, both ends of the box, and a point in it; some variables are unused, some fixed."""
    rows = rng.standard_normal((elements, variables)) * (rng.random((elements, variables)) < 0.8)
    lower, upper = np.sort(rng.standard_normal((2, variables)), axis=0)
    fixed = rng.random(variables) < 0.1
    upper[fixed] = lower[fixed]
    point = lower + rng.random(variables) * (upper - lower)
    return rows, rng.standard_normal(elements), lower, upper, point


def envelope(
    rows: Vector, constants: Vector, lower: Vector, upper: Vector, point: Vector
) -> tuple[Vector, float]:
    """The cut over a box."""
    nothing = Reach(np.zeros(0), np.zeros(0), Norm.LINF, np.inf)
    return cuts.envelope(rows, constants, nothing, lower, upper, point)


def corners(lower: Vector, upper: Vector) -> Vector:
    return np.array(list(itertools.product(*zip(lower, upper, strict=True))))


def concave_envelope(rows: Vector, constants: Vector, lower: Vector, upper: Vector, point: Vector) -> float:
    """The largest mean of the maximum over corners whose mean is the point."""
    ends = corners(lower, upper)
    values = (ends @ rows.T + constants).max(1)
    equal = np.concatenate([ends.T, np.ones((1, len(ends)))])
    found = linprog(-values, A_eq=equal, b_eq=np.append(point, 1), bounds=(0, None))
    assert found.status == 0, found.message
    return float(-found.fun)


def affine(coefficients: Vector, constant: float, point: list[Fraction]) -> Fraction:
    terms = (Fraction(a) * x for a, x in zip(coefficients.tolist(), point, strict=True))
    return sum(terms, Fraction(float(constant)))


def holds(cut: Vector, side: float, rows: Vector, constants: Vector, points: Vector) -> bool:
    """Whether the cut is at least every element at all points, exactly."""
    for corner in points.tolist():
        v = [Fraction(x) for x in corner]
        if affine(cut, side, v) < max(affine(row, k, v) for row, k in zip(rows, constants, strict=True)):
            return False
    return True


@pytest.mark.parametrize("elements", [1, 2, 3, 5])
def test_a_cut_is_never_below_the_maximum(elements: int) -> None:
    """It is affine and the maximum convex, so corners decide; without any rounding."""
    rng = np.random.default_rng(elements)
    for _ in range(30):
        variables = int(rng.integers(1, 5))
        rows, constants, lower, upper, point = window(rng, elements, variables)
        sizes = 10.0 ** rng.integers(-6, 7, variables)
        rows, lower, upper, point = rows / sizes, lower * sizes, upper * sizes, point * sizes
        # Also at points that no solver should propose.
        for at in (point, lower, upper, 10 * point + 1, np.zeros(variables)):
            cut, side = envelope(rows, constants, lower, upper, at)
            assert holds(cut, side, rows, constants, corners(lower, upper))


def test_a_cut_of_two_elements_is_the_concave_envelope_at_its_point() -> None:
    rng, below_the_chord = np.random.default_rng(0), 0
    for _ in range(60):
        rows, constants, lower, upper, point = window(rng, 2, int(rng.integers(1, 6)))
        cut, side = envelope(rows, constants, lower, upper, point)
        found = float(cut @ point) + side
        assert found == pytest.approx(concave_envelope(rows, constants, lower, upper, point), abs=1e-7)
        assert (np.minimum(*rows) - 1e-12 <= cut).all()
        assert (cut <= np.maximum(*rows) + 1e-12).all()
        # The chord of relu(slope . v + c) by the range of its argument alone, as the planes have it.
        slope, constant = rows[0] - rows[1], float(constants[0] - constants[1])
        ends = corners(lower, upper) @ slope + constant
        if ends.min() < 0 < ends.max():
            share = ends.max() / (ends.max() - ends.min())
            chord = share * (float(slope @ point) + constant - ends.min())
            chord += float(rows[1] @ point) + float(constants[1])
            assert found <= chord + 1e-9
            below_the_chord += found < chord - 1e-3
    assert below_the_chord >= 15


def test_a_cut_of_more_elements_is_above_their_envelope_and_of_use() -> None:
    rng, lower_than_the_largest = np.random.default_rng(1), 0
    for _ in range(40):
        rows, constants, lower, upper, point = window(rng, 4, 4)
        cut, side = envelope(rows, constants, lower, upper, point)
        found = float(cut @ point) + side
        assert found >= concave_envelope(rows, constants, lower, upper, point) - 1e-7
        highest = float((corners(lower, upper) @ rows.T + constants).max())
        lower_than_the_largest += found < highest - 1e-3
    assert lower_than_the_largest >= 30


reals = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(
    rows=arrays(np.float64, (3, 3), elements=reals),
    constants=arrays(np.float64, 3, elements=reals),
    ends=arrays(np.float64, (2, 3), elements=reals),
    point=arrays(np.float64, 3, elements=st.floats()),
)
def test_any_point_gives_a_cut_that_holds_or_none(rows, constants, ends, point) -> None:
    """NaN and infinities included: then what is not finite is no row."""
    lower, upper = ends.min(0), ends.max(0)
    with np.errstate(all="ignore"):
        cut, side = envelope(rows, constants, lower, upper, point)
    if np.isfinite(cut).all() and np.isfinite(side):
        assert holds(cut, side, rows, constants, corners(lower, upper))
