"""What every base map offers: the map h that is averaged over noise."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class BaseMap(Protocol):
    """A bounded map of images (theory 7, notation): a frozen value whose fields are its options.

    One row depends on its own image alone, not on the others of the batch, and not on the tally's state.
    """

    @property
    def name(self) -> str:
        """Name with all options that change a value, as `sparsified cam, tau = 0.1`.

        Saved counts of another name are refused.
        """

    @property
    def model(self) -> str:
        """What the values depend on beside image and name, as `Network.fingerprint`; empty if on nothing.

        Saved counts of another model are refused.
        """

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of one map."""

    @property
    def n(self) -> int:
        """Values of one map: h * w."""

    @property
    def binary(self) -> bool:
        """Whether every value is 0 or 1."""

    @property
    def live(self) -> int:
        """Numbers held at once while the map of one image is computed, about: batches are sized by it."""

    def __call__(self, images: Tensor) -> Tensor:
        """The maps of images [B, C, H, W], float32, pixel scale, which noise may take out of [0, 1].

        Returns values in [0, 1], float32 or float64 [B, n], row-major; `binary` ones are 0 or 1.
        """
