"""What is kept from one bound to the next is whole, or it is never used again.

A bound that ends by an exception (Ctrl-C, a deadline, a fault, memory) may leave what it keeps half changed:
rows noted of one window in the place of another, an interval without what it was made of. No order of
statements is safe against an exception at any line of a few thousand. So a mark is set before anything is
changed and taken away when all is done, and an object that bears it refuses to answer. Nothing runs when the
exception passes, so nothing can be interrupted in turn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from corgi.errors import EngineError

P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self", bound="Whole")


class Whole:
    """Base of objects whose `to_the_end` methods use what earlier ones kept."""

    _unfinished = False

    @property
    def whole(self) -> bool:
        """Whether every computation so far came to its end; if not, no further one is begun."""
        return not self._unfinished


def to_the_end(method: Callable[Concatenate[Self, P], R]) -> Callable[Concatenate[Self, P], R]:
    """Refuse a method of a `Whole` once one of them ended by an exception.

    Such methods do not call one another on the same object: one that is under way cannot be told from one
    that never ended.

    Raises:
        EngineError: an earlier one did not come to its end.
    """

    @functools.wraps(method)
    def guarded(self: Self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._unfinished:
            raise EngineError(
                f"{type(self).__name__} was interrupted in the middle of a bound and may know half of it",
                hint="Bind the engine anew; nothing is proved with what is left of an interrupted bound.",
            )
        self._unfinished = True
        found = method(self, *args, **kwargs)
        self._unfinished = False
        return found

    return guarded  # type: ignore[return-value]  # `self` by name, which no caller passes
