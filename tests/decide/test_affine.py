"""Bounds of formulas by affine forms of a map, against maps drawn from the forms."""

from __future__ import annotations

import itertools
from fractions import Fraction

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.decide.affine import lower_margins, upper_margins
from corgi.engines.parametric import AffineForms
from corgi.properties.formula import All, Any, Balance, Formula, Ranking
from tests.properties.test_formula import rankings

PIXELS = 5


@st.composite
def formulas(draw: st.DrawFn) -> Formula:
    """Rankings with and without factors, balances, and what is made of both."""
    one = st.one_of(rankings(PIXELS, factors=True, shared=True), rankings(PIXELS), balances())
    kind = draw(st.sampled_from(["one", "all", "any"]))
    if kind == "one":
        return draw(one)
    parts = tuple(draw(st.lists(one, min_size=1, max_size=3)))
    return All(parts) if kind == "all" else Any(parts)


@st.composite
def balances(draw: st.DrawFn) -> Balance:
    row = st.lists(st.integers(-3, 3).map(float), min_size=PIXELS, max_size=PIXELS).map(tuple)
    return Balance(tuple(draw(st.lists(row, min_size=1, max_size=2))))


@st.composite
def maps(draw: st.DrawFn, dimensions: int = 2) -> AffineForms:
    numbers = st.integers(-8, 8).map(lambda n: n / 8)
    count = (1 + dimensions) * PIXELS
    terms = torch.tensor(draw(st.lists(numbers, min_size=count, max_size=count)), dtype=torch.float64)
    terms = terms.reshape(1, 1 + dimensions, PIXELS)
    terms[:, 1:] *= draw(st.sampled_from([0.0, 0.1, 0.5]))
    remainder = torch.tensor(draw(st.lists(numbers.map(abs), min_size=PIXELS, max_size=PIXELS)))
    return AffineForms(terms, remainder.to(torch.float64)[None] * draw(st.sampled_from([0.0, 0.05])))


def drawn(forms: AffineForms, generator: torch.Generator) -> Tensor:
    """Maps [N, pixels] that the forms allow, corners among them."""
    dimensions = forms.terms.shape[1] - 1
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dimensions)), dtype=torch.float64)
    inner = 2 * torch.rand(20, dimensions, generator=generator, dtype=torch.float64) - 1
    points = torch.cat([corners, inner, torch.zeros_like(corners[:1])]).repeat(2, 1)
    signs = torch.randint(0, 2, (len(points), PIXELS), generator=generator, dtype=torch.float64) * 2 - 1
    return forms.terms[0, 0] + points @ forms.terms[0, 1:] + signs * forms.remainder[0]


@given(formulas(), maps(), st.integers(0, 10**6))
def test_margins_stay_between_their_bounds(formula: Formula, forms: AffineForms, seed: int) -> None:
    lower, upper = lower_margins(formula, forms), upper_margins(formula, forms)
    margins = formula.margin(drawn(forms, torch.Generator().manual_seed(seed)))
    assert lower.shape == upper.shape == (1,)
    assert float(lower) <= float(margins.min()) + 1e-12
    assert float(upper) >= float(margins.max()) - 1e-12


@given(formulas(), maps())
def test_at_a_point_both_are_the_margin(formula: Formula, forms: AffineForms) -> None:
    point = AffineForms(torch.cat([forms.terms[:, :1], 0 * forms.terms[:, 1:]], 1), 0 * forms.remainder)
    margin = float(formula.margin(point.terms[0, 0]))
    assert abs(float(lower_margins(formula, point)) - margin) < 1e-9 or _loose(formula)
    assert abs(float(upper_margins(formula, point)) - margin) < 1e-9 or _loose(formula)


def _loose(formula: Formula) -> bool:
    """Counting may say less where several pixels of both sides are to change places (counting.py)."""
    return any(isinstance(leaf, Ranking) and not leaf.single for leaf in formula.leaves)


@given(formulas(), st.lists(st.integers(-6, 12), min_size=PIXELS, max_size=PIXELS))
def test_the_opposite_has_the_negative_margin(formula: Formula, cam: list[int]) -> None:
    values = torch.tensor(cam, dtype=torch.float64) / 8
    assert float(formula.opposite.margin(values)) == -float(formula.margin(values))
    assert float(formula.opposite.opposite.margin(values)) == float(formula.margin(values))


@given(st.lists(st.floats(-1, 1), min_size=12, max_size=12), st.floats(0.1, 3), st.floats(0.1, 3))
def test_a_pair_in_fractions(numbers: list[float], up: float, down: float) -> None:
    """The bound of up I_0 - down I_1 is not above its least value, exactly."""
    terms = torch.tensor(numbers[:6], dtype=torch.float64).reshape(1, 3, 2)
    remainder = torch.tensor([numbers[6:8]], dtype=torch.float64).abs() * 1e-3
    found = float(lower_margins(Ranking((0,), (1,), 1, 1, up, down), AffineForms(terms, remainder)))
    exact = [[Fraction(float(v)) for v in row] for row in terms[0]]
    left = [Fraction(float(r)) for r in remainder[0]]
    difference = [Fraction(up) * a - Fraction(down) * b for a, b in exact]
    least = difference[0] - sum(map(abs, difference[1:])) - Fraction(up) * left[0] - Fraction(down) * left[1]
    assert Fraction(found) <= least
    assert float(least) - found < 1e-12


def test_what_is_not_known_bounds_nothing() -> None:
    for wrong in (torch.nan, torch.inf, -torch.inf):
        for at in range(2):
            terms = torch.zeros(1, 2, PIXELS, dtype=torch.float64)
            terms[0, 0] = torch.tensor([5.0, 4.0, 1.0, 1.0, 1.0])
            remainder = torch.zeros(1, PIXELS, dtype=torch.float64)
            (terms[0, 1] if at == 0 else remainder[0])[0] = wrong
            forms = AffineForms(terms, remainder)
            for formula in (
                Ranking((0,), (2, 3), 1, 1),
                Balance(((1.0, 0.0, 0.0, 0.0, 0.0),)),
                All((Ranking((1,), (2,), 1, 1), Ranking((0,), (2,), 1, 1))),
            ):
                if remainder[0, 0] == -torch.inf:
                    continue  # no engine returns a negative remainder
                assert float(lower_margins(formula, forms)) == -torch.inf
                assert not float(upper_margins(formula, forms)) < 0
