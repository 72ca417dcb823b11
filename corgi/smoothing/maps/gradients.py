"""What maps made of gradients share: absolute values, colours, the scale [0, 1] (theory 7.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from corgi.network.network import Network


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


@dataclass(frozen=True)
class GradientMap:
    """A map made of gradients of a class score.

    Attributes:
        network: the network, in float32 arithmetic.
        class_id: c, fixed at the explained image: at a noisy image another class may be predicted.
        colours: what becomes of a pixel's colours.
    """

    network: Network
    class_id: int
    colours: Colours = Colours.LARGEST
    binary = False

    @property
    def model(self) -> str:
        """Fingerprint of the network."""
        return self.network.fingerprint

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the map."""
        return self.colours.shape(self.network.input_shape)

    @property
    def n(self) -> int:
        """Values of the map."""
        return self.shape[0] * self.shape[1]

    @property
    def live(self) -> int:
        """Numbers held for one image: all values, and at most as many gradients."""
        network = self.network
        return 2 * sum(math.prod(network.shapes[step.output]) for step in network.trunk.steps)


def scaled(gradients: Tensor, colours: Colours) -> Tensor:
    """|gradients| [B, C, H, W] over their largest value in each image: [B, n] in [0, 1].

    0 where a gradient is 0 everywhere, NaN where it is not finite.
    """
    sizes = gradients.detach().abs()
    sizes = (sizes.amax(1) if colours is Colours.LARGEST else sizes).flatten(1)
    largest = sizes.amax(1, keepdim=True)
    shares = torch.where(largest > 0, sizes / largest, 0.0)
    return shares.masked_fill(~sizes.isfinite().all(1, keepdim=True), torch.nan)
