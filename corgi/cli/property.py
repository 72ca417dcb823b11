"""What is asked of a map, as options: every command that asks for one property has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corgi.budget import announce
from corgi.cli import common
from corgi.cli.groups import with_group
from corgi.terms import PropertyName
from corgi.wanted import WantedProperty, read_places

if TYPE_CHECKING:
    from corgi.cli.task import Task
    from corgi.data.region import Region
    from corgi.data.window import Window
    from corgi.network.network import Network
    from corgi.properties.interface import Property


@dataclass(frozen=True)
class _Options:
    """What properties are asked with; each field is an option."""

    k2: common.K2Option = None
    keep: Annotated[
        int | None, typer.Option(metavar="M", help="Of overlap and inside: so many of the K largest.")
    ] = None
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X1,Y1,X2,Y2|FILE|annotation",
            help="Of pointing and inside: a box in pixels of the picture, its corners included; a mask"
            " (PNG); or what the data set's annotation says (annotation:FILE, or found).",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Of iou: the mask is all pixels from this share of the maximum on.", show_default="0.5"
        ),
    ] = None
    iou: Annotated[
        float | None, typer.Option(help="Of iou: the least intersection over union.", show_default="0.5")
    ] = None
    above: Annotated[
        str | None,
        typer.Option(metavar="R,C[;R,C]", help="Of order: map pixels (row, column) that stay above others."),
    ] = None
    below: Annotated[str | None, typer.Option(metavar="R,C[;R,C]", help="Of order: the others.")] = None
    within: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            help="Of centre: map pixels that it may move along rows and columns.",
            show_default="1",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """By name, places of pixels as places.

        Raises:
            UsageError: they are none.
        """
        above, below = (
            None if text is None else read_places(option, text)
            for option, text in (("--above", self.above), ("--below", self.below))
        )
        return vars(self) | {"above": above, "below": below}


_NAMES = f"What must stay true of the map: {', '.join(PropertyName)}; several with + between."
_METAVAR = "NAME[+NAME...]"


@with_group("options", _Options)
def _wanted(
    property_: Annotated[
        str, typer.Option("--property", metavar=_METAVAR, help=_NAMES)
    ] = PropertyName.TOPK.value,
    *,
    options: _Options,
) -> WantedProperty:
    return WantedProperty.read(property_, **options.given())


@with_group("options", _Options)
def _several(
    property_: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            metavar=_METAVAR,
            help=f"{_NAMES} May be given several times: an answer each.",
            show_default=PropertyName.TOPK.value,
        ),
    ] = None,
    *,
    options: _Options,
) -> tuple[WantedProperty, ...]:
    return WantedProperty.read_each(property_ or [PropertyName.TOPK.value], **options.given())


with_wanted = with_group("wanted", _wanted)
"""A command with a parameter `wanted: WantedProperty`, as typer sees it: with the options instead."""

with_several = with_group("several", _several)
"""The same of a parameter `several: tuple[WantedProperty, ...]`: --property may be given several times."""


def property_of(wanted: WantedProperty, network: Network, task: Task) -> Property | None:
    """What is asked of the map of a task's image; None for that of the set alone.

    Raises:
        UsageError, ImageError, DataError: see `WantedProperty.property`.
    """
    return None if wanted.plain else property_seen(wanted, network, task.window(network), task.image)


def properties_of(several: Iterable[WantedProperty], network: Network, task: Task) -> list[Property]:
    """The same of several, that of the set alone among them.

    Raises:
        UsageError, ImageError, DataError: see `WantedProperty.property`.
    """
    window, told = task.window(network), _announce(network)
    return [wanted.property(network.head.map_shape, window, task.image, told) for wanted in several]


def property_seen(wanted: WantedProperty, network: Network, window: Window, image: Path) -> Property:
    """What is asked of the map of an image of which the network sees a part.

    Raises:
        UsageError, ImageError, DataError: see `WantedProperty.property`.
    """
    return wanted.property(network.head.map_shape, window, image, _announce(network))


def _announce(network: Network) -> Callable[[Region], None]:
    before = set[str]()  # of several properties with one region that is said once

    def told(region: Region) -> None:
        size = f"{len(region.pixels)} of {network.pixels} map pixels"
        line = "; ".join([f"{region.source}: {size}", *region.notes])
        if line not in before:
            announce("region", line)
        before.add(line)

    return told
