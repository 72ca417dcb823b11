"""Scores by rank: what Renyi-Robust-Smooth averages (theory 7.8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from corgi.errors import UsageError
from corgi.results import FloatArray
from corgi.smoothing.derived import DerivedMap, by_rank, known_where

ETA_AS_PUBLISHED = 15.0
"""eta n of the patent: 1e-4 at n = 150528. Of a map's few pixels it tells the top ranks hardly apart."""

_FALL = 10.0
"""k eta: scores fall from 90% to 10% within 0.44 k ranks around rank k."""


@dataclass(frozen=True)
class RankScores(DerivedMap):
    """The value of rank j becomes v_j proportional to 1 / (1 + exp(eta (j - center))), sum 1.

    What is averaged is (v_j - v_n) / (v_1 - v_n), which fills [0, 1]; `shares` goes back.

    Attributes:
        base: the map whose order counts; among equal values the first pixels rank first.
        center: the rank around which scores fall (k* in the patent); take the k of the certificate.
        eta: how steeply, per rank, > 0; None for 10 / center.

    Raises:
        UsageError: the scores of all ranks would be equal.
    """

    center: int
    eta: float | None = None
    binary = False

    def __post_init__(self) -> None:
        if not 1 <= self.center <= self.n:
            raise UsageError(f"rank scores: center {self.center}, expected one of the ranks 1-{self.n}")
        if not (0 < self.steepness < np.inf and self.scores[0] > self.scores[-1]):
            raise UsageError(f"rank scores: eta {self.steepness:g} tells {self.n} ranks not apart")

    @property
    def steepness(self) -> float:
        """The eta of the scores."""
        return _FALL / self.center if self.eta is None else self.eta

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"{self.base.name}, scored by rank around {self.center}, eta {self.steepness:g}"

    @cached_property
    def scores(self) -> FloatArray:
        """The scores v_1 >= ... >= v_n, sum 1: float64 [n]."""
        ranks = np.arange(1, self.n + 1)
        raw: FloatArray = np.exp(-np.logaddexp(0.0, self.steepness * (ranks - self.center)))
        return raw / float(raw.sum())

    def shares(self, values: FloatArray) -> FloatArray:
        """Means of scores, given means of what this map returns."""
        low, high = float(self.scores[-1]), float(self.scores[0])
        return low + (high - low) * values

    def __call__(self, images: Tensor) -> Tensor:
        """Maps of images [B, C, H, W]: float64 [B, n]; NaN where the base map is not finite."""
        values = self.base(images)
        order = by_rank(values)
        scaled = (self.scores - self.scores[-1]) / (self.scores[0] - self.scores[-1])
        scored = torch.zeros(values.shape, dtype=torch.float64)
        scored.scatter_(1, order, torch.from_numpy(scaled).expand(values.shape))
        return known_where(values, scored)
