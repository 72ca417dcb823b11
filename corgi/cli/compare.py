"""`corgi compare`: every kind of certificate for one image, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.comparison.options import CompareOptions
from corgi.terms import PICTURE_FORMATS


@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    k: common.KOption = "15",
    class_id: common.ClassOption = None,
    share: Annotated[
        float, typer.Option(help="Of the k pixels: also certify that at least this share stays.")
    ] = CompareOptions.share,
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of the noise, pixel scale [0, 1].")
    ] = CompareOptions.sigma,
    samples: Annotated[int, typer.Option(help="Noisy images a smoothed map.")] = CompareOptions.samples,
    failure: Annotated[
        float, typer.Option(help="Failure probability of each statistical answer.")
    ] = CompareOptions.failure,
    time_limit: common.TimeLimitOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    preprocess: common.PreprocessOption = None,
    *,
    loading: Loading,
    json: common.JsonOption = None,
    picture_file: common.PictureOption = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Compare deterministic, statistical and empirical answers about the largest pixels of IMAGE's map.

    Exit code: 0 done, 3 time limit or Ctrl-C (finished rows are kept), 4 error.
    """
    common.check_ending("--picture", picture_file, PICTURE_FORMATS)
    common.check_outputs((model, image), {"--json": json, "--picture": picture_file})
    options = CompareOptions(
        k=common.parse_k(k),
        class_id=class_id,
        share=share,
        sigma=sigma,
        samples=samples,
        failure=failure,
        seed=seed,
    )
    from corgi.comparison.compare import compare
    from corgi.reporting.comparison import compare_document, compare_text
    from corgi.reporting.document import to_json
    from corgi.reporting.versions import installed_versions

    with common.working("loading", quiet=quiet, seconds=time_limit) as listener:
        network, pixels = common.read_input(loading, model, image, preprocess)
        found = compare(network, pixels, options, listener=listener)
    document = compare_document(network, str(image), found, installed_versions())
    common.emit(compare_text(document), lambda: to_json(document), json, quiet=quiet)
    if picture_file is not None:
        from corgi.reporting.compare_picture import compare_picture

        name = network.class_name(found.explanation.class_id)
        common.save_picture(compare_picture(found, name), picture_file)
    return Exit.TIME_LIMIT if found.interrupted else Exit.OK
