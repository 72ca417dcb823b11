"""Whether the property holds on one ball: bounds, then exact decisions, then onnxruntime (theory 1.10).

The engine's bounds prove most pairs of pixels; what they leave open is unfolded and decided. A
counterexample becomes an image and counts once onnxruntime confirms it; then it is a witness like any
other.

A ranking is broken only where `lost` pixels of A stand at or below `gained` pixels of B at once, so by a
complete subgraph of the open pairs (counting.py). Where one pair is enough each open one is decided. Else
pairs are decided one by one until the open ones have no such subgraph; if some stay open, each subgraph is
decided jointly, as far as they are few. A subgraph is often more than needs to be said: of the pixels in it
that stand lowest anyhow nothing is asked before a point is found at which they do not.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from corgi.attacks.steps import Projection
from corgi.attacks.witness import confirm
from corgi.budget import left, limited
from corgi.decide.counting import core, counted
from corgi.decide.decider import (
    Counterexample,
    Decider,
    Proved,
    Undecided,
    Verdict,
    all_of,
    contradiction,
    decided,
)
from corgi.decide.forms import pairs_of
from corgi.decide.margins import Margins, Question, score
from corgi.decide.pixels import PixelBounds
from corgi.decide.separation import separate
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import NotUnfolded
from corgi.engines.interface import Bounder
from corgi.errors import UsageError
from corgi.properties.formula import All, Any, Formula, Ranking
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
        subsets: most sets of pixels decided jointly for one ranking.
        jointly: most margins in such a set.
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


_NODES = 8
"""Times `ExactOptions.subsets`: most nodes of the tree of sets that could break a ranking."""

_SEPARATELY = 0.8
"""Share of the time left for work on single pixels, where nothing else is to be decided."""

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
        margins, parts: the bounds of the last ball (`Score`): where to begin on the next one.
        balls: how many were decided; decisions: how many margins of them, nodes: sub-problems that took.
    """

    question: Question
    bounder: Bounder
    options: ExactOptions
    told: Callable[[str], None]
    margins: Margins | None = None
    parts: Mapping[Formula, float] = field(default_factory=dict)
    balls: int = 0
    decisions: int = 0
    nodes: int = 0
    pixels: PixelBounds | None = None

    def decide(
        self, ball: Ball, nearest: float = math.inf, *, last: bool = False, share: float = 1.0
    ) -> Finding:
        """Decide the property on a ball, in the time there is (budget.py).

        Args:
            ball: where.
            nearest: distance of the nearest witness known: one that is not nearer is of no use.
            last: no other ball is decided: all of the time is for this one, and no witness beyond it counts.
            share: of the time for work on single pixels, which may take all there is, as others are to come.
        """
        found = score(self.question, self.bounder, ball, self.margins, sign_only=True)
        self.balls += 1
        self.margins, self.parts, self.pixels = found.margins, found.parts, None
        if found.value > 0:
            return Proved(found.value, 0)
        return self._part(self.question.holds, ball, nearest, last, share)

    def pixels_in(self, ball: Ball) -> PixelBounds:
        """Bounds of single pixels over the ball in question, which all parts of the property share."""
        if self.pixels is None:
            self.pixels = PixelBounds(self.question, self.bounder, self.options.decider, ball)
        return self.pixels

    def _part(self, formula: Formula, ball: Ball, nearest: float, last: bool, share: float) -> Finding:
        """Decide a part of the property that bounds may have left open.

        Of parts one of which must hold, one that is proved on the whole ball is enough; that some may hold
        just where others do not is not looked at. `share`: of the time, as there are others.
        """
        assert self.margins is not None
        known = self.parts.get(formula, -math.inf)
        if known > 0:
            return Proved(known, 0)
        match formula:
            case Ranking():
                margins = self.margins[formula.sides]
                return _OpenMargins(self, formula, ball, margins, nearest, last).decide(share)
            case All(parts=parts):
                return all_of(self._part(part, ball, nearest, last, share) for part in parts)
            case Any(parts=parts):
                return self._any(parts, ball, nearest, last, share)
        return Undecided("bounds do not decide the balance", 0)

    def _any(
        self, parts: tuple[Formula, ...], ball: Ball, nearest: float, last: bool, share: float
    ) -> Finding:
        found: Finding = Undecided("no part was decided", 0)
        for place, part in enumerate(parts):
            found = self._part(part, ball, nearest, last, share / (len(parts) - place))
            if not isinstance(found, Undecided):  # a witness breaks the whole property: `confirm` asks that
                return found
        return found


class _OpenMargins:
    """What bounds left open of one ranking in one ball."""

    def __init__(
        self, decider: BallDecider, ranking: Ranking, ball: Ball, margins: Tensor, nearest: float, last: bool
    ) -> None:
        self.decider, self.ranking, self.ball, self.margins = decider, ranking, ball, margins.clone()
        self.nearest, self.last = nearest, last
        self.question, self.options = decider.question, decider.options
        self.lost, self.gained = ranking.lost_count, ranking.gained
        self.inside, self.others = ranking.inside, ranking.others
        self.started, self.before = time.monotonic(), decider.decisions

    def decide(self, share: float) -> Finding:
        """The finding; `share`: of the time there is."""
        if not self.ranking.single:
            least = self.separately(share)
            if least > 0:
                return Proved(least, 0)
            self.started, self.before = time.monotonic(), self.decider.decisions
        if self.lost == 1:
            return self.row_by_row()
        found = _Sets(self).decide()
        return Proved(found.least, 0) if isinstance(found, Proved) and found.least > 0 else found

    def separately(self, share: float) -> float:
        """The ranking's bound after work on pixels one by one, in a share of the time left."""
        pixels, told = self.decider.pixels_in(self.ball), self.decider.told
        told(f"radius {self.ball.radius:.4g}, pixel by pixel")
        before = pixels.searches, pixels.nodes
        self.margins = separate(self.ranking, pixels, self.margins, share * _SEPARATELY * left())
        self.decider.decisions += pixels.searches - before[0]
        self.decider.nodes += pixels.nodes - before[1]
        return counted(self.margins, self.ranking)

    @property
    def open(self) -> Tensor:
        """Pairs that may be <= 0; a NaN is open."""
        return ~(self.margins > 0)

    def row_by_row(self) -> Finding:
        """Decide each pixel of A that may stand at or below `gained` pixels of B."""
        rows = (self.open.sum(1) >= self.gained).nonzero().reshape(-1)
        # The pixel whose margins are smallest first: it is the likeliest to be lost.
        rows = rows[self.margins[rows].amin(1).argsort()]
        for done, row in enumerate(rows.tolist()):
            found = self.row(row, f"pixel {done + 1} of {len(rows)}")
            if not isinstance(found, Proved):
                return found
        # Rows were left with fewer than `gained` margins <= 0: certified is the smallest of the others.
        least = counted(self.margins, self.ranking)
        return Proved(least, 0) if 0 < least < math.inf else Undecided("margins stay open", 0)

    def row(self, row: int, detail: str) -> Finding:
        """Decide whether a pixel of A can be lost."""
        columns = self.open[row].nonzero().reshape(-1)
        columns = columns[self.margins[row, columns].argsort(descending=self.gained > 1)]
        # Where one is enough every subset is one pair.
        failing = self.one_by_one(row, columns.tolist(), detail) if self.gained > 1 else columns.tolist()
        if len(failing) < self.gained:
            return Proved(float(self.margins[row].kthvalue(self.gained).values), 0)
        count = math.comb(len(failing), self.gained)
        if self.gained > 1 and (count > self.options.subsets or self.gained > self.options.jointly):
            several = f"{len(failing)} pairs of one pixel stay open where {self.gained - 1} may"
            return Undecided(f"{several}: too many to decide jointly", 0)
        return self.jointly(row, failing, detail)

    def one_by_one(self, row: int, columns: list[int], detail: str) -> list[int]:
        """Decide pairs of one pixel until no more are open than may be: those that are."""
        left_open, failing = list(columns), []
        for column in columns:
            if len(left_open) < self.gained:
                return left_open
            verdict = None if self.beyond(row, column) else self.exactly([row], [column], detail)
            if isinstance(verdict, Proved):
                self.margins[row, column] = verdict.least
                left_open.remove(column)
            else:
                failing.append(column)
        return failing

    def jointly(self, row: int, failing: list[int], detail: str) -> Finding:
        """Decide whether all of some `gained` pixels of B can exceed a pixel of A at once."""
        least = math.inf
        for subset in itertools.combinations(failing, self.gained):
            verdict = self.exactly([row], list(subset), detail)
            if isinstance(verdict, Counterexample):
                return self.witnessed(verdict)
            if isinstance(verdict, Undecided):
                return verdict
            least = min(least, verdict.least)
            if self.gained == 1:
                self.margins[row, subset[0]] = verdict.least
        if self.gained > 1:
            # At every point one of any `gained` of them is at least this, and so are all others.
            self.margins[row, failing] = least
            self.margins[row] = self.margins[row].min()
        return Proved(float(self.margins[row].min()), 0)

    def beyond(self, row: int, column: int) -> bool:
        """Whether a pair is broken at the image itself: no use in deciding it."""
        cam, ranking = self.question.cam, self.ranking
        if cam is None:
            return False
        return bool(ranking.up * cam[self.inside[row]] <= ranking.down * cam[self.others[column]])

    def exactly(self, rows: list[int], columns: list[int], detail: str) -> Verdict:
        """Decide whether each of some pixels of A can stand at or below each of some of B at once."""
        late = self.too_long()
        if late is not None:
            return Undecided(late, 0)
        above = self.inside[rows].repeat_interleave(len(columns))
        below, ranking = self.others[columns].repeat(len(rows)), self.ranking
        forms = pairs_of(self.question.network, self.question.class_id, ranking, above, below)
        cone = self.decider.bounder.unfold(self.ball, forms)
        if isinstance(cone, NotUnfolded):
            return Undecided(cone.reason, 0)
        self.decider.told(f"radius {self.ball.radius:.4g}, {detail}, {cone.undecided} undecided windows")
        # One hard decision must leave time for others (with pixels to spare), and for smaller radii.
        share = 0.25 if not ranking.single and len(forms) == 1 else 0.5
        share = 1.0 if self.last and len(forms) >= self.gained else share
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
        more = int((self.open.sum(1) - self.gained + 1).clamp(min=0).sum()) if self.lost == 1 else 1
        if time_left <= 0:
            return f"time was up with {more} more to decide"
        each = (time.monotonic() - self.started) / max(done, 1)
        if done and more * each > 2 * time_left:
            return f"{more} more to decide at about {each:.1f} s each do not fit the time left"
        return None

    def image(self, deviations: Tensor, share: float = 0.0) -> tuple[Ball, Tensor]:
        """The image at a point of the last cone, moved outwards by a share, and the ball it is in."""
        ball = self.ball.with_radius(min(self.ball.radius * (1 + share), self.ball.largest))
        image = ball.center.to(torch.float64).flatten().clone()
        image[self.pixels] += (1 + share) * deviations
        return ball, Projection(ball)(image.reshape(1, *ball.center.shape))[0].to(torch.float32)

    def witnessed(self, found: Counterexample) -> Witness | Undecided:
        """The counterexample as an image, if onnxruntime confirms it.

        Where float32 hides that little, it is moved outwards along its own direction, by less than the gap.
        """
        for share in (0.0, *(self.options.gap / part for part in _OUTWARDS)):
            ball, pixels = self.image(found.deviations, share)
            if share > 0 and (ball.radius >= self.nearest or self.last):
                break
            witness = confirm(self.question, ball, pixels)
            if witness is not None:
                return witness
        return Undecided(f"onnxruntime does not confirm a counterexample ({found.margin:.3g})", found.nodes)


@dataclass(frozen=True)
class _Node:
    """Sets of pixels that hold some pixels for certain.

    Attributes:
        opened: the pairs that can belong to one, bool [A, B].
        rows, columns: those of A and of B in all of them.
    """

    opened: Tensor
    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()

    def within(self, opened: Tensor, lost: int, gained: int) -> _Node | None:
        """The same with pairs that are still open; None if no set is left."""
        left_open = core(self.opened & opened, lost, gained)
        reach = left_open[list(self.rows)].all(0)[None, :] & left_open[:, list(self.columns)].all(1)[:, None]
        left_open = core(left_open & reach, lost, gained)
        rows, columns = left_open.any(1), left_open.any(0)
        held = bool(rows[list(self.rows)].all()) and bool(columns[list(self.columns)].all())
        return replace(self, opened=left_open) if held and bool(left_open.any()) else None

    def without(self, row: int | None, column: int | None) -> Tensor:
        """Its pairs but those of a pixel."""
        opened = self.opened.clone()
        if row is not None:
            opened[row] = False
        if column is not None:
            opened[:, column] = False
        return opened


class _Sets:
    """All sets of pixels that could break a ranking together: a tree on which pixels belong to them.

    Where the pixels of A that a node holds cannot all stand at or below those of B that it holds, none of its
    sets breaks the ranking. Where they can, a point shows it. Unless that breaks the ranking, a pixel that
    stands out there is the next to belong to the sets, or not to.
    """

    def __init__(self, of: _OpenMargins) -> None:
        self.of, self.least, self.nodes = of, math.inf, 0

    def decide(self) -> Finding:
        of = self.of
        stack = [_Node(of.open)]
        while stack:
            node = stack.pop().within(of.open, of.lost, of.gained)
            if node is None:
                continue
            self.nodes += 1
            if self.nodes > _NODES * of.options.subsets:
                return Undecided("the pixels that stay open could change places in too many ways", 0)
            found = self.look_at(node) if node.rows and node.columns else None
            if isinstance(found, Proved):
                continue
            if found is not None and not isinstance(found, Tensor):
                return found
            stack.extend(self.children(node, found))
        # At every point a pair of each set that would break it is proved, alone or together with others.
        closed = of.margins[of.margins > 0]
        least = min(self.least, float(closed.min()) if len(closed) else math.inf)
        return Proved(least, 0) if 0 < least < math.inf else Undecided("margins stay open", 0)

    def look_at(self, node: _Node) -> Finding | Tensor:
        """Decide the pixels a node holds; where they can change places, the margins of all pairs there."""
        of, held = self.of, len(node.rows) * len(node.columns)
        verdict = of.exactly(list(node.rows), list(node.columns), f"set {self.nodes}")
        if isinstance(verdict, Proved):
            self.least = min(self.least, verdict.least)
            if held == 1:
                of.margins[node.rows[0], node.columns[0]] = verdict.least
        if not isinstance(verdict, Counterexample):
            return verdict
        _, image = of.image(verdict.deviations)
        cam = of.question.network.cam(image, of.question.class_id).reshape(-1)
        complete = len(node.rows) == of.lost and len(node.columns) == of.gained
        if complete or held >= of.options.jointly or float(of.ranking.margin(cam)) < 0:
            return of.witnessed(verdict)
        return of.ranking.pairs(cam)

    def children(self, node: _Node, at: Tensor | None) -> list[_Node]:
        """A pixel more, or not that one; the former last, so first of all."""
        row, column = self.next_pixel(node, self.of.margins if at is None else at, known=at is not None)
        without = replace(node, opened=node.without(row, column))
        if row is not None:
            return [without, replace(node, rows=(*node.rows, row))]
        assert column is not None
        return [without, replace(node, columns=(*node.columns, column))]

    def next_pixel(self, node: _Node, margins: Tensor, *, known: bool) -> tuple[int | None, int | None]:
        """A row or a column: first the column likeliest to gain, then the highest row against it.

        Where margins at a point are known, the one that keeps others from changing places there.
        """
        of = self.of
        rows = [i for i in node.opened.any(1).nonzero().reshape(-1).tolist() if i not in node.rows]
        columns = [p for p in node.opened.any(0).nonzero().reshape(-1).tolist() if p not in node.columns]
        rows = rows if len(node.rows) < of.lost else []
        columns = columns if len(node.columns) < of.gained else []
        if not node.columns:
            masked = margins.masked_fill(~node.opened, math.inf)[:, columns]
            return None, columns[int(masked.kthvalue(of.lost, dim=0).values.argmin())]
        if not node.rows:
            return rows[int(margins[rows][:, list(node.columns)].amax(1).argmax())], None
        high_row = margins[rows][:, list(node.columns)].amax(1) if rows else torch.tensor([-math.inf])
        high_column = margins[list(node.rows)][:, columns].amax(0) if columns else torch.tensor([-math.inf])
        if columns and (not rows or float(high_column.max()) > float(high_row.max())):
            # Any column must stand above the rows: the one that is nearest to that.
            return None, columns[int(high_column.argmin() if known else high_column.argmax())]
        return rows[int(high_row.argmax())], None
