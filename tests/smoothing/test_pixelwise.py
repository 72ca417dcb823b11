from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from corgi.errors import UsageError
from corgi.results import Status
from corgi.smoothing.pixelwise import certify_pixels
from corgi.terms import Correction
from tests.smoothing.synthetic import allowed_failures, tally_of

SIGMA, SAMPLES = 0.5, 200
RADIUS = SIGMA * float(ndtri(0.75))


@pytest.mark.parametrize("correction", Correction)
def test_a_wrong_pixel_is_as_rare_as_stated(correction: Correction) -> None:
    rng, failures, certified = np.random.default_rng(1), 0, 0
    for _ in range(200):
        # Many pixels just on the wrong side of the threshold, some clear ones.
        population = np.where(rng.random(40) < 0.6, 0.75, rng.choice([0.02, 0.25, 0.5, 0.999], 40))
        tally = tally_of(rng.binomial(SAMPLES, population), SAMPLES, sigma=SIGMA)
        found = certify_pixels(tally, 5, RADIUS, 0.2, correction)
        inside, outside = list(found.inside or ()), list(found.outside or ())
        failures += bool((population[inside] <= 0.75).any() or (population[outside] >= 0.25).any())
        certified += len(inside) + len(outside)
    assert failures <= allowed_failures(200, 0.2)
    assert certified > 200


def test_certified_pixels_keep_their_side_at_the_worst_image() -> None:
    rng = np.random.default_rng(2)
    population = rng.uniform(0, 1, 300)
    tally = tally_of(rng.binomial(5000, population), 5000, sigma=SIGMA)
    for radius in (0.05, 0.2, 0.6):
        found = certify_pixels(tally, 5, radius, 1e-4)
        lowest = ndtr(ndtri(population) - radius / SIGMA)
        highest = ndtr(ndtri(population) + radius / SIGMA)
        assert found.inside
        assert found.outside
        assert (lowest[list(found.inside)] > 0.5).all()
        assert (highest[list(found.outside)] < 0.5).all()


def test_holm_certifies_what_bonferroni_does() -> None:
    rng = np.random.default_rng(3)
    more = 0
    for _ in range(50):
        tally = tally_of(rng.binomial(SAMPLES, rng.beta(0.3, 0.3, 30)), SAMPLES, sigma=SIGMA)
        holm, bonferroni = (
            certify_pixels(tally, 5, RADIUS, 0.01, c) for c in (Correction.HOLM, Correction.BONFERRONI)
        )
        assert set(bonferroni.inside or ()) <= set(holm.inside or ())
        assert set(bonferroni.outside or ()) <= set(holm.outside or ())
        assert not set(holm.inside or ()) & set(holm.outside or ())
        more += len(holm.inside or ()) > len(bonferroni.inside or ())
    assert more > 0


@pytest.mark.parametrize("samples", [0, 1, 5])
def test_too_few_samples_abstain_everywhere(samples: int) -> None:
    found = certify_pixels(tally_of(np.array([samples, 0, samples]), samples, sigma=SIGMA), 1, RADIUS, 1e-3)
    assert (found.status, found.radius, found.inside, found.outside) == (Status.UNKNOWN, 0, None, None)
    assert "abstain" in found.reason


def test_a_huge_radius_certifies_nothing() -> None:
    found = certify_pixels(tally_of(np.array([1000.0, 0]), 1000, sigma=SIGMA), 1, 100.0, 1e-3)
    assert found.status is Status.UNKNOWN


def test_what_cannot_be_asked() -> None:
    tally = tally_of(np.array([1.0, 0]), 1)
    with pytest.raises(UsageError, match="0/1"):
        certify_pixels(tally_of(np.array([0.5, 0]), 1, squares=np.array([0.25, 0])), 1, 0.1, 0.1)
    with pytest.raises(UsageError, match="Gaussian"):
        certify_pixels(tally_of(np.array([1.0, 0]), 1, shape=1.0), 1, 0.1, 0.1)
    for radius in (0.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="--radius"):
            certify_pixels(tally, 1, radius, 0.1)
    with pytest.raises(UsageError, match="k = 2"):
        certify_pixels(tally, 2, 0.1, 0.1)
