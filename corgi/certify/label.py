"""The label's certified radius, beside the map's (theory 1.9): the predicted class c stays the largest score.

Where the head is affine in the pooled feature map, a margin is one linear form of it,

    score_c - score_j = sum_k (w^c_k - w^j_k) pool(f_k) + b_c - b_j,

bounded like a map's. The map's radius says nothing of the label; within the smaller of both radii both stay.
"""

from __future__ import annotations

import time

import torch

from corgi.ambient import settled
from corgi.attacks.pairs import vanishing_radius
from corgi.budget import OutOfTime, grace
from corgi.certify.radius import SearchLimits, search_radius
from corgi.engines.patch.engine import PatchBounder
from corgi.network.head import CamHead
from corgi.network.network import Network
from corgi.progress import Listener, Progress, silent
from corgi.results import LabelCertificate, Status
from corgi.types import Ball

_NOTHING_YET = {
    Status.INTERRUPTED: "interrupted before any radius was certified",
    Status.TIME_LIMIT: "time limit reached before any radius was certified",
}


@settled()
def certify_label(
    bounder: PatchBounder,
    network: Network,
    ball: Ball,
    label: int,
    limits: SearchLimits,
    eps: float | None = None,
    listener: Listener = silent,
) -> LabelCertificate:
    """The radius within which a class keeps the largest score.

    Ctrl-C ends the search, not the answer: what was certified until then is returned, marked as such.

    Args:
        bounder: of the network, in float64: what it proves includes rounding.
        network: where it comes from.
        ball: a ball around the image, in the norm to certify in; its radius does not matter.
        label: the class predicted at the image.
        limits: when to stop.
        eps: decide this radius only.
        listener: is told of every radius.
    """
    started = time.monotonic()

    def answer(
        radius: float, uncertified: float | None, status: Status, reason: str, spent: int
    ) -> LabelCertificate:
        seconds = time.monotonic() - started
        return LabelCertificate(label, radius, uncertified, status, reason, ball.norm, spent, seconds)

    head = network.head
    if not isinstance(head, CamHead):
        return answer(0.0, None, Status.UNKNOWN, "the scores are not affine in the pooled feature map", 0)
    if head.classes == 1:
        return answer(0.0, None, Status.UNKNOWN, "the network has one score, so there is no other class", 0)
    nothing_yet = answer(0.0, None, Status.TIME_LIMIT, _NOTHING_YET[Status.TIME_LIMIT], 0)
    try:
        with grace(), torch.no_grad():
            scores = head.logits(network.trunk(ball.center.to(torch.float64)[None]))[0]
    except OutOfTime:
        return nothing_yet
    rivals = scores.index_fill(0, torch.tensor(label), -torch.inf)
    margin = float(scores[label] - rivals.max())
    if not margin > 0:
        return answer(
            0.0, None, Status.UNKNOWN, "the predicted class does not have the largest score by itself", 0
        )

    def score(radius: float) -> float:
        listener(Progress("label", f"radius {radius:.4g}"))
        return float(bounder.scores(ball.with_radius(radius), label).min())

    if eps is not None:
        try:
            proved = score(eps) > 0
        except (KeyboardInterrupt, OutOfTime) as stop:
            status = Status.INTERRUPTED if isinstance(stop, KeyboardInterrupt) else Status.TIME_LIMIT
            return answer(0.0, None, status, _NOTHING_YET[status], 0)
        reason = "" if proved else f"the {bounder.method} bounds do not decide radius {eps:g}"
        status = Status.PROVED if proved else Status.UNKNOWN
        return answer(eps if proved else 0.0, None if proved else eps, status, reason, 1)
    images = ball.center.to(torch.float32)[None].requires_grad_(True)
    try:
        logits = network.logits32(images)[0]
    except OutOfTime:
        return nothing_yet
    linear = vanishing_radius(logits[label] - logits[rivals.argmax()], images, ball.norm)
    first = 0.5 * (linear or ball.largest)
    bracket = search_radius(score, margin, ceiling=ball.largest, limits=limits, first=(first,))
    nothing = _NOTHING_YET.get(bracket.status, f"the {bounder.method} bounds decide no radius")
    reason = "" if bracket.certified > 0 else nothing
    return answer(bracket.certified, bracket.uncertified, bracket.status, reason, len(bracket.scores))
