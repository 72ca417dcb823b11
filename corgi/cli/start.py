"""Where the console script begins: loading torch takes seconds, and may be stopped or fail like all else."""

from __future__ import annotations

import gc
import os
import sys
import time

from corgi.cli.exits import Exit
from corgi.errors import CorgiError
from corgi.memory import keep_freed_memory

_BEGAN: list[float] = []


def began() -> float:
    """When the process was started, by `time.monotonic()`: asked once; now where it began otherwise."""
    return _BEGAN.pop() if _BEGAN else time.monotonic()


def main() -> None:
    """Load the command line and run it; exits with one of `corgi.cli.exits.Exit`."""
    _BEGAN.append(time.monotonic())
    # Idle threads of torch should sleep, not spin: beside one other busy process, spinning makes a small
    # network 20 times slower (docs/results.md). Read when torch loads, so set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    # Loading torch makes a million objects and no garbage: looking for it every 700 is a tenth of the start.
    gc.set_threshold(10_000)
    try:
        from corgi.cli.main import app
    except KeyboardInterrupt:
        print("corgi: stopped", file=sys.stderr)  # noqa: T201
        sys.exit(Exit.KEYBOARD)
    except CorgiError as error:
        print(f"corgi: {error}", file=sys.stderr)  # noqa: T201 - typer is not loaded yet
        sys.exit(Exit.ERROR)
    app()
