"""`pointing`: the largest pixel of the map lies inside a region, on each image another one, perhaps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.properties.formula import Ranking
from corgi.properties.interface import Property, check_region, others
from corgi.results import TopK


@dataclass(frozen=True)
class Pointing(Property):
    """The map points at a region.

    Attributes:
        region: map pixels, flat indices.
    """

    name = "pointing"
    region: tuple[int, ...]

    def formula(self, cam: Tensor, top: TopK) -> Ranking:
        """See `Property.formula`."""
        region = check_region(self.region, cam.numel())
        return Ranking(region, others(region, cam.numel()), 1, 1)

    def words(self, k: int) -> tuple[str, str]:
        """See `Property.words`."""
        return "the largest pixel", "lies inside the region"
