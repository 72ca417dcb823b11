"""Images inside a ball that are likely to leave wrong bounds: random, corners, and gradient attacks.

In l_2 and l_1: random directions at random distances, the sphere along few or all pixels (corners of the l_1
ball among them), and attacks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from corgi.attacks.steps import Projection, steepest
from corgi.network.network import Network
from corgi.types import Ball, Norm, Where

PLACES = ("box", "channel", "shares", "one")
"""Kinds of places that may change alone."""


def places(kind: str, shape: tuple[int, ...], seed: int) -> Where:
    """Some places of an image [C, H, W], of a kind."""
    rng, scale = np.random.default_rng(seed), np.zeros(shape)
    channel, top, left = (int(rng.integers(0, size)) for size in shape)
    if kind == "shares":
        scale = rng.random(shape) * (rng.random(shape) < 0.7)
        scale[channel, top, left] = 1
    elif kind == "one":
        scale[channel, top, left] = 1
    elif kind == "channel":
        scale[channel] = 1
    else:
        scale[:, top : top + 4, left : left + 4] = 1
    return Where(torch.from_numpy(scale), kind)


def inside(network: Network, ball: Ball, class_id: int, count: int, seed: int) -> Tensor:
    """`count` images [count, C, H, W] float64 inside the ball and the pixel box: a third of each kind."""
    generator = torch.Generator().manual_seed(seed)
    box = ball.inner_box(torch.float64)
    third = count // 3
    if ball.norm is not Norm.LINF:
        changes = torch.cat([_within(ball, third, generator), _on_sphere(ball, third, generator)])
        attacked = _extremes(network, ball, class_id, count - 2 * third, generator)
        return torch.cat([Projection(ball, torch.float64)(ball.center.to(torch.float64) + changes), attacked])
    share = torch.rand(third, *ball.center.shape, generator=generator, dtype=torch.float64)
    uniform = box.lower + share * (box.upper - box.lower)
    signs = torch.rand(third, *ball.center.shape, generator=generator) < 0.5
    corners = torch.where(signs, box.lower, box.upper)
    attacked = _extremes(network, ball, class_id, count - 2 * third, generator)
    return torch.cat([uniform, corners, attacked]).clamp(box.lower, box.upper)


def _within(ball: Ball, count: int, generator: torch.Generator) -> Tensor:
    changes = torch.randn(count, *ball.center.shape, generator=generator, dtype=torch.float64)
    changes = changes if ball.scale is None else changes * ball.scale
    shares = torch.rand(count, 1, 1, 1, generator=generator, dtype=torch.float64)
    return shares * ball.radius * changes / ball.norm.sizes(changes)[:, None, None, None]


def _on_sphere(ball: Ball, count: int, generator: torch.Generator) -> Tensor:
    """One pixel, a few, or all, changed by as much each."""
    signs = torch.randint(0, 2, (count, *ball.center.shape), generator=generator, dtype=torch.float64) * 2 - 1
    first = torch.rand(count, *ball.center.shape, generator=generator)
    first = first if ball.scale is None else first + (ball.scale == 0)  # those that may not change come last
    order = first.flatten(1).argsort(1).argsort(1).reshape(signs.shape)
    few = torch.tensor([1, 2, 5, ball.center.numel()])[torch.arange(count) % 4][:, None, None, None]
    signs = torch.where(order < few, signs, 0)
    signs = signs if ball.scale is None else signs * ball.scale
    return ball.radius * signs / ball.norm.sizes(signs)[:, None, None, None]


def _extremes(network: Network, ball: Ball, class_id: int, count: int, generator: torch.Generator) -> Tensor:
    """Steepest ascent on randomly chosen map pixels and differences of two of them."""
    inside = Projection(ball, torch.float64)
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
        images = images.detach()
        images = inside(images - step * ball.radius * steepest(ball, images, gradient))
    return images
