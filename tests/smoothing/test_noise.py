from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from corgi.errors import UsageError
from corgi.smoothing.noise import Noise, shape_for

COUNT = 40_000


@pytest.mark.parametrize("shape", [1.0, 2.0, 3.5, 4.0, 10.0])
def test_sigma_is_the_standard_deviation_and_the_law_is_generalized_normal(shape: float) -> None:
    noise = Noise(0.3, shape, seed=1)
    drawn = noise.draw(0, 1, (COUNT,)).ravel()
    assert drawn.std() == pytest.approx(0.3, rel=0.03)
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert stats.kstest(drawn, stats.gennorm(shape, scale=noise.scale).cdf).pvalue > 1e-3


def test_scales_of_the_known_laws() -> None:
    assert Noise(0.3, 2.0).scale == pytest.approx(0.3 * math.sqrt(2))
    assert Noise(0.3, 1.0).scale == pytest.approx(0.3 / math.sqrt(2))


@pytest.mark.parametrize("shape", [1.0, 2.0, 10.0])
def test_a_sample_depends_on_seed_and_index_alone(shape: float) -> None:
    noise = Noise(0.1, shape, seed=7)
    whole = noise.draw(0, 9, (3, 2, 2))
    parts = np.concatenate([noise.draw(0, 4, (3, 2, 2)), noise.draw(4, 5, (3, 2, 2))])
    assert np.array_equal(whole, parts)
    assert len(np.unique(whole)) == whole.size  # no two samples share their noise
    assert not np.array_equal(whole, Noise(0.1, shape, seed=8).draw(0, 9, (3, 2, 2)))


def test_samples_are_uncorrelated() -> None:
    drawn = Noise(1.0, seed=3).draw(0, 60, (500,))
    correlations = np.corrcoef(drawn)[np.triu_indices(60, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(500)


@pytest.mark.parametrize(
    ("order", "inputs", "shape"),
    [(1, 6912, 1), (1.5, 6912, 2), (2, 6912, 2), (3, 6912, 4), (10, 6912, 10), (math.inf, 6912, 10),
     (math.inf, 150528, 12), (100, 150528, 12), (math.inf, 2, 2)],
)  # fmt: skip
def test_shape_for_a_norm(order: float, inputs: int, shape: float) -> None:
    assert shape_for(order, inputs) == shape


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"sigma": math.nan}, {"sigma": 1.0, "shape": 0.0},
                                   {"sigma": 1.0, "seed": -1}, {"sigma": math.inf}])  # fmt: skip
def test_numbers_that_are_no_noise_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Noise(**wrong)
    with pytest.raises(UsageError):
        shape_for(0.5, 100)
