"""Decide one ball: does the property hold on all of it, by theory 1.1-1.5.

The decision margin, min_{i in T} I_i minus the (k2-k+1)-th largest outside value, is bounded from below
through the matrix M_ip of certified lower bounds of I_i - I_p. The property holds if, for every i in T, at
most k2 - k outside pixels p have M_ip <= 0: then the rank of i is at most 1 + (k - 1) + (k2 - k) = k2. Hence

    score = min_i ( (k2-k+1)-th smallest of M_i,: )   > 0  is sufficient; k2 = k is theory 1.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.attacks.target import Target
from corgi.cam.topk import outside
from corgi.engines.interface import Bounder
from corgi.terms import Form
from corgi.types import Ball, Interval


@dataclass(frozen=True)
class Question(Target):
    """What is to be decided about a ball; which margins can matter is read from the map in its middle, `cam`.

    Attributes:
        form: the linear forms to bound.
        most_pairs: most pairs bounded one by one; beyond that the ball is left uncertified.
    """

    form: Form = Form.PAIRWISE
    most_pairs: int = 512


def score(
    question: Question,
    bounder: Bounder,
    ball: Ball,
    order: Tensor | None = None,
    *,
    sign_only: bool = False,
) -> Score:
    """A certified lower bound of the decision margin over the ball; > 0 proves the property.

    Args:
        question: the property.
        bounder: how to bound.
        ball: where.
        order: margins [k, outside] of a ball of another radius, if known: the smallest are refined first.
        sign_only: refine no margin that is > 0 already; the bound is then just as sound, but looser.
    """
    margins = _Margins(question, bounder, ball, sign_only)
    if question.form is Form.FEATURE:
        margins.learn(feature_wise(question, bounder.features(ball)), _PIXEL)
    else:
        margins.refine(order)
    return Score(margins.score(), margins.lower)


@dataclass(frozen=True)
class Score:
    """The score of a ball.

    Attributes:
        value: the lower bound of the decision margin.
        margins: the certified lower bounds M_ip it came from, [k, outside].
    """

    value: float
    margins: Tensor


_CHEAP, _PIXEL, _PAIR, _SHARP = 0, 1, 2, 3
"""How well a margin is known: by intervals that cost nothing, by rows of its two pixels, by its own row, and
by its own row with the engine's full effort."""

_FIRST_PAIRS = 16
"""Pairs refined first: their margins tell which of the others can matter."""

_SHARPENED = 4
"""Pairs sharpened at once."""


class _Margins:
    """Margins of one ball, refined where they can decide the score, and nowhere else.

    A margin only ever grows when it is refined, and never beyond its value in the middle of the ball. So with
    every margin that is not yet refined replaced by that value, the score becomes an upper bound of what it
    will be in the end ("target"), and a margin that is above it already need not be refined.
    """

    def __init__(self, question: Question, bounder: Bounder, ball: Ball, sign_only: bool) -> None:
        self.question, self.bounder, self.ball = question, bounder, ball
        # With pixels to spare most margins are never needed, and no single one says which.
        self.by_sign = sign_only or question.spare > 0
        self.inside = torch.tensor(question.top.pixels)
        self.others = outside(question.top, question.network.pixels)
        shape = (len(self.inside), len(self.others))
        self.lower = torch.full(shape, -torch.inf, dtype=torch.float64)
        self.level = torch.full(shape, _CHEAP)
        self.most = torch.full_like(self.lower, torch.inf)
        if question.cam is not None:
            self.most = question.cam[self.inside][:, None] - question.cam[self.others][None, :]

    def score(self) -> float:
        return _score_of(self.lower, self.question.spare)

    def refine(self, order: Tensor | None) -> None:
        """Bound margins until none that is left could lower the score."""
        wanted = _PIXEL
        if self.question.form is Form.PAIRWISE:
            wanted = _SHARP if self.bounder.sharpens else _PAIR
        self.learn(self.bounder.intervals(self.ball), _CHEAP)
        first = (self.most if order is None else order).flatten()
        first = first.topk(min(_FIRST_PAIRS, first.numel()), largest=False).indices
        chosen = torch.zeros_like(self.level, dtype=torch.bool)
        chosen.view(-1)[first] = True
        if self.by_sign:
            chosen = self.worthwhile(wanted)
        # Straight to the pairs that decided another radius; otherwise pixels first, which many pairs share.
        straight = wanted >= _PAIR and order is not None and not self.by_sign
        pairs = 0
        while bool(chosen.any()):
            pixels = chosen & (self.level < _PIXEL)
            if bool(pixels.any()) and not straight:
                self.bound_pixels(pixels)
            elif wanted >= _PAIR:
                decisive = chosen & (self.level < _PAIR) & (self.lower <= self.target(wanted))
                pairs += int(decisive.sum())
                if pairs > self.question.most_pairs:
                    return
                self.bound_pairs(decisive)
                if wanted == _SHARP:
                    self.sharpen(chosen & (self.level == _PAIR) & (self.lower <= self.target(wanted)))
            straight = False
            self.learn(self.bounder.intervals(self.ball), _CHEAP)
            chosen = self.worthwhile(wanted)

    def worthwhile(self, wanted: int) -> Tensor:
        """Margins to refine next: not refined yet, at most the target, in a row with too many of those.

        A row needs all but `spare` of its margins above the target; of those below, the largest are tried
        first.
        """
        low = self.lower <= self.target(wanted)
        too_many = low.sum(1) - self.question.spare
        open_margins = low & (self.level < wanted) & (too_many > 0)[:, None]
        if self.question.spare == 0:
            return open_margins
        order = self.lower.masked_fill(~open_margins, -torch.inf).argsort(dim=1, descending=True)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
        return open_margins & (rank < (2 * too_many)[:, None])

    def target(self, wanted: int) -> float:
        """Up to which value a margin can matter: an upper bound of the score at a level, or just 0."""
        if self.by_sign:
            return 0.0 if _score_of(self.lower, self.question.spare) <= 0 else -torch.inf
        return _score_of(torch.where(self.level < wanted, self.most, self.lower), self.question.spare)

    def bound_pixels(self, chosen: Tensor) -> None:
        """Rows for both pixels of the chosen margins; others gain from them, too."""
        low, high = self.inside[chosen.any(1)], self.others[chosen.any(0)]
        bounds = self.bounder.pixels(self.ball, low, high)
        self.learn(bounds, _CHEAP)
        known = torch.isfinite(bounds.lower[self.inside])[:, None] & torch.isfinite(bounds.upper[self.others])
        self.level = torch.where(chosen | known, self.level.clamp(min=_PIXEL), self.level)

    def bound_pairs(self, chosen: Tensor) -> None:
        """A row for each of the chosen margins."""
        rows, columns = chosen.nonzero(as_tuple=True)
        self.tighten(rows, columns, self.bounder.differences, _PAIR)

    def sharpen(self, chosen: Tensor) -> None:
        """The smallest of the chosen margins, with full effort."""
        rows, columns = chosen.nonzero(as_tuple=True)
        smallest = self.lower[rows, columns].topk(min(_SHARPENED, len(rows)), largest=False).indices
        self.tighten(rows[smallest], columns[smallest], self.bounder.sharpened, _SHARP)

    def tighten(
        self, rows: Tensor, columns: Tensor, bound: Callable[[Ball, Tensor, Tensor], Tensor], level: int
    ) -> None:
        if len(rows) > 0:
            found = bound(self.ball, self.inside[rows], self.others[columns]).to(torch.float64)
            self.lower[rows, columns] = torch.maximum(self.lower[rows, columns], found)
            self.level[rows, columns] = level

    def learn(self, bounds: Interval, level: int) -> None:
        """Margins by intervals of the pixels."""
        lower, upper = (b.to(torch.float64) for b in (bounds.lower, bounds.upper))
        # The sign of a floating point difference is exact. inf - inf: both bounds are vacuous, so is the
        # margin.
        margins = lower[self.inside][:, None] - upper[self.others][None, :]
        margins = margins.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        self.lower = torch.maximum(self.lower, margins)
        self.level = self.level.clamp(min=level)


def _score_of(margins: Tensor, spare: int) -> float:
    margins = margins.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return float(margins.kthvalue(spare + 1, dim=1).values.min())


def feature_wise(question: Question, features: Interval) -> Interval:
    """Theory 1.1: combine bounds of the feature map [F, pixels] into bounds of the map [pixels].

    L = sum_{w>0} w l + sum_{w<0} w u and U with l, u exchanged (G Eq. 1, 2).
    """
    weight = question.network.head.weight[question.class_id].to(features.lower.dtype)
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    lower = positive @ features.lower + negative @ features.upper
    upper = positive @ features.upper + negative @ features.lower
    largest = torch.maximum(features.lower.abs(), features.upper.abs())
    error = 2 * (len(weight) + 2) * torch.finfo(weight.dtype).eps * (weight.abs() @ largest)
    lower, upper = lower - error, upper + error
    # 0 * inf and inf - inf are NaN: a vacuous filter makes a vacuous pixel.
    return Interval(
        lower.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf),
        upper.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf),
    )
