"""Linear forms of a network's output over one box of inputs, whatever the network is for.

    form = constant + sum_j b_j Y_j,   Y the elements of the trunk's output,

bounded from below by intervals, then by rows of its own, or unfolded for a decider: the same rows as those
of a map (engine.py), with any coefficients and over boxes of any shape.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from corgi.engines.cone import Cone, NotUnfolded
from corgi.engines.forms import Forms
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.engine import PatchEngine
from corgi.engines.patch.gains import Gains
from corgi.engines.patch.intervals import centres, magnitude
from corgi.engines.patch.patches import Patches, distinct_places, on_host
from corgi.engines.patch.unfold import cone_of, is_piecewise_linear, too_large
from corgi.engines.rigour import plainly
from corgi.engines.whole import Whole, to_the_end
from corgi.network.convert import TorchGraph
from corgi.types import Interval

_EXTENTS = (1, 3, 6, 11, 2**31)
"""Sizes of patches that rows of similar extent share."""

_ROWS = 512
"""Rows whose first patches are made at once."""


class FormBounds(Whole):
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
        self._bounds = BallBounds(
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
        ends = []
        for end, learned, best in (
            (self._known.lower, self._lower, torch.fmax),
            (self._known.upper, self._upper, torch.fmin),
        ):
            ends.append(best((self._centre + end).flatten(), learned)[forms.element] * forms.coefficient)
        return self._safe(forms.summed(torch.minimum(*ends)) + forms.constant - self._off(forms))

    def distinct(self, forms: Forms) -> int:
        """How many rows `learn` would take."""
        return len(torch.unique(2 * forms.element + (forms.coefficient > 0)))

    @to_the_end
    @plainly
    def learn(self, forms: Forms) -> None:
        """Bound each output that forms read by a row of its own, from the side they need."""
        up = torch.unique(forms.element[forms.coefficient > 0])
        down = torch.unique(forms.element[forms.coefficient < 0])
        signs = torch.cat([torch.ones(len(up)), -torch.ones(len(down))]).to(torch.float64)
        both = torch.cat([up, down])
        found = self._by_rows(Forms(torch.arange(len(both)), both, signs, torch.zeros_like(signs)))
        self._lower[up] = torch.fmax(self._lower[up], found[: len(up)])
        self._upper[down] = torch.fmin(self._upper[down], -found[len(up) :])

    @to_the_end
    @plainly
    def by_rows(self, forms: Forms) -> Tensor:
        """Lower bounds by one row a form, float64 [R]."""
        return self._by_rows(forms)

    def _by_rows(self, forms: Forms) -> Tensor:
        lower, at_centre = self._by_intervals(forms), self._at_centre(forms)
        extent, name = self._extent(forms), self._graph.output_name
        for small, large in itertools.pairwise((0, *_EXTENTS)):
            of_size = ((extent > small) & (extent <= large)).nonzero().reshape(-1)
            for chosen in torch.split(of_size, _ROWS) if len(of_size) else ():
                rows, where = self._patches(forms.chosen(chosen))
                self._bounds.require(name, where)
                found = self._bounds.lower_rows(name, rows, at_centre[chosen])
                lower[chosen] = torch.fmax(lower[chosen], found)
        return self._safe(lower)

    @property
    def unfolds(self) -> bool:
        """Whether all activations are maxima."""
        return is_piecewise_linear(self._graph)

    @to_the_end
    @plainly
    def unfolded(self, forms: Forms) -> Cone | NotUnfolded:
        """Forms as piecewise linear functions of their cone, if that fits the budget."""
        if not self.unfolds:
            return NotUnfolded("an activation is not piecewise linear")
        rows, where = self._patches(forms)
        name = self._graph.output_name
        self._bounds.require(name, where)
        large = too_large(self._bounds, name, rows, self._engine.budget)
        return large or cone_of(self._bounds, name, rows, self._at_centre(forms), 2 * self._off(forms))

    def _at_centre(self, forms: Forms) -> Tensor:
        """The forms at the output's centre, rounded down by all that floats may do to them."""
        terms = forms.coefficient * self._centre.flatten()[forms.element]
        return forms.summed(terms) + forms.constant - self._off(forms)

    def _off(self, forms: Forms) -> Tensor:
        """What rounding may change: of coefficients on the whole output, of products and their sum."""
        size = self._centre.abs() + magnitude(self._known)
        amounts = forms.summed(forms.coefficient.abs() * size.flatten()[forms.element]) + forms.constant.abs()
        terms = forms.summed(torch.ones_like(forms.coefficient))
        return (terms + 16) * 2.0**-52 * amounts

    def _safe(self, lower: Tensor) -> Tensor:
        """NaN and an overflow to +inf say nothing."""
        return torch.where(lower < math.inf, lower, -math.inf).nan_to_num(nan=-math.inf, neginf=-math.inf)

    def _extent(self, forms: Forms) -> Tensor:
        """The longer side of the patch each form needs; 1 for a form of no output."""
        (top, left), (bottom, right) = self._corners(forms)
        return torch.maximum(bottom - top, right - left) + 1

    def _corners(self, forms: Forms) -> Sequence[tuple[Tensor, Tensor]]:
        """First and last row and column of each form."""
        _, height, width = self._shape
        y, x = forms.element % (height * width) // width, forms.element % width
        ends = []
        for reduction in ("amin", "amax"):
            nothing = torch.zeros(len(forms), dtype=torch.int64)
            ends.append(
                tuple(
                    nothing.scatter_reduce(0, forms.row, at, reduction, include_self=False) for at in (y, x)
                )
            )
        return ends  # type: ignore[return-value]

    def _patches(self, forms: Forms) -> tuple[Patches, Tensor]:
        """The forms as rows on the output, on patches of one size; and the places they read, [1, H, W]."""
        channels, height, width = self._shape
        (top, left), (bottom, right) = self._corners(forms)
        high, wide = int((bottom - top).max()) + 1, int((right - left).max()) + 1
        channel = forms.element // (height * width)
        y, x = forms.element % (height * width) // width, forms.element % width
        values = torch.zeros(len(forms), channels, high, wide, dtype=torch.float64)
        at = (forms.row, channel, y - top[forms.row], x - left[forms.row])
        values.index_put_(at, forms.coefficient, accumulate=True)
        where = torch.zeros(1, height, width, dtype=torch.bool)
        where[0, y, x] = True
        places = distinct_places(*map(on_host, (torch.zeros_like(top), top, left)))
        return Patches(values, *places, clean=False), where
