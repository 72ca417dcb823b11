"""Decide one ball: does the property hold on all of it, by theory 1.1-1.5.

The decision margin, min_{i in T} I_i minus the (k2-k+1)-th largest outside value, is bounded from below
through the matrix M_ip of certified lower bounds of I_i - I_p. The property holds if, for every i in T, at
most k2 - k outside pixels p have M_ip <= 0: then the rank of i is at most 1 + (k - 1) + (k2 - k) = k2. Hence

    score = min_i ( (k2-k+1)-th smallest of M_i,: )   > 0  is sufficient; k2 = k is theory 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from corgi.cam.topk import outside
from corgi.engines.interface import Bounder
from corgi.network.network import Network
from corgi.results import TopK
from corgi.types import Ball, Interval


class Form(StrEnum):
    """Which linear forms are bounded."""

    FEATURE = "feature"
    """Feature-wise intervals, combined with the class weights (theory 1.1): the paper's own bound."""
    FOLDED = "folded"
    """Intervals of the folded map (theory 1.2)."""
    PAIRWISE = "pairwise"
    """Folded intervals, then the pairs they leave open as one form each (theory 1.3)."""


@dataclass(frozen=True)
class Question:
    """What is to be decided about a ball.

    Attributes:
        network, class_id: whose map.
        top, k2: the top-k set must stay within the top-k2.
        form: the linear forms to bound.
        refine: with pairwise margins, the smallest ones are refined even where intervals already decide
            them, so that the score is the same function on both sides of the certified radius.
        most_pairs: most pairs bounded one by one; beyond that the ball is left uncertified.
    """

    network: Network
    class_id: int
    top: TopK
    k2: int
    form: Form = Form.PAIRWISE
    refine: int = 32
    most_pairs: int = 2048

    @property
    def spare(self) -> int:
        """Outside pixels that may overtake a top pixel: k2 - k."""
        return self.k2 - self.top.k


def score(question: Question, bounder: Bounder, ball: Ball) -> float:
    """A certified lower bound of the decision margin over the ball; > 0 proves the property."""
    others = outside(question.top, question.network.pixels)
    inside = torch.tensor(question.top.pixels)
    if question.form is Form.FEATURE:
        bounds = feature_wise(question, bounder.features(ball))
    else:
        bounds = bounder.pixels(ball)
    margins = bounds.lower[inside][:, None] - bounds.upper[others][None, :]
    # inf - inf: both bounds are vacuous, so the margin is too.
    margins = margins.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if question.form is Form.PAIRWISE:
        margins = _refined(question, bounder, ball, margins, inside, others)
    return float(margins.kthvalue(question.spare + 1, dim=1).values.min())


def feature_wise(question: Question, features: Interval) -> Interval:
    """Theory 1.1: combine bounds of the feature map [F, pixels] into bounds of the map [pixels].

    L = sum_{w>0} w l + sum_{w<0} w u and U with l, u exchanged (G Eq. 1, 2).
    """
    weight = question.network.head.weight[question.class_id].to(features.lower.dtype)
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    lower = positive @ features.lower + negative @ features.upper
    upper = positive @ features.upper + negative @ features.lower
    # 0 * inf and inf - inf are NaN: a vacuous filter makes a vacuous pixel.
    return Interval(
        lower.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf),
        upper.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf),
    )


def _refined(
    question: Question, bounder: Bounder, ball: Ball, margins: Tensor, inside: Tensor, others: Tensor
) -> Tensor:
    """Margins [k, outside] with the deciding ones bounded as pairs; each is the better of both bounds."""
    decisive = margins <= 0
    decisive.view(-1)[
        margins.flatten().topk(min(question.refine, margins.numel()), largest=False).indices
    ] = True
    # A row with no more open pairs than may be spared is decided already.
    rows, columns = decisive.nonzero(as_tuple=True)
    if len(rows) > question.most_pairs:
        return margins
    refined = margins.clone()
    tighter = bounder.differences(ball, inside[rows], others[columns])
    refined[rows, columns] = torch.maximum(margins[rows, columns], tighter)
    return refined
