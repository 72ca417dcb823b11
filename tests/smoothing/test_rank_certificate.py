from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from corgi.errors import UsageError
from corgi.results import Status
from corgi.smoothing.rank import certify_ranks, rank_bound
from corgi.terms import Confidence
from tests.smoothing.synthetic import tally_of

SIGMA, SAMPLES, K = 0.5, 2000, 6


@pytest.mark.parametrize("confidence", Confidence)
def test_no_pixel_falls_below_its_certified_rank(confidence: Confidence) -> None:
    rng, certified = np.random.default_rng(1), 0
    for radius in (0.01, 0.1, 0.3):
        for _ in range(60):
            population = rng.uniform(0.01, 0.99, 30)
            tally = tally_of(rng.binomial(SAMPLES, population), SAMPLES, sigma=SIGMA)
            found = certify_ranks(tally, K, radius, confidence, 1e-4)
            for pixel, rank in zip(found.pixels, found.ranks or (), strict=False):
                # The worst a half-space map can do to one pixel: it falls, all others rise.
                moved = ndtr(ndtri(population) + radius / SIGMA)
                moved[pixel] = ndtr(ndtri(population[pixel]) - radius / SIGMA)
                assert int((moved >= moved[pixel]).sum()) <= rank
                certified += rank < 30
    assert certified > 100


def test_the_bound_of_the_theorem_is_never_smaller() -> None:
    """L Theorem 3, for pixels that are 1 in at least half of the samples."""
    rng, compared = np.random.default_rng(2), 0
    n, kept, radius = 40, 8, 0.05
    for _ in range(20):
        values = rng.normal(size=(SAMPLES, n)) + np.linspace(3, 0, n)
        order = np.argsort(-values, axis=1)[:, :kept]
        ones = np.zeros((SAMPLES, n))
        np.put_along_axis(ones, order, 1.0, axis=1)
        tally = tally_of(ones.sum(0), SAMPLES, sigma=SIGMA)
        found = certify_ranks(tally, K, radius, Confidence.HOEFFDING, 1e-3)
        promised = rank_bound(n, kept, SAMPLES, radius, SIGMA, 1e-3)
        for pixel, rank in zip(found.pixels, found.ranks or (), strict=True):
            if tally.mean[pixel] >= 0.5:
                assert rank <= promised
                compared += 1
    assert compared > 20
    assert rank_bound(n, kept, 10, radius, SIGMA, 1e-3) == math.inf


def test_vacuous_ranks_are_no_certificate() -> None:
    for tally in (tally_of(np.array([5, 5, 5]), 10), tally_of(np.zeros(3), 0)):
        found = certify_ranks(tally, 2, 0.1, Confidence.CLOPPER_PEARSON, 1e-3)
        assert (found.status, found.radius, found.ranks) == (Status.UNKNOWN, 0, None)
        assert found.reason
    for radius in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="--radius"):
            certify_ranks(tally, 1, radius, Confidence.HOEFFDING, 0.1)
    with pytest.raises(UsageError, match="Gaussian"):
        certify_ranks(tally_of(np.zeros(3), 0, shape=4.0), 1, 0.1, Confidence.HOEFFDING, 0.1)
