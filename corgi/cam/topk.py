"""The top-k pixels of a map, and the one number that decides whether they stay (theory 1.4, 1.5)."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from corgi.errors import UsageError
from corgi.results import TopK
from corgi.terms import Size

_USUAL = 15
"""The k of G's figures. Of more than half of a map's pixels the others would be what is asked for."""


def top_k(cam: Tensor, k: int, rounding: float) -> TopK:
    """The k largest pixels of a map [h, w] (float64).

    Equal values are ordered by index, but a tie across rank k is reported: the set is then not unique
    (theory 1.4). `rounding` bounds the error of one pixel's value; a gap it can explain is a tie.

    Raises:
        UsageError: k is not between 1 and the number of pixels minus one.
    """
    values = cam.reshape(-1).to(torch.float64)
    check_ranks(k, k, values.numel())
    order = values.argsort(descending=True, stable=True)
    gap = float(values[order[k - 1]] - values[order[k]])
    return TopK(k, tuple(int(i) for i in order[:k]), gap, tie=not gap > 2 * rounding)


def check_ranks(k: int, k2: int, pixels: int) -> None:
    """Refuse ranks a map of `pixels` pixels cannot have.

    Raises:
        UsageError: not 1 <= k <= k2 < pixels.
    """
    if not 1 <= k < pixels:
        raise UsageError(f"k = {k}: the map has {pixels} pixels, expected 1 <= k <= {pixels - 1}")
    if not k <= k2 < pixels:
        raise UsageError(f"k2 = {k2}: expected k <= k2 <= {pixels - 1} with k = {k}")


def size_of(k: Size, values: int) -> int:
    """A size that was asked for, of a map of so many values; "auto" needs the map (`choose_k`).

    Raises:
        UsageError: it is "auto", or no whole number.
    """
    if k == "auto":
        raise UsageError("--k auto: not of this map", hint="It looks at gaps of the CAM.")
    try:
        return max(min(_USUAL, values // 2), 1) if k is None else operator.index(k)
    except TypeError:
        raise UsageError(f"k = {k!r}: expected a whole number or 'auto'") from None


def choose_k(cam: Tensor, first: int = 5, last: int = 50) -> int:
    """The k in [first, last] with the largest relative CAM gap (G section 4), at most half of the pixels.

    Relative: the share of what is left of the map's height that falls away between rank k and k + 1,
    (I_[k] - I_[k+1]) / (I_[k] - min I); unchanged by scaling and shifting the map. It is 1 at the last rank
    of every map, whose set leaves out one pixel: in a small map the pixels on top are asked for.
    """
    last = max(min(last, cam.numel() // 2), 1)
    first = min(first, last)
    return first + int(relative_gaps(cam)[first - 1 : last].argmax())


def relative_gaps(cam: Tensor) -> Tensor:
    """(I_[k] - I_[k+1]) / (I_[k] - min I) of a map [h, w] for k = 1 .. pixels - 1: float64."""
    values = cam.reshape(-1).to(torch.float64).sort(descending=True).values
    upper, lower = values[:-1], values[1:]
    return (upper - lower) / (upper - values[-1]).clamp(min=torch.finfo(torch.float64).tiny)
