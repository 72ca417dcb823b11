"""Overlap certificates by Renyi divergence (theory 7.8 to 7.10, R): sound for finitely many samples.

A map of scores by rank is a probability distribution m over pixels: draw noise, then a pixel by its score.
At x' it is another one, m', and D_a(m' || m) is at most the divergence of the noisy images (data
processing). If fewer than i of the k largest pixels T of m are among the k largest of m', then k0 = k - i +
1 pixels A of T and as many others B have

    m'_a <= c <= m'_b for some c, all a in A and b in B.

*The least divergence under that constraint.* To minimise sum m_i^(1-a) m'_i^a is a convex problem. Its
solution keeps m' proportional to m except on an active set S, where it is one level:

    D = -ln(1 + |S| psi - sum_S m),  psi = (1/|S| sum_S m^(1-a))^(1/(1-a)),
    S = {i in A: m_i > psi} + {i in B: m_i < psi}.

For a = 1, psi is the geometric mean. The patent takes S = A + B whatever psi is. Where psi leaves the gap
between the two groups that is a further constraint: the minimum comes out too large, and a radius from it
is no guarantee (docs/renyi-counterexample.md).

*Finitely many samples.* D falls when an m_i of A falls or one of B grows: the derivative of |S| psi - sum_S
m is (psi / m_i)^a - 1 on S and 0 elsewhere. So with bounds of m, the k0 smallest lower bounds of T and the
k0 largest upper bounds outside it give the least D.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

from corgi.errors import UsageError
from corgi.results import Claim, FloatArray, StatisticalCertificate, Status
from corgi.smoothing.confidence import Bounds, bounds
from corgi.smoothing.divergence import orders_for, radius_as_published, radius_for
from corgi.smoothing.overlap import check_overlap, chosen, curve_of, why_not
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.tally import Tally
from corgi.terms import Confidence

_SLACK = 1e-12
"""Relative; more than rounding can change in a sum of shares, and in a mean of their logarithms."""

_LOG_SLACK = 1e-14
"""More than rounding can change in the logarithm of a sum of up to 1e6 powers, and in that of their number.

Their difference is divided by a - 1, so near order 1 what rounding leaves of it grows with 1 / (a - 1).
"""

AS_PUBLISHED = (
    "as published: estimates of the scores instead of bounds, a divergence that is not the least, and in l_d"
    " with d > 2 the divergence of one input value for that of all: no guarantee"
)


def certify_renyi(
    tally: Tally,
    scored: RankScores,
    k: int,
    norm: float,
    confidence: Confidence,
    failure: float,
    *,
    overlap: int | None = None,
    radius: float | None = None,
    as_published: bool = False,
) -> StatisticalCertificate:
    """The radius of each overlap, and of those the one that is asked for (`certify_overlap`).

    All follow from bounds of the same means, so all hold at once: also one that is chosen by what came out.

    Args:
        tally: sums of the scored map.
        scored: the map they are of.
        k: size of the top set.
        norm: the d of l_d, >= 1 or infinity.
        confidence: how intervals are found.
        failure: probability that any of it may be wrong, in (0, 1).
        overlap: how many of the k shall stay. Not with a radius.
        radius: pixel scale.
        as_published: what the patent prints. Never a guarantee.

    Raises:
        UsageError: a k, an overlap or a radius that cannot be; noise without a bound in this
            norm; another map.
    """
    if tally.map_name != scored.name:
        raise UsageError(f"the sums are of '{tally.map_name}', not of '{scored.name}'")
    check_overlap(tally.n, k, overlap, radius)
    if as_published:
        radii = _published_radii(tally, scored, k, norm)
    else:
        radii = renyi_radii(tally, scored, k, norm, bounds(tally, confidence, failure))
    wanted, found = chosen(radii, overlap, radius)
    holds = found > 0 and not as_published
    return StatisticalCertificate(
        claim=Claim.RENYI,
        status=Status.CERTIFIED if holds else Status.UNKNOWN,
        reason=AS_PUBLISHED if as_published else "" if holds else why_not(radii, k, overlap, radius),
        radius=found if holds else 0.0,
        order=norm,
        k=k,
        pixels=tally.order[:k],
        overlap=wanted if holds else None,
        curve=() if as_published else curve_of(radii),
        sampling=tally.sampling(confidence.value, "bonferroni", failure),
        claimed_radius=found if as_published else None,
        claimed_overlap=wanted if as_published else None,
    )


def renyi_radii(tally: Tally, scored: RankScores, k: int, norm: float, held: Bounds) -> FloatArray:
    """Certified l_d radius of each overlap 1 .. k, non-increasing: float64 [k].

    Infinite where there are not enough outside pixels to lose that many.

    Raises:
        UsageError: noise without a bound in this norm.
    """
    orders = orders_for(tally.noise, norm)
    order = np.array(tally.order)
    inside = np.sort(scored.shares(held.lower[order[:k]]))
    outside = -np.sort(-scored.shares(held.upper[order[k:]]))
    radii = np.full(k, np.inf)
    for overlap in range(max(1, 2 * k - tally.n + 1), k + 1):
        lost = k - overlap + 1
        radii[overlap - 1] = max(
            radius_for(
                least_divergence(inside[:lost], outside[:lost], float(a)),
                float(a),
                tally.noise,
                norm,
                tally.inputs,
            )
            for a in orders
        )
        if radii[overlap - 1] == 0:
            radii[overlap:] = 0.0  # to lose fewer takes no more
            break
    return np.minimum.accumulate(radii)


def least_divergence(inside: FloatArray, outside: FloatArray, order: float) -> float:
    """A lower bound of D_order(m' || m) over all m' in which each `outside` pixel reaches each `inside` one.

    Args:
        inside: lower bounds of shares of pixels that are lost, >= 0.
        outside: upper bounds of shares of pixels that are gained, > 0; all shares of m add up to 1.
        order: the a of D_a, >= 1.
    """
    levels = np.unique(np.concatenate([inside, outside]))
    if len(levels) < 2 or inside.max() <= outside.min():
        return 0.0  # no pixel has to move
    # The mean of a level's active set exceeds the level below the solution, and nowhere above it: bisect.
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        active = _active(inside, outside, levels[middle])
        if active.size and levels[middle] < _power_mean(active, order):
            low = middle + 1
        else:
            high = middle
    # Between two levels the active set is the same.
    active = _active(inside, outside, (levels[max(low, 1) - 1] + levels[max(low, 1)]) / 2)
    level = active.size * _power_mean(active, order) if active.size else 0.0
    share = float(active.sum())  # of upper bounds it may exceed 1
    slack = _SLACK * (1 + share + level) + (_LOG_SLACK * level / (order - 1) if order > 1 else 0.0)
    return max(0.0, -math.log1p(level - share + slack))


def divergence_as_published(mean: FloatArray, k: int, lost: int, order: float) -> float:
    """The patent's Eq. 8 with S of 2 k0 ranks: every pixel of S at one level. No lower bound (above).

    Args:
        mean: estimated shares, descending, sum 1.
        k: size of the top set.
        lost: how many of it are lost, k0.
        order: the a of D_a, >= 1.
    """
    moved = mean[k - lost : k + lost]
    return max(0.0, -math.log1p(moved.size * _power_mean(moved, order) - float(moved.sum())))


def _published_radii(tally: Tally, scored: RankScores, k: int, norm: float) -> FloatArray:
    """What the patent claims of each overlap 1 .. k: float64 [k]."""
    mean = -np.sort(-scored.shares(tally.mean))
    radii = np.full(k, np.inf)
    for overlap in range(max(1, 2 * k - tally.n + 1), k + 1):
        found = [
            (divergence_as_published(mean, k, k - overlap + 1, float(a)), float(a))
            for a in orders_for(tally.noise, norm)
        ]
        if norm > 2:
            radii[overlap - 1] = radius_as_published(found[0][0], tally.noise, norm, tally.inputs)
        else:
            radii[overlap - 1] = max(radius_for(d, a, tally.noise, norm, tally.inputs) for d, a in found)
    return radii


def _active(inside: FloatArray, outside: FloatArray, level: float) -> FloatArray:
    """Shares that are moved to a level: of lost pixels above it, of gained ones below it."""
    return np.concatenate([inside[inside > level], outside[outside < level]])


def _power_mean(shares: FloatArray, order: float) -> float:
    """(mean of m^(1 - a))^(1 / (1 - a)) of shares > 0; the geometric mean for a = 1."""
    logs = np.log(shares)
    if order == 1.0:
        return math.exp(float(logs.mean()))
    return math.exp((float(logsumexp((1 - order) * logs)) - math.log(len(shares))) / (1 - order))
