"""`corgi report`: what came of a batch, as a page, as Markdown, as PDF."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from corgi.cli import common
from corgi.cli.browser import check_printing, pdf_of
from corgi.cli.exits import Exit
from corgi.data.file import write
from corgi.errors import UsageError
from corgi.terms import PAGE_BUDGET

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
    _check(stores, radii or [], html, markdown, pdf)
    from corgi.batch.report import report

    with common.working("reading", quiet=quiet):
        found = report(
            stores,
            title=title,
            radii=radii or (),
            with_page=html is not None or pdf is not None,
            with_document=html is not None,
            budget=round(pictures * _MEGABYTE),
            command=common.command_line(),
            note=partial(common.note, quiet=quiet),
        )
        if html is not None and found.document is not None and found.page is not None:
            write("--html", html / "report.json", found.document)
            write("--html", html / "index.html", found.page.encode())
        if pdf is not None and found.page is not None:
            write("--pdf", pdf, pdf_of(found.page))
    if markdown is not None and markdown != common.STDOUT:
        write("--markdown", markdown, found.markdown.encode())
    elif markdown == common.STDOUT or (found.page is None and not quiet):
        typer.echo(found.markdown, nl=False)
    return Exit.OK


def _check(
    stores: list[Path], radii: list[Path], html: Path | None, markdown: Path | None, pdf: Path | None
) -> None:
    """Refuse what could not be written, before the work is done."""
    if html is not None:
        try:
            html.mkdir(exist_ok=True)
        except OSError as error:
            hint = "Make the folder above it first." if isinstance(error, FileNotFoundError) else None
            raise UsageError(
                f"--html {html}: cannot be made a folder: {error.strerror}", hint=hint
            ) from error
    outputs = {"--pdf": pdf, "--markdown": None if markdown == common.STDOUT else markdown}
    common.check_outputs((*stores, *radii), outputs)
    if pdf is not None:
        common.check_ending("--pdf", pdf, ("pdf",))
        check_printing()
