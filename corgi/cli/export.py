"""`corgi export`: a map's claim as ONNX and VNN-LIB files, for any verifier to check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corgi.budget import grace, tell
from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.cli.property import property_seen, with_wanted
from corgi.cli.radius import radius_option
from corgi.cli.where import where_seen
from corgi.errors import UsageError
from corgi.vnnlib.spec import Syntax
from corgi.wanted import WantedProperty


@with_wanted
@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into; made if missing.")],
    eps: Annotated[float, radius_option(help="l_inf radius, pixel scale [0, 1]; as 1/255.")],
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

    Other claims than that of the largest pixels: --property, with the options named after it.

    DIR gets onnx/, vnnlib/ and a line in instances.csv, as `corgi vnn run` and VNN-COMP read them.
    Exit code: 0 written, 4 error.
    """
    if not timeout > 0:
        raise UsageError(f"--timeout {timeout:g}: expected seconds > 0")
    from corgi.reporting.vnn_text import export_text
    from corgi.vnnlib.export import export_cam, write_instance

    with common.working("loading", quiet=quiet):
        with grace():
            network = loading.load(model)
        seen = common.seen(network, image, preprocess)
        tell("export", folder.name)
        export = export_cam(
            network,
            seen.pixels,
            eps,
            k=common.parse_k(k),
            property=property_seen(wanted, network, seen.window, image),
            where=where_seen(where, network, seen.window, image),
            class_id=class_id,
            name=image.stem,
            syntax=syntax,
            packed=gzip,
        )
    written = write_instance(export, folder, timeout)
    if not quiet:
        common.show(export_text(export, *map(str, written)))
    return Exit.OK
