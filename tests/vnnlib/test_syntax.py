from __future__ import annotations

import gzip
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import vnnlib
import vnnlib.compat
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import SpecError
from corgi.vnnlib.read import parse_spec, read_spec
from corgi.vnnlib.spec import Case, Constraint, Spec, Syntax
from corgi.vnnlib.write import decimal, spec_bytes, spec_text

# Not so small that the other parser, which works in floats, takes a coefficient for none.
NUMBERS = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-30).map(Fraction)
SHAPES = ((1, 2, 2), (1, 3))


@st.composite
def terms(draw: st.DrawFn, count: int, least: int) -> tuple[tuple[int, Fraction], ...]:
    indices = draw(st.lists(st.integers(0, count - 1), min_size=least, max_size=3, unique=True))
    return tuple((i, draw(NUMBERS.filter(bool))) for i in sorted(indices))


@st.composite
def constraints(draw: st.DrawFn, *, only_outputs: bool = False) -> Constraint:
    """Not on one input alone: that is a bound of the box."""
    inputs = () if only_outputs else draw(terms(4, 0))
    return Constraint(inputs, draw(terms(3, 1)), draw(NUMBERS), draw(st.booleans()))


@st.composite
def specs(draw: st.DrawFn, *, only_outputs: bool = False) -> Spec:
    cases: dict[tuple[tuple[Fraction, ...], ...], Case] = {}
    for _ in range(draw(st.integers(1, 3))):
        ends = [sorted((draw(NUMBERS), draw(NUMBERS))) for _ in range(4)]
        lower, upper = (tuple(end) for end in zip(*ends, strict=True))
        one = st.lists(constraints(only_outputs=only_outputs), min_size=1, max_size=3, unique=True).map(tuple)
        alternatives = tuple(draw(st.lists(one, min_size=1, max_size=3, unique=True)))
        cases[lower, upper] = Case(lower, upper, alternatives)
    return Spec(*SHAPES, tuple(cases.values()), Syntax.V2)


def in_syntax(spec: Spec, syntax: Syntax) -> Spec:
    if syntax is Syntax.V2:
        return spec
    return replace(spec, syntax=syntax, input_shape=(spec.inputs,), output_shape=(spec.outputs,))


@given(specs(), st.sampled_from(Syntax))
def test_what_is_written_reads_as_what_it_was(spec: Spec, syntax: Syntax) -> None:
    spec = in_syntax(spec, syntax)
    assert parse_spec(spec_text(spec, ("a comment",))) == spec


@given(st.floats(allow_nan=False, allow_infinity=False).map(Fraction))
def test_decimals_are_exact(value: Fraction) -> None:
    assert Fraction(decimal(value)) == value
    assert float(decimal(value)) == value


def test_only_finite_decimals_are_written() -> None:
    with pytest.raises(SpecError, match="finite decimal"):
        decimal(Fraction(1, 3))


@given(specs(only_outputs=True))
def test_the_independent_parser_reads_the_same(spec: Spec) -> None:
    """The PyPI package `vnnlib`, VNN-LIB 2.0: boxes and rows A y <= b, by box."""
    strict = any(c.strict for case in spec.cases for part in case.alternatives for c in part)
    text = spec_text(spec)
    query = vnnlib.parse_query_string(text)
    assert [list(d.shape) for n in query.networks for d in (*n.inputs, *n.outputs)] == [[1, 2, 2], [1, 3]]
    if strict:
        return  # its compatibility layer knows no strict inequalities
    ours = set()
    for case in spec.cases:
        box = tuple((float(low), float(high)) for low, high in zip(case.lower, case.upper, strict=True))
        for part in case.alternatives:
            rows = []
            for constraint in part:
                row = [0.0] * 3
                for index, value in constraint.outputs:
                    row[index] = float(value)
                rows.append((*row, -float(constraint.constant)))
            ours.add((box, frozenset(rows)))
    theirs = set()
    for case in vnnlib.compat.transform(query):
        for polytope in case.output_constraints:
            rows = [(*row, side) for row, side in zip(polytope.coeff_matrix, polytope.rhs, strict=True)]
            theirs.add((tuple(map(tuple, case.input_box)), frozenset(map(tuple, rows))))
    assert theirs == ours


OLD = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
BOX = "(assert (>= X_0 0))\n(assert (<= X_0 1))\n"
NEW = """(vnnlib-version <2.0>)
(declare-network N (declare-input X float32 [1,2])
(declare-output Y float32 [1]))
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "asserts nothing"),
        (OLD, "asserts nothing"),
        (OLD + "(check-sat)", "line 3: unknown command 'check-sat'"),
        (OLD + "assert", "line 3: unknown command 'assert'"),
        (OLD + "(assert (>= X_0 0)", "line 3: '(' is never closed"),
        (OLD + "(assert (>= X_0 0)))", "line 3: ')' without '('"),
        (OLD + "(assert (>= X_1 0))", "line 3: 'X_1' is neither a number nor declared"),
        (OLD + "(assert (>= X_0 nan))", "line 3: 'nan' is neither"),
        (OLD + "(assert (>= X_0 inf))", "line 3: 'inf' is neither"),
        (OLD + "(assert (>= X_0 1e9999))", "line 3: '1e9999' is neither"),
        (OLD + "(assert (>= X_0 0x10))", "line 3: '0x10' is neither"),
        (OLD + "(assert (>= X_0))", "line 3: '>=' of 1 terms, expected 2"),
        (OLD + "(assert (<= 0 X_0 1))", "line 3: '<=' of 3 terms"),
        (OLD + "(assert (not (>= X_0 0)))", "line 3: unknown operator 'not'"),
        (OLD + "(assert (=> (>= X_0 0) (<= X_0 1)))", "line 3: unknown operator '=>'"),
        (OLD + "(assert (>= (/ X_0 2) 0))", "line 3: unknown operator '/'"),
        (OLD + "(assert (>= (* X_0 Y_0) 0))", "line 3: a product of variables"),
        (OLD + "(assert (and))", "line 3: 'and' of nothing"),
        (OLD + "(assert X_0)", "line 3: 'X_0' is no formula"),
        (OLD + "(assert)", "line 3: expected (assert FORMULA)"),
        (OLD + "(assert (>= Y_0 0))", "input 0 has no lower bound"),
        (OLD + "(assert (>= X_0 0))", "input 0 has no upper bound"),
        (OLD + "(assert (>= X_0 1))(assert (<= X_0 0))", "no input satisfies its bounds"),
        (OLD + BOX + "(assert (>= Y_0[0] 0))", "line 5: 'Y_0[0]' is neither"),
        (OLD + BOX + "(declare-const X_2 Real)", "1 of the inputs up to the last one are not declared"),
        (OLD + "(declare-const X_0 Real)", "line 3: 'X_0' is declared twice"),
        (OLD + "(declare-const X_99999999 Real)", "line 3: 'X_99999999': expected at most"),
        (OLD + BOX + "(declare-const X_1 Real)", "input 1 has no lower bound"),
        (OLD + "(assert (>= X_0 \u0661))", "line 3: '\u0661' is neither"),
        (OLD + "(assert (>= X_0\u00a01))", "line 3: '>=' of 1 terms"),
        (NEW.replace("output Y", "output X"), "line 3: 'X' is declared twice"),
        (NEW.replace("input X", "input Bild\u00e9"), "line 2: expected (declare-input X float32 [1,10])"),
        (OLD + "(declare-const Z_0 Real)", "line 3: 'Z_0' is neither an input"),
        (OLD + "(declare-const X_1 Int)", "line 3: expected (declare-const X_0 Real)"),
        (OLD + "(declare-const X_1 Real[3])", "line 3: expected (declare-const X_0 Real)"),
        ("(vnnlib-version <1.0> (x))", "line 1: expected (vnnlib-version <1.0>)"),
        ("(assert (>= X_0 0))", "line 1: 'X_0' is neither a number nor declared"),
        ("(declare-const X_0 Real)" + BOX, "declares no output"),
        (OLD + "(vnnlib-version <2.0>)", "line 3: vnnlib-version must be the first"),
        ("(vnnlib-version <3.0>)", "line 1: expected (vnnlib-version <1.0>)"),
        ("(vnnlib-version <2.0>)" + OLD, "line 1: expected (declare-const X_0 Real), in VNN-LIB 1.0 only"),
        (NEW + "(declare-network M)", "line 4: a second network"),
        (NEW + "(assert (>= X[0,2] 0.0))", "line 4: 'X[0,2]' is neither"),
        (NEW + "(assert (>= X[0] 0.0))", "line 4: 'X[0]' is neither"),
        (NEW + "(assert (>= X 0.0))", "line 4: 'X' is neither"),
        (NEW + "(assert (>= X[0,-1] 0.0))", "line 4: '-1' is no index"),
        (NEW.replace("float32 [1]", "int8 [1]"), "line 3: type 'int8'"),
        (NEW.replace("[1,2]", "[1,0]"), "line 2: 0 elements"),
        (NEW.replace("declare-output", "declare-hidden"), "found declare-input, declare-hidden"),
        (NEW.replace("float32 [1,2]", "float32"), "expected (declare-input X float32 [1,10])"),
        (OLD + "(" * 100, "more than 64 parentheses"),
        (OLD + "(assert (>= X_0[0 0))", "no comma in front of '0' between brackets"),
        (OLD + "(assert (>= X_0[0(0))", "'(' between brackets"),
        (NEW + "(assert (>= X[0,1 2] 0.0))", "line 4: no comma in front of '2'"),
        (NEW + "(assert (>= X[0,;1\n1 0] 0.0))", "line 5: no comma in front of '0'"),
        (NEW.replace("[1,2]", "[1 2]"), "line 2: no comma in front of '2'"),
        (NEW + "(assert (>= X[0,] 0.0))", "line 4: '' is no index"),
        (OLD + "; one\r; two\r\n(check-sat)", "line 5: unknown command"),
        (OLD + "(assert ([0] 0))", "'[' without a name"),
        (
            OLD + BOX + f"(assert (or {'(>= Y_0 0) ' * 400}))" * 2,
            "line 5: more than 131072 alternatives",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec(text)
    assert reason in error.value.message
    assert "\n" not in error.value.message


def test_other_ways_to_say_the_same() -> None:
    plain = parse_spec(OLD + BOX + "(assert (>= Y_0 0.5))")
    for text in (
        OLD + "(assert (and (<= 0 X_0) (>= 1.0 X_0)))(assert (<= 0.5 Y_0))",
        OLD + "(assert (and (<= 0 X_0 ) (and (<= (* 2 X_0) 2.0))))(assert (<= (- Y_0) (- 0.5)))",
        OLD + BOX + "; nothing\n(assert (<= (+ 5e-1 (* -1 Y_0)) 0))",
        (OLD + BOX + "; nothing\n(assert (>= Y_0 0.5))").replace("\n", "\r"),
        OLD + "(assert (>= X_0 -3))(assert (>= X_0 0)) (assert (<= X_0 1e0))(assert (>= Y_0 (+ 0.25 .25)))",
    ):
        assert parse_spec(text) == plain
    equal = parse_spec(OLD + BOX + "(assert (== Y_0 0.5))")
    assert len(equal.cases[0].alternatives[0]) == 2
    other = parse_spec(OLD + BOX + "(assert (!= Y_0 0.5))")
    assert [part[0].strict for part in other.cases[0].alternatives] == [True, True]


def test_declarations_in_any_order_and_any_language(tmp_path: Path) -> None:
    """Bounds beside each declaration, comments in UTF-8, a byte order mark."""
    path = tmp_path / "spec.vnnlib"
    mixed = (
        "; Eingänge: größer als 0 \u2264 x\n(declare-const Y_0 Real)\n(declare-const X_1 Real)\n"
        "(assert (>= X_1 0))\n(assert (<= X_1 1)) ; \u4e2d\n(declare-const X_0 Real)\n"
        "(assert (>= X_0 2))(assert (<= X_0 3))\n(assert (>= Y_0 X_0))\n"
    )
    path.write_text("\ufeff" + mixed, encoding="utf-8")
    plain = (
        "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(assert (and (>= X_0 2)"
        "(<= X_0 3)(>= X_1 0)(<= X_1 1)))(assert (>= Y_0 X_0))"
    )
    assert read_spec(path) == parse_spec(plain)


def test_names_of_the_files_own() -> None:
    body = "(assert (and (>= X[0,0] 0) (<= X[0,0] 1) (>= X[0,1] 0) (<= X[0,1] 1) (>= Y[0] X[0,0])))"
    other = (NEW + body).replace("X[", "image.1[").replace("input X", "input image.1")
    other = other.replace("Y[", "X[").replace("output Y", "output X")
    assert parse_spec(other) == replace(parse_spec(NEW + body), names=("image.1", "X"))


def test_strict_bounds_of_inputs_stay_strict() -> None:
    (case,) = parse_spec(OLD + "(assert (> X_0 0))(assert (<= X_0 1))(assert (>= Y_0 0))").cases
    assert case.lower == (0,)
    assert not all(c.holds([Fraction(0)], [Fraction(0)]) for c in case.alternatives[0])
    assert all(c.holds([Fraction(1)], [Fraction(0)]) for c in case.alternatives[0])


def test_an_empty_box_among_others_is_left_out() -> None:
    text = "(assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 3) (<= X_0 2))))"
    assert len(parse_spec(OLD + text).cases) == 1


def test_files_may_be_packed(tmp_path: Path) -> None:
    text = OLD + BOX + "(assert (>= Y_0 0))\n"
    for name, packed in (("a.vnnlib", False), ("a.vnnlib.gz", True)):
        (tmp_path / name).write_bytes(spec_bytes(text, packed=packed))
        assert read_spec(tmp_path / name) == parse_spec(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content in (
        ("truncated.vnnlib.gz", gzip.compress(b"x" * 1000)[:20]),
        ("none.vnnlib.gz", b"text"),
        ("binary.vnnlib", b"\xff\xfe"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SpecError, match=name):
            read_spec(tmp_path / name)
    with pytest.raises(SpecError, match="no such file"):
        read_spec(tmp_path / "missing.vnnlib")
