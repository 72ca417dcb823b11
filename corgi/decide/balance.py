"""Bound forms of the positive part of a map: sum_p c_p max(I_p, 0), by one linear form each.

With l_p <= I_p <= u_p on the ball, each term is bounded from below by a line. Where l_p >= 0 it is c_p I_p,
where u_p <= 0 it is 0. Else, for c_p > 0, max(I_p, 0) >= 0 and >= I_p: the better of the two in the middle of
the interval. For c_p < 0 it is at most the chord u_p (I_p - l_p) / (u_p - l_p).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from corgi.attacks.target import Target
from corgi.decide.forms import map_forms
from corgi.engines.interface import Bounder
from corgi.engines.rigour import roundings
from corgi.properties.formula import Balance
from corgi.terms import Form
from corgi.types import Ball, Interval


def balance_bound(question: Target, balance: Balance, bounder: Bounder, ball: Ball, form: Form) -> float:
    """A certified lower bound of the smallest of the forms over a ball; -inf where nothing is known."""
    bounds = bounder.pixels(ball)
    if not bool(torch.isfinite(bounds.lower).all() & torch.isfinite(bounds.upper).all()):
        return -math.inf
    found = _by_intervals(balance.rows, bounds)
    if form is Form.PAIRWISE and bounder.bounds_any_form and float(found.min()) <= 0:
        slope, constant = relaxed(balance.rows, bounds)
        row, pixel = slope.nonzero(as_tuple=True)
        network, class_id = question.network, question.class_id
        forms = map_forms(network, class_id, row, pixel, slope[row, pixel], constant)
        found = torch.maximum(found, bounder.lower(ball, forms).to(torch.float64))
    return float(torch.where(found < torch.inf, found, -torch.inf).min())  # NaN and +inf say nothing


def _by_intervals(rows: Tensor, bounds: Interval) -> Tensor:
    """By intervals of the pixels alone, rounded down: [forms]."""
    lower, upper = bounds.lower.clamp(min=0), bounds.upper.clamp(min=0)
    terms = torch.where(rows > 0, rows * lower, rows * upper)
    return terms.sum(1) - roundings(2 * (rows.shape[1] + 4)) * terms.abs().sum(1)


def relaxed(rows: Tensor, bounds: Interval) -> tuple[Tensor, Tensor]:
    """Slopes [forms, pixels] and constants [forms], rounded down, of lines below the forms on the intervals.

    A line is taken as its slope, which is exact by definition, and the constant that keeps it below: its
    distance from the term is smallest at an end of the interval or at 0, where it is computed and rounded.
    """
    lower, upper = bounds.lower, bounds.upper
    crossing = (lower < 0) & (upper > 0)
    chord = torch.where(crossing, upper / (upper - lower).clamp(min=torch.finfo(upper.dtype).tiny), 1.0)
    below = (upper > -lower).to(torch.float64)
    share = torch.where(rows > 0, below, chord)
    share = torch.where(crossing, share, (lower >= 0).to(torch.float64))
    slope = rows * share
    constant = torch.full_like(rows, torch.inf)
    for point in (lower, upper, torch.zeros_like(lower).clamp(min=lower, max=upper)):
        term, line = rows * point.clamp(min=0), slope * point
        gap = term - line - roundings(8) * (term.abs() + line.abs())
        constant = torch.minimum(constant, gap)
    total = constant.sum(1) - roundings(2 * (rows.shape[1] + 4)) * constant.abs().sum(1)
    return slope, total
