"""What is known of a network over some balls: intervals first, rows only where they pay.

A window of a Maximum that can have only one maximum is linear and needs nothing. For the others rows are
spent: differences of elements, which decide them or bound how far they are from it. Only windows in the cone
of what is asked for get rows, and nothing that a larger ball around the same image had decided is asked
again. Inputs of curved activations get rows where their lines lie far apart.

Rows of a deep network on a large image cost a pass through the network each. Where those of a layer would
take more work than is left, norms join the intervals (gains.py), which leaves fewer windows undecided. If it
is too much even then, rows end at an earlier layer, at what intervals and norms know of it; and where that
would still be too much, there are none: CROWN-IBP for that layer. `shortened` says so.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from corgi.engines.patch.backward import Relaxation
from corgi.engines.patch.builder import RowBuilder
from corgi.engines.patch.cones import cone_masks
from corgi.engines.patch.gains import Gains
from corgi.engines.patch.halfspace import HalfSpace
from corgi.engines.patch.inputs import CURVES, CurveInputs
from corgi.engines.patch.intervals import Centre, by_channel
from corgi.engines.patch.norms import Reach
from corgi.engines.patch.patches import Patches, on_device
from corgi.engines.patch.plan import Plan
from corgi.engines.patch.pools import PoolPlanes
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.state import State, exact_values
from corgi.network.convert import TorchGraph
from corgi.types import Interval


class BallBounds:
    """Bounds of a network over balls, each [B, ...].

    Attributes:
        state: intervals, windows and lines; plan: what rows may take.
        builder: makes rows; pools: decides windows by them; inputs: narrows the inputs of curves.
    """

    state_kind: type[State] = State
    builder_kind: type[RowBuilder] = RowBuilder
    inputs_kind: type[CurveInputs] = CurveInputs

    def __init__(
        self, state: State, plan: Plan, budget: int, *, tournaments: bool, largest_error: float
    ) -> None:
        self.state, self.plan, self.budget = state, plan, budget
        self._tournaments = tournaments and not plan.thorough
        self.builder = self.builder_kind(state, plan, budget, largest_error=largest_error)
        self.pools = PoolPlanes(state, self.builder, thorough=plan.thorough, tournaments=self._tournaments)
        self.inputs = self.inputs_kind(state, self.builder, plan)

    @classmethod
    def over(
        cls,
        graph: TorchGraph,
        centres: dict[str, Centre],
        box: Interval,
        *,
        refine: bool,
        budget: int,
        work: float = math.inf,
        gains: Gains | None = None,
        thorough: bool = False,
        tournaments: bool = True,
        outer: BallBounds | None = None,
        reach: Reach | None = None,
        sibling: BallBounds | None = None,
        lazy: bool = False,
    ) -> BallBounds:
        """Interval bounds of everything.

        Args:
            graph: prepared steps, in working precision.
            centres: values in the middle of the balls.
            box: the pixels' deviations from it, [B, C, H, W].
            refine: whether undecided windows get rows (CROWN) or not (CROWN-IBP).
            budget: bytes a backward pass may use for its patches.
            work: multiply-adds that rows on windows may take; those of tournaments are not counted.
            gains: of the graph's layers, if they are to be shared.
            thorough: whether layers that intervals leave undecided in many places are bounded everywhere,
                from both sides; all activations must be Maximum.
            tournaments: whether rows that read windows with three or more candidates are bounded with the
                planes of tournaments, too; not where `thorough` bounds whole layers.
            outer: bounds of balls around the same images that contain these ones, if known.
            reach: the norm of the pixels' deviations, if the balls are not boxes.
            sibling: bounds of any other balls around the same images, in the same precision.
            lazy: whether intervals wait for `require` or `complete`: behind windows that rows decide they
                would be drawn twice.
        """
        image = graph.input_name
        relaxation = Relaxation(graph, centres, {image: box}, {image: by_channel(box)})
        if reach is not None:
            relaxation.reaches[image] = reach
        exact = exact_values(graph) if reach is None else set()
        leads = {} if sibling is None else sibling.state.leads
        larger = None if outer is None else outer.complete().state
        state = cls.state_kind(relaxation, gains or Gains(graph), leads, exact, larger)
        bounds = cls(state, Plan(work, refine, thorough), budget, tournaments=tournaments, largest_error=0.0)
        return bounds if lazy else bounds.complete()

    @property
    def graph(self) -> TorchGraph:
        """Prepared steps, in working precision."""
        return self.state.graph

    @property
    def relaxation(self) -> Relaxation:
        """What backward passes see."""
        return self.state.relaxation

    def live(self, value: str) -> Tensor:
        """Which elements of the windows of a Maximum can be the maximum: bool [B, C, H', W', E], zero first.

        Everywhere in the ball the Maximum is the largest of them.
        """
        return self.state.windows[value].live

    def complete(self) -> BallBounds:
        """The same, with intervals of every value."""
        self.state.complete()
        return self

    def within(self, half_space: HalfSpace) -> BallBounds:
        """The same bounds, to be refined again for a part of the balls."""
        # Rows are to be decided by what holds on the part alone; a second form costs more than it brings.
        state, plan, error = self.state.part(half_space), self.plan.again(), self.builder.largest_error
        return type(self)(state, plan, self.budget, tournaments=False, largest_error=error)

    def learn(self, other: BallBounds) -> None:
        """Take over what is known of the same balls in a lower precision."""
        self.state.learn(other.state)
        self.plan.shortened.update(other.plan.shortened)
        self.builder.count += other.builder.count
        self.inputs.done = dict(other.inputs.done)

    def lower_rows(self, value: str, rows: Patches, at_centre: Tensor, enough: float | None = None) -> Tensor:
        """Lower bounds of rows on a value, float64 [R]. Chunked to the budget.

        Sound whatever was required before; tight where `require` was told of the cone. Rows that read windows
        with rival planes are bounded with either. Arguments as of `RowBuilder.lower`.
        """
        found = self.builder.lower(value, rows, at_centre, enough)
        mask = self.pools.disputed.get(value)
        if mask is not None and len(found):
            there = rows.places.cut(mask[:, None].to(rows.values.dtype), *rows.size).amax((1, 2, 3)) > 0
            some = there[on_device(rows.place, there.device)].nonzero()[:, 0]
            if len(some):
                rival = torch.ones_like(some, dtype=torch.bool)
                again = self.builder.lower(value, rows.chosen(some), at_centre[some], enough, rival=rival)
                found[some] = torch.fmax(found[some], again)
        return found

    def require(self, value: str, where: Tensor) -> bool:
        """Bound what rows on a value at places [B, H, W] will meet; False if that was known already."""
        state, todo = self.state, self._todo(value, where)
        missing = {name for name, mask in todo.items() if bool(mask.any())}
        changed = False
        for step in self.graph.steps:
            if not missing:
                break
            if changed or step.output not in self.relaxation.intervals:
                state.forward(step)
            if step.output not in missing:
                continue
            missing.remove(step.output)
            changed, mask = True, todo[step.output]
            if not isinstance(step.layer, Maximum):
                self.inputs.bound(step, mask)
                state.forward(step)
                continue
            if self.relaxation.norms is None and self.plan.work_of(state, step, mask) > self.plan.work:
                state.join_norms()
                return self.require(value, where)
            if self.plan.refine and self.plan.begin(state, step, mask):
                self.pools.decide(step, mask)
            state.windows[step.output].done |= mask
            state.note(step, state.windows[step.output].range)
        state.complete()
        return changed

    def _todo(self, value: str, where: Tensor) -> dict[str, Tensor]:
        """Where, in the cone of a value at places [B, H, W], activations had no rows spent on them yet."""
        masks = cone_masks(self.graph, {value: where}, self.relaxation.shape)
        todo = {}
        for step in self.graph.steps:
            if isinstance(step.layer, Maximum) and step.output in masks:
                windows = self.state.windows.get(step.output)
                todo[step.output] = masks[step.output] & (True if windows is None else ~windows.done)
            if self.plan.refine and isinstance(step.layer, CURVES) and step.output in masks:
                done = self.inputs.done.get(step.output)
                todo[step.output] = masks[step.output] if done is None else masks[step.output] & ~done
        return todo

    def work_of(self, value: str, where: Tensor) -> float:
        """Multiply-adds that rows for all that `require` would ask for may take; most are dropped earlier."""
        self.complete()
        state, todo = self.state, self._todo(value, where)
        named = [name for name in state.windows if name in todo]
        return sum(self.plan.work_of(state, state.steps[name], todo[name]) for name in named)
