"""Many balls around one image attacked at once, each with its own places that may change.

Steepest descent of the margin, as `margin.py`, with rows that stand for balls instead of starts: what a
sticker at thousands of places takes is then a few passes over all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.attacks.target import Target
from corgi.budget import check
from corgi.properties.formula import Ranking
from corgi.types import Ball

_FIRST, _LAST = 0.5, 0.02
"""Size of the first and of the last step, in radii."""

_MOVED = 1e-4
"""Share of the largest value of the map by which a pixel moves at least that is reached: no rounding does."""


@dataclass(frozen=True)
class PlacesAttack:
    """Steps from corners of every ball: first on the map pixels that it reaches, then on the margin.

    The margin alone has no slope until one of those pixels is where the property is decided.

    Attributes:
        steps: of each start, half of them of either kind.
        starts: random corners.
    """

    steps: int = 30
    starts: int = 2

    def run(self, target: Target, balls: list[Ball], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The best image of every l_inf ball, float32 [N, C, H, W], and its margin, [N].

        Nothing is confirmed: a margin < 0 suggests a witness.

        Raises:
            OutOfTime: time is over.
        """
        boxes = [ball.inner_box(torch.float32) for ball in balls]
        lower, upper = torch.stack([box.lower for box in boxes]), torch.stack([box.upper for box in boxes])
        radii = torch.tensor([ball.radius for ball in balls])[:, None, None, None]
        centre = torch.stack([ball.center.to(torch.float32) for ball in balls])
        with torch.no_grad():
            clean = target.cams(centre[:1])
        best, margins = centre, target.broken_margins(centre)
        for _ in range(self.starts):
            images = torch.where(torch.rand(centre.shape, generator=generator) < 0.5, upper, lower)
            for step in range(self.steps + 1):
                check()
                found, gradient = _descent(target, images, clean if 2 * step < self.steps else None)
                nearer = found < margins
                best = torch.where(nearer[:, None, None, None], images, best)
                margins = torch.where(nearer, found, margins)
                wave = 0.5 * (1 + math.cos(2 * math.pi * step / self.steps))  # large again on the margin
                size = radii * (_LAST + (_FIRST - _LAST) * wave)
                images = (images - size * gradient.sign()).clamp(lower, upper)
        return best, margins


def _descent(target: Target, images: Tensor, clean: Tensor | None) -> tuple[Tensor, Tensor]:
    """Margins of images, and the gradients followed: on the way where the clean map is given."""

    def followed(cams: Tensor, margins: Tensor) -> Tensor:
        return (margins if clean is None else _on_the_way(target, cams, clean)).sum()

    margins, gradients = target.descent(images, followed)
    return margins if target.label is None else target.broken_margins(images), gradients


def _on_the_way(target: Target, cams: Tensor, clean: Tensor) -> Tensor:
    """What pixels must fall less the largest of those that must rise, where they are reached: [N]."""
    moved, found = (cams.detach() - clean).abs(), cams.sum(1) * 0
    reached = moved > _MOVED * clean.abs().max()
    for leaf in target.holds.leaves:
        if isinstance(leaf, Ranking):
            high, low = (torch.zeros_like(reached) for _ in "ab")
            high[:, leaf.inside], low[:, leaf.others] = True, True
            fall = torch.where(reached & high, leaf.up * cams, 0.0).sum(1)
            rise = torch.where(reached & low, leaf.down * cams, -torch.inf).amax(1)
            found = found + fall - torch.where(rise > -torch.inf, rise, 0.0)
        else:
            found = found + leaf.margin(cams)
    return found
