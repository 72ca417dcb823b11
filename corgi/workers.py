"""Processes that work: one task at a time each, with a deadline.

One that hangs, dies or eats its memory costs its own task only: where memory runs out, the kernel takes a
worker before all else.

A worker's process is started by its first task and again after it was ended. It lives as long as the other
end of its lifeline is open, so that it ends with this process, however that ends. Ctrl-C reaches every
process of a terminal, but only whoever hands out the tasks is to act on it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Died(Exception):
    """A worker's process ended over a task.

    Attributes:
        code: its exit code, minus the signal that killed it.
        seconds: wall time of the task until then; 0 if the process was not up yet.
    """

    def __init__(self, code: int | None, seconds: float = 0.0) -> None:
        super().__init__(f"the process died (exit code {code})")
        self.code, self.seconds = code, seconds


class Overdue(Exception):
    """A task was not done at its deadline; its process was ended."""


class Worker(Generic[T, R]):
    """A process of this machine, and a thread here that waits for it.

    Attributes:
        died: what a task's future raises if the process died over it.
        started: whether the process was up before it died, or is now.
    """

    died = (Died,)

    def __init__(self, begin: Callable[[], Callable[[T], R]], *, forked: str | None = None) -> None:
        """A worker without a process yet.

        Args:
            begin: called once in each process; what it returns is called with every task. Travels pickled.
            forked: fork processes from one that has loaded the module of that name and done nothing, instead
                of loading all anew in each. Never from this one: a fork copies locks of torch's threads.
        """
        self._begin = begin
        self._context: Any = multiprocessing.get_context("spawn" if forked is None else "forkserver")
        if forked is not None:
            self._context.set_forkserver_preload([forked])
        self._process: Any = None
        self._lock, self._closed = threading.Lock(), False
        self._thread = ThreadPoolExecutor(1)
        self.started = False

    def submit(self, task: T, seconds: float | None = None) -> Future[R]:
        """Begin with a task, which is given so much time once the process is up; None for any.

        The future raises what `begin` or the task does, `Died` or `Overdue`.
        """
        return self._thread.submit(self._run, task, seconds)

    def _run(self, task: T, seconds: float | None) -> R:
        if self._process is None:
            self._start()
            self._receive(None)
            self.started = True
        begun = time.monotonic()
        with contextlib.suppress(OSError):  # it died meanwhile; reading finds out
            self._connection.send(task)
        if not self._connection.poll(seconds):
            self.restart()
            raise Overdue
        found: R = self._receive(begun)
        return found

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise Died(None)
            self.started = False
            self._connection, theirs = self._context.Pipe()
            far, self._lifeline = self._context.Pipe(duplex=False)
            self._process = self._context.Process(target=_serve, args=(theirs, far, self._begin), daemon=True)
            resource_tracker.ensure_running()  # it lets Ctrl-C through where it was held back
            # A process inherits from the thread that starts it that Ctrl-C is held back, until it ignores it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self._process.start()
            theirs.close()
            far.close()

    def _receive(self, begun: float | None) -> Any:
        """The reply of the process; `begun`: when its task did, None where it is not up yet."""
        try:
            done, value = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self.restart()
            raise Died(code, 0.0 if begun is None else time.monotonic() - begun) from None
        if done:
            return value
        if begun is None:
            self.restart()
        raise value

    def restart(self) -> None:
        """End the process, whatever it is doing; the next task begins another."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            self._connection.close()
            self._lifeline.close()

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()  # whoever waits for it reads its end
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.restart()


def _serve(connection: Connection, lifeline: Connection, begin: Callable[[], Callable[[Any], Any]]) -> None:
    """What a process does: answer until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    with contextlib.suppress(OSError):  # not everywhere may a process offer itself to the kernel
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        run = begin()
    except Exception as error:
        connection.send((False, error))
        return
    connection.send((True, None))
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            reply = True, run(task)
        except Exception as error:
            reply = False, error
        connection.send(reply)


def _end_with(lifeline: Connection) -> None:
    """Kill this process once the other end is closed; it is never written to."""
    lifeline.poll(None)
    os.kill(os.getpid(), signal.SIGKILL)
