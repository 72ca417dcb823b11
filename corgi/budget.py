"""How long work may take: a deadline that holds for everything begun inside it.

As the cancel scopes of trio and anyio. A command, or a part of it, opens a scope; whatever runs inside looks
at it by `check`, at least once a second: every layer of a pass, every batch, every step of an attack. Scopes
nest, the earliest deadline counts. Who opens a scope handles `OutOfTime`; what was being computed is
abandoned, so it is never a proof, and a bounder that was in the middle of a bound is not used again
(engines/whole.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)


class OutOfTime(Exception):
    """The time that work may take is over."""


@contextmanager
def limited(deadline: float | None) -> Iterator[None]:
    """Work inside ends by `OutOfTime` at a `time.monotonic()`; None sets no limit beyond those around it."""
    token = _DEADLINE.set(min(_DEADLINE.get(), math.inf if deadline is None else deadline))
    try:
        yield
    finally:
        _DEADLINE.reset(token)


@contextmanager
def unchanged() -> Iterator[None]:
    """The deadline is afterwards what it was, also where Ctrl-C hit a scope inside just as it ended."""
    before = _DEADLINE.get()
    try:
        yield
    finally:
        _DEADLINE.set(before)


GRACE = 1.0
"""Seconds beyond the time there is that go to what no answer can do without."""


@contextmanager
def grace() -> Iterator[None]:
    """Work inside may take `GRACE` seconds longer than all else: what no answer can do without."""
    token = _DEADLINE.set(_DEADLINE.get() + GRACE)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def left() -> float:
    """Seconds left; <= 0 once time is over."""
    return _DEADLINE.get() - time.monotonic()


def check(needed: float = 0.0) -> None:
    """Go on only while there is time, so many seconds of it.

    Raises:
        OutOfTime: there is not.
    """
    if left() <= needed:
        raise OutOfTime


class Pace:
    """Sizes steps of equal work: whether there is time for one more, as long as the longest so far."""

    def __init__(self) -> None:
        self._longest, self._last = 0.0, time.monotonic()

    def goes_on(self) -> bool:
        """Whether another step fits; asked before every step."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now
        return left() > self._longest
