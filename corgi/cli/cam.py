"""`corgi cam`: the class activation map of an image and its largest pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.terms import PICTURE_FORMATS


@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    k: common.KOption = "15",
    class_id: common.ClassOption = None,
    preprocess: common.PreprocessOption = None,
    *,
    loading: Loading,
    json: common.JsonOption = None,
    picture_file: common.PictureOption = None,
    save: Annotated[Path | None, typer.Option(help="Save the map [h, w].", metavar="FILE.npy")] = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Show the class activation map of IMAGE and its largest pixels."""
    common.check_ending("--picture", picture_file, PICTURE_FORMATS)
    common.check_ending("--save", save, ("npy",))
    common.check_outputs((model, image), {"--json": json, "--picture": picture_file, "--save": save})
    ranks = common.parse_k(k)
    from corgi.certify.explain import explain
    from corgi.reporting.document import cam_document, to_json
    from corgi.reporting.text import cam_text
    from corgi.reporting.versions import installed_versions

    with common.working("loading", quiet=quiet):
        network, pixels = common.read_input(loading, model, image, preprocess)
        explanation = explain(network, pixels, ranks, class_id)
    document = cam_document(network, str(image), explanation, installed_versions())
    common.emit(cam_text(document), lambda: to_json(document), json, quiet=quiet)
    if save is not None:
        common.write("--save", save, common.npy_bytes(explanation.cam))
    if picture_file is not None:
        from corgi.reporting.picture import cam_picture

        figure = cam_picture(pixels, explanation, network.class_name(explanation.class_id))
        common.save_picture(figure, picture_file)
    return Exit.OK
