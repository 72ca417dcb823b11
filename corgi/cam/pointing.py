"""The pointing game, generalized to the k largest pixels (theory 7.11), which should lie on the thing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from corgi.errors import UsageError


def pointing_share(values: Tensor, k: int, mask: NDArray[np.bool_]) -> float:
    """Share of the k largest entries of a map [..., h, w] whose centre lies in the thing's mask [H, W].

    The map may be coarser than the image, as a CAM is; leading axes are colours. Equal values count by index.

    Raises:
        UsageError: not 1 <= k <= entries of the map.
    """
    if not 1 <= k <= values.numel():
        raise UsageError(f"k = {k}: the map has {values.numel()} entries")
    height, width = values.shape[-2:]
    largest = values.flatten().argsort(descending=True, stable=True)[:k].numpy() % (height * width)
    rows, columns = np.divmod(largest, width)
    rows = ((2 * rows + 1) * mask.shape[0]) // (2 * height)
    columns = ((2 * columns + 1) * mask.shape[1]) // (2 * width)
    return float(mask[rows, columns].mean())
