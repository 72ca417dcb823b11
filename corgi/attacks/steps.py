"""Steps and projections of attacks, by norm.

A step moves in the direction that a linear function falls fastest per unit of the norm: against the signs of
the gradient in l_inf, against the gradient in l_2, along its few largest entries in l_1 (one would do for a
linear function; several at once leave a kink sooner: Tramer and Boneh 2019, Croce and Hein 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.types import Ball, Interval, Norm

_SHARES = (0.0, 0.001, 0.01)
"""Shares of all entries that a step in l_1 moves, row after row in turn; at least one entry."""

_INSIDE = 1 - 2.0**-30
"""Share of the radius to which images outside are scaled: further inside than float64 sums are off."""


class Projection:
    """Brings images into a ball and its pixel box, in exact arithmetic, as float32 or float64."""

    def __init__(self, ball: Ball, dtype: torch.dtype = torch.float32) -> None:
        self._ball, self._dtype = ball, dtype
        self._box: Interval = ball.inner_box(dtype)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] moved into the ball.

        l_inf: the nearest ones. l_2, l_1: cut to the box, then moved to the nearest ones of the ball, which
        leaves every pixel between where it was and the centre: so it stays in the box. Rounding goes
        towards the centre, too, and shortens every norm.
        """
        ball = self._ball
        if ball.norm is Norm.LINF:
            return images.clamp(self._box.lower, self._box.upper)
        centre = ball.center.to(torch.float64)
        change = images.to(torch.float64).clamp(*ball.pixel_box) - centre
        change = change if ball.scale is None else change * ball.scale  # 0 or 1 there
        inside = ball.radius * _INSIDE
        change = change * shrunk(change, ball.norm, inside)
        moved = (centre + change).to(self._dtype)
        over = (moved.to(torch.float64) - centre).abs() > change.abs()
        held = ball.center.to(self._dtype).expand_as(moved)
        return torch.where(over, moved.nextafter(held), moved)


def shrunk(change: Tensor, norm: Norm, radius: float) -> Tensor:
    """Factors in [0, 1] for every entry of changes [N, C, H, W] whose norm is to be at most `radius`.

    In l_2 all by one factor; in l_1 every entry loses the same amount, or all it has (Duchi et al. 2008).
    """
    if norm is Norm.L2:
        sizes = norm.sizes(change)[:, None, None, None]
        return torch.where(sizes > radius, radius / sizes, 1.0)
    sizes = change.abs().flatten(1)
    ordered = sizes.sort(1, descending=True).values
    counts = torch.arange(1, ordered.shape[1] + 1)
    excess = (ordered.cumsum(1) - radius) / counts
    last = (ordered > excess).sum(1, keepdim=True).clamp(min=1) - 1
    loss = excess.gather(1, last).clamp(min=0)
    kept = torch.where(sizes > loss, 1 - loss / sizes.clamp(min=torch.finfo(sizes.dtype).tiny), 0.0)
    kept = kept * (radius / (kept * sizes).sum(1, keepdim=True).clamp(min=radius).clamp(min=2.0**-1000))
    return torch.where(sizes.sum(1, keepdim=True) > radius, kept, 1.0).reshape(change.shape)


def steepest(ball: Ball, images: Tensor, gradient: Tensor) -> Tensor:
    """Directions of norm 1 in which images [N, C, H, W] of the ball fall fastest; 0 where they are flat.

    Away from l_inf, pixels at an end of their range that would leave it are not counted, nor those that may
    not change.
    """
    if ball.norm is Norm.LINF:
        steps = -gradient.sign()
        return steps if ball.scale is None else steps * ball.scale.to(steps.dtype)
    low, high = ball.pixel_box
    stuck = ((images <= low) & (gradient > 0)) | ((images >= high) & (gradient < 0))
    gradient = gradient.masked_fill(stuck if ball.scale is None else stuck | (ball.scale == 0), 0)
    if ball.norm is Norm.L1:
        sizes = gradient.abs().flatten(1)
        counts = [max(1, round(_SHARES[row % len(_SHARES)] * sizes.shape[1])) for row in range(len(sizes))]
        ordered = sizes.sort(1, descending=True).values
        least = torch.stack([row[count - 1] for row, count in zip(ordered, counts, strict=True)])
        gradient = gradient.sign().masked_fill((sizes < least[:, None]).reshape(gradient.shape), 0)
    size = ball.norm.sizes(gradient).clamp(min=torch.finfo(torch.float32).tiny)
    return -gradient / size[:, None, None, None].to(gradient.dtype)


def noise(ball: Ball, count: int, generator: torch.Generator) -> Tensor:
    """Random changes [count, C, H, W] float32: uniform in l_inf; with the radius as their norm in others.

    In l_1 one entry in a hundred changes: spread over all, the radius would come to nothing.
    """
    found = torch.rand(count, *ball.center.shape, generator=generator) * 2 - 1
    if ball.scale is not None:
        found = found * ball.scale.to(found.dtype)
    if ball.norm is Norm.L1:
        found = found.masked_fill(torch.rand(found.shape, generator=generator) > 0.01, 0)
    if ball.norm is not Norm.LINF:
        sizes = ball.norm.sizes(found).clamp(min=torch.finfo(torch.float32).tiny)
        found = found / sizes[:, None, None, None].to(found.dtype)
    return ball.radius * found
