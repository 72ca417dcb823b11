"""How far a smoothed map can move under Gaussian noise (theory 7.1, 7.2)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from corgi.errors import UsageError
from corgi.results import FloatArray
from corgi.smoothing.tally import Tally

_SLACK = 1e-12
"""Many times the relative error of `ndtr` and `ndtri`, and of their absolute error near 0."""


def check_gaussian(tally: Tally) -> None:
    """Refuse other noise: the statements of theory 7.1 to 7.6 are about Gaussian noise.

    Raises:
        UsageError: the noise is another.
    """
    if tally.noise.shape != 2.0:
        raise UsageError(f"{tally.noise.name} noise: this certificate holds for Gaussian noise only")


def floor(lower: FloatArray, radius: float, sigma: float) -> FloatArray:
    """The floor of theory 7.1 for lower bounds of population values: Phi(Phi^-1(z) - 2 radius / sigma).

    A value whose population mean is at least z stays above every value that is at most the floor now, within
    the l_2 radius. Rounded down; 0 (vacuous) where z <= 0, never NaN.
    """
    high = ndtri(lower)
    moved = ndtr(high - 2 * radius / sigma - _SLACK * (1 + np.abs(_finite(high))))
    return np.where(lower > 0, np.clip(moved * (1 - _SLACK), 0.0, 1.0), 0.0)


def order_radius(lower: FloatArray, upper: FloatArray, sigma: float) -> FloatArray:
    """Within which l_2 radius a value >= lower stays strictly above a value <= upper, elementwise.

    Phi^-1 of either moves by at most radius / sigma (theory 7.1), so

        radius = sigma / 2 (Phi^-1(lower) - Phi^-1(upper)),

    rounded down; 0 where it is not positive or not a number.
    """
    high, low = ndtri(lower), ndtri(upper)
    slack = _SLACK * (1 + np.abs(_finite(high)) + np.abs(_finite(low)))
    with np.errstate(invalid="ignore"):  # inf - inf says nothing
        radius = sigma / 2 * (high - low - slack) * (1 - _SLACK)
    return np.where(radius > 0, radius, 0.0)


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, 0.0)
