"""The least of a linear form over what is both in a box and in a ball of l_2 or l_1.

Variables d with l <= d <= u and ||d||_p <= r. With q dual to p, for any split a = b + e

    a . d  >=  min over the box of b . d  -  r ||e||_q          (Hoelder),

and the best split gives the least value itself; engines/patch/norms.py has the same for rows of the network.
With the room rho_i that d_i has in the direction in which a_i d_i falls, e_i is a_i cut to
[-lam rho_i, lam rho_i] in l_2 and to [-t, t] in l_1, lam and t where the minimiser uses up the ball. They are
found by sorting; how well decides how good a bound is, not whether it is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from corgi.decide.solver import Vector
from corgi.engines.rigour import LEAST_ROOT, LOST_PRODUCT, gamma, roundings
from corgi.terms import Norm


@dataclass(frozen=True)
class Reach:
    """A box and a ball around 0.

    Attributes:
        lower, upper: ends of the box, float64 [n].
        norm: of the ball; l_inf says nothing beyond the box.
        radius: r, in that norm.
    """

    lower: Vector
    upper: Vector
    norm: Norm
    radius: float

    @property
    def size(self) -> Vector:
        """How large each variable can be by its ends."""
        found: Vector = np.maximum(np.abs(self.lower), np.abs(self.upper))
        return found

    def least(self, form: Vector) -> float:
        """A lower bound of a . d, all rounding of it set aside; NaN only where the form is no number."""
        alone = _total(np.minimum(form * self.lower, form * self.upper))
        limit = self._limit(form)
        if limit is None:
            return alone
        held = np.clip(form, -limit, limit)
        rest = form - held
        # The difference is off by half a unit of itself: by nothing where nothing is left.
        ends = np.minimum(rest * self.lower, rest * self.upper) - roundings(2) * np.abs(rest) * self.size
        by_box, by_ball = _total(ends), self._dual(held) * self.radius
        error = roundings(8) * (abs(by_box) + by_ball) + LOST_PRODUCT
        # NaN, of an overflow, says nothing: then the box alone does.
        return float(np.fmax(alone, by_box - by_ball - error)) if alone == alone else alone

    def within(self, point: Vector) -> Vector:
        """A point near another one, in the box, and in the ball up to rounding."""
        point = np.clip(point, self.lower, self.upper)
        size = self._norm(point)
        return point * (self.radius / size) if size > self.radius else point

    def _norm(self, point: Vector) -> float:
        """0 for l_inf, where it does not matter."""
        return 0.0 if self.norm is Norm.LINF else float(np.linalg.norm(point, self.norm.order))

    def _dual(self, form: Vector) -> float:
        """||e||_q, rounded up; squares may underflow."""
        if self.norm is Norm.L1:
            return float(np.abs(form).max(initial=0.0))
        n = len(form)
        return float(np.sqrt(np.square(form).sum())) * (1 + gamma(n + 8, torch.float64)) + n * LEAST_ROOT

    def _limit(self, form: Vector) -> Vector | None:
        """Up to what size of each entry the ball is the tighter bound, [n]; None where the box is."""
        if self.norm is Norm.LINF or not np.isfinite(form).all():
            return None
        room = np.where(form > 0, -self.lower, np.where(form < 0, self.upper, 0.0)).clip(min=0)
        if not 0 < self.radius < self._norm(room):
            return None
        if self.norm is Norm.L2:
            return _slope_l2(np.abs(form), room, self.radius) * room
        sizes = np.sort(np.abs(form))[::-1]
        used = np.cumsum(room[np.argsort(-np.abs(form), kind="stable")])
        return np.full_like(form, sizes[min(int(np.searchsorted(used, self.radius)), len(form) - 1)])


def _slope_l2(size: Vector, room: Vector, radius: float) -> float:
    """The lam at which the minimiser, |a_i| / lam cut to its room, has the norm r, which is < ||room||."""
    size, room = size[room > 0], room[room > 0]
    largest = size.max()
    ratio = size / largest / room
    # As lam falls those with the largest ratio reach their ends first.
    order = np.argsort(-ratio, kind="stable")
    squares, areas, ratio = np.square(size[order] / largest), np.square(room[order]), ratio[order]
    at_ends, free = np.cumsum(areas) - areas, np.cumsum(squares[::-1])[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # With the first k at their ends: free / lam^2 + at_ends = r^2.
        slopes = np.sqrt(free / (np.square(radius) - at_ends))
    right = slopes >= ratio
    return float(largest * (slopes[np.argmax(right)] if right.any() else ratio[-1]))


def _total(terms: Vector) -> float:
    """The sum of terms that are a product and up to three roundings each, rounded down."""
    n = len(terms)
    return float(terms.sum()) - gamma(n + 8, torch.float64) * float(np.abs(terms).sum()) - n * LOST_PRODUCT
