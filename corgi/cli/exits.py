"""Exit codes of the command line: part of its interface, so scripts may rely on them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Protocol

from corgi.terms import Status


class Exit(IntEnum):
    """How a command ended.

    `corgi attack` without `--eps` asks for the closest witness, so finding one is OK and finding none is
    UNKNOWN; with `--eps` a witness is REFUTED.
    """

    OK = 0
    """Proved (with --eps), or a positive certified radius; other commands: done."""
    REFUTED = 1
    """A witness within the radius asked for."""
    UNKNOWN = 2
    """Neither proved nor refuted, or a certified radius of 0."""
    TIME_LIMIT = 3
    """Time ran out, or Ctrl-C during a verification: the answer printed is the best until then."""
    ERROR = 4
    """The command line, the model, the image or an output file cannot be served; or a fault of corgi."""
    KEYBOARD = 130
    """Ctrl-C outside a verification, by the shell's convention 128 + SIGINT: there is no answer."""


_BY_STATUS = {
    Status.CERTIFIED: Exit.OK,
    Status.PROVED: Exit.OK,
    Status.REFUTED: Exit.REFUTED,
    Status.UNKNOWN: Exit.UNKNOWN,
    Status.TIME_LIMIT: Exit.TIME_LIMIT,
    Status.INTERRUPTED: Exit.TIME_LIMIT,
}


def exit_of(status: Status) -> Exit:
    """The exit code of a verification's status."""
    return _BY_STATUS[status]


def exit_of_all(statuses: Iterable[Status]) -> Exit:
    """The exit code of verifications: refuted before out of time, before unknown, before proved."""
    found = {exit_of(status) for status in statuses}
    return next(code for code in (Exit.REFUTED, Exit.TIME_LIMIT, Exit.UNKNOWN, Exit.OK) if code in found)


class _Stoppable(Protocol):
    @property
    def interrupted(self) -> bool: ...


def finished(answer: _Stoppable) -> Exit:
    """The exit code of an answer that keeps what was done: whether it was ended early."""
    return Exit.TIME_LIMIT if answer.interrupted else Exit.OK
