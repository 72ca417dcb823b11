"""The options that say how MODEL is read; every command that takes a model has them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corgi.cli.groups import with_group
from corgi.errors import UsageError
from corgi.terms import ColourOrder, MapKind

if TYPE_CHECKING:
    from corgi.network.network import Network
    from corgi.network.wrap import Normalisation


@dataclass(frozen=True)
class Loading:
    """How to read a model file; see `corgi.load`."""

    output: str | None
    size: tuple[int, int] | None
    normalisation: Normalisation
    map_kind: MapKind
    layer: str | None
    class_names: Path | None

    def load(self, model: Path) -> Network:
        """The network of a file. See `corgi.load` for errors."""
        from corgi.network.network import load

        return load(
            model,
            output=self.output,
            size=self.size,
            normalisation=self.normalisation,
            map_kind=self.map_kind,
            layer=self.layer,
            class_names=self.class_names,
        )

    def parameters(self) -> dict[str, Any]:
        """What was asked, as JSON has it: beside the file, the network depends on nothing else."""
        return {
            "output": self.output,
            "size": self.size,
            "mean": self.normalisation.mean,
            "std": self.normalisation.std,
            "scale": self.normalisation.scale,
            "colour_order": self.normalisation.colour_order.value,
            "map": self.map_kind.value,
            "layer": self.layer,
            "class_names": self.class_names and sha256(self.class_names.read_bytes()).hexdigest(),
        }


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
    pixels = None if size is None else _size(size)
    return Loading(output, pixels, normalisation, map_kind, layer, class_names and class_names.absolute())


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
