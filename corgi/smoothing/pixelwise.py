"""Pixel by pixel: certified inside the base map's top set, outside it, or abstained (theory 7.6).

The base map is 0/1, and every pixel is a classification of its own: inside if it is 1 for more than half of
all noise, which may be another half for another pixel. With P the share at x and tau = Phi(radius / sigma),

    P > tau at x  =>  P > Phi(Phi^-1(tau) - radius / sigma) = 1/2 at every x' within the l_2 radius,

by theory 7.1, and likewise for zeros. Two one-sided hypotheses a pixel, P <= tau and 1 - P <= tau, are
tested by their exact binomial tail; Bonferroni or Holm over all 2n of them keeps the probability of a
single wrong claim below the failure probability. (Anani et al. 2025, after Fischer et al. 2021.)
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betainc, ndtr

from corgi.cam.topk import check_ranks
from corgi.errors import UsageError
from corgi.results import Claim, FloatArray, StatisticalCertificate, Status
from corgi.smoothing.gaussian import check_gaussian
from corgi.smoothing.tally import Tally
from corgi.terms import Correction

_SLACK = 1e-9
"""Relative; many times the error of the functions used here."""


def certify_pixels(
    tally: Tally, k: int, radius: float, failure: float, correction: Correction = Correction.HOLM
) -> StatisticalCertificate:
    """Which pixels are certified inside or outside the base map's top set, for one l_2 radius.

    Args:
        tally: sums of a 0/1 map under Gaussian noise.
        k: how many of the largest pixels the certificate lists.
        radius: pixel scale. It has to be chosen before the samples are seen.
        failure: probability that any claim may be wrong, in (0, 1).
        correction: over all pixels.

    Raises:
        UsageError: the map is not 0/1, the noise is not Gaussian, or a number cannot be.
    """
    check_gaussian(tally)
    check_ranks(k, k, tally.n)
    if not tally.binary:
        raise UsageError(f"pixel-wise certificates need a 0/1 map, '{tally.map_name}' is none")
    if not 0 < radius < math.inf:
        raise UsageError(f"--radius {radius}: expected a finite number > 0")
    tau = min(float(ndtr(radius / tally.noise.sigma)) * (1 + _SLACK), 1.0)
    values = np.concatenate([_tail(tally.sums, tally.samples, tau),
                             _tail(tally.samples - tally.sums, tally.samples, tau)])  # fmt: skip
    rejected = _rejected(values, tally.share(failure), correction)
    inside = tuple(int(i) for i in np.flatnonzero(rejected[: tally.n]))
    outside = tuple(int(i) for i in np.flatnonzero(rejected[tally.n :]))
    holds = bool(inside or outside)
    return StatisticalCertificate(
        claim=Claim.PIXELS,
        status=Status.CERTIFIED if holds else Status.UNKNOWN,
        reason=""
        if holds
        else f"all {tally.n} pixels abstain: no share of samples is far enough above {tau:.4g}",
        radius=radius if holds else 0.0,
        order=2.0,
        k=k,
        pixels=tally.order[:k],
        inside=inside if holds else None,
        outside=outside if holds else None,
        sampling=tally.sampling("binomial test", correction.value, failure),
    )


def _tail(counts: FloatArray, samples: int, tau: float) -> FloatArray:
    """P(Bin(samples, tau) >= counts), rounded up: the p-value of "the share is at most tau"."""
    some = np.maximum(counts, 1.0)
    tail = betainc(some, samples - some + 1, tau) * (1 + _SLACK)
    return np.where((counts > 0) & np.isfinite(tail), tail, 1.0)


def _rejected(
    values: FloatArray, failure: float, correction: Correction
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which hypotheses are rejected.

    Holm: in ascending order, as long as the j-th of m p-values is at most failure / (m - j + 1).
    """
    m = len(values)
    if correction is Correction.BONFERRONI:
        return values <= failure / m
    order = np.argsort(values, kind="stable")
    passed = values[order] <= failure / (m - np.arange(m))
    rejected = np.zeros(m, dtype=bool)
    rejected[order[: int(np.logical_and.accumulate(passed).sum())]] = True
    return rejected
