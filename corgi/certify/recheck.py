"""The final decision in float64, with a margin that rounding cannot explain (theory 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.certify.decide import Question, score
from corgi.engines.interface import BoundEngine, Bounder
from corgi.results import Recheck
from corgi.types import Ball


class Rechecker:
    """Decides radii in float64 for one question. The engine is bound on first use and then kept.

    An interrupted decision may be asked for again: the engine is then bound anew.
    """

    def __init__(self, question: Question, engine: BoundEngine) -> None:
        self._question, self._engine = question, engine
        self._bounder: Bounder | None = None

    def decide(self, ball: Ball, order: Tensor | None = None) -> Recheck:
        """The float64 score of a ball beside its rounding bound: a certificate where it is the larger one."""
        if self._bounder is None or not self._bounder.whole:
            network, class_id = self._question.network, self._question.class_id
            self._bounder = self._engine.bind(network, class_id, torch.float64)
        margin = score(self._question, self._bounder, ball, order).value
        rounding = self._bounder.rounding
        return Recheck(ball.radius, margin + rounding if self._bounder.outward else margin, rounding)
