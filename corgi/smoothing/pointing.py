"""Whether the largest pixel of a smoothed map stays in a region (theory 7.3).

Let i be the pixel of the region with the largest lower bound L of the population map. The largest pixel is
outside only where some pixel p outside is at or above all of the region, i among them. L_i and U_p hold at
once for all pixels, i and p are functions of them, so within the radius in which a value >= L_i stays above
a value <= max U outside, the largest pixel is in the region: with the stated probability, on the same event
as all overlaps and radii that the same bounds show.
"""

from __future__ import annotations

import numpy as np

from corgi.results import FloatArray
from corgi.smoothing.confidence import Bounds
from corgi.smoothing.divergence import orders_for, radius_for
from corgi.smoothing.gaussian import check_gaussian, order_radius
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.renyi import least_divergence
from corgi.smoothing.tally import Tally


def pointing_radius(tally: Tally, region: tuple[int, ...], held: Bounds) -> float:
    """The certified l_2 radius, pixel scale; 0 if there is none.

    Args:
        tally: sums under Gaussian noise.
        region: pixels of the map, flat indices; not all of them.
        held: bounds of all population values at once.

    Raises:
        UsageError: other noise than Gaussian.
    """
    check_gaussian(tally)
    lower, upper = _critical(region, held)
    return float(order_radius(lower, upper, tally.noise.sigma)[0])


def renyi_pointing_radius(
    tally: Tally, scored: RankScores, region: tuple[int, ...], norm: float, held: Bounds
) -> float:
    """The same of scores by rank, in l_d (theory 7.8): one pixel of the region and one outside meet.

    Raises:
        UsageError: noise without a bound in this norm.
    """
    inside, outside = (scored.shares(values) for values in _critical(region, held))
    return max(
        radius_for(
            least_divergence(inside, outside, float(order)), float(order), tally.noise, norm, tally.inputs
        )
        for order in orders_for(tally.noise, norm)
    )


def _critical(region: tuple[int, ...], held: Bounds) -> tuple[FloatArray, FloatArray]:
    """The largest lower bound in the region, the largest upper bound outside: float64 [1] each."""
    inside = np.zeros(len(held.lower), dtype=bool)
    inside[list(region)] = True
    return held.lower[inside].max(keepdims=True), held.upper[~inside].max(keepdims=True)
