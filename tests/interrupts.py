"""Ctrl-C at any line of corgi's own code, as often as a test likes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

import corgi
from corgi.budget import limited

_PACKAGE = str(Path(corgi.__file__).parent)

Line = tuple[str, int]
"""File below the package, and line."""


@contextmanager
def traced(under: str, seen: Callable[[Line, str], None]) -> Iterator[None]:
    prefix = f"{_PACKAGE}/{under}"

    def line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            code = frame.f_code
            seen((code.co_filename[len(_PACKAGE) + 1 :], frame.f_lineno), code.co_name)
        return line

    def call(frame: FrameType, _event: str, _arg: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(prefix) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)


def lines_of(run: Callable[[], object], under: str, functions: frozenset[str] | None = None) -> list[int]:
    """When each line is met for the first and for the last time, counted in lines: ascending, from 1.

    Args:
        run: what to run.
        under: the part of the package whose lines count, as "engines/patch".
        functions: keep only lines of these; None for all.
    """
    first: dict[Line, int] = {}
    last: dict[Line, int] = {}
    count = 0

    def seen(line: Line, function: str) -> None:
        nonlocal count
        count += 1
        if functions is None or function in functions:
            first.setdefault(line, count)
            last[line] = count

    with traced(under, seen):
        run()
    return sorted({*first.values(), *last.values()})


def interrupted(run: Callable[[], object], under: str, at: int) -> bool:
    """Whether Ctrl-C, pressed at the `at`-th line (`lines_of`), came out of `run`."""
    count = 0

    def seen(_line: Line, _function: str) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise KeyboardInterrupt

    graded = torch.is_grad_enabled()
    try:
        with limited(), traced(under, seen):
            run()
    except KeyboardInterrupt:
        return True
    finally:
        torch.set_grad_enabled(graded)  # Ctrl-C while a `with` ends leaves what it had set
    return False


def meetings(run: Callable[[], object], under: str) -> dict[Line, int]:
    """How often each line of a part of the package is met."""
    count: dict[Line, int] = {}

    def seen(line: Line, _function: str) -> None:
        count[line] = count.get(line, 0) + 1

    with traced(under, seen):
        run()
    return count


@functools.cache
def _holds(code: CodeType, line: Line) -> bool:
    return code.co_filename == f"{_PACKAGE}/{line[0]}" and line[1] in {at for *_, at in code.co_lines()}


def interrupted_at(run: Callable[[], object], line: Line, meeting: int) -> bool:
    """Whether Ctrl-C, pressed where a line is met for the `meeting`-th time, came out of `run`.

    Only functions that hold the line are traced, so that it costs little more than `run` until there.
    """
    count = 0

    def local(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if event == "line" and frame.f_lineno == line[1]:
            count += 1
            if count == meeting:
                raise KeyboardInterrupt
        return local

    graded, before = torch.is_grad_enabled(), sys.gettrace()
    sys.settrace(lambda frame, _event, _arg: local if _holds(frame.f_code, line) else None)
    try:
        with limited():
            run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        torch.set_grad_enabled(graded)  # Ctrl-C while a `with` ends leaves what it had set
    return False


def some(of: list[int], count: int) -> list[int]:
    """At most `count` of a list, evenly."""
    return of if len(of) <= count else [of[i * (len(of) - 1) // (count - 1)] for i in range(count)]
