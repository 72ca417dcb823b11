"""What every property offers: a frozen value of what was asked, and its formula for the map at one image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import ClassVar

from torch import Tensor

from corgi.errors import UsageError
from corgi.properties.formula import Formula
from corgi.results import Parameter, Statement, TopK


class Property(ABC):
    """A question about a map, before the map is known."""

    name: ClassVar[str]
    """As on the command line."""

    @abstractmethod
    def formula(self, cam: Tensor, top: TopK) -> Formula:
        """What must stay true of the map.

        Args:
            cam: the map at the image, float64 [h, w].
            top: its top-k set.

        Raises:
            UsageError: the map has no such pixels or ranks.
        """

    @abstractmethod
    def words(self, k: int) -> tuple[str, str]:
        """Subject and verb of what is claimed of a map: ("the 15 largest pixels", "stay the same")."""

    def among(self, k: int) -> int:
        """Among how many of the largest pixels the k largest must stay; k where that is not the question."""
        return k

    def statement(self, k: int) -> Statement:
        """What is claimed, for results; k: size of the top set."""
        region = getattr(self, "region", None)
        return Statement(self.name, *self.words(k), region, self.parameters())

    def parameters(self) -> tuple[tuple[str, Parameter], ...]:
        """What it was asked with, by name, the region apart."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return tuple((n, value) for n, value in values.items() if n != "region" and value is not None)


def check_region(region: tuple[int, ...], pixels: int) -> tuple[int, ...]:
    """The pixels of a region of a map, ascending.

    Raises:
        UsageError: one is not of the map; there is none; or all are in it, so that nothing can leave it.
    """
    found = tuple(sorted(set(region)))
    if found and not (found[0] >= 0 and found[-1] < pixels):
        raise UsageError(f"region: pixel {found[-1]} of a map of {pixels}, expected 0-{pixels - 1}")
    if not 0 < len(found) < pixels:
        raise UsageError(
            f"region of {len(found)} of {pixels} map pixels, expected at least 1, not all of them"
        )
    return found


def others(chosen: tuple[int, ...], pixels: int) -> tuple[int, ...]:
    """The pixels of a map that are not chosen, ascending."""
    without = set(chosen)
    return tuple(p for p in range(pixels) if p not in without)


def plural(count: int, thing: str = "pixel") -> str:
    """`1 pixel`, `2 pixels`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
