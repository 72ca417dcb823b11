"""What every change offers: a frozen value of what was asked, and its family for one image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import reduce
from operator import add
from typing import ClassVar

import torch
from torch import Tensor

from corgi.changes.family import Family, LinearFamily
from corgi.errors import UsageError


class Change(ABC):
    """A change of images, before the image is known.

    Attributes:
        name: as on the command line; effect: what it is a model of.
        usual: the largest size where none is named, in the unit of its parameters.
    """

    name: ClassVar[str]
    effect: ClassVar[str]
    usual: ClassVar[float] = 0.2

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def family(self, image: Tensor) -> Family:
        """The family of an image, float64 [C, H, W] in [0, 1].

        Raises:
            UsageError: the image is none that can be changed so.
        """


class LinearChange(Change):
    """A change along directions: clip(x + A t, 0, 1).

    Attributes:
        two_sided: whether parameters run over [-T, T] at size T, or over [0, T].
    """

    two_sided: ClassVar[bool]

    @abstractmethod
    def directions(self, image: Tensor) -> Tensor:
        """A, float64 [d, C, H, W], for an image x, float64 [C, H, W].

        Raises:
            UsageError: the image is none that can be changed so.
        """

    def parameters(self, count: int) -> tuple[str, ...]:
        """Names of so many parameters."""
        return (self.name,) if count == 1 else tuple(f"{self.name} {i + 1}" for i in range(count))

    def family(self, image: Tensor) -> LinearFamily:
        """See `Change.family`.

        Raises:
            UsageError: see `directions`; or directions that are no finite numbers, or of another shape.
        """
        found = self.directions(image)
        if found.ndim != 4 or found.shape[1:] != image.shape or len(found) == 0:
            have, want = list(found.shape), ["d", *image.shape]
            raise UsageError(f"change {self}: directions of shape {have}, expected {want}")
        if not bool(torch.isfinite(found).all()):
            raise UsageError(f"change {self}: a direction that is no finite number")
        names = self.parameters(len(found))
        return LinearFamily(image, names, (self.two_sided,) * len(found), found.to(torch.float64))


class Sum(Change):
    """Several changes at once, each with parameters of its own: x + sum of all A_j t_j, clipped once."""

    name = "sum"
    effect = "several at once"

    def __init__(self, parts: tuple[Change, ...]) -> None:
        if len(parts) < 2:
            raise UsageError("a sum of fewer than two changes")
        linear = tuple(part for part in parts if isinstance(part, LinearChange))
        if alone := [str(part) for part in parts if not isinstance(part, LinearChange)]:
            raise UsageError(
                f"{' and '.join(alone)} in a sum of changes",
                hint="A sum is of changes along directions, of one unit; others stand alone.",
            )
        self.parts = linear

    def __str__(self) -> str:
        return "+".join(map(str, self.parts))

    def family(self, image: Tensor) -> LinearFamily:
        """See `Change.family`."""
        return reduce(add, (part.family(image) for part in self.parts))
