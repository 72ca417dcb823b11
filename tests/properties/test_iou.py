from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.properties import Iou
from corgi.properties.iou import least_changes
from tests.properties.maps import Map, at_the_image, changed, tensor

THRESHOLDS = st.sampled_from([0.25, 0.5, 0.75])
"""Exact, so that a mask of eighths has no rounding."""

SHARES = st.sampled_from([0.125, 0.25, 0.5, 0.625, 0.75, 1.0])


def mask(cam: Map, threshold: float, *, strictly: bool = False) -> set[int]:
    """By definition; `strictly`: without the pixels that stand exactly at the threshold."""
    level = Fraction(threshold) * max(cam)
    return {p for p, value in enumerate(cam) if (value > level if strictly else value >= level)}


def agreement(one: set[int], other: set[int]) -> Fraction:
    return Fraction(len(one & other), len(one | other))


@given(changed(), THRESHOLDS, SHARES)
def test_by_the_masks_themselves(maps: tuple[Map, Map], threshold: float, share: float) -> None:
    """Pixels at the threshold may be called in or out: then the margin is 0 if that decides."""
    before, after = maps
    assume(max(before) > 0)
    asked, (cam, top) = Iou(threshold, share), at_the_image(before, 1)
    original = mask(before, threshold)
    assert set(asked.mask(cam)) == original
    margin = float(asked.formula(cam, top).margin(tensor(after)))
    # The best and the worst that can be made of pixels at the threshold.
    certain, possible = mask(after, threshold, strictly=True), mask(after, threshold)
    doubtful = possible - certain
    best, worst = (
        agreement(original, certain | (doubtful & kept))
        for kept in (original, set(range(len(after))) - original)
    )
    if margin > 0:
        assert worst >= Fraction(share)
    if margin < 0:
        assert best < Fraction(share)
    if not doubtful:  # no tie: the sign is the answer
        assert (margin > 0) == (best >= Fraction(share))
        assert margin != 0


@given(changed(), THRESHOLDS, SHARES)
def test_the_third_part_of_each_pair_adds_nothing_but_bounds(
    maps: tuple[Map, Map], threshold: float, share: float
) -> None:
    """Where pixels of the mask stand above new ones, so does one of them above the threshold, or it above."""
    before, after = maps
    assume(max(before) > 0)
    formula = Iou(threshold, share).formula(*at_the_image(before, 1))
    values = tensor(after)
    for pair in getattr(formula, "parts", (formula,)):
        *first, last = getattr(pair, "parts", (pair,))
        if len(first) == 2 and float(last.margin(values)) > 0:
            assert max(float(part.margin(values)) for part in first) > 0


@given(st.integers(1, 9), st.integers(1, 9), SHARES)
def test_least_changes_by_brute_force(size: int, rest: int, share: float) -> None:
    """All pairs that take a mask below an IoU are those that dominate one of them; none dominates another."""
    found = least_changes(size, rest, share)
    for missing in range(size + 1):
        for new in range(rest + 1):
            below = Fraction(size - missing, size + new) < Fraction(share)
            assert below == any(missing >= u and new >= v for u, v in found)
    for one in found:
        assert 0 <= one[0] <= size
        assert 0 <= one[1] <= rest
        assert sum(one[0] <= u and one[1] <= v for u, v in found) == 1


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1))
def test_least_changes_of_any_share(size: int, rest: int, share: float) -> None:
    for missing, new in least_changes(size, rest, share):
        assert Fraction(size - missing, size + new) < Fraction(share)
        if missing:
            assert Fraction(size - missing + 1, size + new) >= Fraction(share)
        if new:
            assert Fraction(size - missing, size + new - 1) >= Fraction(share)


def test_what_cannot_be_asked() -> None:
    for threshold, iou in ((0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.5), (float("nan"), 0.5)):
        with pytest.raises(UsageError):
            Iou(threshold, iou)
    with pytest.raises(UsageError, match="largest value of the map is 0"):
        Iou().formula(*at_the_image([0, -1, -2], 1))


def test_words() -> None:
    said = str(Iou(0.25, 0.5).statement(15))
    assert said == (
        "the mask of pixels of at least 0.25 of the maximum keeps an intersection over union of at least"
        " 0.5 with the original one"
    )
