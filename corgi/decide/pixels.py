"""Bounds of single map pixels over one ball, each as tight as the work spent on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from corgi.budget import limited
from corgi.decide.decider import Decider, Minimum
from corgi.decide.forms import map_forms
from corgi.decide.margins import Question
from corgi.engines.cone import NotUnfolded
from corgi.engines.interface import Bounder
from corgi.types import Ball, Interval

_LEAST, _MORE = 4, 0.5
"""Sub-problems of a piece of work on a pixel: at least, and as a share of those so far. The first is one."""


@dataclass
class Ends:
    """The least values of all pixels, or of their negatives: float64 [pixels] each.

    Attributes:
        sign: 1 or -1, what the pixels are taken times.
        bound: lower bounds.
        seen: values that were seen in the ball, up to rounding: bounds cannot be better.
        first: the bound after the first sub-problem; nodes: sub-problems so far.
    """

    sign: int
    bound: Tensor
    seen: Tensor
    first: Tensor = field(init=False)
    nodes: Tensor = field(init=False)
    minima: dict[int, Minimum | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.first, self.nodes = self.bound.clone(), torch.zeros_like(self.bound)

    def improve(self, pixel: int, minimum: Minimum | None, enough: float) -> None:
        """Spend a piece of work on a pixel; one on which nothing could be spent is closed."""
        begun, spent = int(self.nodes[pixel]), 0
        if minimum is not None:
            minimum.improve(max(_LEAST, int(_MORE * begun)) if begun else 1, enough)
            spent = minimum.nodes - begun
            self.nodes[pixel] = minimum.nodes
            self.bound[pixel] = max(float(self.bound[pixel]), minimum.bound)
            self.seen[pixel] = min(float(self.seen[pixel]), minimum.seen)
        if begun == 0:
            self.first[pixel] = self.bound[pixel]
        if minimum is None or minimum.finished or spent == 0:
            self.seen[pixel] = self.bound[pixel]


class PixelBounds:
    """Bounds of all map pixels over one ball.

    Attributes:
        least: of the pixels; most: of their negatives, so that the largest values are less these.
    """

    def __init__(self, question: Question, bounder: Bounder, decider: Decider, ball: Ball) -> None:
        assert question.cam is not None
        self._question, self._bounder, self._decider, self._ball = question, bounder, decider, ball
        known, cam = bounder.intervals(ball), question.cam.to(torch.float64)
        self.least = Ends(1, known.lower.to(torch.float64).clone(), cam.clone())
        self.most = Ends(-1, -known.upper.to(torch.float64), -cam)

    @property
    def interval(self) -> Interval:
        """What is known by now."""
        return Interval(self.least.bound, -self.most.bound)

    @property
    def nodes(self) -> int:
        """Sub-problems so far."""
        return int(self.least.nodes.sum() + self.most.nodes.sum())

    @property
    def searches(self) -> int:
        """How many ends of pixels were worked on."""
        return int((self.least.nodes > 0).sum() + (self.most.nodes > 0).sum())

    def improve(self, ends: Ends, pixel: int, enough: float, deadline: float | None = None) -> None:
        """Spend a piece of work on one of the ends of a pixel, less once its bound exceeds what is enough.

        `deadline` ends the search, not what the engine does before it: a bounder that is stopped is lost.
        """
        if pixel not in ends.minima:
            question, row = self._question, torch.zeros(1, dtype=torch.int64)
            sign = torch.full((1,), float(ends.sign), dtype=torch.float64)
            form = map_forms(question.network, question.class_id, row, row + pixel, sign, 0 * sign)
            cone = self._bounder.unfold(self._ball, form)
            ends.minima[pixel] = None if isinstance(cone, NotUnfolded) else self._decider.minimum(cone)
        with limited(deadline):
            ends.improve(pixel, ends.minima[pixel], enough)
