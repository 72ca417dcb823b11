"""The options that say how MODEL is read; every command that takes a model has them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from corgi.errors import UsageError
from corgi.network.network import Network, load
from corgi.network.wrap import Normalisation
from corgi.results import MapKind


@dataclass(frozen=True)
class Loading:
    """How to read a model file; see `corgi.load`."""

    output: str | None
    size: tuple[int, int] | None
    normalisation: Normalisation
    map_kind: MapKind
    layer: str | None

    def load(self, model: Path) -> Network:
        """The network of a file. See `corgi.load` for errors."""
        return load(
            model,
            output=self.output,
            size=self.size,
            normalisation=self.normalisation,
            map_kind=self.map_kind,
            layer=self.layer,
        )


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
) -> Loading:
    normalisation = Normalisation(_numbers("--mean", mean), _numbers("--std", std), scale)
    return Loading(output, None if size is None else _size(size), normalisation, map_kind, layer)


def with_loading(command: Callable[..., int]) -> Callable[..., int]:
    """A command with a parameter `loading: Loading`, as typer sees it: with the options instead.

    A parameter of the command's own stands in for the option of that name.
    """
    own = inspect.signature(command).parameters
    options = {name: p for name, p in inspect.signature(_loading).parameters.items() if name not in own}
    hints = get_type_hints(_loading, include_extras=True) | get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def wrapped(**given: Any) -> int:
        chosen = {name: given.pop(name) for name in options}
        return command(**given, loading=_loading(**chosen))

    shown = []
    for name, parameter in own.items():
        shown += list(options.values()) if name == "loading" else [parameter]
    named = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in shown]
    wrapped.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in named}
    return wrapped


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
