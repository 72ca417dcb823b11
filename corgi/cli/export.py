"""`corgi export`: a map's claim as ONNX and VNN-LIB files, for any verifier to check."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from corgi.budget import grace, tell
from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.cli.property import property_seen, with_wanted
from corgi.cli.radius import radius_option
from corgi.cli.sweep import sizes_along
from corgi.cli.where import where_seen
from corgi.errors import UsageError
from corgi.vnnlib.spec import Syntax
from corgi.wanted import WantedProperty

if TYPE_CHECKING:
    from corgi.network.network import Network
    from corgi.properties.interface import Property
    from corgi.results import ImageArray
    from corgi.terms import Size


class _Asked(TypedDict):
    """What both kinds of export are asked."""

    k: Size
    property: Property
    class_id: int | None
    name: str
    syntax: Syntax
    packed: bool


def _check_set(eps: float | None, change: str | None, size: str | None, where: str | None) -> None:
    """Refuse what is neither a ball nor the images along a change, or both.

    Raises:
        UsageError: it is so.
    """
    if (eps is None) == (change is None):
        raise UsageError("expected either --eps, of a ball, or --change and --size")
    if (change is None) != (size is None):
        raise UsageError("--change and --size: the one needs the other")
    if change is not None and where is not None:
        raise UsageError("--where: of a ball, not of a change")


def _pixels(network: Network, preprocess: str | None, path: Path) -> ImageArray:
    return common.seen(network, path, preprocess).pixels


@with_wanted
@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into; made if missing.")],
    eps: Annotated[
        float | None,
        radius_option(help="l_inf radius, pixel scale [0, 1]; as 1/255.", show_default="none"),
    ] = None,
    change: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:FILE][+...]",
            help="Images along a change instead of a ball, as of `corgi sweep`; the input is t.",
            show_default="a ball",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="T", help="Of --change: its size; as 0.1 or 10%.", show_default="none"
        ),
    ] = None,
    k: common.KOption = None,
    class_id: common.ClassOption = None,
    where: common.WhereOption = None,
    syntax: Annotated[Syntax, typer.Option(help="Version of VNN-LIB.")] = Syntax.V1,
    gzip: Annotated[bool, typer.Option("--gzip", help="Write .vnnlib.gz.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds an instance may take, for instances.csv.")] = 300.0,
    preprocess: common.PreprocessOption = None,
    *,
    wanted: WantedProperty,
    loading: Loading,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Write the claim "the K largest pixels of IMAGE's map stay the same within EPS" for other verifiers.

    With --change it is that they do so along a change, up to a size.

    Other claims than that of the largest pixels: --property, with the options named after it.

    DIR gets onnx/, vnnlib/ and a line in instances.csv, as `corgi vnn run` and VNN-COMP read them.
    Exit code: 0 written, 4 error.
    """
    if not timeout > 0:
        raise UsageError(f"--timeout {timeout:g}: expected seconds > 0")
    _check_set(eps, change, size, where)
    sizes = () if change is None else sizes_along("--size", size, change)
    if len(sizes) > 1:
        raise UsageError(f"--size {size}: expected one number")
    from corgi.changes.wanted import WantedChange
    from corgi.reporting.vnn_text import export_text
    from corgi.vnnlib.along import export_change
    from corgi.vnnlib.export import export_cam, write_instance

    along = None if change is None else WantedChange(change)

    with common.working("loading", quiet=quiet):
        with grace():
            network = loading.load(model)
        seen = common.seen(network, image, preprocess)
        tell("export", folder.name)
        asked: _Asked = {
            "k": common.parse_k(k),
            "property": property_seen(wanted, network, seen.window, image),
            "class_id": class_id,
            "name": image.stem,
            "syntax": syntax,
            "packed": gzip,
        }
        if along is not None:
            others = partial(_pixels, network, preprocess)
            read = along.read(network.input_shape, seen.window, image, others)
            export = export_change(network, seen.pixels, read, sizes[0], **asked)
        else:
            places = where_seen(where, network, seen.window, image)
            export = export_cam(network, seen.pixels, eps or 0.0, where=places, **asked)
    written = write_instance(export, folder, timeout)
    if not quiet:
        common.show(export_text(export, *map(str, written)))
    return Exit.OK
