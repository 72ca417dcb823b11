from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from corgi.errors import UsageError
from corgi.results import Claim, FloatArray, Status
from corgi.smoothing.confidence import Bounds, bounds
from corgi.smoothing.gaussian import floor, order_radius
from corgi.smoothing.overlap import Index, certify_overlap, curve_of, overlap_radii
from corgi.terms import Confidence
from tests.smoothing.synthetic import allowed_failures, tally_of

SIGMA, K, SAMPLES = 0.5, 5, 2000


def attacked(population: FloatArray, top: list[int], radius: float) -> FloatArray:
    """Population values at the worst image at a distance, of half-space maps.

    Pixels of `top` are half-spaces along a direction, all others against it: one step along it lowers every
    value of `top` and raises every other as far as theory 7.1 allows.
    """
    sign = np.ones(len(population))
    sign[top] = -1
    return ndtr(ndtri(population) + sign * radius / SIGMA)


def kept(population: FloatArray, top: list[int]) -> int:
    """How many of the pixels `top` are among the k largest."""
    return len(set(np.argsort(-population, kind="stable")[: len(top)].tolist()) & set(top))


def population_of(seed: int) -> FloatArray:
    return np.random.default_rng(seed).uniform(0.01, 0.99, 30)


@pytest.mark.parametrize("seed", range(5))
def test_with_known_values_the_radius_is_where_the_overlap_breaks(seed: int) -> None:
    population = population_of(seed)
    tally = tally_of(population * SAMPLES, SAMPLES, squares=population, sigma=SIGMA)
    radii = overlap_radii(tally, K, Bounds(population, population))
    top = list(tally.order[:K])
    for overlap, radius in enumerate(radii, 1):
        assert kept(attacked(population, top, radius), top) >= overlap
        assert kept(attacked(population, top, radius * 1.00001 + 1e-9), top) < overlap


@pytest.mark.parametrize("confidence", Confidence)
@pytest.mark.parametrize("index", Index)
def test_no_sampled_certificate_exceeds_the_true_break(confidence: Confidence, index: Index) -> None:
    """One wrong certificate in 200 would already be more than the failure probability allows."""
    rng, certified = np.random.default_rng(3), 0
    for seed in range(200):
        population = population_of(seed)
        tally = tally_of(rng.binomial(SAMPLES, population), SAMPLES, sigma=SIGMA)
        top = list(tally.order[:K])
        for overlap, radius in enumerate(overlap_radii(tally, K, bounds(tally, confidence, 1e-4), index), 1):
            certified += radius > 0
            if radius > 0:
                assert kept(attacked(population, top, radius), top) >= overlap
    assert certified > 200


def test_forms_are_ordered() -> None:
    for seed in range(20):
        tally = tally_of(np.random.default_rng(seed).binomial(SAMPLES, population_of(seed)), SAMPLES)
        hoeffding, exact = (
            bounds(tally, c, 1e-3) for c in (Confidence.HOEFFDING, Confidence.CLOPPER_PEARSON)
        )
        proved, published = (overlap_radii(tally, K, exact, index) for index in Index)
        assert (published <= proved).all()
        assert published[-1] == 0  # it compares the k-th pixel with itself
        assert (overlap_radii(tally, K, hoeffding) <= proved).all()
        assert (np.diff(proved) <= 0).all()


def test_radius_and_overlap_are_two_ends_of_one_certificate() -> None:
    tally = tally_of(np.array([1990, 1800, 1500, 700, 300, 20, 10]), SAMPLES)
    found = certify_overlap(tally, 3, Confidence.CLOPPER_PEARSON, 1e-3)
    assert (found.status, found.claim, found.overlap, found.pixels) == (
        Status.CERTIFIED, Claim.OVERLAP, 3, (0, 1, 2),
    )  # fmt: skip
    assert found.radius > 0
    again = certify_overlap(tally, 3, Confidence.CLOPPER_PEARSON, 1e-3, radius=found.radius)
    assert (again.radius, again.overlap) == (found.radius, 3)
    beyond = certify_overlap(tally, 3, Confidence.CLOPPER_PEARSON, 1e-3, radius=found.radius * 1.0001)
    assert beyond.overlap == 2
    far = certify_overlap(tally, 3, Confidence.CLOPPER_PEARSON, 1e-3, radius=50.0)
    assert (far.status, far.radius, far.overlap) == (Status.UNKNOWN, 0, None)
    assert "they do show 3 of 3" in far.reason
    assert found.curve == again.curve == far.curve
    assert found.curve[0] == (3, found.radius)
    two = certify_overlap(tally, 3, Confidence.CLOPPER_PEARSON, 1e-3, overlap=2)
    assert two.radius > found.radius
    assert (2, two.radius) in found.curve


def test_by_default_the_largest_overlap_that_the_samples_show() -> None:
    """k = 3 of 5: pixel 2 cannot be told from pixel 3, and any two sets of 3 share 1."""
    tally = tally_of(np.array([1990, 1800, 1001, 1000, 10]), SAMPLES)
    found = certify_overlap(tally, 3, Confidence.CLOPPER_PEARSON, 1e-3)
    assert (found.status, found.overlap) == (Status.CERTIFIED, 2)
    assert found.curve == ((2, found.radius),)
    asked = certify_overlap(tally, 3, Confidence.CLOPPER_PEARSON, 1e-3, overlap=3)
    assert (asked.status, asked.radius, asked.curve) == (Status.UNKNOWN, 0, found.curve)
    assert "do not show an overlap of 3 of 3 at any radius; they do show 2 of 3" in asked.reason
    none = certify_overlap(tally_of(np.full(5, 1000), SAMPLES), 3, Confidence.CLOPPER_PEARSON, 1e-3)
    assert (none.status, none.overlap, none.curve) == (Status.UNKNOWN, None, ())
    assert "do not show any overlap at any radius; more of them" in none.reason


def test_a_curve_leaves_out_what_says_nothing() -> None:
    assert curve_of(np.array([np.inf, 0.5, 0.5, 0.2, 0.0])) == ((4, 0.2), (3, 0.5))
    assert curve_of(np.zeros(3)) == ()


def test_the_whole_curve_fails_at_once_no_more_often_than_stated() -> None:
    """Runs in which any point of the curve is wrong: so whatever is chosen after seeing it holds as stated.

    Which overlap is the largest depends on the noise here.
    """
    population = np.array([0.9, 0.62, 0.6, 0.58, 0.56, 0.44, 0.42, 0.4, 0.38, 0.1])
    rng, runs, failure, wrong, largest = np.random.default_rng(5), 400, 0.1, 0, set()
    for _ in range(runs):
        tally = tally_of(rng.binomial(300, population), 300, sigma=SIGMA)
        found = certify_overlap(tally, K, Confidence.CLOPPER_PEARSON, failure)
        top = list(found.pixels)
        largest.add(found.overlap)
        wrong += any(kept(attacked(population, top, radius), top) < m for m, radius in found.curve)
    assert len(largest) > 2
    assert wrong <= allowed_failures(runs, failure)


@pytest.mark.parametrize("sums", [[0, 0, 0, 0], [9, 9, 9, 9], [10, 10, 10, 10], [10, 9, 0, 0]])
@pytest.mark.parametrize("samples", [0, 10])
@pytest.mark.parametrize("confidence", Confidence)
def test_plateaus_are_vacuous_never_nan(sums: list[int], samples: int, confidence: Confidence) -> None:
    tally = tally_of(np.minimum(sums, samples), samples)
    for radius in overlap_radii(tally, 2, bounds(tally, confidence, 1e-6)):
        assert radius == 0


@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=12), st.integers(0, 500), st.floats(1e-9, 0.5), st.data()
)
def test_radii_are_always_numbers(
    means: list[float], samples: int, failure: float, data: st.DataObject
) -> None:
    tally = tally_of(np.floor(np.array(means) * samples), samples)
    k = data.draw(st.integers(1, len(means) - 1))
    radii = overlap_radii(tally, k, bounds(tally, Confidence.CLOPPER_PEARSON, failure))
    assert (radii >= 0).all()
    assert (np.diff(radii[np.isfinite(radii)]) <= 0).all()
    # Two sets of k among n pixels share 2k - n whatever they are.
    assert int(np.isinf(radii).sum()) == max(0, 2 * k - tally.n)


def test_floors() -> None:
    z = np.array([-0.1, 0.0, 1e-300, 0.3, 0.5, 0.9, 1 - 1e-12])
    floors = floor(z, 0.1, 0.5)
    assert (floors >= 0).all()
    assert (floors[:2] == 0).all()
    assert (floors <= np.maximum(z, 0)).all()
    assert floors[3:6] == pytest.approx(ndtr(ndtri(z[3:6]) - 0.4))
    radii = order_radius(np.array([0.0, 1.0, 0.7, np.nan, 1.0]), np.array([1.0, 1.0, 0.2, 0.1, 0.0]), 0.5)
    assert radii[2] == pytest.approx(0.25 * (ndtri(0.7) - ndtri(0.2)))
    assert (radii[[0, 1, 3]] == 0).all()


def test_what_cannot_be_asked() -> None:
    tally = tally_of(np.array([5, 4, 3, 2, 1]), 10)
    for wrong in ({"k": 0}, {"k": 5}, {"overlap": 3}, {"overlap": 0}, {"radius": 0.0}, {"radius": np.nan},
                  {"radius": 0.1, "overlap": 1}, {"k": 4, "overlap": 3}):  # fmt: skip
        asked = {"k": 2} | wrong
        with pytest.raises(UsageError):
            certify_overlap(tally, asked.pop("k"), Confidence.HOEFFDING, 0.1, **asked)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Gaussian"):
        certify_overlap(tally_of(np.array([5, 4, 3]), 10, shape=1.0), 1, Confidence.HOEFFDING, 0.1)
