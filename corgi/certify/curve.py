"""Radii against k and against k2, with the gaps of the map: figure 3 of Gu et al., with exact radii.

Their advice is to choose k where the map itself falls away, because the radius follows the gap. What is
recommended here is the k whose certified radius is largest: the set of pixels that is hardest to change.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from corgi.ambient import settled
from corgi.budget import Stoppable, check, within
from corgi.cam.topk import check_ranks, relative_gaps
from corgi.certify.bounders import Bounders
from corgi.certify.explain import Explanation, explain
from corgi.certify.options import VerifyOptions
from corgi.certify.verify import verify_explained
from corgi.decide.ball import refuse_contradiction
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.results import Brief, ImageArray, VerifyResult
from corgi.types import Norm


@dataclass(frozen=True)
class CurvePoint:
    """One pair of ranks.

    Attributes:
        k, k2: the property.
        gap: share of the map's height that falls away behind rank k2 (see `relative_gaps`).
        bounds: radius certified by bounds alone, pixel scale.
        result: exact certificate and witness.
    """

    k: int
    k2: int
    gap: float
    bounds: float
    result: VerifyResult

    @property
    def certified(self) -> float:
        """The certified radius, exact or by bounds, whichever is larger; 0 if there is none."""
        return max(self.result.certificate.radius, self.bounds)

    @property
    def attacked(self) -> float | None:
        """Distance of the nearest witness; None if none was found."""
        return None if self.result.attack is None else self.result.attack.radius


@dataclass(frozen=True, repr=False)
class Curve(Brief):
    """Radii of one image over ranks.

    Attributes:
        explanation: the map, with the top-k set of the first k.
        by_k: k varies, k2 = k; by_k2: k2 varies, k stays.
        interrupted: Ctrl-C or a time limit ended it early; the points computed until then are there.
        seconds: wall time.
        norm: of the radii.
    """

    explanation: Explanation
    by_k: tuple[CurvePoint, ...]
    by_k2: tuple[CurvePoint, ...]
    interrupted: bool
    seconds: float
    norm: Norm

    @property
    def recommended(self) -> CurvePoint | None:
        """The k with the largest certified radius; None where none is certified."""
        best = max(self.by_k, key=lambda point: point.certified, default=None)
        return best if best is not None and best.certified > 0 else None


@settled()
def radius_curve(
    network: Network,
    image: ImageArray,
    ks: Sequence[int],
    k2s: Sequence[int] = (),
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
) -> Curve:
    """Radii of an image [C, H, W] for every k of `ks`, and for `options.k` with every k2 of `k2s`.

    Raises:
        ImageError, UsageError, GateError, EngineError: as `corgi.certify.verify.verify`.
    """
    started = time.monotonic()
    options = replace(options or VerifyOptions(), eps=None)
    if options.where is not None:
        hint = "Ask for each k by itself: `verify`."
        raise UsageError("where: a curve is of images that change everywhere", hint=hint)
    explanation = explain(network, image, options.k, options.class_id)
    gaps = relative_gaps(torch.from_numpy(explanation.cam))
    bounders = Bounders()
    points: dict[tuple[int, int], CurvePoint] = {}
    base = explanation.top.k
    # The more pixels may be spared, the larger the radius: bounds of large balls serve the smaller ones.
    ranks = sorted({(k, k) for k in ks} | {(base, k2) for k2 in k2s}, key=lambda rank: rank[0] - rank[1])
    for k, k2 in ranks:  # before any work is done
        check_ranks(k, k2, explanation.network.pixels)
    with Stoppable() as end:
        for number, (k, k2) in enumerate(ranks):
            with within(f"{number + 1} of {len(ranks)} (k = {k}, k2 = {k2})"):
                asked = partial(verify_explained, explanation.at(k), image_name=image_name, bounders=bounders)
                result = asked(replace(options, k2=k2))
                bounds = result.certificate.radius
                if result.certificate.exact is not None and bounds > 0:
                    bounds = asked(replace(options, k2=k2, exact=None, attack=None)).certificate.radius
            point = CurvePoint(k, k2, float(gaps[k2 - 1]), bounds, result)
            refuse_contradiction(result.certificate.engine, point.certified, point.attacked)
            points[k, k2] = point
            check()
    return Curve(
        explanation,
        tuple(points[k, k] for k in sorted(set(ks)) if (k, k) in points),
        tuple(points[base, k2] for k2 in sorted(set(k2s)) if (base, k2) in points),
        end.status is not None,
        time.monotonic() - started,
        options.norm,
    )
