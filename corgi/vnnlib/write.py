"""Write a specification as VNN-LIB text.

Numbers are written as the exact decimals they are, without exponents: the fraction of a float ends after
finitely many digits. So every reader sees the box that was meant, whatever floats it keeps it in.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from fractions import Fraction

from corgi.errors import SpecError, printable
from corgi.vnnlib.spec import Case, Constraint, Spec, Syntax


def spec_text(spec: Spec, comments: tuple[str, ...] = ()) -> str:
    """A specification in its syntax; `comments` come first, a line of printable ASCII each.

    Raises:
        SpecError: a number has no finite decimal (it does not come from a float).
    """
    return "\n".join([*(f"; {_ascii(comment)}" for comment in comments), *_Writer(spec).lines()]) + "\n"


def spec_bytes(text: str, *, packed: bool) -> bytes:
    """What a .vnnlib file holds, or with `packed` a .vnnlib.gz: the same bytes for the same text."""
    return gzip.compress(text.encode("ascii"), mtime=0) if packed else text.encode("ascii")


class _Writer:
    def __init__(self, spec: Spec) -> None:
        self.spec, self.new = spec, spec.syntax is Syntax.V2

    def lines(self) -> Iterator[str]:
        spec = self.spec
        if self.new:
            shapes = (",".join(map(str, shape)) for shape in (spec.input_shape, spec.output_shape))
            declared = [f"[{shape}]" for shape in shapes]
            yield "(vnnlib-version <2.0>)"
            yield "(declare-network N"
            yield f"  (declare-input X float32 {declared[0]})"
            yield f"  (declare-output Y float32 {declared[1]}))"
        else:
            for kind, count in (("X", spec.inputs), ("Y", spec.outputs)):
                yield from (f"(declare-const {kind}_{i} Real)" for i in range(count))
        if len(spec.cases) > 1:
            alternatives = [
                (*self.bounds(case), *map(self.constraint, alternative))
                for case in spec.cases
                for alternative in case.alternatives
            ]
            yield from self.disjunction(alternatives)
            return
        (case,) = spec.cases
        yield from (f"(assert {bound})" for bound in self.bounds(case))
        if len(case.alternatives) == 1:
            yield from (f"(assert {self.constraint(constraint)})" for constraint in case.alternatives[0])
        else:
            yield from self.disjunction([tuple(map(self.constraint, a)) for a in case.alternatives])

    def disjunction(self, alternatives: list[tuple[str, ...]]) -> Iterator[str]:
        yield "(assert (or"
        yield from (f"  (and {' '.join(parts)})" for parts in alternatives)
        yield "))"

    def bounds(self, case: Case) -> Iterator[str]:
        for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True)):
            yield f"(>= {self.name('X', i)} {decimal(low)})"
            yield f"(<= {self.name('X', i)} {decimal(high)})"

    def constraint(self, constraint: Constraint) -> str:
        terms = [("X", *term) for term in constraint.inputs] + [("Y", *term) for term in constraint.outputs]
        less, more = ("<", ">") if constraint.strict else ("<=", ">=")
        if constraint.constant == 0 and [value for _, _, value in terms] in ([1, -1], [-1, 1]):
            first, second = (self.name(kind, index) for kind, index, _ in terms)
            # The disjunction of a map reads "an outside pixel >= an inside pixel".
            return f"({more} {second} {first})" if terms[0][2] == 1 else f"({more} {first} {second})"
        if len(terms) == 1 and terms[0][2] in (1, -1):
            ((kind, index, value),) = terms
            sign = less if value == 1 else more
            return f"({sign} {self.name(kind, index)} {decimal(-constraint.constant * value)})"
        products = [f"(* {decimal(value)} {self.name(kind, index)})" for kind, index, value in terms]
        total = products[0] if len(products) == 1 else f"(+ {' '.join(products)})"
        return f"({less} {total} {decimal(-constraint.constant)})"

    def name(self, kind: str, index: int) -> str:
        if not self.new:
            return f"{kind}_{index}"
        shape = self.spec.input_shape if kind == "X" else self.spec.output_shape
        places = []
        for size in reversed(shape):
            index, place = divmod(index, size)
            places.append(str(place))
        return f"{kind}[{','.join(reversed(places))}]"


def _ascii(comment: str) -> str:
    """A comment may hold names from files: no character of them ends it or is unknown to a reader."""
    return printable(comment).encode("ascii", "backslashreplace").decode()


def decimal(value: Fraction) -> str:
    """A rational as its exact decimal, always with a point.

    Raises:
        SpecError: its decimal never ends.
    """
    digits, rest = 0, value.denominator
    while rest % 10 == 0:
        digits, rest = digits + 1, rest // 10
    for prime in (2, 5):
        while rest % prime == 0:
            digits, rest = digits + 1, rest // prime
    if rest != 1:
        raise SpecError(f"{value} has no finite decimal", hint="Numbers of a specification are floats.")
    digits = max(digits, 1)
    scaled = value.numerator * 10**digits // value.denominator
    whole, part = divmod(abs(scaled), 10**digits)
    return f"{'-' if scaled < 0 else ''}{whole}.{part:0{digits}d}"
