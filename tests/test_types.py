"""Balls hold every image they should, and bounds of engines are made safe."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import EngineError, UsageError
from corgi.types import Ball, Interval, Norm

NAN, INF = math.nan, math.inf
dtypes = st.sampled_from([torch.float32, torch.float64])
pixels = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 0.5, 2.0**-149, 1 - 2.0**-24]))
radii = st.one_of(st.floats(0, 2), st.floats(0, 1e-6), st.sampled_from([0.0, 5e-324, 1e-300, 1 / 255, 1.0]))


def cut(value: Fraction, low: Fraction, high: Fraction) -> Fraction:
    return min(max(value, low), high)


@given(values=st.lists(pixels, min_size=1, max_size=4), radius=radii, dtype=dtypes, wide=st.booleans())
def test_box_contains_the_real_ball(
    values: list[float], radius: float, dtype: torch.dtype, wide: bool
) -> None:
    center = torch.tensor(values, dtype=torch.float64 if wide else torch.float32).reshape(1, 1, -1)
    box = Ball(center, radius).box(dtype)
    assert box.lower.dtype == box.upper.dtype == dtype
    assert box.lower.shape == center.shape
    for pixel, lower, upper in zip(
        center.flatten().tolist(), box.lower.flatten().tolist(), box.upper.flatten().tolist(), strict=True
    ):
        exact, r = Fraction(pixel), Fraction(radius)
        assert Fraction(lower) <= cut(exact - r, Fraction(0), Fraction(1))
        assert Fraction(upper) >= cut(exact + r, Fraction(0), Fraction(1))
        assert 0 <= lower <= pixel <= upper <= 1
        # And it is no larger than the next number of the type.
        step = 2 * torch.finfo(dtype).eps
        assert Fraction(lower) >= cut(exact - r, Fraction(0), Fraction(1)) - Fraction(step)
        assert Fraction(upper) <= cut(exact + r, Fraction(0), Fraction(1)) + Fraction(step)


@given(pixel=st.floats(0.1, 0.7), radius=radii, dtype=dtypes)
def test_box_contains_the_ball_in_a_box_the_type_cannot_hold(
    pixel: float, radius: float, dtype: torch.dtype
) -> None:
    box = Ball(torch.tensor([[[pixel]]], dtype=torch.float64), radius, pixel_box=(0.1, 0.7)).box(dtype)
    low, high = Fraction(0.1), Fraction(0.7)
    assert Fraction(float(box.lower)) <= cut(Fraction(pixel) - Fraction(radius), low, high)
    assert Fraction(float(box.upper)) >= cut(Fraction(pixel) + Fraction(radius), low, high)


@given(pixel=pixels, radius=radii, dtype=dtypes)
def test_inner_box_lies_inside_the_real_ball(pixel: float, radius: float, dtype: torch.dtype) -> None:
    box = Ball(torch.tensor([[[pixel]]], dtype=torch.float32), radius).inner_box(dtype)
    for end in (float(box.lower), float(box.upper)):
        assert abs(Fraction(end) - Fraction(pixel)) <= Fraction(radius)
        assert 0 <= end <= 1


def test_box_of_radius_zero_is_the_image() -> None:
    center = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.float64):
        box = Ball(center, 0.0).box(dtype)
        assert torch.equal(box.lower, center.to(dtype))
        assert torch.equal(box.upper, center.to(dtype))


@given(small=radii, large=radii, pixel=pixels, dtype=dtypes)
def test_boxes_nest(small: float, large: float, pixel: float, dtype: torch.dtype) -> None:
    ball = Ball(torch.tensor([[[pixel]]]), max(small, large))
    inner, outer = ball.with_radius(min(small, large)).box(dtype), ball.box(dtype)
    assert float(outer.lower) <= float(inner.lower) <= float(inner.upper) <= float(outer.upper)


@pytest.mark.parametrize("radius", [-1e-9, NAN, INF, -INF])
def test_radii_that_are_refused(radius: float) -> None:
    with pytest.raises(UsageError, match="radius"):
        Ball(torch.zeros(1, 1, 1), radius)


@pytest.mark.parametrize("pixel", [-0.01, 1.01, NAN, INF])
def test_centres_that_are_refused(pixel: float) -> None:
    with pytest.raises(UsageError, match=r"outside \[0.0, 1.0\]"):
        Ball(torch.tensor([[[0.5, pixel]]]), 0.1)


def test_a_norm_is_no_string() -> None:
    with pytest.raises(UsageError, match="expected a Norm"):
        Ball(torch.zeros(1, 1, 1), 0.1, "l2")


def test_distance() -> None:
    ball = Ball(torch.tensor([[[0.25, 0.5]]]), 0.1)
    assert ball.distance(torch.tensor([[[0.375, 0.25]]])) == 0.25
    assert math.isnan(ball.distance(torch.tensor([[[NAN, 0.25]]])))


def test_distances_and_duals_by_norm() -> None:
    image = torch.tensor([[[0.5, 0.0], [1.0, 1.0]]])
    moved = image + torch.tensor([[[0.25, 0.25], [-0.25, -0.25]]])
    for norm, distance, largest in ((Norm.LINF, 0.25, 1), (Norm.L2, 0.5, 2), (Norm.L1, 1, 4)):
        ball = Ball(image, 0.1, norm)
        assert ball.distance(moved) == pytest.approx(distance, rel=1e-12)
        assert ball.distance(moved) >= distance
        assert ball.distance(image) == 0
        assert math.isnan(ball.distance(torch.full_like(image, NAN)))
        assert ball.largest == largest
        assert torch.equal(ball.box(torch.float64).lower, Ball(image, 0.1).box(torch.float64).lower)
        assert norm.dual.dual is norm
        assert 1 / norm.order + 1 / norm.dual.order == 1


def engine(lower: list[float], upper: list[float], slack: float = 0.0) -> tuple[list[float], list[float]]:
    made = Interval.from_engine(torch.tensor(lower), torch.tensor(upper), slack=slack, engine="test")
    return made.lower.tolist(), made.upper.tolist()


@pytest.mark.parametrize(
    ("given_bounds", "made"),
    [
        ((0.0, 1.0), (0.0, 1.0)),
        ((NAN, 1.0), (-INF, 1.0)),
        ((0.0, NAN), (0.0, INF)),
        ((NAN, NAN), (-INF, INF)),
        ((-INF, INF), (-INF, INF)),
        ((INF, INF), (-INF, INF)),
        ((-INF, -INF), (-INF, INF)),
        ((INF, -INF), (-INF, INF)),
        ((INF, NAN), (-INF, INF)),
        ((NAN, -INF), (-INF, INF)),
    ],
)
def test_what_is_no_number_says_nothing(given_bounds: tuple[float, float], made: tuple[float, float]) -> None:
    assert engine([given_bounds[0]], [given_bounds[1]]) == ([made[0]], [made[1]])


@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), max_size=6))
def test_bounds_are_ordered_and_never_tightened(pairs: list[tuple[float, float]]) -> None:
    lowers, uppers = [p[0] for p in pairs], [p[1] for p in pairs]
    crosses = any(math.isfinite(a) and math.isfinite(b) and a > b for a, b in pairs)
    if crosses:
        with pytest.raises(EngineError, match="above its upper bound"):
            engine(lowers, uppers)
        return
    for (a, b), lower, upper in zip(pairs, *engine(lowers, uppers), strict=True):
        assert lower <= upper
        assert math.isnan(a) or lower <= a
        assert math.isnan(b) or upper >= b


def test_a_crossing_that_rounding_explains_becomes_the_hull() -> None:
    assert engine([1.5, 0.0], [1.25, 1.0], slack=0.25) == ([1.25, 0.0], [1.5, 1.0])
    with pytest.raises(EngineError, match=r"engine test .* by 0\.25 \(rounding explains 0\.2\)") as caught:
        engine([1.5], [1.25], slack=0.2)
    assert caught.value.hint


def test_a_slack_that_is_no_number_explains_nothing() -> None:
    with pytest.raises(EngineError):
        engine([1.5], [1.25], slack=NAN)


def test_shapes_must_agree() -> None:
    with pytest.raises(EngineError, match=r"\(2,\) and \(1,\)"):
        engine([0.0, 0.0], [1.0])


def test_no_bounds_are_bounds() -> None:
    assert engine([], []) == ([], [])
