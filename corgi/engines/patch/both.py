"""CROWN on two forms of one trunk; of every bound the better one is kept.

A Maximum over a pool's window, and the tournament of maxima of two that stands for it (lowering.py, case 4),
are relaxed differently. Joint planes (maximum.py) are tighter for a window, and for the map on average. But a
row reads many windows, and which plane below suits it best is not known when planes are chosen: single pixels
are up to a tenth tighter by the tournament. Both bounds hold, so the better one does. That costs a second
pass, over a graph with more layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.engines.patch.engine import PatchBounder, PatchEngine
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

    def cheap(self, ball: Ball) -> Interval:
        """Interval arithmetic, each [pixels]."""
        return self._better(super().cheap(ball), self._split.cheap(ball))

    def pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        """Folded intervals (theory 1.2), each [pixels]; infinite ends for pixels that were not asked for."""
        return self._better(super().pixels(ball, low, high), self._split.pixels(ball, low, high))

    def differences(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """Pairwise margins (theory 1.3): lower bounds of I_above - I_below: [rows]."""
        return torch.maximum(
            super().differences(ball, above, below), self._split.differences(ball, above, below)
        )

    def features(self, ball: Ball) -> Interval:
        """Feature-wise intervals (theory 1.1), each [F, pixels]."""
        return self._better(super().features(ball), self._split.features(ball))

    def scores(self, ball: Ball, label: int) -> Tensor:
        """Lower bounds of score_label - score_j for all classes j (theory 1.9): [classes], inf for label."""
        return torch.maximum(super().scores(ball, label), self._split.scores(ball, label))

    def shortfall(self, ball: Ball) -> str:
        """Whose rows ended early, or were left out, in both forms; empty if in one of them none were."""
        own, split = super().shortfall(ball), self._split.shortfall(ball)
        return own if own and split else ""

    def _better(self, joint: Interval, split: Interval) -> Interval:
        lower = torch.maximum(joint.lower, split.lower)
        upper = torch.minimum(joint.upper, split.upper)
        return Interval.from_engine(lower, upper, slack=0.0, engine=f"{self._engine.name}, both forms")
