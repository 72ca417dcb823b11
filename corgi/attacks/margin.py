"""Projected gradient descent on the decision margin itself (theory 1.8: far stronger than the top-k sum).

The margin is a minimum over sets of pixels, and its gradient sees one pair at a time: a descent that flips
between pairs goes nowhere. So beside the starts that follow the margin, one start follows each critical set.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from corgi.attacks.interface import Attempt, tell_step
from corgi.attacks.steps import Projection, noise, steepest
from corgi.attacks.target import Critical, Target
from corgi.budget import Pace, left
from corgi.types import Ball

_SHARE, _FEW = 0.15, 8
"""Of the time left, what one ball may take; and the steps below which starts are given up first."""


@dataclass(frozen=True)
class MarginAttack:
    """Steepest steps in the ball's norm, of decreasing size, several starts at once, first witness wins.

    Attributes:
        steps: gradient steps; fewer, and fewer starts, where time would not suffice for several balls.
        restarts: random starts beside the centre and the starts given.
        first_step, last_step: step size as a share of the radius, cosine in between.
    """

    steps: int = 60
    restarts: int = 2
    first_step: float = 0.5
    last_step: float = 0.01

    @property
    def name(self) -> str:
        """Name, for results."""
        return "margin-pgd"

    def run(
        self,
        target: Target,
        ball: Ball,
        starts: Tensor,
        generator: torch.Generator,
    ) -> Attempt:
        """Attack one ball (see `Attack.run`)."""
        inside = Projection(ball)
        target, images, steps = self._affordable(target, ball, starts, generator)
        images = inside(images)
        best, best_margin, pace, began = images[0], math.inf, Pace(), time.monotonic()
        for step in range(steps):
            if not pace.goes_on():
                return Attempt(best, best_margin, step)
            margins, gradient = self._descent(target, images)
            scored = target.broken_margins(images) if target.label is not None else margins
            least = int(scored.argmin())
            if float(scored[least]) < best_margin:
                best, best_margin = images[least].clone(), float(scored[least])
            if best_margin < 0:
                return Attempt(best, best_margin, step + 1)
            wave = 0.5 * (1 + math.cos(math.pi * step / steps))
            size = ball.radius * (self.last_step + (self.first_step - self.last_step) * wave)
            images = inside(images + size * steepest(ball, images, gradient))
            tell_step(step + 1, steps, time.monotonic() - began)
        return Attempt(best, best_margin, steps)

    def _affordable(
        self, target: Target, ball: Ball, starts: Tensor, generator: torch.Generator
    ) -> tuple[Target, Tensor, int]:
        """Target, starts and steps for one ball: as many as a share of the time left allows.

        A ball that withstands all steps from all starts on a large network would be the only one there is
        time for, and the first one is rarely large enough.
        """
        images = self._starts(target, ball, starts, generator)
        if math.isinf(left()):
            return target, images, self.steps
        began = time.monotonic()
        self._descent(target, images[:1])
        gradients = int(_SHARE * left() / max(time.monotonic() - began, 1e-6))
        if gradients >= self.steps * len(images):
            return target, images, self.steps
        count = min(max(gradients // _FEW, 2), len(images))
        target = replace(target, critical=target.critical[: count - 1])
        kept = starts[-1:].to(images) if len(starts) else images[:1]
        images = torch.cat([images[: len(target.critical)], kept])
        return target, images, min(max(gradients // len(images), _FEW), self.steps)

    def _descent(self, target: Target, images: Tensor) -> tuple[Tensor, Tensor]:
        """Margins [N] of images, and gradients of what each descends."""
        critical = iter(target.critical)

        def followed(cams: Tensor, margins: Tensor) -> Tensor:
            return self._objective(list(islice(critical, len(cams))), cams, margins)

        return target.descent(images, followed)

    def _objective(self, critical: Sequence[Critical], cams: Tensor, margins: Tensor) -> Tensor:
        """The sum of what each row descends: its critical pixels' gap (the first rows), or the margin."""
        if not critical:
            return margins.sum()
        gaps = [one.gap(cam) for one, cam in zip(critical, cams, strict=False)]
        return torch.stack(gaps).sum() + margins[len(gaps) :].sum()

    def _starts(self, target: Target, ball: Ball, starts: Tensor, generator: torch.Generator) -> Tensor:
        """One row for each critical set, then the centre, the starts given, and random images of the ball."""
        center = ball.center.to(torch.float32)[None]
        paired = center.expand(len(target.critical), *ball.center.shape)
        return torch.cat(
            [paired, center, starts.to(torch.float32), center + noise(ball, self.restarts, generator)]
        )
