"""Integrated Gradients (Sundararajan et al. 2017) from the black image."""

from __future__ import annotations

from dataclasses import dataclass

from captum.attr import IntegratedGradients
from torch import Tensor

from corgi.smoothing.maps.gradients import GradientMap, scaled


@dataclass(frozen=True)
class IntegratedGradientsMap(GradientMap):
    """|x_i * mean of d score_c / d x_i along the line from black to x|, over its largest value.

    Attributes:
        steps: points of the Gauss-Legendre quadrature along the line, one gradient each.
    """

    steps: int = 20

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"integrated gradients of class {self.class_id}, {self.steps} steps, {self.colours} colour"

    def __call__(self, images: Tensor) -> Tensor:
        """Maps of images [B, C, H, W]: float32 [B, n] in [0, 1]; NaN where a gradient is not finite."""
        attributions = IntegratedGradients(self.network.logits32).attribute(
            images.detach(),
            target=self.class_id,
            n_steps=self.steps,
            internal_batch_size=len(images),  # one point of the line at a time: memory as for one gradient
        )
        return scaled(attributions.to(images.dtype), self.colours)
