"""The lens: blur, and the sharpening that software adds.

One Gaussian kernel: standard deviation 1 pixel of the network's input, 7 x 7 (radius 3), the image continued
beyond its edges by its outermost pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.changes.interface import LinearChange

SIGMA, RADIUS = 1.0, 3
"""Of the kernel, in pixels."""


def blurred(image: Tensor) -> Tensor:
    """An image [C, H, W] behind the kernel, each channel by itself."""
    place = torch.arange(-RADIUS, RADIUS + 1, dtype=image.dtype)
    weight = torch.exp(-(place**2) / (2 * SIGMA**2))
    weight = weight / weight.sum()
    padded = F.pad(image[:, None], (RADIUS,) * 4, mode="replicate")
    found = F.conv2d(F.conv2d(padded, weight.reshape(1, 1, -1, 1)), weight.reshape(1, 1, 1, -1))
    return found[:, 0]


@dataclass(frozen=True)
class Blur(LinearChange):
    """x + t (blur(x) - x): a share t of the blurred image."""

    name = "blur"
    effect = "out of focus: a share of the image behind one Gaussian kernel"
    two_sided = False

    def directions(self, image: Tensor) -> Tensor:
        """Towards the blurred image."""
        return (blurred(image) - image)[None]


@dataclass(frozen=True)
class Sharpen(LinearChange):
    """x + t (x - blur(x)): unsharp masking."""

    name = "sharpen"
    effect = "sharpening by software (unsharp masking)"
    two_sided = False

    def directions(self, image: Tensor) -> Tensor:
        """Away from the blurred image."""
        return (image - blurred(image))[None]
