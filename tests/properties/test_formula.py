"""Rankings, balances and what is made of them, against their definitions by brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.properties.formula import All, Any, Balance, Ranking, together
from tests.properties.maps import check_sign, tensor, top_sets


@st.composite
def rankings(draw: st.DrawFn, pixels: int, *, factors: bool = False, shared: bool = False) -> Ranking:
    """Of some pixels; with `shared`, some may be on both sides."""
    order = draw(st.permutations(range(pixels)))
    size = draw(st.integers(1, pixels - 1))
    above, below = order[:size], order[size:]
    below = below[: draw(st.integers(1, len(below)))]
    if shared:
        below = sorted({*below, *above[: draw(st.integers(0, len(above)))]})
    lost, gained = draw(st.integers(1, len(above))), draw(st.integers(1, len(below)))
    keep = len(above) - lost + 1
    up, down = (draw(st.sampled_from([0.25, 0.5, 1.0, 2.0])) if factors else 1.0 for _ in range(2))
    return Ranking(tuple(above), tuple(below), keep, gained + keep - 1, up, down)


def sets_of(ranking: Ranking) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All sets of pixels whose change of places breaks it."""
    lost = itertools.combinations(ranking.above, ranking.lost_count)
    gained = list(itertools.combinations(ranking.below, ranking.gained))
    return list(itertools.product(lost, gained))


@given(st.data())
def test_a_margin_is_the_least_over_all_sets_that_can_break_it(data: st.DataObject) -> None:
    cam = data.draw(st.lists(st.integers(-6, 12), min_size=3, max_size=7))
    values = tensor(cam)
    ranking = data.draw(rankings(len(cam), factors=True, shared=True))
    expected = min(
        max(ranking.up * values[i] - ranking.down * values[p] for i in rows for p in columns)
        for rows, columns in sets_of(ranking)
    )
    assert float(ranking.margin(values)) == float(expected)
    stacked = torch.stack([values, values.flip(0), -values])[None]
    assert ranking.margin(stacked).shape == (1, 3)
    assert float(ranking.margin(stacked)[0, 0]) == float(expected)
    margins = ranking.pairs(values)
    for (row, i), (column, p) in itertools.product(enumerate(ranking.above), enumerate(ranking.below)):
        assert float(margins[row, column]) == float(ranking.up * values[i] - ranking.down * values[p])


@given(st.data())
def test_a_ranking_says_what_its_words_do(data: st.DataObject) -> None:
    """At least `keep` of A are among the `among` largest of both sets, whichever are taken among equals."""
    cam = data.draw(st.lists(st.integers(-3, 3), min_size=3, max_size=7))
    ranking = data.draw(rankings(len(cam)))
    both = (*ranking.above, *ranking.below)
    inside = set(range(len(ranking.above)))
    kept = [len(inside & top) for top in top_sets([cam[p] for p in both], ranking.among)]
    check_sign(float(ranking.margin(tensor(cam))), [count >= ranking.keep for count in kept])


@given(st.data())
def test_lost_pixels_show_that_it_is_broken(data: st.DataObject) -> None:
    size = data.draw(st.integers(3, 7))
    cams = [data.draw(st.lists(st.integers(-6, 12), min_size=size, max_size=size)) for _ in range(2)]
    cam, before = map(tensor, cams)
    ranking = data.draw(rankings(size, factors=True, shared=True))
    found, alone = ranking.lost(cam, before), ranking.lost(cam)
    broken = bool(ranking.margin(cam) < 0)
    assert bool(alone) == broken
    assert set(found) <= set(alone) <= set(ranking.above)
    if broken:
        assert len(alone) >= ranking.lost_count
        if bool(ranking.margin(before) > 0):
            assert found
        for i in alone:
            higher = sum(ranking.down * cam[p] > ranking.up * cam[i] for p in ranking.below)
            assert int(higher) >= ranking.gained or ranking.keep > 1
            assert int(higher) >= 1
    for join in (All, Any):
        combined = join((ranking, ranking))
        assert bool(combined.lost(cam)) == broken
        assert set(combined.lost(cam, before)) == set(found)


@given(st.data())
def test_sensitivity_bounds_what_a_change_of_values_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(3, 6))
    cam = tensor(data.draw(st.lists(st.integers(-6, 12), min_size=size, max_size=size)))
    change = tensor(data.draw(st.lists(st.integers(-8, 8), min_size=size, max_size=size)))  # by at most 1
    ranking = data.draw(rankings(size, factors=True, shared=True))
    coefficients = data.draw(st.lists(st.integers(-3, 3).map(float), min_size=size, max_size=size))
    balance = Balance((tuple(coefficients), tuple(-c for c in coefficients)))
    for formula in (ranking, balance, All((ranking, balance)), Any((ranking, balance))):
        moved = float((formula.margin(cam + change) - formula.margin(cam)).abs())
        assert moved <= formula.sensitivity


@given(st.data())
def test_a_balance_by_its_sum(data: st.DataObject) -> None:
    cam = data.draw(st.lists(st.integers(-6, 12), min_size=2, max_size=6))
    rows = [
        tuple(map(float, data.draw(st.lists(st.integers(-4, 4), min_size=len(cam), max_size=len(cam)))))
        for _ in range(2)
    ]
    expected = min(sum(c * max(v, 0) / 8 for c, v in zip(row, cam, strict=True)) for row in rows)
    assert float(Balance(tuple(rows)).margin(tensor(cam))) == expected
    assert Balance(tuple(rows)).lost(tensor(cam)) == ()


@given(st.data())
def test_all_and_any(data: st.DataObject) -> None:
    cam = data.draw(st.lists(st.integers(-6, 12), min_size=4, max_size=6))
    parts = tuple(data.draw(rankings(len(cam))) for _ in range(3))
    margins = [float(part.margin(tensor(cam))) for part in parts]
    assert float(All(parts).margin(tensor(cam))) == min(margins)
    assert float(Any(parts).margin(tensor(cam))) == max(margins)
    assert list(All((Any(parts[:2]), parts[2])).leaves) == list(parts)
    assert bool(All(parts).lost(tensor(cam))) == (min(margins) < 0)
    assert bool(Any(parts).lost(tensor(cam))) == (max(margins) < 0)


def test_what_cannot_be_asked_is_refused() -> None:
    for keep, among, what in (
        (0, 1, "nothing can fulfil"), (3, 3, "nothing can fulfil"), (2, 1, "nothing can fulfil"),
        (1, 3, "nothing can break"), (2, 4, "nothing can break"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=what):
            Ranking((0, 1), (2, 3), keep, among)
    for kind in (All, Any):
        with pytest.raises(UsageError, match="no parts"):
            kind(())
    ranking = Ranking((0,), (1,), 1, 1)
    assert together([ranking], All) is ranking
    assert together([ranking, ranking], Any) == Any((ranking, ranking))


def test_margins_have_gradients_where_they_are_decided() -> None:
    cam = torch.tensor([3.0, 2.0, 1.0, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(Ranking((0, 1), (2, 3), 1, 1, up=0.5).margin(cam), cam)
    assert gradient.tolist() == [0.5, 0, -1, 0]
    assert math.isnan(float(Ranking((0,), (1,), 1, 1).margin(torch.tensor([math.nan, 0.0]))))
