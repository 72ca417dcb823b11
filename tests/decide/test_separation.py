"""Rankings decided by bounds of single pixels, against the values that pixels can have."""

from __future__ import annotations

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corgi.decide.counting import counted
from corgi.decide.pixels import PixelBounds
from corgi.decide.separation import separate
from corgi.properties.formula import Ranking
from corgi.types import Interval
from tests.properties.test_formula import rankings


class Ends(PixelBounds):
    """Pixels that move by themselves within [least, most]; each piece of work brings bounds half as near."""

    def __init__(self, cam: Tensor, least: Tensor, most: Tensor, loose: float) -> None:
        self.least, self.most = least, most
        self.low, self.high = least - loose, most + loose
        self.lowest, self.highest = cam.clone(), cam.clone()
        self.nodes = self.searches = 0
        self.pieces: dict[tuple[int, bool], int] = {}

    def begun(self, pixel: int, *, from_below: bool) -> bool:
        return (pixel, from_below) in self.pieces

    def improve(self, pixel: int, *, from_below: bool, enough: float) -> None:
        piece = self.pieces[pixel, from_below] = self.pieces.get((pixel, from_below), 0) + 1
        ends = (self.low, self.lowest, self.least) if from_below else (self.high, self.highest, self.most)
        known, seen, truth = ends
        known[pixel] = truth[pixel] if piece > 20 else (known[pixel] + truth[pixel]) / 2
        seen[pixel] = known[pixel] if piece > 20 else (seen[pixel] + truth[pixel]) / 2


@st.composite
def moving(draw: st.DrawFn) -> tuple[Ranking, Ends]:
    pixels = draw(st.integers(2, 7))
    ranking = draw(rankings(pixels, factors=draw(st.booleans()), shared=draw(st.booleans())))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    cam = torch.rand(pixels, generator=generator, dtype=torch.float64) * 8
    by = torch.rand(2, pixels, generator=generator, dtype=torch.float64) * draw(st.sampled_from([0.1, 1, 4]))
    return ranking, Ends(cam, cam - by[0], cam + by[1], draw(st.sampled_from([0.5, 20.0, math.inf])))


def nothing(ranking: Ranking) -> Tensor:
    return torch.full((len(ranking.above), len(ranking.below)), -math.inf, dtype=torch.float64)


@settings(max_examples=200)
@given(moving())
def test_proved_exactly_where_a_value_separates_them(case: tuple[Ranking, Ends]) -> None:
    """Not where one hardly does: work ends where bounds cannot tell."""
    ranking, pixels = case
    margins = separate(ranking, pixels, nothing(ranking), math.inf)
    least = ranking.up * pixels.least[ranking.inside].sort().values[ranking.lost_count - 1]
    most = ranking.down * pixels.most[ranking.others].sort(descending=True).values[ranking.gained - 1]
    apart, found = float(least - most), counted(margins, ranking)
    pairs = ranking.up * pixels.least[ranking.inside][:, None] - ranking.down * pixels.most[ranking.others]
    same = ranking.inside[:, None] == ranking.others
    assert bool((margins[~same] <= pairs[~same] + 1e-9).all())
    if not bool(same.any()):
        assert found <= apart + 1e-9
        assert found > 0 or apart < 0.2


def test_what_was_known_of_pairs_is_kept() -> None:
    """Pairs that move together are proved as pairs only, and then nothing is spent on their pixels."""
    ranking = Ranking((0, 1), (2, 3), 1, 1)
    values = torch.tensor([5.0, 4.0, 3.0, 2.0], dtype=torch.float64)
    pixels = Ends(values, values - 4, values + 4, 1.0)
    known = torch.tensor([[0.5, 0.5], [-math.inf, -math.inf]], dtype=torch.float64)
    assert torch.equal(separate(ranking, pixels, known, math.inf)[0], known[0])
    assert pixels.pieces == {}


def test_work_goes_to_as_few_pixels_as_are_enough() -> None:
    """One of many that can be the largest is lifted above all others, which stay below anyhow."""
    ranking = Ranking(tuple(range(5)), (5, 6), 1, 1)
    cam = torch.tensor([9.0, 8, 8, 8, 8, 1, 1], dtype=torch.float64)
    pixels = Ends(cam, cam - 1, cam + 1, 0.0)
    pixels.low -= 10
    assert counted(separate(ranking, pixels, nothing(ranking), math.inf), ranking) > 0
    assert {pixel for pixel, _ in pixels.pieces} == {0}


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_without_time_what_is_known_already_counts(seconds: float) -> None:
    ranking, cam = Ranking((0,), (1, 2), 1, 2), torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
    pixels, began = Ends(cam, cam - 0.5, cam + 0.5, 0.0), time.monotonic()
    margins = separate(ranking, pixels, nothing(ranking), seconds)
    assert torch.equal(margins, torch.ones(1, 2, dtype=torch.float64))
    assert pixels.pieces == {}
    assert time.monotonic() - began < 60


def test_a_pixel_against_itself_ends_the_work() -> None:
    """Its own margin is no matter of a value between two pixels."""
    ranking = Ranking((0, 1), (0, 1), 2, 2, down=0.5)
    cam = torch.tensor([3.0, 2.5], dtype=torch.float64)
    pixels = Ends(cam, cam - 4, cam + 0.1, 0.0)
    assert isinstance(pixels.interval, Interval)
    assert counted(separate(ranking, pixels, nothing(ranking), math.inf), ranking) <= 0
