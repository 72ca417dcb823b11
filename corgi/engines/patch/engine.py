"""The patch engine as a bounding engine: CROWN and CROWN-IBP on cones."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.engines.cone import Cone, NotUnfolded
from corgi.engines.lowering import explained_class
from corgi.engines.patch.alpha import Alpha, Optimised, OwnPlanes, optimised
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.cones import map_reach
from corgi.engines.patch.gains import Gains
from corgi.engines.patch.halfspace import mean
from corgi.engines.patch.intervals import Centre, cast_out, centres
from corgi.engines.patch.norms import reach_of
from corgi.engines.patch.patches import Indices, Patches, Places, distinct_places, on_host
from corgi.engines.patch.prepare import Maximum, cast, prepare
from corgi.engines.patch.unfold import cone_of, is_piecewise_linear, too_large
from corgi.engines.rigour import differentiable, plainly
from corgi.engines.whole import Whole, to_the_end
from corgi.network.convert import TorchGraph
from corgi.network.head import CamHead
from corgi.network.network import Network
from corgi.terms import PatchMethod
from corgi.types import Ball, Interval, Norm

_BALLS = 12
"""Balls around one image whose bounds are kept, if they fit into `_KEPT` bytes; two always are."""

_KEPT = 2 * 2**30

_PRECISE = 1e11
"""Multiply-adds up to which rows on windows are in float64 as the rest is; more are ten times faster in
float32."""

_RIVALS = 64
"""Classes whose margins are bounded together."""

_EXTENTS = (2, 5, 10, 2**31)
"""Distances of two map pixels up to which their rows share one size of patch."""


@dataclass(frozen=True)
class PatchEngine:
    """corgi's own engine.

    Attributes:
        relaxation: CROWN bounds undecided windows by rows of their own; CROWN-IBP does not. alpha-CROWN also
            gives the pairs that decide a certificate lower planes of their own; focus bounds those again on
            the part of the ball where they can still fail.
        alpha: how lower planes are optimised; rounds: most rounds of focus.
        budget: bytes one backward pass may use for its patches.
        work: multiply-adds that the rows on undecided windows of one ball may take. Where they would take
            more, rows end at an earlier layer or are left out (CROWN-IBP there), and the certificate says so.
        device: torch device.
    """

    relaxation: PatchMethod = PatchMethod.CROWN
    alpha: Alpha = field(default_factory=Alpha)
    rounds: int = 6
    budget: int = 256 * 2**20
    work: float = 2e12
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name, for results."""
        return "patch"

    @property
    def method(self) -> str:
        """The relaxation, as the user names it."""
        return self.relaxation.value

    @property
    def refines(self) -> bool:
        """Whether undecided windows get rows of their own."""
        return self.relaxation is not PatchMethod.CROWN_IBP

    @settled()
    def check(self, network: Network) -> None:
        """Refuse what `bind` refuses.

        Raises:
            EngineError: a layer the engine has no rule for.
        """
        prepare(network)

    @settled()
    def bind(self, network: Network, class_id: int, dtype: torch.dtype = torch.float64) -> PatchBounder:
        """Prepare to bound the map of a class.

        Raises:
            EngineError: a layer the engine has no rule for.
        """
        return PatchBounder(self, network, class_id, dtype)


@dataclass
class _Known:
    """What has been computed for one ball.

    fast: the same in float32, where rows on windows are much work.
    lower, upper: of map pixels, float64 [pixels], infinite where `low_known`, `high_known` are false.
    """

    ball: Ball
    bounds: BallBounds
    fast: BallBounds | None
    lower: Tensor
    upper: Tensor
    low_known: Tensor
    high_known: Tensor

    @property
    def bytes(self) -> int:
        """Memory of the bounds."""
        return self.bounds.bytes + (0 if self.fast is None else self.fast.bytes)


class PatchBounder(Whole):
    """The patch engine bound to one network, class and precision. Keeps what it found for the last balls."""

    _kind: type[BallBounds] = BallBounds

    def __init__(self, engine: PatchEngine, network: Network, class_id: int, dtype: torch.dtype) -> None:
        self._engine, self._network, self._dtype = engine, network, dtype
        self._exact = prepare(network)
        self._graph = cast(self._exact, dtype, engine.device)
        self._weight = explained_class(network, class_id).weight.reshape(-1)
        self._reach = map_reach(self._graph)
        self._gains = Gains(self._exact)
        self._known: list[_Known] = []
        self._shortfalls: dict[float, str] = {}
        self._summed = 0.0
        self._own: dict[tuple[int, int], OwnPlanes] = {}

    @cached_property
    def _fast(self) -> TorchGraph:
        """The network in float32, for rows that are much work in float64."""
        return cast(self._exact, torch.float32, self._engine.device)

    @property
    def rounding(self) -> float:
        """The largest rounding error set aside in a row, or in a sum of intervals, so far."""
        return max((self._summed, *(known.bounds.largest_error for known in self._known)))

    @to_the_end
    @plainly
    def middle(self, ball: Ball) -> Tensor:
        """The map in the middle of a ball, [pixels]: what all rows are deviations from."""
        return self._at_centre(self._known_ball(ball).bounds)[0]

    @to_the_end
    @plainly
    def cheap(self, ball: Ball) -> Interval:
        """Interval arithmetic, each [pixels]."""
        bounds = self._bounds(ball)
        known = bounds.relaxation.intervals[self._graph.output_name]
        lower, upper = (v.cpu().to(torch.float64) for v in (known.lower, known.upper))
        weight = self._weight[None, :, None, None]
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        size = torch.maximum(lower.abs(), upper.abs())
        error = ((len(weight) + 8) * 2.0**-52 * weight.abs() * size).sum(1).reshape(-1)
        least = (positive * lower + negative * upper).sum(1).reshape(-1) - error
        most = (positive * upper + negative * lower).sum(1).reshape(-1) + error
        value, off = self._at_centre(bounds)
        self._summed = max(self._summed, float((off + error).max()))
        return self._interval(value - off + least, value + off + most)

    @to_the_end
    @plainly
    def pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        """Folded intervals (theory 1.2), each [pixels]; infinite ends for pixels that were not asked for.

        `low` and `high` are the pixels whose lower and upper ends are wanted; None for all.
        """
        return self._pixels(ball, low, high)

    def _pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        everything = torch.arange(self._network.pixels)
        low, high = everything if low is None else low, everything if high is None else high
        known = self._known_ball(ball)
        # Another question may have asked for the same pixels.
        low, high = low[~known.low_known[low]], high[~known.high_known[high]]
        both = torch.cat([low, high])
        if len(both):
            self._required(ball, self._where(both))
            signs = torch.cat([torch.ones(len(low)), -torch.ones(len(high))]).to(torch.float64)
            value, off = self._at_centre(known.bounds)
            found = self._bounded(ball, self._rows(both, signs), signs * value[both] - off[both])
            known.lower[low], known.upper[high] = found[: len(low)], -found[len(low) :]
            known.low_known[low], known.high_known[high] = True, True
        return self._interval(known.lower, known.upper)

    @to_the_end
    @plainly
    def remember(self, ball: Ball, pixels: Interval) -> None:
        """Take over folded intervals that were computed elsewhere (batch.py) for this network and class."""
        known = self._known_ball(ball)
        known.lower = torch.maximum(known.lower, pixels.lower)
        known.upper = torch.minimum(known.upper, pixels.upper)
        known.low_known[:], known.high_known[:] = True, True

    @to_the_end
    @plainly
    def differences(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """Pairwise margins (theory 1.3): lower bounds of I_above - I_below: [rows]."""
        bounds = self._required(ball, self._where(torch.cat([above, below])))
        width = self._network.head.map_shape[1]
        shift = torch.stack([below // width - above // width, below % width - above % width], 1)
        lower = torch.full((len(above),), -torch.inf, dtype=torch.float64)
        far = (shift[:, 0].abs() >= self._reach[0]) | (shift[:, 1].abs() >= self._reach[1])
        if ball.norm is not Norm.LINF:
            far[:] = False  # two cones share the radius
        if bool(far.any()):
            # Their cones share nothing, so both reach their least and greatest values independently.
            alone = self._pixels(ball, torch.unique(above[far]), torch.unique(below[far]))
            lower[far] = alone.lower[above[far]] - alone.upper[below[far]]
        value, off = self._at_centre(bounds)
        at_centre = (value[above] - value[below]) - (off[above] + off[below])
        # Rows of similar extent share a patch: a few sizes, each large enough for its rows.
        extent = shift.abs().amax(1).masked_fill(far, -2)
        for low, high in itertools.pairwise((-1, *_EXTENTS)):
            chosen = ((extent > low) & (extent <= high)).nonzero().reshape(-1)
            if len(chosen):
                rows = self._pair_rows(above[chosen], below[chosen])
                lower[chosen] = self._bounded(ball, rows, at_centre[chosen])
        return self._interval(lower, torch.full_like(lower, torch.inf)).lower

    @property
    def sharpens(self) -> bool:
        """Whether `sharpened` can be better than `differences`."""
        return self._engine.relaxation in (PatchMethod.ALPHA_CROWN, PatchMethod.FOCUS)

    @to_the_end
    @plainly
    def sharpened(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """The same as `differences` with more effort, for a few pairs: alpha-CROWN, and focus pair by pair.

        With focus, what is returned is > 0 only if the margin is on the whole ball, but need not bound it.
        """
        bounds = self._required(ball, self._where(torch.cat([above, below])))
        found = self._optimised(bounds, above, below)
        lower = found.bounds
        if self._engine.relaxation is PatchMethod.FOCUS:
            for pair in (~(lower > 0)).nonzero().reshape(-1):
                lower[pair] = self._focused(bounds, above[pair, None], below[pair, None], float(lower[pair]))
        lower = lower.cpu()
        return self._interval(lower, torch.full_like(lower, torch.inf)).lower

    def _optimised(self, bounds: BallBounds, above: Tensor, below: Tensor) -> Optimised:
        """Rows with lower planes of their own; those begin where another radius ended."""
        value, off = self._at_centre(bounds)
        at_centre = (value[above] - value[below]) - (off[above] + off[below])
        pairs = list(zip(above.tolist(), below.tolist(), strict=True))
        found = optimised(
            bounds.relaxation,
            self._graph.output_name,
            self._pair_rows(above, below),
            at_centre.to(self._engine.device),
            self._engine.alpha,
            [self._own.get(pair) for pair in pairs],
        )
        self._own.update(zip(pairs, found.planes, strict=True))
        return found

    def _focused(self, bounds: BallBounds, above: Tensor, below: Tensor, first: float) -> float:
        """Bounds of one pair, drawn again and again on the part of the ball where its margin can still fail.

        All images at which it fails lie in every half-space found on the way (halfspace.py), also in the mean
        of two. Once a bound over that part is > 0 there are none.
        """
        best, spaces, where = first, [], self._where(torch.cat([above, below]))
        for _ in range(self._engine.rounds):
            found = self._optimised(bounds, above, below)
            best = max(best, float(found.bounds[0]))
            space = bounds.half_space(found.backward)
            if best > 0 or space is None:
                break
            spaces.append(space)
            bounds = bounds.within(mean(spaces[-2:]))
            bounds.require(self._graph.output_name, where)
        return best

    def shortfall(self, ball: Ball) -> str:
        """Whose rows ended early, or were left out, in this engine's last bounds of a radius."""
        return self._shortfalls.get(ball.radius, "")

    def _note_shortfall(self, ball: Ball, bounds: BallBounds) -> None:
        if not bounds.shortened:
            return
        total = sum(isinstance(step.layer, Maximum) for step in self._graph.steps)
        none = sum(until is None for until in bounds.shortened.values())
        early = len(bounds.shortened) - none
        self._shortfalls[ball.radius] = (
            f"of {total} layers of activations {none} got no rows (CROWN-IBP there) and those of {early}"
            f" ended at an earlier layer: in full they would take over {self._engine.work:.3g} multiply-adds"
        )

    @to_the_end
    @plainly
    def features(self, ball: Ball) -> Interval:
        """Feature-wise intervals (theory 1.1), each [F, pixels]."""
        bounds, output = self._required(ball, self._where_all()), self._graph.output_name
        filters, pixels = self._network.head.filters, self._network.pixels
        everything = np.arange(pixels)
        place = np.tile(everything, 2)
        centre = bounds.relaxation.centres[output].value[0].reshape(filters, pixels)
        lower, upper = [], []
        for channel in range(filters):
            values = torch.zeros(2 * pixels, filters, 1, 1, dtype=self._dtype, device=self._engine.device)
            values[:pixels, channel], values[pixels:, channel] = 1, -1
            at_centre = torch.cat([centre[channel], -centre[channel]])
            found = self._bounded(ball, Patches(values, self._places(everything), place), at_centre)
            lower.append(found[:pixels])
            upper.append(-found[pixels:])
        return self._interval(torch.stack(lower), torch.stack(upper))

    @property
    def method(self) -> str:
        """The relaxation, as the user names it."""
        return self._engine.method

    @to_the_end
    @plainly
    def scores(self, ball: Ball, label: int) -> Tensor:
        """Lower bounds of score_label - score_j for every class j (theory 1.9): [classes], inf for j = label.

        The network must have a CAM head: scores are affine in its pooled feature map.
        """
        head, output = self._network.head, self._graph.output_name
        assert isinstance(head, CamHead)
        bounds = self._required(ball, self._where_all())
        centre = bounds.relaxation.centres[output].value[0].cpu().flatten(1)
        share = 1.0 if head.sums else 1 / self._network.pixels
        weight, bias = head.weight[label] - head.weight, head.bias[label] - head.bias
        at_centre = share * (weight @ centre.sum(1)) + bias
        # Sums over pixels and filters, differences, and the bias of a head of several layers: relative to
        # all absolute terms. Coefficients are rounded a few times more than rows account for, on deviations.
        size = bounds.relaxation.sizes[output][0].cpu().to(torch.float64) * self._network.pixels
        weight_terms = head.weight.abs() + head.weight[label].abs()
        terms = share * (weight_terms @ (centre.abs().sum(1) + size))
        terms = terms + head.bias_terms + head.bias_terms[label]
        off = (self._network.pixels + head.filters + 64) * 2.0**-52 * terms
        lower = torch.full_like(at_centre, torch.inf)
        rivals = torch.arange(head.classes)
        height, width = head.map_shape
        zero = np.zeros(1, np.int64)
        for chosen in torch.split(rivals[rivals != label], _RIVALS):
            values = (share * weight[chosen])[:, :, None, None].expand(-1, -1, height, width)
            values = values.to(self._dtype).to(self._engine.device).contiguous()
            rows = Patches(values, Places(zero, zero, zero), zero.repeat(len(chosen)))
            lower[chosen] = self._bounded(ball, rows, at_centre[chosen] - off[chosen])
        lower = self._interval(lower, torch.full_like(lower, torch.inf)).lower
        lower[label] = torch.inf
        return lower

    @property
    def unfolds(self) -> bool:
        """Whether all activations are maxima, and the engine runs where the deciders do."""
        return self._engine.device == "cpu" and is_piecewise_linear(self._graph)

    @to_the_end
    @plainly
    def unfolded(self, ball: Ball, above: Tensor, below: Tensor) -> Cone | NotUnfolded:
        """Margins I_above - I_below as piecewise linear functions of their cone, if that fits the budget."""
        if not self.unfolds:
            return NotUnfolded("an activation is not piecewise linear, or the engine is not on the CPU")
        if ball.norm is not Norm.LINF:
            return NotUnfolded(f"margins are decided exactly over {Norm.LINF.label} balls only")
        bounds = self._required(ball, self._where(torch.cat([above, below])))
        value, off = self._at_centre(bounds)
        off = off[above] + off[below]
        at_centre = (value[above] - value[below]) - off
        name, rows = self._graph.output_name, self._pair_rows(above, below)
        large = too_large(bounds, name, rows, self._engine.budget)
        return large or differentiable(cone_of(bounds, name, rows, at_centre, 2 * off))

    def _bounded(self, ball: Ball, rows: Patches, at_centre: Tensor) -> Tensor:
        """Lower bounds of rows on the feature map over a ball, given those in its middle: float64 [R]."""
        placed = at_centre.to(self._engine.device)
        bounds = self._bounds(ball)
        with self._mode():
            found = bounds.lower_rows(self._graph.output_name, rows, placed)
        return found.cpu().clone()

    def _mode(self) -> AbstractContextManager[object]:
        """How bounds are computed: without what gradients need, unless a method is going to ask for them.

        A bound consists of thousands of small operations, and each would pay for it.
        """
        return nullcontext() if self.sharpens else torch.inference_mode()

    def _at_centre(self, bounds: BallBounds) -> tuple[Tensor, Tensor]:
        """The map of the feature map's centre, and what its sum may be off by: float64 [pixels] each."""
        terms = (
            self._weight[:, None, None] * bounds.relaxation.centres[self._graph.output_name].value[0].cpu()
        )
        off = (len(terms) + 4) * 2.0**-52 * terms.abs().sum(0)
        return terms.sum(0).reshape(-1), off.reshape(-1)

    def _interval(self, lower: Tensor, upper: Tensor) -> Interval:
        """Outward rounding is in the bounds already, so nothing explains a crossing."""
        return Interval.from_engine(
            lower.cpu().to(torch.float64), upper.cpu().to(torch.float64), slack=0.0, engine=self._engine.name
        )

    def _bounds(self, ball: Ball) -> BallBounds:
        bounds = self._known_ball(ball).bounds
        with self._mode():
            return bounds.complete()

    def _known_ball(self, ball: Ball) -> _Known:
        """What is known of a ball, begun from the smallest known ball that holds it."""
        same = [known for known in self._known if same_image(known.ball, ball)]
        for known in same:
            if known.ball.radius == ball.radius:
                return known
        outer = self._outer(ball)
        if same:
            centre = same[0].bounds.relaxation.centres
        else:
            self._own.clear()
            self._shortfalls.clear()
            centre = on_device(centres(self._exact, ball.center[None].to(torch.float64)), self._engine.device)
        larger, sibling = None if outer is None else outer.bounds, same[0].bounds if same else None
        bounds = self._begun(self._graph, self._dtype, ball, centre, larger, sibling)
        infinite = torch.full((self._network.pixels,), torch.inf, dtype=torch.float64)
        unknown = torch.zeros(self._network.pixels, dtype=torch.bool)
        # A copy: the caller may write another image into the same memory.
        kept = replace(ball, center=ball.center.clone())
        known = _Known(kept, bounds, None, -infinite, infinite, unknown, unknown.clone())
        self._known = [*same[-_BALLS:], known]
        while len(self._known) > 2 and sum(other.bytes for other in self._known) > _KEPT:
            del self._known[0]
        return known

    def _outer(self, ball: Ball) -> _Known | None:
        """The smallest known ball that holds one, other than itself."""
        same = [known for known in self._known if same_image(known.ball, ball)]
        larger = [known for known in same if known.ball.radius > ball.radius]
        return min(larger, key=lambda known: known.ball.radius) if larger else None

    def _begun(
        self,
        graph: TorchGraph,
        dtype: torch.dtype,
        ball: Ball,
        centre: dict[str, Centre],
        outer: BallBounds | None,
        sibling: BallBounds | None = None,
    ) -> BallBounds:
        with self._mode():
            return self._kind(
                graph,
                centre,
                deviations([ball], dtype, self._engine.device),
                refine=self._engine.refines,
                budget=self._engine.budget,
                work=self._engine.work,
                gains=self._gains,
                thorough=graph is not self._graph and is_piecewise_linear(graph),
                tournaments=graph is self._graph,
                outer=outer,
                reach=reach_of([ball], self._engine.device),
                sibling=sibling,
                lazy=True,
            )

    def _required(self, ball: Ball, where: Tensor) -> BallBounds:
        """The bounds of a ball, refined for pixels of the map; in float32 first where that is much work."""
        known, output = self._known_ball(ball), self._graph.output_name
        bounds = known.bounds
        with self._mode():
            if self._dtype is torch.float64 and (known.fast or bounds.work_of(output, where) > _PRECISE):
                if known.fast is None:
                    outer = self._outer(ball)
                    inherited = None if outer is None else outer.fast or outer.bounds
                    centre = bounds.relaxation.centres
                    known.fast = self._begun(self._fast, torch.float32, ball, centre, inherited)
                if known.fast.require(output, where):
                    bounds.learn(known.fast)
            bounds.require(output, where)
        self._note_shortfall(ball, bounds)
        return bounds

    def _where(self, pixels: Tensor) -> Tensor:
        mask = torch.zeros(self._network.pixels, dtype=torch.bool)
        mask[pixels] = True
        return mask.reshape(1, *self._network.head.map_shape).to(self._engine.device)

    def _places(self, pixels: Indices) -> Places:
        width = self._network.head.map_shape[1]
        return Places(np.zeros_like(pixels), pixels // width, pixels % width)

    def _where_all(self) -> Tensor:
        return torch.ones(1, *self._network.head.map_shape, dtype=torch.bool, device=self._engine.device)

    def _rows(self, pixels: Tensor, signs: Tensor) -> Patches:
        """Rows sign * sum_k w_k f_k at map pixels, on the feature map."""
        distinct, place = np.unique(on_host(pixels), return_inverse=True)
        values = (signs[:, None] * self._weight)[:, :, None, None].to(self._dtype)
        return Patches(values.to(self._engine.device), self._places(distinct), place)

    def _pair_rows(self, above: Tensor, below: Tensor) -> Patches:
        """Rows of I_above - I_below, on patches that hold both pixels."""
        width = self._network.head.map_shape[1]
        top = torch.minimum(above // width, below // width)
        left = torch.minimum(above % width, below % width)
        high = int(torch.maximum(above // width - top, below // width - top).max()) + 1
        wide = int(torch.maximum(above % width - left, below % width - left).max()) + 1
        values = torch.zeros(len(above), len(self._weight), high, wide, dtype=self._dtype)
        rows = torch.arange(len(above))
        weight = self._weight.to(self._dtype)
        values[rows, :, above // width - top, above % width - left] += weight
        values[rows, :, below // width - top, below % width - left] -= weight
        places = distinct_places(*map(on_host, (torch.zeros_like(top), top, left)))
        return Patches(values.to(self._engine.device), *places)


def same_image(a: Ball, b: Ball) -> bool:
    """Whether two balls differ in their radius at most."""
    return torch.equal(a.center, b.center) and (a.norm, a.pixel_box) == (b.norm, b.pixel_box)


def deviations(balls: list[Ball], dtype: torch.dtype, device: str) -> Interval:
    """How far the pixels of balls are from their centres, rounded outwards: [B, C, H, W]."""
    ends = []
    for ball in balls:
        box, centre = ball.box(torch.float64), ball.center.to(torch.float64)
        # A float64 difference of numbers in [0, 1] is off by at most 2^-54.
        around = 0.0 if ball.radius == 0 else 2.0**-53
        ends.append((box.lower - centre - around, box.upper - centre + around))
    lower, upper = (torch.stack(end) for end in zip(*ends, strict=True))
    wide = cast_out(Interval(lower, upper), dtype)
    return Interval(wide.lower.to(device), wide.upper.to(device))


def on_device(found: dict[str, Centre], device: str) -> dict[str, Centre]:
    """Centres on a device."""
    return {name: Centre(c.value.to(device), c.error.to(device)) for name, c in found.items()}
