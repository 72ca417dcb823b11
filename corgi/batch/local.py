"""Workers as processes of this machine.

Every worker is a pool of one process: should the process die, it is known over which image. It lives as long
as the other end of its lifeline is open, so that it ends with the run, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

from corgi.batch.store import Item
from corgi.batch.work import Answerer, Found, Work

# Forked processes would inherit locks that torch's threads hold.
_SPAWN = multiprocessing.get_context("spawn")

_answerer: Answerer
"""Of this process, if it is a worker."""


class LocalWorker:
    """A process of this machine."""

    died = (BrokenProcessPool,)

    def __init__(self, work: Work) -> None:
        self.work = work
        self._begin()

    def _begin(self) -> None:
        far, self._lifeline = _SPAWN.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(1, _SPAWN, initializer=_begin, initargs=(self.work, far))
        self._start: Future[None] | None = None

    @property
    def started(self) -> bool:
        """Whether the process lived until the network was loaded."""
        return self._start is not None and self._start.done() and self._start.exception() is None

    def submit(self, item: Item) -> Future[Found]:
        """Begin with an image, in a new process if the last one died meanwhile."""
        # The first image starts the process. It inherits that Ctrl-C is held back, and keeps it so: that
        # reaches every process of a terminal, but only whoever runs the batch is to act on it.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            try:
                return self._submit(item)
            except BrokenProcessPool:
                self.restart()
                return self._submit(item)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _submit(self, item: Item) -> Future[Found]:
        if self._start is None:
            self._start = self._pool.submit(_start)
        return self._pool.submit(_answer, item)

    def restart(self) -> None:
        """A new process."""
        self.close()
        self._begin()

    def close(self) -> None:
        """End the process."""
        self._lifeline.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _begin(work: Work, lifeline: Connection) -> None:
    global _answerer
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    _answerer = Answerer(work)


def _end_with(lifeline: Connection) -> None:
    """Kill this process once the other end is closed; it is never written to."""
    lifeline.poll(None)
    os.kill(os.getpid(), signal.SIGKILL)


def _start() -> None:
    _answerer.start()


def _answer(item: Item) -> Found:
    return _answerer.answer(item)
