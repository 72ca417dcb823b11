"""CROWN on two forms of one trunk; of every bound the better one is kept.

A Maximum over a pool's window, and the tournament of maxima of two that stands for it (lowering.py, case 4),
are relaxed differently. Joint planes (maximum.py) are tighter for a window, and for the map on average. But a
row reads many windows, and which plane below suits it best is not known when planes are chosen: single pixels
can be tighter by the tournament. Both bounds hold, so the better one does.

Where at most two elements of every window in a row's cone can be the maximum, both forms relax the same
difference by the same lines, and only the joint one is computed. A small ball leaves few other windows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.engines.patch.cones import readers
from corgi.engines.patch.engine import PatchBounder, PatchEngine
from corgi.engines.patch.prepare import Maximum
from corgi.network.network import Network
from corgi.types import Ball, Interval


class BothBounder(PatchBounder):
    """The patch engine, once with joint windows and once with tournaments; bounds that cross are refused."""

    def __init__(self, engine: PatchEngine, network: Network, class_id: int, dtype: torch.dtype) -> None:
        super().__init__(engine, network, class_id, dtype)
        self._split = PatchBounder(engine, network, class_id, dtype, split=True)

    @property
    def rounding(self) -> float:
        """The largest rounding error set aside so far, in either form."""
        return max(super().rounding, self._split.rounding)

    def pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        """Folded intervals (theory 1.2), each [pixels]; infinite ends for pixels that were not asked for."""
        joint = super().pixels(ball, low, high)
        everything = torch.arange(self._network.pixels)
        contested = self._contested(ball)
        low, high = (
            pixels[contested[pixels]]
            for pixels in (everything if low is None else low, everything if high is None else high)
        )
        if len(low) + len(high) == 0:
            return joint
        return self._better(joint, self._split.pixels(ball, low, high))

    def differences(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """Pairwise margins (theory 1.3): lower bounds of I_above - I_below: [rows]."""
        joint, contested = super().differences(ball, above, below), self._contested(ball)
        some = (contested[above] | contested[below]).nonzero().reshape(-1)
        if len(some):
            split = self._split.differences(ball, above[some], below[some])
            joint[some] = torch.maximum(joint[some], split)
        return joint

    def _contested(self, ball: Ball) -> Tensor:
        """Which map pixels bounded so far have a window of three candidates in their cone: [pixels]."""
        bounds = self._bounds(ball)
        pools = [s for s in self._graph.steps if isinstance(s.layer, Maximum) and s.layer.elements > 1]
        marked = {s.output: (bounds.live(s.output).sum(-1) > 2).any(1) for s in pools}
        return readers(self._graph, marked, bounds.relaxation.shape).reshape(-1).cpu()

    def features(self, ball: Ball) -> Interval:
        """Feature-wise intervals (theory 1.1), each [F, pixels]."""
        return self._better(super().features(ball), self._split.features(ball))

    def scores(self, ball: Ball, label: int) -> Tensor:
        """Lower bounds of score_label - score_j for all classes j (theory 1.9): [classes], inf for label."""
        return torch.maximum(super().scores(ball, label), self._split.scores(ball, label))

    def _better(self, joint: Interval, split: Interval) -> Interval:
        lower = torch.maximum(joint.lower, split.lower)
        upper = torch.minimum(joint.upper, split.upper)
        return Interval.from_engine(lower, upper, slack=0.0, engine=f"{self._engine.name}, both forms")
