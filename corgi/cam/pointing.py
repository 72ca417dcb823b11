"""The pointing game, generalized to the k largest pixels (theory 7.11), which should lie on the thing."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from corgi.data.region import Region
from corgi.errors import UsageError


def pointing_share(values: Tensor, k: int, region: Region) -> float:
    """Share of the k largest entries of a map [..., h, w] that lie in the thing's region.

    Leading axes are colours. Equal values count by index.

    Raises:
        UsageError: not 1 <= k <= entries of the map, or the region is one of another map.
    """
    if not 1 <= k <= values.numel():
        raise UsageError(f"k = {k}: the map has {values.numel()} entries")
    if values.shape[-2:] != region.shape:
        raise UsageError(f"a region of a map {region.shape}, but this one is {tuple(values.shape[-2:])}")
    largest = values.flatten().argsort(descending=True, stable=True)[:k].numpy()
    return float(np.isin(largest % region.mask.size, region.pixels).mean())
