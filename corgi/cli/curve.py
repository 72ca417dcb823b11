"""`corgi curve`: certified and attack radius against k and k2, and the k it recommends."""

from __future__ import annotations

from typing import Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.errors import UsageError
from corgi.terms import PICTURE_FORMATS, Norm


def ranks_of(option: str, text: str) -> list[int]:
    """Ranks as a user writes them: `5-15`, `5-50:5`, `5,10,30`, or several of these.

    Raises:
        UsageError: not of that form.
    """
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, dash, last = span.partition("-")
        try:
            low, high, by = int(first), int(last if dash else first), int(step or 1)
        except ValueError:
            low, high, by = 1, 0, 1
        if not (0 < low <= high and by > 0):
            raise UsageError(f"{option} {text}: expected ranks like 5-15, 5-50:5 or 5,10,30")
        found |= set(range(low, high + 1, by))
    return sorted(found)


@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    ks: Annotated[str, typer.Option("--k", metavar="RANKS", help="As 5-15, 5-50:5 or 5,10,30.")] = "5-50:5",
    k2s: Annotated[
        str | None,
        typer.Option("--k2", metavar="RANKS", help="Also vary k2, with k = BASE.", show_default="none"),
    ] = None,
    base: Annotated[str, typer.Option(metavar="N|auto", help="The k of the k2 curve.")] = "15",
    class_id: common.ClassOption = None,
    norm: common.NormOption = Norm.LINF,
    gap: Annotated[float, typer.Option(help="How close witness and certificate shall come.")] = 0.01,
    seconds: Annotated[float, typer.Option(help="Most seconds to decide one rank exactly.")] = 30.0,
    time_limit: common.TimeLimitOption = None,
    preprocess: common.PreprocessOption = None,
    *,
    loading: Loading,
    json: common.JsonOption = None,
    picture_file: common.PictureOption = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Certify the map of IMAGE for many k (and k2), and say for which k it is hardest to change.

    Exit code: 0 done, 3 time limit or Ctrl-C (the answer printed is what was done until then), 4 error.
    """
    common.check_ending("--picture", picture_file, PICTURE_FORMATS)
    common.check_outputs((model, image), {"--json": json, "--picture": picture_file})
    by_k = ranks_of("--k", ks)
    by_k2 = [] if k2s is None else ranks_of("--k2", k2s)
    ranks = common.parse_k(base)
    from corgi.certify.curve import radius_curve
    from corgi.certify.exact import ExactOptions
    from corgi.certify.verify import VerifyOptions
    from corgi.reporting import wording
    from corgi.reporting.document import curve_document, to_json
    from corgi.reporting.text import curve_text
    from corgi.reporting.versions import installed_versions

    options = VerifyOptions(
        k=ranks, class_id=class_id, norm=norm, exact=ExactOptions(gap=gap, seconds=seconds)
    )
    with common.working("loading", quiet=quiet, seconds=time_limit) as listener:
        network, pixels = common.read_input(loading, model, image, preprocess)
        curve = radius_curve(network, pixels, by_k, by_k2, options, image_name=str(image), listener=listener)
    document = curve_document(network, str(image), curve, installed_versions())
    text = curve_text(document, wording.recommendation(curve))
    common.emit(text, lambda: to_json(document), json, quiet=quiet)
    if picture_file is not None:
        from corgi.reporting.series_picture import curve_picture

        name = network.class_name(curve.explanation.class_id)
        common.save_picture(curve_picture(curve, name), picture_file)
    return Exit.TIME_LIMIT if curve.interrupted else Exit.OK
