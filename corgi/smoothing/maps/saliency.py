"""|gradient| of the class score, "simple gradient" of L and R; averaged over noise: scaled SmoothGrad."""

from __future__ import annotations

from dataclasses import dataclass

from captum.attr import Saliency
from torch import Tensor

from corgi.network.network import Network
from corgi.smoothing.maps.gradients import Colours, scaled


@dataclass(frozen=True)
class SaliencyMap:
    """|d score_c / d pixel| over its largest value (Simonyan et al. 2014); scores before any softmax.

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
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"saliency of class {self.class_id}, {self.colours} colour"

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

    def __call__(self, images: Tensor) -> Tensor:
        """Maps of images [B, C, H, W]: float32 [B, n] in [0, 1]; NaN where a gradient is not finite."""
        at = images.detach().clone().requires_grad_(True)
        gradients = Saliency(self.network.logits32).attribute(at, target=self.class_id)
        return scaled(gradients, self.colours)
