"""Lower bounds of a property's margin over boxes of parameters, from affine forms of the map.

The margin of a pair of pixels is the difference of two affine forms: generators subtract, so that what moves
both pixels alike cancels, and remainders add up. From the margins of pairs, and of balances, the bound of a
formula follows as in `margins.py`. An upper bound is the lower bound of the opposite formula, negated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.decide.balance import relaxed
from corgi.decide.counting import counted
from corgi.engines.parametric import AffineForms
from corgi.engines.rigour import RAISED, roundings, smallest
from corgi.properties.formula import All, Any, Balance, Formula, Ranking
from corgi.types import Interval


def lower_margins(formula: Formula, maps: AffineForms) -> Tensor:
    """Lower bounds of a formula's margin over N boxes, float64 [N]; -inf where nothing is known.

    `maps`: terms [N, 1 + d, pixels], remainder [N, pixels].
    """
    match formula:
        case Ranking():
            found = [counted(margins, formula) for margins in _pair_margins(formula, maps)]
            bounds = torch.tensor(found, dtype=torch.float64)
        case Balance():
            bounds = torch.stack([_balance(formula, maps, box) for box in range(len(maps.terms))])
        case All(parts=parts):
            bounds = torch.stack([lower_margins(part, maps) for part in parts]).amin(0)
        case Any(parts=parts):
            bounds = torch.stack([lower_margins(part, maps) for part in parts]).amax(0)
        case _:
            raise TypeError(f"no bounds for a formula of kind {type(formula).__name__}")
    return torch.where(bounds < torch.inf, bounds, -torch.inf)  # NaN and +inf say nothing


def upper_margins(formula: Formula, maps: AffineForms) -> Tensor:
    """Upper bounds of the same, inf where nothing is known: < 0 proves it broken on the whole box."""
    return -lower_margins(formula.opposite, maps)


def _pair_margins(ranking: Ranking, maps: AffineForms) -> Tensor:
    """Lower bounds of up I_i - down I_p on each box: [N, A, B].

    Each of the 2 d + 6 operations is off by a unit of what the two forms add up at most, |c| + sum_j |g_j| +
    r: so many units of each are set aside, and more.
    """
    inside, others, error = ranking.inside, ranking.others, roundings(4 * maps.terms.shape[1] + 32)
    first, second = ranking.up * maps.terms[..., inside], ranking.down * maps.terms[..., others]
    first_r = ranking.up * maps.remainder[..., inside] * RAISED
    second_r = ranking.down * maps.remainder[..., others] * RAISED
    first_r = first_r + error * (first.abs().sum(1) + first_r)
    second_r = second_r + error * (second.abs().sum(1) + second_r)
    found = first[:, 0, :, None] - second[:, 0, None, :]
    for row in range(1, maps.terms.shape[1]):
        found -= (first[:, row, :, None] - second[:, row, None, :]).abs()
    return found - (first_r[:, :, None] + second_r[:, None, :])


def _balance(balance: Balance, maps: AffineForms, box: int) -> Tensor:
    """A lower bound of the smallest form of a balance on one box, by a line below each term (balance.py).

    Each line is a form of the map; the sums of `pixels` products are off by a share of their absolute terms.
    """
    known = AffineForms(maps.terms[box : box + 1], maps.remainder[box : box + 1]).interval()
    bounds = Interval(known.lower[0], known.upper[0])
    if not bool(torch.isfinite(bounds.lower).all() & torch.isfinite(bounds.upper).all()):
        return torch.tensor(-torch.inf, dtype=torch.float64)
    slope, constant = relaxed(balance.rows, bounds)
    terms, remainder = maps.terms[box], maps.remainder[box]
    forms = slope @ terms.T
    size = slope.abs() @ (terms.abs().sum(0) + remainder) + constant.abs()
    error = roundings(2 * (terms.shape[1] + 2 * len(terms) + 16)) * size
    error = error + 4 * terms.numel() * smallest(torch.float64)  # what products lose by underflow
    reach = forms[:, 1:].abs().sum(1) + slope.abs() @ remainder
    return (forms[:, 0] + constant - reach - error).amin()
