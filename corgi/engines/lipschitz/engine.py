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

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.engines.forms import signed
from corgi.engines.interface import BoundEngine
from corgi.engines.lipschitz.combine import combined_norms
from corgi.engines.lipschitz.jacobian import LAYERS, interval_norms
from corgi.engines.lipschitz.product import network_gains, row_constants
from corgi.engines.lipschitz.slopes import WITHOUT_SLOPES
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.cones import cone_sizes
from corgi.engines.patch.engine import PatchBounder, PatchEngine
from corgi.engines.patch.norms import raised
from corgi.engines.patch.patches import Patches
from corgi.engines.patch.prepare import prepare
from corgi.engines.patch.region import same_image
from corgi.engines.patch.rows import Layout
from corgi.engines.rigour import LOST, plainly, roundings
from corgi.engines.whole import to_the_end
from corgi.errors import EngineError
from corgi.network.convert import TorchGraph
from corgi.network.network import Network
from corgi.terms import LipschitzMethod, PatchMethod
from corgi.types import Ball, Interval, Norm

_RowNorms = Callable[[BallBounds, str, Patches, Norm], Tensor]
"""Upper bounds of the dual norms of rows' gradients over a ball, [R]."""

_SIMILAR = 2.0
"""Intervals of Jacobians over a ball up to that many times as large serve as well."""


@dataclass(frozen=True)
class LipschitzEngine(BoundEngine):
    """Local Lipschitz constants, times the radius.

    Attributes:
        bound: how gradients are bounded.
        budget: bytes one backward pass may use. A row whose coefficients would not fit, on all undecided
            windows of its cone, is bounded by intervals of the Jacobian.
        work, device: as of a `PatchEngine`, which bounds the network's values over a ball.
    """

    bound: LipschitzMethod = LipschitzMethod.ROWS
    budget: int = 64 * 2**20
    work: float = 2e12
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name, for results."""
        return "lipschitz"

    @property
    def method(self) -> str:
        """How gradients are bounded, as the user names it."""
        return self.bound.value

    @settled()
    def check(self, network: Network) -> None:
        """Refuse what `bind` refuses.

        Raises:
            EngineError: a layer the patch engine or this one has no rule for.
        """
        check_slopes(network, prepare(network))

    @settled()
    def bind(self, network: Network, class_id: int, dtype: torch.dtype = torch.float64) -> LipschitzBounder:
        """Prepare to bound the map of a class.

        Raises:
            EngineError: a layer the patch engine or this one has no rule for.
        """
        return LipschitzBounder(self, network, class_id, dtype)


def check_slopes(network: Network, graph: TorchGraph) -> None:
    """Refuse prepared steps whose slopes have no rule.

    Raises:
        EngineError: names the first of them.
    """
    for step in graph.steps:
        if not isinstance(step.layer, LAYERS) or isinstance(step.layer, WITHOUT_SLOPES):
            raise EngineError(
                f"{network.path}: {step}: engine lipschitz does not support {type(step.layer).__name__}",
                hint="Use engine patch.",
            )


@dataclass
class _PixelConstants:
    """Lipschitz constants of all map pixels over one ball.

    Attributes:
        values: float64 [pixels]; final: which of them are by the engine's own method, bool.
        drawn: radius of the ball over which Jacobians were last bounded for all pixels, inf if none was.
    """

    values: Tensor
    final: Tensor
    drawn: float


class LipschitzBounder(PatchBounder):
    """The same questions as the patch engine's, with every row bounded by its Lipschitz constant."""

    def __init__(self, engine: LipschitzEngine, network: Network, class_id: int, dtype: torch.dtype) -> None:
        rows = engine.bound is LipschitzMethod.ROWS
        relaxation = PatchMethod.CROWN if rows else PatchMethod.CROWN_IBP
        values = PatchEngine(relaxation, budget=engine.budget, work=engine.work, device=engine.device)
        super().__init__(values, network, class_id, dtype)
        check_slopes(network, self._graph)
        self._bound = engine.bound
        self._around: Ball | None = None
        self._of_pixels: dict[float, _PixelConstants] = {}

    @property
    def method(self) -> str:
        """How gradients are bounded, as the user names it."""
        return self._bound.value

    @property
    def unfolds(self) -> bool:
        """Margins are not decided exactly here."""
        return False

    @to_the_end
    @plainly
    def intervals(self, ball: Ball) -> Interval:
        """By what is known of this ball and larger ones, each [pixels].

        For the method of rows the Jacobians of all pixels are bounded by intervals first, once for balls of
        similar size: that closes most pairs, and the rest is more work.
        """
        known = self._known_constants(ball)
        if self._bound is LipschitzMethod.ROWS and known.drawn > _SIMILAR * ball.radius > 0:
            self._required(ball, self._where_all())
            by_intervals = self._in_chunks(ball, self._all_rows, interval_norms)
            known.values, known.drawn = torch.fmin(known.values, by_intervals), ball.radius
        return self._within(ball, known.values)

    def _pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        """The middle +- L r, each [pixels]; infinite ends for pixels that were not asked for."""
        if ball.radius == 0:
            return super()._pixels(ball, low, high)
        everything, known = torch.arange(self._network.pixels), self._known_constants(ball)
        low, high = everything if low is None else low, everything if high is None else high
        wanted = torch.unique(torch.cat([low, high]))
        missing = wanted[~known.final[wanted]]
        if len(missing):
            layout = self._pixel_layout(missing)
            self._required(ball, layout.read)
            found = self._constants(ball, layout.patches(self._dtype, self._engine.device))
            known.values[missing] = torch.fmin(known.values[missing], found)
            known.final[missing] = True
        bounds = self._within(ball, known.values)
        lower, upper = torch.full_like(bounds.lower, -torch.inf), torch.full_like(bounds.upper, torch.inf)
        lower[low], upper[high] = bounds.lower[low], bounds.upper[high]
        return self._interval(lower, upper)

    @to_the_end
    @plainly
    def constants(self, ball: Ball, rows: Patches) -> Tensor:
        """Lipschitz constants of rows on the feature map over a ball, in its norm: float64 [R]."""
        return self._constants(ball, rows)

    def _constants(self, ball: Ball, rows: Patches) -> Tensor:
        match self._bound:
            case LipschitzMethod.NORMS:
                return self._by_product(ball, rows)
            case LipschitzMethod.INTERVALS:
                return self._in_chunks(ball, rows, interval_norms)
            case LipschitzMethod.ROWS:
                return self._in_chunks(ball, rows, combined_norms)

    def _bounded(self, ball: Ball, rows: Patches, at_centre: Tensor) -> Tensor:
        middle = super()._bounded(ball.with_radius(0.0), rows, at_centre)
        if ball.radius == 0:
            return middle
        return _less(middle, _times_radius(self._constants(ball, rows), ball.radius))

    def _within(self, ball: Ball, constants: Tensor) -> Interval:
        """Bounds of all pixels by their constants, each [pixels]."""
        middle = super()._pixels(ball.with_radius(0.0))
        reach = _times_radius(constants, ball.radius)
        return self._interval(_less(middle.lower, reach), -_less(-middle.upper, reach))

    def _known_constants(self, ball: Ball) -> _PixelConstants:
        """The constants of a ball, begun from those of all larger ones: L only grows with the ball."""
        if self._around is None or not same_image(self._around, ball):
            self._around, self._of_pixels = ball.copy(), {}
        if ball.radius not in self._of_pixels:
            values, drawn = (
                self._by_product(ball, self._all_rows).nan_to_num(nan=torch.inf, posinf=torch.inf),
                torch.inf,
            )
            for radius, known in self._of_pixels.items():
                if radius > ball.radius:
                    values, drawn = torch.fmin(values, known.values), min(drawn, known.drawn)
            final = torch.zeros(len(values), dtype=torch.bool)
            self._of_pixels[ball.radius] = _PixelConstants(values, final, drawn)
        return self._of_pixels[ball.radius]

    @cached_property
    def _all_rows(self) -> Patches:
        layout = self._pixel_layout(torch.arange(self._network.pixels))
        return layout.patches(self._dtype, self._engine.device)

    def _pixel_layout(self, pixels: Tensor) -> Layout:
        return self._layout(signed(pixels, torch.ones(len(pixels), dtype=torch.float64), of_map=True))

    def _in_chunks(self, ball: Ball, rows: Patches, bounded: _RowNorms) -> Tensor:
        """Dual norms of as many rows at a time as the budget allows: in intervals a row takes three rows."""
        bounds, output = self._bounds(ball), self._graph.output_name
        size = max(1, int(bounds.budget / (3 * bounds.builder.bytes_a_row(output, rows))))
        parts = torch.split(torch.arange(len(rows.place), device=rows.values.device), size)
        return torch.cat([bounded(bounds, output, rows.chosen(part), ball.norm) for part in parts])

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
    return constants * radius * (1 + roundings(8)) + LOST


def _less(lower: Tensor, reach: Tensor) -> Tensor:
    """A lower bound less a reach, rounded down."""
    return lower - reach - roundings(8) * (lower.abs() + reach)
