"""Where published Renyi certificates claim too much: the numbers of docs/renyi-counterexample.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from corgi.results import FloatArray, ImageArray, StatisticalCertificate
from corgi.smoothing.divergence import noise_for
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.renyi import certify_renyi
from corgi.smoothing.tally import Tally, empty, sample
from corgi.terms import Confidence

SHAPE, SIGMA, OFFSET, SAMPLES, FAILURE = (3, 32, 32), 0.1, 0.006, 1000, 0.001
BRIGHT: ImageArray = np.full(SHAPE, 0.5 + OFFSET, dtype=np.float32)
DARK: ImageArray = np.full(SHAPE, 0.5 - OFFSET, dtype=np.float32)
DISTANCE = float(np.abs(BRIGHT.astype(np.float64) - DARK.astype(np.float64)).max())

SHARES: FloatArray = np.array([90.0, 10.0, 9.0, 8.0]) / 117
"""k = 2, and both are to be lost."""


@dataclass(frozen=True)
class Brightness:
    """A map of two pixels: the first is the larger one where the mean of the image is above 1/2."""

    name: str = "brightness"
    model: str = ""
    shape: tuple[int, int] = (1, 2)
    n: int = 2
    live: int = 4096
    binary: bool = True

    def __call__(self, images: Tensor) -> Tensor:
        bright = images.double().flatten(1).mean(1) > 0.5
        return torch.stack([bright, ~bright], 1).double()


SCORED, NOISE = RankScores(Brightness(), 1, 7.5), noise_for(math.inf, SIGMA, BRIGHT.size, 0)


@cache
def tally_at(*, bright: bool) -> Tally:
    """Samples at the bright or the dark image."""
    image = BRIGHT if bright else DARK
    return sample(empty(SCORED, image, NOISE), SCORED, image, SAMPLES)


def averaged(*, bright: bool) -> FloatArray:
    """Mean scores by rank of both pixels at an image."""
    return SCORED.shares(tally_at(bright=bright).mean)


def certificate(*, as_published: bool) -> StatisticalCertificate:
    """Within which l_inf radius of the bright image its larger pixel stays the larger one."""
    tally, confidence = tally_at(bright=True), Confidence.BERNSTEIN
    return certify_renyi(tally, SCORED, 1, math.inf, confidence, FAILURE, as_published=as_published)


def closer_shares() -> tuple[FloatArray, float]:
    """Shares that lose both of the two largest pixels of `SHARES`, and their divergence D_1 from them."""
    level = float(np.exp(np.log(SHARES[[0, 2, 3]]).mean()))
    moved = np.array([level, SHARES[1], level, level])
    moved /= moved.sum()
    return moved, float((moved * np.log(moved / SHARES)).sum())
