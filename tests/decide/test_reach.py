"""The least of a form over a box and a ball: never above it at any point, and it itself up to rounding."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from corgi.decide.cuts import envelope
from corgi.decide.reach import Reach
from corgi.decide.solver import Vector
from corgi.terms import Norm

NORMS = [Norm.L2, Norm.L1]


def drawn(rng: np.random.Generator, n: int, norm: Norm) -> tuple[Reach, Vector]:
    """A box around 0 and a ball that is sometimes the smaller, sometimes the larger; a form."""
    lower, upper = -rng.random(n), rng.random(n)
    lower[rng.random(n) < 0.2], upper[rng.random(n) < 0.2] = 0, 0
    form = rng.standard_normal(n) * (rng.random(n) < 0.9) * 10.0 ** rng.integers(-3, 4, n)
    radius = float(np.linalg.norm(np.maximum(-lower, upper), norm.order) * rng.uniform(0.02, 1.3))
    return Reach(lower, upper, norm, radius), form


def true_least(reach: Reach, form: Vector) -> Fraction:
    """Without rounding in l_1, where it is a knapsack; to 40 digits in l_2."""
    terms = [
        (abs(Fraction(a)), Fraction(-low if a > 0 else high))
        for a, low, high in zip(form.tolist(), reach.lower.tolist(), reach.upper.tolist(), strict=True)
    ]
    left, total = Fraction(reach.radius), Fraction(0)
    if reach.norm is Norm.L1:
        for size, room in sorted(terms, reverse=True):
            total -= size * min(room, left)
            left -= min(room, left)
        return total
    if sum((room**2 for size, room in terms if size), Fraction(0)) <= left**2:
        return -sum((size * room for size, room in terms), Fraction(0))
    with mpmath.workdps(60):
        sizes, rooms = (
            [mpmath.mpf(v.numerator) / v.denominator for v in part] for part in zip(*terms, strict=True)
        )

        def norm_of(lam: mpmath.mpf) -> mpmath.mpf:
            return sum(min(s / lam, r) ** 2 for s, r in zip(sizes, rooms, strict=True))

        low, high = mpmath.mpf(10) ** -300, mpmath.mpf(10) ** 300
        for _ in range(300):
            middle = mpmath.sqrt(low * high)
            low, high = (middle, high) if norm_of(middle) > mpmath.mpf(reach.radius) ** 2 else (low, middle)
        # At `high` the point is in the ball, so its value is not below the least.
        value = -sum(s * min(s / high, r) for s, r in zip(sizes, rooms, strict=True))
        return Fraction(str(value))


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_the_least_and_never_above(norm: Norm) -> None:
    rng, by_ball = np.random.default_rng(0), 0
    for _ in range(150):
        reach, form = drawn(rng, int(rng.integers(1, 12)), norm)
        least, true = reach.least(form), true_least(reach, form)
        assert Fraction(least) <= true + Fraction(1, 10**50)
        assert float(true) - least <= 1e-12 * float(np.abs(form) @ reach.size)
        by_ball += least > float(np.minimum(form * reach.lower, form * reach.upper).sum()) + 1e-9
    assert by_ball > 50


@pytest.mark.parametrize("norm", NORMS)
@given(
    form=arrays(np.float64, 4, elements=st.floats(allow_nan=True)),
    ends=arrays(np.float64, (2, 4), elements=st.floats(0, 1e300)),
    radius=st.floats(0, 1e300),
    share=arrays(np.float64, 4, elements=st.floats(-1, 1)),
)
def test_no_form_box_or_radius_makes_it_wrong(norm: Norm, form, ends, radius, share) -> None:
    """Huge, tiny, infinite and NaN: it is no number, or not above the value at a point of both."""
    reach = Reach(-ends[0], ends[1], norm, radius)
    with np.errstate(all="ignore"):
        least, point = reach.least(form), np.where(share < 0, -share * -ends[0], share * ends[1])
    point = [Fraction(x) for x in point.tolist()]
    point = [
        max(Fraction(lo), min(x, Fraction(hi)))
        for x, lo, hi in zip(point, (-ends[0]).tolist(), ends[1].tolist(), strict=True)
    ]
    size = sum((x**2 if norm is Norm.L2 else abs(x) for x in point), Fraction(0))
    inside = Fraction(radius) ** (2 if norm is Norm.L2 else 1)
    if size > inside:
        shrink = (
            Fraction(inside, size) if norm is Norm.L1 else Fraction(radius) / (sum(abs(x) for x in point))
        )
        point = [x * shrink for x in point]
    if np.isfinite(form).all() and np.isfinite(least):
        assert Fraction(least) <= sum(Fraction(a) * x for a, x in zip(form.tolist(), point, strict=True))
    else:
        assert not least > 0


@pytest.mark.parametrize("norm", NORMS)
def test_points_are_brought_into_both(norm: Norm) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        reach, form = drawn(rng, 6, norm)
        found = reach.within(10 * form)
        assert (found >= reach.lower).all()
        assert (found <= reach.upper).all()
        assert np.linalg.norm(found, norm.order) <= reach.radius * (1 + 1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("elements", [2, 3])
def test_cuts_around_balls_hold_and_are_below_those_of_the_box(norm: Norm, elements: int) -> None:
    """Pixels in a ball, windows in a box: never below any element, at points of both."""
    rng, lower_than_boxes = np.random.default_rng(elements), 0
    for _ in range(60):
        reach, _ = drawn(rng, 5, norm)
        low, high = -rng.random(2), rng.random(2)
        rows, constants = rng.standard_normal((elements, 7)), 0.3 * rng.standard_normal(elements)
        shares = rng.random((400, 7))
        points = np.append(reach.lower, low) + shares * np.append(reach.upper - reach.lower, high - low)
        points[200:] = np.where(shares[200:] < 0.5, np.append(reach.lower, low), np.append(reach.upper, high))
        sizes = np.linalg.norm(points[:, :5], norm.order, axis=1)
        points[:, :5] *= np.minimum(1, reach.radius / np.maximum(sizes, 1e-300))[:, None]
        at = points[int(rng.integers(400))]
        cut, side = envelope(rows, constants, reach, low, high, at)
        assert (points @ cut + side >= (points @ rows.T + constants).max(1) - 1e-12).all()
        box = Reach(reach.lower, reach.upper, Norm.LINF, np.inf)
        other, its_side = envelope(rows, constants, box, low, high, at)
        lower_than_boxes += cut @ at + side < other @ at + its_side - 1e-6
    assert lower_than_boxes > 10
