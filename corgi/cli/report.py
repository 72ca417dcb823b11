"""`corgi report`: what came of a batch, as a page, as Markdown, as PDF."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.browser import check_printing, pdf_of
from corgi.cli.exits import Exit
from corgi.data.file import write
from corgi.errors import UsageError
from corgi.progress import Progress
from corgi.terms import PAGE_BUDGET

if TYPE_CHECKING:
    from corgi.reporting.summary import Origin, Report

_MEGABYTE = 1_000_000


def command(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE...", help="What `corgi batch` wrote; one or several.")
    ],
    html: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write DIR/index.html, one page by itself, and DIR/report.json."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="FILE|-", help="Write Markdown.", show_default="printed if nothing is asked"),
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Print the page by a browser (extra corgi[pdf]).")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the report.")] = "Certified class activation maps",
    radii: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.json", help="What `corgi radii --json` wrote of an image; for its card."),
    ] = None,
    pictures: Annotated[
        float, typer.Option(metavar="MB", min=0, help="How large the pictures of the page may be together.")
    ] = PAGE_BUDGET / _MEGABYTE,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Report on the rows of stores: figures, charts, a table with a card for each image, two runs compared.

    Every setting (model, parameters, code) of every store is a run.
    """
    outputs = {"--html": html, "--pdf": pdf, "--markdown": None if markdown == common.STDOUT else markdown}
    _check_folder(html)
    common.check_outputs(
        (*stores, *(radii or ())), {name: path for name, path in outputs.items() if name != "--html"}
    )
    if pdf is not None:
        common.check_ending("--pdf", pdf, ("pdf",))
        check_printing()
    from corgi.batch.store import Store
    from corgi.cli.reading import Reading, read_radii
    from corgi.reporting.bundle import report_document
    from corgi.reporting.page.render import page
    from corgi.reporting.summary import make_report

    with common.working("reading", quiet=quiet) as listener, ExitStack() as stack:
        waits = partial(common.note, quiet=quiet)
        opened = [stack.enter_context(Store(path, on_wait=waits)) for path in stores]
        for store in opened:
            if store.incomplete:
                common.note(store.incomplete, quiet=quiet)
            stack.enter_context(store.snapshot())
        reading = Reading(read_radii(radii or ()), listener)
        runs = [run for store in opened for run in reading.runs(store)]
        if not runs:
            raise UsageError(f"{', '.join(map(str, stores))}: no results yet")
        for path in reading.unmatched():
            common.note(f"--radii {path}: no result is of this image, model, class and k", quiet=quiet)
        report = make_report(title, runs, _origin(stores))
        if html is not None or pdf is not None:
            listener(Progress("report", "writing the page"))
            bundle = report_document(report).model_dump_json().encode() + b"\n"
            digest = None if html is None else hashlib.sha256(bundle).hexdigest()
            written = page(report, reading.pictures, digest, round(pictures * _MEGABYTE))
            _write(html, pdf, written, bundle)
    _show_markdown(report, markdown, wanted=html is None and pdf is None, quiet=quiet)
    return Exit.OK


def _origin(stores: Sequence[Path]) -> Origin:
    from corgi.reporting.summary import Origin
    from corgi.reporting.versions import installed_versions

    created = datetime.now(UTC).isoformat(timespec="seconds")
    command_line = shlex.join(["corgi", *sys.argv[1:]])
    return Origin(tuple(map(str, stores)), command_line, created, installed_versions())


def _check_folder(html: Path | None) -> None:
    """Refuse a folder that cannot be made."""
    if html is None:
        return
    try:
        html.mkdir(exist_ok=True)
    except OSError as error:
        hint = "Make the folder above it first." if isinstance(error, FileNotFoundError) else None
        raise UsageError(f"--html {html}: cannot be made a folder: {error.strerror}", hint=hint) from error


def _write(html: Path | None, pdf: Path | None, written: str, bundle: bytes) -> None:
    if html is not None:
        write("--html", html / "report.json", bundle)
        write("--html", html / "index.html", written.encode())
    if pdf is not None:
        write("--pdf", pdf, pdf_of(written))


def _show_markdown(report: Report, target: Path | None, *, wanted: bool, quiet: bool) -> None:
    from corgi.reporting.markdown import report_markdown

    if target is not None and target != common.STDOUT:
        write("--markdown", target, report_markdown(report).encode())
    elif target == common.STDOUT or (wanted and not quiet):
        typer.echo(report_markdown(report), nl=False)
