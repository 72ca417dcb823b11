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
from corgi.budget import Stoppable, grace, tell
from corgi.certify.radius import Bracket, SearchLimits, decide_radius, search_radius
from corgi.engines.forms import ClassMargins
from corgi.engines.interface import Bounder
from corgi.network.head import CamHead
from corgi.network.network import Network
from corgi.results import LabelCertificate, Status
from corgi.types import Ball

_ENDED = {Status.INTERRUPTED: "interrupted", Status.TIME_LIMIT: "time limit reached"}


@settled()
def certify_label(
    bounder: Bounder,
    network: Network,
    ball: Ball,
    label: int,
    limits: SearchLimits,
    eps: float | None = None,
) -> LabelCertificate:
    """The radius within which a class keeps the largest score.

    Time and Ctrl-C end the search, not the answer: what was certified until then is returned, marked as such.

    Args:
        bounder: of the network, in float64: what it proves includes rounding.
        network: where it comes from.
        ball: a ball around the image, of the kind to certify; its radius does not matter.
        label: the class predicted at the image.
        limits: when to stop.
        eps: decide this radius only.
    """
    started, bracket, reason = time.monotonic(), Bracket(0.0), ""
    with Stoppable() as end:
        bracket, reason = _search(bounder, network, ball, label, limits, eps)
    status = end.status or bracket.status
    if bracket.certified > 0:
        reason = ""
    elif status in _ENDED:
        reason = f"{_ENDED[status]} before any radius was certified"
    return LabelCertificate(
        label,
        bracket.certified,
        bracket.uncertified,
        status,
        reason,
        ball.norm,
        len(bracket.scores),
        time.monotonic() - started,
        ball.where,
    )


def _search(
    bounder: Bounder,
    network: Network,
    ball: Ball,
    label: int,
    limits: SearchLimits,
    eps: float | None,
) -> tuple[Bracket, str]:
    """What was certified, and the reason if that is nothing."""
    head = network.head
    if not isinstance(head, CamHead):
        return Bracket(0.0), "the scores are not affine in the pooled feature map"
    if head.classes == 1:
        return Bracket(0.0), "the network has one score, so there is no other class"
    with grace(), torch.no_grad():
        scores = head.logits(network.trunk(ball.center.to(torch.float64)[None]))[0]
    margins = ClassMargins(head, label)
    rivals = scores.index_fill(0, torch.tensor(label), -torch.inf)
    margin = float(scores[label] - rivals.max())
    if not margin > 0:
        return Bracket(margin), "the predicted class does not have the largest score by itself"

    def score(radius: float) -> float:
        tell("label", f"radius {radius:.4g}")
        return float(bounder.lower(ball.with_radius(radius), margins).min())

    if eps is not None:
        undecided = f"the {bounder.method} bounds do not decide radius {eps:g}"
        return decide_radius(score, margin, eps), undecided
    images = ball.center.to(torch.float32)[None].requires_grad_(True)
    logits = network.logits32(images)[0]
    linear = vanishing_radius(logits[label] - logits[rivals.argmax()], images, ball)
    first = 0.5 * (linear or ball.largest)
    bracket = search_radius(score, margin, ceiling=ball.largest, limits=limits, first=(first,))
    return bracket, f"the {bounder.method} bounds decide no radius"
