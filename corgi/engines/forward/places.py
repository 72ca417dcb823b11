"""Where the pixels of a moved image look over boxes of the parameters, and on which cells of four pixels.

At t = 0 places are pixels themselves, on the edges of cells. There a place computed with an error of e must
not reach a second cell by it. So cells that are reached by less than 4 e are left out, and the image I is
continued by what it is on the nearest cell of the others, B. A place beyond B lies within 6 e of it along an
axis, where I, whose slopes are at most 1, and the continuation, whose slopes are at most 2, part by less than
3 times that; of two places it is 36 e, for which `spare` is set aside.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.changes.geometry import MotionFamily, RotationFamily, ScaleFamily, ShiftFamily
from corgi.engines.parametric import Boxes
from corgi.engines.rigour import RAISED, roundings
from corgi.types import Interval

_CELLS = 4
"""Cells that a pixel may reach along an axis; of one that reaches more it is known that it is in [0, 1]."""

_ROOM = 2.0**-10
"""What 4 e is below, or nothing else is known of a pixel."""


@dataclass(frozen=True)
class Places:
    """Where P pixels look over N boxes, along two axes: columns (0) and rows (1).

    Attributes:
        middle: the place at the middle of the box as float64 computes it, [N, 2, P].
        error: e, what it and the ends of `reached` are off by at most, [N, 2, P].
        reached: all places of the box lie in it, but for twice `error`.
        first, last: the cells of B, by the lower of their pixels, whole numbers [N, 2, P].
        spare: what leaving cells out changes in a value at most, [N, P].
        slopes: of places, by each parameter, rounded outwards, [N, d, 2, P].
        far: of which pixels nothing is known but that they lie in [0, 1], [N, P].
    """

    middle: Tensor
    error: Tensor
    reached: Interval
    first: Tensor
    last: Tensor
    spare: Tensor
    slopes: Interval
    far: Tensor


def places_of(family: MotionFamily, boxes: Boxes) -> Places:
    """A place that is monotone in each parameter reaches its extremes at corners of the box.

    Others are reached by the mean value theorem.
    """
    count = len(boxes)
    ends = zip(boxes.lower.T, boxes.upper.T, strict=True)
    corners = torch.stack([torch.stack(corner, 1) for corner in itertools.product(*ends)], 1)
    points = torch.cat([boxes.middle[:, None], corners], 1)
    matrices = family.matrices(points.flatten(0, 1)).reshape(count, -1, 2, 3)
    found = family.centre + matrices @ family.offsets
    middle, low, high = found[:, 0], found[:, 1:].amin(1), found[:, 1:].amax(1)
    # Entries of M are off by 32 roundings of 1 or of themselves (16 for an angle, which is off by 3 of
    # itself and at most pi / 2, and its cosine); then come a product and three sums.
    error = roundings(48) * (family.centre + (matrices.abs().amax(1) + 1) @ family.offsets.abs())
    slopes = _slopes_of_places(family, boxes)
    known = ((slopes.lower >= 0) | (slopes.upper <= 0)).all(1)
    reach = torch.maximum(-slopes.lower, slopes.upper) * boxes.half[:, :, None, None]
    reach = reach.sum(1) * RAISED
    low, high = torch.where(known, low, middle - reach), torch.where(known, high, middle + reach)
    room = 4 * error
    first = (low + room).floor()
    last = torch.maximum(first, (high - room).ceil() - 1)
    left_out = (first != (low - room).floor()) | (last + 1 < (high + room).ceil())
    spare = (10 * room * left_out).sum(1)
    far = ~((last - first < _CELLS) & (room < _ROOM)).all(1)
    # What is NaN is far, too, and reads some pixel: no number of it counts.
    first, last = (cell.masked_fill(far[:, None], 0) for cell in (first, last))
    middle = middle.nan_to_num(nan=0.0)
    return Places(middle, error, Interval(low, high), first, last, spare, slopes, far)


def _slopes_of_places(family: MotionFamily, boxes: Boxes) -> Interval:
    """D_j u and D_j v: sums of at most two products, off by 4 roundings of them. What is 0 stays 0."""
    slopes, offsets = SLOPES[type(family)](boxes), family.offsets
    ahead, behind = offsets.clamp(min=0), offsets.clamp(max=0)
    error = roundings(8) * (torch.maximum(slopes.lower.abs(), slopes.upper.abs()) @ offsets.abs())
    lower = slopes.lower @ ahead + slopes.upper @ behind - error
    return Interval(lower, slopes.upper @ ahead + slopes.lower @ behind + error)


def _turned(boxes: Boxes) -> Interval:
    """Of a rotation: pi / 180 (0, -sin, -cos) and pi / 180 (0, cos, -sin).

    Below 90 degrees the sine grows, and the cosine is largest nearest to 0. Both are off by fewer than 16
    roundings, the cosine of 1 and the sine of itself (x cot x <= 1, so what the angle is off by is no larger
    in it as a share); then comes a product with a constant that is rounded.
    """
    per_degree, error = math.pi / 180, roundings(32)
    lower, upper = boxes.lower[:, 0] * per_degree, boxes.upper[:, 0] * per_degree
    sines, cosines = (lower.sin(), upper.sin()), (lower.cos(), upper.cos())
    top = torch.where((lower <= 0) & (upper >= 0), 1.0, torch.maximum(*cosines))
    sine = sines[0] - error * sines[0].abs(), sines[1] + error * sines[1].abs()
    cosine, none = (torch.minimum(*cosines) - error, top + error), torch.zeros_like(lower)

    def rows(sine: Tensor, cosine: Tensor, other: Tensor) -> Tensor:
        found = torch.stack([none, -sine, -other], 1), torch.stack([none, cosine, -sine], 1)
        return per_degree * torch.stack(found, 1)[:, None]

    return Interval(rows(sine[1], cosine[0], cosine[1]), rows(sine[0], cosine[1], cosine[0]))


def _shifted(boxes: Boxes) -> Interval:
    """Of a shift: -1 in the first column, of each parameter in its own row; exact."""
    slope = -torch.eye(2, dtype=torch.float64)[:, :, None]
    slope = torch.cat([slope, torch.zeros(2, 2, 2, dtype=torch.float64)], 2).expand(len(boxes), 2, 2, 3)
    return Interval(slope, slope)


def _scaled(boxes: Boxes) -> Interval:
    """Of a factor 1 / (1 + t): -1 / (1 + t)^2, which grows, off by 4 roundings of itself."""
    same = torch.eye(2, 3, dtype=torch.float64).roll(1, 1)
    lower, upper = (-same / (1 + end[:, :, None, None]) ** 2 for end in (boxes.lower, boxes.upper))
    return Interval(lower + roundings(8) * lower, upper - roundings(8) * upper)


SLOPES: dict[type[MotionFamily], Callable[[Boxes], Interval]] = {
    RotationFamily: _turned,
    ShiftFamily: _shifted,
    ScaleFamily: _scaled,
}
"""What the derivatives of M by each parameter lie in, [N, d, 2, 3] over N boxes, rounded outwards."""
