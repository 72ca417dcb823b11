"""The part of a ball in which a margin can still fail, and bounds over it.

A backward pass bounds a margin by a linear function of the image: margin >= a . d + c over the ball, d the
deviation from its middle. So every image at which the margin is <= 0 lies in the half-space a . d + c <= 0,
near the end of the ball often a small corner of it. For another row b, over that part,

    b . d  >=  b . d + lam (a . d + c)  =  (b + lam a) . d + lam c      for every lam >= 0,

and the right side is least over the box in closed form. It is concave in lam; any lam is sound, a good one is
found by bisecting its slope. (Output constraints to tighten inner bounds: Kotha et al. 2023, INVPROP.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.engines.patch.patches import Patches
from corgi.engines.rigour import roundings, smallest, unit

_HALVINGS = 12
_SPAN = 1e3
"""lam is looked for within this factor of the ratio of the two rows' sizes."""


@dataclass(frozen=True)
class HalfSpace:
    """The images with a . d + c <= 0.

    Attributes:
        row: a on the whole image, [1, C, H, W], working precision.
        constant: c, rounded down.
        least: a lower bound of a . d over the box; reach: an upper bound of sum |a| |d|.
    """

    row: Tensor
    constant: float
    least: float
    reach: float


def mean(spaces: list[HalfSpace]) -> HalfSpace:
    """A half-space that holds all images in each of one or two: a . d + c, halved and added."""
    if len(spaces) == 1:
        return spaces[0]
    first, second = spaces
    row = first.row / 2 + second.row / 2
    # The row was rounded: by at most u |a| an entry, on deviations of which |a d| summed is at most `reach`.
    reach = abs(first.reach) + abs(second.reach)
    error = 2 * unit(row.dtype) * reach + roundings(8) * (abs(first.constant) + abs(second.constant))
    return HalfSpace(
        row,
        first.constant / 2 + second.constant / 2 - error,
        first.least / 2 + second.least / 2 - 2 * unit(row.dtype) * reach,
        reach,
    )


def box_fields(lower: Tensor, upper: Tensor) -> Tensor:
    """Middle and half-width of deviations [B, C, H, W], the half-width rounded up: [B, 2 C, H, W]."""
    middle, half = (upper + lower) / 2, (upper - lower) / 2
    share = 8 * unit(middle.dtype) + roundings(2 * middle[0].numel())
    half = half + share * torch.maximum(lower.abs(), upper.abs()) + smallest(middle.dtype)
    return torch.cat([middle, half], 1)


def least(values: Tensor, middles: Tensor, halves: Tensor) -> Tensor:
    """The least of rows [R, C, h, w] over a box under them: float64 [R]; rounding is in `box_fields`.

    The box may be [P, C, h, w] for rows that repeat P places in order.
    """
    if len(values) == 0:
        return values.new_zeros(0, dtype=torch.float64)
    rows = values.reshape(-1, len(middles), values[0].numel())
    apart = (rows * middles.flatten(1)).sub_(rows.abs().mul_(halves.flatten(1)))
    return apart.sum(2, dtype=torch.float64).flatten()


def least_within(rows: Patches, fields: Tensor, half_space: HalfSpace) -> Tensor:
    """The least of rows on the image over the box and the half-space: float64 [R]."""
    window = rows.window(torch.cat([fields, half_space.row], 1))
    if len(window) != len(rows.values):
        window = window.repeat(len(rows.values) // len(window), 1, 1, 1)
    middles, halves, other = window.chunk(3, 1)
    values = rows.values
    scale = values.abs().sum((1, 2, 3)) / other.abs().sum((1, 2, 3)).clamp(min=torch.finfo(values.dtype).tiny)
    shared = (values * other != 0).any(3).any(2).any(1)
    # The slope of the bound in lam: what lies outside a row's patch is constant in it.
    outside = half_space.least + half_space.constant - least(other, middles, halves)

    def joined(lam: Tensor) -> Tensor:
        return values + lam[:, None, None, None] * other

    low, high = torch.zeros_like(scale), _SPAN * scale
    for halving in range(_HALVINGS):
        lam = torch.where(low > 0, (low * high).sqrt(), high / _SPAN if halving == 0 else high / 16)
        sums = joined(lam)
        slope = (other * middles - sums.sign() * other * halves).sum((1, 2, 3), dtype=torch.float64) + outside
        low, high = torch.where(slope > 0, lam, low), torch.where(slope > 0, high, lam)
    lam = torch.where(shared & torch.isfinite(low), low, 0)
    sums = joined(lam)
    # The sum is rounded twice, the part outside once more; all relative to |d| <= |middle| + half.
    reach = middles.abs() + halves
    size = (lam[:, None, None, None] * other.abs() * reach).sum((1, 2, 3), dtype=torch.float64)
    size = size + ((sums.abs() + values.abs()) * reach).sum((1, 2, 3), dtype=torch.float64)
    error = (4 * unit(values.dtype) + roundings(4 * values[0].numel())) * size if len(values) else size
    wide = lam.to(torch.float64)
    error = error + roundings(8) * wide * (abs(half_space.least) + abs(half_space.constant))
    error = (
        error
        + roundings(8) * wide * outside.abs()
        + wide * (roundings(8) * least(other, middles, halves).abs())
    )
    error = error + wide * roundings(4 * half_space.row[0].numel()) * (other.abs() * reach).sum(
        (1, 2, 3), dtype=torch.float64
    )
    bound = least(sums, middles, halves) + wide * outside - error
    alone = least(values, middles, halves)
    return torch.where(lam > 0, torch.fmax(bound, alone), alone)
