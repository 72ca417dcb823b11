"""A statistical certificate for the map of one image: choose the noise, sample, certify."""

from __future__ import annotations

import time
from dataclasses import replace

from scipy.special import ndtri

from corgi.ambient import settled
from corgi.budget import limited
from corgi.cam.topk import size_of
from corgi.errors import UsageError
from corgi.results import Claim, ImageArray, StatisticalCertificate
from corgi.smoothing import ladder
from corgi.smoothing.confidence import usual
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.options import SmoothOptions
from corgi.smoothing.overlap import Index, certify_overlap
from corgi.smoothing.pixelwise import certify_pixels
from corgi.smoothing.rank import certify_ranks
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.renyi import certify_renyi
from corgi.smoothing.tally import ONCE, Tally, check_continues, empty, sample
from corgi.terms import Confidence, Correction

_TAU = 0.75
"""Share of samples that a pixel-wise certificate asks for where no radius is named (Anani et al. 2025)."""

_RUNGS = "samples that others may join are certified at 100, 200, 400 and so on"


def begin(base: BaseMap, image: ImageArray, options: SmoothOptions) -> Tally:
    """No samples yet of what the certificate averages at an image [C, H, W]: scores by rank for Renyi's."""
    return empty(_averaged(base, options), image, options.noise(image.size), options.batch)


@settled()
def smooth(
    base: BaseMap,
    image: ImageArray,
    options: SmoothOptions,
    start: Tally | None = None,
) -> tuple[Tally, StatisticalCertificate]:
    """Sample, and certify with what was sampled, also if the user interrupts (Ctrl-C) or time is up.

    Args:
        base: the map to average.
        image: [C, H, W] float32, pixel scale.
        options: what to certify.
        start: where to go on: `begin`, samples of it, or what this function returned for such a start. What
            is certified then is the highest complete rung of all samples (`Tally.at_rung`, `ladder.py`), so
            that one may go on as often as one likes, by whatever one sees. Without it all of the failure
            probability serves the samples asked for, and none may follow.

    Raises:
        UsageError: options that do not fit the map or the noise; a start of another model, image, map or
            noise, with more samples than asked for, or certified before in another way.
        EngineError: the base map is not finite somewhere.
    """
    deadline = None if options.time_limit is None else time.monotonic() + options.time_limit
    averaged = _averaged(base, options)
    tally = begin(base, image, options)
    # Asked of no samples first, so that options that do not fit are refused before the work.
    _certify(tally, averaged, options)
    method = _method(averaged, options)
    if start is not None:
        check_continues(start, tally, "start")
        _check_start(start, method, options.samples)
        tally = start
    with limited(deadline):
        tally = sample(tally, averaged, image, options.samples)
    if start is None:
        return replace(tally, spent=ONCE), _certify(tally, averaged, options)
    rung = tally.at_rung()
    found = _certify(rung, averaged, options)
    if rung.rung is None:
        return tally, replace(found, reason=f"{tally.samples} samples: {_RUNGS}")
    return replace(tally, spent=method), found


def _check_start(start: Tally, method: str, samples: int) -> None:
    """Refuse a start from which no certificate may follow.

    Raises:
        UsageError: it was certified once for all, or in another way; it has more samples than asked for; no
            rung will be complete.
    """
    if start.spent == ONCE:
        raise UsageError(
            "samples that were certified with all of the failure probability: no certificate may follow",
            hint="To go on later, start from `begin`; on the command line, with --state.",
        )
    if start.spent not in ("", method):
        raise UsageError(
            f"samples that were certified by {start.spent}, not by {method}:"
            " each way has its own chance to be wrong",
            hint="Ask as before, or take other samples: another --state file and another --seed.",
        )
    if samples < start.samples:
        raise UsageError(f"--samples {samples}: there are {start.samples} already, ask for so many or more")
    if samples < ladder.FIRST:
        raise UsageError(f"--samples {samples}: {_RUNGS}")


def _method(averaged: BaseMap, options: SmoothOptions) -> str:
    """How certificates are computed: those of one rung are right at once only if it is the same for all.

    Intervals serve every k, overlap and radius; so do Bonferroni's tests, Holm's one radius alone.
    """
    if options.claim is not Claim.PIXELS:
        used = f"{_confidence(averaged, options)} intervals"
    else:
        one = _correction(options) is Correction.HOLM
        used = f"{_correction(options)} tests" + (f" for radius {_pixel_radius(options)!r}" if one else "")
    return f"{used} that fail with probability {options.failure!r}"


def _confidence(averaged: BaseMap, options: SmoothOptions) -> Confidence:
    return usual(averaged.binary) if options.confidence is None else options.confidence


def _correction(options: SmoothOptions) -> Correction:
    return options.correction or Correction.HOLM


def _pixel_radius(options: SmoothOptions) -> float:
    return options.sigma * float(ndtri(_TAU)) if options.radius is None else options.radius


def _averaged(base: BaseMap, options: SmoothOptions) -> BaseMap:
    if options.claim is not Claim.RENYI:
        return base
    return RankScores(
        base, size_of(options.k, base.n) if options.center is None else options.center, options.eta
    )


def _certify(tally: Tally, averaged: BaseMap, options: SmoothOptions) -> StatisticalCertificate:
    k, failure, confidence = size_of(options.k, averaged.n), options.failure, _confidence(averaged, options)
    match options.claim:
        case Claim.OVERLAP:
            index = Index.AS_PUBLISHED if options.as_published else Index.PROVED
            return certify_overlap(
                tally, k, confidence, failure, overlap=options.overlap, radius=options.radius, index=index
            )
        case Claim.RANK:
            assert options.radius is not None  # checked by the options
            return certify_ranks(tally, k, options.radius, confidence, failure)
        case Claim.PIXELS:
            return certify_pixels(tally, k, _pixel_radius(options), failure, _correction(options))
        case Claim.RENYI:
            assert isinstance(averaged, RankScores)
            return certify_renyi(
                tally,
                averaged,
                k,
                options.norm,
                confidence,
                failure,
                overlap=options.overlap,
                radius=options.radius,
                as_published=options.as_published,
            )
