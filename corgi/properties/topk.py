"""`topk`: the k largest pixels stay among the k2 largest (G; theory 1.4, 1.5)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.cam.topk import check_ranks
from corgi.properties.formula import Ranking
from corgi.properties.interface import Property, others
from corgi.results import TopK


def stays(top: TopK, k2: int, pixels: int) -> Ranking:
    """A top-k set stays among the k2 largest of so many pixels.

    Raises:
        UsageError: not k <= k2 < pixels.
    """
    check_ranks(top.k, k2, pixels)
    return Ranking(top.pixels, others(top.pixels, pixels), top.k, k2)


@dataclass(frozen=True)
class Topk(Property):
    """The set stays the same, or among the k2 largest.

    Attributes:
        k2: None for k.
    """

    name = "topk"
    k2: int | None = None

    def formula(self, cam: Tensor, top: TopK) -> Ranking:
        """See `Property.formula`."""
        return stays(top, self.among(top.k), cam.numel())

    def among(self, k: int) -> int:
        """See `Property.among`."""
        return k if self.k2 is None else self.k2

    def words(self, k: int) -> tuple[str, str]:
        """See `Property.words`."""
        single = k == 1
        subject = "the largest pixel" if single else f"the {k} largest pixels"
        if self.k2 is not None and self.k2 > k:
            return subject, f"{'stays' if single else 'stay'} among the {self.k2} largest"
        return subject, "stays the same" if single else "stay the same"
