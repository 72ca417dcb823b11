"""Base maps made of the values of another one: what they share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.smoothing.interface import BaseMap


@dataclass(frozen=True)
class DerivedMap:
    """A map with the network, the shape and the size of `base`."""

    base: BaseMap

    @property
    def model(self) -> str:
        """Fingerprint of the network."""
        return self.base.model

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the map."""
        return self.base.shape

    @property
    def n(self) -> int:
        """Values of the map."""
        return self.base.n

    @property
    def live(self) -> int:
        """Numbers held for one image: those of the base map, and a few maps in float64."""
        return self.base.live + 8 * self.n


def by_rank(values: Tensor) -> Tensor:
    """Indices of values [B, n], largest first; of equal values the first pixel ranks first: int64 [B, n]."""
    return values.argsort(dim=1, descending=True, stable=True)


def known_where(values: Tensor, found: Tensor) -> Tensor:
    """`found` [B, n], NaN for images of whose values [B, n] one is not finite: ranks say nothing there."""
    return found.masked_fill(~values.isfinite().all(1, keepdim=True), torch.nan)
