"""Random changes of training images that keep their label, so that few things stand for many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How far images of a batch are changed; every number is the half-width of a uniform distribution.

    Attributes:
        warp: of rotation (radians), zoom (relative) and shift (of half the image side).
        stretch: of the logarithm of width to height, cubed towards 0: signs seen from the side are
            rare but narrow.
        saturation: of the relative change of colour against the grey value.
        contrast: of the relative change of contrast about the image's mean.
        tint: of the relative change of each colour channel.
        crop: of a shift by whole pixels along each side; black comes in, as if the image had been padded
            by so many pixels and cut at random.
        mirrored: the class of an image mirrored left to right; classes not in it are not mirrored,
            the others in half of the cases.
    """

    warp: float = 0.0
    stretch: float = 0.0
    saturation: float = 0.0
    contrast: float = 0.0
    tint: float = 0.0
    crop: int = 0
    mirrored: Mapping[int, int] = field(default_factory=dict)

    def apply(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Changed images [N, C, H, W] in [0, 1] and their labels [N]."""
        flips, labels = self._flips(labels, generator)
        if self.warp or self.stretch or self.mirrored:
            images = self._warped(images, flips, generator)
        if self.crop:
            images = self._cropped(images, generator)
        if self.saturation or self.contrast or self.tint:
            images = self._coloured(images, generator)
        return images, labels

    def _flips(self, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        table = torch.full((int(labels.max()) + 1,), -1)
        for source, target in self.mirrored.items():
            if source < len(table):
                table[source] = target
        flips = (torch.rand(len(labels), generator=generator) < 0.5) & (table[labels] >= 0)
        return flips, torch.where(flips, table[labels], labels)

    def _warped(self, images: Tensor, flips: Tensor, generator: torch.Generator) -> Tensor:
        count = len(images)
        angle, zoom, right, down = (self.warp * _uniform((4, count), generator)).unbind()
        aspect = (self.stretch / 2 * _uniform((count,), generator) ** 3).exp()
        across, along = (1 + zoom) * aspect, (1 + zoom) / aspect
        sign = 1 - 2 * flips.to(images.dtype)
        rows = (
            torch.stack([sign * across * angle.cos(), -across * angle.sin(), right], 1),
            torch.stack([sign * along * angle.sin(), along * angle.cos(), down], 1),
        )
        grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _cropped(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        down, right = torch.randint(2 * self.crop + 1, (2, count), generator=generator)
        windows = F.pad(images, (self.crop,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(count), :, down, right]

    def _coloured(self, images: Tensor, generator: torch.Generator) -> Tensor:
        each = (len(images), 1, 1, 1)
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * (1 + self.saturation * _uniform(each, generator))
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * (1 + self.contrast * _uniform(each, generator))
        tints = _uniform((len(images), images.shape[1], 1, 1), generator)
        return (images * (1 + self.tint * tints)).clamp(0, 1)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform on [-1, 1)."""
    return torch.rand(shape, generator=generator) * 2 - 1
