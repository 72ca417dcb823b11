"""What deciders answer: that a margin stays positive on a whole ball, or where it does not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from corgi.engines.cone import Cone
from corgi.errors import EngineError

W = TypeVar("W")
"""A witness, of whatever kind."""


@dataclass(frozen=True)
class Proved:
    """At every point of the ball at least one of the margins is > 0.

    Attributes:
        least: a lower bound of the largest margin over the ball, rounding set aside; > 0.
        nodes: sub-problems it took.
    """

    least: float
    nodes: int


@dataclass(frozen=True)
class Counterexample:
    """A point at which all margins are < 0 by float64, their errors added; onnxruntime has not seen it yet.

    Attributes:
        deviations: of the cone's pixels from the middle of the ball, float64 [pixels].
        margin: the largest margin there.
        nodes: sub-problems it took.
    """

    deviations: Tensor
    margin: float
    nodes: int


@dataclass(frozen=True)
class Undecided:
    """Neither: never a proof.

    Attributes:
        reason: why.
        nodes: sub-problems spent.
    """

    reason: str
    nodes: int


Verdict = Proved | Counterexample | Undecided


class Minimum(Protocol):
    """The least value of a margin over its cone, narrowed as far as work is spent on it.

    Attributes:
        bound: a lower bound of it, rounding set aside; it never falls.
        seen: the least value at a point looked at, by plain float64; nothing is proved by it.
        nodes: sub-problems so far.
        finished: whether nothing more can be found out.
    """

    bound: float
    seen: float
    nodes: int
    finished: bool

    def improve(self, nodes: int, enough: float) -> None:
        """Spend so many sub-problems, fewer if time is over or the bound exceeds what is enough."""


class Decider(Protocol):
    """A way to decide: a frozen value whose fields are its options."""

    @property
    def name(self) -> str:
        """Name, for results."""

    def decide(self, cone: Cone, nodes: int) -> Verdict:
        """Whether all margins of a cone, usually one, are <= 0 at once anywhere in the ball.

        It takes at most so many sub-problems, and the time there is (budget.py).
        """

    def minimum(self, cone: Cone) -> Minimum:
        """The least value of the one margin of a cone, on which no work was spent yet."""


def decided(decider: Decider, cone: Cone, nodes: int) -> Verdict:
    """What a decider says of a cone; a proof only with a finite bound > 0, and never without a reason not."""
    return usable(decider.decide(cone, nodes))


def usable(verdict: Verdict) -> Verdict:
    """A verdict, if it says what it may: see `decided`."""
    match verdict:
        case Counterexample():
            return verdict
        case Proved(least=least) if 0 < least < math.inf:
            return verdict
        case Undecided(reason=reason) if reason:
            return verdict
    return Undecided("a decider gave no usable answer", verdict.nodes)


def all_of(findings: Iterable[Proved | W | Undecided]) -> Proved | W | Undecided:
    """What is known of several things of which each must be proved: they are only if each is `Proved`.

    The first witness ends it; without one the first that is open stands for all, whatever its reason says.
    """
    proved: list[Proved] = []
    undecided: list[Undecided] = []
    for found in findings:
        if isinstance(found, Proved):
            proved.append(found)
        elif isinstance(found, Undecided):
            undecided.append(found)
        else:
            return found
    if undecided or not proved:
        return undecided[0] if undecided else Undecided("nothing was decided", 0)
    return Proved(min(one.least for one in proved), sum(one.nodes for one in proved))


def contradiction(what: str) -> EngineError:
    """What to raise where a proof excludes what onnxruntime computes."""
    hint = "This is a fault in corgi. Nothing is claimed; please report it with the files you gave."
    return EngineError(f"contradiction: {what}", hint=hint)
