"""`corgi inspect`: what corgi recognises in a model file."""

from __future__ import annotations

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading


@with_loading
def command(
    model: common.ModelArgument,
    *,
    loading: Loading,
    json: common.JsonOption = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Show the input, the CAM head and the classes of MODEL, and what bounding it takes."""
    common.check_outputs((model,), {"--json": json})
    from corgi.certify.expected import engine_reports
    from corgi.reporting.document import inspect_document, to_json
    from corgi.reporting.text import inspect_text

    with common.working("loading", quiet=quiet):
        network = loading.load(model)
        reports = engine_reports(network)
    document = inspect_document(network, reports)
    common.emit(inspect_text(document), lambda: to_json(document), json, quiet=quiet)
    return Exit.OK
