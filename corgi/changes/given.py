"""Directions that a user hands over: one pattern, or a basis of several."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.changes.interface import LinearChange


@dataclass(frozen=True, eq=False)
class Basis(LinearChange):
    """x + sum_j t_j A_j.

    Attributes:
        given: A, [d, C, H, W], of finite numbers.
        source: its file, or what else it is.
    """

    name = "basis"
    effect = "any directions: a basis from a file"
    two_sided = True
    given: Tensor
    source: str = "array"

    def directions(self, image: Tensor) -> Tensor:
        """As they were given."""
        return self.given.to(torch.float64)

    def __str__(self) -> str:
        return f"{self.name}:{self.source}"


class NoisePattern(Basis):
    """The same of one pattern [C, H, W]: of a sensor, a compression, a scratched lens."""

    name = "noise-pattern"
    effect = "a fixed pattern on top of the image"

    def directions(self, image: Tensor) -> Tensor:
        """As it was given."""
        return self.given.to(torch.float64)[None] if self.given.ndim == 3 else self.given.to(torch.float64)
