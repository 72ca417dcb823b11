"""Light: brightness, contrast, darkness, colour, and a shadow on a part of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.changes.interface import LinearChange
from corgi.errors import UsageError


@dataclass(frozen=True)
class Brightness(LinearChange):
    """x + t: every value of every pixel by the same amount."""

    name = "brightness"
    effect = "exposure: more or less light on everything, by the same amount"
    two_sided = True

    def directions(self, image: Tensor) -> Tensor:
        """Ones."""
        return torch.ones_like(image)[None]


@dataclass(frozen=True)
class Contrast(LinearChange):
    """x + t (x - mean): away from the image's own mean, or towards it.

    Its mean over all values, not 1/2: of a dark image a change around 1/2 would be one of brightness, too,
    and `brightness+contrast` would have two names for one thing.
    """

    name = "contrast"
    effect = "contrast around the image's own mean"
    two_sided = True

    def directions(self, image: Tensor) -> Tensor:
        """The image less its mean."""
        return (image - image.mean())[None]


@dataclass(frozen=True)
class Darken(LinearChange):
    """x - t x: all light dimmed by the same share."""

    name = "darken"
    effect = "dusk: all light dimmed by a share"
    two_sided = False

    def directions(self, image: Tensor) -> Tensor:
        """Towards black."""
        return -image[None]


@dataclass(frozen=True)
class Colour(LinearChange):
    """Each colour channel by a gain of its own, 1 + t_j: three parameters."""

    name = "colour"
    effect = "colour of the light, white balance: a gain for each of red, green and blue"
    two_sided = True

    def directions(self, image: Tensor) -> Tensor:
        """One channel each."""
        if len(image) != 3:
            raise UsageError(f"change {self}: the network takes {len(image)} channels, expected 3 (colour)")
        return torch.eye(3, dtype=image.dtype)[:, :, None, None] * image

    def parameters(self, count: int) -> tuple[str, ...]:
        """By channel."""
        return "red gain", "green gain", "blue gain"


@dataclass(frozen=True)
class Shadow(LinearChange):
    """x - t x on some pixels, the others as they are.

    Attributes:
        pixels: flat indices of pixels of the network's input (row by row).
        source: what the region is, in words.
    """

    name = "shadow"
    effect = "a shadow with hard edges on a region: its light dimmed by a share"
    two_sided = False
    pixels: tuple[int, ...]
    source: str = "region"

    def directions(self, image: Tensor) -> Tensor:
        """Towards black, on the region."""
        size = image[0].numel()
        if not self.pixels or min(self.pixels) < 0 or max(self.pixels) >= size:
            raise UsageError(f"change {self}: expected some of the pixels 0-{size - 1} of the input")
        mask = torch.zeros(size, dtype=image.dtype)
        mask[list(self.pixels)] = 1
        return -(image * mask.reshape(image.shape[1:]))[None]

    def __str__(self) -> str:
        return f"{self.name}:{self.source}"
