"""Recognise activations that exporters write as several nodes.

requires: a converted network (typed layers).
ensures: the same function with the file's own constants; every value that is left has the name it had. The
cases, numbered as in the code, for values that are constants times a common x (so all associations of the
constants are one case, as long as they are few):
  1. x * sigmoid(beta x): Silu (Swish, QuickGELU);
  2. x * (1 + erf(scale x)): Gelu;
  3. x * clip(alpha x + beta, 0, high) or x * hard_sigmoid(...): HardSwish;
  4. a constant times one of these: its factor;
  5. sums and differences of x, relu(x), relu(-x), min(x, 0) with slope 1 above 0, 0 to 1 below: PRelu. Both
     slopes are computed exactly, or it is none;
  6. x * (1 + tanh(a x + b x^3)): TanhGelu.
Everything else stays what it was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from corgi.network import layers
from corgi.network.convert import Converted, Step
from corgi.network.expansion import two_product, two_sum


def recognise_activations(found: Converted) -> Converted:
    """The same network with activations as layers of their own."""
    readers = Counter(name for step in found.module.steps for name in step.inputs)
    readers[found.module.output_name] += 1
    recogniser = _Recogniser(found.shapes, readers)
    return found.with_steps(recogniser.read(step) for step in found.module.steps)


_MOST_CONSTANTS = 2
"""Constants in a row that are read as one: engines allow for 12 roundings of what they are multiplied to."""


@dataclass(frozen=True)
class _Multiple:
    """What a value is of an earlier one: scale * value + shift; `exact`: nothing of the scale was rounded."""

    value: str
    scale: Tensor
    shift: Tensor
    exact: bool = True

    @property
    def numbers(self) -> tuple[float, float] | None:
        """Scale and shift if they are one number each."""
        scale, shift = self.scale.flatten(), self.shift.flatten()
        if not (bool((scale == scale[0]).all()) and bool((shift == shift[0]).all())):
            return None
        return float(scale[0]), float(shift[0])


@dataclass(frozen=True)
class _Piece:
    """A function of x that is linear on each side of 0: its slopes there."""

    above: Tensor
    below: Tensor
    bent: bool


class _Recogniser:
    """The steps read so far, by what they return."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], readers: Mapping[str, int]) -> None:
        self.shapes, self.readers = shapes, readers
        self.steps: dict[str, Step] = {}
        self.unscaled: set[str] = set()

    def read(self, step: Step) -> Step:
        """The step, or the activation it completes."""
        found: tuple[nn.Module, str] | None = None
        match step.layer:
            case layers.Mul():
                found = self.gated(*step.inputs) or self.gated(*reversed(step.inputs))
                if found is not None:
                    self.unscaled.add(step.output)
            case layers.Affine():
                found = self.scaled(step, step.layer)
            case layers.Add() | layers.Sub() if len(step.inputs) == 2:
                found = self.bent(step)
        if found is not None and self.shapes[found[1]] == self.shapes[step.output]:
            step = replace(step, layer=found[0], inputs=(found[1],))
        self.steps[step.output] = step
        return step

    def gated(self, value: str, gate: str) -> tuple[nn.Module, str] | None:
        """Cases 1 to 3: value * gate, value a multiple of x and gate a function of a multiple of x."""
        outer = self.multiples(gate)[-1]
        step, numbers = self.steps.get(outer.value), outer.numbers
        if step is None or numbers is None:
            return None
        if isinstance(step.layer, layers.Tanh):
            return self.tanh_gated(value, step.inputs[0], *numbers)
        for x, factor, scale, shift in self.common(value, step.inputs[0]):
            layer = _gated(step.layer, factor, scale, shift, *numbers)
            if layer is not None:
                return layer, x
        return None

    def tanh_gated(
        self, value: str, argument: str, times: float, plus: float
    ) -> tuple[nn.Module, str] | None:
        """Case 6: value * (times * tanh(argument) + plus), the argument a polynomial of x."""
        polynomials = self.polynomials(argument)
        for multiple in self.multiples(value):
            numbers, powers = multiple.numbers, polynomials.get(multiple.value)
            if numbers is None or powers is None or numbers[1] != 0 or plus != times:
                continue
            factor, linear, cubic = numbers[0] * times, powers.get(1, 0.0), powers.get(3, 0.0)
            if powers.keys() == {1, 3} and linear > 0 and cubic > 0 and _usable(factor, linear, cubic):
                return layers.TanhGelu(linear, cubic, factor), multiple.value
        return None

    def polynomials(self, value: str, depth: int = 4) -> dict[str, dict[int, float]]:
        """A value as a polynomial of earlier ones: coefficients by power, each of products alone."""
        multiples = self.multiples(value)
        found = {m.value: {1: m.numbers[0]} for m in multiples if m.numbers is not None and m.numbers[1] == 0}
        outer = multiples[-1]
        step, numbers = self.steps.get(outer.value), outer.numbers
        if step is None or numbers is None or numbers[1] != 0 or depth == 0:
            return found
        inputs = [self.polynomials(name, depth - 1) for name in step.inputs]
        for x in set.intersection(*map(set, inputs)):
            powers = _combined(step.layer, [known[x] for known in inputs])
            if powers is not None:
                found.setdefault(x, {n: numbers[0] * c for n, c in powers.items()})
        return found

    def common(self, value: str, argument: str) -> list[tuple[str, float, float, float]]:
        """Values x, the nearest first, with value = factor * x and argument = scale * x + shift."""
        found = []
        arguments = {m.value: m.numbers for m in self.multiples(argument)}
        for multiple in self.multiples(value):
            numbers, other = multiple.numbers, arguments.get(multiple.value)
            if numbers is not None and other is not None and numbers[1] == 0:
                found.append((multiple.value, numbers[0], *other))
        return found

    def scaled(self, step: Step, affine: layers.Affine) -> tuple[nn.Module, str] | None:
        """Case 4."""
        name = step.inputs[0]
        if name not in self.unscaled or self.readers[name] != 1:
            return None
        source = self.steps[name]
        numbers = _Multiple("", affine.scale, affine.shift).numbers
        if numbers is None or numbers[1] != 0 or not _usable(numbers[0]):
            return None
        factor = numbers[0]
        match source.layer:
            case layers.Silu(beta=beta):
                return layers.Silu(beta, factor * source.layer.factor), source.inputs[0]
            case layers.Gelu(scale=scale):
                return layers.Gelu(scale, factor * source.layer.factor), source.inputs[0]
            case layers.HardSwish(alpha=alpha, beta=beta):
                return layers.HardSwish(alpha, beta, factor * source.layer.factor), source.inputs[0]
            case layers.TanhGelu(linear=linear, cubic=cubic):
                return layers.TanhGelu(linear, cubic, factor * source.layer.factor), source.inputs[0]
        return None

    def bent(self, step: Step) -> tuple[nn.Module, str] | None:
        """Case 5."""
        first, second = (self.pieces(name) for name in step.inputs)
        sign = -1 if isinstance(step.layer, layers.Sub) else 1
        for x, piece in first.items():
            other = second.get(x)
            if other is None or not (piece.bent or other.bent):
                continue
            above, above_lost = two_sum(piece.above, sign * other.above)
            below, below_lost = two_sum(piece.below, sign * other.below)
            if bool(above_lost.any()) or bool(below_lost.any()):
                continue
            if bool((above == 1).all()) and bool(((below >= 0) & (below <= 1)).all()):
                return layers.PRelu(below), x
        return None

    def pieces(self, value: str) -> dict[str, _Piece]:
        """A value as a function of each earlier x of which it is a multiple, or a multiple of a relu."""
        found: dict[str, _Piece] = {}
        multiples = [m for m in self.multiples(value) if m.exact and not bool(m.shift.any())]
        for m in multiples:
            found[m.value] = _Piece(m.scale, m.scale, bent=False)
        step = self.steps.get(multiples[-1].value)
        if step is None or not isinstance(step.layer, layers.Relu | layers.Clip):
            return found
        if isinstance(step.layer, layers.Clip) and (step.layer.low, step.layer.high) != (-math.inf, 0):
            return found
        outer = multiples[-1].scale
        for m in self.multiples(step.inputs[0]):
            if bool(m.shift.any()) or not m.exact:
                continue
            # relu(s x) is max(s, 0) x above 0 and min(s, 0) x below; min(s x, 0) is the other way round.
            above, below = m.scale.clamp(min=0), m.scale.clamp(max=0)
            if isinstance(step.layer, layers.Clip):
                above, below = below, above
            (above, above_lost), (below, below_lost) = two_product(outer, above), two_product(outer, below)
            if not (bool(above_lost.any()) or bool(below_lost.any())):
                found.setdefault(m.value, _Piece(above, below, bent=True))
        return found

    def multiples(self, value: str) -> list[_Multiple]:
        """All a value is a multiple of, up to constants that fit its shape: itself first."""
        constants = 0
        one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        found = [_Multiple(value, one, zero)]
        while True:
            last = found[-1]
            step = self.steps.get(last.value)
            if step is None or self.shapes[step.inputs[0]] != self.shapes[step.output]:
                return found
            match step.layer:
                case layers.Affine() if constants < _MOST_CONSTANTS and step.op != "BatchNormalization":
                    if bool(last.shift.any()) and bool(step.layer.shift.any()):
                        return found  # two shifts can cancel, and what is left is then mostly rounding
                    constants += 1
                    shift = last.scale * step.layer.shift + last.shift
                    scale, lost = two_product(last.scale, step.layer.scale)
                    exact = last.exact and step.layer.rest is None and not bool(lost.any())
                    found.append(_Multiple(step.inputs[0], scale, shift, exact))
                case layers.Identity():
                    found.append(replace(last, value=step.inputs[0]))
                case _:
                    return found


def _gated(
    gate: nn.Module, factor: float, scale: float, shift: float, times: float, plus: float
) -> nn.Module | None:
    """The layer factor * x * (times * gate(scale * x + shift) + plus), if there is one."""
    factor *= times
    match gate:
        case layers.Sigmoid() if shift == plus == 0 and _usable(scale, factor):  # case 1
            return layers.Silu(scale, factor)
        case layers.Erf() if shift == 0 and plus == times and _usable(scale, factor):  # case 2
            return layers.Gelu(scale, factor)
        case layers.HardSigmoid() if plus == 0:  # case 3
            moved = gate.alpha * shift
            alpha, beta = gate.alpha * scale, moved + gate.beta
            if moved and abs(beta) < max(abs(moved), abs(gate.beta)) / 2:
                return None  # they cancel, and what is left is mostly rounding
        case layers.Clip() if plus == 0 and gate.low == 0 and _usable(gate.high):  # case 3
            alpha, beta, factor = scale / gate.high, shift / gate.high, factor * gate.high
        case _:
            return None
    return layers.HardSwish(alpha, beta, factor) if alpha > 0 and _usable(alpha, factor) else None


def _combined(layer: nn.Module, inputs: list[dict[int, float]]) -> dict[int, float] | None:
    """Polynomials up to the third power: a sum without equal powers, a product of single powers, a power."""
    first = inputs[0]
    match layer:
        case layers.Add() if len(inputs) == 2 and not first.keys() & inputs[1].keys():
            return first | inputs[1]
        case layers.Mul() if len(first) == len(inputs[1]) == 1:
            ((n, a),), ((m, b),) = first.items(), inputs[1].items()
            return {n + m: a * b} if n + m <= 3 else None
        case layers.Power(exponent=(2 | 3) as times) if len(first) == 1:
            ((n, a),) = first.items()
            return {n * int(times): a ** int(times)} if n * times <= 3 else None
    return None


def _usable(*constants: float) -> bool:
    """Whether constants are neither 0 nor so extreme that products of them over- or underflow."""
    return all(1e-30 < abs(c) < 1e30 for c in constants)
