"""Planes around pooled windows as a tournament of maxima of two draws them.

auto_LiRPA is given a pool as max(a, b) = b + relu(a - b), round by round (lowering.py, case 4), and CROWN
relaxes each Relu on its own. The relaxations of all rounds put together are planes around the whole window,
one element below and a convex combination of elements above:

    x_low <= y <= sum_e up_e x_e + height.

Let f and g meet, f - g in [-under, over]. With the share s of f, max(f, g) = g + relu(f - g) is at most
s f + (1 - s) g + max(s under, (1 - s) over), for every s in [0, 1]: relu is convex, so the ends decide. The
chord has s = over / (over + under), and below stands f where over > under, as CROWN chooses the slope of a
Relu, else g. `over` and `under` are rows: of the plane above one, less the element below the other.

Joint planes (maximum.py) are tighter for a window, and for the map on average. But a row reads many windows,
and which planes suit it best is not known when they are chosen: single pixels can be tighter by the
tournament. Both hold, so rows that read such windows are bounded with either, and keep the better bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.tables import Table
from corgi.engines.rigour import roundings


@dataclass(frozen=True)
class Outcome(Table):
    """Planes around windows by their tournaments; all rounded.

    Attributes:
        low: the element below, int64 [U].
        up: the weights above, float64 [U, E]; height: float64 [U], infinite where there is no such plane.
    """

    low: Tensor
    up: Tensor
    height: Tensor


@dataclass(frozen=True)
class _Nodes(Table):
    """Elements, and maxima of those that have met, N of them in each of U windows.

    Attributes:
        low, up, height: as in `Outcome`, [N, U, ...].
        single: bool [N, U], whether it is one element alone.
        lower, upper: float64 [N, U], its interval.
    """

    low: Tensor
    up: Tensor
    height: Tensor
    single: Tensor
    lower: Tensor
    upper: Tensor


class Tournament:
    """The rounds of U windows, in the order auto_LiRPA is given them.

    Args:
        layer: the Maximum.
        real: bool [U, E], the zero first: elements that are not in the padding, nor a zero where no Relu
            belongs to the layer. Another real element stands in for one that is not, which changes no
            maximum: the zero where there is one, as auto_LiRPA reads 0 in the padding.
        pairs: [U, E, E], at least x_j - x_i over the ball by rows; NaN or inf where there were none.
        lower, upper: [U, E], elements over the ball by intervals, all measured from the same point.

    Attributes:
        windows, coefficients: what has to be bounded from below before the next round, int64 [N] and float64
            [N, E]; none once it is over.
    """

    def __init__(self, layer: Maximum, real: Tensor, pairs: Tensor, lower: Tensor, upper: Tensor) -> None:
        count, self._range = real.shape[1], torch.arange(len(real), device=real.device)
        self._pairs = pairs.to(torch.float64).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        elements = torch.arange(count, device=real.device)
        low = torch.where(real, elements, real.to(torch.uint8).argmax(1, keepdim=True))
        ends = (end.to(torch.float64).gather(1, low).T for end in (lower, upper))
        up = F.one_hot(low.T, count).to(torch.float64)
        self._nodes = _Nodes(low.T, up, torch.zeros_like(up[..., 0]), torch.ones_like(real.T), *ends)
        self._rounds = [
            torch.tensor(games, device=real.device) for games in rounds(layer.elements, layer.zero)
        ]
        self._ask()

    @property
    def outcome(self) -> Outcome:
        """The planes, after all rounds."""
        assert not self._rounds
        return Outcome(self._nodes.low[-1], self._nodes.up[-1], self._nodes.height[-1])

    def play(self, least: Tensor) -> None:
        """The next round, given lower bounds of its rows [N]; and rounds that need none."""
        f, g, asked = self._f, self._g, self._asked
        for end, node, rows in zip(self._ends, (f, g), least.chunk(2), strict=True):
            end[asked] = node.height[asked] - rows
        self._nodes = self._nodes.joined(_met(f, g, *self._ends))
        del self._rounds[0]
        self._ask()

    def _ask(self) -> None:
        """What the next round needs: nothing where intervals say who wins, or rows do of single elements."""
        count = self._pairs.shape[1]
        self.windows, self.coefficients = self._range[:0], self._pairs[:0, 0]
        if not self._rounds:
            return
        first, second = self._rounds[0].unbind(1)
        f, g = self._nodes.chosen(first), self._nodes.chosen(second)
        singles = f.single & g.single
        over, under = (
            torch.where(singles, self._pairs[self._range, a.low, b.low], torch.inf)
            for a, b in ((f, g), (g, f))
        )
        known = (torch.maximum(over, under) < torch.inf) | (torch.minimum(over, under) <= 0)
        asked = (~(known | (torch.minimum(*_apart(f, g)) <= 0))).nonzero(as_tuple=True)
        self._f, self._g, self._ends, self._asked = f, g, (over, under), asked
        if len(asked[1]) == 0:
            self.play(self._pairs[:0, 0, 0])
            return
        self.windows = asked[1].repeat(2)
        below = F.one_hot(torch.cat([g.low[asked], f.low[asked]]), count)
        self.coefficients = below - torch.cat([f.up[asked], g.up[asked]])


def _apart(f: _Nodes, g: _Nodes) -> tuple[Tensor, Tensor]:
    """At least f - g and g - f, by intervals."""
    error = roundings(8) * (f.lower.abs() + f.upper.abs() + g.lower.abs() + g.upper.abs())
    return f.upper - g.lower + error, g.upper - f.lower + error


def _met(f: _Nodes, g: _Nodes, over_rows: Tensor, under_rows: Tensor) -> _Nodes:
    """The planes around max(f, g), given at least f - g and g - f by rows.

    Rows alone choose the element below, as CROWN does. Intervals only move the ends of the chord; that of the
    maximum is drawn as auto_LiRPA draws it, of g + relu(f - g).
    """
    rows = [end.nan_to_num(nan=torch.inf, posinf=torch.inf) for end in (over_rows, under_rows)]
    most, least = (torch.fmin(*ends) for ends in zip(rows, _apart(f, g), strict=True))
    over, under = most.clamp(min=0), least.clamp(min=0)
    wins = (over > 0) & ((under <= 0) | (rows[0] > rows[1]))
    # Where an end is unknown, all weight stands on the other side; where both are 0, either is the maximum.
    share = torch.where(over == torch.inf, 1.0, over / (over + under)).nan_to_num(nan=0.0)
    rest = 1 - share
    gap = torch.maximum(_product(share, under), _product(rest, over))
    height = _product(share, f.height) + _product(rest, g.height) + gap
    up = share[..., None] * f.up + rest[..., None] * g.up
    single = (gap == 0) & torch.where(share == 0, g.single, f.single & (share == 1))
    lower, upper = g.lower + (-least).clamp(min=0), g.upper + over
    error = roundings(8) * (lower.abs() + upper.abs() + g.lower.abs() + g.upper.abs())
    return _Nodes(torch.where(wins, f.low, g.low), up, height, single, lower - error, upper + error)


def _product(weights: Tensor, values: Tensor) -> Tensor:
    """Weights times values, nothing where the weight is 0, even of infinite ones."""
    return torch.where(weights > 0, weights * values, 0)


def none_played(windows: Tensor) -> Outcome:
    """No planes, around windows [U, E]."""
    nothing = torch.zeros_like(windows, dtype=torch.float64)
    return Outcome(torch.zeros_like(nothing[:, 0], dtype=torch.int64), nothing, nothing[:, 0] + torch.inf)


def first_games(count: int) -> Tensor:
    """Which of `count` elements, the zero first, meet in the first round: symmetric, bool [E, E]."""
    first = torch.arange(1, count - 1, 2)
    games = torch.zeros(count, count, dtype=torch.bool)
    games[first, first + 1] = games[first + 1, first] = True
    return games


def rounds(elements: int, zero: bool) -> list[list[tuple[int, int]]]:
    """Who meets whom in each round.

    By number: the zero is 0, elements are 1 to `elements`, maxima follow in the order of games. Neighbours
    first, an odd last one waits; then always the two that wait longest; the zero last.
    """
    turns: list[list[tuple[int, int]]] = []
    turn = dict.fromkeys(range(elements + 1), 0)

    def meet(first: int, second: int) -> int:
        here = max(turn[first], turn[second])
        turns.extend([] for _ in range(here + 1 - len(turns)))
        turns[here].append((first, second))
        turn[number := len(turn)] = here + 1
        return number

    waiting = [meet(e, e + 1) for e in range(1, elements, 2)]
    waiting += [elements] * (elements % 2)
    while len(waiting) > 1:
        first, second, *rest = waiting
        waiting = [*rest, meet(first, second)]
    if zero:
        meet(waiting[0], 0)
    return turns
