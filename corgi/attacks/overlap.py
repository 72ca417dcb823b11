"""What attacks on the overlap of top-k sets share: the sum they lower and what they bring home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.attacks.twin import Guide

Labels = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] -> their classes, int64 [N]."""


@dataclass(frozen=True)
class Perturbed:
    """An image that an attack on a map's top-k overlap ends at.

    Empirical: what share of the top-k pixels it loses is measured on the true map, not on the guide.

    Attributes:
        image: [C, H, W] float32, inside the ball.
        objective: D at it: minus the sum of the guide's values at the original top-k pixels.
        gradients: gradient evaluations spent.
    """

    image: Tensor
    objective: float
    gradients: int


def ascent(guide: Guide, images: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(D, its gradient) at images [N, C, H, W]: [N] and [N, C, H, W].

    D(z) = - sum over the original top-k pixels i of h_i(z)  (L Alg. 1, line 1).
    """
    at = images.clone().requires_grad_(True)
    values = -guide(at)[:, pixels].sum(1)
    (gradient,) = torch.autograd.grad(values.sum(), at)
    return values.detach(), gradient.nan_to_num(0.0, 0.0, 0.0)


def kept_share(before: Tensor, after: Tensor, k: int) -> float:
    """Share of the k largest entries of a map [n] that are among the k largest of another.

    Equal values are ranked by index in both, so the answer is one number whatever ties there are.
    """
    order = (before.argsort(descending=True, stable=True), after.argsort(descending=True, stable=True))
    first, second = (set(found[:k].tolist()) for found in order)
    return len(first & second) / k
