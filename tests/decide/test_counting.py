"""The counting bound against all complete bipartite subgraphs, enumerated."""

from __future__ import annotations

import itertools
import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corgi.decide.counting import core, counted
from corgi.properties.formula import Ranking

SMALL = st.integers(1, 5)


def complete(opened: Tensor, lost: int, gained: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All complete subgraphs of lost x gained."""
    rows, columns = map(range, opened.shape)
    return [
        (chosen, others)
        for chosen in itertools.combinations(rows, lost)
        for others in itertools.combinations(columns, gained)
        if bool(opened[list(chosen)][:, list(others)].all())
    ]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Tensor, int, int]:
    rows, columns = draw(SMALL), draw(SMALL)
    edges = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return (
        torch.tensor(edges).reshape(rows, columns),
        draw(st.integers(1, rows)),
        draw(st.integers(1, columns)),
    )


@settings(max_examples=300)
@given(graphs())
def test_the_core_holds_every_complete_subgraph(graph: tuple[Tensor, int, int]) -> None:
    opened, lost, gained = graph
    found, subgraphs = core(opened, lost, gained), complete(opened, lost, gained)
    assert not bool((found & ~opened).any())
    for rows, columns in subgraphs:
        assert bool(found[list(rows)][:, list(columns)].all())
    if lost == 1 or gained == 1:  # there it is nothing but those
        assert bool(found.any()) == bool(subgraphs)
    assert torch.equal(core(found, lost, gained), found)


def test_a_core_may_be_larger_than_what_is_complete() -> None:
    """A ring of three rows and three columns: every pixel has two pairs, no two rows share two columns."""
    ring = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool()
    assert torch.equal(core(ring, 2, 2), ring)
    assert not complete(ring, 2, 2)


@st.composite
def bounded(draw: st.DrawFn, special: tuple[float, ...] = ()) -> tuple[Tensor, Ranking]:
    """Margins and the ranking they are of."""
    rows, columns = draw(SMALL), draw(SMALL)
    numbers = st.one_of(st.integers(-3, 3).map(float), st.sampled_from(special or (0.0,)))
    values = draw(st.lists(numbers, min_size=rows * columns, max_size=rows * columns))
    lost, gained = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    keep = rows - lost + 1
    above, below = tuple(range(rows)), tuple(range(rows, rows + columns))
    ranking = Ranking(above, below, keep, gained + keep - 1)
    return torch.tensor(values, dtype=torch.float64).reshape(rows, columns), ranking


@settings(max_examples=300)
@given(bounded())
def test_the_bound_is_never_above_what_pairs_allow(case: tuple[Tensor, Ranking]) -> None:
    """Never above the least that a set can sink to; equal to it where one side is 1."""
    margins, ranking = case
    lost, gained = ranking.lost_count, ranking.gained
    everything = torch.ones_like(margins, dtype=torch.bool)
    least = min(float(margins[list(a)][:, list(b)].max()) for a, b in complete(everything, lost, gained))
    found = counted(margins, ranking)
    assert found <= least
    assert found in margins
    if lost == 1 or gained == 1:
        assert found == least
    # It is the largest value that the core alone proves.
    assert not bool(core(margins < found, lost, gained).any())
    assert bool(core(margins <= found, lost, gained).any())


@given(bounded(), st.data())
def test_the_bound_holds_for_maps(case: tuple[Tensor, Ranking], data: st.DataObject) -> None:
    """Whatever a map is, with its own pairs as bounds, or smaller ones."""
    _, ranking = case
    size = len(ranking.above) + len(ranking.below)
    cam = torch.tensor(data.draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))).double()
    margins = ranking.pairs(cam)
    assert counted(margins, ranking) <= float(ranking.margin(cam))
    lower = margins - torch.rand(margins.shape, generator=torch.Generator().manual_seed(size))
    assert counted(lower, ranking) <= float(ranking.margin(cam))


@settings(max_examples=200)
@given(bounded((math.nan, -math.inf)))
def test_what_is_not_known_proves_nothing(case: tuple[Tensor, Ranking]) -> None:
    margins, ranking = case
    found = counted(margins, ranking)
    assert not math.isnan(found)
    assert found == counted(margins.nan_to_num(nan=-math.inf, neginf=-math.inf), ranking)
    unknown = torch.full_like(margins, math.nan)
    assert counted(unknown, ranking) == -math.inf
