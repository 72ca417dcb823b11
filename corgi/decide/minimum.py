"""The least value of a margin over its cone: a lower bound that grows with the work spent on it.

It is bounded by a tree of linear programs, as the sign of a margin is decided (tree.py), but best first: of
all nodes the one with the smallest bound is split next. Together the nodes that are left cover the ball, so
the smallest of their bounds is one of the margin on the whole ball, at any time: work can end, and be gone on
with, wherever that serves a question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from corgi.budget import left
from corgi.decide.linear import LinearRelaxation, to_branch
from corgi.decide.narrowing import narrowed, narrows
from corgi.decide.solver import Vector
from corgi.engines.cone import Cone

_ROUNDS = 1
"""Most rounds of cuts at the root. The programs of other nodes are left as they are: with cuts each of them
takes ten times as long."""

_NARROW = 48
"""Nodes after which the ReLUs inside of the cone are narrowed, and the tree begins again."""


@dataclass(frozen=True)
class _Node:
    """Where some windows have their maximum at a given element: a bound there, and where to split it."""

    bound: float
    fixed: dict[int, int]
    gap: Vector


class TreeMinimum:
    """The least value of the one margin of a cone (see `Minimum`)."""

    def __init__(self, cone: Cone) -> None:
        self._cone, self._relaxation = cone, LinearRelaxation(cone)
        self._narrows = narrows(cone)
        self._open: tuple[_Node, ...] = ()
        self.nodes, self.bound, self.finished = 0, -math.inf, False
        self.seen = float(cone.largest(cone.lower.new_zeros(1, len(cone.lower))))

    def improve(self, nodes: int, enough: float) -> None:
        """Split nodes into so many, or fewer if time is over or the bound exceeds what is enough."""
        if self.finished:
            return
        # One that is left in the middle of this is not gone on with.
        self.finished, last = True, self.nodes + nodes
        if self.nodes == 0:
            self._keep((self._solved({}, -math.inf, enough, _ROUNDS),))
        if self.nodes >= _NARROW and self._narrows and self._open and self.bound <= enough:
            self._begin_narrowed(enough)
        done = not self._open
        while not done and self.nodes < last and self.bound <= enough and left() > 0:
            worst = min(self._open, key=lambda node: node.bound)
            window = to_branch(worst.gap, worst.fixed)
            done = window is None  # every maximum is fixed there: rounding is all that is left
            if window is not None:
                elements = self._relaxation.live(window)
                fixed = [{**worst.fixed, window: element} for element in elements]
                children = [self._solved(each, worst.bound, enough, 0) for each in fixed]
                self._keep((*(node for node in self._open if node is not worst), *children))
                done = not self._open
        self.finished = done

    def _begin_narrowed(self, enough: float) -> None:
        """Begin again with tighter planes: what is known of the ball already stays."""
        cone = narrowed(self._cone, TreeMinimum)
        if left() <= 0:
            return  # there is no time to come as far again
        self._narrows, self._relaxation = False, LinearRelaxation(cone)
        self._keep((self._solved({}, self.bound, enough, _ROUNDS),))

    def _solved(self, fixed: dict[int, int], known: float, enough: float, rounds: int) -> _Node:
        """A node, of which its parent says something already."""
        found = self._relaxation.solve(fixed, rounds, enough)
        self.nodes += 1
        if found.pixels is not None:
            self.seen = min(self.seen, float(self._cone.largest(found.pixels[None])))
        return _Node(max(known, found.bound), fixed, found.gap)

    def _keep(self, nodes: tuple[_Node, ...]) -> None:
        """Nodes that together cover the ball: the smallest of their bounds holds on it."""
        self._open = tuple(node for node in nodes if node.bound < math.inf)  # others are empty
        # The ball is not empty, so one node has a finite bound; anything else is a fault of the solver.
        if self._open:
            self.bound = max(self.bound, min(node.bound for node in self._open))
