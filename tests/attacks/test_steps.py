"""Projections end inside ball and box, exactly; steps are the steepest of their norm."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.attacks.steps import Projection, noise, shrunk, steepest
from corgi.types import Ball, Norm

NORMS = [Norm.L2, Norm.L1]
every_norm = pytest.mark.parametrize("norm", NORMS, ids=str)
seeds, dtypes = st.integers(0, 10**6), st.sampled_from([torch.float32, torch.float64])
radii = st.one_of(st.floats(0, 3), st.floats(0, 1e-6), st.sampled_from([0.0, 5e-324, 1e-300, 1 / 255]))


def size(change: torch.Tensor, norm: Norm) -> Fraction:
    """Exactly; in l_2 the square of it."""
    entries = [abs(Fraction(c)) for c in change.flatten().tolist()]
    return sum((c * c for c in entries) if norm is Norm.L2 else entries, Fraction(0))


def images(seed: int, radius: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A centre, some pixels at the ends of their range, and images around it in and out of the ball."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(2, 3, 3, generator=generator)
    centre = torch.where(torch.rand(centre.shape, generator=generator) < 0.3, centre.round(), centre)
    powers = 10.0 ** torch.randint(-3, 3, (5, 1, 1, 1), generator=generator)
    return centre, centre + radius * powers * torch.randn(5, 2, 3, 3, generator=generator)


@every_norm
@given(seed=seeds, radius=radii, dtype=dtypes)
def test_a_projection_is_inside_ball_and_box(
    norm: Norm, seed: int, radius: float, dtype: torch.dtype
) -> None:
    centre, outside = images(seed, radius)
    ball = Ball(centre, radius, norm)
    found = Projection(ball, dtype)(outside)
    assert found.dtype is dtype
    assert ((found >= 0) & (found <= 1)).all()
    for image in found:
        exact = [
            Fraction(a) - Fraction(b)
            for a, b in zip(image.flatten().tolist(), centre.flatten().tolist(), strict=True)
        ]
        distance = sum((c * c for c in exact) if norm is Norm.L2 else map(abs, exact), Fraction(0))
        assert distance <= Fraction(radius) ** (2 if norm is Norm.L2 else 1)
        assert ball.distance(image) <= radius


@every_norm
@given(seed=seeds, radius=st.floats(0.01, 3))
def test_a_projection_is_no_farther_in_than_it_need_be(norm: Norm, seed: int, radius: float) -> None:
    """Images inside stay, up to rounding; others end on the sphere, or at an end of every pixel's range."""
    centre, outside = images(seed, radius)
    ball = Ball(centre, radius, norm)
    for before, after in zip(outside, Projection(ball, torch.float64)(outside), strict=True):
        cut = before.double().clamp(0, 1)
        if ball.distance(cut) <= 0.999 * radius:
            torch.testing.assert_close(after, cut)
        else:
            assert ball.distance(after) >= min(ball.distance(cut), radius) * (1 - 1e-6)


@given(seed=seeds, radius=st.floats(1e-3, 5))
def test_the_nearest_point_of_the_l_1_ball(seed: int, radius: float) -> None:
    """Every entry loses the same amount, or all it has."""
    change = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    moved = change * shrunk(change, Norm.L1, radius)
    loss = (change - moved).abs().flatten()
    left = moved.flatten() != 0
    if float(change.abs().sum()) > radius:
        assert float(moved.abs().sum()) == pytest.approx(radius, rel=1e-9)
        assert (loss[left] - loss[left][0]).abs().max() < 1e-9
        assert (change.flatten()[~left].abs() <= loss[left][0] + 1e-9).all()
    else:
        assert torch.equal(moved, change)


@pytest.mark.parametrize("norm", list(Norm))
def test_steps_have_norm_1_and_fall(norm: Norm) -> None:
    centre, _ = images(3, 0.1)
    generator = torch.Generator().manual_seed(3)
    gradient = torch.randn(6, 2, 3, 3, generator=generator)
    batch = centre.expand(6, -1, -1, -1)
    ball = Ball(centre, 0.1, norm)
    step = steepest(ball, batch, gradient)
    torch.testing.assert_close(norm.sizes(step), torch.ones(6, dtype=torch.float64))
    assert ((step * gradient).sum((1, 2, 3)) < 0).all()
    if norm is not Norm.LINF:
        leaves = ((batch <= 0) & (step < 0)) | ((batch >= 1) & (step > 0))
        assert not leaves.any()
    random = norm.sizes(noise(ball, 4, generator))
    assert (random <= 0.1 + 1e-6).all()


@every_norm
@given(seed=seeds, radius=radii)
def test_distances_are_rounded_up(norm: Norm, seed: int, radius: float) -> None:
    centre, outside = images(seed, radius)
    for image in outside:
        found = Fraction(Ball(centre, 0.0, norm).distance(image))
        exact = [
            Fraction(a) - Fraction(b)
            for a, b in zip(image.flatten().tolist(), centre.flatten().tolist(), strict=True)
        ]
        power = 2 if norm is Norm.L2 else 1
        total = sum((abs(c) ** power for c in exact), Fraction(0))
        assert total <= found**power <= total * (1 + Fraction(1, 10**12)) + Fraction(5e-324)
    assert Ball(centre, 0.0, norm).distance(centre) == 0
