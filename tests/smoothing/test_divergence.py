from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from corgi.errors import UsageError
from corgi.smoothing.divergence import (
    ORDERS,
    generalized,
    noise_for,
    orders_for,
    radius_as_published,
    radius_for,
)
from corgi.smoothing.noise import Noise


def renyi(noise: Noise, shift: float, order: float) -> float:
    """Divergence of order a of one input value moved by `shift`, by quadrature."""
    law = stats.gennorm(noise.shape, scale=noise.scale)

    def integrand(z: float) -> float:
        moved, rest = law.logpdf(z - shift), law.logpdf(z)
        if order == 1.0:
            return float(np.exp(moved) * (moved - rest))
        return float(np.exp(order * moved + (1 - order) * rest))

    ends = (-40 * noise.sigma, 40 * noise.sigma + order * shift)
    value = integrate.quad(integrand, *ends, points=[0.0, shift, order * shift], limit=400)[0]
    return value if order == 1.0 else math.log(value) / (order - 1)


@pytest.mark.parametrize(("shape", "norm"), [(1.0, 1.0), (2.0, 2.0), (2.0, 1.0)])
@pytest.mark.parametrize("order", [1.0, 1.1, 2.0, 5.0])
@pytest.mark.parametrize("budget", [1e-6, 0.01, 0.7])
def test_one_value_moved_by_the_radius_spends_the_budget(
    shape: float, norm: float, order: float, budget: float
) -> None:
    noise = Noise(0.2, shape)
    radius = radius_for(budget, order, noise, norm, 1)
    assert radius > 0
    spent = renyi(noise, radius, order)
    assert spent == pytest.approx(budget, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("shape", [2.0, 4.0, 10.0])
def test_generalized_normal_noise(shape: float) -> None:
    noise = Noise(0.2, shape)
    for budget in (1e-4, 0.01, 0.7):
        radius = radius_for(budget, 1.0, noise, math.inf, 1)
        assert renyi(noise, radius, 1.0) == pytest.approx(budget, rel=1e-4, abs=1e-9)
        assert generalized(radius / noise.scale, shape, math.inf, 1) <= budget


@given(
    st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0, 7.0, math.inf]),
    st.lists(st.floats(-1, 1), min_size=3, max_size=8).filter(lambda values: max(map(abs, values)) > 0.01),
    st.sampled_from([2.0, 4.0, 6.0, 10.0]),
)
def test_the_bound_holds_for_every_shift_of_many_values(
    norm: float, shift: list[float], shape: float
) -> None:
    """Divergence adds over independent values; the bound knows the norm of the shift only."""
    spent = sum(generalized(abs(t), shape, 2.0, 1) for t in shift)
    assert spent <= generalized(float(np.linalg.norm(shift, norm)), shape, norm, len(shift)) * (1 + 1e-9)


@given(st.lists(st.floats(0, 3), min_size=2, max_size=6), st.sampled_from([1.0, 1.3, 2.0, 10.0]))
def test_laplace_noise_is_worst_for_one_value_alone(shifts: list[float], order: float) -> None:
    noise = Noise(math.sqrt(2), 1.0)  # scale 1
    whole = renyi_laplace(sum(shifts), order)
    assert sum(renyi_laplace(t, order) for t in shifts) <= whole * (1 + 1e-9) + 1e-12
    assert radius_for(whole + 1e-9, order, noise, 1.0, 6) == pytest.approx(sum(shifts), rel=1e-3, abs=0.02)


def renyi_laplace(t: float, order: float) -> float:
    if order == 1.0:
        return t + math.expm1(-t)
    a = order
    inside = a / (2 * a - 1) * math.exp((a - 1) * t) + (a - 1) / (2 * a - 1) * math.exp(-a * t)
    return math.log(inside) / (a - 1)


@pytest.mark.parametrize("norm", [1.0, 1.5, 2.0, 3.0, math.inf])
def test_radii_are_numbers_for_every_budget_and_order(norm: float) -> None:
    noise = noise_for(norm, 0.1, 6912, 0)
    for order in orders_for(noise, norm):
        radii = [radius_for(b, float(order), noise, norm, 6912) for b in (-1.0, 0.0, 1e-300, 1e-9, 1.0, 1e6)]
        assert radii == sorted(radii)
        assert radii[:2] == [0.0, 0.0]
        assert all(math.isfinite(radius) for radius in radii)
    assert radius_for(math.nan, 1.0, noise, norm, 6912) == 0


def test_the_published_radius_grows_past_the_sound_one_with_the_image() -> None:
    noise = noise_for(math.inf, 0.1, 6912, 0)
    assert noise.shape == 10
    for inputs in (100, 6912, 150528):
        assert radius_as_published(0.5, noise, math.inf, inputs) > 3 * radius_for(
            0.5, 1.0, noise, math.inf, inputs
        )


def test_noise_without_a_bound_is_refused() -> None:
    assert np.array_equal(orders_for(Noise(0.1, 2.0), 1.5), ORDERS)
    assert list(orders_for(Noise(0.1, 2.0), 5.0)) == [1.0]
    for shape, norm in ((1.0, 2.0), (3.0, 2.0), (1.5, math.inf)):
        with pytest.raises(UsageError, match="no bound"):
            orders_for(Noise(0.1, shape), norm)
