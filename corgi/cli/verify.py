"""`corgi verify`: a certified radius, an attack radius and a picture of one image's map."""

from __future__ import annotations

from corgi.cli import common
from corgi.cli.asked import Asked, with_asked
from corgi.cli.exits import exit_of
from corgi.cli.loading import Loading, with_loading
from corgi.errors import UsageError
from corgi.terms import PICTURE_FORMATS


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
    from corgi.report.text import verify_text

    options = asked.options()
    with common.working("loading", quiet=quiet) as listener:
        network, pixels = common.read_input(loading, model, image, asked.preprocess)
        result = verify(network, pixels, options, image_name=str(image), listener=listener)

    def document() -> str:
        from corgi.report.document import to_json, verify_document
        from corgi.report.versions import installed_versions

        return to_json(verify_document(result, installed_versions()))

    common.emit(verify_text(result), document, json, quiet=quiet)
    common.save_witness(result.attack, witness, quiet=quiet)
    if picture_file is not None:
        from corgi.report.picture import verify_picture

        common.save_picture(verify_picture(result), picture_file)
    return exit_of(result.status)
