"""|gradient| of the class score, "simple gradient" of L and R; averaged over noise: scaled SmoothGrad."""

from __future__ import annotations

from dataclasses import dataclass

from captum.attr import Saliency
from torch import Tensor

from corgi.smoothing.maps.gradients import GradientMap, scaled


@dataclass(frozen=True)
class SaliencyMap(GradientMap):
    """|d score_c / d pixel| over its largest value (Simonyan et al. 2014); scores before any softmax."""

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"saliency of class {self.class_id}, {self.colours} colour"

    def __call__(self, images: Tensor) -> Tensor:
        """Maps of images [B, C, H, W]: float32 [B, n] in [0, 1]; NaN where a gradient is not finite."""
        at = images.detach().clone().requires_grad_(True)
        gradients = Saliency(self.network.logits32).attribute(at, target=self.class_id)
        return scaled(gradients, self.colours)
