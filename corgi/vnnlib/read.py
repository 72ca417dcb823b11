"""Read VNN-LIB 1.0 and 2.0.

Everything is read strictly: an unknown command, operator, type, name or number is refused with its line, and
so is what would make a specification say less than it seems to: an input without a bound, or no input at all
in any box. Bounds on single inputs become the box; what else is asserted becomes the disjunctive normal form
of the violation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

from corgi.data.file import read_text
from corgi.errors import SpecError, naming
from corgi.vnnlib.sexpr import Atom, Expression, Group, read_expressions
from corgi.vnnlib.spec import Case, Constraint, Spec, Syntax, Terms

LARGEST_TEXT = 2**28
"""Bytes of a file, unpacked."""

MOST_VARIABLES = 2**24
"""Inputs or outputs of a network."""

MOST_ALTERNATIVES = 2**17
"""Conjunctions of the normal form."""

_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d{0,1200})?|\.\d{1,1200})([eE][+-]?\d{1,3})?", re.ASCII)
_OLD_NAME = re.compile(r"([XY])_(0|[1-9]\d{0,8})", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.~!@$%^&*+<>?/-]{0,200}")
_INDEX = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)
_TYPES = ("real", "float32", "float64")
_COMPARISONS = ("<=", "<", ">=", ">", "==", "=", "!=")

Formula = list[tuple[Constraint, ...]]
"""Disjunctive normal form."""


def read_spec(path: Path) -> Spec:
    """The specification of a .vnnlib file, or of a .vnnlib.gz.

    Raises:
        SpecError: it cannot be read, or says something that corgi does not decide; with the line.
    """
    with naming(path):
        return parse_spec(read_text(path, LARGEST_TEXT, SpecError))


def parse_spec(text: str) -> Spec:
    """The specification a text holds.

    Raises:
        SpecError: see `read_spec`.
    """
    return _Reader().read(read_expressions(text))


@dataclass(frozen=True)
class _Linear:
    """A linear expression: coefficients of inputs and outputs, and a constant."""

    inputs: dict[int, Fraction]
    outputs: dict[int, Fraction]
    constant: Fraction

    @property
    def is_constant(self) -> bool:
        return not self.inputs and not self.outputs

    def plus(self, other: _Linear, factor: Fraction) -> _Linear:
        def added(mine: dict[int, Fraction], theirs: dict[int, Fraction]) -> dict[int, Fraction]:
            total = dict(mine)
            for index, value in theirs.items():
                step = value if factor == 1 else factor * value
                total[index] = total[index] + step if index in total else step
            return total

        return _Linear(
            added(self.inputs, other.inputs),
            added(self.outputs, other.outputs),
            self.constant + factor * other.constant,
        )

    def times(self, factor: Fraction) -> _Linear:
        return _Linear({}, {}, Fraction(0)).plus(self, factor)

    def at_most_zero(self, strict: bool) -> Constraint:
        return Constraint(_terms(self.inputs), _terms(self.outputs), self.constant, strict)


def _terms(coefficients: dict[int, Fraction]) -> Terms:
    return tuple((index, value) for index, value in sorted(coefficients.items()) if value != 0)


@dataclass
class _Reader:
    """State: what was declared, and the assertions so far."""

    syntax: Syntax = Syntax.V1
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"X": 0, "Y": 0})
    names: dict[str, str] = field(default_factory=dict)
    declared: set[tuple[str, int]] = field(default_factory=set)
    common: list[Constraint] = field(default_factory=list)
    open: Formula = field(default_factory=lambda: [()])
    asserted: bool = False

    def fail(self, line: int, message: str, hint: str | None = None) -> NoReturn:
        raise SpecError(f"line {line}: {message}", hint=hint)

    def read(self, expressions: list[Expression]) -> Spec:
        commands: dict[str, Callable[[Group], None]] = {
            "vnnlib-version": self.version,
            "declare-network": self.network,
            "declare-const": self.constant,
            "declare-fun": self.constant,
            "assert": self.assertion,
        }
        for number, expression in enumerate(expressions):
            name = _head(expression)
            if name not in commands or isinstance(expression, Atom):
                known = ", ".join(commands)
                shown = expression.text if isinstance(expression, Atom) else name or "()"
                self.fail(expression.line, f"unknown command '{shown}'", f"Known: {known}.")
            if name == "vnnlib-version" and number > 0:
                self.fail(expression.line, "vnnlib-version must be the first command")
            commands[name](expression)
        return self.spec()

    def version(self, group: Group) -> None:
        """(vnnlib-version <2.0>)."""
        texts = [_plain(item) for item in group.items]
        if texts == ["vnnlib-version", "<2.0>"]:
            self.syntax = Syntax.V2
        elif texts != ["vnnlib-version", "<1.0>"]:
            self.fail(group.line, "expected (vnnlib-version <1.0>) or (vnnlib-version <2.0>)")

    def constant(self, group: Group) -> None:
        """(declare-const X_0 Real) or (declare-fun X_0 () Real)."""
        name, *rest = group.items[1:] or [group]
        wanted = [["Real"]] if _head(group) == "declare-const" else [["", "Real"]]
        shown = ["" if isinstance(r, Group) and not r.items else _plain(r) for r in rest]
        if self.syntax is not Syntax.V1 or not isinstance(name, Atom) or shown not in wanted:
            self.fail(group.line, "expected (declare-const X_0 Real), in VNN-LIB 1.0 only")
        found = _OLD_NAME.fullmatch(name.text)
        if found is None or name.indices is not None:
            self.fail(name.line, f"'{name.text}' is neither an input X_0, X_1, ... nor an output Y_0, ...")
        kind, index = found.group(1), int(found.group(2))
        if (kind, index) in self.declared:
            self.fail(name.line, f"'{name.text}' is declared twice")
        if index >= MOST_VARIABLES:
            self.fail(name.line, f"'{name.text}': expected at most {MOST_VARIABLES} inputs or outputs")
        self.declared.add((kind, index))
        self.counts[kind] = max(self.counts[kind], index + 1)

    def network(self, group: Group) -> None:
        """(declare-network N (declare-input X float32 [1,2]) (declare-output Y float32 [1,3]))."""
        if self.syntax is not Syntax.V2:
            self.fail(group.line, "declare-network needs (vnnlib-version <2.0>) in the first line")
        if self.shapes:
            self.fail(group.line, "a second network; corgi decides specifications of one")
        kinds = [_head(item) for item in group.items[2:]]
        if len(group.items) < 2 or not isinstance(group.items[1], Atom):
            self.fail(group.line, "declare-network without a name")
        if kinds != ["declare-input", "declare-output"]:
            found = ", ".join(kind or "?" for kind in kinds) or "nothing"
            self.fail(group.line, f"expected one declare-input and one declare-output, found {found}")
        for item, kind in zip(group.items[2:], ("X", "Y"), strict=True):
            assert isinstance(item, Group)
            self.tensor(item, kind)

    def tensor(self, group: Group, kind: str) -> None:
        match group.items[1:]:
            case (Atom(indices=None) as name, Atom() as sort) if sort.indices and _NAME.fullmatch(name.text):
                pass
            case _:
                what = "input" if kind == "X" else "output"
                self.fail(group.line, f"expected (declare-{what} {kind} float32 [1,10])")
        if sort.text.lower() not in _TYPES:
            self.fail(sort.line, f"type '{sort.text}': expected one of {', '.join(_TYPES)}")
        shape = tuple(self.number_of(sort, part) for part in sort.indices or ())
        count = 1
        for size in shape:
            count *= size
        if not 0 < count <= MOST_VARIABLES:
            self.fail(sort.line, f"{count} elements; expected 1 to {MOST_VARIABLES}")
        if name.text in self.names:
            self.fail(name.line, f"'{name.text}' is declared twice")
        self.names[name.text] = kind
        self.shapes[kind], self.counts[kind] = shape, count

    def number_of(self, atom: Atom, part: str) -> int:
        if not _INDEX.fullmatch(part):
            self.fail(atom.line, f"'{part[:40]}' is no index")
        return int(part)

    def assertion(self, group: Group) -> None:
        """(assert FORMULA)."""
        if len(group.items) != 2:
            self.fail(group.line, "expected (assert FORMULA)")
        self.asserted = True
        found = self.formula(group.items[1])
        if len(found) == 1:
            self.common.extend(found[0])
        else:
            self.open = self.conjunction(group.line, [self.open, found])

    def formula(self, expression: Expression) -> Formula:
        """The disjunctive normal form of a formula."""
        if isinstance(expression, Atom):
            self.fail(expression.line, f"'{expression.text}' is no formula")
        name, parts, line = _head(expression), expression.items[1:], expression.line
        if name in ("and", "or"):
            if not parts:
                self.fail(line, f"'{name}' of nothing")
            found = [self.formula(part) for part in parts]
            if name == "and":
                return self.conjunction(line, found)
            return self.checked(line, list(itertools.chain.from_iterable(found)))
        if name in _COMPARISONS:
            if len(parts) != 2:
                self.fail(line, f"'{name}' of {len(parts)} terms, expected 2")
            return self.comparison(name, self.term(parts[0]), self.term(parts[1]))
        known = ", ".join(("and", "or", *_COMPARISONS))
        self.fail(line, f"unknown operator '{name or '()'}'", f"Known in formulas: {known}.")

    def comparison(self, name: str, left: _Linear, right: _Linear) -> Formula:
        below, above = left.plus(right, Fraction(-1)), right.plus(left, Fraction(-1))
        match name:
            case "<=" | "<":
                return [(below.at_most_zero(name == "<"),)]
            case ">=" | ">":
                return [(above.at_most_zero(name == ">"),)]
            case "!=":
                return [(below.at_most_zero(True),), (above.at_most_zero(True),)]
        return [(below.at_most_zero(False), above.at_most_zero(False))]

    def conjunction(self, line: int, parts: list[Formula]) -> Formula:
        single = tuple(itertools.chain.from_iterable(part[0] for part in parts if len(part) == 1))
        total: Formula = [single]
        for part in parts:
            if len(part) != 1:
                if len(total) * len(part) > MOST_ALTERNATIVES:
                    self.fail(line, f"more than {MOST_ALTERNATIVES} alternatives")
                total = [(*first, *second) for first in total for second in part]
        return total

    def checked(self, line: int, found: Formula) -> Formula:
        if len(found) > MOST_ALTERNATIVES:
            self.fail(line, f"more than {MOST_ALTERNATIVES} alternatives")
        return found

    def term(self, expression: Expression) -> _Linear:
        """A linear expression."""
        if isinstance(expression, Atom):
            return self.leaf(expression)
        name, line = _head(expression), expression.line
        parts = [self.term(part) for part in expression.items[1:]]
        if name not in ("+", "-", "*") or not parts:
            self.fail(line, f"unknown operator '{name or '()'}'", "Known in terms: +, -, *.")
        total = parts[0]
        if name == "-" and len(parts) == 1:
            return total.times(Fraction(-1))
        for part in parts[1:]:
            if name != "*":
                total = total.plus(part, Fraction(1 if name == "+" else -1))
            elif part.is_constant:
                total = total.times(part.constant)
            elif total.is_constant:
                total = part.times(total.constant)
            else:
                self.fail(line, "a product of variables; corgi decides linear constraints")
        return total

    def leaf(self, atom: Atom) -> _Linear:
        """A number or a variable."""
        if atom.indices is None and _NUMBER.fullmatch(atom.text):
            return _Linear({}, {}, Fraction(atom.text))
        kind, index = self.variable(atom)
        one = {index: Fraction(1)}
        return _Linear(one, {}, Fraction(0)) if kind == "X" else _Linear({}, one, Fraction(0))

    def variable(self, atom: Atom) -> tuple[str, int]:
        """X or Y, and its row-major number."""
        if self.syntax is Syntax.V1:
            found = _OLD_NAME.fullmatch(atom.text)
            if atom.indices is None and found and (found.group(1), int(found.group(2))) in self.declared:
                return found.group(1), int(found.group(2))
        elif atom.text in self.names and atom.indices is not None:
            kind = self.names[atom.text]
            shape = self.shapes[kind]
            indices = [self.number_of(atom, part) for part in atom.indices]
            if len(indices) == len(shape) and all(i < size for i, size in zip(indices, shape, strict=True)):
                flat = 0
                for i, size in zip(indices, shape, strict=True):
                    flat = flat * size + i
                return kind, flat
        shown = atom.text if atom.indices is None else f"{atom.text}[{','.join(atom.indices)}]"
        self.fail(atom.line, f"'{shown[:80]}' is neither a number nor declared")

    def spec(self) -> Spec:
        """What was read, as boxes with alternatives."""
        if not self.asserted:
            raise SpecError("asserts nothing")
        for kind, what in (("X", "input"), ("Y", "output")):
            if not self.counts[kind]:
                raise SpecError(f"declares no {what}")
            missing = self.counts[kind] - sum(of == kind for of, _ in self.declared)
            if self.syntax is Syntax.V1 and missing:
                raise SpecError(f"{missing} of the {what}s up to the last one are not declared")
        common, shared = _split(self.common)
        by_box: dict[_Key, list[tuple[Constraint, ...]]] = {}
        for alternative in self.open:
            own, rest = _split(alternative)
            by_box.setdefault(tuple(own.items()), []).append((*shared, *rest))
        cases = [self.case(_intersection(common, dict(key)), rest) for key, rest in by_box.items()]
        kept = tuple(case for case in cases if case is not None)
        if not kept:
            raise SpecError(
                "no input satisfies its bounds: a lower bound is above an upper bound",
                hint="Nothing is claimed of an empty box.",
            )
        shapes = self.shapes or {kind: (count,) for kind, count in self.counts.items()}
        given = {kind: name for name, kind in self.names.items()}
        return Spec(shapes["X"], shapes["Y"], kept, self.syntax, (given.get("X", "X"), given.get("Y", "Y")))

    def case(self, bounds: _Bounds, rest: list[tuple[Constraint, ...]]) -> Case | None:
        """A box of all inputs; None if it is empty."""
        lower, upper = [], []
        for i in range(self.counts["X"]):
            low, high = bounds.get(i, (None, None))
            if low is None or high is None:
                missing = "lower" if low is None else "upper"
                raise SpecError(f"input {i} has no {missing} bound", hint="corgi decides boxes.")
            lower.append(low)
            upper.append(high)
        if any(low > high for low, high in zip(lower, upper, strict=True)):
            return None
        return Case(tuple(lower), tuple(upper), tuple(dict.fromkeys(rest)))


_Limits = tuple[Fraction | None, Fraction | None]
_Bounds = dict[int, _Limits]
_Key = tuple[tuple[int, _Limits], ...]


def _split(constraints: Iterable[Constraint]) -> tuple[_Bounds, list[Constraint]]:
    """Bounds of single inputs, and the other constraints. A strict bound stays a constraint, too."""
    bounds: _Bounds = {}
    rest = []
    for constraint in constraints:
        if len(constraint.inputs) != 1 or constraint.outputs:
            rest.append(constraint)
            continue
        ((index, factor),) = constraint.inputs
        limit = -constraint.constant / factor
        new = (None, limit) if factor > 0 else (limit, None)
        bounds[index] = _tighter(bounds.get(index, (None, None)), new)
        if constraint.strict:
            rest.append(constraint)
    return bounds, rest


def _tighter(first: _Limits, second: _Limits) -> _Limits:
    lows = [low for low in (first[0], second[0]) if low is not None]
    highs = [high for high in (first[1], second[1]) if high is not None]
    return max(lows, default=None), min(highs, default=None)


def _intersection(common: _Bounds, own: _Bounds) -> _Bounds:
    return common | {i: _tighter(common.get(i, (None, None)), limits) for i, limits in own.items()}


def _head(expression: Expression) -> str:
    """The word an expression begins with; empty if it begins with none."""
    if isinstance(expression, Group) and expression.items:
        word = _plain(expression.items[0])
        return "" if word == "?" else word
    return ""


def _plain(expression: Expression) -> str:
    """A word; of anything else, "?"."""
    return expression.text if isinstance(expression, Atom) and expression.indices is None else "?"
