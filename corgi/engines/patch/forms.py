"""Linear forms of a network's output over one box of inputs, whatever the network is for.

    form = constant + sum_j b_j Y_j,   Y the elements of the trunk's output,

bounded from below by intervals, then by rows of its own, or unfolded for a decider: the same rows as those
of a map (engine.py), with any coefficients and over boxes of any shape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from corgi.engines.cone import Cone, NotUnfolded
from corgi.engines.forms import Forms, signed
from corgi.engines.interface import BoxBounds
from corgi.engines.layered import Layered, NotLayered
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.gains import Gains
from corgi.engines.patch.intervals import centres, magnitude
from corgi.engines.patch.layered import layered
from corgi.engines.patch.rows import Layout
from corgi.engines.patch.unfold import is_piecewise_linear, unfolded
from corgi.engines.rigour import plainly
from corgi.engines.whole import to_the_end
from corgi.network.convert import TorchGraph
from corgi.types import Interval

if TYPE_CHECKING:
    from corgi.engines.patch.engine import PatchEngine

_ROWS = 512
"""Rows whose first patches are made at once."""


class FormBounds(BoxBounds):
    """What is known of a prepared network over one box.

    Args:
        engine: the options of the patch engine; on the CPU.
        graph: the prepared trunk (`prepare`), float64.
        centre: a point of the box, float64 [C, H, W].
        box: how far inputs can be from it, rounded outwards, each float64 [C, H, W]; 0 lies between.
    """

    @plainly
    def __init__(self, engine: PatchEngine, graph: TorchGraph, centre: Tensor, box: Interval) -> None:
        self._engine, self._graph = engine, graph
        self._bounds = BallBounds.over(
            graph,
            centres(graph, centre[None].to(torch.float64)),
            Interval(box.lower[None], box.upper[None]),
            refine=engine.refines,
            budget=engine.budget,
            work=engine.work,
            gains=Gains(graph),
        )
        self._lower = torch.full_like(self._centre.flatten(), -math.inf)
        self._upper = -self._lower

    @property
    def _shape(self) -> tuple[int, int, int]:
        channels, height, width = self._centre.shape
        return channels, height, width

    @property
    def _centre(self) -> Tensor:
        return self._bounds.relaxation.centres[self._graph.output_name].value[0]

    @property
    def _known(self) -> Interval:
        """Deviations of the output, [C, H, W] each."""
        known = self._bounds.relaxation.intervals[self._graph.output_name]
        return Interval(known.lower[0], known.upper[0])

    @to_the_end
    @plainly
    def by_intervals(self, forms: Forms) -> Tensor:
        """Lower bounds by the intervals of the output that are known so far, float64 [R]."""
        return self._by_intervals(forms)

    def _by_intervals(self, forms: Forms) -> Tensor:
        low = torch.fmax((self._centre + self._known.lower).flatten(), self._lower)
        high = torch.fmin((self._centre + self._known.upper).flatten(), self._upper)
        least = torch.minimum(*(end[forms.element] * forms.coefficient for end in (low, high)))
        return self._safe(forms.summed(least) + forms.constant - self._in_the_middle(forms)[1])

    @to_the_end
    @plainly
    def learn(self, forms: Forms) -> None:
        """Bound each output that forms read by a row of its own, from the side they need."""
        up = torch.unique(forms.element[forms.coefficient > 0])
        down = torch.unique(forms.element[forms.coefficient < 0])
        signs = torch.cat([torch.ones(len(up)), -torch.ones(len(down))]).to(torch.float64)
        found = self._by_rows(signed(torch.cat([up, down]), signs))
        self._lower[up] = torch.fmax(self._lower[up], found[: len(up)])
        self._upper[down] = torch.fmin(self._upper[down], -found[len(up) :])

    @to_the_end
    @plainly
    def by_rows(self, forms: Forms) -> Tensor:
        """Lower bounds by one row a form, float64 [R]."""
        return self._by_rows(forms)

    def _by_rows(self, forms: Forms) -> Tensor:
        lower, (value, off) = self._by_intervals(forms), self._in_the_middle(forms)
        layout, name = Layout(forms, self._shape), self._graph.output_name
        for chosen in layout.groups(torch.ones(len(forms), dtype=torch.bool), _ROWS):
            some = layout.chosen(chosen)
            self._bounds.require(name, some.read)
            found = self._bounds.lower_rows(name, some.patches(), (value - off)[chosen])
            lower[chosen] = torch.fmax(lower[chosen], found)
        return self._safe(lower)

    @to_the_end
    @plainly
    def unfold(self, forms: Forms) -> Cone | NotUnfolded:
        """Forms as piecewise linear functions of their cone, if that fits the budget."""
        if not is_piecewise_linear(self._graph):
            return NotUnfolded("an activation is not piecewise linear")
        layout, name = Layout(forms, self._shape), self._graph.output_name
        self._bounds.require(name, layout.read)
        value, off = self._in_the_middle(forms)
        return unfolded(self._bounds, name, layout.patches(), value - off, 2 * off, self._engine.budget)

    @to_the_end
    @plainly
    def layered(self, forms: Forms) -> Layered | NotLayered:
        """Forms with the whole network in front of them, as a problem to branch on."""
        self._bounds.require(self._graph.output_name, Layout(forms, self._shape).read)
        value, off = self._in_the_middle(forms)
        return layered(self._bounds, forms.matrix(self._centre.numel()), value - off)

    def _in_the_middle(self, forms: Forms) -> tuple[Tensor, Tensor]:
        size = self._centre.abs() + magnitude(self._known)
        return forms.in_the_middle(self._centre.flatten(), size.flatten())

    def _safe(self, lower: Tensor) -> Tensor:
        """NaN and an overflow to +inf say nothing."""
        return torch.where(lower < math.inf, lower, -math.inf).nan_to_num(nan=-math.inf, neginf=-math.inf)
