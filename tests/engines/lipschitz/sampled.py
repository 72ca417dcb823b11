"""Gradients of map pixels at images of a ball, by automatic differentiation."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.network.network import Network
from corgi.types import Ball
from tests.soundness.samples import inside


def images_of(network: Network, ball: Ball, count: int = 12, seed: int = 0) -> Tensor:
    """Images inside a ball, attacks among them, and its centre: float64 [N, C, H, W]."""
    return torch.cat([ball.center.double()[None], inside(network, ball, 0, count, seed)])


def gradients(network: Network, images: Tensor, above: Tensor, below: Tensor | None = None) -> Tensor:
    """Gradients of I_above (- I_below) of class 0 at images [N, C, H, W]: float64 [N, rows, C, H, W]."""
    images = images.clone().requires_grad_(True)
    cams = network.head.cam(network.trunk(images), 0).flatten(1)
    values = cams[:, above] if below is None else cams[:, above] - cams[:, below]
    rows = [torch.autograd.grad(values[:, i].sum(), images, retain_graph=True)[0] for i in range(len(above))]
    return torch.stack(rows, 1)
