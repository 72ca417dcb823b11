"""Squares of a map: of a saliency map, averaged over noise, quadratic SmoothGrad (theory 7.4, L 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.smoothing.derived import DerivedMap


@dataclass(frozen=True)
class Quadratic(DerivedMap):
    """h squared: its largest value stays 1, so it is scaled as h is.

    Attributes:
        base: h.
    """

    binary = False

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"{self.base.name}, squared"

    def __call__(self, images: Tensor) -> Tensor:
        """Maps of images [B, C, H, W]: [B, n] in [0, 1]."""
        return self.base(images).square()
