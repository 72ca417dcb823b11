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

from corgi.budget import left, limited
from corgi.decide.counting import core
from corgi.decide.margins import margins_of
from corgi.decide.pixels import PixelBounds
from corgi.properties.formula import Ranking

_VALUES = 65
"""How many values are tried."""

_BEGIN, _UNKNOWN = 0.1, 9.0
"""The work of beginning with a pixel, in the units of `_work`, and the most that is expected before that."""


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
        pixel, from_below, enough = chosen
        with limited(deadline):
            pixels.improve(pixel, from_below=from_below, enough=enough)


def _hardest(ranking: Ranking, pixels: PixelBounds, opened: Tensor) -> tuple[int, bool, float] | None:
    """A pixel to work on next, whether from below, and up to where; None: it is of no use.

    Of the pixels that need work the one that needs most: if it fails, less was spent in vain.
    """
    above = ranking.inside[opened.any(1)]
    below = ranking.others[opened.any(0)]
    low, lowest = ranking.up * pixels.low[above], ranking.up * pixels.lowest[above]
    high, highest = ranking.down * pixels.high[below], ranking.down * pixels.highest[below]
    needed = len(above) - ranking.lost_count + 1, len(below) - ranking.gained + 1
    begun_above = _begun(pixels, above, from_below=True)
    begun_below = _begun(pixels, below, from_below=False)
    ends = float(highest.min()), float(lowest.max())
    values = torch.linspace(ends[0], ends[1], _VALUES, dtype=torch.float64)[1:-1]
    up = _work(values[:, None] - low, lowest - low, begun_above)
    down = _work(high - values[:, None], high - highest, begun_below)
    cheapest_above = up.topk(needed[0], dim=1, largest=False)
    cheapest_below = down.topk(needed[1], dim=1, largest=False)
    total = cheapest_above.values.sum(1) + cheapest_below.values.sum(1)
    best = int(total.argmin())
    if not 0 < float(total[best]) < torch.inf or ends[0] >= ends[1]:
        return None  # out of reach, or what stays open is a pixel against itself
    hard_above, hard_below = cheapest_above.values[best].max(0), cheapest_below.values[best].max(0)
    value = float(values[best])
    if float(hard_above.values) >= float(hard_below.values):
        pixel = int(above[cheapest_above.indices[best, hard_above.indices]])
        return pixel, True, value / ranking.up
    pixel = int(below[cheapest_below.indices[best, hard_below.indices]])
    return pixel, False, value / ranking.down


def _begun(pixels: PixelBounds, chosen: Tensor, *, from_below: bool) -> Tensor:
    return torch.tensor([pixels.begun(pixel, from_below=from_below) for pixel in chosen.tolist()])


def _work(missing: Tensor, possible: Tensor, begun: Tensor) -> Tensor:
    """The work expected to move ends by so much, where so much is possible at most: [values, pixels].

    Nodes of a tree grow the faster the nearer its bound is to the truth. inf where that is out of reach. Of a
    pixel on which no work was spent the bound may be one of intervals, which says little of that.
    """
    share = (missing / possible).nan_to_num(nan=1 - 1e-9, posinf=torch.inf)  # inf / inf: nothing is known
    share = torch.where(possible > 0, share, torch.inf)
    work = torch.where(share < 1, (share / (1 - share)) ** 2, torch.inf)
    work = torch.where(begun | (share >= 1), work, work.clamp(max=_UNKNOWN) + _BEGIN)
    return torch.where(missing < 0, 0.0, work)
