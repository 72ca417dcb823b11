"""Narrower bounds of the units inside of a network in layers, by rows with lines of their own.

Layer by layer, first to last, so that each uses what was found in front of it. Every bound found is one of
engines/layered.py, in float64 with rounding set aside, and holds over the whole box.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from corgi.budget import left, tell
from corgi.decide.lines import Lines, Rate, Start, improved
from corgi.engines.layered import Layered, Rectifier, Slopes, Sweep
from corgi.network.convert import Step

_ENTRIES = 2**20
"""Coefficients of a value that are held at once, about."""


def narrowed(problem: Layered, rate: Rate, until: float = 0.0) -> Layered:
    """The same margins with inner units that may be known better; what there is no time for stays as it was.

    `until`: seconds that are to be left.
    """
    for number, step in enumerate(problem.steps):
        known = problem.rectifiers.get(step.output)
        if known is None or len(known.open) == 0 or known.start == 0:
            continue
        if left() <= until:
            break
        tell("decide", f"{len(known.open)} units of layer {number + 1}")
        found = _bounded(problem, step, known, rate, until)
        problem = replace(problem, rectifiers={**problem.rectifiers, step.output: found})
    return problem


def _bounded(problem: Layered, step: Step, known: Rectifier, rate: Rate, until: float) -> Rectifier:
    """The open units of a ReLU, from both sides."""
    (source,) = step.inputs
    shape = problem.shapes[source]
    fast, exact = Sweep(problem, torch.float32), Sweep(problem)
    alphas = start_slopes(problem, exact)[: exact.columns(step.output).start]
    size = max(1, _ENTRIES // max(v[0] * v[1] * v[2] for v in problem.shapes.values()))
    lower, upper = (torch.full_like(known.lower, torch.nan) for _ in range(2))
    for sign, ends in ((1.0, lower), (-1.0, upper)):
        for units in torch.split(known.open, size):
            if left() <= until:
                break
            rows = torch.zeros(len(units), len(known), dtype=torch.float64)
            rows[torch.arange(len(units)), units] = sign
            rows = rows.reshape(-1, *shape)
            # The constant is exact: a centre, or its negative.
            constant = sign * known.centre[units]
            alpha = alphas.expand(len(units), -1)
            slopes = Slopes(alpha, torch.zeros_like(alpha), torch.zeros_like(alpha, dtype=torch.int8))
            if rate.steps:
                start = {source: rows.to(torch.float32)}, constant.to(torch.float32)
                begun = Lines(slopes, torch.ones(len(units), 1))
                slopes = improved(fast, partial(_same, start), begun, rate).slopes
            ends[units] = sign * exact.run({source: rows}, constant, slopes, rigorous=True).lower
    return known.narrowed(lower, upper)


def _same(start: Start, _: Tensor) -> Start:
    """Rows that have no weights."""
    return start


def start_slopes(problem: Layered, sweep: Sweep) -> Tensor:
    """The slope of the lower line with the smaller area, 0 or 1, of every open unit: float32 [U]."""
    found = torch.zeros(problem.undecided)
    for name, known in problem.rectifiers.items():
        found[sweep.columns(name)] = (known.upper > -known.lower)[known.open].to(torch.float32)
    return found
