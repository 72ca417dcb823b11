"""Which pairs of pixels will change places first, to first order (theory 1.7)."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.attacks.target import ENTRIES, Target
from corgi.cam.topk import outside
from corgi.types import Norm

_CANDIDATES = 48
"""Outside pixels looked at: the largest ones."""

_ROWS = 64
"""Gradients computed in one batch, if they are not too many for `ENTRIES`."""


def critical_pairs(
    target: Target, image: Tensor, count: int, norm: Norm = Norm.LINF
) -> tuple[tuple[int, int], ...]:
    """The `count` pairs (inside, outside) with the smallest linear radius at an image [C, H, W].

    Were the network linear, I_i - I_p would vanish at radius (I_i - I_p) / ||grad I_i - grad I_p||_q, with q
    dual to the norm of the radius.
    """
    with torch.no_grad():
        values = target.cams(image[None])[0]
    others = outside(target.top, len(values))
    others = others[values[others].topk(min(_CANDIDATES, len(others))).indices]
    inside = torch.tensor(target.top.pixels)
    inside = inside[values[inside].topk(min(_CANDIDATES, len(inside)), largest=False).indices]
    above, below = _gradients(target, image, inside), _gradients(target, image, others)
    gaps = values[inside][:, None] - values[others][None, :]
    radii = gaps / torch.cdist(above, below, p=norm.dual.order).clamp(min=torch.finfo(gaps.dtype).tiny)
    best = radii.flatten().topk(min(count, radii.numel()), largest=False).indices
    return tuple((int(inside[i // len(others)]), int(others[i % len(others)])) for i in best.tolist())


def linear_radius(target: Target, image: Tensor, norm: Norm = Norm.LINF) -> float | None:
    """Where the property would break around an image [C, H, W] were the network linear; None if it is flat.

    A guess to start a search from, never a bound. The first of the target's pairs is the nearest, where they
    are known: finding it takes a gradient of every pixel.
    """
    images = image[None].clone().requires_grad_(True)
    if target.k2 == target.top.k:
        above, below = (target.pairs or critical_pairs(target, image, 1, norm))[0]
        cams = target.cams(images)
        margin = (cams[:, above] - cams[:, below]).sum()
    else:
        margin = target.margins(images).sum()
    return vanishing_radius(margin, images, norm)


def vanishing_radius(margin: Tensor, images: Tensor, norm: Norm) -> float | None:
    """Where a margin of one image [1, C, H, W] would be 0 were it linear; None if it is flat or not > 0."""
    (gradient,) = torch.autograd.grad(margin, images)
    value, slope = float(margin.detach()), float(norm.dual.sizes(gradient)[0])
    return value / slope if slope > 0 and value > 0 else None


def _gradients(target: Target, image: Tensor, pixels: Tensor) -> Tensor:
    """Gradients of map pixels with respect to the image: [rows, C * H * W]."""
    parts = []
    for chunk in torch.split(pixels, max(1, min(_ROWS, ENTRIES // image.numel()))):
        images = image.expand(len(chunk), *image.shape).clone().requires_grad_(True)
        values = target.cams(images)[torch.arange(len(chunk)), chunk]
        parts.append(torch.autograd.grad(values.sum(), images)[0].flatten(1))
    return torch.cat(parts)
