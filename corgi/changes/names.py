"""Changes by name, as a user writes them: `fog`, `haze:FILE`, `shadow:REGION`, `brightness+contrast`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

from corgi.changes.gamma import Gamma
from corgi.changes.geometry import Motion, Rotation, Scale, Shift
from corgi.changes.given import Basis, NoisePattern
from corgi.changes.interface import Change, LinearChange, Sum
from corgi.changes.lens import Blur, Sharpen
from corgi.changes.light import Brightness, Colour, Contrast, Darken, Shadow
from corgi.changes.weather import Fog, Haze, Towards
from corgi.data.image import InputArray, read_numbers
from corgi.data.region import Region
from corgi.errors import UsageError

PLAIN: Mapping[str, type[Change]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            *(Brightness, Contrast, Darken, Colour, Fog, Blur, Sharpen),
            *(Gamma, Rotation, Shift, Scale),
        )
    }
)
"""Changes that nothing else is to be said of."""

GIVEN: Mapping[str, str] = MappingProxyType(
    {
        Shadow.name: "REGION",
        Haze.name: "IMAGE",
        Towards.name: "IMAGE",
        NoisePattern.name: "FILE.npy",
        Basis.name: "FILE.npy",
    }
)
"""Changes that are written with a colon and what stands behind it."""

WRITTEN = ", ".join([*PLAIN, *(f"{name}:{what}" for name, what in GIVEN.items())])
"""All of them, as they are written."""


@dataclass(frozen=True)
class Reader:
    """How what stands behind a colon is read.

    Attributes:
        image: the network's input [C, H, W] that an image file stands for.
        region: pixels of the network's input that a text names, as `--region` does.
    """

    image: Callable[[Path], InputArray]
    region: Callable[[str], Region]


def parse_change(text: str) -> tuple[tuple[str, str], ...]:
    """Names and what stands behind their colons; reads no file.

    Raises:
        UsageError: a name that is none, or one without what it needs, or with what it does not take.
    """
    names = "|".join(map(re.escape, (*PLAIN, *GIVEN)))
    found = []
    # A `+` counts where a name follows: those in the names of files stay.
    for part in re.split(rf"\+(?=(?:{names})(?:[:+]|$))", text):
        name, colon, rest = part.partition(":")
        if name not in PLAIN and name not in GIVEN:
            raise UsageError(
                f"--change {text}: no change {name!r}",
                hint=f"Expected one of {WRITTEN}, or several with + between.",
            )
        if name in PLAIN and colon:
            raise UsageError(f"--change {text}: {name} stands alone, without {colon}{rest}")
        if name in GIVEN and not rest:
            raise UsageError(f"--change {text}: expected {name}:{GIVEN[name]}")
        found.append((name, rest))
    plain = [name for name, _ in found if name in PLAIN]
    if len(set(plain)) < len(plain):
        raise UsageError(f"--change {text}: the same twice")
    alone = [name for name in plain if not issubclass(PLAIN[name], LinearChange)]
    if alone and len(found) > 1:
        raise UsageError(f"--change {text}: {alone[0]} stands alone", hint="Ask for each by itself.")
    return tuple(found)


def unit_of(text: str) -> str:
    """The unit of a change's parameters, as degrees; empty where they are shares.

    Raises:
        UsageError: see `parse_change`.
    """
    kind = PLAIN.get(parse_change(text)[0][0])
    return kind.kind.unit if kind is not None and issubclass(kind, Motion) else ""


def usual_of(text: str) -> float:
    """The largest size of a change where none is named, in its unit.

    Raises:
        UsageError: see `parse_change`.
    """
    return PLAIN.get(parse_change(text)[0][0], Change).usual


def read_change(text: str, reader: Reader) -> Change:
    """The change that a text names.

    Raises:
        UsageError, ImageError, DataError: see `parse_change`, and what reads images and regions.
    """
    parts = tuple(_read(name, rest, reader) for name, rest in parse_change(text))
    return parts[0] if len(parts) == 1 else Sum(parts)


def _read(name: str, rest: str, reader: Reader) -> Change:
    if name in PLAIN:
        return PLAIN[name]()
    if name == Shadow.name:
        region = reader.region(rest)
        return Shadow(region.pixels, region.source)
    if name in (Haze.name, Towards.name):
        other = torch.from_numpy(reader.image(Path(rest))).to(torch.float64)
        return (Haze if name == Haze.name else Towards)(other, rest)
    given = torch.from_numpy(read_numbers(Path(rest)))
    return (NoisePattern if name == NoisePattern.name else Basis)(given, rest)
