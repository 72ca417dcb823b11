"""Rankings decided by bounds of single pixels, against the values that pixels can have."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corgi.decide.counting import counted
from corgi.decide.pixels import Ends, PixelBounds
from corgi.decide.separation import separate
from corgi.properties.formula import Ranking
from corgi.types import Interval
from tests.properties.test_formula import rankings


class Moving(PixelBounds):
    """Pixels that move by themselves within [least, most]; each piece of work brings bounds half as near."""

    def __init__(self, cam: Tensor, least: Tensor, most: Tensor, loose: float) -> None:
        self.truth = least, most
        self.least, self.most = Ends(1, least - loose, cam.clone()), Ends(-1, -most - loose, -cam)
        self.worked: list[int] = []

    def improve(self, ends: Ends, pixel: int, enough: float, deadline: float | None = None) -> None:
        assert ends.bound[pixel] <= enough
        self.worked.append(pixel)
        least = float(self.truth[0][pixel] if ends.sign > 0 else -self.truth[1][pixel])
        ends.minima.setdefault(pixel, Halved(least, float(ends.bound[pixel]), float(ends.seen[pixel])))
        ends.improve(pixel, ends.minima[pixel], enough)


@dataclass
class Halved:
    """A least value, and what is known of it."""

    least: float
    bound: float
    seen: float
    nodes: int = 0
    finished: bool = False

    def improve(self, nodes: int, enough: float) -> None:
        self.nodes += nodes
        self.finished = self.nodes > 1000
        known = (self.bound + self.least) / 2 if math.isfinite(self.bound) else self.least - 10
        self.bound = self.least if self.finished else known
        self.seen = (self.seen + self.least) / 2


@st.composite
def moving(draw: st.DrawFn) -> tuple[Ranking, Moving]:
    pixels = draw(st.integers(2, 7))
    ranking = draw(rankings(pixels, factors=draw(st.booleans()), shared=draw(st.booleans())))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    cam = torch.rand(pixels, generator=generator, dtype=torch.float64) * 8
    by = torch.rand(2, pixels, generator=generator, dtype=torch.float64) * draw(st.sampled_from([0.1, 1, 4]))
    return ranking, Moving(cam, cam - by[0], cam + by[1], draw(st.sampled_from([0.5, 20.0, math.inf])))


def nothing(ranking: Ranking) -> Tensor:
    return torch.full((len(ranking.above), len(ranking.below)), -math.inf, dtype=torch.float64)


@settings(max_examples=200)
@given(moving())
def test_proved_exactly_where_a_value_separates_them(case: tuple[Ranking, Moving]) -> None:
    """Not where one hardly does: work ends where bounds cannot tell."""
    ranking, pixels = case
    margins = separate(ranking, pixels, nothing(ranking), math.inf)
    lowest, highest = pixels.truth[0][ranking.inside], pixels.truth[1][ranking.others]
    pairs = ranking.up * lowest[:, None] - ranking.down * highest
    least = ranking.up * lowest.sort().values[ranking.lost_count - 1]
    most = ranking.down * highest.sort(descending=True).values[ranking.gained - 1]
    apart, found = float(least - most), counted(margins, ranking)
    same = ranking.inside[:, None] == ranking.others
    assert bool((margins[~same] <= pairs[~same] + 1e-9).all())
    if not bool(same.any()):
        assert found <= apart + 1e-9
        assert found > 0 or apart < 0.2


def test_what_was_known_of_pairs_is_kept() -> None:
    """Pairs that move together are proved as pairs only, and then nothing is spent on their pixels."""
    ranking = Ranking((0, 1), (2, 3), 1, 1)
    values = torch.tensor([5.0, 4.0, 3.0, 2.0], dtype=torch.float64)
    pixels = Moving(values, values - 4, values + 4, 1.0)
    known = torch.tensor([[0.5, 0.5], [-math.inf, -math.inf]], dtype=torch.float64)
    assert torch.equal(separate(ranking, pixels, known, math.inf)[0], known[0])
    assert pixels.worked == []


def test_work_goes_to_as_few_pixels_as_are_enough() -> None:
    """One of many that can be the largest is lifted above all others, which stay below anyhow."""
    ranking = Ranking(tuple(range(5)), (5, 6), 1, 1)
    cam = torch.tensor([9.0, 8, 8, 8, 8, 1, 1], dtype=torch.float64)
    pixels = Moving(cam, cam - 1, cam + 1, 0.0)
    pixels.least.bound -= 10
    assert counted(separate(ranking, pixels, nothing(ranking), math.inf), ranking) > 0
    assert len(set(pixels.worked)) == 1


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_without_time_what_is_known_already_counts(seconds: float) -> None:
    ranking, cam = Ranking((0,), (1, 2), 1, 2), torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
    pixels, began = Moving(cam, cam - 0.5, cam + 0.5, 0.0), time.monotonic()
    margins = separate(ranking, pixels, nothing(ranking), seconds)
    assert torch.equal(margins, torch.ones(1, 2, dtype=torch.float64))
    assert pixels.worked == []
    assert time.monotonic() - began < 60


def test_a_pixel_against_itself_ends_the_work() -> None:
    """Its own margin is no matter of a value between two pixels."""
    ranking = Ranking((0, 1), (0, 1), 2, 2, down=0.5)
    cam = torch.tensor([3.0, 2.5], dtype=torch.float64)
    pixels = Moving(cam, cam - 4, cam + 0.1, 0.0)
    assert isinstance(pixels.interval, Interval)
    assert counted(separate(ranking, pixels, nothing(ranking), math.inf), ranking) <= 0
