"""Decide margins over a box by splitting units whose sign is not known: branch and bound without programs.

A node is the part of the box on which some units have given signs, z >= 0 or z <= 0. Its two children give
one unit more both signs, so together they cover it; margins are positive on the box if every leaf is bounded
so (engines/layered.py, by lines and multipliers that lines.py suggests). Nodes are bounded in batches, the
worst first (beta-CROWN, Wang et al. 2021). The unit a node is split by is the one of several likely ones
whose children are bounded best without any steps (filtered smart branching, De Palma et al. 2021).
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from corgi.budget import left, tell
from corgi.decide.decider import Counterexample, Proved, Undecided, Verdict
from corgi.decide.inner import start_slopes
from corgi.decide.lines import Lines, Rate, Start, improved
from corgi.engines.layered import Layered, Slopes, Sweep
from corgi.engines.rigour import SPARE, gamma

_ENTRIES = 2**21
"""Units of all nodes of a batch, about."""

_WIDEST = 64
"""Nodes of a batch at most."""

_STUCK = (
    "a part of the box on which every sign is given stays open: multipliers are not exact, or a margin is 0"
)


@dataclass(frozen=True)
class BranchDecider:
    """Best first, by batches.

    Attributes:
        root, rate: how lines are improved at the root, and at every other node.
        candidates: units that are tried before a node is split.
    """

    root: Rate = field(default_factory=lambda: Rate(60))
    rate: Rate = field(default_factory=lambda: Rate(12))
    candidates: int = 4

    @property
    def name(self) -> str:
        """Name, for results."""
        return "branch"

    def decide(self, problem: Layered, nodes: int) -> Verdict:
        """Whether all margins are <= 0 at once anywhere in the box.

        It takes at most so many nodes, and the time there is (budget.py).
        """
        return _Search(problem, self).run(nodes)


@dataclass(order=True)
class _Node:
    """A part of the box that is not proved, by its bound.

    Attributes:
        signs: columns of `Layered.open`, and the signs that are given.
        alpha, beta, weights: what it was bounded with: [U], [signs], [P].
        split: the column that its children give a sign.
    """

    bound: float
    number: int
    signs: tuple[tuple[int, int], ...] = field(compare=False)
    alpha: Tensor = field(compare=False)
    beta: Tensor = field(compare=False)
    weights: Tensor = field(compare=False)
    split: int | None = field(compare=False, default=None)


class _Search:
    """The nodes of one decision."""

    def __init__(self, problem: Layered, options: BranchDecider) -> None:
        self.problem, self.options = problem, options
        self.exact, self.fast = Sweep(problem), Sweep(problem, torch.float32)
        self.bounded, self.least, self._numbers = 0, math.inf, itertools.count()
        self.open: list[_Node] = []
        self.stuck = False
        self.found: Counterexample | None = None
        self.low, self.high, self.shift = self._of_units()
        self.size = max(1, min(_WIDEST, _ENTRIES // max(problem.units, 1)))

    def _of_units(self) -> list[Tensor]:
        """Ends and shift of the chord of every open unit, float32 [U] each."""
        found = [torch.zeros(3, 0)]
        for known in self.problem.rectifiers.values():
            parts = torch.stack([known.lower, known.upper, known.chord[1]])[:, known.open]
            found.append(parts.to(torch.float32))
        return list(torch.cat(found, 1))

    def run(self, nodes: int) -> Verdict:
        """Split until nothing is open."""
        count = len(self.problem.rows)
        root = _Node(
            -math.inf,
            next(self._numbers),
            (),
            start_slopes(self.problem, self.exact),
            torch.zeros(0),
            torch.full((count,), 1 / count),
        )
        self.bound([root], self.options.root)
        while self.open and self.found is None:
            if self.bounded >= nodes or left() <= 0:
                return Undecided(f"budget spent with {len(self.open)} parts of the box open", self.bounded)
            if self.stuck:
                return Undecided(_STUCK, self.bounded)
            batch = [heapq.heappop(self.open) for _ in range(min(self.size, len(self.open)))]
            tell(
                "decide",
                f"{self.bounded} parts bounded, {len(self.open) + len(batch)} open, {batch[0].bound:.3g}",
            )
            self.bound([child for node in batch for child in self.children(node)], self.options.rate)
        if self.found is not None:
            return self.found
        if self.stuck or not math.isfinite(self.least):
            return Undecided(_STUCK, self.bounded)
        return Proved(self.least, self.bounded)

    def children(self, node: _Node) -> list[_Node]:
        """Both signs of the unit that a node is split by."""
        assert node.split is not None
        beta = torch.cat([node.beta, torch.zeros(1)])
        return [
            _Node(
                node.bound,
                next(self._numbers),
                (*node.signs, (node.split, sign)),
                node.alpha,
                beta,
                node.weights,
            )
            for sign in (1, -1)
        ]

    def slopes(self, nodes: list[_Node]) -> Slopes:
        """What nodes were bounded with."""
        alpha = torch.stack([node.alpha for node in nodes])
        beta, sign = torch.zeros_like(alpha), torch.zeros_like(alpha, dtype=torch.int8)
        for row, node in enumerate(nodes):
            if node.signs:
                columns, signs = torch.tensor(node.signs).unbind(1)
                beta[row, columns], sign[row, columns] = node.beta, signs.to(torch.int8)
        return Slopes(alpha, beta, sign)

    def start(self, weights: Tensor, dtype: torch.dtype) -> Start:
        """The sums of the margins with weights [R, P] as rows."""
        known, weights = self.problem, weights.to(dtype)
        rows = torch.tensordot(weights, known.rows.to(dtype), 1)
        return {known.output: rows}, weights @ known.constant.to(dtype)

    def rounding(self, weights: Tensor) -> Tensor:
        """What rounding may change of those sums, [R]; nothing of one margin with the weight 1."""
        known = self.problem
        size = known.rows.abs().sum((2, 3)) @ known.sizes[known.output] + known.constant.abs()
        share = SPARE * gamma(2 * len(size) + 8, torch.float64)
        return torch.where((weights == 1).any(1), 0.0, share * (weights @ size))

    def bound(self, nodes: list[_Node], rate: Rate) -> None:
        """Bound nodes in batches; those that are not proved are open, with the unit to split them by."""
        for first in range(0, len(nodes), 2 * self.size):
            if left() <= 0:
                # They stay open: what is not bounded is not proved.
                self.open.extend(nodes[first:])
                return
            self._bound(nodes[first : first + 2 * self.size], rate)

    def _bound(self, nodes: list[_Node], rate: Rate) -> None:
        weights = torch.stack([node.weights for node in nodes])
        lines = improved(
            self.fast,
            lambda weights: self.start(weights, torch.float32),
            Lines(self.slopes(nodes), weights),
            rate,
        )
        slopes, weights = lines.slopes, lines.weights
        exactly = torch.ones(len(nodes), 1, dtype=torch.float64)
        if weights.shape[1] > 1:
            # Not negative, and of sum 1 at most: where the sum of the margins is > 0, the largest is no less.
            exactly = weights.to(torch.float64)
            exactly = exactly / (exactly.sum(1, keepdim=True) * (1 + 2.0**-40))
        start, constant = self.start(exactly, torch.float64)
        swept = self.exact.run(start, constant - self.rounding(exactly), slopes, rigorous=True, reading=True)
        self.bounded += len(nodes)
        proved = swept.lower > 0
        if bool(proved.any()):
            self.least = min(self.least, float(swept.lower[proved].min()))
        self.look(swept.image[~proved])
        which = (~proved).nonzero().reshape(-1).tolist()
        if not which or self.found is not None:
            return
        assert swept.read is not None
        left_open = []
        for row in which:
            signs = nodes[row].signs
            beta = slopes.beta[row, [column for column, _ in signs]] if signs else torch.zeros(0)
            left_open.append(
                _Node(
                    max(nodes[row].bound, float(swept.lower[row])),
                    nodes[row].number,
                    signs,
                    slopes.alpha[row].clone(),
                    beta,
                    weights[row],
                )
            )
        self.choose(left_open, swept.read[which].to(torch.float32))
        for node in left_open:
            heapq.heappush(self.open, node)

    def look(self, image: Tensor) -> None:
        """Try the images at which rows on the image [R, C, H, W] are least."""
        if len(image) == 0:
            return
        box = self.problem.box
        points = torch.where(image > 0, box.lower, box.upper)
        worst = self.problem.margins(points).amax(1)
        at = int(worst.argmin())
        if float(worst[at]) < 0:
            self.found = Counterexample(points[at].flatten(), float(worst[at]), self.bounded)

    def choose(self, nodes: list[_Node], read: Tensor) -> None:
        """The unit each node is to be split by; `read`: coefficients on the outputs of open units [R, U]."""
        slopes = self.slopes(nodes)
        positive, negative = read.clamp(min=0), read.clamp(max=0)
        below = positive * torch.minimum(-slopes.alpha * self.low, (1 - slopes.alpha) * self.high)
        score = torch.maximum(-negative * self.shift, below).nan_to_num(nan=0.0)
        score = torch.where(slopes.sign == 0, score, -1.0)
        count = min(self.options.candidates, score.shape[1])
        if count == 0 or bool((score.amax(1) < 0).any()):
            self.stuck = True
            return
        best = score.topk(count, 1)
        chosen = best.indices[:, 0]
        if count > 1:
            chosen = best.indices.gather(1, self.tried(nodes, slopes, best.indices, best.values)[:, None])[
                :, 0
            ]
        for node, column in zip(nodes, chosen.tolist(), strict=True):
            node.split = column

    def tried(self, nodes: list[_Node], slopes: Slopes, columns: Tensor, score: Tensor) -> Tensor:
        """Which of some units [R, K] leaves the better of its children worst least: [R]."""
        rows, count = columns.shape
        weights = torch.stack([node.weights for node in nodes])
        bounds = []
        for at in range(count):
            for sign in (1, -1):
                given = slopes.sign.clone()
                given[torch.arange(rows), columns[:, at]] = sign
                start, constant = self.start(weights, torch.float32)
                with torch.no_grad():
                    swept = self.fast.run(
                        start, constant, Slopes(slopes.alpha, slopes.beta, given), rigorous=False
                    )
                bounds.append(swept.lower)
        both = torch.stack(bounds, 1).reshape(rows, count, 2).nan_to_num(nan=-math.inf)
        # A column that was given a sign already has no children of its own.
        gain = torch.where(score >= 0, both.amin(2), -math.inf)
        tie = torch.where(score >= 0, both.clamp(max=0).sum(2), -math.inf)
        return (gain + 1e-3 * tie).nan_to_num(nan=-math.inf).argmax(1)
