"""The score against its definition, by brute force over all ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.certify.decide import Form, Question, score
from corgi.results import TopK
from corgi.types import Ball, Interval


@dataclass
class FakeNetwork:
    pixels: int


@dataclass
class FakeBounder:
    lower: torch.Tensor
    upper: torch.Tensor
    tighter: float = 0.0

    def pixels(self, ball):
        return Interval(self.lower, self.upper)

    def differences(self, ball, above, below):
        return self.lower[above] - self.upper[below] + self.tighter


def certified_by_definition(lower, upper, inside, k2) -> bool:
    """For every pixel of T: at most k2 - k outside pixels whose margin is not certified > 0 (theory 1.5)."""
    others = [p for p in range(len(lower)) if p not in inside]
    return all(sum(not lower[i] - upper[p] > 0 for p in others) <= k2 - len(inside) for i in inside)


@given(st.data())
def test_score_decides_as_the_definition_does(data) -> None:
    pixels = data.draw(st.integers(3, 8))
    k = data.draw(st.integers(1, pixels - 1))
    k2 = data.draw(st.integers(k, pixels - 1))
    numbers = st.integers(-4, 4).map(float)
    middle = torch.tensor(data.draw(st.lists(numbers, min_size=pixels, max_size=pixels)))
    width = torch.tensor(data.draw(st.lists(st.integers(0, 3).map(float), min_size=pixels, max_size=pixels)))
    inside = tuple(data.draw(st.permutations(range(pixels)))[:k])
    bounder = FakeBounder(middle - width, middle + width)
    question = Question(FakeNetwork(pixels), 0, TopK(k, inside, 1.0, False), k2, Form.FOLDED)
    ball = Ball(torch.full((1, 2, 2), 0.5), 0.1)
    expected = certified_by_definition(bounder.lower, bounder.upper, inside, k2)
    assert (score(question, bounder, ball) > 0) == expected
    paired = Question(FakeNetwork(pixels), 0, question.top, k2, Form.PAIRWISE, refine=3)
    assert (score(paired, bounder, ball) > 0) == expected
    better = FakeBounder(bounder.lower, bounder.upper, tighter=100.0)
    assert score(paired, better, ball) > 0


def test_vacuous_bounds_certify_nothing() -> None:
    infinite = torch.full((4,), torch.inf)
    question = Question(FakeNetwork(4), 0, TopK(1, (0,), 1.0, False), 1, Form.FOLDED)
    ball = Ball(torch.full((1, 2, 2), 0.5), 0.1)
    assert not score(question, FakeBounder(-infinite, infinite), ball) > 0
