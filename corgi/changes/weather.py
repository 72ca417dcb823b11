"""Weather between the camera and the thing: fog, and haze of any look."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.changes.interface import LinearChange


@dataclass(frozen=True)
class Fog(LinearChange):
    """x + t (1 - x): a share t of white in front of everything."""

    name = "fog"
    effect = "fog of one density: a share of white in front of everything"
    two_sided = False

    def directions(self, image: Tensor) -> Tensor:
        """Towards white."""
        return (1 - image)[None]


@dataclass(frozen=True, eq=False)
class Towards(LinearChange):
    """x + t (other - x): on the line to another image, which is reached at t = 1.

    Attributes:
        other: float64 [C, H, W], in [0, 1].
        source: its file, or what else it is.
    """

    name = "towards"
    effect = "a cross-fade with another image"
    two_sided = False
    other: Tensor
    source: str = "array"

    def directions(self, image: Tensor) -> Tensor:
        """From the image to the other."""
        return (self.other.to(image) - image)[None] if self.other.shape == image.shape else self.other[None]

    def __str__(self) -> str:
        return f"{self.name}:{self.source}"


class Haze(Towards):
    """The same, of an image that is what stands in front: smoke, spray, a reflection."""

    name = "haze"
    effect = "haze with a look of its own: a share of a given image in front of everything"
