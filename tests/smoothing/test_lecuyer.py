from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from corgi.smoothing.gaussian import floor
from corgi.smoothing.lecuyer import lecuyer_floor

VALUES = np.linspace(0.0, 1.0, 201)


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.3, 1.0])
def test_never_above_the_tight_bound(ratio) -> None:
    """L figure 15: Theorem 1 is attained by half-spaces, so no sound bound can exceed it."""
    tight, loose = floor(VALUES, ratio, 1.0), lecuyer_floor(VALUES, ratio, 1.0)
    assert (loose <= tight + 1e-9).all()
    assert (np.diff(loose) >= 0).all()
    assert (loose < VALUES + 1e-12).all()


def test_says_something_at_small_radii() -> None:
    assert lecuyer_floor(np.array([0.9]), 0.03, 0.3)[0] > 0.3


@pytest.mark.parametrize("ratio", [0.05, 0.2])
def test_a_half_space_does_not_break_it(ratio) -> None:
    """h = 1 on a half-space has population value Phi(t), and Phi(t -+ ratio) after a change of that size."""
    for t in np.linspace(-2, 3, 21):
        below = lecuyer_floor(np.array([norm.cdf(t)]), ratio, 1.0)[0]
        assert norm.cdf(norm.ppf(below) + ratio) <= norm.cdf(t - ratio) + 1e-9 or below == 0
