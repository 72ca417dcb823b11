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

STEEPNESS = 15.0
"""eta * n of the patent: 1e-4 at n = 150528."""


@dataclass(frozen=True)
class RankScores(DerivedMap):
    """The value of rank j becomes v_j proportional to 1 / (1 + exp(eta (j - center))), sum 1.

    What is averaged is (v_j - v_n) / (v_1 - v_n), which fills [0, 1]; `shares` goes back.

    Attributes:
        base: the map whose order counts; among equal values the first pixels rank first.
        center: the rank around which scores fall (k* in the patent); take the k of the certificate.
        steepness: eta * n.

    Raises:
        UsageError: the scores of all ranks would be equal.
    """

    center: int
    steepness: float = STEEPNESS
    binary = False

    def __post_init__(self) -> None:
        if not (0 < self.steepness < np.inf and self.scores[0] > self.scores[-1]):
            raise UsageError(
                f"rank scores: steepness {self.steepness} at {self.n} ranks tells no ranks apart"
            )

    @property
    def name(self) -> str:
        """Name, for results and saved counts."""
        return f"{self.base.name}, scored by rank around {self.center}, eta {self.steepness:g}/n"

    @cached_property
    def scores(self) -> FloatArray:
        """The scores v_1 >= ... >= v_n, sum 1: float64 [n]."""
        ranks = np.arange(1, self.n + 1)
        raw: FloatArray = np.exp(-np.logaddexp(0.0, self.steepness / self.n * (ranks - self.center)))
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
