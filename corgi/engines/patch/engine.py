"""The patch engine as a bounding engine: CROWN and CROWN-IBP on cones."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from corgi.engines.lowering import explained_class, lower_trunk
from corgi.engines.patch.bounds import BallBounds, map_reach
from corgi.engines.patch.compose import compose
from corgi.engines.patch.patches import Patches, unit_rows
from corgi.engines.rounding import UNIT_RATIO, rounding
from corgi.network.network import Network
from corgi.types import Ball, Interval


class PatchMethod(StrEnum):
    """Relaxations of the patch engine."""

    CROWN_IBP = "crown-ibp"
    CROWN = "crown"


@dataclass(frozen=True)
class PatchEngine:
    """corgi's own engine.

    Attributes:
        relaxation: CROWN refines undecided inner bounds by rows of their own; CROWN-IBP does not.
        budget: bytes one backward pass may use for its patches.
        device: torch device.
    """

    relaxation: PatchMethod = PatchMethod.CROWN
    budget: int = 256 * 2**20
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name, for results."""
        return "patch"

    @property
    def method(self) -> str:
        """The relaxation, as the user names it."""
        return self.relaxation.value

    def bind(self, network: Network, class_id: int, dtype: torch.dtype) -> PatchBounder:
        """Prepare to bound the map of a class.

        Raises:
            EngineError: a layer that cannot be lowered.
        """
        return PatchBounder(self, network, class_id, dtype)


@dataclass
class _Known:
    """What has been computed for one ball."""

    ball: Ball
    bounds: BallBounds
    pixels: Interval | None = None


class PatchBounder:
    """The patch engine bound to one network, class and precision. Keeps the bounds of the last ball."""

    def __init__(self, engine: PatchEngine, network: Network, class_id: int, dtype: torch.dtype) -> None:
        self._engine, self._network, self._dtype = engine, network, dtype
        self._graph = copy.deepcopy(compose(lower_trunk(network))).to(dtype).to(engine.device)
        weight = explained_class(network, class_id).weight.reshape(-1)
        self._weight = weight.to(dtype).to(engine.device)
        errors = rounding(network, class_id)
        self._slack = float(errors.pixels.max()) * UNIT_RATIO[dtype]
        self._feature_slack = errors.features * UNIT_RATIO[dtype]
        self._reach = map_reach(self._graph)
        self._last: _Known | None = None

    @torch.no_grad()
    def pixels(self, ball: Ball) -> Interval:
        """Folded intervals (theory 1.2), each [pixels]."""
        known = self._known(ball)
        if known.pixels is None:
            rows = self._rows(torch.arange(self._network.pixels))
            both = known.bounds.both_sides(self._graph.output_name, rows)
            known.pixels = Interval.from_engine(
                *(b.cpu() for b in both), slack=self._slack, engine=self._engine.name
            )
        return known.pixels

    @torch.no_grad()
    def differences(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """Pairwise margins (theory 1.3): lower bounds of I_above - I_below: [rows].

        Pixels whose cones share nothing have independent least values: their margin is L_above - U_below, and
        rows are spent on the others only.
        """
        known, pixels = self._known(ball), self.pixels(ball)
        lower = pixels.lower[above] - pixels.upper[below]
        width = self._network.head.map_shape[1]
        down, right = below // width - above // width, below % width - above % width
        near = (down.abs() < self._reach[0]) & (right.abs() < self._reach[1])
        # Rows that share a shift between their two pixels share a patch shape.
        for shift in torch.unique(torch.stack([down, right], 1)[near], dim=0):
            same = (down == shift[0]) & (right == shift[1])
            rows = self._rows(above[same]).plus(self._rows(below[same]).negated())
            lower[same] = known.bounds.lower_rows(self._graph.output_name, rows).cpu()
        upper = torch.full_like(lower, torch.inf)
        return Interval.from_engine(lower, upper, slack=self._slack, engine=self._engine.name).lower

    @torch.no_grad()
    def features(self, ball: Ball) -> Interval:
        """Feature-wise intervals (theory 1.1), each [F, pixels]."""
        bounds, output = self._known(ball).bounds, self._graph.output_name
        known = bounds.intervals[output]
        units = torch.ones_like(known.lower, dtype=torch.bool).nonzero()
        rows = unit_rows(units, known.lower.shape[0], self._dtype, 1.0)
        lower, upper = bounds.both_sides(output, rows)
        shape = (self._network.head.filters, self._network.pixels)
        return Interval.from_engine(
            lower.cpu().reshape(shape),
            upper.cpu().reshape(shape),
            slack=self._feature_slack,
            engine=self._engine.name,
        )

    def _known(self, ball: Ball) -> _Known:
        if self._last is None or self._last.ball is not ball:
            box = ball.box(self._dtype)
            placed = Interval(box.lower.to(self._engine.device), box.upper.to(self._engine.device))
            refine = self._engine.relaxation is PatchMethod.CROWN
            bounds = BallBounds(self._graph, placed, refine, self._engine.budget)
            self._last = _Known(ball, bounds)
        return self._last

    def _rows(self, pixels: Tensor) -> Patches:
        """Rows sum_k w_k f_k at map pixels, on the feature map."""
        width = self._network.head.map_shape[1]
        values = self._weight[None, :, None, None].expand(len(pixels), -1, 1, 1)
        pixels = pixels.to(self._engine.device)
        return Patches(values.contiguous(), pixels // width, pixels % width)
