"""Lines below balances, and the bound they give, against the balance itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corgi.decide.balance import balance_bound, relaxed
from corgi.properties.formula import Balance
from corgi.terms import Form
from corgi.types import Ball, Interval

BALL = Ball(torch.full((1, 2, 2), 0.5), 0.1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Interval]:
    """Coefficients [forms, pixels], and intervals on either side of 0, some of one point."""
    pixels = draw(st.integers(1, 5))
    numbers = st.lists(st.floats(-3, 3), min_size=pixels, max_size=pixels)
    rows = torch.tensor([draw(numbers) for _ in range(draw(st.integers(1, 3)))], dtype=torch.float64)
    ends = torch.tensor([draw(numbers), draw(numbers)], dtype=torch.float64)
    if draw(st.booleans()):
        ends[1] = ends[0]
    return rows, Interval(ends.amin(0), ends.amax(0))


def points(bounds: Interval, count: int = 30) -> Tensor:
    """Maps within intervals, ends and zeros among them."""
    share = torch.rand(count, len(bounds.lower), generator=torch.Generator().manual_seed(0)).double()
    share[::3] = share[::3].round()
    found = torch.lerp(bounds.lower.expand(count, -1), bounds.upper.expand(count, -1), share)
    zero = torch.zeros_like(found[1::5])
    found[1::5] = torch.minimum(torch.maximum(zero, bounds.lower), bounds.upper)
    return torch.minimum(torch.maximum(found, bounds.lower), bounds.upper)


@settings(max_examples=200)
@given(cases())
def test_lines_lie_below(case: tuple[Tensor, Interval]) -> None:
    rows, bounds = case
    slope, constant = relaxed(rows, bounds)
    cams = points(bounds)
    exact = cams.clamp(min=0) @ rows.T
    assert bool((cams @ slope.T + constant <= exact + 1e-12).all())
    decided = (bounds.lower >= 0) | (bounds.upper <= 0)
    if bool(decided.all()):  # nothing is lost but rounding
        assert bool((cams @ slope.T + constant >= exact - 1e-12).all())


@dataclass
class Linear:
    """A bounder of maps that are anything within intervals: exact for one linear form."""

    bounds: Interval
    bounds_any_form: bool = True
    answer: float | None = None

    def pixels(self, ball: Ball) -> Interval:
        return self.bounds

    def lower(self, ball: Ball, forms: Any) -> Tensor:
        if self.answer is not None:
            return torch.full((len(forms),), self.answer, dtype=torch.float64)
        matrix = forms.matrix(len(self.bounds.lower))
        least = torch.minimum(matrix * self.bounds.lower, matrix * self.bounds.upper)
        return least.sum(1) + forms.constant


@dataclass
class Head:
    weight: Tensor


@dataclass
class Asked:
    """As much of a question as a balance reads: the map is the one feature."""

    pixels: int
    class_id: int = 0

    @property
    def network(self) -> Asked:
        return self

    @property
    def head(self) -> Head:
        return Head(torch.ones(1, 1))


def bound(rows: Tensor, bounder: Linear, form: Form = Form.PAIRWISE) -> float:
    balance = Balance(tuple(map(tuple, rows.tolist())))
    return balance_bound(Asked(rows.shape[1]), balance, bounder, BALL, form)  # type: ignore[arg-type]


@settings(max_examples=200)
@given(cases())
def test_the_bound_holds(case: tuple[Tensor, Interval]) -> None:
    rows, bounds = case
    least = float((points(bounds).clamp(min=0) @ rows.T).amin(1).min())
    for bounder in (Linear(bounds), Linear(bounds, bounds_any_form=False)):
        for form in (Form.PAIRWISE, Form.FOLDED):
            assert bound(rows, bounder, form) <= least + 1e-12


@settings(max_examples=50)
@given(cases(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_not_known_proves_nothing(case: tuple[Tensor, Interval], unknown: float) -> None:
    rows, bounds = case
    by_intervals = bound(rows, Linear(bounds, bounds_any_form=False))
    found = bound(rows, Linear(bounds, answer=unknown))
    assert found == by_intervals or (found == -math.inf and by_intervals <= 0)
    for end in ("lower", "upper"):
        broken = {"lower": bounds.lower.clone(), "upper": bounds.upper.clone()}
        broken[end][0] = unknown
        assert bound(rows, Linear(Interval(**broken))) == -math.inf
