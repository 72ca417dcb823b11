"""Images inside a ball that are likely to leave wrong bounds: random, corners, and gradient attacks."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.network.network import Network
from corgi.types import Ball


def inside(network: Network, ball: Ball, class_id: int, count: int, seed: int) -> Tensor:
    """`count` images [count, C, H, W] float64 inside the ball and the pixel box: a third of each kind."""
    generator = torch.Generator().manual_seed(seed)
    box = ball.inner_box(torch.float64)
    third = count // 3
    share = torch.rand(third, *ball.center.shape, generator=generator, dtype=torch.float64)
    uniform = box.lower + share * (box.upper - box.lower)
    signs = torch.rand(third, *ball.center.shape, generator=generator) < 0.5
    corners = torch.where(signs, box.lower, box.upper)
    attacked = _extremes(network, ball, class_id, count - 2 * third, generator)
    return torch.cat([uniform, corners, attacked]).clamp(box.lower, box.upper)


def _extremes(network: Network, ball: Ball, class_id: int, count: int, generator: torch.Generator) -> Tensor:
    """Signed gradient ascent on randomly chosen map pixels and differences of two of them."""
    box = ball.inner_box(torch.float64)
    rows = torch.arange(count)
    weights = torch.zeros(count, network.pixels, dtype=torch.float64)
    weights[rows, torch.randint(network.pixels, (count,), generator=generator)] += 1
    others = torch.randint(network.pixels, (count,), generator=generator)
    weights[rows, others] -= (rows % 2).to(torch.float64)
    weights *= torch.where(rows % 3 == 0, -1.0, 1.0)[:, None]
    images = ball.center.to(torch.float64).expand(count, *ball.center.shape).clone()
    for step in (1.0, 0.5, 0.25, 0.1, 0.05):
        images.requires_grad_(True)
        cams = network.head.cam(network.trunk(images), class_id).flatten(1)
        (gradient,) = torch.autograd.grad((cams * weights).sum(), images)
        images = (images.detach() + step * ball.radius * gradient.sign()).clamp(box.lower, box.upper)
    return images
