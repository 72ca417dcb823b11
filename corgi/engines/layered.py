"""Margins over one box as linear layers and ReLUs: what is branched on where a cone is too large.

With d the deviations of every value from its centre (what float64 computes in the middle of the box), z the
input of a ReLU and y its output, margins are rows on the network's output,

    margin_p = constant_p + rows_p . d_output,

and carried backwards through the layers they stay lower bounds on the image (CROWN, Zhang et al. 2018) for
ANY choice of alpha in [0, 1] and beta >= 0:

    y >= alpha z            y <= s z + t   for lower <= z <= upper, s in [0, 1], t >= -s lower, (1 - s) upper
    y = z, where z >= 0     y = 0, where z <= 0,

where a part of the box is meant, that on which the sign of some units is as given: there - beta z (for
z >= 0) or + beta z (for z <= 0) may be added to a row, for it only lowers it (beta-CROWN, Wang et al. 2021).

Rounding. As in engines/patch/backward.py: at every step the bound is  a . d + total - error  for the computed
a and total, whatever they are. A step that computes new coefficients adds what their rounding can change on
deviations, |d| <= size, and what float64 got wrong in the centre behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.budget import check
from corgi.engines.rigour import FOLDING, SPARE, gamma, roundings, smallest, unit
from corgi.network import layers
from corgi.network.convert import Step
from corgi.types import Interval

SERVED = (layers.Conv, layers.Affine, layers.Resample, layers.Add, layers.Sub, layers.Concat, layers.Relu)
"""Layers there is a rule for."""

POINTWISE = (layers.Affine, layers.Add, layers.Sub, layers.Concat, layers.Relu)
"""Those an input of which is read by one output each."""


@dataclass(frozen=True)
class Rectifier:
    """One ReLU, its n units flattened, float64 [n] each.

    Attributes:
        start: number of its first unit.
        centre: z in the middle of the box.
        lower, upper: z over the box.
        sign: int8, 1 where z >= 0 on the whole box, -1 where z <= 0, 0 where neither is known.
    """

    start: int
    centre: Tensor
    lower: Tensor
    upper: Tensor
    sign: Tensor

    def __len__(self) -> int:
        return len(self.centre)

    @property
    def stop(self) -> int:
        """Number after that of its last unit."""
        return self.start + len(self)

    @cached_property
    def open(self) -> Tensor:
        """The units whose sign is not known, int64."""
        return (self.sign == 0).nonzero().reshape(-1)

    @cached_property
    def chord(self) -> tuple[Tensor, Tensor]:
        """Slope s and shift t of the upper line of every unit, t rounded up; for those whose sign is open."""
        width = self.upper - self.lower
        slope = (self.upper / width).clamp(0, 1).nan_to_num(nan=1.0)
        low, high = self.lower.clamp(max=0), self.upper.clamp(min=0)
        shift = torch.maximum(-slope * low, (1 - slope) * high)
        return slope, shift + roundings(8) * shift.abs() + smallest(torch.float64)

    def narrowed(self, lower: Tensor, upper: Tensor) -> Rectifier:
        """The same, with other bounds of z [n] that hold, too; NaN says nothing."""
        lower, upper = torch.fmax(self.lower, lower), torch.fmin(self.upper, upper)
        sign = self.sign.clone()
        sign[(sign == 0) & (lower >= 0)] = 1
        sign[(sign == 0) & (upper <= 0)] = -1
        return replace(self, lower=lower, upper=upper, sign=sign)


@dataclass(frozen=True)
class NotLayered:
    """Why margins cannot be written so.

    Attributes:
        reason: for people.
    """

    reason: str


@dataclass(frozen=True)
class Layered:
    """P margins over one box.

    Attributes:
        steps: float64, of the layers in `SERVED`.
        input, output: names of the values.
        shapes: [C, H, W] of every value.
        sizes: the largest deviation by channel of every value, float64 [C].
        errors: by how much centres may be off by channel (see `Centre.error`), of what steps compute: [C].
        box: deviations of the image, each [C, H, W].
        middle: the image in the middle of the box, [C, H, W]; end: the output there, [C, H, W].
        rectifiers: by the name of their output, in the order of the steps.
        rows: coefficients of the margins on the output, [P, C, H, W].
        constant: the margins in the middle, rounded down by their errors, [P].
    """

    steps: tuple[Step, ...]
    input: str
    output: str
    shapes: Mapping[str, tuple[int, int, int]]
    sizes: Mapping[str, Tensor]
    errors: Mapping[str, Tensor]
    box: Interval
    middle: Tensor
    end: Tensor
    rectifiers: Mapping[str, Rectifier]
    rows: Tensor
    constant: Tensor

    @property
    def units(self) -> int:
        """Number of units of all ReLUs."""
        return sum(len(rectifier) for rectifier in self.rectifiers.values())

    @cached_property
    def open(self) -> Tensor:
        """The units whose sign is not known over the box, numbers: int64 [U]."""
        parts = [rectifier.start + rectifier.open for rectifier in self.rectifiers.values()]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)

    @property
    def undecided(self) -> int:
        """Number of units whose sign is not known."""
        return len(self.open)

    @cached_property
    def allowed(self) -> dict[str, Tensor]:
        """What a coefficient of 1 on each channel of a value may lose by rounding, in sums and behind it."""
        readers: dict[str, int] = {self.input: 1, self.output: 1}
        for step in self.steps:
            for name in step.inputs:
                readers[name] = readers.get(name, 0) + 1
        found = {self.input: roundings(2 * readers[self.input] + 2) * self.sizes[self.input]}
        for step in self.steps:
            name = step.output
            found[name] = roundings(2 * readers.get(name, 0) + 2) * self.sizes[name] + self._made(step)
        return found

    def _made(self, step: Step) -> Tensor:
        """The same of the step that makes a value alone."""
        error = self.errors[step.output]
        (first, *_) = step.inputs
        size = self.sizes[first]
        match step.layer:
            case layers.Conv() as conv:
                _, height, width = self.shapes[step.output]
                kernel = conv.weight.shape[2:]
                terms = conv.weight.shape[0] // conv.groups * min(kernel[0], height) * min(kernel[1], width)
                taps = conv.weight.abs().sum((2, 3)).reshape(conv.groups, -1, conv.weight.shape[1])
                amounts = torch.einsum("goi,gi->go", taps, size.reshape(conv.groups, -1)).reshape(-1)
                return SPARE * gamma(terms + FOLDING, torch.float64) * amounts + error
            case layers.Resample() as map:
                terms = sum(map.rows.shape) + sum(map.columns.shape) + 2 * FOLDING + 2
                sums = (float(m.abs().sum(1).max()) for m in (map.rows, map.columns))
                most = SPARE * max(1.0, next(sums)) * max(1.0, next(sums))
                return gamma(terms, torch.float64) * most * size + error
            case layers.Affine() as affine:
                scale = affine.scale.broadcast_to(self.shapes[step.output]).abs().amax((1, 2))
                return (FOLDING + 2) * unit(torch.float64) * SPARE * scale * size + error
            case layers.Relu():
                # A coefficient is multiplied by a slope of at most 1, and a multiplier is taken from it.
                return roundings(16) * size
        return error

    @cached_property
    def underflow(self) -> float:
        """What products lose by underflow in a row, whatever its coefficients.

        A coefficient on an input of a step is the sum of so many products at most, each of which loses less
        than the smallest normal number; constants are 2^20 at most in each of fewer than 2^20 sums.
        """
        total = 2.0**40
        for step in self.steps:
            terms = 4 if isinstance(step.layer, POINTWISE) else 4 * math.prod(self.shapes[step.output])
            for name in step.inputs:
                total += terms * math.prod(self.shapes[name]) * float(self.sizes[name].max())
        return total * smallest(torch.float64)

    def asking(self, which: Tensor) -> Layered:
        """Some of the margins, int64."""
        return replace(self, rows=self.rows[which], constant=self.constant[which])

    def margins(self, deviations: Tensor) -> Tensor:
        """The margins at points [N, C, H, W] by plain float64, so up to rounding: [N, P]."""
        values = {self.input: self.middle + deviations}
        for step in self.steps:
            values[step.output] = step.layer(*(values[name] for name in step.inputs))
        return self.constant + (values[self.output] - self.end).flatten(1) @ self.rows.flatten(1).T


@dataclass(frozen=True)
class Slopes:
    """What R rows are bounded with; the columns are the units of `Layered.open`, U of them.

    Attributes:
        alpha: slopes of lower lines; clipped to [0, 1] where they are used, NaN is 0.
        beta: multipliers of given signs; negative ones and NaN are 0, and those of units without a sign.
        sign: int8, 1 and -1 where a sign is given, else 0.
    """

    alpha: Tensor
    beta: Tensor
    sign: Tensor


@dataclass(frozen=True)
class Swept:
    """Of R rows.

    Attributes:
        lower: lower bounds, [R]; rounding is set aside only if that was asked for.
        image: what is left of them on the image, [R, C, H, W].
        read: their coefficients on the outputs of open units, [R, U], if that was asked for.
    """

    lower: Tensor
    image: Tensor
    read: Tensor | None


class Sweep:
    """Carries rows backwards through the layers of a problem, all of every value at once.

    Args:
        problem: the layers and what is known of them.
        dtype: float64; float32 only guides.
    """

    def __init__(self, problem: Layered, dtype: torch.dtype = torch.float64) -> None:
        self.problem, self.dtype = problem, dtype
        self._constants: dict[str, tuple[Tensor, ...]] = {}
        self._weights = {
            step.output: step.layer.weight.to(dtype)
            for step in problem.steps
            if isinstance(step.layer, layers.Conv)
        }
        self._box = tuple(end.to(dtype).flatten() for end in (problem.box.lower, problem.box.upper))
        self._columns: dict[str, slice] = {}
        start = 0
        for name, rectifier in problem.rectifiers.items():
            self._columns[name] = slice(start, start + len(rectifier.open))
            start += len(rectifier.open)

    def columns(self, name: str) -> slice:
        """The columns of `Slopes` that belong to a ReLU, by the name of its output."""
        return self._columns[name]

    def run(
        self,
        start: Mapping[str, Tensor],
        constant: Tensor,
        slopes: Slopes,
        *,
        rigorous: bool,
        reading: bool = False,
    ) -> Swept:
        """Lower bounds of R rows.

        Args:
            start: coefficients on values, [R, C, H, W] each.
            constant: the rows in the middle of the box, at most, [R].
            slopes: the columns of ReLUs behind the values are not looked at.
            rigorous: whether rounding is set aside; only then a bound is one. In float64.
            reading: whether `Swept.read` is wanted.
        """
        assert not rigorous or self.dtype is torch.float64
        pending, total = dict(start), constant
        error = torch.zeros_like(constant)
        read = torch.zeros_like(slopes.alpha) if reading else None
        for step in reversed(self.problem.steps):
            if step.output not in pending:
                continue
            check()
            a = pending.pop(step.output)
            if rigorous:
                error = error + self._amount(a, step.output)
            if isinstance(step.layer, layers.Relu):
                if read is not None:
                    read[:, self._columns[step.output]] = a.flatten(1)[:, self._constant(step.output)[0]]
                a, added, lost = self._relu(step, a, slopes, rigorous)
                total = total + added
                error = error + lost + roundings(2) * total.abs() if rigorous else error
            for name, part in zip(step.inputs, self._through(step, a), strict=True):
                if name not in pending:
                    pending[name] = part
                    continue
                pending[name] = pending[name] + part
                if rigorous:
                    # Paid for at every reader: later ones may cancel what is rounded here.
                    lost = SPARE * roundings(2) * pending[name].abs().sum((2, 3))
                    error = error + lost @ self.problem.sizes[name]
        nothing = total.new_zeros(len(total), *self.problem.shapes[self.problem.input])
        a = pending.pop(self.problem.input, nothing)
        flat, (low, high) = a.flatten(1), self._box
        least = flat.clamp(min=0) @ low + flat.clamp(max=0) @ high
        if not rigorous:
            return Swept(total + least, a, read)
        size = torch.maximum(low.abs(), high.abs())
        amounts = flat.abs() @ size
        error = error + self._amount(a, self.problem.input) + gamma(2 * len(size) + 8, self.dtype) * amounts
        error = error + self.problem.underflow
        found = total + least
        lower = found - SPARE * error - roundings(16) * (found.abs() + total.abs() + least.abs())
        # NaN and an overflow to +inf say nothing.
        lower = torch.where(lower < torch.inf, lower, -torch.inf)
        return Swept(lower, a, read)

    def _amount(self, a: Tensor, value: str) -> Tensor:
        """What rounding may change at a value, [R]: sum |a| times what is allowed for its channel."""
        return SPARE * (a.abs().sum((2, 3)) @ self.problem.allowed[value])

    def _constant(self, name: str) -> tuple[Tensor, ...]:
        """Of a ReLU, in working precision: open units, base slopes, p, q, their chords; see `_relu`."""
        if name not in self._constants:
            known = self.problem.rectifiers[name]
            base = (known.sign > 0).to(self.dtype)
            output = known.centre.clamp(min=0)
            p = torch.where(known.sign == 0, known.centre, known.centre.clamp(max=0))
            q = torch.where(known.sign > 0, 0.0, output)
            slope, shift = (v[known.open].to(self.dtype) for v in known.chord)
            self._constants[name] = known.open, base, p.to(self.dtype), q.to(self.dtype), slope, shift
        return self._constants[name]

    def _relu(self, step: Step, a: Tensor, slopes: Slopes, rigorous: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Rows on the output of a ReLU as rows on its input; what that adds, and what rounding may change.

        With c the centre of z, a line y <= s z + t or y >= s z is d_y <= s d_z + (s c + t - relu(c)). So a
        new coefficient b adds b c - a relu(c), and a t where the upper line is taken; a multiplier beta of a
        sign adds its - sign beta (c + d_z) by being in b. A unit that is positive on the whole box adds
        b (c - relu(c)), which is 0 but for rounding, and one that is negative - a relu(c).
        """
        shape = a.shape
        a = a.flatten(1)
        open_ones, base, p, q, up, shift = self._constant(step.output)
        columns = self._columns[step.output]
        sign = slopes.sign[:, columns].to(self.dtype)
        alpha = slopes.alpha[:, columns].to(self.dtype).nan_to_num(nan=0.0).clamp(0, 1)
        beta = slopes.beta[:, columns].to(self.dtype).nan_to_num(nan=0.0, posinf=0.0).clamp(min=0)
        free = sign == 0
        mine = a[:, open_ones]
        positive, negative = mine.clamp(min=0), mine.clamp(max=0)
        given = mine * sign.clamp(min=0) - beta * sign
        b_open = torch.where(free, positive * alpha + negative * up, given)
        shifts = torch.where(free, negative * shift, 0.0)
        b = (a * base).index_copy(1, open_ones, b_open)
        added = b @ p - a @ q + shifts.sum(1)
        lost = torch.zeros_like(added)
        if rigorous:
            terms = b.abs() @ p.abs() + a.abs() @ q.abs() - shifts.sum(1)
            lost = SPARE * gamma(2 * len(p) + 16, self.dtype) * terms
            # The rounding of b concerns the multipliers, too, on which `_amount` at this value says nothing.
            sizes = self.problem.rectifiers[step.output]
            reach = torch.maximum(sizes.upper.abs(), sizes.lower.abs())[open_ones] + 2 * p[open_ones].abs()
            reach = torch.where(torch.isfinite(reach), reach, torch.inf)
            used = torch.where(free, 0.0, beta)
            lost = lost + roundings(16) * torch.where(used > 0, used * reach, 0.0).sum(1)
        return b.reshape(shape), added, lost

    def _through(self, step: Step, a: Tensor) -> list[Tensor]:
        """Rows on a step's output as rows on its inputs, [R, C, H, W] each."""
        match step.layer:
            case layers.Conv() as conv:
                return [self._conv(step, conv, a)]
            case layers.Affine() as affine:
                return [a * affine.scale.to(self.dtype)]
            case layers.Resample() as map:
                return [map.rows.to(self.dtype).T @ a @ map.columns.to(self.dtype)]
            case layers.Add():
                return [a, a]
            case layers.Sub():
                return [a, -a]
            case layers.Concat():
                return list(torch.split(a, [self.problem.shapes[name][0] for name in step.inputs], 1))
            case layers.Relu():
                return [a]
        raise TypeError(f"no rule for {type(step.layer).__name__}")

    def _conv(self, step: Step, conv: layers.Conv, a: Tensor) -> Tensor:
        weight, shape = self._weights[step.output], self.problem.shapes[step.inputs[0]]
        whole = tuple(weight.shape[1:]) == shape and tuple(a.shape[2:]) == (1, 1) and conv.padding == (0, 0)
        if whole and conv.groups == 1 and conv.dilation == (1, 1):
            return (a.flatten(1) @ weight.flatten(1)).reshape(-1, *shape)
        ends = [
            (size - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1
            for size, stride, pad, dilation, kernel in zip(
                a.shape[2:], conv.stride, conv.padding, conv.dilation, weight.shape[2:], strict=True
            )
        ]
        rest = [have - end for have, end in zip(shape[1:], ends, strict=True)]
        return F.conv_transpose2d(
            a, weight, None, conv.stride, conv.padding, rest, conv.groups, conv.dilation
        )
