"""`corgi export-runs`: the rows of a batch store for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.data.file import whole
from corgi.errors import UsageError


def command(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="File that `corgi batch` wrote.")],
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Comma-separated values.")] = None,
    jsonl: Annotated[Path | None, typer.Option(metavar="FILE", help="One JSON object a line.")] = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Apache Parquet; needs pyarrow.")
    ] = None,
    debug: common.DebugOption = False,
) -> int:
    """Write all rows of STORE as CSV, JSON lines or Parquet."""
    files = {"--csv": csv, "--jsonl": jsonl, "--parquet": parquet}
    if not any(files.values()):
        raise UsageError(f"nothing to write: name a file by {', '.join(files)}")
    common.check_outputs((store,), files)
    from corgi.batch import export
    from corgi.batch.store import Store

    writers = {"--csv": export.write_csv, "--jsonl": export.write_jsonl, "--parquet": export.write_parquet}
    with Store(store, on_wait=common.note) as opened:
        if opened.incomplete:
            common.note(opened.incomplete)
        for option, path in files.items():
            if path is not None:
                with whole(option, path) as temporary:
                    writers[option](opened, temporary)
    return Exit.OK
