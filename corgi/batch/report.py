"""A report on the rows of stores: figures, page and document, read at one moment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from corgi.batch.store import Row, Store
from corgi.budget import tell
from corgi.errors import StoreError, UsageError
from corgi.reporting.bundle import report_document
from corgi.reporting.case import Case, Pictures, read_answer
from corgi.reporting.document import RadiiDocument, VerifyDocument
from corgi.reporting.markdown import report_markdown
from corgi.reporting.page.render import page
from corgi.reporting.summary import Origin, Report, Run, make_report, make_run
from corgi.reporting.versions import installed_versions
from corgi.terms import PAGE_BUDGET

TITLE = "Certified class activation maps"


@dataclass(frozen=True)
class ReportResult:
    """The answer of `corgi report`.

    Attributes:
        report: all figures.
        page: one page of HTML; document: the report.json that it names. None where they were not asked for.
    """

    report: Report
    page: str | None
    document: bytes | None

    @property
    def markdown(self) -> str:
        """The figures, and the images with the smallest certified radii, as Markdown."""
        return report_markdown(self.report)


def report(
    stores: Sequence[Path],
    *,
    title: str = TITLE,
    radii: Sequence[Path] = (),
    with_page: bool = True,
    with_document: bool = True,
    budget: int = PAGE_BUDGET,
    command: str = "",
    note: Callable[[str], None] = lambda _: None,
) -> ReportResult:
    """Report on the rows of stores; every setting (model, parameters, code) of every store is a run.

    Args:
        stores: files that `corgi batch` wrote.
        title: of the report.
        radii: what `corgi radii --json` wrote of images, for their cards.
        with_page: make the page, too.
        with_document: make the document, too, which the page then names.
        budget: bytes of pictures of the page.
        command: how the call is named in the report.
        note: told what is missing, and which stores another process keeps locked.

    Raises:
        StoreError: a store cannot be read, or its documents are none.
        UsageError: no rows, or a file that is no document of `corgi radii`.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(Store(path, on_wait=note)) for path in stores]
        for store in opened:
            if store.incomplete:
                note(store.incomplete)
            stack.enter_context(store.snapshot())
        reading = _Reading(_read_radii(radii))
        runs = [run for store in opened for run in reading.runs(store)]
        if not runs:
            raise UsageError(f"{', '.join(map(str, stores))}: no results yet")
        for path in reading.radii.keys() - reading.matched:
            note(f"--radii {path}: no result is of this image, model, class and k")
        created = datetime.now(UTC).isoformat(timespec="seconds")
        origin = Origin(tuple(map(str, stores)), command, created, installed_versions())
        made = make_report(title, runs, origin)
        if not (with_page or with_document):
            return ReportResult(made, None, None)
        tell("report", "writing the page")
        document = report_document(made).model_dump_json().encode() + b"\n" if with_document else None
        digest = None if document is None else hashlib.sha256(document).hexdigest()
        return ReportResult(
            made, page(made, reading.pictures, digest, budget) if with_page else None, document
        )


class _Reading:
    """Rows of stores as cases of runs, and the way back from a case to its pictures."""

    def __init__(self, radii: dict[Path, RadiiDocument]) -> None:
        self.radii = radii
        self.stores: list[Store] = []
        self.matched: set[Path] = set()

    def runs(self, store: Store) -> Iterator[Run]:
        """The runs of a store, settings without rows left out."""
        for setting in store.settings():
            cases = []
            for row in store.rows(setting):
                cases.append(self.case(store, row))
                if len(cases) % 500 == 0:
                    tell("report", f"{store.path}: {len(cases)} results read")
            if cases:
                self.stores.append(store)
                yield make_run(setting, store.runs(setting), cases)

    def case(self, store: Store, row: Row) -> Case:
        """A row as a case.

        Raises:
            StoreError: its document is none of `corgi verify` or `corgi sweep`.
        """
        answer, item, document = row.answer, row.item, None
        if answer.document is not None:
            try:
                document = read_answer(answer.document)
            except ValidationError as error:
                raise StoreError(
                    f"{store.path}: row {row.id} ({item.name}): its document is none of corgi verify or of"
                    f" corgi sweep: {error.errors()[0]['msg']}",
                    hint="Use the release that wrote the store.",
                ) from error
        seconds = None if document is None else document.seconds
        balls = document if isinstance(document, VerifyDocument) else None
        radii = None if balls is None else self.radii_of(item.name, balls)
        shown = (item.name, item.content, item.true_class)
        return Case(row.id, *shown, answer.status, answer.reason, seconds, document, radii)

    def radii_of(self, name: str, document: VerifyDocument) -> RadiiDocument | None:
        """The radii of the pixels of the same map, if a file has them, under the image's name then or now."""
        subjects = _subject(document), _subject(document.model_copy(update={"image": name}))
        for path, radii in self.radii.items():
            if _subject(radii) in subjects:
                self.matched.add(path)
                return radii
        return None

    def pictures(self, run: int, case: Case) -> Pictures | None:
        """What a card draws; None if the store has no pictures of it."""
        return self.stores[run].pictures(case.key)


def _subject(document: VerifyDocument | RadiiDocument) -> tuple[object, ...]:
    """What radii of pixels must share with a verification to be shown beside it."""
    which = (document.model_sha256, document.image, document.class_id, document.map_kind)
    seen = document.predicted_class, document.map_shape, frozenset(document.top_k), document.loaded_as
    return (*which, document.k, document.norm, *seen)


def _read_radii(files: Sequence[Path]) -> dict[Path, RadiiDocument]:
    """What `corgi radii --json` wrote, by file.

    Raises:
        UsageError: a file cannot be read, or holds something else.
    """
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
