"""Integrated Gradients (Sundararajan et al. 2017) from the black image."""

from __future__ import annotations

from dataclasses import dataclass

from captum.attr import IntegratedGradients
from torch import Tensor

from corgi.network.network import Network
from corgi.smoothing.maps.gradients import Colours, scaled

_ROWS = 256
"""Gradients computed in one batch."""


@dataclass(frozen=True)
class IntegratedGradientsMap:
    """|x_i * mean of d score_c / d x_i along the line from black to x|, over its largest value.

    Attributes:
        network, class_id, colours: as of `SaliencyMap`.
        steps: points of the Gauss-Legendre quadrature along the line, one gradient each.
    """

    network: Network
    class_id: int
    colours: Colours = Colours.LARGEST
    steps: int = 20
    binary = False

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"integrated gradients of class {self.class_id}, {self.steps} steps, {self.colours} colour"

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
        attributions = IntegratedGradients(self.network.logits32).attribute(
            images.detach(),
            target=self.class_id,
            n_steps=self.steps,
            internal_batch_size=max(_ROWS, len(images)),
        )
        return scaled(attributions.to(images.dtype), self.colours)
