"""What a VNN-LIB file asks: whether some input of a box takes the outputs where they must not be.

All numbers are exact rationals: what a decimal in the file says, not what a float makes of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

Terms = tuple[tuple[int, Fraction], ...]
"""Coefficients by index, ascending; none is 0."""


class Syntax(StrEnum):
    """The versions of the language."""

    V1 = "1.0"
    """declare-const X_0 Real: what VNN-COMP used until 2025."""
    V2 = "2.0"
    """declare-network, X[0,2,31,31]."""


@dataclass(frozen=True)
class Constraint:
    """sum_i a_i X_i + sum_j b_j Y_j + constant <= 0; with `strict`, < 0.

    Attributes:
        inputs, outputs: a and b.
        constant: the constant.
        strict: whether equality is not enough.
    """

    inputs: Terms
    outputs: Terms
    constant: Fraction
    strict: bool = False

    def value(self, inputs: list[Fraction], outputs: list[Fraction]) -> Fraction:
        """The left side at a point, exactly."""
        total = self.constant
        total += sum((a * inputs[i] for i, a in self.inputs), Fraction(0))
        return total + sum((b * outputs[j] for j, b in self.outputs), Fraction(0))

    def holds(self, inputs: list[Fraction], outputs: list[Fraction]) -> bool:
        """Whether a point satisfies it."""
        value = self.value(inputs, outputs)
        return value < 0 or (value == 0 and not self.strict)


@dataclass(frozen=True)
class Case:
    """A box, and what must not happen in it.

    Attributes:
        lower, upper: of every input; lower <= upper.
        alternatives: each is a conjunction; the case is satisfiable if one of them is.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    alternatives: tuple[tuple[Constraint, ...], ...]


@dataclass(frozen=True)
class Spec:
    """A specification: satisfiable ("sat", the property is violated) if one of its cases is.

    Attributes:
        input_shape, output_shape: as declared; [n] in syntax 1.0. Inputs and outputs are numbered row-major.
        cases: at least one.
        syntax: of the file, and of the witness it wants.
        names: of input and output, as declared.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    cases: tuple[Case, ...]
    syntax: Syntax = Syntax.V1
    names: tuple[str, str] = ("X", "Y")

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return math.prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return math.prod(self.output_shape)
