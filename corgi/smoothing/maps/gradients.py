"""What maps made of gradients share: absolute values, colours, the scale [0, 1] (theory 7.4)."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor


class Colours(StrEnum):
    """What becomes of the colours of a pixel's gradient."""

    LARGEST = "largest"
    """One value a pixel, the largest absolute one (Simonyan et al. 2014): n = H * W, as pictures need."""
    EACH = "each"
    """All of them, as in L: n = C * H * W, the colours below each other in a map of C * H rows."""

    def shape(self, input_shape: tuple[int, int, int]) -> tuple[int, int]:
        """(h, w) of the map of an input [C, H, W]."""
        channels, height, width = input_shape
        return (height if self is Colours.LARGEST else channels * height), width


def scaled(gradients: Tensor, colours: Colours) -> Tensor:
    """|gradients| [B, C, H, W] over their largest value in each image: [B, n] in [0, 1].

    0 where a gradient is 0 everywhere, NaN where it is not finite.
    """
    sizes = gradients.detach().abs()
    sizes = (sizes.amax(1) if colours is Colours.LARGEST else sizes).flatten(1)
    largest = sizes.amax(1, keepdim=True)
    shares = torch.where(largest > 0, sizes / largest, 0.0)
    return shares.masked_fill(~sizes.isfinite().all(1, keepdim=True), torch.nan)
