"""The bound of Lecuyer et al. (2019) on a smoothed value, to compare with theory 7.1 (theory 7.11; L App. K).

A map h in [0, 1] averaged over Gaussian noise is (e, d)-differentially private for l_2 changes of size
radius, with d = 1.25 exp(-(e sigma / radius)^2 / 2) and any 0 < e <= 1 (Dwork and Roth 2014, Theorem A.1), so
for a population value z here and z' at a changed image

    z' >= exp(-e) (z - d),        z' <= exp(e) z + d.

Value i stays above value j if exp(-e) (z_i - d) >= exp(e) z_j + d: z_j at most the floor below.
"""

from __future__ import annotations

import numpy as np

from corgi.results import FloatArray

_BUDGETS: FloatArray = np.linspace(0.001, 1.0, 1000)
"""The e that are tried: each by itself is sound."""


def lecuyer_floor(lower: FloatArray, radius: float, sigma: float) -> FloatArray:
    """What every value must be at most now to stay below one whose population mean is at least `lower`.

    max over e of exp(-2 e) (z - d) - exp(-e) d, in the place of `gaussian.floor`; 0 where nothing follows.
    """
    with np.errstate(over="ignore"):
        deltas = 1.25 * np.exp(-((_BUDGETS * sigma / radius) ** 2) / 2)
    floors = np.exp(-2 * _BUDGETS) * (np.asarray(lower)[..., None] - deltas) - np.exp(-_BUDGETS) * deltas
    best: FloatArray = floors.max(-1)
    return np.maximum(best, 0.0)
