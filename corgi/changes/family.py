"""Families of images: one image for each point t of a box around 0.

A family is a set of images in real arithmetic: the numbers that its arrays hold are taken as exact, and what
float64 rounds of its formula is no part of the set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Family(ABC):
    """A family for one image. How its pixels are bounded over boxes of t is in engines/forward, by its kind.

    Attributes:
        image: x, float64 [C, H, W], in [0, 1]; the family's image at t = 0.
        names: what each parameter is, d of them.
        two_sided: of each, whether it runs over [-T, T] at size T, or over [0, T].
        formula: its images, in words; unit: of its parameters, as degrees, or nothing.
        limit: sizes are below it.
    """

    image: Tensor
    names: tuple[str, ...]
    two_sided: tuple[bool, ...]
    formula: ClassVar[str]
    unit: ClassVar[str] = ""
    limit: ClassVar[float] = torch.inf

    @property
    def dimensions(self) -> int:
        """How many parameters there are."""
        return len(self.names)

    def box(self, size: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper ends of the parameters at a size T."""
        return tuple(-size if both else 0.0 for both in self.two_sided), (size,) * self.dimensions

    @abstractmethod
    def at(self, points: Tensor) -> Tensor:
        """The images at parameters [N, d] as float64 computes them: [N, C, H, W], in [0, 1]."""


@dataclass(frozen=True)
class LinearFamily(Family):
    """clip(x + sum_j A_j t_j, 0, 1); the clipping is part of the set.

    Attributes:
        directions: A, float64 [d, C, H, W].
    """

    directions: Tensor
    formula = "clip(x + sum_j t_j A_j, 0, 1)"

    def at(self, points: Tensor) -> Tensor:
        """See `Family.at`."""
        return (self.image + torch.einsum("nd,dchw->nchw", points, self.directions)).clamp(0, 1)

    def __add__(self, other: LinearFamily) -> LinearFamily:
        """Both changes at once, each with parameters of its own."""
        directions = torch.cat([self.directions, other.directions])
        return LinearFamily(
            self.image, self.names + other.names, self.two_sided + other.two_sided, directions
        )
