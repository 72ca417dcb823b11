"""Intervals for the population smoothed map that hold at all pixels at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from corgi.errors import UsageError
from corgi.results import FloatArray
from corgi.smoothing.tally import Tally
from corgi.terms import Confidence

_SLACK = 1e-9
"""Relative; many times the error of any function used here."""


@dataclass(frozen=True)
class Bounds:
    """lower <= population smoothed map <= upper at all pixels at once, float64 [n] in [0, 1]."""

    lower: FloatArray
    upper: FloatArray


def usual(binary: bool) -> Confidence:
    """The narrower intervals for maps that are 0/1, and for others."""
    return Confidence.CLOPPER_PEARSON if binary else Confidence.BERNSTEIN


def bounds(tally: Tally, confidence: Confidence, failure: float) -> Bounds:
    """Intervals that are all right with probability >= 1 - failure.

    2n bounds, each wrong with probability <= failure / (2n) (Bonferroni). Without samples they are [0, 1].

    Raises:
        UsageError: Clopper-Pearson for a map that is not 0/1, or a failure probability outside (0, 1).
    """
    each = tally.share(failure) / (2 * tally.n)
    if confidence is Confidence.CLOPPER_PEARSON:
        if not tally.binary:
            raise UsageError(
                f"--interval {confidence}: the values of '{tally.map_name}' are not 0 and 1",
                hint=f"Use {Confidence.BERNSTEIN} or {Confidence.HOEFFDING}, or a sparsified map.",
            )
        return _clopper_pearson(tally.sums, tally.samples, each)
    if tally.samples < 2:
        return Bounds(np.zeros(tally.n), np.ones(tally.n))
    hoeffding = confidence is Confidence.HOEFFDING
    width = _hoeffding(tally.samples, each) if hoeffding else _bernstein(tally, each)
    # A sum of q numbers in [0, 1] is rounded q times, each time by at most 2^-53 of a partial sum <= q.
    width = width * (1 + _SLACK) + tally.samples * 2.0**-52
    return Bounds(np.maximum(tally.mean - width, 0.0), np.minimum(tally.mean + width, 1.0))


def hoeffding_width(n: int, samples: int, failure: float) -> float:
    """How far any of n means of q samples is from its expectation, but for `failure` (theory 7.2).

    c = sqrt(ln(2n / failure) / (2q)).
    """
    return _hoeffding(samples, failure / (2 * n))


def _hoeffding(samples: int, each: float) -> float:
    """P(mean - expectation >= c) <= exp(-2 q c^2)."""
    return math.sqrt(-math.log(each) / (2 * samples))


def _bernstein(tally: Tally, each: float) -> FloatArray:
    """Half widths: the expectation exceeds the mean by more with probability <= d, V the sample variance.

    sqrt(2 V ln(2/d) / q) + 7 ln(2/d) / (3 (q - 1)).
    """
    q, log = tally.samples, math.log(2 / each)
    # What cancels here is at most q, with at most 2 q roundings of 2^-53 behind it.
    variance = np.maximum((tally.squares - tally.sums**2 / q) / (q - 1), 0.0) + 8 * q * 2.0**-52
    return np.sqrt(2 * variance * log / q) + 7 * log / (3 * (q - 1))


def _clopper_pearson(counts: FloatArray, samples: int, each: float) -> Bounds:
    zeros = _lower_limit(samples - counts, samples, each)
    return Bounds(_lower_limit(counts, samples, each), np.minimum(np.nextafter(1.0 - zeros, 2.0), 1.0))


def _lower_limit(counts: NDArray[np.float64], samples: int, each: float) -> FloatArray:
    """The p at which `counts` or more successes have probability `each`, rounded down; 0 for none.

    P(Bin(q, p) >= s) is the regularised incomplete beta function I_p(s, q - s + 1).
    """
    some = np.maximum(counts, 1.0)
    limit: FloatArray = betaincinv(some, samples - some + 1, each) * (1 - _SLACK)
    # NaN says nothing; nor do zero successes.
    return np.where((counts > 0) & np.isfinite(limit), limit, 0.0)
