"""Better lower planes for a few rows, by gradient (alpha-CROWN, Xu et al. 2021).

Below an undecided window every convex combination of its live elements is a sound plane (maximum.py), so each
row may have its own. The bound is almost everywhere differentiable in the combinations. The steps are taken
without setting rounding aside; the best planes they meet are bounded once more with it. Never looser than the
start.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.engines.patch.backward import BackwardPass, MaximumLines, Met, Relaxation
from corgi.engines.patch.maximum import Planes
from corgi.engines.patch.patches import Patches


@dataclass(frozen=True)
class Alpha:
    """How to optimise.

    Attributes:
        iterations: gradient steps.
        rate: of Adam, for weights in [0, 1]; it falls geometrically to a tenth.
        warm_iterations, warm_rate: the same from planes that were good for another radius.
    """

    iterations: int = 10
    rate: float = 0.2
    warm_iterations: int = 3
    warm_rate: float = 0.1


OwnPlanes = dict[str, tuple[Tensor, Tensor]]
"""The lower planes of one row: by Maximum its windows, ascending keys, and their weights [windows, E]."""


@dataclass(frozen=True)
class Optimised:
    """Lower bounds, float64 [R]; the pass with the best planes; and those planes, row by row."""

    bounds: Tensor
    backward: BackwardPass
    planes: list[OwnPlanes]


def optimised(
    relaxation: Relaxation,
    value: str,
    rows: Patches,
    at_centre: Tensor,
    alpha: Alpha,
    known: list[OwnPlanes | None],
) -> Optimised:
    """Lower bounds of rows on a value with planes of their own.

    `known`: planes for each row to begin with, if there are any.
    """
    memo: dict[str, Met] = {}

    def bound(choices: dict[str, Tensor], rigorous: bool) -> tuple[BackwardPass, Tensor]:
        error = torch.zeros_like(at_centre)
        backward = BackwardPass(relaxation, at_centre, error, choices, memo, rigorous)
        return backward, backward.run({value: rows})

    with torch.no_grad():
        backward, start = bound({}, rigorous=True)
    choices = {name: _begun(relaxation, name, met, known) for name, met in memo.items()}
    live = {name: _planes(relaxation, name).live[met.window] for name, met in memo.items()}
    warm = all(planes is not None for planes in known)
    iterations = alpha.warm_iterations if warm else alpha.iterations
    if iterations == 0 or not any(len(weights) for weights in choices.values()):
        return Optimised(start, backward, [{} for _ in known])
    kept = {name: _planes(relaxation, name).low[met.window] for name, met in memo.items()}
    best = start
    optimizer = torch.optim.Adam(choices.values(), lr=alpha.warm_rate if warm else alpha.rate)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / iterations))
    for step in range(iterations + 1):
        with torch.enable_grad():
            _, found = bound(choices, rigorous=False)
            # A row that is vacuous has nothing to gain.
            loss = -found[torch.isfinite(found)].sum()
        better = found.detach() > best
        best = torch.where(better, found.detach(), best)
        for name, weights in choices.items():
            mine = better[memo[name].row]
            kept[name][mine] = weights.detach()[mine]
        if step < iterations and loss.requires_grad:
            gradients = torch.autograd.grad(loss, list(choices.values()), allow_unused=True)
            for weights, gradient in zip(choices.values(), gradients, strict=True):
                weights.grad = gradient
            optimizer.step()
            decay.step()
            with torch.no_grad():
                for name, weights in choices.items():
                    weights.copy_(convex(weights, live[name]))
    with torch.no_grad():
        backward, final = bound(kept, rigorous=True)
    planes = [_of_row(relaxation, memo, kept, row) for row in range(len(known))]
    return Optimised(torch.fmax(start, final), backward, planes)


def _begun(relaxation: Relaxation, name: str, met: Met, known: list[OwnPlanes | None]) -> Tensor:
    """The weights to begin with: a row's own of another radius, else the common ones."""
    planes = _planes(relaxation, name)
    weights, keys = planes.low[met.window].clone(), _keys(planes.units)[met.window]
    for row, own in enumerate(known):
        if own is None or name not in own or len(own[name][0]) == 0:
            continue
        windows, values = own[name]
        mine = (met.row == row).nonzero().reshape(-1)
        at = torch.searchsorted(windows, keys[mine]).clamp(max=len(windows) - 1)
        same = windows[at] == keys[mine]
        weights[mine[same]] = convex(values[at[same]].to(weights.dtype), planes.live[met.window][mine[same]])
    return weights.requires_grad_(True)


def _of_row(relaxation: Relaxation, memo: dict[str, Met], kept: dict[str, Tensor], row: int) -> OwnPlanes:
    own: OwnPlanes = {}
    for name, met in memo.items():
        mine = met.row == row
        keys, order = _keys(_planes(relaxation, name).units)[met.window[mine]].sort()
        own[name] = keys, kept[name][mine][order]
    return own


def _keys(units: Tensor) -> Tensor:
    """One number a window, the same for every ball around an image: (c, y, x) in 20 bits each."""
    return (units[:, 1] << 40) | (units[:, 2] << 20) | units[:, 3]


def _planes(relaxation: Relaxation, name: str) -> Planes:
    lines = relaxation.lines(name)
    assert isinstance(lines, MaximumLines)
    return lines.planes


def convex(weights: Tensor, live: Tensor) -> Tensor:
    """The weights made convex combinations of live elements: clipped, and scaled to the sum 1."""
    clipped = torch.where(live, weights.nan_to_num(nan=0.0), 0).clamp(0, 1)
    total = clipped.sum(1, keepdim=True)
    equal = live.to(weights.dtype) / live.sum(1, keepdim=True)
    return torch.where(total > 0, clipped / total, equal)
