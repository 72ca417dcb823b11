"""Margins over one box in layers (engines/layered.py), with what the patch engine knows of each value."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.engines.layered import SERVED, Layered, NotLayered, Rectifier
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.prepare import Maximum
from corgi.engines.rigour import roundings
from corgi.network import layers
from corgi.network.convert import Step
from corgi.types import Interval


def layered(bounds: BallBounds, rows: Tensor, at_centre: Tensor) -> Layered | NotLayered:
    """Rows [P, C, H, W] on the network's output over the one box of some bounds.

    `at_centre`: lower bounds of the rows in the middle of the box, float64 [P].
    """
    graph, known = bounds.graph, bounds.complete().relaxation
    if known.dtype is not torch.float64:
        return NotLayered("margins are branched on in float64 only")
    steps: list[Step] = []
    for step in graph.steps:
        if isinstance(step.layer, Maximum) and step.layer.elementwise and step.layer.zero:
            step = Step(step.node, step.op, layers.Relu(), step.inputs, step.output)
        if not isinstance(step.layer, SERVED):
            return NotLayered(f"{step} is not linear, and no ReLU")
        steps.append(step)
    names = [graph.input_name, *(step.output for step in steps)]
    rectifiers: dict[str, Rectifier] = {}
    start = 0
    for step in steps:
        if isinstance(step.layer, layers.Relu):
            rectifiers[step.output] = _rectifier(bounds, step, start)
            start = rectifiers[step.output].stop
    box = known.intervals[graph.input_name]
    channels, height, width = known.centres[graph.output_name].value.shape[1:]
    return Layered(
        tuple(steps),
        graph.input_name,
        graph.output_name,
        {name: tuple(known.centres[name].value.shape[1:]) for name in names},  # type: ignore[misc]
        {name: known.sizes[name][0] for name in names},
        {name: known.centres[name].error[0] for name in names},
        Interval(box.lower[0], box.upper[0]),
        known.centres[graph.input_name].value[0],
        known.centres[graph.output_name].value[0],
        rectifiers,
        rows.reshape(-1, channels, height, width),
        at_centre,
    )


def _rectifier(bounds: BallBounds, step: Step, start: int) -> Rectifier:
    """What windows of one element and 0 know of it."""
    windows, centres = bounds.state.windows[step.output], bounds.relaxation.centres
    after = centres[step.output].value
    lower, upper = after + windows.lower[..., 1], after + windows.upper[..., 1]
    slack = roundings(4) * (after.abs() + lower.abs() + upper.abs())
    zero, element = windows.live.unbind(-1)
    sign = torch.zeros_like(zero, dtype=torch.int8)
    sign[element & ~zero], sign[zero & ~element] = 1, -1
    found = (centres[step.inputs[0]].value, lower - slack, upper + slack, sign)
    return Rectifier(start, *(value[0].flatten() for value in found))
