"""One run: hand images to workers, write rows, until every image has one.

Only this process touches the store. What can be lost is what the workers hold: one image each.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace

from corgi.batch.items import unreadable
from corgi.batch.store import CRASHED, ERROR, FAILED, Answer, Item, Run, Setting, Store, now
from corgi.batch.work import Found, Worker
from corgi.errors import StoreError, WorkerError

LEASE_SECONDS = 60.0
"""How long a claim holds that is not renewed: from then on, another process may compute the image."""

BEAT_SECONDS = 5.0
"""How often claims are renewed."""

LOOK_SECONDS = 0.5
"""How often a run with nothing left but images that others have claimed looks whether they are done."""

TRIES = 2
"""How often a worker may die over an image before that is its answer."""

STARTS = 4
"""How often in a row workers may die before they look at an image; none starts, the run concludes then."""


@dataclass(frozen=True)
class Tally:
    """Where a run is.

    Attributes:
        total: distinct images; before: those that had a row when it began.
        computed: rows this run wrote; elsewhere: rows that other runs wrote meanwhile.
        claimed: images that are all that is left and that others have claimed: the run waits for them.
    """

    total: int
    before: int
    computed: int = 0
    elsewhere: int = 0
    claimed: int = 0

    @property
    def done(self) -> int:
        """Images that have a row."""
        return self.before + self.computed + self.elsewhere


def forget_failures(store: Store, setting: Setting, items: Iterable[Item], *, retry: bool) -> None:
    """Delete rows that are to be computed again.

    Those of files that could not be read, those that ended in `ERROR`, and with `retry` of all images that
    failed or crashed.
    """
    chosen = tuple(items)
    store.forget(setting, [unreadable(item.file) for item in chosen], [FAILED])
    again = [ERROR, FAILED, CRASHED] if retry else [ERROR]
    store.forget(setting, [item.sha256 for item in chosen], again)


def compute_rows(
    store: Store,
    setting: Setting,
    run: Run,
    items: Iterable[Item],
    workers: Sequence[Worker],
    on_progress: Callable[[Tally], None],
) -> Tally:
    """Compute the rows of all items that have none, with other processes on the same store or alone.

    Items with equal digests are one image. Workers are closed in the end, however that comes.

    Raises:
        StoreError: a row cannot be written; rows written before stay.
        CorgiError: the workers cannot start, or cannot serve any image.
    """
    batch = _Batch(store, setting, run, items, workers, on_progress)
    try:
        while batch.waiting or batch.jobs:
            batch.hand_out()
            batch.collect()
    finally:
        for worker in workers:
            worker.close()
        with suppress(StoreError):
            store.release()
    store.end_run(run)
    return batch.tally


@dataclass(frozen=True)
class _Job:
    """One image in work."""

    item: Item
    worker: Worker
    started: str


class _Batch:
    """State of one run."""

    def __init__(
        self,
        store: Store,
        setting: Setting,
        run: Run,
        items: Iterable[Item],
        workers: Sequence[Worker],
        on_progress: Callable[[Tally], None],
    ) -> None:
        self.store, self.setting, self.run, self.on_progress = store, setting, run, on_progress
        distinct: dict[str, Item] = {}
        for item in items:
            distinct.setdefault(item.sha256, item)
        done = store.done(setting)
        self.waiting = {digest: item for digest, item in distinct.items() if digest not in done}
        store.rename(setting, [item for digest, item in distinct.items() if digest in done])
        self.tally = Tally(len(distinct), len(distinct) - len(self.waiting))
        self.idle = list(workers)
        self.jobs: dict[Future[Found], _Job] = {}
        self.deaths: Counter[str] = Counter()
        self.false_starts = 0
        self.next_beat = time.monotonic() + BEAT_SECONDS
        on_progress(self.tally)

    def hand_out(self) -> None:
        """Give every idle worker an image that nobody else has claimed."""
        if not (self.idle and self.waiting):
            return
        for digest in self.store.claim(self.setting, list(self.waiting), len(self.idle), LEASE_SECONDS):
            self.begin(self.waiting.pop(digest), self.idle.pop(), now())
        if self.idle:  # what is still waiting, others have claimed or computed
            done = self.store.done(self.setting) & self.waiting.keys()
            if done:
                self.store.rename(self.setting, [self.waiting.pop(digest) for digest in done])
            self.count(elsewhere=len(done))
            claimed = 0 if self.jobs else len(self.waiting)
            if claimed != self.tally.claimed:
                self.tally = replace(self.tally, claimed=claimed)
                self.on_progress(self.tally)

    def begin(self, item: Item, worker: Worker, started: str) -> None:
        self.jobs[worker.submit(item)] = _Job(item, worker, started)

    def collect(self) -> None:
        """Wait a little, write what has come, keep claims alive."""
        pause = LOOK_SECONDS if self.idle and self.waiting else BEAT_SECONDS
        if not self.jobs:
            time.sleep(pause if self.waiting else 0.0)
        finished, _ = wait(self.jobs, timeout=pause, return_when=FIRST_COMPLETED)
        for future in finished:
            self.finish(self.jobs.pop(future), future)
        if self.jobs and time.monotonic() >= self.next_beat:
            self.store.renew(LEASE_SECONDS)
            self.next_beat = time.monotonic() + BEAT_SECONDS

    def finish(self, job: _Job, future: Future[Found]) -> None:
        try:
            answer, pictures = future.result()
        except job.worker.died:
            if job.worker.started:
                self.deaths[job.item.sha256] += 1
            else:  # over no image
                self.false_starts += 1
            if self.false_starts == STARTS:
                raise WorkerError(
                    f"workers died {STARTS} times in a row before they looked at an image",
                    hint="Memory may have run out; try fewer --workers.",
                ) from None
            job.worker.restart()
            if self.deaths[job.item.sha256] < TRIES:
                self.begin(job.item, job.worker, job.started)
                return
            reason = (
                f"the worker died {TRIES} times over it: memory ran out, a library failed, or it was killed"
            )
            answer, pictures = Answer(CRASHED, reason), None
        else:
            self.false_starts = 0
        self.idle.append(job.worker)
        mine = self.store.record(self.run, job.item, job.started, answer, pictures)
        self.count(computed=int(mine), elsewhere=int(not mine))

    def count(self, *, computed: int = 0, elsewhere: int = 0) -> None:
        tally = self.tally
        if computed or elsewhere:
            self.tally = replace(
                tally, computed=tally.computed + computed, elsewhere=tally.elsewhere + elsewhere
            )
            self.on_progress(self.tally)
