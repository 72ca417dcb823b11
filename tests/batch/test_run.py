"""A run: every image gets one row, whatever happens on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from corgi.batch import run as module
from corgi.batch.run import Tally, compute_rows, forget_failures
from corgi.batch.store import CRASHED, ERROR, FAILED, Answer, Item, Run, Setting, Store
from corgi.errors import ModelError, StoreError, WorkerError
from corgi.reporting.versions import installed_versions
from tests.batch.cases import Died, FakeWorker

ITEMS = tuple(Item(f"{i:02}", f"{i}.png", "7") for i in range(6))
GOOD = Answer("certified", "", '{"certified_radius": 0.25, "evaluations": 7, "seconds": 2.5}')


def good(item: Item) -> Answer:
    return GOOD


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "runs.sqlite", create=True) as opened:
        yield opened


def begin(store: Store) -> tuple[Setting, Run]:
    setting = store.setting("ab" * 32, "m.onnx", {}, "0.1.0+abc")
    return setting, store.begin_run(setting, "corgi batch m.onnx", 2, 1, installed_versions())


def compute(
    store: Store, script: Callable[[Item], Answer], items: tuple[Item, ...] = ITEMS, workers: int = 2
) -> tuple[Tally, list[FakeWorker]]:
    setting, run = begin(store)
    made = [FakeWorker(script) for _ in range(workers)]
    try:
        return compute_rows(store, setting, run, items, made, lambda tally: None), made
    finally:
        assert all(worker.closed for worker in made)


def statuses(store: Store) -> dict[str, str]:
    return {row.item.sha256: row.answer.status for row in store.rows()}


def test_what_is_there_is_not_computed_again(store: Store) -> None:
    first, _ = compute(store, good, ITEMS[:2])
    moved = replace(ITEMS[0], name="moved.png")
    tally, workers = compute(store, good, (moved, *ITEMS[1:], ITEMS[3]))  # one image named twice is one row
    assert {row.item.name for row in store.rows()} == {"moved.png", *(item.name for item in ITEMS[1:])}
    assert (first.before, first.computed) == (0, 2)
    assert (tally.total, tally.before, tally.computed, tally.elsewhere) == (6, 2, 4, 0)
    assert sorted(d for w in workers for d in w.asked) == ["02", "03", "04", "05"]
    assert len(list(store.rows())) == 6
    assert all(run.finished is not None for run in store.runs())


def test_ctrl_c_keeps_rows_and_gives_claims_up(store: Store) -> None:
    def stop(item: Item) -> Answer:
        if item.sha256 == "03":
            raise KeyboardInterrupt
        return GOOD

    with pytest.raises(KeyboardInterrupt):
        compute(store, stop, workers=1)
    assert set(statuses(store)) == {"00", "01", "02"}
    assert store.runs()[0].finished is None
    assert store._sql.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    compute(store, good)
    assert len(statuses(store)) == 6


def test_a_worker_that_dies_is_a_row_after_one_more_try(store: Store) -> None:
    died = set()

    def script(item: Item) -> Answer:
        if item.sha256 == "01" or (item.sha256 == "02" and item.sha256 not in died):
            died.add(item.sha256)
            raise Died
        return GOOD

    _, workers = compute(store, script)
    assert sum(worker.restarts for worker in workers) == 3
    found = statuses(store)
    assert found.pop("01") == CRASHED
    assert set(found.values()) == {"certified"}


def test_workers_that_never_start_end_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(item: Item) -> Answer:
        raise Died

    monkeypatch.setattr(FakeWorker, "started", False)
    with pytest.raises(WorkerError, match="4 times in a row"):
        compute(store, script)
    assert statuses(store) == {}  # no image is blamed
    started = iter([Died, GOOD] * 6)  # other starts fail, but not in a row

    def sometimes(item: Item) -> Answer:
        if isinstance(found := next(started), Answer):
            return found
        raise found

    compute(store, sometimes)
    assert set(statuses(store).values()) == {"certified"}


def test_failures_are_tried_again_when_asked(store: Store, tmp_path: Path) -> None:
    lost = Item(f"unreadable:{tmp_path / 'lost.png'}", str(tmp_path / "lost.png"))
    found = Item("ff", lost.name)  # the same file, readable now

    def failing(item: Item) -> Answer:
        if item.sha256 == "02":
            return Answer(ERROR, "too many open files")
        return Answer(FAILED, "damaged") if item.sha256 == "01" or item is lost else GOOD

    compute(store, failing, (*ITEMS, lost))
    setting, _ = begin(store)
    forget_failures(store, setting, (*ITEMS, found), retry=False)
    assert "02" not in statuses(store)
    assert statuses(store)["01"] == FAILED
    assert lost.sha256 not in statuses(store)
    forget_failures(store, setting, ITEMS, retry=True)
    assert set(statuses(store)) == {"00", "03", "04", "05"}


def test_a_model_that_no_worker_can_serve_ends_the_run(store: Store) -> None:
    def script(item: Item) -> Answer:
        raise ModelError("m.onnx: has changed")

    with pytest.raises(ModelError):
        compute(store, script)
    assert statuses(store) == {}


def test_a_full_disk_ends_the_run_and_keeps_rows(store: Store) -> None:
    def script(item: Item) -> Answer:
        if item.sha256 == "02":
            store._sql.execute("PRAGMA max_page_count = 1")  # SQLite's own word for a disk of that size
            return Answer("certified", "x" * 1_000_000)
        return GOOD

    with pytest.raises(StoreError, match="full"):
        compute(store, script, workers=1)
    assert set(statuses(store)) == {"00", "01"}
    store._sql.execute("PRAGMA max_page_count = 100000")
    compute(store, good)
    assert len(statuses(store)) == 6


def test_two_runs_at_once_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    path, together = tmp_path / "runs.sqlite", threading.Barrier(2)
    items = tuple(Item(f"{i:03}", f"{i}.png") for i in range(40))
    tallies: list[Tally] = []
    asked: list[str] = []

    def go() -> None:
        together.wait()
        with Store(path, create=True) as store:
            tally, workers = compute(store, good, items)
            tallies.append(tally)
            asked.extend(digest for worker in workers for digest in worker.asked)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [tally.done for tally in tallies] == [40, 40]
    assert sorted(asked) == [item.sha256 for item in items]  # none lost, none computed twice
    with Store(path) as store:
        assert sorted(row.item.sha256 for row in store.rows()) == [item.sha256 for item in items]
