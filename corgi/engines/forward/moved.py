"""Affine forms of an image that was rotated, shifted or scaled, over boxes of the parameters.

A pixel is F(t) = I(p(t)): p its place, smooth in t, and I the image between its pixels, bilinear on each
cell of four. Let B be the rectangle of cells that p(t) reaches for t in a box. F is Lipschitz, and by the
mean value theorem of Lebourg (Clarke, Optimization and Nonsmooth Analysis, 1983, Theorem 2.3.7, and the chain
rule 2.3.9)

    F(t) - F(m)  lies in  sum_j G_j (t_j - m_j),    G_j = I_u D_j u + I_v D_j v

with intervals that hold the partial derivatives of I on all cells of B and those of p on the box. So g_j is
the middle of G_j times h_j and the remainder its radius times h_j, which falls with h^2 where B is one cell:
I_v, for one, changes along u alone there.

At t = 0 places are pixels themselves, on the edges of cells. There a place computed with an error of e must
not reach a second cell by it. So cells that are reached by less than 4 e are left out of B, and I is
continued by what it is on the nearest cell of B. A place beyond B lies within 6 e of it along an axis, where
I, whose slopes are at most 1, and the continuation, whose slopes are at most 2, part by less than 3 times
that; twice, for F(t) and F(m), it is 36 e, which the remainder holds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.budget import check
from corgi.changes.geometry import (
    MotionFamily,
    RotationFamily,
    ScaleFamily,
    ShiftFamily,
    pixels_at,
    sampled,
)
from corgi.engines.parametric import AffineForms, Boxes
from corgi.engines.rigour import RAISED, roundings, smallest
from corgi.types import Interval

_CELLS = 8
"""Cells that a pixel may reach along an axis; of one that reaches more it is known that it is in [0, 1]."""

_ROOM = 2.0**-10
"""What 4 e is below, or nothing else is known of a pixel."""


def moved(family: MotionFamily, boxes: Boxes) -> AffineForms:
    """The images over boxes: terms [N, 1 + d, C, H, W].

    Rounded: g_j, its radius and what they are made of, fewer than 8 times of what the terms of G_j add up to,
    times h_j; F(m), fewer than 16 times of 1, and by e times the slopes of I.
    """
    places = _places(family, boxes)
    cells = _cells(family.image, places)
    partial, size = _gradient(cells, places.slopes)
    half = boxes.half[:, :, None, None]
    generators = (partial.lower + partial.upper) / 2 * half
    spread = ((partial.upper - partial.lower) / 2 * half + roundings(16) * size * half).sum(1)
    for axis, slope in enumerate((cells.across, cells.down)):
        spread = spread + torch.maximum(-slope.lower, slope.upper) * places.error[:, axis, None]
    remainder = spread + places.spare[:, None] + roundings(32)
    # Where the values of the pixels that are reached say more, or are all that is known, no slope.
    far = places.far[:, None]
    low, high = cells.values.lower.masked_fill(far, 0), cells.values.upper.masked_fill(far, 1)
    plain = (high - low) / 2 + places.spare[:, None].masked_fill(far, 0) + roundings(8)
    sloped = (generators.abs().sum(1) + remainder < plain) & ~far
    centre = torch.where(sloped, sampled(family.image, places.middle), (low + high) / 2)
    terms = torch.cat([centre[:, None], generators.masked_fill(~sloped[:, None], 0)], 1)
    remainder = torch.where(sloped, remainder, plain) * RAISED + 4 * smallest(torch.float64)
    shape = family.image.shape
    return AffineForms(terms.reshape(*terms.shape[:2], *shape), remainder.reshape(-1, *shape))


@dataclass(frozen=True)
class _Places:
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


def _places(family: MotionFamily, boxes: Boxes) -> _Places:
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
    return _Places(middle, error, Interval(low, high), first, last, spare, slopes, far)


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


@dataclass(frozen=True)
class _Cells:
    """The image on the cells that pixels reach, [N, C, P] each.

    Attributes:
        across, down: what I_u and I_v lie in.
        values: what I lies in.
    """

    across: Interval
    down: Interval
    values: Interval


def _cells(image: Tensor, places: _Places) -> _Cells:
    """One cell after the other; of pixels that reach fewer the last one again.

    I_u on a cell is linear in v and constant in u, so its extremes are at the ends of what is reached. The
    ends are off by no more than 8 e, the continuation included, and I_u by twice that.
    """
    most = (places.last - places.first).masked_fill(places.far[:, None], 0).amax((0, 2)).to(torch.int64)
    found = list[tuple[Interval, Interval, Interval]]()
    for beyond in itertools.product(*(range(int(count) + 1) for count in most)):
        check()
        cell = torch.minimum(places.first + torch.tensor(beyond)[:, None], places.last)
        corners = [
            [pixels_at(image, cell[:, 0] + right, cell[:, 1] + below) for right in (0, 1)] for below in (0, 1)
        ]
        reached = places.reached.lower, places.reached.upper
        shares = [(end - cell).clamp(0, 1)[:, :, None] for end in reached]
        (upper_left, upper_right), (lower_left, lower_right) = corners
        across = _ends(upper_right - upper_left, lower_right - lower_left, [share[:, 1] for share in shares])
        down = _ends(lower_left - upper_left, lower_right - upper_right, [share[:, 0] for share in shares])
        values = torch.stack([*corners[0], *corners[1]])
        found.append((across, down, Interval(values.amin(0), values.amax(0))))
    error = 16 * places.error.amax(1)[:, None] + roundings(16)
    slopes = [_hull([one[axis] for one in found]) for axis in (0, 1)]
    wider = [Interval(slope.lower - error, slope.upper + error) for slope in slopes]
    return _Cells(wider[0], wider[1], _hull([one[2] for one in found]))


def _hull(kinds: list[Interval]) -> Interval:
    return Interval(
        torch.stack([one.lower for one in kinds]).amin(0), torch.stack([one.upper for one in kinds]).amax(0)
    )


def _ends(first: Tensor, second: Tensor, shares: list[Tensor]) -> Interval:
    """Between the values of first + share (second - first) at two shares."""
    one, other = (first + share * (second - first) for share in shares)
    return Interval(torch.minimum(one, other), torch.maximum(one, other))


def _gradient(cells: _Cells, slopes: Interval) -> tuple[Interval, Tensor]:
    """G_j, [N, d, C, P], and what its terms add up to at most; fewer than 4 roundings of that are in it."""
    ends = [
        torch.stack(
            [
                one[:, None] * slope[:, :, axis, None]
                for one in (partial.lower, partial.upper)
                for slope in (slopes.lower, slopes.upper)
            ]
        )
        for axis, partial in enumerate((cells.across, cells.down))
    ]
    lower, upper = ends[0].amin(0) + ends[1].amin(0), ends[0].amax(0) + ends[1].amax(0)
    size = ends[0].abs().amax(0) + ends[1].abs().amax(0)
    error = roundings(8) * size
    return Interval(lower - error, upper + error), size
