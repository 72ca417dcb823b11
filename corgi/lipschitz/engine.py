"""Lipschitz constants as a bounding engine: margin over a ball >= margin in its middle - L r (theory 1.7).

With L(r) at least the dual norm of every generalized gradient of a row over the ball of radius r (cut to the
pixel box, which leaves it convex), the mean value theorem gives

    row(x + d)  >=  row(x) - L(r) r        for all d of the ball.

So a radius r is certified if row(x) > L(r) r for every row that matters, r < row(x) / L(r): the search for
the largest such r (certify/radius.py) finds max over delta of min(delta, row(x) / L(delta)). From a radius
delta that fails, its secant goes to just below row(x) / L(delta), which is certified, because L only grows
with the ball.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import torch
from torch import Tensor

from corgi.engines.patch.cones import cone_sizes
from corgi.engines.patch.engine import PatchBounder, PatchEngine, PatchMethod
from corgi.engines.patch.norms import raised
from corgi.engines.patch.patches import Patches
from corgi.engines.patch.rigour import plainly
from corgi.lipschitz.combine import combined_norms
from corgi.lipschitz.jacobian import interval_norms
from corgi.lipschitz.product import network_gains, row_constants
from corgi.network.network import Network
from corgi.types import Ball, Interval, Norm


class LipschitzMethod(StrEnum):
    """How gradients are bounded, from fast and loose to slow and tight."""

    NORMS = "lipschitz-norms"
    """The product of operator norms; the same for every ball."""
    INTERVALS = "lipschitz-intervals"
    """Intervals of the Jacobian over the ball, values bounded by intervals."""
    ROWS = "lipschitz-rows"
    """Jacobian rows linear in the derivatives of windows that linear bounds leave undecided."""


@dataclass(frozen=True)
class LipschitzEngine:
    """Local Lipschitz constants, times the radius.

    Attributes:
        bound: how gradients are bounded.
        budget, work, device: as of a `PatchEngine`, which bounds the network's values over a ball. Where the
            coefficients of a row would not fit the budget, `LipschitzMethod.ROWS` bounds it by intervals of the
            Jacobian.
    """

    bound: LipschitzMethod = LipschitzMethod.ROWS
    budget: int = 256 * 2**20
    work: float = 2e12
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name, for results."""
        return "lipschitz"

    @property
    def search_dtype(self) -> torch.dtype:
        """Float64: every bound of a search is final."""
        return torch.float64

    @property
    def method(self) -> str:
        """How gradients are bounded, as the user names it."""
        return self.bound.value

    def bind(self, network: Network, class_id: int, dtype: torch.dtype) -> LipschitzBounder:
        """Prepare to bound the map of a class.

        Raises:
            EngineError: a layer the patch engine has no rule for.
        """
        return LipschitzBounder(self, network, class_id, dtype)


class LipschitzBounder(PatchBounder):
    """The same questions as the patch engine's, with every row bounded by its Lipschitz constant."""

    def __init__(self, engine: LipschitzEngine, network: Network, class_id: int, dtype: torch.dtype) -> None:
        rows = engine.bound is LipschitzMethod.ROWS
        relaxation = PatchMethod.CROWN if rows else PatchMethod.CROWN_IBP
        values = PatchEngine(relaxation, budget=engine.budget, work=engine.work, device=engine.device)
        super().__init__(values, network, class_id, dtype)
        self._bound = engine.bound

    @property
    def method(self) -> str:
        """How gradients are bounded, as the user names it."""
        return self._bound.value

    @property
    def unfolds(self) -> bool:
        """Margins are not decided exactly here."""
        return False

    @plainly
    def cheap(self, ball: Ball) -> Interval:
        """The product of operator norms, for every pixel: each [pixels]."""
        middle = self.pixels(ball.with_radius(0.0))
        everything = torch.arange(self._network.pixels)
        rows = self._rows(everything, torch.ones(len(everything), dtype=torch.float64))
        reach = _times_radius(self._by_product(ball, rows), ball.radius)
        return self._interval(_less(middle.lower, reach), -_less(-middle.upper, reach))

    def _bounded(self, ball: Ball, rows: Patches, at_centre: Tensor) -> Tensor:
        point = ball.with_radius(0.0)
        middle = super()._bounded(point, rows, at_centre)
        if ball.radius == 0:
            return middle
        return _less(middle, _times_radius(self.constants(ball, rows), ball.radius))

    def constants(self, ball: Ball, rows: Patches) -> Tensor:
        """Lipschitz constants over a ball, in its norm, of rows on the feature map: float64 [R], rounded up."""
        if self._bound is LipschitzMethod.NORMS:
            return self._by_product(ball, rows)
        bounds, output = self._bounds(ball), self._graph.output_name
        # Rows in intervals take twice the memory, and products with half-widths.
        size = max(1, int(bounds.budget / (3 * bounds.bytes_a_row(output, rows))))
        if size < len(rows.place):
            parts = torch.arange(len(rows.place)).split(size)
            return torch.cat([self.constants(ball, rows.chosen(part)) for part in parts])
        if self._bound is LipschitzMethod.ROWS:
            found = combined_norms(bounds, output, rows, ball.norm)
            if found is not None:
                return found
            if len(rows.place) > 1:
                parts = torch.arange(len(rows.place)).chunk(2)
                return torch.cat([self.constants(ball, rows.chosen(part)) for part in parts])
        return interval_norms(bounds, output, rows, ball.norm)

    @cached_property
    def _network_gains(self) -> dict[Norm, float]:
        return network_gains(self._exact, self._gains)

    def _by_product(self, ball: Ball, rows: Patches) -> Tensor:
        own = {p: raised(p.sizes(rows.values), rows.values[0].numel()) for p in Norm}
        # A row depends on the pixels of the cones of the places that it reads.
        shape = self._bounds(ball.with_radius(0.0)).relaxation.shape
        sizes = cone_sizes(self._graph, self._graph.output_name, (1, 1), shape)
        high, wide = sizes.get(self._graph.input_name, (0, 0))
        read = (rows.values != 0).any(1).sum((1, 2)) * high * wide
        channels, height, width = self._network.input_shape
        pixels = channels * read.clamp(max=height * width)
        return row_constants(own, self._network_gains, pixels, ball.norm).cpu()


def _times_radius(constants: Tensor, radius: float) -> Tensor:
    """L r, rounded up; 0 at radius 0 whatever L is."""
    if radius == 0:
        return torch.zeros_like(constants)
    return constants * radius * (1 + 2.0**-50) + 2.0**-1000


def _less(lower: Tensor, reach: Tensor) -> Tensor:
    """A lower bound less a reach, rounded down."""
    return lower - reach - 2.0**-50 * (lower.abs() + reach)
