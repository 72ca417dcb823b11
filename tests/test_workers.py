"""Processes that work: what they answer, how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from corgi.errors import UsageError
from corgi.workers import Died, Overdue, Worker

ROOT = Path(__file__).parents[1]


def doing(start: str = "up") -> Callable[[str], str]:
    """A process that does what a task says."""
    act(start)
    return act


def act(task: str) -> str:
    if task == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hangs":
        time.sleep(60)
    if task == "refuses":
        raise UsageError("what", hint="do")
    return f"{task} {os.getpid()} {Path('/proc/self/oom_score_adj').read_text().strip()}"


@pytest.mark.parametrize("forked", [None, "corgi.workers"])
def test_one_process_does_one_task_after_the_other(forked: str | None) -> None:
    worker = Worker(doing, forked=forked)
    try:
        first, second = worker.submit("a", 60).result(), worker.submit("b").result()
        assert first.split()[1:] == second.split()[1:]
        assert first.split()[2] == "1000"  # the kernel takes it first where memory runs out
        with pytest.raises(UsageError, match="what\ndo"):
            worker.submit("refuses").result()
        assert worker.submit("c").result().split()[1] == first.split()[1]
    finally:
        worker.close()


def test_a_process_that_dies_or_hangs_is_replaced() -> None:
    worker = Worker(doing)
    try:
        with pytest.raises(Died, match="exit code -9") as died:
            worker.submit("dies").result()
        assert (worker.started, died.value.seconds > 0) == (True, True)
        with pytest.raises(Overdue):
            worker.submit("hangs", 0.2).result()
        assert worker.submit("a", 0.5).result().startswith("a ")  # from when it is up
    finally:
        worker.close()


def test_a_process_that_does_not_start_says_why() -> None:
    for start, error in (("refuses", UsageError), ("dies", Died)):
        worker = Worker(partial(doing, start))
        for _ in range(2):
            with pytest.raises(error):
                worker.submit("a").result()
            assert not worker.started
        worker.close()


def test_closing_ends_what_is_being_done() -> None:
    worker = Worker(doing)
    pid = int(worker.submit("a").result().split()[1])
    future = worker.submit("hangs")
    while not future.running():
        time.sleep(0.01)
    worker.close()
    assert isinstance(future.exception(), Died)
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_ends_with_the_one_that_started_it() -> None:
    script = (
        "import sys; from corgi.workers import Worker; from tests.test_workers import doing\n"
        "if __name__ == '__main__':\n"
        "    worker = Worker(doing)\n"
        "    print(worker.submit('a').result(), flush=True)\n"
        "    worker.submit('hangs').result()\n"
    )
    command = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_ctrl_c_does_not_reach_a_process_that_starts() -> None:
    """Not even before it has loaded what ignores it."""
    worker = Worker(doing)
    future = worker.submit("a")
    try:
        while worker._process is None or worker._process.pid is None:
            time.sleep(0.001)
        os.kill(worker._process.pid, signal.SIGINT)
        assert future.result().startswith("a ")
    finally:
        worker.close()
