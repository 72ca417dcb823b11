"""A property of a map: its top-k set, and the value that falls below 0 where an image breaks it."""

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
    """The property that a certificate proves and an attack breaks.

    Attributes:
        network, class_id: whose map.
        top, k2: the property: the top-k set stays within the top-k2.
        rounding: what float64 may change in one value of the map; a witness breaks the property by more.
        label: the class that a witness must keep; None for whichever.
        cam: the map at the image itself, float64 [pixels], where it is known.
        pairs: pairs (inside, outside) of pixels likely to change places first; attacks may aim at them.
        twin: a float32 trunk whose gradients attacks follow in place of the network's own.
    """

    network: Network
    class_id: int
    top: TopK
    k2: int
    rounding: float = 0.0
    label: int | None = None
    cam: Tensor | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    twin: TorchGraph | None = None

    @property
    def spare(self) -> int:
        """Outside pixels that may overtake a top pixel: k2 - k."""
        return self.k2 - self.top.k

    @property
    def trunk(self) -> TorchGraph:
        """The trunk in float32: [N, C, H, W] -> [N, F, h, w]."""
        return self.network.trunk32 if self.twin is None else self.twin

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
                if self.label is not None:
                    labels = self.network.head.logits(features).argmax(1)
                    margins = torch.where(labels == self.label, margins, torch.inf)
                found.append(margins)
        return torch.cat(found)
