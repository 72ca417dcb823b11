"""The camera moves a little: the image is rotated, shifted or scaled about its centre.

The pixel at (X, Y), columns to the right and rows downwards, takes the image's value at the place
c + M(t) (1, X - c_x, Y - c_y), c the middle of the image and M a matrix of 2 rows. The value at a place is
interpolated bilinearly between the four pixels around it, the image continued beyond its edges by its
outermost pixels: torch's `grid_sample` with `align_corners=False` and `padding_mode="border"`.

As all values are means of pixels, they lie in [0, 1]: nothing is clipped.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from corgi.changes.family import Family
from corgi.changes.interface import Change

_ENTRIES = 2**20
"""Entries of images that are made at once."""


@dataclass(frozen=True)
class MotionFamily(Family, ABC):
    """Images seen by a camera that has moved."""

    @staticmethod
    @abstractmethod
    def matrices(points: Tensor) -> Tensor:
        """M at parameters [N, d] as float64 computes it: [N, 2, 3]."""

    @property
    def centre(self) -> Tensor:
        """c, float64 [2, 1]: its column and its row, exact."""
        height, width = self.image.shape[1:]
        return torch.tensor([[(width - 1) / 2], [(height - 1) / 2]], dtype=torch.float64)

    @property
    def offsets(self) -> Tensor:
        """(1, X - c_x, Y - c_y) of all pixels, row by row, exact: float64 [3, H * W]."""
        rows, columns = (torch.arange(size, dtype=torch.float64) for size in self.image.shape[1:])
        y, x = torch.meshgrid(rows - rows[-1] / 2, columns - columns[-1] / 2, indexing="ij")
        return torch.stack([torch.ones_like(x), x, y]).flatten(1)

    def places(self, points: Tensor) -> Tensor:
        """Where pixels look at parameters [N, d]: column and row, [N, 2, H * W]."""
        return self.centre + self.matrices(points) @ self.offsets

    def at(self, points: Tensor) -> Tensor:
        """See `Family.at`."""
        some = torch.split(points, max(1, _ENTRIES // self.image.numel()))
        found = torch.cat([sampled(self.image, self.places(part)) for part in some])
        return found.reshape(-1, *self.image.shape).clamp(0, 1)


def pixels_at(image: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Pixels [N, C, P] of an image [C, H, W] at whole places [N, P], continued beyond its edges."""
    height, width = image.shape[1:]
    index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return image.flatten(1)[:, index.to(torch.int64)].movedim(1, 0)


def sampled(image: Tensor, places: Tensor) -> Tensor:
    """Values [N, C, P] of an image [C, H, W] at places [N, 2, P], between pixels bilinearly."""
    column, row = (places.floor()[:, axis] for axis in (0, 1))
    across, down = (places[:, :1] - column[:, None]), (places[:, 1:] - row[:, None])
    upper, lower = (
        (1 - across) * pixels_at(image, column, y) + across * pixels_at(image, column + 1, y)
        for y in (row, row + 1)
    )
    return (1 - down) * upper + down * lower


@dataclass(frozen=True)
class RotationFamily(MotionFamily):
    """Rotated by t degrees; pixels look along the opposite turn."""

    formula = "x rotated by t degrees about its centre, bilinear, edges continued"
    unit = "degrees"
    limit = 90.0

    @staticmethod
    def matrices(points: Tensor) -> Tensor:
        """See `MotionFamily.matrices`."""
        angle = points[:, 0] * (math.pi / 180)
        sine, cosine, none = angle.sin(), angle.cos(), torch.zeros_like(angle)
        rows = torch.stack([none, cosine, -sine], 1), torch.stack([none, sine, cosine], 1)
        return torch.stack(rows, 1)


@dataclass(frozen=True)
class ShiftFamily(MotionFamily):
    """Shifted by t_1 pixels to the right and t_2 down."""

    formula = "x shifted by t_1 pixels to the right and t_2 down, bilinear, edges continued"
    unit = "pixels"

    @staticmethod
    def matrices(points: Tensor) -> Tensor:
        """See `MotionFamily.matrices`."""
        same = torch.eye(2, dtype=points.dtype).expand(len(points), 2, 2)
        return torch.cat([-points[:, :, None], same], 2)


@dataclass(frozen=True)
class ScaleFamily(MotionFamily):
    """Everything 1 + t times as large."""

    formula = "x scaled by 1 + t about its centre, bilinear, edges continued"
    limit = 1.0

    @staticmethod
    def matrices(points: Tensor) -> Tensor:
        """See `MotionFamily.matrices`."""
        same = torch.eye(2, 3, dtype=points.dtype).roll(1, 1)
        return same / (1 + points[:, :, None])


@dataclass(frozen=True)
class Motion(Change):
    """A change of geometry.

    Attributes:
        kind: its family; parameters: what each of them is.
    """

    kind: ClassVar[type[MotionFamily]]
    parameters: ClassVar[tuple[str, ...]]

    def family(self, image: Tensor) -> MotionFamily:
        """See `Change.family`."""
        return self.kind(image, self.parameters, (True,) * len(self.parameters))


@dataclass(frozen=True)
class Rotation(Motion):
    """By t degrees about the centre, counter-clockwise for t > 0."""

    name = "rotation"
    effect = "a camera that is turned, or a sign that is"
    kind = RotationFamily
    usual = 2.0
    parameters = ("degrees counter-clockwise",)


@dataclass(frozen=True)
class Shift(Motion):
    """By t_1 pixels to the right and t_2 down."""

    name = "shift"
    effect = "a camera that points elsewhere, or a box around the sign that is off"
    kind = ShiftFamily
    usual = 1.0
    parameters = ("pixels to the right", "pixels down")


@dataclass(frozen=True)
class Scale(Motion):
    """By a factor of 1 + t about the centre."""

    name = "scale"
    effect = "zoom, or another distance"
    kind = ScaleFamily
    usual = 0.05
    parameters = ("scale - 1",)
