"""The exact radius: what bounds leave open is decided, until certificate and witness meet (theory 1.10).

One ball: the engine's bounds prove most pairs; each pair they leave open is unfolded and decided. A
counterexample becomes an image and counts once onnxruntime confirms it; then it is a witness like any other.
Between the largest certified radius and the nearest witness the search goes on until they are within `gap`
of each other.

Relaxed (k, k2): a top pixel i is lost only where k2 - k + 1 outside pixels exceed it at once. Pairs are
decided one by one until at most k2 - k stay open for i; if more do, their subsets of k2 - k + 1 are decided
jointly.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeGuard

import torch
from torch import Tensor

from corgi.attacks.target import Target
from corgi.attacks.witness import confirm, nearer
from corgi.budget import limited
from corgi.cam.topk import outside
from corgi.certify.decide import Question, score
from corgi.certify.radius import search
from corgi.complete.decider import Budget, Counterexample, Decider, Proved, Undecided, Verdict
from corgi.complete.tree import TreeDecider
from corgi.engines.cone import NotUnfolded
from corgi.engines.forms import pairs
from corgi.engines.interface import Bounder
from corgi.errors import EngineError, UsageError
from corgi.progress import Listener, Progress
from corgi.results import ExactSearch, Witness
from corgi.terms import GAP, Status
from corgi.types import Ball


@dataclass(frozen=True)
class ExactOptions:
    """How far to close the gap.

    Attributes:
        gap: stop once witness radius / certified radius <= 1 + gap.
        seconds: most wall time for it, and most it may be expected to take.
        nodes: most sub-problems of one decision.
        subsets: most subsets of open pixels decided jointly for one top pixel (k2 > k).
        jointly: most margins in such a subset.
        decider: who decides.
    """

    gap: float = GAP
    seconds: float = 60.0
    nodes: int = 20_000
    subsets: int = 32
    jointly: int = 32
    decider: Decider = field(default_factory=TreeDecider)

    def __post_init__(self) -> None:
        if not 0 < self.gap < 1:
            raise UsageError(f"gap = {self.gap}: expected a share in (0, 1)")
        if not self.seconds > 0:
            raise UsageError(f"seconds = {self.seconds}: expected a time > 0")


_OUTWARDS = (16, 8, 4, 2)
"""By which parts of the gap a counterexample is moved outwards to be confirmed."""


Finding = Proved | Witness | Undecided
"""Of one ball: the property holds, a confirmed image breaks it, or neither is known."""


@dataclass
class ExactRadius:
    """State of one exact search; also its result.

    Attributes:
        certified: largest certified radius; least: the margin there.
        witness: the nearest witness.
        failed: radii that stayed undecided, with reasons.
    """

    question: Question
    bounder: Bounder
    ball: Ball
    target: Target
    rounding: float
    options: ExactOptions
    deadline: float
    listener: Listener
    certified: float = 0.0
    least: float | None = None
    witness: Witness | None = None
    failed: list[tuple[float, str]] = field(default_factory=list)
    decisions: int = 0
    nodes: int = 0
    evaluations: int = 0
    margins: Tensor | None = None
    one_radius: bool = False
    ended: Status | None = None
    reason: str | None = None
    started: float = field(default_factory=time.monotonic)

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
                decided = self.closed or not self.failed
                self.reason = None if decided else self.failed[-1][1]
        return self.reason

    @property
    def stopped(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.ended is Status.INTERRUPTED

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
            decisions=self.decisions,
            nodes=self.nodes,
            radii=self.evaluations,
            seconds=time.monotonic() - self.started,
        )

    @property
    def hopeless(self) -> bool:
        """Whether nothing could be unfolded so far, and finding that out takes long each time."""
        spent = time.monotonic() - self.started
        return (
            bool(self.failed) and self.decisions == 0 and 4 * spent > self.options.seconds * self.evaluations
        )

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
        if self.witness is None and self.certified > 0:
            high = min(high, 1.1 * self.certified)
        undecided = [radius for radius, _ in self.failed if radius > self.certified]
        if undecided and min(undecided) <= high:
            high = math.sqrt(max(self.certified, min(undecided) / 4) * min(undecided))
            if high <= self.certified * (1 + self.options.gap / 4):
                return None
        return high if len(undecided) < 8 else None

    def step(self, radius: float) -> None:
        """Decide one radius and keep what it says."""
        found = self.decide(radius)
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
        found = nearer(self.target, self.ball, witness, self.rounding)
        self.check(self.certified, found)
        if self.witness is None or found.radius < self.witness.radius:
            self.witness = found

    def check(self, certified: float, witness: Witness | None) -> None:
        """Refuse to keep a certificate that reaches a witness, before either is kept."""
        attacked = None if witness is None else witness.radius
        refuse_contradiction(self.options.decider.name, certified, attacked)

    def report(self, detail: str) -> None:
        """Tell the listener."""
        attacked = None if self.witness is None else self.witness.radius
        self.listener(Progress("exact", detail, self.certified, attacked))

    def decide(self, radius: float) -> Finding:
        """Decide the property on the ball of a radius."""
        ball = self.ball.with_radius(radius)
        found = score(self.question, self.bounder, ball, self.margins, sign_only=True)
        self.evaluations += 1
        self.margins = found.margins
        if found.value > 0:
            return Proved(found.value, 0)
        return _BallDecision(self, ball, found.margins).run()


def refuse_contradiction(who: str, certified: float, attacked: float | None) -> None:
    """Refuse to answer where a certificate reaches a confirmed witness.

    Raises:
        EngineError: it does, which is a fault of corgi.
    """
    if attacked is not None and certified >= attacked:
        raise EngineError(
            f"contradiction: {who} certifies radius {certified:.6g}, but onnxruntime confirms a witness at"
            f" {attacked:.6g}",
            hint="This is a fault in corgi. No certificate is given; please report the model and image.",
        )


def proves(verdict: Verdict) -> TypeGuard[Proved]:
    """Whether a decider proved something: its bound must be a finite number > 0."""
    return isinstance(verdict, Proved) and 0 < verdict.least < math.inf


class _BallDecision:
    """Decides what bounds left open in one ball."""

    def __init__(self, search: ExactRadius, ball: Ball, margins: Tensor) -> None:
        self.search, self.ball, self.margins = search, ball, margins.clone()
        self.question, self.options = search.question, search.options
        inside = torch.tensor(self.question.top.pixels)
        self.started, self.decided = time.monotonic(), 0
        self.inside, self.others = inside, outside(self.question.top, self.question.network.pixels)

    def run(self) -> Finding:
        spare = self.question.spare
        open_pairs = ~(self.margins > 0)  # a NaN is open
        rows = (open_pairs.sum(1) > spare).nonzero().reshape(-1)
        # The top pixel whose margins are smallest first: it is the likeliest to be lost.
        rows = rows[self.margins[rows].amin(1).argsort()]
        for done, row in enumerate(rows.tolist()):
            found = self.row(row, f"pixel {done + 1} of {len(rows)}")
            if not isinstance(found, Proved):
                return found
        # Rows were left with at most `spare` margins <= 0: what is certified is the smallest of the others.
        least = float(self.margins.nan_to_num(nan=-math.inf).kthvalue(spare + 1, dim=1).values.min())
        return Proved(least, 0) if 0 < least < math.inf else Undecided("margins stay open", 0)

    def row(self, row: int, detail: str) -> Finding:
        """Decide whether a top pixel can be lost."""
        spare = self.question.spare
        columns = (~(self.margins[row] > 0)).nonzero().reshape(-1)
        columns = columns[self.margins[row, columns].argsort(descending=spare > 0)]
        # With nothing to spare every subset is one pair.
        failing = self.one_by_one(row, columns.tolist(), detail) if spare > 0 else columns.tolist()
        if len(failing) <= spare:
            return Proved(float(self.margins[row].kthvalue(spare + 1).values), 0)
        count = math.comb(len(failing), spare + 1)
        if spare > 0 and (count > self.options.subsets or spare >= self.options.jointly):
            pairs = f"{len(failing)} pairs of one pixel stay open where {spare} may"
            return Undecided(f"{pairs}: too many to decide jointly", 0)
        return self.jointly(row, failing, detail)

    def one_by_one(self, row: int, columns: list[int], detail: str) -> list[int]:
        """Decide pairs of one top pixel until no more are open than may be: those that are."""
        left, failing = list(columns), []
        for column in columns:
            if len(left) <= self.question.spare:
                return left
            verdict = None if self.beyond(row, column) else self.decide(row, [column], detail)
            if verdict is not None and proves(verdict):
                self.margins[row, column] = verdict.least
                left.remove(column)
            else:
                failing.append(column)
        return failing

    def jointly(self, row: int, failing: list[int], detail: str) -> Finding:
        """Decide whether all of some spare + 1 outside pixels can exceed a top pixel at once."""
        spare, least = self.question.spare, math.inf
        for subset in itertools.combinations(failing, spare + 1):
            verdict = self.decide(row, list(subset), detail)
            if isinstance(verdict, Counterexample):
                return self.witnessed(verdict)
            if isinstance(verdict, Undecided) and verdict.reason:
                return verdict
            if not proves(verdict):
                return Undecided("a decider gave no usable answer", verdict.nodes)
            least = min(least, verdict.least)
            if spare == 0:
                self.margins[row, subset[0]] = verdict.least
        if spare > 0:
            # At every point one of any spare + 1 of them is at least this, and so are all others.
            self.margins[row, failing] = least
            self.margins[row] = self.margins[row].min()
        return Proved(float(self.margins[row].min()), 0)

    def beyond(self, row: int, column: int) -> bool:
        """Whether an outside pixel is the larger one at the image itself: no use in deciding that pair."""
        cam = self.question.cam
        return cam is not None and bool(cam[self.inside[row]] <= cam[self.others[column]])

    def decide(self, row: int, columns: list[int], detail: str) -> Verdict:
        """Decide whether the top pixel of a row can be exceeded by all of some outside pixels at once."""
        search = self.search
        late = self.too_long()
        if late:
            return Undecided(late, 0)
        above = self.inside[row].repeat(len(columns))
        below = self.others[columns]
        cone = search.bounder.unfold(self.ball, pairs(above, below))
        if isinstance(cone, NotUnfolded):
            return Undecided(cone.reason, 0)
        search.report(f"radius {self.ball.radius:.4g}, {detail}, {cone.undecided} undecided windows")
        now = time.monotonic()
        # One hard decision must leave time for others (with pixels to spare), and for smaller radii.
        share = 0.25 if self.question.spare and len(columns) == 1 else 0.5
        share = 1.0 if search.one_radius and len(columns) > self.question.spare else share
        deadline = now + share * (search.deadline - now)
        verdict = self.options.decider.decide(cone, Budget(self.options.nodes, deadline))
        self.decided += 1
        search.decisions += 1
        search.nodes += verdict.nodes
        if isinstance(verdict, Counterexample):
            self.pixels = cone.pixels
        return verdict

    def too_long(self) -> str:
        """Why no further pair is decided: time is up, or would be long before the last one."""
        now, spare = time.monotonic(), self.question.spare
        left = int(((~(self.margins > 0)).sum(1) - spare).clamp(min=0).sum())
        if now >= self.search.deadline:
            return f"time was up with {left} more to decide"
        each = (now - self.started) / max(self.decided, 1)
        if self.decided and left * each > 2 * (self.search.deadline - now):
            return f"{left} more to decide at about {each:.1f} s each do not fit the time left"
        return ""

    def witnessed(self, found: Counterexample) -> Witness | Undecided:
        """The counterexample as an image, if onnxruntime confirms it.

        Where float32 hides that little, it is moved outwards along its own direction, by less than the gap.
        """
        known = self.search.witness
        limit = math.inf if known is None else known.radius
        for share in (0.0, *(self.options.gap / part for part in _OUTWARDS)):
            ball = self.ball.with_radius(min(self.ball.radius * (1 + share), 1.0))
            if share > 0 and (ball.radius >= limit or self.search.one_radius):
                break
            image = ball.center.to(torch.float64).flatten().clone()
            image[self.pixels] += (1 + share) * found.deviations
            box = ball.inner_box(torch.float32)
            pixels = image.reshape(ball.center.shape).to(torch.float32).clamp(box.lower, box.upper)
            witness = confirm(self.search.target, ball, pixels, self.search.rounding)
            if witness is not None:
                return witness
        return Undecided(f"onnxruntime does not confirm a counterexample ({found.margin:.3g})", found.nodes)
