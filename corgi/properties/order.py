"""`order`: every one of some pixels stays above every one of some others."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.errors import UsageError
from corgi.properties.formula import Ranking
from corgi.properties.interface import Property, plural
from corgi.results import Place, TopK


@dataclass(frozen=True)
class Order(Property):
    """Pixels stay above others.

    Attributes:
        above, below: their places.
    """

    name = "order"
    above: tuple[Place, ...]
    below: tuple[Place, ...]

    def formula(self, cam: Tensor, top: TopK) -> Ranking:
        """See `Property.formula`."""
        height, width = cam.shape
        for row, column in (*self.above, *self.below):
            if not (0 <= row < height and 0 <= column < width):
                raise UsageError(
                    f"order: pixel [{row}, {column}] of a map of {height} x {width}",
                    hint=f"Expected rows 0-{height - 1}, columns 0-{width - 1}.",
                )
        above, below = (
            tuple(dict.fromkeys(r * width + c for r, c in places)) for places in (self.above, self.below)
        )
        both = set(above) & set(below)
        if both or not (above and below):
            raise UsageError("order: expected pixels above and others below, none on both sides")
        return Ranking(above, below, len(above), len(above))

    def words(self, k: int) -> tuple[str, str]:
        """See `Property.words`."""
        subject, others = (
            f"pixel {list(places[0])}" if len(places) == 1 else f"each of {plural(len(places), thing)}"
            for places, thing in ((self.above, "pixel"), (self.below, "other"))
        )
        return subject, f"stays above {others}"
