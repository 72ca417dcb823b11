"""The patch engine as a bounding engine: CROWN and CROWN-IBP on cones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.engines.cone import Cone, NotUnfolded
from corgi.engines.forms import ClassMargins, Forms, signed
from corgi.engines.interface import BoundEngine, Bounder, Cost
from corgi.engines.lowering import Lowerable, explained_class
from corgi.engines.patch.alpha import Alpha, Optimised, OwnPlanes, optimised
from corgi.engines.patch.batch import bound_maps
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.cones import map_reach
from corgi.engines.patch.forms import FormBounds
from corgi.engines.patch.gains import Gains
from corgi.engines.patch.halfspace import mean
from corgi.engines.patch.intervals import Centre, magnitude
from corgi.engines.patch.norms import reach_of
from corgi.engines.patch.patches import Patches, Places
from corgi.engines.patch.prepare import Maximum, cast, prepare
from corgi.engines.patch.region import deviations, holds, is_box, middle_of, same_image
from corgi.engines.patch.rows import Layout, map_values
from corgi.engines.patch.unfold import is_piecewise_linear, unfolded
from corgi.engines.rigour import differentiable, plainly, roundings
from corgi.engines.whole import to_the_end
from corgi.network.convert import TorchGraph
from corgi.network.network import Network
from corgi.terms import PatchMethod
from corgi.types import Ball, Interval

_BALLS = 12
"""Balls around one image whose bounds are kept, if they fit into `_KEPT` bytes; two always are."""

_KEPT = 2 * 2**30

_PRECISE = 1e11
"""Multiply-adds up to which rows on windows are in float64 as the rest is; more are ten times faster in
float32."""

_RIVALS = 64
"""Classes whose margins are bounded together."""

_ROWS = 512
"""Rows whose first patches are made at once, and twice the map's pixels at least."""


@dataclass(frozen=True)
class PatchEngine(BoundEngine):
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

    @property
    def quick(self) -> PatchEngine | None:
        """CROWN-IBP: without rows on windows."""
        return replace(self, relaxation=PatchMethod.CROWN_IBP) if self.refines else None

    def maps(self, network: Network, balls: list[Ball], class_ids: list[int]) -> Interval:
        """Folded intervals of the maps of N balls in one pass, float64 [N, pixels]."""
        return bound_maps(self, network, balls, class_ids)

    def boxes(self, network: Lowerable) -> Callable[[Tensor, Interval], FormBounds]:
        """What bounds a network without a head over a box; on the CPU, in float64."""
        return partial(FormBounds, self, prepare(network))

    def costs(self, network: Network) -> Callable[[Ball], Cost]:
        """What bounds of the whole map of the first class take, by a few of their rows."""
        from corgi.engines.patch.sampled import SampledBounder  # which is made of what stands here

        return SampledBounder(self, network, 0, torch.float64).taken_by


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
        return self.bounds.state.bytes + (0 if self.fast is None else self.fast.state.bytes)


class PatchBounder(Bounder):
    """The patch engine bound to one network, class and precision. Keeps what it found for the last balls."""

    _engine: PatchEngine
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
        self._own: dict[tuple[int, ...], OwnPlanes] = {}

    @cached_property
    def _fast(self) -> TorchGraph:
        """The network in float32, for rows that are much work in float64."""
        return cast(self._exact, torch.float32, self._engine.device)

    @property
    def rounding(self) -> float:
        """The largest rounding error set aside in a row, or in a sum of intervals, so far."""
        return max((self._summed, *(known.bounds.builder.largest_error for known in self._known)))

    @to_the_end
    @plainly
    def middle(self, ball: Ball) -> Tensor:
        """The map in the middle of a ball, [pixels]: what all rows are deviations from."""
        return map_values(self._weight, self._centre(self._known_ball(ball).bounds))[0]

    @to_the_end
    @plainly
    def intervals(self, ball: Ball) -> Interval:
        """Interval arithmetic, each [pixels]."""
        bounds = self._bounds(ball)
        known = bounds.relaxation.intervals[self._graph.output_name]
        lower, upper = (v.cpu().to(torch.float64) for v in (known.lower, known.upper))
        weight = self._weight[None, :, None, None]
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        size = torch.maximum(lower.abs(), upper.abs())
        error = (roundings(2 * (len(weight) + 8)) * weight.abs() * size).sum(1).reshape(-1)
        least = (positive * lower + negative * upper).sum(1).reshape(-1) - error
        most = (positive * upper + negative * lower).sum(1).reshape(-1) + error
        value, off = map_values(self._weight, self._centre(bounds))
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
            signs = torch.cat([torch.ones(len(low)), -torch.ones(len(high))]).to(torch.float64)
            forms = signed(both, signs, of_map=True)
            layout = self._layout(forms)
            value, off = self._in_the_middle(self._required(ball, layout.read), forms)
            rows = layout.patches(self._dtype, self._engine.device)
            found = self._bounded(ball, rows, value - off)
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
    def lower(self, ball: Ball, forms: Forms | ClassMargins, *, sharply: bool = False) -> Tensor:
        """Lower bounds of linear forms, float64 [forms].

        Sharply: alpha-CROWN, and focus form by form, whose bound is > 0 only if the form is on the whole
        ball, but need not bound it.
        """
        if isinstance(forms, ClassMargins):
            found = self._class_margins(ball, forms)
        else:
            found = self._sharply(ball, forms) if sharply else self._by_rows(ball, forms)
        found = found.cpu()
        return self._interval(found, torch.full_like(found, torch.inf)).lower

    def _by_rows(self, ball: Ball, forms: Forms) -> Tensor:
        layout = self._layout(forms)
        at_centre, off = self._in_the_middle(self._required(ball, layout.read), forms)
        lower = torch.full_like(at_centre, -torch.inf)
        far = torch.zeros(len(forms), dtype=torch.bool)
        if forms.of_map and is_box(ball):  # in other norms two cones share the radius
            far = (layout.spans[0] > self._reach[0]) | (layout.spans[1] > self._reach[1])
        if bool(far.any()):
            # Their cones share nothing, so all pixels reach their least and greatest values independently.
            alone = forms.chosen(far.nonzero().reshape(-1))
            some, pixels = alone.coefficient > 0, alone.element
            known = self._pixels(ball, torch.unique(pixels[some]), torch.unique(pixels[~some]))
            lower[far] = alone.summed(torch.where(some, known.lower[pixels], -known.upper[pixels]))
        at_once = 2 * self._network.pixels
        for chosen in layout.groups(~far, max(_ROWS, at_once) if forms.of_map else at_once):
            rows = layout.chosen(chosen).patches(self._dtype, self._engine.device)
            lower[chosen] = self._bounded(ball, rows, at_centre[chosen] - off[chosen])
        return lower

    def _layout(self, forms: Forms) -> Layout:
        shape = (self._network.head.filters, *self._network.head.map_shape)
        return Layout(forms, shape, self._weight if forms.of_map else None)

    def _in_the_middle(self, bounds: BallBounds, forms: Forms) -> tuple[Tensor, Tensor]:
        """The forms in the middle of a ball, and what that may be off by: float64 [forms] each."""
        centre = self._centre(bounds)
        if forms.of_map:
            value, off = (v[forms.element] for v in map_values(self._weight, centre))
            return forms.summed(forms.coefficient * value), forms.summed(off)
        known = magnitude(bounds.relaxation.intervals[self._graph.output_name])[0].cpu()
        value, off = forms.in_the_middle(centre.flatten(), (centre.abs() + known).flatten())
        return value, torch.zeros_like(off) if forms.single else off

    @property
    def bounds_any_form(self) -> bool:
        """Whether forms may have any coefficients."""
        return True

    @property
    def sharpens(self) -> bool:
        """Whether bounds drawn sharply can be better than others."""
        return self._engine.relaxation in (PatchMethod.ALPHA_CROWN, PatchMethod.FOCUS)

    def _sharply(self, ball: Ball, forms: Forms) -> Tensor:
        bounds = self._required(ball, self._layout(forms).read)
        lower = self._optimised(bounds, forms).bounds
        if self._engine.relaxation is PatchMethod.FOCUS:
            for number in (~(lower > 0)).nonzero().reshape(-1):
                lower[number] = self._focused(bounds, forms.chosen(number[None].cpu()), float(lower[number]))
        return lower

    def _optimised(self, bounds: BallBounds, forms: Forms) -> Optimised:
        """Rows with lower planes of their own; those begin where another radius ended."""
        at_centre, off = self._in_the_middle(bounds, forms)
        entries = zip(forms.row.tolist(), forms.element.tolist(), strict=True)
        read: list[tuple[int, ...]] = [()] * len(forms)
        for row, element in entries:
            read[row] = (*read[row], element)
        found = optimised(
            bounds.relaxation,
            self._graph.output_name,
            self._layout(forms).patches(self._dtype, self._engine.device),
            (at_centre - off).to(self._engine.device),
            self._engine.alpha,
            [self._own.get(form) for form in read],
        )
        self._own.update(zip(read, found.planes, strict=True))
        return found

    def _focused(self, bounds: BallBounds, form: Forms, first: float) -> float:
        """Bounds of one form, drawn again and again on the part of the ball where it can still fail.

        All images at which it fails lie in every half-space found on the way (halfspace.py), also in the mean
        of two. Once a bound over that part is > 0 there are none.
        """
        best, spaces, where = first, [], self._layout(form).read.to(self._engine.device)
        for _ in range(self._engine.rounds):
            found = self._optimised(bounds, form)
            best = max(best, float(found.bounds[0]))
            space = bounds.state.half_space(found.backward)
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
        if not bounds.plan.shortened:
            return
        total = sum(isinstance(step.layer, Maximum) for step in self._graph.steps)
        none = sum(until is None for until in bounds.plan.shortened.values())
        early = len(bounds.plan.shortened) - none
        self._shortfalls[ball.radius] = (
            f"of {total} layers of activations {none} got no rows (CROWN-IBP there) and those of {early}"
            f" ended at an earlier layer: in full they would take over {self._engine.work:.3g} multiply-adds"
        )

    def _class_margins(self, ball: Ball, forms: ClassMargins) -> Tensor:
        """Every margin reads the whole map, each pixel by the same weights."""
        head, pixels = forms.head, self._network.pixels
        bounds = self._required(ball, self._where_all())
        centre = self._centre(bounds).flatten(1)
        share = 1.0 if head.sums else 1 / pixels
        weight, bias = head.weight[forms.label] - head.weight, head.bias[forms.label] - head.bias
        at_centre = share * (weight @ centre.sum(1)) + bias
        # Sums over pixels and filters, differences, and the bias of a head of several layers: relative to
        # all absolute terms. Coefficients are rounded a few times more than rows account for, on deviations.
        size = bounds.relaxation.sizes[self._graph.output_name][0].cpu().to(torch.float64) * pixels
        weight_terms = head.weight.abs() + head.weight[forms.label].abs()
        terms = share * (weight_terms @ (centre.abs().sum(1) + size))
        terms = terms + head.bias_terms + head.bias_terms[forms.label]
        at_centre = at_centre - roundings(2 * (pixels + head.filters + 64)) * terms
        zero, found = np.zeros(1, np.int64), [at_centre[:0]]
        for chosen in torch.split(forms.others, _RIVALS):
            values = (share * weight[chosen])[:, :, None, None].expand(-1, -1, *head.map_shape)
            values = values.to(self._dtype).to(self._engine.device).contiguous()
            rows = Patches(values, Places(zero, zero, zero), zero.repeat(len(chosen)))
            found.append(self._bounded(ball, rows, at_centre[chosen]))
        return torch.cat(found)

    @property
    def unfolds(self) -> bool:
        """Whether all activations are maxima, and the engine runs where the deciders do."""
        return self._engine.device == "cpu" and is_piecewise_linear(self._graph)

    @to_the_end
    @plainly
    def unfold(self, ball: Ball, forms: Forms) -> Cone | NotUnfolded:
        """Forms as piecewise linear functions of their cone, if that fits the budget."""
        if not self.unfolds:
            return NotUnfolded("an activation is not piecewise linear, or the engine is not on the CPU")
        layout = self._layout(forms)
        bounds = self._required(ball, layout.read)
        at_centre, off = self._in_the_middle(bounds, forms)
        rows = layout.patches(self._dtype)
        name, budget = self._graph.output_name, self._engine.budget
        found = unfolded(bounds, name, rows, at_centre - off, 2 * off, budget)
        cone: Cone | NotUnfolded = differentiable(found)
        return replace(cone, norm=ball.norm, radius=ball.radius) if isinstance(cone, Cone) else cone

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

    def _centre(self, bounds: BallBounds) -> Tensor:
        """The feature map in the middle, float64 [F, H, W]."""
        return bounds.relaxation.centres[self._graph.output_name].value[0].cpu()

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
            centre = self._middle(ball)
        larger, sibling = None if outer is None else outer.bounds, same[0].bounds if same else None
        bounds = self._begun(self._graph, self._dtype, ball, centre, larger, sibling)
        infinite = torch.full((self._network.pixels,), torch.inf, dtype=torch.float64)
        unknown = torch.zeros(self._network.pixels, dtype=torch.bool)
        known = _Known(ball.copy(), bounds, None, -infinite, infinite, unknown, unknown.clone())
        self._known = [*same[-_BALLS:], known]
        while len(self._known) > 2 and sum(other.bytes for other in self._known) > _KEPT:
            del self._known[0]
        return known

    def _middle(self, ball: Ball) -> dict[str, Centre]:
        """All values in the middle of a ball: those of any ball around the same image."""
        for known in self._known:
            if torch.equal(known.ball.center, ball.center):
                return known.bounds.relaxation.centres
        return middle_of(self._exact, ball.center[None], self._engine.device)

    def _outer(self, ball: Ball) -> _Known | None:
        """The smallest known ball that holds one, other than itself."""
        larger = [known for known in self._known if holds(known.ball, ball)]
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
            return self._kind.over(
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
        bounds, where = known.bounds, where.to(self._engine.device)
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

    def _where_all(self) -> Tensor:
        return torch.ones(1, *self._network.head.map_shape, dtype=torch.bool, device=self._engine.device)
