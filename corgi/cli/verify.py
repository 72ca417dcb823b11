"""`corgi verify`: a certified radius, an attack radius and a picture of one image's map."""

from __future__ import annotations

from dataclasses import replace

from corgi.cli import common
from corgi.cli.asked import Asked, with_asked
from corgi.cli.exits import exit_of
from corgi.cli.loading import Loading, with_loading
from corgi.errors import UsageError
from corgi.progress import Progress
from corgi.terms import PICTURE_FORMATS

DEEP_SECONDS = 45.0
"""Time limit for a deep network where none is given: its bounds could take hours to get a little better."""


@with_asked
@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    *,
    asked: Asked,
    loading: Loading,
    json: common.JsonOption = None,
    picture_file: common.PictureOption = None,
    witness: common.WitnessOption = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Certify the class activation map of IMAGE: within which radius its largest pixels stay the same.

    Exit code: 0 proved or a positive radius, 1 refuted, 2 unknown, 3 time limit or Ctrl-C, 4 error.
    """
    common.check_ending("--picture", picture_file, PICTURE_FORMATS)
    common.check_ending("--witness", witness, ("npy",))
    common.check_outputs((model, image), {"--json": json, "--picture": picture_file, "--witness": witness})
    if witness is not None and not asked.attack:
        raise UsageError("--witness: with --no-attack there is none to save")
    from corgi.certify.verify import verify
    from corgi.network.depth import is_deep
    from corgi.reporting.text import verify_text

    options = asked.options()
    with common.working("loading", quiet=quiet, seconds=asked.time_limit) as listener:
        network, pixels = common.read_input(loading, model, image, asked.preprocess)
        if options.time_limit is None and is_deep(network.trunk):
            options = replace(options, time_limit=DEEP_SECONDS)
            about = f"a deep network: at most {DEEP_SECONDS:g} s, or as --time-limit says (inf: no limit)"
            listener(Progress("verify", about, lasting=True))
        common.ready_to_draw(picture_file)
        result = verify(network, pixels, options, image_name=str(image), listener=listener)

    def document() -> str:
        from corgi.reporting.document import to_json, verify_document
        from corgi.reporting.versions import installed_versions

        return to_json(verify_document(result, installed_versions()))

    common.emit(verify_text(result), document, json, quiet=quiet)
    common.save_witness(result.attack, witness, quiet=quiet)
    if picture_file is not None:
        from corgi.reporting.picture import verify_picture

        common.save_picture(verify_picture(result), picture_file)
    return exit_of(result.status)
