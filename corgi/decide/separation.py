"""A ranking decided pixel by pixel: a value that enough pixels of A stay above and enough of B below.

Where pixels far apart are compared, their cones share no image pixel, and the least difference of two is the
least value of one less the largest of the other: nothing is lost by bounding each by itself, and n pixels are
bounded instead of n^2 pairs. Of those that may break the ranking (the core of the open pairs, counting.py)
all but lost - 1 of A and all but gained - 1 of B must be brought to different sides of a value. Which value,
and which pixels, is chosen anew after each piece of work: those for which the least work is expected.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from corgi.budget import left
from corgi.decide.counting import core
from corgi.decide.margins import margins_of
from corgi.decide.pixels import Ends, PixelBounds
from corgi.properties.formula import Ranking

_VALUES = 65
"""How many values are tried."""

_POWER, _NODES, _BEGIN = 3, 40.0, 5.0
"""A tree of n nodes has come a share s of the way from its first bound to the least value where about n =
_NODES (s / (1 - s)) ** _POWER: of the bundled network, in the middle of what was measured (docs/results.md).
To begin with a pixel costs as much as some nodes."""

_UNKNOWN = 500.0
"""Nodes expected at most where no work was spent: a bound by intervals says little of the first one."""


def separate(ranking: Ranking, pixels: PixelBounds, margins: Tensor, seconds: float) -> Tensor:
    """Margins of pairs [A, B] that bounds of single pixels prove, where they were not known to be better.

    It ends where the ranking is proved by them, where it cannot be so, and after so many seconds.
    """
    deadline = time.monotonic() + min(seconds, left())
    while True:
        margins = torch.fmax(margins, margins_of(ranking, pixels.interval))
        opened = core(~(margins > 0), ranking.lost_count, ranking.gained)
        if not bool(opened.any()) or time.monotonic() >= deadline:
            return margins
        chosen = _hardest(ranking, pixels, opened)
        if chosen is None:
            return margins
        pixels.improve(*chosen, deadline)


def _hardest(ranking: Ranking, pixels: PixelBounds, opened: Tensor) -> tuple[Ends, int, float] | None:
    """An end to work on next, of which pixel, and what is enough; None: it is of no use.

    Of the pixels that need work the one that needs most: if it fails, less was spent in vain.
    """
    sides = (
        _Side(pixels.least, ranking.inside[opened.any(1)], ranking.up, ranking.lost_count - 1),
        _Side(pixels.most, ranking.others[opened.any(0)], -ranking.down, ranking.gained - 1),
    )
    first, last = sides[1].reached, sides[0].reached
    if not first < last:
        return None
    values = torch.linspace(first, last, _VALUES, dtype=torch.float64)[1:-1]
    works = [side.work(values) for side in sides]
    best = int((works[0].sum(1) + works[1].sum(1)).argmin())
    needed = [work[best] for work in works]
    if not 0 < float(needed[0].sum() + needed[1].sum()) < torch.inf:
        return None  # out of reach, or what stays open is a pixel against itself
    harder = int(needed[1].max() > needed[0].max())
    side, place = sides[harder], int(needed[harder].argmax())
    return side.ends, int(side.pixels[place]), float(values[best]) / side.factor


class _Side:
    """Pixels of one set, of which all but some are to be brought to one side of a value.

    Args:
        ends: of all pixels; factor: what they are taken times, for values that both sides share.
        chosen: the pixels.
        spared: how many need not.
    """

    def __init__(self, ends: Ends, chosen: Tensor, factor: float, spared: int) -> None:
        self.ends, self.pixels, self.factor, self.spared = ends, chosen, factor, spared

    @property
    def reached(self) -> float:
        """Beyond which value none can be brought, by what was seen."""
        return self.factor * float(self.ends.seen[self.pixels].max())

    def work(self, values: Tensor) -> Tensor:
        """Nodes expected of each pixel to bring it beyond a value: [values, pixels]; those spared are 0."""
        ends, chosen = self.ends, self.pixels
        target = (values / self.factor)[:, None]
        bound, seen, first, nodes = (of[chosen] for of in (ends.bound, ends.seen, ends.first, ends.nodes))
        before = _growth(bound, first, seen).masked_fill(nodes == 0, 0.0)
        rate = (nodes + _BEGIN) / (before + _BEGIN / _NODES)
        work = rate * (_growth(target, first, seen) - before)
        work = torch.where(nodes > 0, work.clamp(min=1.0), work.clamp(max=_UNKNOWN) + _BEGIN)
        # Neither beyond what was seen, nor where nothing more can be found out.
        work = torch.where((target < seen) & (bound < seen), work, torch.inf).masked_fill(target < bound, 0.0)
        if self.spared > 0:
            hardest = work.topk(min(self.spared, work.shape[1]), dim=1).indices
            work = work.scatter(1, hardest, 0.0)
        return work


def _growth(target: Tensor, first: Tensor, seen: Tensor) -> Tensor:
    """How nodes grow on the way from a first bound to what was seen; inf at its end, and if unknown."""
    share = ((target - first) / (seen - first)).clamp(min=0)
    return torch.where(share < 1, (share / (1 - share)) ** _POWER, torch.inf)
