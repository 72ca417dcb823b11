"""Run instances in processes of their own: one that hangs, dies or eats its memory costs its own answer only.

A worker is asked for one instance at a time. It is given the instance's time and is expected to say "timeout"
itself; one that does not is ended `_GRACE` seconds later. An answer that comes late is a timeout, too.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from corgi.errors import CorgiError, printable
from corgi.progress import Listener, Progress, silent
from corgi.terms import Answer
from corgi.vnnlib.decide import Outcome, decide_files
from corgi.vnnlib.instances import Instance, Result, witness_text

_CONTEXT = "forkserver"
"""Workers are forked from a process that has loaded everything and done nothing."""

_GRACE = 2.0
"""Seconds after its time that a worker may take to say so."""

Reply = tuple[str, ...]
"""Answer, reason, witness, and notes of how the network was read."""


def solve(onnx: Path, vnnlib: Path, seconds: float, listener: Listener = silent) -> Reply:
    """Decide an instance; whatever goes wrong is an error with a reason, never an answer."""
    try:
        found = decide_files(onnx, vnnlib, time.monotonic() + seconds, listener=listener)
    except CorgiError as error:
        found = Outcome(Answer.ERROR, error.message)
    except Exception as error:  # the last line of defence: a fault of corgi
        found = Outcome(Answer.ERROR, printable(f"unexpected {type(error).__name__}: {error}"))
    if found.witness is None or found.spec is None:
        return found.answer.value, found.reason, "", *found.notes
    return found.answer.value, found.reason, witness_text(found.spec, found.witness), *found.notes


def run_instances(
    instances: Sequence[Instance],
    *,
    parallel: int = 1,
    listener: Listener = silent,
    done: Callable[[int, Result], None] | None = None,
) -> list[Result]:
    """The results of all instances, in their order.

    Args:
        instances: what to run.
        parallel: how many at once.
        listener: is told how far it is.
        done: called with the number of each instance and its result, as soon as there is one.
    """
    found: dict[int, Result] = {}
    waiting = list(enumerate(instances))
    pool = [_Worker(parallel) for _ in range(min(parallel, len(instances)))]
    try:
        while len(found) < len(instances):
            for worker in pool:
                if worker.job is None and waiting:
                    worker.begin(_Job(*waiting.pop(0)))
            listener(Progress("run", f"{len(found)} of {len(instances)} instances"))
            busy = [(worker, worker.job) for worker in pool if worker.job is not None]
            ready = wait([worker.connection for worker, _ in busy], min(worker.left for worker, _ in busy))
            for worker, job in busy:
                result = worker.step(job.instance, worker.connection in ready)
                if result is not None:
                    worker.job = None
                    found[job.number] = result
                    if done is not None:
                        done(job.number, result)
    finally:
        for worker in pool:
            worker.end()
    return [found[number] for number in range(len(instances))]


@dataclass(frozen=True)
class _Job:
    number: int
    instance: Instance


class _Worker:
    """A process that decides instances, and what it is at.

    A process says when it is up. Its job is sent then, and the job's time begins: nothing here waits for one
    process while another may have an answer.
    """

    def __init__(self, parallel: int) -> None:
        self._threads = max(1, torch.get_num_threads() // parallel)
        self.job: _Job | None = None
        self._start()

    def _start(self) -> None:
        context: Any = multiprocessing.get_context(_CONTEXT)
        context.set_forkserver_preload([__name__])
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, self._threads), daemon=True)
        self._process.start()
        theirs.close()
        self._up, self._started = False, math.inf

    @property
    def left(self) -> float:
        """Seconds until it must be looked at."""
        if self.job is None or not self._up:
            return 3600.0
        return max(0.0, self._started + self.job.instance.timeout + _GRACE - time.monotonic())

    def begin(self, job: _Job) -> None:
        """Hand over an instance, now or once the process is up."""
        self.job = job
        if self._up:
            self._send(job.instance)

    def _send(self, instance: Instance) -> None:
        self._started = time.monotonic()
        with contextlib.suppress(OSError):  # it died; `step` will find out
            self.connection.send((instance.onnx, instance.vnnlib, instance.timeout))

    def step(self, instance: Instance, ready: bool) -> Result | None:
        """What became of its instance; None if that is not known yet. `ready`: there is something to read."""
        seconds = max(0.0, time.monotonic() - self._started)
        if ready:
            try:
                reply = self.connection.recv()
            except (EOFError, OSError):  # OSError: it died before it read its job
                self._process.join()
                code = self._process.exitcode
                self.connection.close()
                self._start()
                return Result(instance, Answer.ERROR, f"the process died (exit code {code})", "", seconds)
            if not self._up:
                self._up = True
                self._send(instance)
                return None
            answer, reason, witness, *notes = reply
            if seconds > instance.timeout:
                answer, reason, witness = Answer.TIMEOUT, reason or "the answer came late", ""
            return Result(instance, Answer(answer), reason, witness, seconds, tuple(notes))
        if seconds < instance.timeout + _GRACE:
            return None
        self.end()
        self._start()
        return Result(instance, Answer.TIMEOUT, "ended in the middle of a step", "", seconds)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(connection: Connection, threads: int) -> None:
    """What a worker does: answer until the other side is gone."""
    torch.set_num_threads(threads)
    connection.send(True)
    while True:
        try:
            onnx, vnnlib, seconds = connection.recv()
            connection.send(solve(onnx, vnnlib, seconds))
        except (EOFError, OSError, KeyboardInterrupt):
            return
