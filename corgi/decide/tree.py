"""Decide by a tree of linear programs: the mixed-integer program of a cone, branched by us.

The maximum of every undecided window is one of its live elements; a node of the tree fixes it for some
windows, and the children of a node fix it for one more, one child an element. Together the children cover
the node, so margins are positive on the ball if every leaf is proved so or empty (linear.py: by our own
arithmetic, whatever the solver claims). Points the programs propose are tried at once: they are where
counterexamples are found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from corgi.budget import left
from corgi.decide.decider import Counterexample, Proved, Undecided, Verdict
from corgi.decide.linear import LinearRelaxation, to_branch
from corgi.decide.minimum import TreeMinimum
from corgi.engines.cone import Cone
from corgi.terms import Norm


@dataclass(frozen=True)
class TreeDecider:
    """Depth first; branches on the window whose planes and cuts cost the program most.

    Attributes:
        root_rounds, rounds: most rounds of cuts at the root, and at every other node.
        of_balls: the same in l_2 and l_1, where cuts read all pixels and make programs slow.
    """

    root_rounds: int = 8
    rounds: int = 1
    of_balls: tuple[int, int] = (1, 0)

    @property
    def name(self) -> str:
        """Name, for results."""
        return "lp-tree"

    def decide(self, cone: Cone, nodes: int) -> Verdict:
        """Decide the margins of a cone (see `Decider.decide`)."""
        relaxation = LinearRelaxation(cone)
        in_box = cone.norm is Norm.LINF
        at_root, others = (self.root_rounds, self.rounds) if in_box else self.of_balls
        stack: list[dict[int, int]] = [{}]
        solved, tied, least = 0, False, math.inf
        while stack:
            if solved >= nodes or left() <= 0:
                return Undecided("budget spent", solved)
            fixed = stack.pop()
            solved += 1
            found = relaxation.solve(fixed, at_root if solved == 1 else others, enough=0.0)
            if found.bound > 0:
                least = min(least, found.bound)
                continue
            maxima: list[int] | None = None
            if found.pixels is not None:
                margin = float(cone.largest(found.pixels[None]))
                if margin < 0:
                    return Counterexample(found.pixels, margin, solved)
                maxima = cone.maxima(found.pixels)
            window = to_branch(found.gap, fixed)
            if window is None:
                tied = True  # every maximum is fixed, and rounding still hides the sign
                continue
            children = relaxation.live(window)
            if maxima is not None:
                # The child that holds the proposed point comes last on the stack, so first of all.
                children = sorted(children, key=lambda element: element == maxima[window])
            stack.extend({**fixed, window: element} for element in children)
        if tied:
            return Undecided("a margin is 0 within rounding", solved)
        # A ball is not empty, so one leaf has a finite bound; anything else is a fault of the solver.
        return Proved(least, solved) if math.isfinite(least) else Undecided("no leaf has a point", solved)

    def minimum(self, cone: Cone) -> TreeMinimum:
        """The least value of the one margin of a cone (see `Decider.minimum`)."""
        return TreeMinimum(cone)
