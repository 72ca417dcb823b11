"""Look for an input that satisfies a case: projected gradient descent on its alternatives.

The value of an alternative is its largest constraint, that of a case its smallest alternative: <= 0 where the
specification is satisfied. As with maps (attacks/margin.py), some starts follow one alternative each, the
ones that look closest, and the others the smallest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from corgi.budget import left
from corgi.vnnlib.constraints import ArrayCase, Box
from corgi.vnnlib.network import PlainNetwork, Points

_CANDIDATES = 32
"""Alternatives whose gradients are looked at: those with the smallest values in the middle."""

_CHECKED = 4
"""Points a step that onnxruntime is asked about."""


@dataclass(frozen=True)
class AttackOptions:
    """How hard to look.

    Attributes:
        steps: gradient steps.
        followed: starts that follow one alternative; restarts: random starts.
        first_step, last_step: step size as a share of each input's half-width, cosine in between.
        seed: of the random starts.
    """

    steps: int = 60
    followed: int = 8
    restarts: int = 4
    first_step: float = 0.5
    last_step: float = 0.01
    seed: int = 0


@dataclass(frozen=True)
class Witness:
    """An input of the box at which onnxruntime, on the file itself, satisfies the specification.

    Attributes:
        inputs: float32 [inputs]; outputs: what onnxruntime returned, [outputs].
    """

    inputs: Points
    outputs: Points


def confirm(network: PlainNetwork, array: ArrayCase, point: Tensor, alternative: int) -> Witness | None:
    """The witness a point [inputs] is, or None.

    It must lie in the box exactly as float32, and satisfy the alternative exactly as onnxruntime computes the
    outputs of the file, and as float64 arithmetic does: not by a rounding of float32 alone.
    """
    inputs: Points = point.detach().to(torch.float32).numpy()
    outputs = network.run(inputs)
    with torch.no_grad():
        exact = network.forward(network.trunk, torch.from_numpy(inputs).to(torch.float64)[None])[0].numpy()
    if array.broken(inputs, outputs, alternative) and array.broken(inputs, exact, alternative):
        return Witness(inputs, outputs)
    return None


def search(
    network: PlainNetwork,
    array: ArrayCase,
    box: Box,
    options: AttackOptions,
    starts: Tensor | None = None,
    only: Tensor | None = None,
) -> Witness | None:
    """A witness of a case, if the attack finds one.

    Args:
        network: what to attack.
        array: the case.
        box: its box, not empty.
        options: how hard.
        starts: points [N, inputs] worth starting from.
        only: alternatives that are still open, int64; None for all.
    """
    generator = torch.Generator().manual_seed(options.seed)
    allowed = torch.ones(array.count, dtype=torch.bool)
    if only is not None:
        allowed = torch.zeros_like(allowed).index_fill(0, only, True)
    middle = ((box.lower + box.upper) / 2).clamp(box.lower, box.upper)[None]
    followed = _closest(network, array, box, middle[0], options.followed, allowed)
    points = torch.cat([middle.expand(len(followed), -1), middle, box.random(options.restarts, generator)])
    if starts is not None:
        points = torch.cat([points, starts.to(torch.float32).clamp(box.lower, box.upper)])
    half = (box.upper - box.lower) / 2
    rows = torch.arange(len(followed))
    for step in range(options.steps + 1):
        if left() <= 0:
            return None
        points.requires_grad_(True)
        worst = array.worst(array.values(points, network.forward(network.trunk32, points)))
        worst = worst.masked_fill(~allowed, torch.inf)
        least, which = worst.min(1)
        objective = worst[rows, followed].sum() + least[len(rows) :].sum()
        found = _confirmed(network, array, points.detach(), least.detach(), which)
        if found is not None or step == options.steps or not objective.requires_grad:
            return found
        (gradient,) = torch.autograd.grad(objective, points)
        wave = 0.5 * (1 + math.cos(math.pi * step / options.steps))
        size = options.last_step + (options.first_step - options.last_step) * wave
        points = (points.detach() - size * half * gradient.sign()).clamp(box.lower, box.upper)
    return None


def _confirmed(
    network: PlainNetwork, array: ArrayCase, points: Tensor, least: Tensor, which: Tensor
) -> Witness | None:
    """The first of the best points that is a witness."""
    for index in least.argsort()[:_CHECKED].tolist():
        if least[index] <= 0:
            found = confirm(network, array, points[index], int(which[index]))
            if found is not None:
                return found
    return None


def _closest(
    network: PlainNetwork, array: ArrayCase, box: Box, middle: Tensor, count: int, allowed: Tensor
) -> Tensor:
    """Alternatives that would be satisfied soonest, were the network linear: int64 [at most count]."""
    with torch.no_grad():
        made = network.forward(network.trunk32, middle[None])
        worst = array.worst(array.values(middle[None], made))[0].masked_fill(~allowed, torch.inf)
    near = worst.topk(min(_CANDIDATES, int(allowed.sum())), largest=False).indices
    near = near[torch.isfinite(worst[near])]
    if len(near) == 0:
        return near
    points = middle.expand(len(near), -1).clone().requires_grad_(True)
    values = array.worst(array.values(points, network.forward(network.trunk32, points)))
    (gradient,) = torch.autograd.grad(values[torch.arange(len(near)), near].sum(), points)
    reach = (gradient.abs() * (box.upper - box.lower) / 2).sum(1)
    share = worst[near] / reach.clamp(min=float(np.finfo(np.float32).tiny))
    return near[share.argsort()[:count]]
