"""The l_2 attack of Levine et al. on the top-k overlap of a map (L Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.attacks.overlap import Labels, Perturbed, ascent
from corgi.attacks.steps import Projection
from corgi.attacks.twin import Guide
from corgi.types import Ball, Norm

_HALVINGS = 60
"""A step halved this often moves no float32 pixel: the paper's inner loop has no end of its own."""


@dataclass(frozen=True)
class LevineAttack:
    """Gradient ascent on D from random points of the sphere; steps stop short of a decision boundary.

    Restarts run side by side in one batch, which changes no iterate. Lines are those of Algorithm 1.

    Attributes:
        steps: P, ascents a restart; draws: Q, random starts tried in all; restarts: T.
    """

    steps: int = 20
    draws: int = 100
    restarts: int = 5

    @property
    def name(self) -> str:
        """Name, for results."""
        return "levine-l2"

    def run(
        self, guide: Guide, labels: Labels, ball: Ball, pixels: Sequence[int], generator: torch.Generator
    ) -> Perturbed | None:
        """The image of the ball with the largest D that keeps the class; None where every start lost it.

        Args:
            guide: the map to attack, differentiable: the smooth twin of a gradient map.
            labels: classes of images, by the network attacked.
            ball: l_2; its centre is the original image x.
            pixels: the k largest of the map at x.
            generator: of the starts.
        """
        assert ball.norm is Norm.L2
        inside = Projection(ball)
        center = ball.center.to(torch.float32)[None]
        label = labels(center)
        images = self._starts(inside, labels, ball, generator)  # lines 3-11
        if len(images) == 0:
            return None  # line 28
        top = torch.tensor(list(pixels))
        _, slopes = ascent(guide, images, top)
        sizes = Norm.L2.sizes(slopes).to(torch.float32)
        rates = torch.where(sizes > 0, ball.radius / sizes, 0.0)  # line 12
        best, best_value = images[0], -torch.inf
        for step in range(1, self.steps + 1):
            images, rates = self._climb(inside, labels, label, images, slopes, rates)  # lines 14-23
            values, slopes = ascent(guide, images, top)
            most = int(values.argmax())  # lines 26 and 29
            if float(values[most]) > best_value:
                best, best_value = images[most], float(values[most])
            rates = rates * step / (step + 1)  # line 24
        return Perturbed(best, best_value, len(images) * (self.steps + 1))

    def _starts(self, inside: Projection, labels: Labels, ball: Ball, generator: torch.Generator) -> Tensor:
        """Up to T random points of the sphere, cut to the pixel box, that keep the class."""
        center = ball.center.to(torch.float32)[None]
        found, drawn = center[:0], 0
        while len(found) < self.restarts and drawn < self.draws:
            count = min(self.restarts - len(found), self.draws - drawn)
            change = torch.randn(count, *ball.center.shape, generator=generator)
            sizes = Norm.L2.sizes(change).to(torch.float32)[:, None, None, None]
            tried = inside(center + ball.radius * change / sizes)
            found = torch.cat([found, tried[labels(tried) == labels(center)]])
            drawn += count
        return found

    def _climb(
        self,
        inside: Projection,
        labels: Labels,
        label: Tensor,
        images: Tensor,
        slopes: Tensor,
        rates: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One step of every row, halved until the row keeps the class, and the rates that took."""
        reached, rates, waiting = images.clone(), rates.clone(), torch.arange(len(images))
        for _ in range(_HALVINGS):
            moved = inside(images[waiting] + rates[waiting, None, None, None] * slopes[waiting])
            kept = labels(moved) == label
            reached[waiting[kept]] = moved[kept]
            waiting = waiting[~kept]
            if len(waiting) == 0:
                break
            rates[waiting] /= 2
        return reached, rates
