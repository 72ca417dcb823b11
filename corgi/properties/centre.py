"""`centre`: the mass centre of the positive part of the map stays within D map pixels, along either axis.

With J_p = max(I_p, 0), y_p the row of pixel p and c that of the centre at the image, the centre's row stays
within D of c iff  sum_p (y_p - c + D) J_p > 0  and  sum_p (c + D - y_p) J_p > 0; the same for columns. Both
together imply that the positive part is not empty, so that there is a centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.errors import UsageError
from corgi.properties.formula import Balance
from corgi.properties.interface import Property
from corgi.results import TopK


@dataclass(frozen=True)
class Centre(Property):
    """The centre stays.

    Attributes:
        within: D, in map pixels, along rows and along columns.
    """

    name = "centre"
    within: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.within) and self.within > 0):
            raise UsageError(f"within = {self.within}: expected a distance in map pixels > 0")

    def formula(self, cam: Tensor, top: TopK) -> Balance:
        """See `Property.formula`."""
        positive = cam.clamp(min=0)
        if not float(positive.sum()) > 0:
            raise UsageError("centre: no pixel of the map is > 0, so that it has no mass centre")
        rows = list[tuple[float, ...]]()
        for axis, size in enumerate(cam.shape):
            shape = (-1, 1) if axis == 0 else (1, -1)
            place = torch.arange(size, dtype=torch.float64).reshape(shape).expand(cam.shape)
            away = (place - float((place * positive).sum() / positive.sum())).flatten()
            rows += [tuple((self.within + away).tolist()), tuple((self.within - away).tolist())]
        return Balance(tuple(rows))

    def words(self, k: int) -> tuple[str, str]:
        """See `Property.words`."""
        return (
            "the mass centre of the positive part",
            f"stays within {self.within:g} map pixel{'' if self.within == 1 else 's'} along rows and columns",
        )
