"""The class activation map as a base map (theory 7.4), rescaled to [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.network.network import Network
from corgi.results import MapKind


@dataclass(frozen=True)
class CamMap:
    """(I - min I) / (max I - min I) of each image's own map I; 0 where a map is constant.

    Attributes:
        network: the network; of Grad-CAM: with the weights of the explained image (`Network.explaining`),
            which noise does not change.
        class_id: the class.
    """

    network: Network
    class_id: int
    binary = False

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        fixed = ", weights fixed at the explained image" if self.network.map_kind is MapKind.GRADCAM else ""
        return f"{self.network.map_kind} of class {self.class_id}{fixed}"

    @property
    def model(self) -> str:
        """Fingerprint of the network."""
        return self.network.fingerprint

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the map."""
        return self.network.head.map_shape

    @property
    def n(self) -> int:
        """Pixels of the map."""
        return self.network.pixels

    @property
    def live(self) -> int:
        """Numbers held for one image."""
        return self.network.trunk.live(self.network.shapes)

    def __call__(self, images: Tensor) -> Tensor:
        """Maps of images [B, C, H, W]: float32 [B, n] in [0, 1]."""
        with torch.no_grad():
            features = self.network.trunk32(images)
            cams = self.network.head.cam(features, self.class_id).flatten(1)
        low, high = cams.aminmax(dim=1, keepdim=True)
        # 0 / tiny where the map is constant; a quotient can exceed 1 by a rounding.
        return ((cams - low) / (high - low).clamp(min=torch.finfo(cams.dtype).tiny)).clamp(max=1.0)
