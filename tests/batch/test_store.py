"""The store: what is written is read, claims exclude each other, other files are refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corgi.batch import store as module
from corgi.batch.export import records
from corgi.batch.store import CRASHED, FAILED, Answer, Item, Run, Setting, Store
from corgi.errors import StoreError
from corgi.reporting.case import Pictures
from corgi.reporting.versions import installed_versions

DONE = Answer("certified", "", '{"class_id": 1, "certified_radius": 0.25, "ratio": 1.5, "evaluations": 7}')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


def begin(store: Store) -> tuple[Setting, Run]:
    setting = store.setting("ab" * 32, "m.onnx", {"k": 15}, "0.1.0+abc")
    return setting, store.begin_run(setting, "corgi batch m.onnx", 2, 1, installed_versions())


def test_a_row_comes_back_as_it_was_written(path: Path) -> None:
    cam = np.random.default_rng(0).random((3, 4), dtype=np.float32)
    pictures = Pictures(b"png", b"change", cam, cam + 1)
    with Store(path, create=True) as store:
        setting, run = begin(store)
        assert store.record(run, Item("02", "b.png", "12"), "then", DONE, pictures)
        assert store.record(run, Item("01", "a.png"), "then", Answer("failed", "damaged"), None)
        store.end_run(run)
    with Store(path) as store:
        assert store.settings() == (setting,)
        assert store.runs(setting)[0].finished is not None
        first, second = store.rows()
        assert (first.item, first.answer) == (Item("01", "a.png"), Answer("failed", "damaged"))
        assert (second.item, second.answer, second.run) == (Item("02", "b.png", "12"), DONE, run.id)
        assert store.pictures(first.id) is None
        read = store.pictures(second.id)
        assert read is not None
        assert (read.image_png, read.change_png) == (b"png", b"change")
        assert np.array_equal(read.cam, cam)
        assert np.array_equal(read.witness_cam, cam + 1)


def test_a_row_is_written_once(path: Path) -> None:
    with Store(path, create=True) as store:
        _, run = begin(store)
        assert store.record(run, Item("01", "a.png"), "then", DONE, None)
        assert not store.record(run, Item("01", "a.png"), "later", replace(DONE, status="unknown"), None)
        (row,) = store.rows()
        assert (row.started, row.answer.status) == ("then", "certified")


def test_an_image_takes_its_latest_name_and_keeps_its_class(path: Path) -> None:
    with Store(path, create=True) as store:
        setting, run = begin(store)
        store.record(run, Item("01", "a.png"), "then", DONE, None)
        for item in (Item("01", "17/a.png", "17"), Item("01", "b.png"), Item("02", "c.png", "3")):
            store.rename(setting, [item])
        (row,) = store.rows()
        assert (row.item, row.answer) == (Item("01", "b.png", "17"), DONE)


def test_export_beside_a_batch_that_begins(path: Path) -> None:
    with Store(path, create=True) as mine, Store(path) as theirs:
        _, run = begin(mine)
        mine.record(run, Item("01", "a.png"), "then", DONE, None)
        exported = records(mine)
        first = next(exported)
        setting = theirs.setting("cd" * 32, "other.onnx", {}, "0.1.0+abc")
        late = theirs.begin_run(setting, "", 1, 1, installed_versions())
        theirs.record(late, Item("02", "b.png"), "then", DONE, None)
        assert [record["image"] for record in (first, *exported)] == ["a.png"]
        assert [row.item.name for row in mine.rows()] == ["a.png", "b.png"]
        assert (first["certified_radius"], first["attack_radius"], first["seconds"]) == (0.25, None, None)
        assert (first["parameters"], first["command"]) == ('{"k":15}', "corgi batch m.onnx")


def test_claims_exclude_each_other_and_run_out(path: Path) -> None:
    with Store(path, create=True) as mine, Store(path) as theirs:
        setting, run = begin(mine)
        assert mine.claim(setting, ["01", "02", "03"], 2, 60) == ["01", "02"]
        mine.record(run, Item("01", "a.png"), "then", DONE, None)
        theirs.owner = "elsewhere:1:ab"
        assert theirs.claim(setting, ["01", "02", "03"], 3, 0.0) == ["03"]  # runs out at once
        assert theirs.claim(setting, ["01", "02", "03"], 3, 0.0) == ["03"]
        theirs.renew(60)
        assert mine.claim(setting, ["03"], 1, 60) == []  # another machine's, and it holds
        mine.release()
        assert theirs.claim(setting, ["02"], 1, 60) == ["02"]


def test_the_claim_of_a_dead_process_is_free(path: Path) -> None:
    with Store(path, create=True) as mine, Store(path) as theirs:
        setting, _ = begin(mine)
        host, _, _ = mine.owner.rsplit(":", 2)
        theirs.owner = f"{host}:{2**22 + 1}:ab"  # beyond Linux's largest process number
        assert theirs.claim(setting, ["01"], 1, 60) == ["01"]
        assert mine.claim(setting, ["01"], 1, 60) == ["01"]


def test_forgetting_is_by_status(path: Path) -> None:
    with Store(path, create=True) as store:
        setting, run = begin(store)
        store.record(run, Item("01", "a.png"), "then", DONE, None)
        store.record(run, Item("02", "b.png"), "then", Answer(CRASHED, "died"), None)
        store.forget(setting, ["01", "02"], [FAILED, CRASHED])
        assert store.done(setting) == {"01"}


def test_a_full_disk_keeps_what_was_written(path: Path) -> None:
    with Store(path, create=True) as store:
        _, run = begin(store)
        store.record(run, Item("01", "a.png"), "then", DONE, None)
        store._sql.execute("PRAGMA max_page_count = 30")  # SQLite's own word for a disk of that size
        large = replace(DONE, document=json.dumps({"pad": "x" * 1_000_000}))
        with pytest.raises(StoreError, match=r"full[\s\S]*Make room"):
            store.record(run, Item("02", "b.png"), "then", large, None)
        assert [row.item.sha256 for row in store.rows()] == ["01"]
    with Store(path) as store:
        assert [row.item.sha256 for row in store.rows()] == ["01"]


def test_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such store"):
        Store(path)
    with Store(path, create=True) as store:
        store._sql.execute(f"PRAGMA user_version = {module.SCHEMA_VERSION + 1}")
    for create in (False, True):
        with pytest.raises(StoreError, match=r"schema version 2[\s\S]*release"):
            Store(path, create=create)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreError, match="not a store of corgi"):
        Store(foreign, create=True)
    text = tmp_path / "notes.txt"
    text.write_text("no database at all, but long enough for a header of SQLite's length" * 20)
    with pytest.raises(StoreError, match="not a database"):
        Store(text, create=True)
    assert text.read_text().startswith("no database")
    with pytest.raises(StoreError, match="unable to open"):
        Store(tmp_path / "missing" / "runs.sqlite", create=True)


def test_the_clock_of_another_machine_holds_no_claim(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour fast or slow: its claim holds for a lease from when it is seen, and as long as renewed."""
    moment = 1000.0
    monkeypatch.setattr("corgi.batch.store.time.monotonic", lambda: moment)
    real = time.time
    with Store(path, create=True) as mine, Store(path) as theirs:
        setting, _ = begin(mine)
        theirs.owner = "elsewhere:1:ab"
        for offset in (3600.0, -3600.0):
            monkeypatch.setattr("corgi.batch.store.time.time", lambda offset=offset: real() + offset)
            theirs.claim(setting, ["01"], 1, 60)
            monkeypatch.setattr("corgi.batch.store.time.time", real)
            assert mine.claim(setting, ["01"], 1, 60) == []
            moment += 59
            assert mine.claim(setting, ["01"], 1, 60) == []
            theirs.renew(61)
            moment += 59
            assert mine.claim(setting, ["01"], 1, 60) == []
            moment += 61
            assert mine.claim(setting, ["01"], 1, 60) == ["01"]
            mine.release()


def test_a_copy_without_its_log_says_so(path: Path, tmp_path: Path) -> None:
    with Store(path, create=True) as store:
        copy = Path(shutil.copy(path, tmp_path / "early.sqlite"))
        with pytest.raises(StoreError, match=r"early\.sqlite-wal, which is not there"):
            Store(copy)
        _, run = begin(store)
        store._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.record(run, Item("01", "a.png"), "then", DONE, None)
        copy = Path(shutil.copy(path, tmp_path / "late.sqlite"))
        with Store(copy) as late:
            assert list(late.rows()) == []
            assert "late.sqlite-wal beside it" in late.incomplete
        both = Path(shutil.copy(path, tmp_path / "both.sqlite"))
        shutil.copy(f"{path}-wal", tmp_path / "both.sqlite-wal")
        with Store(both) as complete:
            assert (len(list(complete.rows())), complete.incomplete) == (1, "")
        store.end_run(run)
    with Store(path) as store:
        assert store.incomplete == ""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may read; pytest's are its user's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        for folder in Path(name).iterdir():
            folder.chmod(0o755)


def test_a_store_in_a_read_only_place_is_read(path: Path, open_folder: Path) -> None:
    with Store(path, create=True) as store:
        _, run = begin(store)
        store.record(run, Item("01", "a.png"), "then", DONE, None)
        logged, alone = open_folder / "logged", open_folder / "alone"
        logged.mkdir()
        for name in (path.name, f"{path.name}-wal"):
            shutil.copy(path.with_name(name), logged / name)
    alone.mkdir()
    shutil.copy(path, alone / path.name)
    for folder in (alone, logged):
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o555)
    assert _rows_by_another_user(alone / path.name) == "1"
    assert "Copy both files" in _rows_by_another_user(logged / path.name)


def _rows_by_another_user(path: Path) -> str:
    """Number of rows, or the error; in a process that has given up root's rights where it has them."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            with Store(path) as store:
                text = str(len(list(store.rows())))
        except BaseException as error:
            text = str(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return answer.read()


def test_a_wait_for_a_lock_is_said_and_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.3)
    with Store(path, create=True) as other, Store(path, on_wait=said.append) as store:
        begin(store)
        assert said == []
        with other.transaction():
            with pytest.raises(StoreError, match="locked"):
                begin(store)
            assert len(said) == 1
            assert str(path) in said[0]
            assert "another process keeps it locked" in said[0]
        begin(store)
