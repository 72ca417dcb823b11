"""The rows of stores as `corgi report` takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from corgi.batch.store import Row, Store
from corgi.errors import StoreError, UsageError
from corgi.progress import Listener, Progress
from corgi.reporting.case import Call, Case, CasePictures, Setup
from corgi.reporting.document import RadiiDocument, VerifyDocument
from corgi.reporting.summary import Run, make_run
from corgi.reporting.versions import Versions


class Reading:
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


def read_radii(files: Sequence[Path]) -> dict[Path, RadiiDocument]:
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
