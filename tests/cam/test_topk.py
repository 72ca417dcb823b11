"""The top-k set, its ties, and the decision that everything else relies on."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from corgi.cam.topk import check_ranks, choose_k, top_k
from corgi.errors import UsageError
from corgi.results import TopK
from tests.rankings import decision_margin, lost_pixels, outside

values = st.lists(st.integers(-4, 4), min_size=4, max_size=9)  # few values, so that ties are common
distinct = st.lists(st.integers(-50, 50), min_size=4, max_size=9, unique=True)


def tensor(numbers: list[int]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def keeps_a_top_set(cam: list[int], inside: tuple[int, ...], k2: int) -> bool:
    """By definition: some set of k2 pixels, none of them below a pixel outside it, holds all of `inside`."""
    pixels = range(len(cam))
    return any(
        min(cam[i] for i in chosen) >= max(cam[i] for i in pixels if i not in chosen)
        and set(inside) <= set(chosen)
        for chosen in itertools.combinations(pixels, k2)
    )


@given(cam=values, data=st.data())
def test_top_k_set(cam: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(cam) - 1))
    top = top_k(tensor(cam), k, 0.0)
    order = sorted(range(len(cam)), key=lambda i: -cam[i])
    assert top.pixels == tuple(order[:k])
    assert top.gap == cam[order[k - 1]] - cam[order[k]]
    assert top.tie == (top.gap == 0)


def test_map_is_read_row_by_row() -> None:
    assert top_k(torch.tensor([[0.0, 3.0], [5.0, 1.0]]), 2, 0.0).pixels == (2, 1)


@pytest.mark.parametrize(("rounding", "tie"), [(0.0, False), (0.1, False), (0.125, True), (1.0, True)])
def test_a_gap_that_rounding_explains_is_a_tie(rounding: float, tie: bool) -> None:
    assert top_k(tensor([1, 0, 0]) * 0.25, 1, rounding).tie is tie


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gap_that_is_no_number_is_a_tie(bad: float) -> None:
    assert top_k(torch.tensor([bad, bad, 1.0]), 1, 0.0).tie
    assert top_k(tensor([3, 2, 1]), 1, float("nan")).tie


@given(cam=values, data=st.data())
def test_decision_margin_is_negative_exactly_where_no_top_set_holds_the_pixels(
    cam: list[int], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(cam) - 1))
    k2 = data.draw(st.integers(k, len(cam) - 1))
    inside = tuple(data.draw(st.permutations(range(len(cam))))[:k])
    top = TopK(k, inside, 1.0, False)
    margin = float(decision_margin(tensor(cam), top, k2))
    assert (margin < 0) == (not keeps_a_top_set(cam, inside, k2))
    lost = lost_pixels(tensor(cam), top, k2)
    assert bool(lost) == (margin < 0)
    assert set(lost) <= set(inside)
    if lost:  # what is not lost does fit
        kept = tuple(i for i in inside if i not in lost)
        assert not kept or keeps_a_top_set(cam, kept, k2)


@given(cam=distinct, data=st.data())
def test_lost_pixels_are_those_of_rank_above_k2(cam: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(cam) - 1))
    k2 = data.draw(st.integers(k, len(cam) - 1))
    inside = tuple(data.draw(st.permutations(range(len(cam))))[:k])
    ranks = {i: sum(v > cam[i] for v in cam) + 1 for i in inside}
    top = TopK(k, inside, 1.0, False)
    assert lost_pixels(tensor(cam), top, k2) == tuple(i for i in inside if ranks[i] > k2)


@given(cam=distinct, data=st.data())
def test_own_set_has_a_positive_margin(cam: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(cam) - 1))
    top = top_k(tensor(cam), k, 0.0)
    assert float(decision_margin(tensor(cam), top, k)) == top.gap
    assert lost_pixels(tensor(cam), top, k) == ()


def test_decision_margin_of_many_maps_and_its_gradient() -> None:
    cams = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 2.0, 1.0, 3.0]], requires_grad=True)
    top = TopK(2, (0, 1), 1.0, False)
    margins = decision_margin(cams, top, 2)
    assert margins.tolist() == [1.0, -3.0]
    assert decision_margin(cams, top, 3).tolist() == [2.0, -1.0]
    margins.sum().backward()
    assert cams.grad is not None
    assert cams.grad.tolist() == [[0, 1, -1, 0], [1, 0, 0, -1]]


def test_not_a_number_is_never_a_positive_margin() -> None:
    top = TopK(1, (0,), 1.0, False)
    for cam in ([float("nan"), 0.0, 0.0], [1.0, float("nan"), 0.0]):
        assert not float(decision_margin(torch.tensor(cam), top, 1)) > 0


@pytest.mark.parametrize(("k", "k2"), [(0, 1), (-1, 1), (4, 4), (2, 1), (1, 4), (5, 5)])
def test_ranks_a_map_cannot_have(k: int, k2: int) -> None:
    with pytest.raises(UsageError, match=r"k2? = -?\d") as caught:
        check_ranks(k, k2, 4)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(("k", "k2"), [(1, 1), (1, 3), (3, 3)])
def test_ranks_a_map_can_have(k: int, k2: int) -> None:
    check_ranks(k, k2, 4)


def test_top_k_refuses_ranks() -> None:
    for k in (0, 4):
        with pytest.raises(UsageError, match="4 pixels"):
            top_k(torch.zeros(2, 2), k, 0.0)


@given(cam=distinct, scale=st.sampled_from([0.25, 1.0, 8.0]), shift=st.integers(-64, 64))
def test_choose_k_takes_the_largest_relative_gap(cam: list[int], scale: float, shift: int) -> None:
    assume(len(cam) >= 4)
    chosen = choose_k(tensor(cam), 2, 100)
    order, half = sorted(cam, reverse=True), len(cam) // 2
    shares = {k: (order[k - 1] - order[k]) / (order[k - 1] - order[-1]) for k in range(2, half + 1)}
    assert shares[chosen] == max(shares.values())
    assert choose_k(tensor(cam) * scale + shift, 2, 100) == chosen


def test_choose_k_of_a_flat_map_and_of_a_small_one() -> None:
    assert 5 <= choose_k(torch.zeros(4, 4)) <= 8
    assert 1 <= choose_k(torch.rand(2, 2)) <= 2
    assert choose_k(torch.rand(1, 2)) == 1


def test_choose_k_is_no_pixel_left_out() -> None:
    """At the last rank what falls away is all there is, in every map."""
    cam = torch.arange(49.0).square().reshape(7, 7)
    assert choose_k(cam) <= 24


@given(cam=values)
def test_outside_is_the_complement(cam: list[int]) -> None:
    top = top_k(tensor(cam), 2, 0.0)
    assert sorted([*outside(top, len(cam)).tolist(), *top.pixels]) == list(range(len(cam)))
