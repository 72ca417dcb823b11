"""The relaxed sparsified map: some values clipped to 1, small ones cut to 0 (theory 7.4; L eq. 2.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.errors import UsageError
from corgi.smoothing.derived import DerivedMap, by_rank, known_where


@dataclass(frozen=True)
class Relaxed(DerivedMap):
    """1 for the `clipped` largest values, 0 behind rank `kept`, value / value_[clipped] between.

    Of equal values the first pixel ranks first. Where value_[clipped] is 0, so are the values between.

    Attributes:
        base: the map whose values are relaxed.
        clipped, kept: gamma n and tau n of the source.

    Raises:
        UsageError: not 1 <= clipped <= kept <= n.
    """

    clipped: int
    kept: int
    binary = False

    def __post_init__(self) -> None:
        if not 1 <= self.clipped <= self.kept <= self.n:
            raise UsageError(
                f"relaxed map: {self.clipped} of {self.n} values clipped and {self.kept} kept,"
                f" expected 1 <= clipped <= kept <= {self.n}"
            )

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"{self.base.name}, {self.clipped} largest clipped, {self.kept} kept"

    def __call__(self, images: Tensor) -> Tensor:
        """Maps of images [B, C, H, W]: [B, n] in [0, 1]; NaN where the base map is not finite."""
        values = self.base(images)
        order = by_rank(values)
        edge = values.gather(1, order[:, self.clipped - 1 : self.clipped])
        between = torch.where(edge > 0, values / edge, 0.0).clamp(max=1.0)
        ones = between.scatter(1, order[:, : self.clipped], 1.0)
        relaxed = ones.scatter(1, order[:, self.kept :], 0.0)
        return known_where(values, relaxed)
