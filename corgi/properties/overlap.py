"""`overlap`: at least M of the k largest pixels stay among the k largest.

The deterministic counterpart of the beta-top-k overlap of Levine et al. and Liu et al. Pixels that leave the
set and those that take their places are equally many, g = k - M + 1 of each where it is broken, and each of
the latter stands at or above each of the former.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.errors import UsageError
from corgi.properties.formula import Ranking
from corgi.properties.interface import Property, others
from corgi.results import TopK


@dataclass(frozen=True)
class Overlap(Property):
    """So many of the k largest stay among them.

    Attributes:
        keep: M, from 1 to k.
    """

    name = "overlap"
    keep: int

    def formula(self, cam: Tensor, top: TopK) -> Ranking:
        """See `Property.formula`."""
        if not 1 <= self.keep <= top.k:
            raise UsageError(f"keep = {self.keep} of the k = {top.k} largest: expected 1-{top.k}")
        return Ranking(top.pixels, others(top.pixels, cam.numel()), self.keep, top.k)

    def words(self, k: int) -> tuple[str, str]:
        """See `Property.words`."""
        return f"at least {self.keep} of the {k} largest pixels", f"stay among the {k} largest"
