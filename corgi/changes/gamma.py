"""Gamma: every value of every pixel to one power."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.changes.family import Family
from corgi.changes.interface import Change


@dataclass(frozen=True)
class GammaFamily(Family):
    """x^(1 + t), a curve in t for each value of a pixel; 0 and 1 stay what they are."""

    formula = "x^(1 + t)"
    limit = 1.0

    def at(self, points: Tensor) -> Tensor:
        """See `Family.at`."""
        return (self.image ** (1 + points[:, :, None, None])).clamp(0, 1)


@dataclass(frozen=True)
class Gamma(Change):
    """x^gamma, gamma = 1 + t.

    The form of torchvision's and albumentations' changes of gamma, whose range is around 1: at size 20%
    gamma runs from 0.8 to 1.2. From 1 on it would reach a gamma of 0, for which black is white.
    """

    name = "gamma"
    effect = "the curve of a camera or a screen: a power of every value"

    def family(self, image: Tensor) -> GammaFamily:
        """See `Change.family`."""
        return GammaFamily(image, ("gamma - 1",), (True,))
