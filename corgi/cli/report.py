"""`corgi report`: what came of a batch, as a page, as Markdown, as PDF."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from corgi.batch.store import Row, Store
from corgi.cli import common
from corgi.cli.browser import check_printing, pdf_of
from corgi.cli.exits import Exit
from corgi.errors import StoreError, UsageError
from corgi.progress import Listener, Progress
from corgi.report.bundle import report_document
from corgi.report.case import Call, Case, CasePictures, Setup
from corgi.report.document import RadiiDocument, VerifyDocument
from corgi.report.markdown import report_markdown
from corgi.report.page.render import BUDGET, page
from corgi.report.summary import Origin, Report, Run, make_report, make_run
from corgi.report.versions import Versions, installed_versions

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
    ] = BUDGET / _MEGABYTE,
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
    with common.working("reading", quiet=quiet) as listener, ExitStack() as stack:
        opened = [stack.enter_context(Store(path)) for path in stores]
        for store in opened:
            stack.enter_context(store.snapshot())
        reading = _Reading(_radii(radii or ()), listener)
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


class _Reading:
    """Rows of stores as cases of runs, and the way back from a case to its pictures."""

    def __init__(self, radii: dict[Path, RadiiDocument], listener: Listener) -> None:
        self.listener = listener
        self.found: list[tuple[Store, dict[int, Row]]] = []
        self.radii = radii
        self.matched: set[Path] = set()

    def runs(self, store: Store) -> Iterator[Run]:
        """The runs of a store, settings without rows left out."""
        for setting in store.settings():
            rows: dict[int, Row] = {}
            cases = []
            for row in store.rows(setting):
                cases.append(self.case(store, row))
                rows[row.id] = replace(row, answer=replace(row.answer, document=None))  # it is large
                if len(cases) % 500 == 0:
                    self.listener(Progress("report", f"{store.path}: {len(cases)} results read"))
            if not cases:
                continue
            self.found.append((store, rows))
            setup = Setup(
                setting.model, setting.model_sha256, json.loads(setting.parameters), str(setting.code)
            )
            calls = (
                Call(
                    run.command,
                    run.host,
                    run.workers,
                    run.threads,
                    Versions.model_validate_json(run.versions),
                    run.started,
                    run.finished,
                )
                for run in store.runs(setting)
            )
            yield make_run(setup, calls, cases)

    def case(self, store: Store, row: Row) -> Case:
        """A row as a case.

        Raises:
            StoreError: its document is none of `corgi verify`.
        """
        answer, document = row.answer, None
        if answer.document is not None:
            try:
                document = VerifyDocument.model_validate_json(answer.document)
            except ValidationError as error:
                raise StoreError(
                    f"{store.path}: row {row.id} ({row.item.name}): its document is none of corgi verify: "
                    f"{error.errors()[0]['msg']}",
                    hint="Use the release that wrote the store.",
                ) from error
        return Case(
            key=row.id,
            image=row.item.name,
            image_sha256=row.item.sha256,
            true_class=row.item.true_class,
            status=answer.status,
            reason=answer.reason,
            seconds=answer.seconds,
            document=document,
            radii=self.radii_of(row.item.name, document),
        )

    def radii_of(self, name: str, document: VerifyDocument | None) -> RadiiDocument | None:
        """The radii of the pixels of the same map, if a file has them, under the image's name then or now."""
        if document is None:
            return None
        subjects = _subject(document), _subject(document.model_copy(update={"image": name}))
        for path, radii in self.radii.items():
            if _subject(radii) in subjects:
                self.matched.add(path)
                return radii
        return None

    def unmatched(self) -> list[Path]:
        """Files with radii of no image of the stores."""
        return [path for path in self.radii if path not in self.matched]

    def pictures(self, run: int, case: Case) -> CasePictures | None:
        """What a card draws; None if the store has no pictures of it."""
        store, rows = self.found[run]
        kept = store.pictures(rows[case.key])
        if kept is None:
            return None
        witness_cam = None if kept.witness_cam is None else kept.witness_cam.astype("float64")
        return CasePictures(kept.image_png, kept.change_png, kept.cam.astype("float64"), witness_cam)


def _subject(document: VerifyDocument | RadiiDocument) -> tuple[object, ...]:
    """What radii of pixels must share with a verification to be shown beside it."""
    which = (document.model_sha256, document.image, document.class_id, document.map_kind)
    seen = document.predicted_class, document.map_shape, frozenset(document.top_k), document.loaded_as
    return (*which, document.k, document.norm, *seen)


def _radii(files: Sequence[Path]) -> dict[Path, RadiiDocument]:
    found = {}
    for path in files:
        try:
            found[path] = RadiiDocument.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UsageError(f"--radii {path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UsageError(f"--radii {path}: no document of corgi radii --json: {reason}") from error
    return found


def _origin(stores: Sequence[Path]) -> Origin:
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
        common.write("--html", html / "report.json", bundle)
        common.write("--html", html / "index.html", written.encode())
    if pdf is not None:
        common.write("--pdf", pdf, pdf_of(written))


def _show_markdown(report: Report, target: Path | None, *, wanted: bool, quiet: bool) -> None:
    if target is not None and target != common.STDOUT:
        common.write("--markdown", target, report_markdown(report).encode())
    elif target == common.STDOUT or (wanted and not quiet):
        typer.echo(report_markdown(report), nl=False)
