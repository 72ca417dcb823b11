"""Better lines for rows on a network in layers, by gradient (alpha-, beta-CROWN; Xu, Wang et al. 2021).

Slopes and multipliers are only suggestions: whatever they are, engines/layered.py bounds rows with them. The
steps are taken in float32 without rounding set aside; the best that they meet are kept row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.budget import left
from corgi.engines.layered import Slopes, Sweep


@dataclass(frozen=True)
class Rate:
    """How to optimise.

    Attributes:
        steps: gradient steps, of Adam.
        alpha: its rate for slopes in [0, 1]; it falls geometrically to a tenth.
        beta: that for multipliers, in units of the mean coefficient there.
    """

    steps: int = 10
    alpha: float = 0.25
    beta: float = 0.25


Start = tuple[Mapping[str, Tensor], Tensor]
"""Rows [R, C, H, W] on values, and their constants [R]."""


@dataclass(frozen=True)
class Lines:
    """What rows are bounded with.

    Attributes:
        slopes: lines and multipliers.
        weights: of several margins in each row, [R, P]: not negative, and not all 0.
    """

    slopes: Slopes
    weights: Tensor


def improved(sweep: Sweep, rows: Callable[[Tensor], Start], begun: Lines, rate: Rate) -> Lines:
    """Lines with which rows are bounded better.

    Args:
        sweep: in float32.
        rows: what is bounded, from weights [R, P] of sum 1.
        begun: to begin with.
        rate: how.
    """
    climb = _Climb(begun, rate)
    best = torch.full((len(begun.weights),), -torch.inf)
    kept = [variable.clone() for variable in climb.variables]
    for step in range(rate.steps + 1):
        if left() <= 0:
            break
        with torch.enable_grad():
            for variable in climb.variables:
                variable.requires_grad_(True)
            weights = climb.weights / climb.weights.sum(1, keepdim=True)
            slopes = Slopes(climb.alpha, climb.beta, begun.slopes.sign)
            swept = sweep.run(*rows(weights), slopes, rigorous=False, reading=step == 0)
        found = swept.lower.detach()
        better = found > best
        best = torch.where(better, found, best)
        for mine, variable in zip(kept, climb.variables, strict=True):
            mine[better] = variable.detach()[better]
        if step == rate.steps or bool((best > 0).all()) or not swept.lower.requires_grad:
            break
        if swept.read is not None:
            climb.scale_by(swept.read.detach())
        climb.step(swept.lower[torch.isfinite(found)].sum())
    return Lines(Slopes(kept[0], kept[1], begun.slopes.sign), kept[2])


class _Climb:
    """Steps of Adam on slopes, multipliers and weights, each within its range."""

    def __init__(self, begun: Lines, rate: Rate) -> None:
        self.rate, self.given = rate, begun.slopes.sign != 0
        found = (begun.slopes.alpha, begun.slopes.beta, begun.weights)
        self.alpha, self.beta, self.weights = (value.to(torch.float32).clone() for value in found)
        self.variables = [self.alpha, self.beta, self.weights]
        self._moments = [(torch.zeros_like(v), torch.zeros_like(v)) for v in self.variables]
        self._units = torch.ones(len(self.alpha), 1)
        self._count = 0

    def scale_by(self, read: Tensor) -> None:
        """Take the mean coefficient of every row [R, U] as the unit of its multipliers."""
        self._units = read.abs().sum(1, keepdim=True) / (read != 0).sum(1, keepdim=True).clamp(min=1)

    def step(self, total: Tensor) -> None:
        """One step up."""
        gradients = torch.autograd.grad(total, self.variables, allow_unused=True)
        decay = 0.1 ** (self._count / self.rate.steps)
        self._count += 1
        sizes = (self.rate.alpha, self.rate.beta * self._units, self.rate.alpha)
        with torch.no_grad():
            for variable, gradient, moments, size in zip(
                self.variables, gradients, self._moments, sizes, strict=True
            ):
                variable.requires_grad_(False)
                if gradient is not None:
                    variable.add_(decay * size * self._move(gradient, *moments))
            self.alpha.clamp_(0, 1)
            self.beta.clamp_(min=0).mul_(self.given)
            self.weights.clamp_(min=1e-3)

    def _move(self, gradient: Tensor, mean: Tensor, square: Tensor) -> Tensor:
        mean.mul_(0.9).add_(gradient, alpha=0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = (square / (1 - 0.999**self._count)).sqrt().add_(1e-12)
        return mean / (1 - 0.9**self._count) / root
