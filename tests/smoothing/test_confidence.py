from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.smoothing.confidence import bounds, hoeffding_width, usual
from corgi.smoothing.ladder import samples_of
from corgi.terms import Confidence
from tests.smoothing.synthetic import allowed_failures, tally_of

TRIALS, PIXELS, SAMPLES, FAILURE = 200, 20, 60, 0.2


def test_the_widths_of_the_paper() -> None:
    assert hoeffding_width(150528, 50, 0.05) == pytest.approx(0.395, abs=5e-4)
    assert hoeffding_width(150528, 8192, 0.05) == pytest.approx(0.031, abs=5e-4)


@pytest.mark.parametrize("confidence", Confidence)
def test_stated_confidence_holds_for_0_1_maps(confidence: Confidence) -> None:
    rng = np.random.default_rng(11)
    failures = 0
    for _ in range(TRIALS):
        # Shares near 0, 1/2 and 1; Clopper-Pearson is closest to its level there.
        population = rng.beta(0.6, 0.6, PIXELS)
        held = bounds(tally_of(rng.binomial(SAMPLES, population), SAMPLES), confidence, FAILURE)
        failures += not ((held.lower <= population) & (population <= held.upper)).all()
    assert failures <= allowed_failures(TRIALS, FAILURE)


@pytest.mark.parametrize("confidence", [Confidence.HOEFFDING, Confidence.BERNSTEIN])
def test_stated_confidence_holds_for_values_between(confidence: Confidence) -> None:
    rng = np.random.default_rng(12)
    failures = 0
    for _ in range(TRIALS):
        a, b = rng.gamma(1.0, 1.0, (2, PIXELS)) + 0.02
        values = rng.beta(a, b, (SAMPLES, PIXELS))
        held = bounds(tally_of(values.sum(0), SAMPLES, squares=(values**2).sum(0)), confidence, FAILURE)
        population = a / (a + b)
        failures += not ((held.lower <= population) & (population <= held.upper)).all()
    assert failures <= allowed_failures(TRIALS, FAILURE)


def test_one_pixel_alone_fails_as_rarely_as_stated() -> None:
    """With one pixel Bonferroni gives nothing away, so this is where a wrong level would show."""
    rng = np.random.default_rng(13)
    for population in (0.02, 0.5, 0.93):
        counts = rng.binomial(SAMPLES, population, 4000)
        held = [
            bounds(tally_of(np.array([c]), SAMPLES), Confidence.CLOPPER_PEARSON, FAILURE) for c in range(61)
        ]
        outside = np.array([not h.lower[0] <= population <= h.upper[0] for h in held])
        assert outside[counts].sum() <= allowed_failures(4000, FAILURE)


@pytest.mark.parametrize("samples", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize("failure", [0.2, 1e-3, 1e-9])
def test_clopper_pearson_is_at_least_as_good_as_hoeffding_everywhere(samples: int, failure: float) -> None:
    tally = tally_of(np.arange(samples + 1), samples)
    exact = bounds(tally, Confidence.CLOPPER_PEARSON, failure)
    hoeffding = bounds(tally, Confidence.HOEFFDING, failure)
    assert (exact.lower >= hoeffding.lower).all()
    assert (exact.upper <= hoeffding.upper).all()


@pytest.mark.parametrize("samples", [1, 10, 100])
def test_clopper_pearson_against_exact_binomial_tails(samples: int) -> None:
    failure = 1e-6
    tally = tally_of(np.arange(samples + 1), samples)
    held, each = bounds(tally, Confidence.CLOPPER_PEARSON, failure), mpmath.mpf(failure) / (2 * tally.n)
    with mpmath.workdps(50):
        for count in range(1, samples + 1):
            p = mpmath.mpf(float(held.lower[count]))
            tail = mpmath.fsum(
                mpmath.binomial(samples, j) * p**j * (1 - p) ** (samples - j)
                for j in range(count, samples + 1)
            )
            assert tail <= each
            assert tail >= each * mpmath.mpf("0.999")  # and no more is given away
            assert float(held.upper[samples - count]) >= 1 - float(held.lower[count])


@given(
    st.integers(0, 300).flatmap(
        lambda q: st.tuples(st.just(q), st.lists(st.floats(0, 1), min_size=2, max_size=8))
    ),
    st.sampled_from(list(Confidence)),
    st.floats(1e-12, 0.5),
)
def test_bounds_are_numbers_around_the_mean(
    drawn: tuple[int, list[float]], confidence: Confidence, failure: float
) -> None:
    samples, means = drawn
    sums = np.array(means) * samples
    if confidence is Confidence.CLOPPER_PEARSON:
        tally = tally_of(np.floor(sums), samples)
    else:
        tally = tally_of(sums, samples, squares=np.array(means) ** 2 * samples)
    held = bounds(tally, confidence, failure)
    assert (held.lower >= 0).all()
    assert (held.upper <= 1).all()
    assert (held.lower <= tally.mean).all() or samples == 0
    assert (held.upper >= tally.mean).all()
    if samples == 0:
        assert not held.lower.any()
        assert held.upper.all()


def test_rungs_share_the_failure_probability() -> None:
    shares = [tally_of(np.array([1.0]), 2, rung=m).share(0.1) for m in range(200)]
    assert sum(shares) <= 0.1
    assert shares[:3] == pytest.approx([0.05, 0.1 / 6, 0.1 / 12])
    assert tally_of(np.array([1.0]), 2).share(0.1) == 0.1
    once = bounds(tally_of(np.array([50.0]), 100), Confidence.CLOPPER_PEARSON, 0.1)
    again = bounds(tally_of(np.array([50.0]), 100, rung=0), Confidence.CLOPPER_PEARSON, 0.1)
    assert again.lower[0] < once.lower[0] < once.upper[0] < again.upper[0]


@pytest.mark.parametrize("confidence", Confidence)
@pytest.mark.parametrize("population", [0.5, 0.03])
def test_who_looks_at_every_sample_is_covered(confidence: Confidence, population: float) -> None:
    """Claim as soon as any rung up to 12800 samples misses the population value: the worst a user can do."""
    rng, trials, rungs = np.random.default_rng(14), 4000, range(8)
    sizes = np.array([samples_of(m) for m in rungs])
    counts = np.cumsum(rng.binomial(np.diff(sizes, prepend=0), population, (trials, len(sizes))), axis=1)
    wrong = np.zeros(trials, dtype=bool)
    for m in rungs:
        # One pixel alone, of which Bonferroni gives nothing away.
        seen, inverse = np.unique(counts[:, m], return_inverse=True)
        held = [bounds(tally_of(np.array([c]), sizes[m], rung=m), confidence, FAILURE) for c in seen]
        wrong |= np.array([not h.lower[0] <= population <= h.upper[0] for h in held])[inverse]
    assert wrong.sum() <= allowed_failures(trials, FAILURE)


def test_what_cannot_be_asked() -> None:
    between = tally_of(np.array([0.5, 0.5]), 1, squares=np.array([0.25, 0.25]))
    with pytest.raises(UsageError, match="not 0 and 1"):
        bounds(between, Confidence.CLOPPER_PEARSON, 0.1)
    for failure in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="failure probability"):
            bounds(between, Confidence.HOEFFDING, failure)
    assert usual(True) is Confidence.CLOPPER_PEARSON
    assert usual(False) is Confidence.BERNSTEIN
