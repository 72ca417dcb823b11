"""What the patch engine asks of a region, today a ball: another kind of region answers the same here."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.engines.patch.intervals import Centre, cast_out, centres
from corgi.engines.rigour import roundings
from corgi.network.convert import TorchGraph
from corgi.types import Ball, Interval, Norm


def same_image(a: Ball, b: Ball) -> bool:
    """Whether two balls differ in their radius at most: the same may change in both."""
    same = (a.norm, a.pixel_box, a.where) == (b.norm, b.pixel_box, b.where)
    return same and torch.equal(a.center, b.center)


def holds(larger: Ball, ball: Ball) -> bool:
    """Whether a ball lies in another one, other than itself."""
    return same_image(larger, ball) and larger.radius > ball.radius


def is_box(ball: Ball) -> bool:
    """Whether its pixels move independently: cones that share none do, too."""
    return ball.norm is Norm.LINF


def deviations(balls: list[Ball], dtype: torch.dtype, device: str) -> Interval:
    """How far the pixels of balls are from their centres, rounded outwards: [B, C, H, W]."""
    ends = []
    for ball in balls:
        box, centre = ball.box(torch.float64), ball.center.to(torch.float64)
        # A float64 difference of numbers in [0, 1] is off by at most 2^-54; of the same number it is 0.
        around = (box.lower != box.upper) * roundings(1)
        ends.append((box.lower - centre - around, box.upper - centre + around))
    lower, upper = (torch.stack(end) for end in zip(*ends, strict=True))
    wide = cast_out(Interval(lower, upper), dtype)
    return Interval(wide.lower.to(device), wide.upper.to(device))


def middle_of(graph: TorchGraph, images: Tensor, device: str) -> dict[str, Centre]:
    """All values at images [B, C, H, W], on a device; the graph is float64, on the CPU."""
    found = centres(graph, images.to(torch.float64))
    return {name: Centre(c.value.to(device), c.error.to(device)) for name, c in found.items()}
