"""Whether the property holds on one ball: bounds, then exact decisions, then onnxruntime (theory 1.10).

The engine's bounds prove most pairs; each pair they leave open is unfolded and decided. A counterexample
becomes an image and counts once onnxruntime confirms it; then it is a witness like any other.

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

import torch
from torch import Tensor

from corgi.attacks.witness import confirm
from corgi.budget import left, limited
from corgi.cam.topk import outside
from corgi.decide.decider import Counterexample, Decider, Proved, Undecided, Verdict, contradiction, decided
from corgi.decide.margins import Question, score
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import NotUnfolded
from corgi.engines.forms import pairs
from corgi.engines.interface import Bounder
from corgi.errors import UsageError
from corgi.results import Witness
from corgi.terms import GAP
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


def refuse_contradiction(who: str, certified: float, attacked: float | None) -> None:
    """Refuse to answer where a certificate reaches a confirmed witness.

    Raises:
        EngineError: it does, which is a fault of corgi.
    """
    if attacked is not None and certified >= attacked:
        raise contradiction(
            f"{who} certifies radius {certified:.6g}, but onnxruntime confirms a witness at {attacked:.6g}"
        )


@dataclass
class BallDecider:
    """Decides balls around one image, one after the other.

    Attributes:
        question: the property; bounder, options: how to decide it.
        told: hears of every decision.
        margins: the bounds of the last ball, [k, outside]: where to begin on the next one.
        balls: how many were decided; decisions: how many margins of them, nodes: sub-problems that took.
    """

    question: Question
    bounder: Bounder
    options: ExactOptions
    told: Callable[[str], None]
    margins: Tensor | None = None
    balls: int = 0
    decisions: int = 0
    nodes: int = 0

    def decide(self, ball: Ball, nearest: float = math.inf, *, last: bool = False) -> Finding:
        """Decide the property on a ball, in the time there is (budget.py).

        Args:
            ball: where.
            nearest: distance of the nearest witness known: one that is not nearer is of no use.
            last: no other ball is decided: all of the time is for this one, and no witness beyond it counts.
        """
        found = score(self.question, self.bounder, ball, self.margins, sign_only=True)
        self.balls += 1
        self.margins = found.margins
        if found.value > 0:
            return Proved(found.value, 0)
        return _OpenMargins(self, ball, found.margins, nearest, last).decide()


class _OpenMargins:
    """What bounds left open in one ball."""

    def __init__(self, decider: BallDecider, ball: Ball, margins: Tensor, nearest: float, last: bool) -> None:
        self.decider, self.ball, self.margins = decider, ball, margins.clone()
        self.nearest, self.last = nearest, last
        self.question, self.options = decider.question, decider.options
        self.spare = self.question.spare
        self.inside = torch.tensor(self.question.top.pixels)
        self.others = outside(self.question.top, self.question.network.pixels)
        self.started, self.before = time.monotonic(), decider.decisions

    def decide(self) -> Finding:
        open_pairs = ~(self.margins > 0)  # a NaN is open
        rows = (open_pairs.sum(1) > self.spare).nonzero().reshape(-1)
        # The top pixel whose margins are smallest first: it is the likeliest to be lost.
        rows = rows[self.margins[rows].amin(1).argsort()]
        for done, row in enumerate(rows.tolist()):
            found = self.row(row, f"pixel {done + 1} of {len(rows)}")
            if not isinstance(found, Proved):
                return found
        # Rows were left with at most `spare` margins <= 0: what is certified is the smallest of the others.
        least = float(self.margins.nan_to_num(nan=-math.inf).kthvalue(self.spare + 1, dim=1).values.min())
        return Proved(least, 0) if 0 < least < math.inf else Undecided("margins stay open", 0)

    def row(self, row: int, detail: str) -> Finding:
        """Decide whether a top pixel can be lost."""
        columns = (~(self.margins[row] > 0)).nonzero().reshape(-1)
        columns = columns[self.margins[row, columns].argsort(descending=self.spare > 0)]
        # With nothing to spare every subset is one pair.
        failing = self.one_by_one(row, columns.tolist(), detail) if self.spare > 0 else columns.tolist()
        if len(failing) <= self.spare:
            return Proved(float(self.margins[row].kthvalue(self.spare + 1).values), 0)
        count = math.comb(len(failing), self.spare + 1)
        if self.spare > 0 and (count > self.options.subsets or self.spare >= self.options.jointly):
            several = f"{len(failing)} pairs of one pixel stay open where {self.spare} may"
            return Undecided(f"{several}: too many to decide jointly", 0)
        return self.jointly(row, failing, detail)

    def one_by_one(self, row: int, columns: list[int], detail: str) -> list[int]:
        """Decide pairs of one top pixel until no more are open than may be: those that are."""
        left_open, failing = list(columns), []
        for column in columns:
            if len(left_open) <= self.spare:
                return left_open
            verdict = None if self.beyond(row, column) else self.exactly(row, [column], detail)
            if isinstance(verdict, Proved):
                self.margins[row, column] = verdict.least
                left_open.remove(column)
            else:
                failing.append(column)
        return failing

    def jointly(self, row: int, failing: list[int], detail: str) -> Finding:
        """Decide whether all of some spare + 1 outside pixels can exceed a top pixel at once."""
        least = math.inf
        for subset in itertools.combinations(failing, self.spare + 1):
            verdict = self.exactly(row, list(subset), detail)
            if isinstance(verdict, Counterexample):
                return self.witnessed(verdict)
            if isinstance(verdict, Undecided):
                return verdict
            least = min(least, verdict.least)
            if self.spare == 0:
                self.margins[row, subset[0]] = verdict.least
        if self.spare > 0:
            # At every point one of any spare + 1 of them is at least this, and so are all others.
            self.margins[row, failing] = least
            self.margins[row] = self.margins[row].min()
        return Proved(float(self.margins[row].min()), 0)

    def beyond(self, row: int, column: int) -> bool:
        """Whether an outside pixel is the larger one at the image itself: no use in deciding that pair."""
        cam = self.question.cam
        return cam is not None and bool(cam[self.inside[row]] <= cam[self.others[column]])

    def exactly(self, row: int, columns: list[int], detail: str) -> Verdict:
        """Decide whether the top pixel of a row can be exceeded by all of some outside pixels at once."""
        late = self.too_long()
        if late is not None:
            return Undecided(late, 0)
        above = self.inside[row].repeat(len(columns))
        cone = self.decider.bounder.unfold(self.ball, pairs(above, self.others[columns]))
        if isinstance(cone, NotUnfolded):
            return Undecided(cone.reason, 0)
        self.decider.told(f"radius {self.ball.radius:.4g}, {detail}, {cone.undecided} undecided windows")
        # One hard decision must leave time for others (with pixels to spare), and for smaller radii.
        share = 0.25 if self.spare and len(columns) == 1 else 0.5
        share = 1.0 if self.last and len(columns) > self.spare else share
        with limited(time.monotonic() + share * left()):
            verdict = decided(self.options.decider, cone, self.options.nodes)
        self.decider.decisions += 1
        self.decider.nodes += verdict.nodes
        if isinstance(verdict, Counterexample):
            self.pixels = cone.pixels
        return verdict

    def too_long(self) -> str | None:
        """Why no further pair is decided: time is up, or would be long before the last one."""
        time_left, done = left(), self.decider.decisions - self.before
        more = int(((~(self.margins > 0)).sum(1) - self.spare).clamp(min=0).sum())
        if time_left <= 0:
            return f"time was up with {more} more to decide"
        each = (time.monotonic() - self.started) / max(done, 1)
        if done and more * each > 2 * time_left:
            return f"{more} more to decide at about {each:.1f} s each do not fit the time left"
        return None

    def witnessed(self, found: Counterexample) -> Witness | Undecided:
        """The counterexample as an image, if onnxruntime confirms it.

        Where float32 hides that little, it is moved outwards along its own direction, by less than the gap.
        """
        for share in (0.0, *(self.options.gap / part for part in _OUTWARDS)):
            ball = self.ball.with_radius(min(self.ball.radius * (1 + share), 1.0))
            if share > 0 and (ball.radius >= self.nearest or self.last):
                break
            image = ball.center.to(torch.float64).flatten().clone()
            image[self.pixels] += (1 + share) * found.deviations
            box = ball.inner_box(torch.float32)
            pixels = image.reshape(ball.center.shape).to(torch.float32).clamp(box.lower, box.upper)
            witness = confirm(self.question, ball, pixels)
            if witness is not None:
                return witness
        return Undecided(f"onnxruntime does not confirm a counterexample ({found.margin:.3g})", found.nodes)
