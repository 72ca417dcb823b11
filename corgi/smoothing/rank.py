"""Within which rank each of the k largest pixels of a smoothed map stays (theory 7.5; L Definition 3.1)."""

from __future__ import annotations

import math

import numpy as np

from corgi.cam.topk import check_ranks
from corgi.errors import UsageError
from corgi.results import Claim, StatisticalCertificate, Status
from corgi.smoothing.confidence import bounds, hoeffding_width
from corgi.smoothing.gaussian import check_gaussian, floor
from corgi.smoothing.tally import Tally
from corgi.terms import Confidence


def certify_ranks(
    tally: Tally, k: int, radius: float, confidence: Confidence, failure: float
) -> StatisticalCertificate:
    """The certified rank of each of the k largest pixels of the empirical map, for one l_2 radius.

    Pixel i stays above every pixel j with U_j < floor(L_i) (theory 7.1). So its rank is at most the number of
    pixels with U_j >= floor(L_i), itself among them.

    Raises:
        UsageError: a k or a radius that cannot be; other noise than Gaussian.
    """
    check_gaussian(tally)
    check_ranks(k, k, tally.n)
    if not 0 < radius < math.inf:
        raise UsageError(f"--radius {radius}: expected a finite number > 0")
    held = bounds(tally, confidence, failure)
    pixels = tally.order[:k]
    floors = floor(held.lower, radius, tally.noise.sigma)
    ranks = tuple(int((held.upper >= floors[i]).sum()) for i in pixels)
    best = min(ranks)
    holds = best < tally.n
    return StatisticalCertificate(
        claim=Claim.RANK,
        status=Status.CERTIFIED if holds else Status.UNKNOWN,
        reason="" if holds else f"the samples show no rank of any of the {k} pixels at {radius:g}",
        radius=radius if holds else 0.0,
        order=2.0,
        k=k,
        pixels=pixels,
        ranks=ranks if holds else None,
        sampling=tally.sampling(confidence.value, "bonferroni", failure),
    )


def rank_bound(n: int, kept: int, samples: int, radius: float, sigma: float, failure: float) -> float:
    """L Theorem 3: tau n / Lhat(1/2) bounds the certified rank of every pixel whose median rank is <= tau n.

    `kept` is tau n of a sparsified map. Known before sampling; `certify_ranks` is never worse. Infinite if
    the floor is vacuous.
    """
    width = hoeffding_width(n, samples, failure)
    lowest = float(floor(np.array([0.5 - width]), radius, sigma)[0]) - width
    return kept / lowest if lowest > 0 else math.inf
