"""The constraints of one case as arrays: for attacks, and as forms for bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from corgi.engines.forms import Forms
from corgi.engines.rigour import roundings
from corgi.errors import SpecError
from corgi.types import Interval
from corgi.vnnlib.network import PlainNetwork, Points
from corgi.vnnlib.spec import Case, Constraint


def rounded(value: Fraction, direction: float) -> float:
    """The nearest float64 that is not above (-inf) or not below (inf) a rational."""
    try:
        near = float(value)
    except OverflowError:
        near = math.inf if value > 0 else -math.inf
    if near == -direction:
        return math.nextafter(near, direction)
    wrong = math.isfinite(near) and (Fraction(near) < value if direction > 0 else Fraction(near) > value)
    return math.nextafter(near, direction) if wrong else near


def check_range(case: Case) -> None:
    """Refuse numbers of which float64 does not hold the nearest one, to a relative error of 2^-53.

    Raises:
        SpecError: a coefficient outside [2^-900, 2^900], or a bound or constant beyond 2^900.
    """
    large = Fraction(2) ** 900
    constraints = {constraint for part in case.alternatives for constraint in part}
    factors = [v for c in constraints for _, v in (*c.inputs, *c.outputs)]
    others = [*case.lower, *case.upper, *(c.constant for c in constraints)]
    if any(not 1 / large < abs(v) < large for v in factors) or any(abs(v) > large for v in others):
        raise SpecError("a number of the specification is outside the range of float64")


@dataclass(frozen=True)
class ArrayCase:
    """A case with its distinct constraints numbered.

    Attributes:
        case: what it stands for.
        constraints: all distinct ones, R of them.
        alternative, member: int64 [pairs]: constraint `member` is part of that alternative.
    """

    case: Case
    constraints: tuple[Constraint, ...]
    alternative: Tensor
    member: Tensor

    @staticmethod
    def of(case: Case) -> ArrayCase:
        """Number the constraints of a case.

        Raises:
            SpecError: see `check_range`.
        """
        check_range(case)
        number: dict[Constraint, int] = {}
        alternative, member = [], []
        for at, parts in enumerate(case.alternatives):
            for constraint in parts:
                alternative.append(at)
                member.append(number.setdefault(constraint, len(number)))
        return ArrayCase(case, tuple(number), _indices(alternative), _indices(member))

    @property
    def count(self) -> int:
        """Number of alternatives."""
        return len(self.case.alternatives)

    def members(self, alternative: int) -> Tensor:
        """The constraints of an alternative: int64."""
        return self.member[self.alternative == alternative]

    def worst(self, values: Tensor) -> Tensor:
        """The largest constraint of each alternative, from values [N, R]: [N, alternatives]; -inf of none."""
        found = values.new_full((len(values), self.count), -torch.inf)
        index = self.alternative.expand(len(values), -1)
        worst: Tensor = found.scatter_reduce(1, index, values[:, self.member], "amax")
        return worst

    @cached_property
    def _matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients [R, inputs] and [R, outputs] as sparse matrices, and constants [R], float64."""
        lengths = (
            len(self.case.lower),
            1 + max((j for c in self.constraints for j, _ in c.outputs), default=0),
        )
        parts = []
        for name, count in zip(("inputs", "outputs"), lengths, strict=True):
            entries = [(r, i, float(v)) for r, c in enumerate(self.constraints) for i, v in getattr(c, name)]
            at = torch.tensor([entry[:2] for entry in entries], dtype=torch.int64).reshape(-1, 2).T
            values = torch.tensor([entry[2] for entry in entries], dtype=torch.float64)
            size = (len(self.constraints), count)
            parts.append(torch.sparse_coo_tensor(at, values, size, check_invariants=True).coalesce())
        constants = torch.tensor([float(c.constant) for c in self.constraints], dtype=torch.float64)
        return parts[0], parts[1], constants

    def values(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """The constraints at N points, float64 [N, R]; differentiable, up to rounding.

        In float32, coefficients that `check_range` lets pass could be 0 or inf.
        """
        of_inputs, of_outputs, constants = self._matrices
        used = outputs[:, : of_outputs.shape[1]].to(torch.float64)
        found = torch.sparse.mm(of_outputs, used.T).T + constants
        if of_inputs._nnz():
            found = found + torch.sparse.mm(of_inputs, inputs.to(torch.float64).T).T
        result: Tensor = found
        return result

    def broken(self, inputs: Points, outputs: Points, alternative: int) -> bool:
        """Whether a point is in the box and satisfies an alternative, exactly."""
        at = [Fraction(float(value)) for value in inputs]
        if not all(
            low <= x <= high for low, x, high in zip(self.case.lower, at, self.case.upper, strict=True)
        ):
            return False
        if not np.isfinite(outputs).all():
            return False
        made = [Fraction(float(value)) for value in outputs]
        return all(constraint.holds(at, made) for constraint in self.case.alternatives[alternative])


@dataclass(frozen=True)
class Box:
    """A box of inputs, as the trunk takes them.

    Attributes:
        centre: a point of it, float64 [C, H, W]; deviations: from there, rounded outwards.
        lower, upper: the float32 points in it, [inputs] each, rounded inwards; empty if lower > upper.
    """

    centre: Tensor
    deviations: Interval
    lower: Tensor
    upper: Tensor

    @staticmethod
    def of(case: Case, network: PlainNetwork) -> Box:
        """The box of a case."""
        centre = [float((low + high) / 2) for low, high in zip(case.lower, case.upper, strict=True)]
        ends = zip(case.lower, centre, case.upper, strict=True)
        # 0 is between the ends, also where the middle of a thin box is no float.
        around = [
            (min(rounded(low - Fraction(c), -math.inf), 0.0), max(rounded(high - Fraction(c), math.inf), 0.0))
            for low, c, high in ends
        ]
        below, above = torch.tensor(around, dtype=torch.float64).T
        inner = [_inside(low, high) for low, high in zip(case.lower, case.upper, strict=True)]
        lower, upper = torch.tensor(inner, dtype=torch.float32).T
        made = [network.given(v[None])[0] for v in (torch.tensor(centre, dtype=torch.float64), below, above)]
        return Box(made[0], Interval(made[1], made[2]), lower.contiguous(), upper.contiguous())

    @property
    def empty(self) -> bool:
        """Whether no float32 point is in it."""
        return bool((self.lower > self.upper).any())

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """Points [count, inputs] of a box that is not empty."""
        share = torch.rand(count, len(self.lower), generator=generator)
        return (self.lower + share * (self.upper - self.lower)).clamp(self.lower, self.upper)


def forms_of(array: ArrayCase, network: PlainNetwork, box: Box) -> tuple[Forms, Tensor]:
    """The output parts of all constraints as forms, and lower bounds of their input parts over the box [R].

    The constants are in the forms. A form plus its input part is what must not be <= 0.
    """
    row, element, factors, constant, of_inputs = [], [], [], [], []
    places = network.outputs.tolist()
    for number, constraint in enumerate(array.constraints):
        for index, value in constraint.outputs:
            row.append(number)
            element.append(places[index])
            factors.append(float(value))
        constant.append(rounded(constraint.constant, -math.inf))
        ends = (a * (array.case.lower[i] if a > 0 else array.case.upper[i]) for i, a in constraint.inputs)
        of_inputs.append(rounded(sum(ends, Fraction(0)), -math.inf))
    forms = Forms(
        _indices(row),
        _indices(element),
        torch.tensor(factors, dtype=torch.float64),
        torch.tensor(constant, dtype=torch.float64),
    )
    return forms, torch.tensor(of_inputs, dtype=torch.float64)


def inputs_of(
    array: ArrayCase, members: Tensor, network: PlainNetwork, box: Box
) -> tuple[Tensor, Tensor, Tensor, Interval]:
    """The input parts of constraints as `with_inputs` takes them: coefficients, constants, errors, box."""
    place = torch.empty_like(network.order)
    place[network.order] = torch.arange(len(place))
    centre = box.centre.flatten().tolist()
    coefficients = torch.zeros(len(members), len(place), dtype=torch.float64)
    constants = []
    for row, member in enumerate(members.tolist()):
        at_centre = Fraction(0)
        for index, value in array.constraints[member].inputs:
            element = int(place[index])
            coefficients[row, element] = float(value)
            at_centre += value * Fraction(centre[element])
        constants.append(rounded(at_centre, -math.inf))
    flat = Interval(box.deviations.lower.flatten(), box.deviations.upper.flatten())
    size = torch.maximum(flat.lower.abs(), flat.upper.abs())
    error = roundings(2) * (coefficients.abs() @ size)  # each coefficient was rounded once
    return coefficients, torch.tensor(constants, dtype=torch.float64), error, flat


def _inside(low: Fraction, high: Fraction) -> tuple[float, float]:
    """The least and the greatest float32 between two rationals."""
    ends = []
    for value, towards in ((low, math.inf), (high, -math.inf)):
        near = np.float32(rounded(value, towards))
        while np.isfinite(near) and (
            Fraction(float(near)) < value if towards > 0 else Fraction(float(near)) > value
        ):
            near = np.nextafter(near, np.float32(towards))
        ends.append(float(near))
    return ends[0], ends[1]


def _indices(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
