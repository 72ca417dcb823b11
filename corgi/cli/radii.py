"""`corgi radii`: for every pixel of the map the radius within which it stays on its side of rank k."""

from __future__ import annotations

from typing import Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.terms import PICTURE_FORMATS, Norm


@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    k: common.KOption = "15",
    class_id: common.ClassOption = None,
    norm: common.NormOption = Norm.LINF,
    outside: Annotated[
        int, typer.Option(min=0, help="Largest outside pixels that are searched one by one, too.")
    ] = 15,
    time_limit: common.TimeLimitOption = None,
    preprocess: common.PreprocessOption = None,
    *,
    loading: Loading,
    json: common.JsonOption = None,
    picture_file: common.PictureOption = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Certify each pixel of the map of IMAGE: within which radius it stays among the K largest, or outside.

    Exit code: 0 done, 3 time limit or Ctrl-C (the answer printed is what was done until then), 4 error.
    """
    common.check_ending("--picture", picture_file, PICTURE_FORMATS)
    common.check_outputs((model, image), {"--json": json, "--picture": picture_file})
    ranks = common.parse_k(k)
    from corgi.certify.radii import RadiiOptions, pixel_radii
    from corgi.reporting import wording
    from corgi.reporting.document import radii_document, to_json
    from corgi.reporting.text import radii_text
    from corgi.reporting.versions import installed_versions

    options = RadiiOptions(k=ranks, class_id=class_id, norm=norm, outside=outside, time_limit=time_limit)
    with common.working("loading", quiet=quiet, seconds=time_limit) as listener:
        network, pixels = common.read_input(loading, model, image, preprocess)
        radii = pixel_radii(network, pixels, options, listener)
    document = radii_document(network, str(image), radii, installed_versions())
    text = radii_text(document, wording.rank_of_pixel(radii))
    common.emit(text, lambda: to_json(document), json, quiet=quiet)
    if picture_file is not None:
        from corgi.reporting.series_picture import radii_picture

        name = network.class_name(radii.explanation.class_id)
        common.save_picture(radii_picture(pixels, radii, name), picture_file)
    return Exit.TIME_LIMIT if radii.interrupted else Exit.OK
