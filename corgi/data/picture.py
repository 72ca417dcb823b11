"""A picture as corgi holds it between the file and the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Picture:
    """A picture in memory.

    Attributes:
        pixels: [H, W, C] float64 in [0, 1]; C is 3 (red, green, blue) or 1 (grey).
        name: where it came from; error messages say it.
    """

    pixels: NDArray[np.float64]
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.pixels.shape[:2]
        return int(height), int(width)

    @property
    def channels(self) -> int:
        """3 for colour, 1 for grey."""
        return int(self.pixels.shape[2])
