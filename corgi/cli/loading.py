"""The options that say how MODEL is read; every command that takes a model has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corgi.cli.groups import with_group
from corgi.errors import UsageError
from corgi.network.loading import Loading as Loading
from corgi.terms import ColourOrder, MapKind


def _loading(
    map_kind: Annotated[
        MapKind,
        typer.Option(
            "--map", help="gradcam: gradients at the image as weights, for networks without a CAM head."
        ),
    ] = MapKind.CAM,
    layer: Annotated[
        str | None,
        typer.Option(help="Of --map gradcam: node or value of the feature map.", show_default="the last one"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Output that holds the class scores.", show_default="the only one"),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW", help="Image size, where the file leaves it open.", show_default="the file's"
        ),
    ] = None,
    mean: Annotated[
        str,
        typer.Option(
            metavar="M[,M,M]", help="The network expects (scale * pixel - mean) / std of pixels in [0, 1]."
        ),
    ] = "0",
    std: Annotated[str, typer.Option(metavar="S[,S,S]", help="See --mean.")] = "1",
    scale: Annotated[float, typer.Option(help="See --mean; 255 for a network that takes [0, 255].")] = 1.0,
    colour_order: Annotated[
        ColourOrder,
        typer.Option(help="Order of the network's channels, and of --mean and --std; pictures stay RGB."),
    ] = ColourOrder.RGB,
    class_names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the classes: one a line, or a JSON list or object.",
            show_default="the model's own",
        ),
    ] = None,
) -> Loading:
    from corgi.network.wrap import Normalisation

    normalisation = Normalisation(_numbers("--mean", mean), _numbers("--std", std), scale, colour_order)
    names = class_names and class_names.absolute()
    return Loading(output, None if size is None else _size(size), normalisation, map_kind, layer, names)


with_loading = with_group("loading", _loading)
"""A command with a parameter `loading: Loading`, as typer sees it: with the options instead."""


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{option} {text}: expected numbers with commas between them, as 0.5,0.5,0.5"
        ) from None


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UsageError(f"--size {text}: expected height x width in pixels, as 224x224")
    return int(height), int(width)
