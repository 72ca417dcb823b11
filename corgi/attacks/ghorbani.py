"""The paper's attack: steps that lower the sum of the original top-k values (G Alg. 1)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from corgi.attacks.interface import Attempt, tell_step
from corgi.attacks.steps import Projection, steepest
from corgi.attacks.target import Target
from corgi.attacks.twin import softplus_twin
from corgi.budget import Pace
from corgi.types import Ball


@dataclass(frozen=True)
class GhorbaniAttack:
    """Algorithm 1 of Gu et al., after Ghorbani et al.

    The iterate that keeps the fewest of the original top-k pixels is returned (ties: the smaller margin), of
    those that keep the label if they must, measured on the true network also when the steps follow its
    softplus twin.

    Attributes:
        steps: P of the paper.
        step: step size as a share of the radius.
        softplus_beta: steepness of the softplus that replaces Relu for the gradient; None keeps Relu.
    """

    steps: int = 300
    step: float = 0.1
    softplus_beta: float | None = None

    @property
    def name(self) -> str:
        """Name, for results."""
        return "topk-sum" if self.softplus_beta is None else f"topk-sum-softplus{self.softplus_beta:g}"

    def run(
        self,
        target: Target,
        ball: Ball,
        starts: Tensor,
        generator: torch.Generator,
    ) -> Attempt:
        """Attack one ball (see `Attack.run`); deterministic, starts from the centre only."""
        inside = Projection(ball)
        guide = target if self.softplus_beta is None else smooth_twin(target, self.softplus_beta)
        pixels = list(target.top.pixels)
        image = ball.center.to(torch.float32)[None]
        best, best_key, pace, steps = image[0], (math.inf, math.inf), Pace(), 0
        began = time.monotonic()
        while steps < self.steps and pace.goes_on():
            steps += 1
            image.requires_grad_(True)
            (gradient,) = torch.autograd.grad(guide.cams(image)[:, pixels].sum(), image)
            image = image.detach()
            image = inside(image + self.step * ball.radius * steepest(ball, image, gradient))
            with torch.no_grad():
                kept = set(target.cams(image)[0].topk(target.top.k).indices.tolist()) & set(pixels)
            margin = float(target.broken_margins(image)[0])
            # An iterate that lost the label it had to keep is no witness, however few pixels it keeps.
            key = (float(len(kept)) if margin < math.inf else math.inf, margin)
            if key < best_key:
                best, best_key = image[0].clone(), key
            tell_step(steps, self.steps, time.monotonic() - began)
        margin = float(target.broken_margins(best[None])[0])
        return Attempt(best, margin, steps)


def smooth_twin(target: Target, beta: float) -> Target:
    """The same target with every Relu replaced by softplus, for gradients."""
    return replace(target, twin=softplus_twin(target.trunk, beta))
