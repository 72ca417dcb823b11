"""How many of the k largest pixels of a smoothed map stay among the k largest (theory 7.3; L Theorem 2).

Let T be the k largest pixels of the empirical map, L and U bounds of the population map that hold at once.
If fewer than i pixels of T are among the k largest at x', at least k - i + 1 of T are not, and as many
others are. One of the former has at least the i-th largest L of T (only k - i of T have less), one of the
latter at most the (k-i+1)-th largest U outside, and the latter is at or above the former at x'. That is
impossible within

    sigma / 2 (Phi^-1(L_(i)) - Phi^-1(U_(k-i+1))).

T, every radius, and which overlap is the largest with a radius > 0 are functions of the same L and U (and of
the means they surround). So the whole curve, and whatever is chosen from it after seeing it, holds on the one
event that all population values are within their bounds: with the stated probability, at no further cost.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from corgi.cam.topk import check_ranks
from corgi.errors import UsageError
from corgi.results import Claim, FloatArray, StatisticalCertificate, Status
from corgi.smoothing.confidence import Bounds, bounds
from corgi.smoothing.gaussian import check_gaussian, order_radius
from corgi.smoothing.tally import Tally
from corgi.terms import Confidence


class Index(StrEnum):
    """Which outside pixel the i-th is compared with."""

    PROVED = "proved"
    """Rank 2k - i + 1, which the proof needs."""
    AS_PUBLISHED = "as-published"
    """Rank 2k - i, as the theorem is printed: sound, certifies less, and never i = k."""


def certify_overlap(
    tally: Tally,
    k: int,
    confidence: Confidence,
    failure: float,
    *,
    overlap: int | None = None,
    radius: float | None = None,
    index: Index = Index.PROVED,
) -> StatisticalCertificate:
    """The radius of each overlap, and of those the one that is asked for.

    That is the largest l_2 radius for a wanted overlap, the largest overlap for a wanted radius, or without
    either the largest overlap that has a radius.

    Args:
        tally: sums under Gaussian noise.
        k: size of the top set.
        confidence: how intervals are found.
        failure: probability that any of it may be wrong, in (0, 1).
        overlap: how many of the k shall stay. Not with a radius.
        radius: pixel scale.
        index: form of the theorem.

    Raises:
        UsageError: a k, an overlap or a radius that cannot be; other noise than Gaussian.
    """
    check_gaussian(tally)
    check_overlap(tally.n, k, overlap, radius)
    radii = overlap_radii(tally, k, bounds(tally, confidence, failure), index)
    wanted, certified = chosen(radii, overlap, radius)
    holds = certified > 0
    return StatisticalCertificate(
        claim=Claim.OVERLAP,
        status=Status.CERTIFIED if holds else Status.UNKNOWN,
        reason="" if holds else why_not(radii, k, overlap, radius),
        radius=certified,
        order=2.0,
        k=k,
        pixels=tally.order[:k],
        overlap=wanted if holds else None,
        curve=curve_of(radii),
        sampling=tally.sampling(confidence.value, "bonferroni", failure),
        note="" if index is Index.PROVED else "index of the theorem as published, which certifies less",
    )


def overlap_radii(tally: Tally, k: int, held: Bounds, index: Index = Index.PROVED) -> FloatArray:
    """Certified l_2 radius of each overlap 1 .. k, non-increasing: float64 [k].

    Infinite where there are not enough outside pixels to lose that many.
    """
    order = np.array(tally.order)
    inside = -np.sort(-held.lower[order[:k]])
    outside = -np.sort(-held.upper[order[k:]])
    wanted = np.arange(1, k + 1)
    against = k - wanted + (1 if index is Index.PROVED else 0)
    radii = np.full(k, np.inf)
    met = against <= len(outside)
    radii[met] = order_radius(inside[met], outside[np.maximum(against[met], 1) - 1], tally.noise.sigma)
    if index is Index.AS_PUBLISHED:
        radii[-1] = 0.0  # the k-th pixel is compared with itself
    return np.minimum.accumulate(radii)


def check_overlap(n: int, k: int, overlap: int | None, radius: float | None) -> None:
    """Refuse what cannot be asked of the k largest of n pixels.

    Raises:
        UsageError: as said.
    """
    check_ranks(k, k, n)
    if overlap is not None and radius is not None:
        raise UsageError("--overlap and --radius: one of them is what is looked for, give the other")
    if radius is not None and not 0 < radius < np.inf:
        raise UsageError(f"--radius {radius}: expected a finite number > 0")
    if overlap is not None and not max(1, 2 * k - n + 1) <= overlap <= k:
        shared = "" if 2 * k <= n else f" (any two sets share {2 * k - n})"
        raise UsageError(
            f"--overlap {overlap}: expected {max(1, 2 * k - n + 1)}-{k} of the {k} pixels{shared}"
        )


def curve_of(radii: FloatArray) -> tuple[tuple[int, float], ...]:
    """(overlap, radius) out of the radii of overlaps 1 .. k, largest overlap first, radii increasing.

    Overlaps without a radius are left out, those of infinite radius (two sets share so many pixels whatever
    they are), and those that a larger overlap at the same radius says already.
    """
    curve: list[tuple[int, float]] = []
    for overlap in range(len(radii), 0, -1):
        radius = float(radii[overlap - 1])
        if np.isfinite(radius) and radius > (curve[-1][1] if curve else 0.0):
            curve.append((overlap, radius))
    return tuple(curve)


def chosen(radii: FloatArray, overlap: int | None, radius: float | None) -> tuple[int, float]:
    """(overlap, radius) of the certificate asked for, from the radii of overlaps 1 .. k; radius 0 if none."""
    if overlap is not None:
        return overlap, float(radii[overlap - 1])
    certified = int((radii >= radius).sum() if radius is not None else (radii > 0).sum())  # non-increasing
    if certified <= int(np.isinf(radii).sum()):
        return certified, 0.0
    return certified, float(radii[certified - 1]) if radius is None else radius


def why_not(radii: FloatArray, k: int, overlap: int | None, radius: float | None) -> str:
    """Why there is no such certificate, and which there is."""
    best = int((radii > 0).sum())  # those of infinite radius hold without any samples
    wanted = "any overlap" if overlap is None else f"an overlap of {overlap} of {k}"
    asked = f"{wanted} at {'any radius' if radius is None else f'{radius:g}'}"
    if best == int(np.isinf(radii).sum()):
        return f"the samples do not show {asked}; more of them, or more noise, may"
    return f"the samples do not show {asked}; they do show {best} of {k}, as the curve says"
