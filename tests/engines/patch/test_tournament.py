"""Tournaments on elements that are linear functions of a box: rows of those are exact, and so is a check."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.tournament import Tournament, first_games, none_played, rounds

KERNELS = [(1, 1), (1, 2), (1, 3), (2, 2), (1, 5), (2, 3), (3, 3)]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("elements", range(1, 13))
def test_everyone_meets_once_and_only_those_who_stand(elements: int, zero: bool) -> None:
    """Numbers of maxima are given in the order they are played, and no maximum is used before it is."""
    waiting, number = set(range(0 if zero else 1, elements + 1)), elements + 1
    for games in rounds(elements, zero):
        ready = number
        for first, second in games:
            assert max(first, second) < ready, "both stand before the round"
            waiting -= {first, second}
            waiting.add(number)
            number += 1
    assert waiting == {number - 1 if number > elements + 1 else 1}
    met = {frozenset(game) for game in rounds(elements, zero)[0]} if rounds(elements, zero) else set()
    if elements > 1:
        assert {frozenset(pair) for pair in first_games(elements + 1).nonzero().tolist()} == met - {
            frozenset((1, 0))
        }


def played(
    layer: Maximum, real: Tensor, slopes: Tensor, at_centre: Tensor, known: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The planes around max_e slopes_e . d + at_centre_e, |d| <= 1; `known` pairs are given by rows."""

    def least(rows: Tensor, windows: Tensor) -> Tensor:
        linear = torch.einsum("ne,nec->nc", rows, slopes[windows])
        return (rows * at_centre[windows]).sum(1) - linear.abs().sum(1)

    apart = slopes[:, :, None] - slopes[:, None, :]
    pairs = at_centre[:, :, None] - at_centre[:, None, :] + apart.abs().sum(-1)
    pairs = torch.where(known & real[:, :, None] & real[:, None, :], pairs, torch.inf)
    reach = slopes.abs().sum(-1)
    lower, upper = (torch.where(real, at_centre + s * reach, -torch.inf) for s in (-1, 1))
    game = Tournament(layer, real, pairs, lower, upper)
    while len(game.windows):
        game.play(least(game.coefficients, game.windows))
    outcome = game.outcome
    return outcome.low, outcome.up, outcome.height


@given(st.sampled_from(KERNELS), st.booleans(), st.integers(0, 999), st.sampled_from([0.0, 0.5, 1.0]))
def test_planes_hold_the_maximum(kernel, zero, seed, share) -> None:
    """At the corners and inside; and at least one real element is below, none that is not has any weight."""
    generator = torch.Generator().manual_seed(seed)
    layer, windows, inputs = Maximum(kernel, zero=zero), 20, 3

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    count = layer.elements + 1
    slopes, at_centre = draw(windows, count, inputs), draw(windows, count)
    # Padding, if there is a zero to stand in; ties; one of two that is never the larger.
    real = torch.rand(windows, count, generator=generator) < (0.8 if zero else 2.0)
    real[:, 0], real[:, 1] = zero, True
    slopes[:, 0], at_centre[:, 0] = 0, 0
    if layer.elements > 1:
        slopes[:3, 2], at_centre[:3, 2] = slopes[:3, 1], at_centre[:3, 1] + torch.tensor([0.0, 1.0, -1.0])
    known = torch.rand(windows, count, count, generator=generator) < share
    low, up, height = played(layer, real, slopes, at_centre, known)
    points = torch.rand(200, inputs, generator=generator, dtype=torch.float64) * 2 - 1
    points[:100] = points[:100].sign()
    values = torch.einsum("pc,uec->upe", points, slopes) + at_centre[:, None]
    values = torch.where(real[:, None], values, -torch.inf)
    largest = values.amax(2)
    rows = torch.arange(windows)
    assert real[rows, low].all()
    assert (values[rows, :, low] <= largest + 1e-12).all()
    assert torch.isfinite(height).all()
    assert (up >= 0).all()
    assert not up[~real].any()
    torch.testing.assert_close(up.sum(1), torch.ones(windows, dtype=torch.float64))
    above = (up[:, None] * torch.where(real[:, None], values, 0)).sum(2) + height[:, None]
    assert (above >= largest - 1e-12 * (1 + largest.abs())).all()


@pytest.mark.parametrize("bound", [torch.nan, torch.inf, -torch.inf])
def test_rows_that_say_nothing_prove_nothing(bound: float) -> None:
    """Nothing is known by intervals, and rows are NaN or infinite: there is no plane above."""
    layer, ones = Maximum((2, 2)), torch.ones(1, 5, dtype=torch.float64)
    pairs = torch.full((1, 5, 5), torch.nan, dtype=torch.float64)
    game = Tournament(layer, ones > 0, pairs, -torch.inf * ones, torch.inf * ones)
    while len(game.windows):
        game.play(torch.full((len(game.windows),), -abs(bound), dtype=torch.float64))
    assert torch.isinf(game.outcome.height).all()


def test_none_played() -> None:
    outcome = none_played(torch.zeros(3, 5, dtype=torch.bool))
    assert torch.isinf(outcome.height).all()
    assert outcome.up.shape == (3, 5)
