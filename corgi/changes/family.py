"""A family of images: clip(x + sum_j A_j t_j, 0, 1), t in a box around 0.

x and A are taken as the exact numbers that their arrays hold, and the set is that in real arithmetic, the
clipping to [0, 1] included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Family:
    """A family for one image.

    Attributes:
        image: x, float64 [C, H, W], in [0, 1].
        directions: A, float64 [d, C, H, W].
        names: what each parameter is, d of them.
        two_sided: of each, whether it runs over [-T, T] at size T, or over [0, T].
    """

    image: Tensor
    directions: Tensor
    names: tuple[str, ...]
    two_sided: tuple[bool, ...]

    @property
    def dimensions(self) -> int:
        """How many parameters there are."""
        return len(self.directions)

    def box(self, size: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper ends of the parameters at a size T."""
        return tuple(-size if both else 0.0 for both in self.two_sided), (size,) * self.dimensions

    def at(self, points: Tensor) -> Tensor:
        """The images at parameters [N, d] as float64 computes them: [N, C, H, W]."""
        return (self.image + torch.einsum("nd,dchw->nchw", points, self.directions)).clamp(0, 1)

    def __add__(self, other: Family) -> Family:
        """Both changes at once, each with parameters of its own."""
        directions = torch.cat([self.directions, other.directions])
        return Family(self.image, directions, self.names + other.names, self.two_sided + other.two_sided)
