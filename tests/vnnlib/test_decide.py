"""Answers are right: unsat against sampling and enumeration, sat against onnxruntime; doubt is no answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.decide.decider import Proved, Undecided, Verdict
from corgi.engines.cone import Cone, NotUnfolded
from corgi.engines.layered import NotLayered
from corgi.engines.patch import engine as engine_module
from corgi.engines.patch.forms import FormBounds
from corgi.errors import CorgiError, EngineError, GateError, SpecError
from corgi.terms import Answer
from corgi.vnnlib.attack import AttackOptions
from corgi.vnnlib.constraints import rounded
from corgi.vnnlib.decide import DecideOptions, Outcome, decide, decide_files
from corgi.vnnlib.network import PlainNetwork, check_fits, load_plain
from corgi.vnnlib.spec import Case, Constraint, Spec, Syntax
from corgi.vnnlib.write import spec_text
from tests.decide.cases import Useless
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.vnnlib.nets import (
    at_least,
    conv_network,
    dense_network,
    fractions,
    one_case,
    spread_network,
    vector_network,
)

NO_ATTACK = DecideOptions(attack=AttackOptions(steps=0, followed=0, restarts=0))
"""Counterexamples are then found by the decider alone."""


def decided(network: PlainNetwork, spec: Spec, options: DecideOptions | None = None) -> Outcome:
    return decide(network, spec, time.monotonic() + 60, options)


def check_witness(network: PlainNetwork, spec: Spec, outcome: Outcome) -> None:
    """In a box exactly, and onnxruntime satisfies one of its alternatives."""
    assert outcome.witness is not None
    inputs = list(fractions(outcome.witness.inputs))
    outputs = list(fractions(network.run(outcome.witness.inputs)))
    assert outputs == list(fractions(outcome.witness.outputs))
    assert any(
        all(low <= x <= high for low, x, high in zip(case.lower, inputs, case.upper, strict=True))
        and any(all(c.holds(inputs, outputs) for c in part) for part in case.alternatives)
        for case in spec.cases
    )


@pytest.mark.parametrize("options", [None, NO_ATTACK])
@pytest.mark.parametrize("build", [dense_network, conv_network, spread_network, vector_network])
def test_thresholds_around_the_largest_output(
    build: Callable[[np.random.Generator, Path], Path], options: DecideOptions | None, tmp_path: Path
) -> None:
    """The largest Y_0 found by a long attack: just below it sat, well above never sat, and unsat is true."""
    rng = np.random.default_rng(1)
    network = load_plain(build(rng, tmp_path))
    centre = rng.normal(size=network.inputs).astype(np.float32)
    lower, upper = centre - np.float32(0.3), centre + np.float32(0.3)
    points = torch.from_numpy(lower + rng.random((20000, network.inputs), dtype=np.float32) * (upper - lower))
    values = network.forward(network.trunk32, points)[:, 0]
    largest = float(values.max())
    found = [
        decided(network, one_case(lower, upper, 3, (at_least(0, largest + gap),)), options)
        for gap in (-0.01, 0.05, 5.0)
    ]
    assert [outcome.answer for outcome in found[:1]] == [Answer.SAT]
    assert found[-1].answer is Answer.UNSAT
    answers = [outcome.answer for outcome in found]
    assert set(answers) <= {Answer.SAT, Answer.UNSAT}
    # Once unsat, always unsat: the property is monotone.
    assert answers == sorted(answers)
    for outcome, gap in zip(found, (-0.01, 0.05, 5.0), strict=True):
        if outcome.answer is Answer.SAT:
            check_witness(network, one_case(lower, upper, 3, (at_least(0, largest + gap),)), outcome)


@pytest.mark.parametrize("seed", range(4))
def test_random_specifications_against_sampling(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    network = load_plain(dense_network(rng, tmp_path, inputs=2))
    cases = []
    for _ in range(2):
        centre, half = rng.normal(size=2).astype(np.float32), np.float32(rng.uniform(0.05, 0.6))
        parts = []
        for _ in range(3):
            level = Fraction(float(np.float32(rng.normal(scale=3))))
            output, other = rng.permutation(3)[:2].tolist()
            terms = tuple(sorted([(output, Fraction(-1)), (other, Fraction(1, 3))]))
            first = Constraint(((0, Fraction(float(rng.normal()))),), terms, level)
            parts.append((first, at_least(other, float(np.float32(rng.normal())))))
        cases.append(Case(fractions(centre - half), fractions(centre + half), tuple(parts)))
    spec = Spec((2,), (3,), tuple(cases))
    outcome = decided(network, spec, NO_ATTACK if seed % 2 else None)
    assert outcome.answer in (Answer.SAT, Answer.UNSAT), outcome.reason
    if outcome.answer is Answer.SAT:
        check_witness(network, spec, outcome)
        return
    for case in cases:
        ends = [np.array([float(v) for v in end]) for end in (case.lower, case.upper)]
        points = ends[0] + rng.random((2000, 2)) * (ends[1] - ends[0])
        outputs = network.forward(network.trunk, torch.from_numpy(points)).numpy()
        for part in case.alternatives:
            holds = np.ones(len(points), dtype=bool)
            for c in part:
                values = float(c.constant) + sum(float(b) * outputs[:, j] for j, b in c.outputs)
                holds &= values + sum(float(a) * points[:, i] for i, a in c.inputs) <= 0
            assert not holds.any()


def spike(folder: Path) -> PlainNetwork:
    """Y_0 = relu(1 - 8 |x - p|_1) in four dimensions: zero nearly everywhere, 1 at p."""
    point = np.float32([0.25, 0.75, 0.5, 0.125])
    eye = np.eye(4, dtype=np.float32)
    net = OnnxModel((4,))
    sides = net.node("Gemm", IMAGE, np.concatenate([eye, -eye], 1), np.concatenate([-point, point]))
    below = net.node("Gemm", net.node("Relu", sides), -8 * np.ones((8, 1), np.float32), np.float32([1]))
    return load_plain(net.save(folder, net.node("Relu", below)))


def test_a_planted_counterexample_is_found_and_its_absence_proved(tmp_path: Path) -> None:
    network = spike(tmp_path)
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    spec = one_case(zeros, ones, 1, (at_least(0, 0.999),))
    outcome = decided(network, spec)
    assert outcome.answer is Answer.SAT
    check_witness(network, spec, outcome)
    assert decided(network, one_case(zeros, ones, 1, (at_least(0, 1.001),))).answer is Answer.UNSAT
    # Exactly the maximum: satisfied at one point. Anything but unsat is right.
    assert decided(network, one_case(zeros, ones, 1, (at_least(0, 1.0),))).answer is not Answer.UNSAT


def test_strict_and_equal_at_the_edge(tmp_path: Path) -> None:
    """Y_0 = relu(x) on [0, 1]: > 1 nowhere, >= 1 at 1, <= 0 at 0, != 0 elsewhere."""
    net = OnnxModel((1,))
    network = load_plain(
        net.save(tmp_path, net.node("Relu", net.node("Gemm", IMAGE, np.ones((1, 1), np.float32))))
    )
    head = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))(assert (<= X_0 1))"
    for formula, allowed in {
        "(> Y_0 1)": {Answer.UNKNOWN, Answer.UNSAT},
        "(>= Y_0 1)": {Answer.SAT},
        "(<= Y_0 0)": {Answer.SAT},
        "(!= Y_0 0)": {Answer.SAT},
        "(and (> X_0 1) (>= Y_0 0))": {Answer.UNKNOWN, Answer.UNSAT},
        "(<= 1 0)": {Answer.UNSAT},
        "(<= X_0 0.5)": {Answer.SAT},
        "(>= 1 0)": {Answer.SAT},
    }.items():  # fmt: skip
        path = tmp_path / "s.vnnlib"
        path.write_text(f"{head}(assert {formula})")
        outcome = decide_files(network.path, path, time.monotonic() + 60)
        assert outcome.answer in allowed, (formula, outcome)


def test_a_box_without_float32_points_has_no_witness(tmp_path: Path) -> None:
    net = OnnxModel((1,))
    network = load_plain(
        net.save(tmp_path, net.node("Relu", net.node("Gemm", IMAGE, np.ones((1, 1), np.float32))))
    )
    third = (Fraction(1, 3),)
    for level, answer in ((0.4, Answer.UNSAT), (0.3, Answer.UNKNOWN)):
        spec = Spec((1,), (1,), (Case(third, third, ((at_least(0, level),),)),))
        outcome = decided(network, spec)
        assert outcome.answer is answer
        assert ("the box holds no float32 point" in outcome.reason) == (answer is Answer.UNKNOWN)


def test_time_and_curves_are_no_proof(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network = load_plain(dense_network(rng, tmp_path))
    spec = one_case(-np.ones(3, np.float32), np.ones(3, np.float32), 3, (at_least(0, 1e4),))
    late = decide(network, spec, time.monotonic() - 1)
    (tmp_path / "s.vnnlib").write_text(spec_text(spec))
    for found in (late, decide_files(network.path, tmp_path / "s.vnnlib", time.monotonic() - 1)):
        assert found.answer is Answer.TIMEOUT
        assert found.reason
    net = OnnxModel((3,))
    curved = net.node("Sigmoid", net.node("Gemm", IMAGE, float32(rng, 3, 2, scale=9.0), float32(rng, 2)))
    network = load_plain(net.save(tmp_path, net.node("Gemm", curved, float32(rng, 2, 1))))
    values = network.forward(network.trunk, torch.rand(5000, 3, dtype=torch.float64) * 2 - 1)[:, 0]
    spec = one_case(
        -np.ones(3, np.float32), np.ones(3, np.float32), 1, (at_least(0, float(values.max()) + 0.05),)
    )
    open_one = decided(network, spec)
    assert open_one.answer in (Answer.UNKNOWN, Answer.UNSAT, Answer.SAT)
    far = one_case(-np.ones(3, np.float32), np.ones(3, np.float32), 1, (at_least(0, 50.0),))
    assert decided(network, far).answer is Answer.UNSAT


def test_a_specification_of_another_network_is_refused(tmp_path: Path) -> None:
    path = dense_network(np.random.default_rng(0), tmp_path)
    for inputs, outputs, what in ((2, 3, "inputs"), (3, 2, "outputs")):
        spec = one_case(np.zeros(inputs, np.float32), np.ones(inputs, np.float32), outputs, (at_least(0, 0),))
        (tmp_path / "s.vnnlib").write_text(spec_text(spec))
        with pytest.raises(SpecError, match=f"3 {what}, the specification declares 2"):
            decide_files(path, tmp_path / "s.vnnlib", math.inf)


def test_declared_shapes_are_the_files(tmp_path: Path) -> None:
    """[1, 2, 5, 5] -> [1, 3]; as [1, 5, 5, 2], X[0,0,0,1] would be another input."""
    network = load_plain(conv_network(np.random.default_rng(0), tmp_path))
    spec = one_case(np.zeros(50, np.float32), np.ones(50, np.float32), 3, (at_least(0, 0),))
    check_fits(network, spec)
    spec = replace(spec, syntax=Syntax.V2, input_shape=(1, 2, 5, 5), output_shape=(1, 3))
    check_fits(network, spec)
    for change, what in (
        (
            {"input_shape": (1, 5, 5, 2)},
            "shape of X is [1, 2, 5, 5], the specification declares [1, 5, 5, 2]",
        ),
        ({"input_shape": (2, 5, 5)}, "the specification declares [2, 5, 5]"),
        ({"output_shape": (3,)}, "shape of Y is [1, 3], the specification declares [3]"),
    ):
        with pytest.raises(SpecError) as error:
            check_fits(network, replace(spec, **change))
        assert what in error.value.message


def test_nan_and_wrong_bounds_are_never_a_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_plain(dense_network(np.random.default_rng(0), tmp_path))
    spec = one_case(-np.ones(3, np.float32), np.ones(3, np.float32), 3, (at_least(0, 1e4),))
    assert decided(network, spec).answer is Answer.UNSAT

    class Broken(FormBounds):
        value = math.nan

        def by_intervals(self, forms: object) -> torch.Tensor:
            return torch.full((1,), self.value, dtype=torch.float64)

        by_rows = by_intervals

    monkeypatch.setattr(engine_module, "FormBounds", Broken)
    monkeypatch.setattr(Broken, "unfold", lambda *_: NotUnfolded("too large"))
    monkeypatch.setattr(Broken, "layered", lambda *_: NotLayered("no ReLU"))
    for nothing in (math.nan, math.inf):
        monkeypatch.setattr(Broken, "value", nothing)
        assert decided(network, spec).answer is Answer.UNKNOWN
    # A bound above what onnxruntime computes is a contradiction, not a proof.
    monkeypatch.setattr(Broken, "value", 1e9)
    with pytest.raises(EngineError, match="contradiction"):
        decided(network, spec)


def test_a_network_that_differs_from_the_file_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network, other = (load_plain(dense_network(rng, tmp_path)) for _ in range(2))
    spec = one_case(-np.ones(3, np.float32), np.ones(3, np.float32), 3, (at_least(0, 1e4),))
    with pytest.raises(GateError, match="differ from onnxruntime"):
        decided(replace(network, session=other.session), spec)
    net = OnnxModel((3,))
    value = net.node("Gemm", IMAGE, np.full((3, 3), 3e38, np.float32))
    with pytest.raises(CorgiError, match="not finite"):
        decided(load_plain(net.save(tmp_path, net.node("Relu", value))), spec)


def test_numbers_that_float64_cannot_hold_are_refused(tmp_path: Path) -> None:
    network = load_plain(dense_network(np.random.default_rng(0), tmp_path))
    huge = Fraction(10) ** 400
    for factor, constant in ((1 / huge, Fraction(1)), (huge, Fraction(1)), (Fraction(1), huge)):
        constraint = Constraint((), ((0, factor),), constant)
        spec = one_case(-np.ones(3, np.float32), np.ones(3, np.float32), 3, (constraint,))
        with pytest.raises(SpecError, match="outside the range of float64"):
            decided(network, spec)


def test_rounding_of_rationals() -> None:
    third = Fraction(1, 3)
    assert Fraction(rounded(third, -math.inf)) < third < Fraction(rounded(third, math.inf))
    assert rounded(Fraction(10) ** 400, -math.inf) < math.inf
    assert rounded(Fraction(10) ** 400, math.inf) == math.inf
    assert rounded(Fraction(1, 4), math.inf) == 0.25


def two_outputs(folder: Path) -> PlainNetwork:
    """Y_0 = relu(3e38 x_0), Y_1 = relu(-x_0 - 1), which is 0 where x_0 >= 0; x_1 is not used."""
    net = OnnxModel((2,))
    weight, bias = np.float32([[3e38, -1], [0, 0]]), np.float32([0, -1])
    return load_plain(net.save(folder, net.node("Relu", net.node("Gemm", IMAGE, weight, bias))))


def test_tiny_coefficients_in_a_thin_box_are_no_proof(tmp_path: Path) -> None:
    """No float32 point lies in the box, so nothing but the bounds' own rounding guards them."""
    network = two_outputs(tmp_path)
    lower, upper = (Fraction(0), Fraction(1, 10)), (Fraction(1), Fraction(1, 10))

    def satisfied_beyond_1e30(scale: int) -> Spec:
        constraint = Constraint((), ((0, -Fraction(1, 10**scale)),), Fraction(10**30, 10**scale))
        return Spec((2,), (2,), (Case(lower, upper, ((constraint,),)),))

    with pytest.raises(SpecError, match="outside the range of float64"):
        decided(network, satisfied_beyond_1e30(330))
    for scale in (0, 240, 270):
        assert decided(network, satisfied_beyond_1e30(scale)).answer is Answer.UNKNOWN


@pytest.mark.parametrize("scale", [-250, -50, 0, 50, 250])
def test_constraints_of_any_scale_contradict_nothing(scale: int, tmp_path: Path) -> None:
    """Y_1 is 0: scale Y_1 <= -scale is proved against what onnxruntime says, Y_1 >= 0 found."""
    network, factor = two_outputs(tmp_path), Fraction(10) ** scale
    zeros, ones = np.zeros(2, np.float32), np.float32([0.1, 1])
    below = Constraint((), ((1, factor),), factor)
    assert decided(network, one_case(zeros, ones, 2, (below,))).answer is Answer.UNSAT
    above = Constraint((), ((1, -factor),), Fraction(0))
    assert decided(network, one_case(zeros, ones, 2, (above,))).answer is Answer.SAT


def open_question(tmp_path: Path) -> tuple[PlainNetwork, Spec]:
    """max(x, 0) - x / 2 <= -0.01 on [-1, 0.9], true nowhere; one plane does not tell."""
    net = OnnxModel((1,))
    both = net.node("Gemm", IMAGE, np.ones((1, 2), np.float32), np.array([0, 10], np.float32))
    weight = np.array([[1], [-0.5]], np.float32)
    last = net.node("Gemm", net.node("Relu", both), weight, np.array([5], np.float32))
    network = load_plain(net.save(tmp_path, last))
    box = (np.array([end], np.float32) for end in (-1, 0.9))
    return network, one_case(*box, 1, (Constraint((), ((0, Fraction(1)),), Fraction(1, 100)),))


class Silent:
    """A decider that gives up and does not say why, or proves what is no number."""

    name = "silent"

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict

    def decide(self, cone: Cone, nodes: int) -> Verdict:
        return self.verdict

    def minimum(self, cone: Cone) -> Useless:
        return Useless()


@pytest.mark.parametrize(
    "verdict", [Undecided("", 0), Proved(math.nan, 0), Proved(math.inf, 0), Proved(0.0, 0), Proved(-1.0, 0)]
)
def test_a_decider_without_a_reason_or_a_bound_proves_nothing(verdict: Verdict, tmp_path: Path) -> None:
    network, spec = open_question(tmp_path)
    options = DecideOptions(decider=Silent(verdict), attack=NO_ATTACK.attack)
    assert decided(network, spec, NO_ATTACK).answer is Answer.UNSAT
    assert decided(network, spec, options).answer is Answer.UNKNOWN


def test_a_cone_that_is_not_unfolded_without_a_reason_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, spec = open_question(tmp_path)
    monkeypatch.setattr(FormBounds, "unfold", lambda *_: NotUnfolded(""))
    assert decided(network, spec, replace(NO_ATTACK, branch=None)).answer is Answer.UNKNOWN


def test_what_is_not_unfolded_is_branched_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It proves what the tree proves, and never what an input contradicts."""
    monkeypatch.setattr(FormBounds, "unfold", lambda *_: NotUnfolded("too large"))
    network, spec = open_question(tmp_path)
    assert decided(network, spec, NO_ATTACK).answer is Answer.UNSAT
    rng = np.random.default_rng(3)
    plain = load_plain(dense_network(rng, tmp_path))
    points = rng.uniform(-1, 1, (500, 3)).astype(np.float32)
    with torch.no_grad():
        values = plain.forward(plain.trunk32, torch.from_numpy(points))[:, 0]
    level = float(values.quantile(0.8))
    reached = one_case(-np.ones(3, np.float32), np.ones(3, np.float32), 3, (at_least(0, level),))
    # Only corners of the box are tried on the way, so it may stay open; proved it never is.
    assert decided(plain, reached, NO_ATTACK).answer is not Answer.UNSAT
