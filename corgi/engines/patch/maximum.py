"""The joint relaxation of ReLU and MaxPool (docs/theory.md, section 3).

A window is y = max_e x_e over its elements, e = 0 standing for the constant 0 where a Relu belongs to it. Of
the elements that can be the maximum at all ("live"), let above[j, i] >= max over the ball of x_j - x_i.
For weights w >= 0 that sum to 1:

    y <= sum_e w_e x_e + max_j sum_i w_i above[j, i]        y >= sum_e w_e x_e

The first holds because y = x_j for some j, and x_j - sum_i w_i x_i = sum_i w_i (x_j - x_i). Of three or more
live elements the sum of the separate maxima is not the maximum of the sum, so there the x_j - sum_i w_i x_i
are bounded once more as rows of their own ("joint"). For a Relu alone
(x_0 = 0, x_1 = z in [l, u], so above[1, 0] = u and above[0, 1] = -l) the best w is the chord, and
the lower choices are z and 0.

In deviations (intervals.py), with c_y the largest c_e and `lead` = c_e - c_y <= 0:

    d_y <= sum_e w_e d_e + ( max_j sum_i w_i above[j, i] + sum_e w_e lead_e )
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.patch.intervals import cast_up
from corgi.engines.patch.tables import Table
from corgi.engines.patch.tournament import Outcome
from corgi.engines.rigour import smallest, unit


@dataclass(frozen=True)
class Planes(Table):
    """Planes around windows that can have more than one maximum.

    Attributes:
        units: int64 [U, 4], the windows as (ball, c, y, x).
        live: bool [U, E]; E elements, the zero first.
        low, low_shift: d_y >= sum_e low_e d_e + low_shift; [U, E] and [U].
        up, up_shift: d_y <= sum_e up_e d_e + up_shift.
        lead: float64 [U, E], 0 for dead elements; slack: what rounding is allowed, float64 [U].
        above: [U, E, E], at least x_j - x_i over the ball, inf where nothing is known.
    """

    units: Tensor
    live: Tensor
    low: Tensor
    low_shift: Tensor
    up: Tensor
    up_shift: Tensor
    lead: Tensor
    slack: Tensor
    above: Tensor

    def __len__(self) -> int:
        return len(self.live)

    def shift_below(self, windows: Tensor, weights: Tensor) -> Tensor:
        """`low_shift` of other convex weights [N, E]: sum_e w_e lead_e, less the slack; float64."""
        return (weights.to(torch.float64) * self.lead[windows]).sum(1) - self.slack[windows]


@dataclass(frozen=True)
class Rivals:
    """Other planes around the same windows, for rows that are to try them: those of tournaments.

    Attributes:
        low, low_shift, up, up_shift: as in `Planes`, and equal where no tournament was played.
    """

    low: Tensor
    low_shift: Tensor
    up: Tensor
    up_shift: Tensor


def planes(
    units: Tensor,
    live: Tensor,
    above: Tensor,
    by_rows: Tensor,
    lead: Tensor,
    size: Tensor,
    joint: tuple[Tensor, Tensor] | None,
) -> Planes:
    """Choose planes.

    Args:
        units: [U, 4].
        live: [U, E], at least one a window.
        above: [U, E, E], NaN or inf where nothing is known; 0 on the diagonal.
        by_rows: the same for the choice of the lower plane, where any choice is sound: without what intervals
            add, as auto_LiRPA has it, the choice of a Relu is the one CROWN makes.
        lead: float64 [U, E].
        size: [U], largest deviation of a live element.
        joint: weights [U, E] and a bound of all x_j - sum_i w_i x_i, [U], inf where there is none; None where
            there is none at all.
    """
    # An element that cannot be the maximum neither needs to be held nor helps.
    both = pairs_of(live)
    above = torch.where(both, above.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf), 0)
    # The element that falls least below the maximum. Never a dead one: it may stand in the padding.
    dtype = above.dtype
    loss = torch.where(both, by_rows, 0).amax(1).nan_to_num(torch.finfo(dtype).max, torch.finfo(dtype).max)
    loss = loss.masked_fill(~live, torch.inf)
    low = F.one_hot(loss.argmin(1), live.shape[1]).to(dtype)
    lead = torch.where(live, lead, 0)
    up = torch.where(live.sum(1, keepdim=True) > 1, best_weights(live, above, lead), live.to(dtype))
    height = up_shift(up, above).to(torch.float64) + (up * lead).sum(1)
    if joint is not None:
        # A joint bound was made for the elements live then; that fewer are now does not hurt it.
        finite = torch.where(joint[0] > 0, torch.where(live, lead, 0), 0)
        other = joint[1].to(torch.float64) + (joint[0] * finite).sum(1)
        usable = (joint[0].masked_fill(live, 0) == 0).all(1) & (other < height)
        up, height = torch.where(usable[:, None], joint[0], up), torch.where(usable, other, height)
    low_shift, shift, error = _shifts((low * lead).sum(1), height, size + lead.abs().amax(1), low)
    return Planes(units, live, low, low_shift, up, shift, lead, error, above)


def rivals(known: Planes, outcome: Outcome, lead: Tensor, sizes: Tensor) -> Rivals:
    """The planes of tournaments, of windows for which they were played; for others, those that are known.

    `lead`: float64 [U, E]; `sizes`: [U, E], largest deviations with leads. Also of elements that are dead by
    now but were live when they met.
    """
    has, dtype = torch.isfinite(outcome.height), known.low.dtype
    low, up = F.one_hot(outcome.low, known.low.shape[1]).to(dtype), outcome.up.to(dtype)
    met = known.live | (low > 0) | (up > 0)
    lead, size = torch.where(met, lead, 0), torch.where(met, sizes, 0).amax(1)
    height = outcome.height + (up * lead).sum(1)
    low_shift, shift, _ = _shifts((low * lead).sum(1), height, size + lead.abs().amax(1), low)
    mine, theirs = (low, low_shift, up, shift), (known.low, known.low_shift, known.up, known.up_shift)
    return Rivals(
        *(torch.where(has if a.ndim == 1 else has[:, None], a, b) for a, b in zip(mine, theirs, strict=True))
    )


def _shifts(depth: Tensor, height: Tensor, size: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both shifts in the precision of the weights [U, E], rounded outwards, and by how much.

    `size`: of elements and leads. What the weights, their sum (not quite 1) and the products with them may be
    off by, in every pass.
    """
    dtype, count = weights.dtype, weights.shape[1]
    size = size + height.abs()
    error = 16 * count * unit(dtype) * size + count * smallest(dtype) * (1 + size)
    return -cast_up(error - depth, dtype), cast_up(height + error, dtype), error


def pairs_of(live: Tensor) -> Tensor:
    """Which pairs of elements are both live: [U, E, E] of [U, E]."""
    return live[:, :, None] & live[:, None, :]


def up_shift(weights: Tensor, above: Tensor) -> Tensor:
    """max_j sum_i w_i above[j, i] for weights [..., U, E]: [..., U].

    Of infinite entries only those with a weight count.
    """
    terms = torch.where(weights[..., None, :] > 0, weights[..., None, :] * above, 0)
    return terms.sum(-1).amax(-1)


def best_weights(live: Tensor, above: Tensor, lead: Tensor) -> Tensor:
    """Of several candidates the weights whose plane is lowest in the middle of the ball: [U, E]."""
    if live.shape[1] == 2:
        zero = torch.zeros_like(live[:, 0], dtype=torch.int64)
        return chord(above, zero, zero + 1)
    most = int(live.sum(1).amax()) if len(live) else 2
    order = torch.where(live, lead, -torch.inf).topk(min(4, max(most, 2)), dim=1).indices.T
    if most <= 2:
        return chord(above, order[0], order[1])
    first, second = zip(*((i, j) for j in range(len(order)) for i in range(j)), strict=True)
    pairs = chord(above, order[list(first)], order[list(second)])
    candidates = torch.cat([pairs, _nested(live, above, lead)[None]])
    heights = (candidates * lead).sum(-1) + up_shift(candidates, above)
    # A pair with a dead element has no chord, and an infinite height says nothing.
    usable = (candidates.masked_fill(live, 0) == 0).all(-1)
    best = torch.where(usable, heights, torch.inf).nan_to_num(nan=torch.inf).argmin(0)
    return candidates[best, torch.arange(len(live), device=live.device)]


def chord(above: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Weights of max(x_i, x_j) <= x_i + s (x_j - x_i + above_ij), s = above_ji / (above_ji + above_ij).

    `first` and `second` are elements [..., U] of windows [U]: [..., U, E].
    """
    rows = torch.arange(len(above), device=above.device)
    over, under = above[rows, second, first].clamp(min=0), above[rows, first, second].clamp(min=0)
    # Where a side is unknown, all weight stands on one element.
    share = torch.where(over + under > 0, over / (over + under), 0.5)
    share = torch.where(torch.isfinite(share), share, (over == torch.inf).to(above.dtype))
    weights = above.new_zeros(*first.shape, above.shape[1])
    weights.scatter_add_(-1, first[..., None], 1 - share[..., None])
    return weights.scatter_add_(-1, second[..., None], share[..., None])


def _nested(live: Tensor, above: Tensor, lead: Tensor) -> Tensor:
    """Chords of chords: the elements merged one by one, the largest in the middle first."""
    rows = torch.arange(len(live), device=live.device)
    order = torch.where(live, lead, -torch.inf).argsort(dim=1, descending=True, stable=True)
    merged = F.one_hot(order[:, 0], live.shape[1]).to(above.dtype)
    members = merged > 0
    # Dead elements come last, and change nothing.
    for step in range(1, int(live.sum(1).amax()) if len(live) else 1):
        new = order[:, step]
        counts = live[rows, new]
        over = above[rows, new].masked_fill(~members, torch.inf).amin(1).clamp(min=0)
        under = above[rows, :, new].masked_fill(~members, -torch.inf).amax(1).clamp(min=0)
        share = torch.where(counts & (over + under > 0), over / (over + under), 0)
        share = torch.where(torch.isfinite(share), share, 0)
        single = F.one_hot(new, live.shape[1]).to(above.dtype)
        merged = merged * (1 - share[:, None]) + single * share[:, None]
        members = members | ((single > 0) & counts[:, None])
    return merged
