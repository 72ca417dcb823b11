"""How much work rows may take, and where they end so that it suffices."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from corgi.engines.patch.cones import horizons
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.state import State
from corgi.network.convert import Step


@dataclass
class Plan:
    """What is left to spend.

    Attributes:
        work: multiply-adds; refine: whether windows get rows at all.
        thorough: whether layers that intervals leave undecided in many places are bounded everywhere.
        shortened: by output of a Maximum, where the rows on its windows ended before the image because the
            work would have been too much, None where there were none.
        until: where those rows end, by output.
    """

    work: float
    refine: bool
    thorough: bool
    shortened: dict[str, str | None] = field(default_factory=dict)
    until: dict[str, str] = field(default_factory=dict)
    _ends: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    def again(self) -> Plan:
        """The same, to be spent on a part of the balls."""
        return replace(self, shortened=dict(self.shortened), until=dict(self.until))

    def horizons(self, state: State, step: Step) -> list[tuple[str, float]]:
        """Where rows on windows of a Maximum may end, and what each then takes (`cones.horizons`)."""
        assert isinstance(step.layer, Maximum)
        if step.output not in self._ends:
            shape = state.relaxation.shape
            self._ends[step.output] = horizons(state.graph, step.inputs[0], step.layer.reach, shape)
        return self._ends[step.output]

    def rows(self, state: State, step: Step, todo: Tensor) -> float:
        """How many rows the undecided windows of one Maximum at [B, H', W'] can take."""
        windows = state.windows[step.output]
        if state.needs_none(step):
            return 0.0
        live = (windows.live.sum(-1) * todo[:, None]).to(torch.float64)
        everywhere = float(live.sum()) if self.thorough and windows.many(todo) else 0.0
        return float((live * (live - 1)).clamp(min=0).sum()) + everywhere

    def work_of(self, state: State, step: Step, todo: Tensor) -> float:
        """Multiply-adds that those rows may take; most are dropped earlier."""
        rows = self.rows(state, step, todo)
        return rows * self.horizons(state, step)[-1][1] if rows else 0.0

    def begin(self, state: State, step: Step, todo: Tensor) -> bool:
        """Where rows on windows at [B, H', W'] are to end, so that the work left suffices; False: nowhere.

        A layer that cannot have all the way to the image gets at most half of what is left.
        """
        rows = self.rows(state, step, todo)
        if not self.refine or rows == 0:
            return True
        ends = self.horizons(state, step)
        share = self.work if rows * ends[-1][1] <= self.work else 0.5 * self.work
        affordable = [(end, work) for end, work in ends if rows * work <= share]
        self.until.pop(step.output, None)
        if len(affordable) < len(ends):
            self.shortened[step.output] = affordable[-1][0] if affordable else None
        if not affordable:
            return False
        self.until[step.output] = affordable[-1][0]
        self.work -= rows * affordable[-1][1]
        return True

    def spend(self, step: Step, work: float) -> bool:
        """Take work for rows on the input of a curve; False, and it is noted, if too little is left."""
        if work > self.work:
            self.shortened[step.output] = None
            return False
        self.work -= work
        return True
