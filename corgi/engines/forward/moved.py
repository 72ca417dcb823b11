"""Affine forms of an image that was rotated, shifted or scaled, over boxes of the parameters.

A pixel is F(t) = I(p(t)): p its place (places.py), smooth in t, and I the image between its pixels, bilinear
on each cell of four. On one cell, with I_u and I_v the slopes of I at p(m), D = I_uv its bend, which is
constant, and (du, dv) = p(t) - p(m), exactly

    F(t) = F(m) + I_u du + I_v dv + D du dv.

du and dv are sums of D_j u h_j s_j, with derivatives of the place from somewhere on the box. So g_j is
I_u D_j u + I_v D_j v at the middles of what these lie in, times h_j, and the remainder, of what they spread
and of D du dv, falls with h^2. Of one parameter along which both axes are monotone du dv has one sign.

Where several cells are reached F is Lipschitz, and by the mean value theorem of Lebourg (Clarke, Optimization
and Nonsmooth Analysis, 1983, Theorem 2.3.7, and the chain rule 2.3.9)

    F(t) - F(m)  lies in  sum_j G_j (t_j - m_j),    G_j = I_u D_j u + I_v D_j v

with intervals that hold the partial derivatives of I on all these cells and those of p on the box: g_j is the
middle of G_j times h_j and the remainder its radius times h_j.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.budget import check
from corgi.changes.geometry import MotionFamily, pixels_at, sampled
from corgi.engines.forward.places import Places, places_of
from corgi.engines.parametric import AffineForms, Boxes
from corgi.engines.rigour import RAISED, roundings, smallest
from corgi.types import Interval


def moved(family: MotionFamily, boxes: Boxes) -> AffineForms:
    """The images over boxes: terms [N, 1 + d, C, H, W]."""
    places, half = places_of(family, boxes), boxes.half[:, :, None, None]
    value, cells = sampled(family.image, places.middle), _cells(family.image, places)
    single, several = _on_one_cell(family.image, places, half), _on_cells(cells, places, half)
    one = (places.first == places.last).all(1)[:, None]
    centre = value + torch.where(one, single.terms[:, 0], 0.0)
    generators = torch.where(one[:, None], single.terms[:, 1:], several.terms[:, 1:])
    # What float64 rounds of F(m) is off by fewer than 16 roundings of 1.
    remainder = torch.where(one, single.remainder, several.remainder) + places.spare[:, None] + roundings(32)
    # Where the values of the pixels that are reached say more, or are all that is known, no slope.
    far = places.far[:, None]
    low, high = cells.values.lower.masked_fill(far, 0), cells.values.upper.masked_fill(far, 1)
    plain = (high - low) / 2 + places.spare[:, None].masked_fill(far, 0) + roundings(8)
    sloped = (generators.abs().sum(1) + remainder < plain) & ~far
    centre = torch.where(sloped, centre, (low + high) / 2)
    terms = torch.cat([centre[:, None], generators.masked_fill(~sloped[:, None], 0)], 1)
    remainder = torch.where(sloped, remainder, plain) * RAISED + 4 * smallest(torch.float64)
    shape = family.image.shape
    return AffineForms(terms.reshape(*terms.shape[:2], *shape), remainder.reshape(-1, *shape))


def _on_one_cell(image: Tensor, places: Places, half: Tensor) -> AffineForms:
    """F(t) less what F(m) is computed to be, of pixels that reach one cell: [N, 1 + d, C, P].

    All is taken around the place that was computed, which is off by e: du and dv are off by that, and their
    product by e times the other one. I_u, I_v and D are off by fewer than 8 roundings of 1, du and dv are not
    much more than 1; g_j and its radius are off by fewer than 8 roundings of what the terms of g_j add up to.
    """
    column, row = places.first[:, 0], places.first[:, 1]
    upper_left, upper_right, lower_left, lower_right = (
        pixels_at(image, column + right, row + below) for below in (0, 1) for right in (0, 1)
    )
    across, down = (places.middle - places.first)[:, :, None].unbind(1)
    bend = (lower_right - lower_left) - (upper_right - upper_left)
    gradient = upper_right - upper_left + down * bend, lower_left - upper_left + across * bend
    generators, remainder = torch.zeros_like(half), torch.zeros_like(bend)
    for axis, slope in enumerate(gradient):
        low, high = (end[:, :, axis, None] for end in (places.slopes.lower, places.slopes.upper))
        generators = generators + slope[:, None] * (low + high) / 2 * half
        spread = (high - low) / 2 + roundings(16) * torch.maximum(-low, high)
        remainder = remainder + slope.abs() * ((spread * half).sum(1) + places.error[:, axis, None])
    reach = torch.maximum(places.reached.upper - places.middle, places.middle - places.reached.lower)
    reach, error = reach + 4 * places.error, places.error
    most, off = reach.prod(1), error[:, 0] * reach[:, 1] + error[:, 1] * reach[:, 0]
    sign = _sign_of_product(places.slopes)
    low, high = (most.masked_fill(sign == other, 0)[:, None] for other in (1, -1))
    centre = bend * (high - low) / 2
    remainder = remainder + bend.abs() * ((high + low) / 2 + off[:, None]) + roundings(64)
    return AffineForms(torch.cat([centre[:, None], generators], 1), remainder)


def _sign_of_product(slopes: Interval) -> Tensor:
    """Of du dv on all of the box, where it is known: 1 or -1, else 0; [N, P].

    Of one parameter both change their signs at its middle, if they do not change them elsewhere.
    """
    if slopes.lower.shape[1] > 1:
        return torch.zeros_like(slopes.lower[:, 0, 0])
    signs = torch.where(slopes.lower >= 0, 1.0, torch.where(slopes.upper <= 0, -1.0, 0.0))
    return signs[:, 0].prod(1)


def _on_cells(cells: _Cells, places: Places, half: Tensor) -> AffineForms:
    """The same of pixels that reach several, by the mean value theorem.

    Rounded: g_j, its radius and what they are made of, fewer than 8 times of what the terms of G_j add up to,
    times h_j; and F(m) by e times the slopes of I.
    """
    partial, size = _gradient(cells, places.slopes)
    generators = (partial.lower + partial.upper) / 2 * half
    remainder = ((partial.upper - partial.lower) / 2 * half + roundings(16) * size * half).sum(1)
    for axis, slope in enumerate((cells.across, cells.down)):
        remainder = remainder + torch.maximum(-slope.lower, slope.upper) * places.error[:, axis, None]
    return AffineForms(torch.cat([torch.zeros_like(remainder)[:, None], generators], 1), remainder)


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


def _cells(image: Tensor, places: Places) -> _Cells:
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
