"""What every exact decider offers: whether a margin stays positive on a whole ball, or where it does not."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from corgi.engines.cone import Cone


@dataclass(frozen=True)
class Budget:
    """How much one decision may cost.

    Attributes:
        nodes: most sub-problems.
        deadline: `time.monotonic()` after which none is begun.
    """

    nodes: int = 20_000
    deadline: float = math.inf

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline


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


class Decider(Protocol):
    """A way to decide: a frozen value whose fields are its options."""

    @property
    def name(self) -> str:
        """Name, for results."""

    def decide(self, cone: Cone, budget: Budget) -> Verdict:
        """Whether all margins of a cone, usually one, are <= 0 at once anywhere in the ball."""
