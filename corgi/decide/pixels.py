"""Bounds of single map pixels over one ball, each as tight as the work spent on it."""

from __future__ import annotations

import torch

from corgi.decide.decider import Decider, Minimum
from corgi.decide.forms import map_forms
from corgi.decide.margins import Question
from corgi.engines.cone import NotUnfolded
from corgi.engines.interface import Bounder
from corgi.types import Ball, Interval

_FIRST, _MORE = 4, 0.5
"""Sub-problems of the first piece of work on a pixel; the share of those so far that the next pieces are."""


class PixelBounds:
    """Bounds of all map pixels over one ball.

    Attributes:
        low, high: float64 [pixels].
        lowest, highest: values of pixels that were seen in the ball, up to rounding: bounds cannot be better.
        nodes: sub-problems so far; searches: of how many ends of pixels.
    """

    def __init__(self, question: Question, bounder: Bounder, decider: Decider, ball: Ball) -> None:
        assert question.cam is not None
        self._question, self._bounder, self._decider, self._ball = question, bounder, decider, ball
        known = bounder.intervals(ball)
        self.low, self.high = (end.to(torch.float64).clone() for end in (known.lower, known.upper))
        self.lowest, self.highest = (question.cam.to(torch.float64).clone() for _ in range(2))
        self.nodes = self.searches = 0
        self._minima: dict[tuple[int, bool], Minimum | None] = {}

    @property
    def interval(self) -> Interval:
        """What is known by now."""
        return Interval(self.low, self.high)

    def begun(self, pixel: int, *, from_below: bool) -> bool:
        """Whether work was spent on an end of a pixel."""
        return (pixel, from_below) in self._minima

    def improve(self, pixel: int, *, from_below: bool, enough: float) -> None:
        """Spend a piece of work on the lower or upper end of a pixel: less once it is beyond what is enough.

        An end on which nothing could be spent is closed: what was seen is put to what is known.
        """
        minimum, sign = self._minimum(pixel, from_below=from_below), 1 if from_below else -1
        before = self.nodes
        if minimum is not None:
            nodes = minimum.nodes
            minimum.improve(max(_FIRST, int(_MORE * nodes)), sign * enough)
            self.nodes += minimum.nodes - nodes
            if from_below:
                self.low[pixel] = max(float(self.low[pixel]), minimum.bound)
                self.lowest[pixel] = min(float(self.lowest[pixel]), minimum.seen)
            else:
                self.high[pixel] = min(float(self.high[pixel]), -minimum.bound)
                self.highest[pixel] = max(float(self.highest[pixel]), -minimum.seen)
        if minimum is None or minimum.finished or self.nodes == before:
            known, seen = (self.low, self.lowest) if from_below else (self.high, self.highest)
            seen[pixel] = known[pixel]

    def _minimum(self, pixel: int, *, from_below: bool) -> Minimum | None:
        """The search for an end of a pixel, None where its cone does not fit."""
        key = pixel, from_below
        if key not in self._minima:
            row, sign = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
            sign = sign if from_below else -sign
            form = map_forms(
                self._question.network, self._question.class_id, row, row + pixel, sign, 0 * sign
            )
            cone = self._bounder.unfold(self._ball, form)
            self._minima[key] = None if isinstance(cone, NotUnfolded) else self._decider.minimum(cone)
            self.searches += 1
        return self._minima[key]
