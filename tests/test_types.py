"""Balls hold every image they should, and bounds of engines are made safe."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import EngineError, UsageError
from corgi.types import Ball, Interval, Norm, Where

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


@given(
    entries=st.lists(st.tuples(pixels, st.one_of(st.floats(0, 1), st.just(0.0))), min_size=1, max_size=4),
    radius=radii,
    dtype=dtypes,
    shares=st.lists(st.floats(-1, 1), min_size=5, max_size=5),
)
def test_boxes_where_entries_change_by_shares(
    entries: list[tuple[float, float]], radius: float, dtype: torch.dtype, shares: list[float]
) -> None:
    """The box holds the real set, the inner box lies in it, and its images are no farther than the radius."""
    entries = [*entries, (0.5, 1.0)]
    values, scale = (torch.tensor(part, dtype=torch.float64) for part in zip(*entries, strict=True))
    center = values.to(torch.float32).reshape(1, 1, -1)
    ball = Ball(center, radius, where=Where(scale.reshape(1, 1, -1), "shares"))
    box, inner = ball.box(dtype), ball.inner_box(torch.float32)
    for number, (pixel, share) in enumerate(zip(center.flatten().tolist(), scale.tolist(), strict=True)):
        reach = Fraction(radius) * Fraction(share)
        low, high = (cut(Fraction(pixel) + sign * reach, Fraction(0), Fraction(1)) for sign in (-1, 1))
        assert Fraction(float(box.lower[0, 0, number])) <= low
        assert Fraction(float(box.upper[0, 0, number])) >= high
        assert low <= Fraction(float(inner.lower[0, 0, number])) <= Fraction(pixel)
        assert Fraction(pixel) <= Fraction(float(inner.upper[0, 0, number])) <= high
        if share == 0 and dtype is torch.float64:
            assert box.lower[0, 0, number] == box.upper[0, 0, number] == pixel
    part = torch.tensor(shares, dtype=torch.float32)[: len(entries)].resize_(1, 1, len(entries))
    image = torch.where(part > 0, inner.upper, inner.lower)
    assert ball.distance(image) <= radius
    exact = [
        abs(Fraction(float(a)) - Fraction(float(b))) / Fraction(s)
        for a, b, s in zip(image.flatten(), center.flatten(), scale.tolist(), strict=True)
        if s > 0
    ]
    assert Fraction(ball.distance(image)) >= max(exact)


@pytest.mark.parametrize("norm", list(Norm))
def test_what_may_not_change_is_infinitely_far(norm: Norm) -> None:
    center, scale = torch.full((2, 1, 3), 0.5), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    ball = Ball(center, 0.1, norm, where=Where(scale.reshape(1, 1, 3), "inside of it"))
    image = center.clone()
    image[:, 0, 0] += 0.25
    assert ball.distance(image) == pytest.approx(
        {Norm.LINF: 0.25, Norm.L2: 0.25 * 2**0.5, Norm.L1: 0.5}[norm]
    )
    image[1, 0, 1] += 2.0**-20
    assert ball.distance(image) == math.inf
    assert ball.largest == pytest.approx({Norm.LINF: 1, Norm.L2: 2, Norm.L1: 4}[norm])
    assert ball.with_radius(0.2).where is ball.where


def test_places_that_are_refused() -> None:
    ones, image = torch.ones(1, 2, 2, dtype=torch.float64), torch.full((3, 2, 2), 0.5)
    for wrong in (ones.float(), ones[0], 2 * ones, -ones, 0.5 * ones, 0 * ones, ones * NAN):
        with pytest.raises(UsageError, match="how far entries may change"):
            Where(wrong, "them")
    with pytest.raises(UsageError, match="of shape"):
        Ball(image, 0.1, where=Where(torch.ones(1, 2, 3, dtype=torch.float64), "them"))
    halves = ones.clone()
    halves[0, 0, 0] = 0.5
    with pytest.raises(UsageError, match="shares of a radius in l_2"):
        Ball(image, 0.1, Norm.L2, where=Where(halves, "them"))
    assert Ball(image, 0.1, where=Where(halves, "them")).scale.shape == image.shape


def test_places_are_equal_if_they_say_the_same() -> None:
    ones = torch.ones(1, 2, 2, dtype=torch.float64)
    one, other = Where(ones, "them"), Where(ones.clone(), "them")
    assert one == other
    assert hash(one) == hash(other)
    ones[0, 0, 0] = 0
    assert one == other, "what the caller writes later is another place"
    assert Where(ones, "them") != one
    assert Where(other.scale, "others") != one


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
