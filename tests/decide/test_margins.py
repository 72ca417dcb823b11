"""The score against its definition, by brute force over all ranks, and against everything refined."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corgi.decide.margins import Margins, Question, score
from corgi.properties.topk import stays
from corgi.results import TopK
from corgi.terms import Form
from corgi.types import Ball, Interval
from tests.rankings import outside

BALL = Ball(torch.full((1, 2, 2), 0.5), 0.1)


@dataclass
class FakeNetwork:
    pixels: int


@dataclass
class FakeBounder:
    """Bounds out of thin air: intervals and rows [pixels], pairs and sharpened pairs [pixels, pixels].

    `all_ends`: answer for pixels that were not asked for, too, as an engine that bounds them at one go does.
    """

    cheap_bounds: Interval
    pixel_bounds: Interval
    pairs: Tensor
    sharp: Tensor | None = None
    all_ends: bool = True
    rounding: float = 0.0
    bounds_any_form: bool = False
    asked: dict[str, int] = field(default_factory=lambda: {"pixels": 0, "pairs": 0, "sharp": 0})

    @property
    def sharpens(self) -> bool:
        return self.sharp is not None

    def intervals(self, ball):
        return self.cheap_bounds

    def pixels(self, ball, low=None, high=None):
        lower, upper = self.pixel_bounds.lower, self.pixel_bounds.upper
        self.asked["pixels"] += 2 * len(lower) if low is None else len(low) + len(high)
        if self.all_ends or low is None:
            return self.pixel_bounds
        some = Interval(torch.full_like(lower, -torch.inf), torch.full_like(upper, torch.inf))
        some.lower[low], some.upper[high] = lower[low], upper[high]
        return some

    def differences(self, ball, above, below):
        self.asked["pairs"] += len(above)
        return self.pairs[above, below]

    def sharpened(self, ball, above, below):
        self.asked["sharp"] += len(above)
        return self.sharp[above, below]


def question_of(pixels: int, top: TopK, k2: int, **changes) -> Question:
    return Question(FakeNetwork(pixels), 0, top, stays(top, k2, pixels), **changes)


def margins_of(bounds: Interval) -> Tensor:
    """[pixels, pixels]."""
    return bounds.lower[:, None] - bounds.upper[None, :]


def from_intervals(lower: Tensor, upper: Tensor, tighter: float = 0.0) -> FakeBounder:
    """Nothing is known for free; pairs are better than intervals by `tighter`."""
    nothing = torch.full_like(lower, torch.inf)
    bounds = Interval(lower, upper)
    return FakeBounder(Interval(-nothing, nothing), bounds, margins_of(bounds) + tighter)


def certified_by_definition(margins: Tensor, inside: tuple[int, ...], k2: int) -> bool:
    """For every pixel of T: at most k2 - k outside pixels whose margin is not certified > 0 (theory 1.5)."""
    others = [p for p in range(len(margins)) if p not in inside]
    return all(sum(not margins[i, p] > 0 for p in others) <= k2 - len(inside) for i in inside)


def score_by_definition(margins: Tensor, inside: tuple[int, ...], k2: int) -> float:
    """min_i of the (k2 - k + 1)-th smallest margin of pixel i of T."""
    others = [p for p in range(len(margins)) if p not in inside]
    return min(float(margins[i, others].sort().values[k2 - len(inside)]) for i in inside)


@given(st.data())
def test_score_decides_as_the_definition_does(data) -> None:
    pixels = data.draw(st.integers(3, 8))
    k = data.draw(st.integers(1, pixels - 1))
    k2 = data.draw(st.integers(k, pixels - 1))
    numbers = st.integers(-4, 4).map(float)
    middle = torch.tensor(data.draw(st.lists(numbers, min_size=pixels, max_size=pixels)))
    width = torch.tensor(data.draw(st.lists(st.integers(0, 3).map(float), min_size=pixels, max_size=pixels)))
    inside = tuple(data.draw(st.permutations(range(pixels)))[:k])
    bounder = from_intervals(middle - width, middle + width)
    top = TopK(k, inside, 1.0, False)
    expected = certified_by_definition(bounder.pairs, inside, k2)
    for form in (Form.FOLDED, Form.PAIRWISE):
        question = question_of(pixels, top, k2, form=form)
        assert (score(question, bounder, BALL).value > 0) == expected
    better = from_intervals(middle - width, middle + width, tighter=100.0)
    assert score(question, better, BALL).value > 0


def test_vacuous_bounds_certify_nothing() -> None:
    infinite = torch.full((4,), torch.inf)
    for form in (Form.FOLDED, Form.PAIRWISE):
        question = question_of(4, TopK(1, (0,), 1.0, False), 1, form=form)
        assert not score(question, from_intervals(-infinite, infinite), BALL).value > 0
        unknown = FakeBounder(
            Interval(-infinite, infinite), Interval(-infinite, infinite), torch.full((4, 4), -torch.inf)
        )
        assert not score(question, unknown, BALL).value > 0


@dataclass
class Case:
    question: Question
    bounder: FakeBounder
    order: Tensor | None

    @property
    def known(self) -> Margins | None:
        return None if self.order is None else {self.question.holds.sides: self.order}

    @property
    def inside(self) -> tuple[int, ...]:
        return self.question.top.pixels

    @property
    def refined(self) -> Tensor:
        """Margins [pixels, pixels] with everything bounded that the form allows."""
        found = torch.maximum(margins_of(self.bounder.cheap_bounds), margins_of(self.bounder.pixel_bounds))
        if self.question.form is Form.PAIRWISE:
            found = torch.maximum(found, self.bounder.pairs)
            found = found if self.bounder.sharp is None else torch.maximum(found, self.bounder.sharp)
        return found

    @property
    def expected(self) -> float:
        return score_by_definition(self.refined, self.inside, self.question.holds.among)


@st.composite
def cases(draw, spare: bool = False, largest: int = 9) -> Case:
    """Bounds that get better from kind to kind and never exceed the values in the middle; ties are common."""
    pixels = draw(st.integers(2, largest))
    k = draw(st.integers(1, pixels - 1))
    k2 = draw(st.integers(k, pixels - 1)) if spare else k
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))

    def eighths(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator).to(torch.float64) / 8

    cam = eighths(-20, 20, pixels)
    inside = tuple(cam.argsort(descending=True)[:k].tolist())
    if draw(st.booleans()):  # not even the largest
        inside = tuple(torch.randperm(pixels, generator=generator)[:k].tolist())
    narrow = draw(st.sampled_from([0, 2, 12]))
    down, up, more = (eighths(0, narrow, pixels) for _ in range(3))
    rows = Interval(cam - down, cam + up)
    cheap = Interval(rows.lower - more, rows.upper + eighths(0, 12, pixels))
    if draw(st.booleans()):
        cheap = Interval(torch.full_like(cam, -torch.inf), torch.full_like(cam, torch.inf))
    between = down[:, None] + up[None, :]
    share = torch.randint(0, 5, (pixels, pixels), generator=generator) / 4
    at_centre = cam[:, None] - cam[None, :]
    pairs = at_centre - between * share
    sharp = at_centre - between * share * 0.5 if draw(st.booleans()) else None
    form = draw(st.sampled_from([Form.FOLDED, Form.PAIRWISE]))
    known = cam if draw(st.booleans()) else None
    question = Question(
        FakeNetwork(pixels),
        0,
        TopK(k, inside, 1.0, False),
        stays(TopK(k, inside, 1.0, False), k2, pixels),
        cam=known,
        form=form,
    )
    bounder = FakeBounder(cheap, rows, pairs, sharp, all_ends=draw(st.booleans()))
    order = eighths(-20, 20, k, pixels - k) if draw(st.booleans()) else None
    return Case(question, bounder, order)


@settings(max_examples=400)
@given(cases())
def test_lazily_refined_is_as_good_as_everything_refined(case: Case) -> None:
    found = score(case.question, case.bounder, BALL, case.known)
    assert found.value == case.expected
    known = found.margins[case.question.holds.sides]
    others = outside(case.question.top, case.question.network.pixels)
    assert (known <= case.refined[list(case.inside)][:, others]).all()


@settings(max_examples=400)
@given(cases(spare=True), st.booleans())
def test_with_pixels_to_spare_or_by_sign_the_decision_is_the_same(case: Case, sign_only: bool) -> None:
    """The score may be looser then, but never wrong, and its sign is that of everything refined."""
    found = score(case.question, case.bounder, BALL, case.known, sign_only=sign_only)
    assert (found.value > 0) == (case.expected > 0)
    assert found.value <= case.expected
    others = outside(case.question.top, case.question.network.pixels).tolist()
    known = found.margins[case.question.holds.sides]
    assert found.value == min(
        float(found.margins[case.question.holds.sides][i].sort().values[case.question.holds.gained - 1])
        for i in range(len(case.inside))
    )
    assert (known <= case.refined[list(case.inside)][:, others]).all()


@settings(max_examples=100)
@given(cases(spare=True, largest=20), st.integers(0, 5))
def test_too_many_pairs_leave_the_ball_uncertified_but_sound(case: Case, most: int) -> None:
    question = replace(case.question, form=Form.PAIRWISE, most_pairs=most)
    case = Case(question, case.bounder, case.order)
    found = score(question, case.bounder, BALL, case.known)
    assert found.value <= case.expected
    assert case.bounder.asked["pairs"] <= most


@pytest.mark.parametrize("form", [Form.FOLDED, Form.PAIRWISE])
def test_a_decided_ball_costs_no_rows(form: Form) -> None:
    """By sign: intervals alone prove it. With spare pixels, too."""
    cam = torch.tensor([5.0, 4.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    known = Interval(cam - 0.5, cam + 0.5)
    for k2 in (2, 3):
        bounder = FakeBounder(known, known, margins_of(known))
        question = Question(
            FakeNetwork(5),
            0,
            TopK(2, (0, 1), 1.0, False),
            stays(TopK(2, (0, 1), 1.0, False), k2, 5),
            cam=cam,
            form=form,
        )
        assert score(question, bounder, BALL, sign_only=True).value > 0
        assert bounder.asked == {"pixels": 0, "pairs": 0, "sharp": 0}


def test_only_margins_that_matter_are_bounded_alone() -> None:
    """One pixel of 100 is close to the top; only its margin can decide, and only that one is asked for."""
    cam = torch.arange(100, dtype=torch.float64).flip(0) * 10
    cam[1] = cam[0] - 1
    known = Interval(cam - 1, cam + 1)
    bounder = FakeBounder(known, known, margins_of(known) + 0.5, all_ends=False)
    question = question_of(100, TopK(1, (0,), 1.0, False), 1, cam=cam)
    found = score(question, bounder, BALL, order={question.holds.sides: cam[0] - cam[None, 1:]})
    assert found.value == -0.5
    assert bounder.asked["pairs"] <= 16
