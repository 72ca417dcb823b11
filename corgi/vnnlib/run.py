"""Run instances in processes of their own: one that hangs, dies or eats its memory costs its own answer only.

A worker is asked for one instance at a time. It is given the instance's time and is expected to say "timeout"
itself; one that does not is ended `_GRACE` seconds later. An answer that comes late is a timeout, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from pathlib import Path

import torch

from corgi.budget import tell
from corgi.errors import CorgiError, printable
from corgi.terms import Answer
from corgi.vnnlib.decide import Outcome, decide_files
from corgi.vnnlib.instances import Instance, Result, witness_text
from corgi.workers import Died, Overdue, Worker

_GRACE = 2.0
"""Seconds after its time that a worker may take to say so."""

Reply = tuple[str, ...]
"""Answer, reason, witness, and notes of how the network was read."""

Solver = Callable[[Path, Path, float], Reply]


def solve(onnx: Path, vnnlib: Path, seconds: float) -> Reply:
    """Decide an instance; whatever goes wrong is an error with a reason, never an answer."""
    try:
        found = decide_files(onnx, vnnlib, time.monotonic() + seconds)
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
    done: Callable[[int, Result], None] | None = None,
    solver: Solver = solve,
) -> list[Result]:
    """The results of all instances, in their order.

    Args:
        instances: what to run.
        parallel: how many at once.
        done: called with the number of each instance and its result, as soon as there is one.
        solver: what decides an instance, by its name in a module.
    """
    threads = max(1, torch.get_num_threads() // parallel)
    begin = partial(_ready, solver, threads)
    pool = [Worker(begin, forked=__name__) for _ in range(min(parallel, len(instances)))]
    idle, waiting = list(pool), list(enumerate(instances))
    jobs: dict[Future[tuple[Reply, float]], tuple[int, Worker[Instance, tuple[Reply, float]]]] = {}
    found: dict[int, Result] = {}
    try:
        while len(found) < len(instances):
            while idle and waiting:
                number, instance = waiting.pop(0)
                worker = idle.pop()
                jobs[worker.submit(instance, instance.timeout + _GRACE)] = number, worker
            tell("run", f"{len(found)} of {len(instances)} instances")
            for future in wait(jobs, return_when=FIRST_COMPLETED).done:
                number, worker = jobs.pop(future)
                idle.append(worker)
                found[number] = _result(instances[number], future)
                if done is not None:
                    done(number, found[number])
    finally:
        for worker in pool:
            worker.close()
    return [found[number] for number in range(len(instances))]


def _ready(solver: Solver, threads: int) -> Callable[[Instance], tuple[Reply, float]]:
    """What a process does with an instance: decide it, and say how long that took."""
    torch.set_num_threads(threads)

    def timed(instance: Instance) -> tuple[Reply, float]:
        started = time.monotonic()
        reply = solver(instance.onnx, instance.vnnlib, instance.timeout)
        return reply, time.monotonic() - started

    return timed


def _result(instance: Instance, future: Future[tuple[Reply, float]]) -> Result:
    """What became of an instance."""
    try:
        (answer, reason, witness, *notes), seconds = future.result()
    except Died as error:
        return Result(instance, Answer.ERROR, str(error), "", error.seconds)
    except Overdue:
        seconds = instance.timeout + _GRACE
        return Result(instance, Answer.TIMEOUT, "ended in the middle of a step", "", seconds)
    if seconds > instance.timeout:
        answer, reason, witness = Answer.TIMEOUT, reason or "the answer came late", ""
    return Result(instance, Answer(answer), reason, witness, seconds, tuple(notes))
