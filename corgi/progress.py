"""How long work reports where it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One step of long work.

    Attributes:
        stage: what is going on ("attack", "certify").
        detail: where it is, for people.
        certified: largest radius certified so far; attacked: smallest witness radius so far.
        lasting: whether it is worth a line that stays.
    """

    stage: str
    detail: str
    certified: float = 0.0
    attacked: float | None = None
    lasting: bool = False


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """A listener that ignores everything."""
