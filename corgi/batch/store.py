"""The store of batch results: one SQLite file, one row for each (model, image, parameters, code).

A row is written whole, in one transaction, together with the end of its claim, or not at all. Two processes
may use one store: whoever is about to compute a row claims it first, for a while that it keeps prolonging; a
claim whose process is gone is free again. Write-ahead logging lets readers read while others write; every
commit is on the disk before it counts as done.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corgi.data.file import is_regular_file
from corgi.errors import StoreError
from corgi.reporting.case import Call, Pictures, Setup
from corgi.reporting.versions import Versions

SCHEMA_VERSION = 1
"""`PRAGMA user_version` of the files this module reads and writes."""

APPLICATION_ID = 0x636F7267
"""`PRAGMA application_id` of a store, "corg": tells it from other SQLite files."""

FAILED = "failed"
"""Status of an image that cannot be served; the reason says why. All others are those of `verify`, or: """
ERROR = "error"
"""Status of an image at which corgi, a library or the machine failed: the next run tries it again."""
CRASHED = "crashed"
"""Status of an image whose worker process died each time it was tried."""

WAIT_SECONDS = 60.0
"""How long a writer waits for another one."""

SILENT_SECONDS = 1.5
"""How long it does so before it says that it waits."""

_PAUSE = 0.05

_SCHEMA = """
CREATE TABLE settings (
    id INTEGER PRIMARY KEY,
    model_sha256 TEXT NOT NULL,
    model TEXT NOT NULL,
    parameters TEXT NOT NULL,
    code TEXT NOT NULL,
    UNIQUE (model_sha256, parameters, code)
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    setting INTEGER NOT NULL REFERENCES settings (id),
    command TEXT NOT NULL,
    host TEXT NOT NULL,
    workers INTEGER NOT NULL,
    threads INTEGER NOT NULL,
    versions TEXT NOT NULL,
    started TEXT NOT NULL,
    finished TEXT
);
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    setting INTEGER NOT NULL REFERENCES settings (id),
    image_sha256 TEXT NOT NULL,
    image TEXT NOT NULL,
    true_class TEXT,
    run INTEGER NOT NULL REFERENCES runs (id),
    started TEXT NOT NULL,
    finished TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    class_id INTEGER,
    predicted_class INTEGER,
    certified_radius REAL,
    uncertified_radius REAL,
    attack_radius REAL,
    ratio REAL,
    evaluations INTEGER,
    seconds REAL,
    document TEXT,
    image_png BLOB,
    change_png BLOB,
    cam BLOB,
    witness_cam BLOB,
    UNIQUE (setting, image_sha256)
);
CREATE TABLE claims (
    setting INTEGER NOT NULL REFERENCES settings (id),
    image_sha256 TEXT NOT NULL,
    owner TEXT NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (setting, image_sha256)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Setting(Setup):
    """A setup as a store numbers it: what rows that can be compared with each other have in common."""

    id: int


@dataclass(frozen=True)
class Run(Call):
    """One call of `corgi batch` as a store numbers it: it computes rows of a setting."""

    id: int
    setting: int


WITH = "+"
"""Between the digest of an image's file and that of its annotation."""


@dataclass(frozen=True)
class Item:
    """One image of a batch.

    Attributes:
        sha256: digest of the file, and how it is read (`corgi.batch.items.digest_of`); where its annotation
            is part of the question, `+` and the digest of that.
        name: path, as the user gave it; bytes of it that are no UTF-8 are written out.
        true_class: what the data says it shows: a data set's class number, or the name of the folder it
            lies in; None where nothing says it.
        path: where to read it; None for an item that a store gives back. Equal items may lie in two places.
    """

    sha256: str
    name: str
    true_class: str | None = None
    path: Path | None = field(default=None, compare=False)

    @property
    def content(self) -> str:
        """What the digest says of the file alone."""
        return re.sub(rf"\{WITH}[0-9a-f]{{64}}$", "", self.sha256)

    @property
    def file(self) -> Path:
        """Where to read it: the name says it as well unless bytes of it are written out."""
        return self.path or Path(self.name)


@dataclass(frozen=True)
class Answer:
    """What came of one image.

    Attributes:
        status, reason: of `verify`, or `FAILED`, `ERROR` or `CRASHED`.
        document: the whole document of `corgi verify --json`; None of an image without an answer.
    """

    status: str
    reason: str
    document: str | None = None


@dataclass(frozen=True)
class Row:
    """One row of the store.

    Attributes:
        id, setting, run: numbers of the row, of its setting, of the run that computed it.
        item: the image; answer: what came of it.
        started, finished: ISO 8601, UTC.
    """

    id: int
    setting: int
    run: int
    item: Item
    started: str
    finished: str
    answer: Answer


_BEFORE = ("setting", "run", "image_sha256", "image", "true_class", "started", "finished")
_ANSWER = tuple(field.name for field in fields(Answer))
_PICTURES = tuple(field.name for field in fields(Pictures))

FOUND = {
    "class_id": int, "predicted_class": int, "certified_radius": float, "uncertified_radius": float,
    "attack_radius": float, "ratio": float, "evaluations": int, "seconds": float,
}  # fmt: skip
"""Fields of the document that are columns as well, for SQL, and their types; NULL without a document."""

ALONG = {"certified_size": float, "broken_size": float, "sizes": None}
"""Fields of the document of a sweep that a record has as well, and their types; `sizes` is JSON text."""

_SETTING = "model, model_sha256, parameters, code, id"
_RUN = "command, host, workers, threads, versions, started, finished, id, setting"

RECORD = (
    *("model", "model_sha256", "code", "parameters", "image", "image_sha256", "true_class"),
    *("status", "reason", *FOUND, *ALONG, "started", "finished", "host", "command"),
)
"""What a row says by itself, its setting and its run included."""


def now() -> str:
    """The time as the store writes it: ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Store:
    """An open store; use it in a `with` block, in the thread that made it.

    Attributes:
        path: the file.
        owner: in whose name it claims: machine, process and a random word.
        on_wait: told, once a wait, that another process keeps the file locked.

    Raises:
        StoreError: from every method: the file is no store or one of another schema version, another process
            keeps it locked, or it cannot be read or written (a full disk, for example). What was committed
            before stays.
    """

    def __init__(
        self, path: Path, *, create: bool = False, on_wait: Callable[[str], None] = lambda _: None
    ) -> None:
        self.path, self.on_wait = path, on_wait
        # Claims are told apart by more than the process: its number may be given to another one.
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._watched: dict[tuple[int, str], _Watched] = {}
        self._logged = is_regular_file(self._log)  # before opening begins one
        if not create and not is_regular_file(path):
            raise StoreError(f"{path}: no such store")
        try:
            self._open("mode=rwc" if create else "mode=rw", create)
        except StoreError as error:
            # A place that cannot be written to: SQLite would begin a log or its index there. Without a log
            # nobody writes, and the file is all there is; a log can be read where its index is there, too.
            if create or not _read_only(error.__cause__):
                raise
            if _size(self._log) == 0:
                self._open("mode=ro&immutable=1", create)
                return
            try:
                self._open("mode=ro", create)
            except StoreError as again:
                raise StoreError(
                    f"{path}: in a place that cannot be written to, with a log ({self._log.name}) beside it",
                    hint=f"Copy both files, {path.name} and {self._log.name}, to a folder of yours.",
                ) from again

    @property
    def _log(self) -> Path:
        """SQLite's write-ahead log: what is committed and not yet in the file itself."""
        return self.path.with_name(f"{self.path.name}-wal")

    def _open(self, how: str, create: bool) -> None:
        with self._answering():
            # Transactions are begun and ended by hand: python's own rules for them changed with releases.
            self._sql = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?{how}",
                uri=True,
                timeout=SILENT_SECONDS,
                isolation_level=None,
                factory=_Patient,
            )
            self._sql.on_wait = lambda: self.on_wait(
                f"{self.path}: another process keeps it locked; waiting, {WAIT_SECONDS:g} s at most"
            )
        try:
            with self._answering():
                self._prepare(create)
        except BaseException:
            self._sql.close()
            raise

    def _prepare(self, create: bool) -> None:
        if create and self._empty():
            self._sql.execute("PRAGMA journal_mode = WAL")
            with self.transaction():
                if self._empty():  # nobody else made it meanwhile
                    for statement in _SCHEMA.split(";"):
                        self._sql.execute(statement)
                    self._sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self._sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if self._pragma("application_id") != APPLICATION_ID:
            if self._empty() and self._begun_with_a_log():
                raise StoreError(
                    f"{self.path}: nothing in it but that it has a log, {self._log.name}, which is not there",
                    hint=f"Copy {self._log.name} along with it, or copy it when no batch runs.",
                )
            raise StoreError(
                f"{self.path}: an SQLite file, but not a store of corgi", hint="Name another file."
            )
        if (found := self._pragma("user_version")) != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: a store of schema version {found}, this corgi reads {SCHEMA_VERSION}",
                hint="Use the release that wrote it, or begin a new store.",
            )
        self._sql.execute("PRAGMA synchronous = FULL")
        self._sql.execute("PRAGMA foreign_keys = ON")

    def _empty(self) -> bool:
        (tables,) = self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return self._pragma("user_version") == 0 and tables == 0

    def _begun_with_a_log(self) -> bool:
        """Whether the file's header says that it is written through a log (SQLite's file format, 1.3.3)."""
        with self.path.open("rb") as file:
            return file.read(20)[18:20] == b"\2\2"

    @property
    def incomplete(self) -> str:
        """Why rows may be missing, for people: a copy of a store in use, without its log; empty if none may.

        A run that ended takes its log back into the file. One that did not end leaves it beside the file.
        """
        if self._logged or not (unfinished := [run for run in self.runs() if run.finished is None]):
            return ""
        return (
            f"{self.path}: {len(unfinished)} of its runs did not end, and there is no {self._log.name}"
            f" beside it: if it was copied while a batch ran, the last rows are in that file"
        )

    def _pragma(self, name: str) -> int:
        return int(self._sql.execute(f"PRAGMA {name}").fetchone()[0])

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is lost by not doing so."""
        self._sql.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """SQLite's errors as the user's."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            hint = {
                sqlite3.SQLITE_FULL: "Make room and run it again: it goes on where it stopped.",
                sqlite3.SQLITE_IOERR: "The disk may be full: even reading needs a little room.",
                sqlite3.SQLITE_BUSY: "Another process keeps it locked.",
                sqlite3.SQLITE_NOTADB: "Name another file, or one that does not exist yet.",
            }.get(code)
            raise StoreError(f"{self.path}: {error}", hint=hint) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block whose writes all happen, or none; other writers wait meanwhile."""
        with self._answering():
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    # -- writing

    def setting(self, model_sha256: str, model: str, parameters: Mapping[str, Any], code: str) -> Setting:
        """The setting, made if it is new; `model` is the name it was first seen under."""
        key = (model_sha256, json.dumps(parameters, sort_keys=True, separators=(",", ":")), code)
        with self.transaction():
            self._sql.execute(
                "INSERT INTO settings (model_sha256, parameters, code, model) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (*key, model),
            )
            found = self._sql.execute(
                f"SELECT {_SETTING} FROM settings WHERE model_sha256 = ? AND parameters = ? AND code = ?",
                key,
            ).fetchone()
        return _setting(*found)

    def begin_run(
        self, setting: Setting, command: str, workers: int, threads: int, versions: Versions
    ) -> Run:
        """Note that a run begins."""
        host, started = socket.gethostname(), now()
        values = (setting.id, command, host, workers, threads, versions.model_dump_json(), started)
        with self.transaction():
            number = self._sql.execute(
                "INSERT INTO runs (setting, command, host, workers, threads, versions, started)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            ).lastrowid
        assert number is not None
        return Run(command, host, workers, threads, versions, started, None, number, setting.id)

    def end_run(self, run: Run) -> None:
        """Note that a run has nothing left to do."""
        with self.transaction():
            self._sql.execute("UPDATE runs SET finished = ? WHERE id = ?", (now(), run.id))

    def claim(self, setting: Setting, images: Sequence[str], count: int, seconds: float) -> list[str]:
        """At most `count` of the images (digests) that nobody has computed or claimed, now claimed by us.

        The claim holds for `seconds` unless it is renewed. Claims that ran out are taken over, and those of a
        process of this machine that does not live any more. The clock of another machine may be wrong by any
        amount: its claim runs out once it was seen here for `seconds`, by our clock, without being renewed.
        """
        taken: list[str] = []
        with self.transaction():
            moment = time.time()
            for image in images:
                if len(taken) == count:
                    break
                if self._sql.execute(
                    "SELECT 1 FROM results WHERE setting = ? AND image_sha256 = ?", (setting.id, image)
                ).fetchone():
                    continue
                held = self._sql.execute(
                    "SELECT owner, expires FROM claims WHERE setting = ? AND image_sha256 = ?",
                    (setting.id, image),
                ).fetchone()
                if held is not None and self._held((setting.id, image), held, moment, seconds):
                    continue
                self._sql.execute(
                    "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)",
                    (setting.id, image, self.owner, moment + seconds),
                )
                taken.append(image)
        return taken

    def _held(self, claim: tuple[int, str], held: tuple[str, float], moment: float, seconds: float) -> bool:
        """Whether a claim of somebody still holds."""
        owner, expires = held
        if _host(owner) == socket.gethostname():
            return expires > moment and not _gone(owner)
        watched = self._watched.get(claim)
        if watched is None or watched.claim != held:
            watched = self._watched[claim] = _Watched(held, time.monotonic())
        return time.monotonic() < watched.since + seconds

    def renew(self, seconds: float) -> None:
        """Prolong all our claims to `seconds` from now."""
        with self.transaction():
            self._sql.execute(
                "UPDATE claims SET expires = ? WHERE owner = ?", (time.time() + seconds, self.owner)
            )

    def release(self) -> None:
        """Give up all our claims."""
        with self.transaction():
            self._sql.execute("DELETE FROM claims WHERE owner = ?", (self.owner,))

    def record(self, run: Run, item: Item, started: str, answer: Answer, pictures: Pictures | None) -> bool:
        """Write a row and end its claim; False if another process wrote it before, whose row stays."""
        columns = (*_BEFORE, *_ANSWER, *FOUND, *_PICTURES)
        document = {} if answer.document is None else json.loads(answer.document)
        values = [run.setting, run.id, item.sha256, item.name, item.true_class, started, now()]
        values += [answer.status, answer.reason, answer.document, *(document.get(name) for name in FOUND)]
        values += [None] * len(_PICTURES) if pictures is None else _blobs(pictures)
        marks = ", ".join("?" * len(columns))
        with self.transaction():
            written = self._sql.execute(
                f"INSERT INTO results ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT DO NOTHING", values
            ).rowcount
            self._sql.execute(
                "DELETE FROM claims WHERE setting = ? AND image_sha256 = ?", (run.setting, item.sha256)
            )
        return written == 1

    def rename(self, setting: Setting, items: Iterable[Item]) -> None:
        """Let rows of these images say their names of now, and their classes where an item has one."""
        with self.transaction():
            self._sql.executemany(
                "UPDATE results SET image = ?1, true_class = coalesce(?2, true_class)"
                " WHERE setting = ?3 AND image_sha256 = ?4"
                " AND (image IS NOT ?1 OR true_class IS NOT coalesce(?2, true_class))",
                [(item.name, item.true_class, setting.id, item.sha256) for item in items],
            )

    def forget(self, setting: Setting, images: Sequence[str], statuses: Sequence[str]) -> None:
        """Delete the rows of these images (digests) that have one of these statuses."""
        marks = ", ".join("?" * len(statuses))
        with self.transaction():
            self._sql.executemany(
                f"DELETE FROM results WHERE setting = ? AND image_sha256 = ? AND status IN ({marks})",
                [(setting.id, image, *statuses) for image in images],
            )

    def forget_others(self, setting: Setting, items: Iterable[Item]) -> None:
        """Delete rows of these images, by content and name, with another annotation than they have now."""
        after = chr(ord(WITH) + 1)
        with self.transaction():
            self._sql.executemany(
                "DELETE FROM results WHERE setting = ? AND image = ? AND image_sha256 != ?"
                " AND image_sha256 > ? AND image_sha256 < ?",
                [
                    (setting.id, item.name, item.sha256, item.content + WITH, item.content + after)
                    for item in items
                    if item.content != item.sha256
                ],
            )

    # -- reading

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A block that reads the store as it is at its first look, whatever others write meanwhile."""
        with self._answering():
            self._sql.execute("BEGIN")
        try:
            yield
        finally:
            with self._answering():
                if self._sql.in_transaction:  # SQLite ends it itself where it cannot read on
                    self._sql.execute("COMMIT")

    def done(self, setting: Setting) -> frozenset[str]:
        """Digests of the images of a setting that have a row."""
        with self._answering():
            found = self._sql.execute("SELECT image_sha256 FROM results WHERE setting = ?", (setting.id,))
            return frozenset(digest for (digest,) in found)

    def settings(self) -> tuple[Setting, ...]:
        """All settings, in the order they were first used."""
        with self._answering():
            return tuple(
                _setting(*v) for v in self._sql.execute(f"SELECT {_SETTING} FROM settings ORDER BY id")
            )

    def runs(self, setting: Setting | None = None) -> tuple[Run, ...]:
        """All runs, or those of a setting, in the order they began."""
        with self._answering():
            runs = [_run(*values) for values in self._sql.execute(f"SELECT {_RUN} FROM runs ORDER BY id")]
        return tuple(run for run in runs if setting is None or run.setting == setting.id)

    def rows(self, setting: Setting | None = None) -> Iterator[Row]:
        """All rows, or those of a setting, by setting, name and digest of the image: not by time."""
        columns = ", ".join(("id", *_BEFORE, *_ANSWER))
        where, values = ("", ()) if setting is None else ("WHERE setting = ?", (setting.id,))
        with self._answering():
            found = self._sql.execute(
                f"SELECT {columns} FROM results {where} ORDER BY setting, image, image_sha256", values
            )
            for number, of, run, digest, name, true_class, started, finished, *answer in found:
                item = Item(digest, name, true_class)
                yield Row(number, of, run, item, started, finished, Answer(*answer))

    def statuses(self, setting: Setting) -> dict[str, str]:
        """How the images of a setting ended, by digest."""
        with self._answering():
            found = self._sql.execute(
                "SELECT image_sha256, status FROM results WHERE setting = ?", (setting.id,)
            )
            return dict(found.fetchall())

    def records(self) -> Iterator[dict[str, Any]]:
        """All rows in the order of `rows`: `RECORD` and `document`; parameters and document as JSON text."""
        of = dict.fromkeys(("model", "model_sha256", "code", "parameters"), "settings")
        of |= dict.fromkeys(("host", "command"), "runs")
        names = [name for name in (*RECORD, "document") if name not in ALONG]
        columns = ", ".join(f"{of.get(name, 'results')}.{name}" for name in names)
        with self._answering():
            found = self._sql.execute(
                f"SELECT {columns} FROM results JOIN settings ON settings.id = results.setting"
                " JOIN runs ON runs.id = results.run ORDER BY results.setting, image, image_sha256"
            )
            for values in found:
                record = dict(zip(names, values, strict=True))
                yield record | _along(record)

    def pictures(self, row: int) -> Pictures | None:
        """What the row of a number draws; None for an image that failed."""
        with self._answering():
            found = self._sql.execute(
                f"SELECT {', '.join(_PICTURES)} FROM results WHERE id = ?", (row,)
            ).fetchone()
        image, change, cam, witness_cam = found
        if image is None:
            return None
        return Pictures(image, change, _map(cam), None if witness_cam is None else _map(witness_cam))


class _Patient(sqlite3.Connection):
    """A connection that waits for locks of others for `WAIT_SECONDS`, and says so.

    SQLite itself waits in silence, and hears no Ctrl-C meanwhile: it is given `SILENT_SECONDS` at a time.
    Only a statement that got no lock is begun again, so nothing of it was done.
    """

    on_wait: Callable[[], None]

    def execute(self, *statement: Any) -> sqlite3.Cursor:
        """As that of every connection."""
        said, end = False, time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return super().execute(*statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                    raise
                if not said:
                    self.on_wait()
                said = True
                time.sleep(_PAUSE)  # SQLite may answer at once


@dataclass(frozen=True)
class _Watched:
    """A claim of another machine, owner and end by its clock, and since when it is known, by ours."""

    claim: tuple[str, float]
    since: float


def _along(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of a change; nothing of balls."""
    if record["document"] is None or "change" not in json.loads(record["parameters"]):
        return dict.fromkeys(ALONG)
    document = json.loads(record["document"])
    return {name: document[name] for name in ALONG} | {"sizes": json.dumps(document["sizes"])}


def _setting(model: str, model_sha256: str, parameters: str, code: str, number: int) -> Setting:
    return Setting(model, model_sha256, json.loads(parameters), code, number)


def _run(*values: Any) -> Run:
    command, host, workers, threads, versions, *rest = values
    return Run(command, host, workers, threads, Versions.model_validate_json(versions), *rest)


def _read_only(error: BaseException | None) -> bool:
    """Whether SQLite failed for want of a file that it cannot make."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def _size(path: Path) -> int:
    return path.stat().st_size if is_regular_file(path) else 0


def _host(owner: str) -> str:
    return owner.rsplit(":", 2)[0]


def _gone(owner: str) -> bool:
    """Whether the owner of a claim, a process of this machine, does not live any more."""
    number = owner.rsplit(":", 2)[1]
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, under another user
        return False
    return False


def _blobs(pictures: Pictures) -> list[bytes | None]:
    maps = [None if values is None else _npy(values) for values in (pictures.cam, pictures.witness_cam)]
    return [pictures.image_png, pictures.change_png, *maps]


def _npy(values: NDArray[np.float32]) -> bytes:
    target = io.BytesIO()
    np.save(target, values, allow_pickle=False)
    return target.getvalue()


def _map(blob: bytes) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.load(io.BytesIO(blob), allow_pickle=False)
    return values
