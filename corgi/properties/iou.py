"""`iou`: the mask of large pixels keeps so much of its intersection over union.

The mask of a map is {p : I_p >= theta max I}, as weakly supervised localisation takes it. Let S be the mask
at the image. Of another mask u pixels of S are missing and v others are new: IoU = (|S| - u) / (|S| + v).
So it falls below c exactly where u + c v > (1 - c) |S|; of these (u, v) the least are enough. With t =
theta max I, u pixels of S are missing iff I_(u) of S is < t, and v are new iff I^(v) of the others is >= t.
So for each least pair (u, v) one of

    I_(u) of S > t,     t > I^(v) of the others,     I_(u) of S > I^(v) of the others

must hold, where the third implies that one of the first two does: t cannot lie between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from corgi.errors import UsageError
from corgi.properties.formula import All, Any, Formula, Ranking, together
from corgi.properties.interface import Property, others
from corgi.results import TopK


@dataclass(frozen=True)
class Iou(Property):
    """The mask stays, up to an intersection over union.

    Attributes:
        threshold: theta, in (0, 1): of the map's maximum.
        iou: c, in (0, 1].
    """

    name = "iou"
    threshold: float = 0.5
    iou: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise UsageError(f"threshold = {self.threshold}: expected a share of the maximum in (0, 1)")
        if not 0 < self.iou <= 1:
            raise UsageError(f"iou = {self.iou}: expected an intersection over union in (0, 1]")

    def mask(self, cam: Tensor) -> tuple[int, ...]:
        """The mask of a map [h, w]: flat indices."""
        values = cam.reshape(-1)
        return tuple(int(i) for i in (values >= self.threshold * values.max()).nonzero().reshape(-1))

    def formula(self, cam: Tensor, top: TopK) -> Formula:
        """See `Property.formula`."""
        if not float(cam.max()) > 0:
            raise UsageError(
                f"iou: the largest value of the map is {float(cam.max()):.3g}",
                hint="A mask relative to the maximum needs a map with a positive one.",
            )
        mask, rest = self.mask(cam), others(self.mask(cam), cam.numel())
        parts = [
            self._keeps(mask, rest, missing, new)
            for missing, new in least_changes(len(mask), len(rest), self.iou)
        ]
        if not parts:
            raise UsageError(
                f"iou: no map has less than {self.iou:g} in common with a mask of {len(mask)} pixels"
            )
        return together(parts, All)

    def _keeps(self, mask: tuple[int, ...], rest: tuple[int, ...], missing: int, new: int) -> Formula:
        """Not so many are missing, or not so many are new."""
        everything, found = tuple(range(len(mask) + len(rest))), list[Formula]()
        keep = len(mask) - missing + 1
        if missing:
            found.append(Ranking(mask, everything, keep, keep, down=self.threshold))
        if new:
            found.append(Ranking(everything, rest, 1, new, up=self.threshold))
        if missing and new:
            found.append(Ranking(mask, rest, keep, keep + new - 1))
        return together(found, Any)

    def words(self, k: int) -> tuple[str, str]:
        """See `Property.words`."""
        return (
            f"the mask of pixels of at least {self.threshold:g} of the maximum",
            f"keeps an intersection over union of at least {self.iou:g} with the original one",
        )


def least_changes(size: int, rest: int, iou: float) -> list[tuple[int, int]]:
    """The least (missing, new) that take a mask of so many pixels below an IoU, of so many others."""
    share, found = Fraction(iou), list[tuple[int, int]]()
    for new in range(rest + 1):
        missing = max(math.floor(size - share * (size + new)) + 1, 0)
        if missing <= size and (not found or missing < found[-1][0]):
            found.append((missing, new))
        if missing == 0:
            break
    return found
