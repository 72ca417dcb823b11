"""What is asked of a map, as options: every command that asks for one property has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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


def _wanted(
    property_: Annotated[
        str,
        typer.Option(
            "--property",
            metavar="NAME[+NAME...]",
            help=f"What must stay true of the map: {', '.join(PropertyName)}; several with + between.",
        ),
    ] = PropertyName.TOPK.value,
    k2: common.K2Option = None,
    keep: Annotated[
        int | None, typer.Option(metavar="M", help="Of overlap and inside: so many of the K largest.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X1,Y1,X2,Y2|FILE|annotation",
            help="Of pointing and inside: a box in pixels of the picture, its corners included; a mask"
            " (PNG); or what the data set's annotation says (annotation:FILE, or found).",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Of iou: the mask is all pixels from this share of the maximum on.", show_default="0.5"
        ),
    ] = None,
    iou: Annotated[
        float | None, typer.Option(help="Of iou: the least intersection over union.", show_default="0.5")
    ] = None,
    above: Annotated[
        str | None,
        typer.Option(metavar="R,C[;R,C]", help="Of order: map pixels (row, column) that stay above others."),
    ] = None,
    below: Annotated[str | None, typer.Option(metavar="R,C[;R,C]", help="Of order: the others.")] = None,
    within: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            help="Of centre: map pixels that it may move along rows and columns.",
            show_default="1",
        ),
    ] = None,
) -> WantedProperty:
    return WantedProperty.read(
        property_,
        k2=k2,
        keep=keep,
        region=region,
        threshold=threshold,
        iou=iou,
        above=None if above is None else read_places("--above", above),
        below=None if below is None else read_places("--below", below),
        within=within,
    )


with_wanted = with_group("wanted", _wanted)
"""A command with a parameter `wanted: WantedProperty`, as typer sees it: with the options instead."""


def property_of(wanted: WantedProperty, network: Network, task: Task) -> Property | None:
    """What is asked of the map of a task's image; None for that of the set alone.

    Raises:
        UsageError, ImageError, DataError: see `WantedProperty.property`.
    """
    return None if wanted.plain else property_seen(wanted, network, task.window(network), task.image)


def property_seen(wanted: WantedProperty, network: Network, window: Window, image: Path) -> Property:
    """What is asked of the map of an image of which the network sees a part.

    Raises:
        UsageError, ImageError, DataError: see `WantedProperty.property`.
    """
    return wanted.property(network.head.map_shape, window, image, _announce(network))


def _announce(network: Network) -> Callable[[Region], None]:
    def told(region: Region) -> None:
        size = f"{len(region.pixels)} of {network.pixels} map pixels"
        announce("region", "; ".join([f"{region.source}: {size}", *region.notes]))

    return told
