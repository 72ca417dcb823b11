"""The store: what is written is read, claims exclude each other, other files are refused."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corgi.batch import store as module
from corgi.batch.export import records
from corgi.batch.store import CRASHED, FAILED, Answer, Item, Pictures, Run, Setting, Store
from corgi.errors import StoreError

DONE = Answer("certified", "", 1, 1, 0.25, 0.26, 0.375, 1.5, 7, 2.5, "{}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


def begin(store: Store) -> tuple[Setting, Run]:
    setting = store.setting("ab" * 32, "m.onnx", '{"k":15}', "0.1.0+abc")
    return setting, store.begin_run(setting, "corgi batch m.onnx", 2, 1, "{}")


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
        assert store.pictures(first) is None
        read = store.pictures(second)
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


def test_export_beside_a_batch_that_begins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path, create=True) as mine, Store(path) as theirs:
        _, run = begin(mine)
        mine.record(run, Item("01", "a.png"), "then", DONE, None)
        runs = Store.runs

        def meanwhile(store: Store) -> tuple[Run, ...]:
            found = runs(store)
            setting = theirs.setting("cd" * 32, "other.onnx", "{}", "0.1.0+abc")
            late = theirs.begin_run(setting, "", 1, 1, "{}")
            theirs.record(late, Item("02", "b.png"), "then", DONE, None)
            return found

        monkeypatch.setattr(Store, "runs", meanwhile)
        assert [record["image"] for record in records(mine)] == ["a.png"]
        assert [row.item.name for row in mine.rows()] == ["a.png", "b.png"]


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
        large = replace(DONE, document="x" * 1_000_000)
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
