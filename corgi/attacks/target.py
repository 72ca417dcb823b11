"""What an attack breaks: a property of a map, whose margin falls below 0 where an image breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.network.convert import TorchGraph
from corgi.network.network import Network
from corgi.properties.formula import Formula
from corgi.results import TopK

ENTRIES = 2**20
"""Image entries passed through a network at once: a deep one keeps some 100 times as many for a gradient."""


Followed = Callable[[Tensor, Tensor], Tensor]
"""The sum of what images descend, of their maps [n, pixels] and margins [n]; asked part after part."""


def at_once(images: Tensor) -> tuple[Tensor, ...]:
    """Images [N, C, H, W] in parts of at most `ENTRIES`, one image at least."""
    return torch.split(images, max(1, ENTRIES // images[0].numel())) if len(images) else ()


@dataclass(frozen=True)
class Critical:
    """Pixels that change places at once, which breaks the property: all of some below all of some others.

    Attributes:
        above, below: which, flat indices.
        up, down: factors on their values.
    """

    above: tuple[int, ...]
    below: tuple[int, ...]
    up: float = 1.0
    down: float = 1.0

    def gap(self, cam: Tensor) -> Tensor:
        """What must fall below 0 in a map [pixels]: the largest of the ones less the smallest of others."""
        if len(self.above) == len(self.below) == 1:
            high, low = cam[self.above[0]], cam[self.below[0]]
        else:
            high, low = cam[list(self.above)].amax(), cam[list(self.below)].amin()
        return self.up * high - self.down * low


@dataclass(frozen=True)
class Target:
    """The property that a certificate proves and an attack breaks.

    Attributes:
        network, class_id: whose map.
        top: the top-k set of the map at the image.
        holds: the property.
        rounding: what float64 may change in one value of the map; a witness breaks the property by more.
        label: the class that a witness must keep; None for whichever.
        cam: the map at the image itself, float64 [pixels], where it is known.
        critical: pixels likely to change places first; attacks may aim at them.
        twin: a float32 trunk whose gradients attacks follow in place of the network's own.
    """

    network: Network
    class_id: int
    top: TopK
    holds: Formula
    rounding: float = 0.0
    label: int | None = None
    cam: Tensor | None = None
    critical: tuple[Critical, ...] = ()
    twin: TorchGraph | None = None

    @property
    def trunk(self) -> TorchGraph:
        """The trunk in float32: [N, C, H, W] -> [N, F, h, w]."""
        return self.network.trunk32 if self.twin is None else self.twin

    def cams(self, images: Tensor) -> Tensor:
        """Maps [N, pixels] of images [N, C, H, W]."""
        return self.network.head.cam(self.trunk(images), self.class_id).flatten(1)

    def margins(self, images: Tensor) -> Tensor:
        """Margins [N] of the property: < 0 where it is broken."""
        return self.holds.margin(self.cams(images))

    def descent(self, images: Tensor, followed: Followed) -> tuple[Tensor, Tensor]:
        """Margins [N] of images, and gradients of what they descend; no more at once than `ENTRIES`."""
        margins, gradients = [], []
        for chunk in at_once(images):
            chunk = chunk.detach().requires_grad_(True)
            cams = self.cams(chunk)
            found = self.holds.margin(cams)
            (gradient,) = torch.autograd.grad(followed(cams, found), chunk)
            margins.append(found.detach())
            gradients.append(gradient)
        return torch.cat(margins), torch.cat(gradients)

    def broken_margins(self, images: Tensor) -> Tensor:
        """Margins [N] of the property without gradient, +inf where the label had to stay and did not."""
        found = []
        with torch.no_grad():
            for chunk in at_once(images):
                features = self.trunk(chunk)
                cams = self.network.head.cam(features, self.class_id).flatten(1)
                margins = self.holds.margin(cams)
                if self.label is not None:
                    labels = self.network.head.logits(features).argmax(1)
                    margins = torch.where(labels == self.label, margins, torch.inf)
                found.append(margins)
        return torch.cat(found)
