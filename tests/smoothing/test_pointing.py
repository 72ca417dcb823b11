"""Whether the largest pixel of a smoothed map stays in a region."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from corgi.errors import UsageError
from corgi.smoothing.confidence import Bounds, bounds
from corgi.smoothing.divergence import noise_for
from corgi.smoothing.overlap import overlap_radii
from corgi.smoothing.pointing import pointing_radius, renyi_pointing_radius
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.renyi import least_divergence, renyi_radii
from corgi.smoothing.tally import empty, sample
from corgi.terms import Confidence
from tests.smoothing.synthetic import Spread, tally_of
from tests.smoothing.test_renyi import IMAGE, divergence, random_shares

SIGMA, SAMPLES, REGION = 0.5, 2000, (3, 4, 5, 11)
OUTSIDE = [p for p in range(30) if p not in REGION]


def population_of(seed: int):
    """Values at the image; every other time the largest is inside."""
    found = np.random.default_rng(seed).uniform(0.01, 0.8, 30)
    if seed % 2:
        found[REGION[seed % 4]] = 0.97
    return found


def points_inside(population, radius: float) -> bool:
    """Whether it does at the worst image at a distance: the region against its half-spaces, others along."""
    sign = np.ones(len(population))
    sign[list(REGION)] = -1
    moved = ndtr(ndtri(population) + sign * radius / SIGMA)
    return bool(moved[list(REGION)].max() > moved[OUTSIDE].max())


@pytest.mark.parametrize("seed", range(10))
def test_with_known_values_the_radius_is_where_it_breaks(seed: int) -> None:
    population = population_of(seed)
    tally = tally_of(population * SAMPLES, SAMPLES, squares=population, sigma=SIGMA)
    radius = pointing_radius(tally, REGION, Bounds(population, population))
    assert (radius > 0) is points_inside(population, 0.0)
    if radius > 0:
        assert points_inside(population, radius)
        assert not points_inside(population, radius * 1.00001 + 1e-9)


@pytest.mark.parametrize("confidence", Confidence)
def test_no_sampled_certificate_exceeds_the_true_break(confidence: Confidence) -> None:
    rng, certified = np.random.default_rng(3), 0
    for seed in range(200):
        population = population_of(seed)
        tally = tally_of(rng.binomial(SAMPLES, population), SAMPLES, sigma=SIGMA)
        radius = pointing_radius(tally, REGION, bounds(tally, confidence, 1e-4))
        certified += radius > 0
        assert radius == 0 or points_inside(population, radius)
    assert certified > 50


@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.3, 3.0, 50.0]))
def test_no_shares_that_point_elsewhere_are_closer(seed: int, order: float) -> None:
    rng = np.random.default_rng(seed)
    shares, region = random_shares(rng, 7), rng.random(7) < 0.4
    assume(0 < region.sum() < 7)
    moved = np.exp(rng.normal(np.log(shares), rng.choice([0.1, 0.5, 1.5])))
    moved /= moved.sum()
    assume(moved[region].max() <= moved[~region].max())
    inside, outside = shares[region].max(keepdims=True), shares[~region].max(keepdims=True)
    assert least_divergence(inside, outside, order) <= divergence(moved, shares, order) + 1e-12


@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_scores_by_rank(norm: float) -> None:
    """Of the largest pixel alone it is the radius of overlap 1 of 1; a larger region has no smaller one."""
    scored = RankScores(Spread(), 2)
    tally = sample(empty(scored, IMAGE, noise_for(norm, 0.5, IMAGE.size, 2)), scored, IMAGE, 4000)
    held = bounds(tally, Confidence.BERNSTEIN, 0.05)
    top = tally.order[:2]
    alone = renyi_pointing_radius(tally, scored, top[:1], norm, held)
    assert alone == renyi_radii(tally, scored, 1, norm, held)[0]
    both = renyi_pointing_radius(tally, scored, tuple(top), norm, held)
    assert both >= alone
    assert both > 0
    assert renyi_pointing_radius(tally, scored, tally.order[-1:], norm, held) == 0


def test_of_one_pixel_it_is_the_overlap_of_one() -> None:
    tally = tally_of(np.array([1990, 1800, 1500, 700, 300, 20, 10]), SAMPLES)
    held = bounds(tally, Confidence.CLOPPER_PEARSON, 1e-3)
    assert pointing_radius(tally, (0,), held) == overlap_radii(tally, 1, held)[0] > 0
    assert pointing_radius(tally, (0, 1), held) > pointing_radius(tally, (0,), held)
    assert pointing_radius(tally, (1, 2), held) == 0


def test_other_noise_is_refused() -> None:
    tally = tally_of(np.array([1990, 10]), SAMPLES, shape=1.0)
    with pytest.raises(UsageError, match="Gaussian"):
        pointing_radius(tally, (0,), bounds(tally, Confidence.HOEFFDING, 0.05))
