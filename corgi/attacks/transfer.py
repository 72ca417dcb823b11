"""The l_inf attack of theory 7.11: found on the plain gradient map, then shown to other maps.

The patent prints a division of the gradient by gamma and does not say what that is; here it is the gradient's
l_2 norm, so that the rate is the l_2 length of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from corgi.attacks.overlap import Perturbed, ascent
from corgi.attacks.steps import Projection
from corgi.attacks.twin import Guide
from corgi.types import Ball, Norm


@dataclass(frozen=True)
class TransferAttack:
    """Gradient ascent on D from the image itself, scaled back into the ball where it leaves it.

    The class need not stay, as in the source. The pixel box, which the source does not mention, is kept.

    Attributes:
        steps: T; rate: lr, the l_2 length of a step.
    """

    steps: int = 300
    rate: float = 0.5

    @property
    def name(self) -> str:
        """Name, for results."""
        return "transfer-linf"

    def run(self, guide: Guide, ball: Ball, pixels: Sequence[int]) -> Perturbed:
        """The iterate with the largest D, the original image included.

        Args:
            guide: the map attacked, differentiable: the smooth twin of a gradient map.
            ball: l_inf; its centre is the original image x.
            pixels: the k largest of the map at x.
        """
        assert ball.norm is Norm.LINF
        inside, top = Projection(ball), torch.tensor(list(pixels))
        center = ball.center.to(torch.float32)[None]
        image = best = center
        best_value = -torch.inf
        for step in range(self.steps + 1):
            values, slope = ascent(guide, image, top)
            if float(values[0]) > best_value:
                best, best_value = image, float(values[0])
            size = float(Norm.L2.sizes(slope)[0])
            if step == self.steps or size == 0:
                break
            change = image + self.rate / size * slope - center
            farthest = float(change.abs().max())
            image = inside(center + change * (ball.radius / max(farthest, ball.radius)))
        return Perturbed(best[0], best_value, step + 1)
