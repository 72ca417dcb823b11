"""`inside`: at least M of the k largest pixels lie inside a region.

It is broken where fewer than M pixels of the region are among the k largest, whichever they are: so where
k - M + 1 pixels outside stand at or above the M-th largest inside.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.errors import UsageError
from corgi.properties.formula import Ranking
from corgi.properties.interface import Property, check_region, others, plural
from corgi.results import TopK


@dataclass(frozen=True)
class Inside(Property):
    """So many of the k largest lie in a region.

    Attributes:
        keep: M, from 1 to k.
        region: map pixels, flat indices.
    """

    name = "inside"
    keep: int
    region: tuple[int, ...]

    def formula(self, cam: Tensor, top: TopK) -> Ranking:
        """See `Property.formula`."""
        region = check_region(self.region, cam.numel())
        if not 1 <= self.keep <= min(top.k, len(region)):
            raise UsageError(
                f"keep = {self.keep} of the k = {top.k} largest in a region of {plural(len(region))}:"
                f" expected 1-{min(top.k, len(region))}"
            )
        return Ranking(region, others(region, cam.numel()), self.keep, top.k)

    def words(self, k: int) -> tuple[str, str]:
        """See `Property.words`."""
        verb = "lies" if self.keep == 1 else "lie"
        return f"at least {self.keep} of the {k} largest pixels", f"{verb} inside the region"
