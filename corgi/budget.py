"""How long work may take, whether it goes on at all, and who hears of it: one budget for all begun inside it.

As the cancel scopes of trio and anyio. A command, or a part of it, opens a scope; whatever runs inside looks
at it by `check`, at least once a second: every layer of a pass, every batch, every step of an attack. Scopes
nest, the earliest deadline counts. Ctrl-C is remembered by all scopes of a call: for what comes after, time
is over. Where work may end early it stands in a `Stoppable`, which says how it ended; what was being computed
is abandoned, so it is never a proof, and a bounder that was in the middle of a bound is not used again
(engines/whole.py).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, replace
from threading import Event
from typing import ParamSpec, Self, TypeVar

from corgi.errors import UsageError
from corgi.progress import Listener, Progress, silent
from corgi.terms import Status

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Budget:
    """What work may take.

    Attributes:
        deadline: by `time.monotonic()`.
        cancelled: by Ctrl-C; one for all scopes of a call.
        listener: hears where the work is.
    """

    deadline: float = math.inf
    cancelled: Event = field(default_factory=Event)
    listener: Listener = silent


_NONE = Budget()
_BUDGET: ContextVar[Budget] = ContextVar("budget", default=_NONE)


class OutOfTime(Exception):
    """The time that work may take is over."""


class Scope:
    """Work under a budget; the one around it holds again afterwards, whatever Ctrl-C left inside."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __enter__(self) -> Self:
        self._outer = _BUDGET.get()
        _BUDGET.set(self._budget)
        return self

    def __exit__(self, *_: object) -> bool | None:
        _BUDGET.set(self._outer)
        return None


def check_limit(seconds: float | None) -> None:
    """Refuse a time limit that is none; None is no limit.

    Raises:
        UsageError: not a number of seconds > 0.
    """
    if seconds is not None and not seconds > 0:
        raise UsageError(f"time limit = {seconds}: expected seconds > 0")


def apart(call: Callable[P, R]) -> Callable[P, R]:
    """No budget begun in a call outlasts it, not even where Ctrl-C hits its outermost scope just as it ends.

    The interpreter itself puts the context back, and Ctrl-C comes between instructions of Python only.
    """

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return copy_context().run(call, *args, **kwargs)

    return run


def limited(deadline: float | None = None) -> Scope:
    """Work inside ends by `OutOfTime` at a `time.monotonic()`; None sets no limit beyond those around it."""
    return Scope(_inside(deadline))


class Stoppable(Scope):
    """Work that keeps what it has when time is over or the user stops it: `with Stoppable() as end`.

    Attributes:
        status: how it ended, TIME_LIMIT or INTERRUPTED; None if it came to its end.
    """

    status: Status | None = None

    def __init__(self) -> None:
        super().__init__(_inside(None))

    def __exit__(self, *raised: object) -> bool:
        kind = raised[0]
        if kind is KeyboardInterrupt:
            self._budget.cancelled.set()
        if kind in (KeyboardInterrupt, OutOfTime):
            # By the scope's own event: Ctrl-C may have hit a scope inside, with another one, as it ended.
            stopped = self._budget.cancelled.is_set()
            self.status = Status.INTERRUPTED if stopped else Status.TIME_LIMIT
        super().__exit__(*raised)
        return self.status is not None


def _inside(deadline: float | None) -> Budget:
    """The budget of a scope in the present one; the outermost one begins without Ctrl-C."""
    outer = _BUDGET.get()
    deadline = outer.deadline if deadline is None else min(outer.deadline, deadline)
    return Budget(deadline, Event() if outer is _NONE else outer.cancelled, outer.listener)


def cancelled() -> bool:
    """Whether the user stopped the work."""
    return _BUDGET.get().cancelled.is_set()


GRACE = 1.0
"""Seconds beyond the time there is that go to what no answer can do without."""


def grace() -> Scope:
    """Work inside may take `GRACE` seconds longer than all else: what no answer can do without."""
    outer = _BUDGET.get()
    return Scope(Budget(outer.deadline + GRACE, listener=outer.listener))


def heard(listener: Listener) -> Scope:
    """A listener hears where the work inside is."""
    return Scope(replace(_inside(None), listener=listener))


def within(where: str, attacked: float | None = None) -> Scope:
    """What is told inside begins with where that is; `attacked`: the nearest witness known there."""
    listener = _BUDGET.get().listener

    def told(progress: Progress) -> None:
        nearest = attacked if progress.attacked is None else progress.attacked
        listener(replace(progress, detail=f"{where}: {progress.detail}", attacked=nearest))

    return heard(told)


def tell(stage: str, detail: str, certified: float = 0.0, attacked: float | None = None) -> None:
    """Tell the listener where the work is; see `Progress`."""
    _BUDGET.get().listener(Progress(stage, detail, certified, attacked))


def announce(stage: str, detail: str) -> None:
    """Tell the listener what is worth a line that stays."""
    _BUDGET.get().listener(Progress(stage, detail, lasting=True))


def left() -> float:
    """Seconds left; <= 0 once time is over."""
    return -math.inf if cancelled() else _BUDGET.get().deadline - time.monotonic()


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
