"""What an attack aims at: the map of one class, its top-k set, and the value that must fall below zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.cam.topk import decision_margin
from corgi.network.convert import TorchGraph
from corgi.network.network import Network
from corgi.results import TopK

ENTRIES = 2**20
"""Image entries passed through a network at once: a deep one keeps some 100 times as many for a gradient."""


def at_once(images: Tensor) -> tuple[Tensor, ...]:
    """Images [N, C, H, W] in parts of at most `ENTRIES`, one image at least."""
    return torch.split(images, max(1, ENTRIES // images[0].numel())) if len(images) else ()


@dataclass(frozen=True)
class Target:
    """The property under attack.

    Attributes:
        trunk: the trunk in float32: [N, C, H, W] -> [N, F, h, w].
        network: where it comes from.
        class_id: the explained class.
        top, k2: the property: the top-k set stays within the top-k2.
        keep_label: whether a witness must keep the class `label`.
        label: the class predicted at the image.
        pairs: pairs (inside, outside) of pixels likely to change places first; attacks may aim at them.
    """

    trunk: TorchGraph
    network: Network
    class_id: int
    top: TopK
    k2: int
    keep_label: bool
    label: int
    pairs: tuple[tuple[int, int], ...] = ()

    def cams(self, images: Tensor) -> Tensor:
        """Maps [N, pixels] of images [N, C, H, W]."""
        return self.network.head.cam(self.trunk(images), self.class_id).flatten(1)

    def margins(self, images: Tensor) -> Tensor:
        """Decision margins [N]: < 0 where the property is broken (theory 1.4, 1.5)."""
        return decision_margin(self.cams(images), self.top, self.k2)

    def broken_margins(self, images: Tensor) -> Tensor:
        """Decision margins [N] without gradient, +inf where the label had to stay and did not."""
        found = []
        with torch.no_grad():
            for chunk in at_once(images):
                features = self.trunk(chunk)
                cams = self.network.head.cam(features, self.class_id).flatten(1)
                margins = decision_margin(cams, self.top, self.k2)
                if self.keep_label:
                    labels = self.network.head.logits(features).argmax(1)
                    margins = torch.where(labels == self.label, margins, torch.inf)
                found.append(margins)
        return torch.cat(found)
