"""The sparsified map: the top tau * n values of a base map become 1, all others 0 (theory 7.4; L Eq. 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.errors import UsageError
from corgi.smoothing.derived import DerivedMap, by_rank, known_where


@dataclass(frozen=True)
class Sparsified(DerivedMap):
    """Exactly `kept` ones a map; among equal values the first pixels are taken.

    Attributes:
        base: the map whose order counts.
        kept: how many values become 1 (tau * n).

    Raises:
        UsageError: `kept` is not between 1 and n - 1.
    """

    kept: int
    binary = True

    def __post_init__(self) -> None:
        if not 1 <= self.kept < self.n:
            raise UsageError(f"sparsified map: {self.kept} of {self.n} pixels kept, expected 1-{self.n - 1}")

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"{self.base.name}, its {self.kept} largest"

    def __call__(self, images: Tensor) -> Tensor:
        """Maps of images [B, C, H, W]: float32 [B, n] of 0 and 1; NaN where the base map is not finite."""
        values = self.base(images)
        order = by_rank(values)[:, : self.kept]
        ones = torch.zeros(values.shape).scatter_(1, order, 1.0)
        return known_where(values, ones)
