from __future__ import annotations

import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.results import Claim, FloatArray, Status
from corgi.smoothing.confidence import Bounds, bounds
from corgi.smoothing.noise import Noise
from corgi.smoothing.options import SmoothOptions
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.renyi import certify_renyi, divergence_as_published, least_divergence, renyi_radii
from corgi.smoothing.tally import Tally, empty, sample
from corgi.terms import Confidence
from tests.smoothing import counterexamples
from tests.smoothing.synthetic import Spread, tally_of

PAGE = Path(__file__).parents[2] / "docs" / "renyi-counterexample.md"
IMAGE = np.full((1, 1, 4), 0.5, dtype=np.float32)


def divergence(moved: FloatArray, shares: FloatArray, order: float) -> float:
    """D_order(moved || shares)."""
    if order == 1.0:
        return float((moved * np.log(moved / shares)).sum())
    return float(np.log((shares * (moved / shares) ** order).sum()) / (order - 1))


def numerical_minimum(shares: FloatArray, k: int, lost: int, order: float) -> float:
    """Least divergence over all levels c: pixels of A cut to c, those of B raised to it."""
    found = np.inf
    for level in np.geomspace(shares.min(), shares.max(), 4001):
        moved = shares.copy()
        moved[k - lost : k] = np.minimum(moved[k - lost : k], level)
        moved[k : k + lost] = np.maximum(moved[k : k + lost], level)
        found = min(found, divergence(moved / moved.sum(), shares, order))
    return found


def random_shares(rng: np.random.Generator, n: int) -> FloatArray:
    drawn = np.maximum(rng.dirichlet(np.full(n, rng.choice([0.3, 1.0, 5.0]))), 1e-6)
    return -np.sort(-drawn / drawn.sum())


@pytest.mark.parametrize("order", [1.0, 1.05, 2.0, 20.0])
def test_least_divergence_is_the_numerical_minimum(order: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(8):
        shares = random_shares(rng, int(rng.integers(4, 9)))
        k = int(rng.integers(1, len(shares) // 2 + 1))
        lost = int(rng.integers(1, k + 1))
        found = least_divergence(shares[k - lost : k], shares[k : k + lost], order)
        best = numerical_minimum(shares, k, lost, order)
        assert found <= best + 1e-12
        assert found == pytest.approx(best, rel=2e-3, abs=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.3, 3.0, 50.0]))
def test_no_shares_with_that_many_lost_pixels_are_closer(seed: int, order: float) -> None:
    """Not only those of the form above: anything that loses enough of the set, which ones it may be."""
    rng = np.random.default_rng(seed)
    shares = random_shares(rng, 7)
    k = int(rng.integers(1, 5))
    moved = np.exp(rng.normal(np.log(shares), rng.choice([0.1, 0.5, 1.5])))
    moved /= moved.sum()
    top = set(np.argsort(-moved)[:k].tolist())
    lost = k - len(top & set(range(k)))
    assume(lost > 0)
    for fewer in range(1, lost + 1):
        bound = least_divergence(shares[k - fewer : k], shares[k : k + fewer], order)
        assert bound <= divergence(moved, shares, order) + 1e-12


@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.3, 3.0, 50.0]))
def test_bounds_of_shares_only_lower_it(seed: int, order: float) -> None:
    rng = np.random.default_rng(seed)
    shares = random_shares(rng, 8)
    inside, outside = shares[1:4], shares[4:7]
    lower = inside * rng.uniform(0, 1, 3)
    upper = np.minimum(outside * rng.uniform(1, 5, 3), 1.0)
    exact, loose = (least_divergence(a, b, order) for a, b in ((inside, outside), (lower, upper)))
    assert 0 <= loose <= exact + 1e-12
    assert least_divergence(np.zeros(3), upper, order) == 0


@pytest.mark.parametrize("order", [1 + 1e-9, 1 + 1e-6, 1.001, 1.01, 2.0, 1001.0])
def test_rounding_never_raises_it(order: float) -> None:
    """Near order 1 what rounding leaves of logarithms of sums is divided by order - 1."""
    rng = np.random.default_rng(4)
    for lost in (1, 3, 40):
        inside = rng.uniform(0.6, 1.0, lost) / lost / 2
        outside = rng.uniform(0.2, 0.4, lost) / lost / 2
        found = least_divergence(inside, outside, order)
        with mpmath.workdps(60):
            # Of all sets this is the least one if its level lies between the groups, and else no less.
            shares, power = [mpmath.mpf(float(m)) for m in (*inside, *outside)], 1 - mpmath.mpf(order)
            psi = (mpmath.fsum(m**power for m in shares) / len(shares)) ** (1 / power)
            exact = -mpmath.log(1 + len(shares) * psi - mpmath.fsum(shares))
        assert found <= exact
        if outside.max() < psi < inside.min():
            slack = 1e-11 + 1e-13 / (order - 1)
            assert found >= exact - slack


def test_the_published_divergence_is_no_lower_bound() -> None:
    shares = counterexamples.SHARES
    moved, spent = counterexamples.closer_shares()
    assert moved.sum() == pytest.approx(1)
    nudged = moved + np.array([0, 0, 1e-9, 1e-9])  # of level pixels, those from outside
    assert set(np.argsort(-nudged)[:2].tolist()) == {2, 3}
    assert spent < divergence_as_published(shares, 2, 2, 1.0)
    assert least_divergence(shares[:2], shares[2:], 1.0) == pytest.approx(spent, abs=1e-9)


def test_the_published_radius_is_broken_by_an_explicit_image() -> None:
    """Theory 7.10. At the dark image the mean input is below 1/2 and the noise symmetric: pixel 2 leads."""
    published = counterexamples.certificate(as_published=True)
    sound = counterexamples.certificate(as_published=False)
    bright, dark = (counterexamples.averaged(bright=bright) for bright in (True, False))
    assert bright[0] > bright[1]
    assert dark[0] < dark[1]
    assert published.pixels == sound.pixels == (0,)
    assert published.claimed_radius is not None
    assert published.claimed_radius > 2 * counterexamples.DISTANCE  # an image at DISTANCE breaks it
    assert 0 < sound.radius < counterexamples.DISTANCE
    assert (published.status, published.radius, published.overlap) == (Status.UNKNOWN, 0, None)
    assert "no guarantee" in published.reason
    assert (sound.status, sound.overlap, sound.claimed_radius) == (Status.CERTIFIED, 1, None)


def test_the_page_has_these_numbers() -> None:
    text = PAGE.read_text(encoding="utf-8")
    published = counterexamples.certificate(as_published=True).claimed_radius
    sound = counterexamples.certificate(as_published=False).radius
    numbers = [
        f"{counterexamples.DISTANCE:.3f}",
        f"{published:.3f}",
        f"{sound:.5f}",
        f"{divergence_as_published(counterexamples.SHARES, 2, 2, 1.0):.3f}",
        f"{counterexamples.closer_shares()[1]:.3f}",
    ]
    assert [number for number in numbers if number not in text] == []


def sampled(norm_shape: float, samples: int) -> tuple[Tally, RankScores]:
    scored = RankScores(Spread(), 2)
    noise = Noise(0.5, norm_shape, seed=2)
    return sample(empty(scored, IMAGE, noise), scored, IMAGE, samples), scored


@pytest.mark.parametrize(("shape", "norm"), [(1.0, 1.0), (2.0, 2.0), (2.0, 1.5), (4.0, 4.0), (2.0, math.inf)])
def test_radii_of_sampled_maps(shape: float, norm: float) -> None:
    few, scored = sampled(shape, 5)
    assert (renyi_radii(few, scored, 2, norm, bounds(few, Confidence.HOEFFDING, 0.05)) == 0).all()
    many, scored = sampled(shape, 4000)
    held = bounds(many, Confidence.BERNSTEIN, 0.05)
    radii = renyi_radii(many, scored, 2, norm, held)
    estimate = renyi_radii(many, scored, 2, norm, Bounds(many.mean, many.mean))
    assert (radii <= estimate).all()
    assert radii[0] > 0
    assert (np.diff(radii) <= 0).all()
    found = certify_renyi(many, scored, 2, norm, Confidence.BERNSTEIN, 0.05, overlap=1)
    assert (found.claim, found.radius, found.order, found.overlap) == (Claim.RENYI, radii[0], norm, 1)
    again = certify_renyi(many, scored, 2, norm, Confidence.BERNSTEIN, 0.05, radius=found.radius)
    assert again.overlap == 1 or radii[1] == radii[0]


@pytest.mark.parametrize("n", [2, 10, 576, 150528])
def test_scores_are_a_distribution_over_ranks(n: int) -> None:
    scored = RankScores(Spread(n), max(1, n // 10))
    assert scored.scores.sum() == pytest.approx(1, abs=1e-12)
    assert (np.diff(scored.scores) <= 0).all()
    assert scored.scores[-1] >= 0
    assert scored.shares(np.array([0.0, 1.0])) == pytest.approx(scored.scores[[-1, 0]], abs=1e-15)


def test_what_cannot_be_asked() -> None:
    scored = RankScores(Spread(), 2)
    with pytest.raises(UsageError, match="sums are of"):
        certify_renyi(tally_of(np.zeros(6), 1), scored, 2, 2.0, Confidence.HOEFFDING, 0.1)
    other, scored = sampled(1.0, 10)
    with pytest.raises(UsageError, match="no bound"):
        certify_renyi(other, scored, 2, 2.0, Confidence.HOEFFDING, 0.1)
    for steepness in (0.0, -1.0, math.inf, math.nan, 1e-30):
        with pytest.raises(UsageError, match="rank scores"):
            RankScores(Spread(), 2, steepness)
    for center in (0, 7):
        with pytest.raises(UsageError, match="one of the ranks 1-6"):
            RankScores(Spread(), center)
    with pytest.raises(UsageError, match="only of renyi"):
        SmoothOptions(eta=0.1)
    wild = RankScores(Spread(), 2, 1e5)  # all weight on the first two ranks
    assert wild.scores[:2].sum() == pytest.approx(1)
