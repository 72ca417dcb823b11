"""The final decision in float64, with a margin that rounding cannot explain (theory 5)."""

from __future__ import annotations

from torch import Tensor

from corgi.certify.decide import Question, score
from corgi.engines.interface import Bounder
from corgi.results import Recheck
from corgi.types import Ball


def recheck(question: Question, bounder: Bounder, ball: Ball, order: Tensor | None = None) -> Recheck:
    """The score of a ball by a float64 bounder, and its rounding bound; a certificate where it is larger."""
    margin = score(question, bounder, ball, order).value
    rounding = bounder.rounding
    return Recheck(ball.radius, margin + rounding if bounder.outward else margin, rounding)
