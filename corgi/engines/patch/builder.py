"""Rows on the windows of Maxima: sums and differences of their elements, bounded over the balls."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.patch.backward import BackwardPass, TwoSidedPass
from corgi.engines.patch.cones import cone_sizes
from corgi.engines.patch.patches import Patches, distinct_places, kernels_of, on_host
from corgi.engines.patch.plan import Plan
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.state import State
from corgi.engines.rigour import FOLDING, SPARE, gamma, roundings
from corgi.network import layers
from corgi.network.convert import Step


class RowBuilder:
    """Makes rows, as many at a time as a budget of bytes allows, and bounds them.

    Attributes:
        state: what is known; plan: where rows on windows end.
        budget: bytes a backward pass may use for its patches.
        count: rows bounded so far; largest_error: set aside for rounding in one on the network's output.
    """

    def __init__(self, state: State, plan: Plan, budget: int, *, largest_error: float = 0.0) -> None:
        self.state, self.plan, self.budget, self.relaxation = state, plan, budget, state.relaxation
        self.count, self.largest_error = 0, largest_error

    def lower(
        self,
        value: str,
        rows: Patches,
        at_centre: Tensor,
        enough: float | None = None,
        until: str | None = None,
        rival: Tensor | None = None,
    ) -> Tensor:
        """Lower bounds of rows on a value, float64 [R].

        Args:
            value: what the rows read.
            rows: their coefficients.
            at_centre: a float64 lower bound of each row at the value's centre.
            enough: a row may be given up once it is known to be at least that large.
            until: see `BackwardPass.run`.
            rival: bool [R], rows that take the rivals of planes.
        """
        parts = [torch.zeros_like(at_centre[:0])]
        for some, chunk in self._chunks(value, rows, until):
            total, those = at_centre[some], None if rival is None else rival[some]
            backward = BackwardPass(self.relaxation, total, torch.zeros_like(total), rival=those)
            parts.append(backward.run({value: chunk}, enough, until))
            if value == self.state.graph.output_name and len(backward.error):
                self.largest_error = max(self.largest_error, float(backward.error.detach().max()))
        return torch.cat(parts)

    def _chunks(self, value: str, rows: Patches, until: str | None) -> Iterator[tuple[slice, Patches]]:
        """Rows, as many at a time as the budget allows."""
        count = len(rows.place)
        self.count += count
        size = max(1, int(self.budget / self.bytes_a_row(value, rows, until)))
        for start in range(0, count, size):
            some = slice(start, min(start + size, count))
            yield some, rows if size >= count else rows.chosen(some)

    def bytes_a_row(self, value: str, patches: Patches, until: str | None = None) -> float:
        """Memory of one row: its largest patch, eight times over (windows, products, convolutions)."""
        sizes = cone_sizes(self.state.graph, value, patches.size, self.relaxation.shape)
        if until is not None:
            names = [self.state.graph.input_name, *self.state.steps]
            met = names[names.index(until) : names.index(value) + 1]
            sizes = {name: size for name, size in sizes.items() if name in met}
        units = (self.relaxation.channels(name) * h * w for name, (h, w) in sizes.items())
        return 8.0 * max(units) * patches.values.element_size()

    def difference_rows(
        self,
        step: Step,
        units: Tensor,
        first: Tensor,
        second: Tensor,
        enough: float | None = None,
        rival: Tensor | None = None,
    ) -> Tensor:
        """Lower bounds of x_first - x_second, elements [R] of windows [R, 4], over the ball: float64 [R].

        `rival`: bool [R], rows that take the rivals of planes.
        """
        layer = step.layer
        assert isinstance(layer, Maximum)
        if len(units) == 0:
            return torch.zeros(0, dtype=torch.float64, device=units.device)
        signs = torch.zeros(len(units), layer.elements + 1, dtype=torch.float64, device=units.device)
        rows = torch.arange(len(units), device=units.device)
        signs[rows, first] += 1
        signs[rows, second] -= 1
        lead = self.state.windows[step.output].lead[units.unbind(1)]
        at_centre = lead[rows, first] - lead[rows, second]
        # Three roundings: both leads and their difference; centres themselves were rounded, too, but not
        # here.
        at_centre = at_centre - roundings(4) * (lead[rows, first].abs() + lead[rows, second].abs())
        return self.window_rows(step, layer, units, signs[:, 1:], at_centre, enough, rival)

    def window_rows(
        self,
        step: Step,
        layer: Maximum,
        units: Tensor,
        weights: Tensor,
        at_centre: Tensor,
        enough: float | None = None,
        rival: Tensor | None = None,
    ) -> Tensor:
        """Lower bounds of sum_e weights_e x_e over windows [R, 4], weights [R, elements]: float64 [R].

        The patches they begin with are made for as many at a time as the budget allows.
        """
        size, until = self._at_once(step, layer), self.plan.until.get(step.output)
        found = [torch.zeros_like(at_centre[:0])]
        for start in range(0, len(units), size):
            some = slice(start, start + size)
            name, rows, error = self.window_patches(step, layer, units[some], weights[some])
            those = None if rival is None else rival[some]
            found.append(self.lower(name, rows, at_centre[some] - error, enough, until, those))
        return torch.cat(found)

    def two_sided_rows(
        self, step: Step, layer: Maximum, units: Tensor, element: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Bounds of elements [R] of windows [R, 4] from both sides, and what both are off by: float64 [R]."""
        parts = [torch.zeros(3, 0, dtype=torch.float64, device=units.device)]
        size, until = self._at_once(step, layer), self.plan.until.get(step.output)
        for start in range(0, len(units), size):
            some = slice(start, start + size)
            weights = F.one_hot(element[some], layer.elements).to(torch.float64)
            name, rows, error = self.window_patches(step, layer, units[some], weights)
            for part, chunk in self._chunks(name, rows, until):
                nothing = torch.zeros_like(error[part])
                lower, upper = TwoSidedPass(self.relaxation, nothing, nothing).both({name: chunk}, until)
                parts.append(torch.stack([lower, upper, error[part]]))
        lower, upper, error = torch.cat(parts, 1)
        return lower, upper, error

    def _at_once(self, step: Step, layer: Maximum) -> int:
        """How many rows on windows may begin at once, for the memory of their patches."""
        source = self.relaxation.intervals[step.inputs[0]].lower
        producer, entries = self.state.steps.get(step.inputs[0]), source.shape[1] * layer.elements
        if producer is not None and isinstance(producer.layer, layers.Conv):
            entries = producer.layer.weight[0].numel() * layer.elements
        return max(1, self.budget // (2 * entries * source.element_size()))

    def window_patches(
        self, step: Step, layer: Maximum, units: Tensor, weights: Tensor
    ) -> tuple[str, Patches, Tensor]:
        """Rows sum_e weights_e x_e as patches on an earlier value: its name, the rows, their error [R]."""
        source, dtype = step.inputs[0], self.relaxation.dtype
        ball, channel, y, x = units.unbind(1)
        top, left = y * layer.stride[0] - layer.pads[0], x * layer.stride[1] - layer.pads[1]
        places, place = distinct_places(*map(on_host, (ball, top, left)))
        producer = self.state.steps.get(source)
        weights = weights.to(dtype)
        if producer is not None and isinstance(producer.layer, layers.Conv):
            rows = Patches(weights, places, place)
            return self._conv_patches(producer, producer.layer, layer, channel, rows)
        channels = self.relaxation.channels(source)
        values = torch.zeros(len(units), channels, *layer.reach, dtype=dtype, device=units.device)
        at = torch.arange(len(units), device=units.device)
        for e, (down, right) in enumerate(layer.offsets):
            values[at, channel, down, right] = weights[:, e]
        return source, Patches(values, places, place), torch.zeros_like(weights[:, 0], dtype=torch.float64)

    def _conv_patches(
        self, producer: Step, conv: layers.Conv, layer: Maximum, channel: Tensor, rows: Patches
    ) -> tuple[str, Patches, Tensor]:
        """The same on the input of the convolution that makes the elements: its kernel, element by element.

        `rows.values`: [R, elements]. Rounding as in `BackwardPass._conv`, with one product an element.
        """
        (source,) = producer.inputs
        kernel = kernels_of(conv, channel)
        (sy, sx), (kh, kw) = conv.stride, kernel.shape[2:]
        weights = rows.values
        high, wide = (layer.reach[0] - 1) * sy + kh, (layer.reach[1] - 1) * sx + kw
        values = kernel.new_zeros(len(kernel), kernel.shape[1], high, wide)
        for e, (down, right) in enumerate(layer.offsets):
            here = values[:, :, down * sy : down * sy + kh, right * sx : right * sx + kw]
            here += weights[:, e, None, None, None] * kernel
        share = gamma(layer.elements + FOLDING, values.dtype)
        size = (
            share * self.relaxation.weighted(producer.output, conv, self.relaxation.sizes[source])
            + self.relaxation.centres[producer.output].error
        )
        error = weights.abs().sum(1) * size[rows.ball, channel] * SPARE
        patches = Patches(values, rows.places.read(conv.stride, conv.padding), rows.place, clean=False)
        return source, patches.on(self.relaxation.shape(source)), error.to(torch.float64)
