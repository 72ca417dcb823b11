"""Rows for the inputs of curved activations and products, where they can move their lines."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from corgi.engines.patch.builder import RowBuilder
from corgi.engines.patch.cones import horizons, read_places
from corgi.engines.patch.curves import Lines
from corgi.engines.patch.intervals import cast_up, magnitude
from corgi.engines.patch.plan import Plan
from corgi.engines.patch.prepare import Maximum
from corgi.engines.patch.product import ProductPlanes
from corgi.engines.patch.state import State
from corgi.engines.rigour import unit
from corgi.network import layers
from corgi.network.convert import Step
from corgi.types import Interval

_APART = 0.001
"""Lines further apart than this share of the activation's range are worth rows for its input."""

CURVES = (layers.Sigmoid, layers.Tanh, layers.Curve, layers.Power, layers.Mul)


class CurveInputs:
    """Spends rows on the inputs of curves.

    Attributes:
        done: by output of a curve, where rows were spent: bool [B, H, W].
    """

    def __init__(self, state: State, builder: RowBuilder, plan: Plan) -> None:
        self.state, self.builder, self.plan, self.relaxation = state, builder, plan, state.relaxation
        self.done: dict[str, Tensor] = {}

    def bound(self, step: Step, todo: Tensor) -> None:
        """Spend rows on the inputs of a curved activation at [B, H', W'], where they can move its lines.

        Of a product first on the operand that has fewer units: where it is known well, the other need not be.
        """
        done = self.done.get(step.output)
        self.done[step.output] = todo if done is None else done | todo
        if not isinstance(step.layer, layers.Mul):
            self._bound_value(step, step.inputs[0], self._apart(step) & todo[:, None])
            return
        shape, known = self.relaxation.shape, self.relaxation.intervals
        operands = [self._original(name) for name in step.inputs]
        for source, copies in sorted(operands, key=lambda found: known[found[0]].lower.numel()):
            which = self._apart(step) & todo[:, None]
            for made in copies:
                read = read_places(made.layer, which.any(1), shape(made.inputs[0]))
                channels = known[made.inputs[0]].lower.shape[1]
                which = read[:, None].expand(-1, channels, -1, -1)
            self._bound_value(step, source, which)
            for made in (*reversed(copies), step):
                self.state.forward(made)

    def _original(self, value: str) -> tuple[str, list[Step]]:
        """What a value is a copy of, along channels, height or width; the copying steps, the last first."""
        copies: list[Step] = []
        while (step := self.state.steps.get(value)) is not None:
            match step.layer:
                case layers.Resample(rows=rows, columns=columns) if 1 in (rows.shape[1], columns.shape[1]):
                    pass
                case layers.Conv(weight=weight) if weight.shape[1:] == (1, 1, 1) and step.layer.groups == 1:
                    pass
                case _:
                    break
            copies.append(step)
            (value,) = step.inputs
        return value, copies

    def _bound_value(self, step: Step, source: str, which: Tensor) -> None:
        """Spend rows on units [B, C, H, W] of a value, from both sides."""
        whole = self.state.whole
        if source == self.state.graph.input_name or (whole and source in self.state.exact):
            return
        units = which.nonzero()
        if len(units) == 0:
            return
        work = 2 * len(units) * horizons(self.state.graph, source, (1, 1), self.relaxation.shape)[-1][1]
        if not self.plan.spend(step, work):
            return
        known, at = self.relaxation.intervals[source], units.unbind(1)
        one, nothing = (
            torch.ones(len(units), 1, device=units.device),
            torch.zeros(len(units), device=units.device),
        )
        # A deviation is 0 in the middle of the ball. Its row is the one of a window of one element.
        reader = replace(step, inputs=(source,))
        low, high = (
            self.builder.window_rows(reader, Maximum(), units, sign * one, nothing.to(torch.float64))
            for sign in (1, -1)
        )
        lower, upper = known.lower.clone(), known.upper.clone()
        lower[at] = torch.fmax(lower[at], -cast_up(-low, lower.dtype))
        upper[at] = torch.fmin(upper[at], cast_up(-high, upper.dtype))
        self.state.keep(source, Interval(lower, upper))

    def _apart(self, step: Step) -> Tensor:
        """Where the lines of a curved activation lie apart, by more than rounding: bool [B, C, H, W]."""
        lines, known = self.state.lines_of(step.output), self.relaxation.intervals
        if isinstance(lines, ProductPlanes):
            after, gap = known[step.output], lines.up_shift - lines.low_shift
            value = self.relaxation.centres[step.output].value.abs()
            rounding = 2**12 * (unit(torch.float64) * value + unit(self.relaxation.dtype) * magnitude(after))
            return ~(gap <= _APART * (after.upper - after.lower) + rounding)
        assert isinstance(lines, Lines)
        before, after = known[step.inputs[0]], known[step.output]
        gaps = [
            (lines.upper_slope - lines.lower_slope) * d + lines.upper_shift - lines.lower_shift
            for d in (before.lower, before.upper)
        ]
        size = 1 + self.relaxation.centres[step.inputs[0]].value.abs() + magnitude(before)
        rounding = 2**12 * unit(torch.float64) * size + 2**12 * unit(self.relaxation.dtype) * magnitude(
            before
        )
        # Written so that NaN is apart.
        return ~(torch.maximum(*gaps) <= _APART * (after.upper - after.lower) + rounding)
