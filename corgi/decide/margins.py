"""Decide one ball: does the property hold on all of it, by theory 1.1-1.5.

A property is a monotone formula (properties/formula.py), so a lower bound of its margin over the ball follows
from lower bounds of its parts: the smallest of all that must hold, the largest of those of which one must. A
ranking is bounded through the matrix M_ip of certified lower bounds of I_i - I_p, by counting (counting.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from corgi.attacks.target import Target
from corgi.decide.balance import balance_bound
from corgi.decide.counting import core, counted
from corgi.decide.forms import pairs_of
from corgi.engines.interface import Bounder
from corgi.engines.rigour import roundings
from corgi.properties.formula import All, Any, Balance, Formula, Ranking
from corgi.terms import Form
from corgi.types import Ball, Interval

Sides = tuple[tuple[int, ...], tuple[int, ...], float, float]
Margins = dict[Sides, Tensor]
"""Certified lower bounds M_ip, [above, below], of rankings with the same sides."""


@dataclass(frozen=True)
class Question(Target):
    """What is to be decided about a ball; which margins can matter is read from the map in its middle, `cam`.

    Attributes:
        form: the linear forms to bound.
        most_pairs: most pairs bounded one by one; beyond that the ball is left uncertified.
    """

    form: Form = Form.PAIRWISE
    most_pairs: int = 512


@dataclass(frozen=True)
class Score:
    """The score of a ball.

    Attributes:
        value: the lower bound of the property's margin.
        margins: what it came from.
        parts: lower bounds of the margins of its parts, and of itself; of parts one of which must hold, up
            to the first that is > 0.
    """

    value: float
    margins: Margins
    parts: Mapping[Formula, float] = field(default_factory=dict)


def score(
    question: Question,
    bounder: Bounder,
    ball: Ball,
    order: Margins | None = None,
    *,
    sign_only: bool = False,
) -> Score:
    """A certified lower bound of the property's margin over the ball; > 0 proves the property.

    Args:
        question: the property.
        bounder: how to bound.
        ball: where.
        order: margins of a ball of another radius, if known: the smallest are refined first.
        sign_only: refine no margin that is > 0 already; the bound is then just as sound, but looser.
    """
    pairs: dict[Sides, _Pairs] = {}
    parts: dict[Formula, float] = {}

    def bounded(formula: Formula) -> float:
        parts[formula] = max(bound(formula), parts.get(formula, -math.inf))
        return parts[formula]

    def bound(formula: Formula) -> float:
        match formula:
            case Ranking():
                if formula.sides not in pairs:
                    pairs[formula.sides] = _Pairs(question, formula, bounder, ball, sign_only)
                known = (order or {}).get(formula.sides)
                return pairs[formula.sides].bound(formula, known)
            case Balance():
                return balance_bound(question, formula, bounder, ball, question.form)
            case All(parts=parts):
                return min(bounded(part) for part in parts)
            case Any(parts=parts):
                return _any(bounded(part) for part in parts)
        raise TypeError(f"no bounds for a formula of kind {type(formula).__name__}")

    value = bounded(question.holds)
    return Score(value, {sides: found.lower for sides, found in pairs.items()}, parts)


def _any(bounds: Iterable[float]) -> float:
    """A lower bound of the largest of some margins: the first that is > 0, or the largest."""
    largest = -math.inf
    for bound in bounds:
        if bound > 0:
            return bound
        largest = max(largest, bound)  # a NaN is never larger
    return largest


_CHEAP, _PIXEL, _PAIR, _SHARP = 0, 1, 2, 3
"""How well a margin is known: by intervals that cost nothing, by rows of its two pixels, by its own row, and
by its own row with the engine's full effort."""

_FIRST_PAIRS = 16
"""Pairs refined first: their margins tell which of the others can matter."""

_MORE = 2
"""Pixels of A looked at beside those that are enough, where any will do."""

_SHARPENED = 4
"""Pairs sharpened at once."""


class _Pairs:
    """Margins of one ball, refined where they can decide the score, and nowhere else.

    A margin only ever grows when it is refined, and never beyond its value in the middle of the ball. So with
    every margin that is not yet refined replaced by that value, the score becomes an upper bound of what it
    will be in the end ("target"), and a margin that is above it already need not be refined.

    Args:
        sides: a ranking whose pairs they are; others with the same sides may be bounded, too.
    """

    def __init__(
        self, question: Question, sides: Ranking, bounder: Bounder, ball: Ball, sign_only: bool
    ) -> None:
        self.question, self.bounder, self.ball = question, bounder, ball
        self.ranking, self.sign_only = sides, sign_only
        self.inside, self.others = sides.inside, sides.others
        shape = (len(self.inside), len(self.others))
        self.lower = torch.full(shape, -torch.inf, dtype=torch.float64)
        self.level = torch.full(shape, _CHEAP)
        # A pixel against itself (with factors) is not a pair: its own intervals say all there is.
        self.level[self.inside[:, None] == self.others[None, :]] = _SHARP
        self.most = torch.full_like(self.lower, torch.inf)
        if question.cam is not None:
            self.most = sides.pairs(question.cam)

    @property
    def by_sign(self) -> bool:
        """With pixels to spare most margins are never needed, and no single one says which."""
        return self.sign_only or not self.ranking.single

    def bound(self, ranking: Ranking, order: Tensor | None) -> float:
        """The score of a ranking with these sides; `order`: margins of a ball of another radius."""
        self.ranking = ranking
        if self.question.form is Form.FEATURE:
            self.learn(feature_wise(self.question, self.bounder.features(self.ball)), _PIXEL)
        else:
            self.refine(order)
        return counted(self.lower, ranking)

    def refine(self, order: Tensor | None) -> None:
        """Bound margins until none that is left could lower the score."""
        wanted = _PIXEL
        if self.question.form is Form.PAIRWISE and (self.ranking.plain or self.bounder.bounds_any_form):
            wanted = _SHARP if self.bounder.sharpens and self.ranking.plain else _PAIR
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
        """Margins to refine next: not refined yet, at most the target, in what may break the ranking.

        One pair is enough to break it: all of them. Else pixels of A need all but gained - 1 of their pairs
        above the target, except for lost - 1 pixels; of the pairs below it the largest are tried first. With
        gained = 1 each pixel of B needs all but lost - 1 of its pairs above it: with the highest pixels of A.
        """
        lost, gained = self.ranking.lost_count, self.ranking.gained
        low = core(self.lower <= self.target(wanted), lost, gained)
        refinable = low & (self.level < wanted)
        if self.ranking.single:
            return refinable
        if gained == 1:
            refinable &= self.highest(low, _MORE)
            return _largest_first(self.lower.T, low.T, refinable.T, lost - 1).T
        return _largest_first(self.lower, low, refinable & self.highest(low, 0), gained - 1)

    def highest(self, low: Tensor, more: int) -> Tensor:
        """All pixels of A but the lowest lost - 1 of those that could be lost, and some more: bool [A, 1]."""
        counts = low.any(1)
        wanted = min(int(counts.sum()) - (self.ranking.lost_count - 1) + more, int(counts.sum()))
        height = self.most.amin(1).masked_fill(~counts, -torch.inf)
        chosen = torch.zeros_like(counts)
        chosen[height.topk(max(wanted, 0)).indices] = True
        return (chosen & counts)[:, None]

    def target(self, wanted: int) -> float:
        """Up to which value a margin can matter: an upper bound of the score at a level, or just 0."""
        if self.by_sign:
            return 0.0 if counted(self.lower, self.ranking) <= 0 else -torch.inf
        return counted(torch.where(self.level < wanted, self.most, self.lower), self.ranking)

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
        self.tighten(rows, columns, self.differences, _PAIR)

    def differences(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """Lower bounds of the margins of pairs, [rows] each -> [rows]."""
        if self.ranking.plain:
            return self.bounder.differences(ball, above, below)
        forms = pairs_of(self.question.network, self.question.class_id, self.ranking, above, below)
        return self.bounder.lower(ball, forms)

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
            self.lower[rows, columns] = torch.maximum(self.lower[rows, columns], _usable(found))
            self.level[rows, columns] = level

    def learn(self, bounds: Interval, level: int) -> None:
        """Margins by intervals of the pixels."""
        self.lower = torch.maximum(self.lower, margins_of(self.ranking, bounds))
        self.level = self.level.clamp(min=level)


def margins_of(ranking: Ranking, bounds: Interval) -> Tensor:
    """Lower bounds of the margins of a ranking's pairs [A, B] by intervals of the map's pixels."""
    lower, upper = (b.to(torch.float64) for b in (bounds.lower, bounds.upper))
    up, down = ranking.up, ranking.down
    low, high = lower[ranking.inside], upper[ranking.others]
    if not ranking.plain:
        low, high = up * low, down * high
        # Each product is rounded once.
        low, high = low - roundings(2) * low.abs(), high + roundings(2) * high.abs()
    # The sign of a floating point difference is exact. inf - inf: both bounds are vacuous, so is the
    # margin.
    margins = low[:, None] - high[None, :]
    same = ranking.inside[:, None] == ranking.others[None, :]
    if bool(same.any()):
        # A pixel against itself, with factors.
        own = up * lower - down * lower if up >= down else up * upper - down * upper
        own = own - roundings(4) * (up + down) * torch.maximum(lower.abs(), upper.abs())
        margins = torch.where(same, torch.maximum(margins, own[ranking.inside][:, None]), margins)
    return _usable(margins)


def _usable(lower: Tensor) -> Tensor:
    """Lower bounds of which NaN and +inf say nothing."""
    return torch.where(lower < torch.inf, lower, -torch.inf)


def _largest_first(lower: Tensor, low: Tensor, refinable: Tensor, spare: int) -> Tensor:
    """Of each row with more than `spare` low margins the largest to refine: twice as many as are too many."""
    too_many = low.sum(1) - spare
    refinable = refinable & (too_many > 0)[:, None]
    order = lower.masked_fill(~refinable, -torch.inf).argsort(dim=1, descending=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    return refinable & (rank < (2 * too_many)[:, None])


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
