"""The exact radius: what bounds leave open is decided, until certificate and witness meet (theory 1.10).

Between the largest certified radius and the nearest witness balls are decided (decide/ball.py) until the two
are within `gap` of each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from corgi.attacks.witness import nearer
from corgi.budget import limited, tell
from corgi.certify.radius import search
from corgi.decide.ball import BallDecider, ExactOptions, refuse_contradiction
from corgi.decide.decider import Proved, Undecided
from corgi.decide.margins import Question
from corgi.engines.interface import Bounder
from corgi.results import ExactSearch, Witness
from corgi.terms import Norm, Status
from corgi.types import Ball

_FIRST_SHARE = 0.5
"""Of the time that work on single pixels may take on one ball, until one stayed undecided."""

_STEP = 1.1
"""From a certified radius to the next, where the witness is far or unknown, or much work is near it."""


@dataclass
class ExactRadius:
    """State of one exact search; also its result.

    Attributes:
        certified: largest certified radius; least: the margin there.
        witness: the nearest witness.
        failed: radii that stayed undecided, with reasons.
        one_radius: only one radius is decided.
        ended: TIME_LIMIT or INTERRUPTED where that ended it.
        reason: why it ended before the gap was reached; None if it did not.
    """

    question: Question
    bounder: Bounder
    ball: Ball
    options: ExactOptions
    deadline: float
    certified: float = 0.0
    least: float | None = None
    witness: Witness | None = None
    failed: list[tuple[float, str]] = field(default_factory=list)
    one_radius: bool = False
    ended: Status | None = None
    reason: str | None = None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.check(self.certified, self.witness)  # one of the two may come from elsewhere
        self.decider = BallDecider(self.question, self.bounder, self.options, self.report)

    def run(self, *, until_failure: bool = False) -> str | None:
        """Narrow the bracket; returns why it ended early, None if the gap was reached.

        Time and Ctrl-C end it, too: what was found until then is kept.
        """

        def following() -> float | None:
            over = self.closed or self.hopeless or (until_failure and self.failed)
            return None if over else self.next_radius()

        return self.search(following)

    def decide_one(self, radius: float) -> str | None:
        """Decide one radius only; returns why it stayed undecided, None if it did not."""
        self.one_radius = True
        asked = iter([radius])
        return self.search(lambda: next(asked, None))

    def search(self, following: Callable[[], float | None]) -> str | None:
        """Decide the radii that a policy names; returns why that was not enough."""
        with limited(self.deadline):
            self.ended = search(following, self.step)
        match self.ended:
            case Status.INTERRUPTED:
                self.reason = "interrupted"
            case Status.TIME_LIMIT:
                self.reason = self.too_late
            case _:
                self.reason = None if self.closed or not self.failed else self.failed[-1][1]
        return self.reason

    @property
    def too_late(self) -> str:
        """Why a search that ran out of time ended."""
        if time.monotonic() - self.started < self.options.seconds:
            return "the time limit was reached"
        return f"stopped after the {self.options.seconds:g} s an exact search may take"

    def take_over(self, radius: float) -> None:
        """A radius that was certified otherwise."""
        self.check(radius, self.witness)
        self.certified = max(self.certified, radius)

    def details(self, reason: str | None) -> ExactSearch:
        """What it took; `reason`: why it ended early, if it did."""
        return ExactSearch(
            decider=self.options.decider.name,
            gap=self.options.gap,
            closed=self.closed or (self.one_radius and reason is None),
            reason=reason or "",
            decisions=self.decider.decisions,
            nodes=self.decider.nodes,
            radii=self.decider.balls,
            seconds=time.monotonic() - self.started,
        )

    @property
    def hopeless(self) -> bool:
        """Whether nothing could be unfolded so far, and finding that out takes long each time."""
        spent = time.monotonic() - self.started
        nothing = bool(self.failed) and self.decider.decisions == 0
        return nothing and 4 * spent > self.options.seconds * self.decider.balls

    @property
    def closed(self) -> bool:
        """Whether the bracket is narrow enough."""
        if self.witness is None:
            return self.certified >= self.ball.largest
        return self.witness.radius <= self.certified * (1 + self.options.gap)

    def next_radius(self) -> float | None:
        """Just below the witness; after a failure half-way down to the certificate, until that is close."""
        high = (
            self.ball.largest if self.witness is None else self.witness.radius / (1 + 0.9 * self.options.gap)
        )
        at_once = self.witness is not None and self.question.holds.single and self.ball.norm is Norm.LINF
        if self.certified > 0 and not at_once:
            high = min(high, _STEP * self.certified)
        undecided = [radius for radius, _ in self.failed if radius > self.certified]
        if undecided and min(undecided) <= high:
            high = math.sqrt(max(self.certified, min(undecided) / 4) * min(undecided))
            if high <= self.certified * (1 + self.options.gap / 4):
                return None
        return high if len(undecided) < 8 else None

    def step(self, radius: float) -> None:
        """Decide one radius and keep what it says."""
        nearest = math.inf if self.witness is None else self.witness.radius
        # After a failure the next radius is nearer, and will hardly take less.
        share = 1.0 if self.one_radius or self.failed else _FIRST_SHARE
        ball = self.ball.with_radius(radius)
        found = self.decider.decide(ball, nearest, last=self.one_radius, share=share)
        match found:
            case Proved(least=least):
                self.check(radius, self.witness)
                # In this order: the margin Ctrl-C leaves in between is of a larger ball, so it holds.
                self.least = least
                self.certified = radius
                outcome = "certified"
            case Witness():
                self.learn(found)
                outcome = "broken"
            case Undecided(reason=reason):
                self.failed.append((radius, reason))
                outcome = "undecided"
        self.report(f"radius {radius:.4g} {outcome}")

    def learn(self, witness: Witness) -> None:
        """Keep a witness, moved as near as the attack can."""
        found = nearer(self.question, self.ball, witness)
        self.check(self.certified, found)
        if self.witness is None or found.radius < self.witness.radius:
            self.witness = found

    def check(self, certified: float, witness: Witness | None) -> None:
        """Refuse to keep a certificate that reaches a witness, before either is kept."""
        attacked = None if witness is None else witness.radius
        refuse_contradiction(self.options.decider.name, certified, attacked)

    def report(self, detail: str) -> None:
        """Tell where the search is."""
        attacked = None if self.witness is None else self.witness.radius
        tell("exact", detail, self.certified, attacked)
