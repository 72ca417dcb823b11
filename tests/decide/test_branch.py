"""Branching over units: bounds hold for any lines and multipliers, verdicts are those of the tree."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.budget import OutOfTime, Stoppable, left, limited
from corgi.certify.methods import default_engine
from corgi.decide import branch, lines
from corgi.decide.branch import BranchDecider
from corgi.decide.decider import Counterexample, Proved, Undecided
from corgi.decide.inner import narrowed
from corgi.decide.lines import Rate
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import Cone
from corgi.engines.forms import Forms
from corgi.engines.interface import BoxBounds
from corgi.engines.layered import Layered, NotLayered, Slopes, Sweep
from corgi.terms import Status
from corgi.types import Interval
from corgi.vnnlib.network import PlainNetwork, load_plain
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.vnnlib.nets import conv_network, dense_network, spread_network

BRANCH = BranchDecider(root=Rate(20), rate=Rate(8), candidates=3)


def form(rng: np.random.Generator, outputs: int, level: float, count: int = 1) -> Forms:
    """Forms with random coefficients on all outputs, and one constant."""
    coefficients = torch.from_numpy(rng.normal(size=count * outputs))
    return Forms(
        torch.arange(count).repeat_interleave(outputs),
        torch.arange(outputs).repeat(count),
        coefficients,
        torch.full((count,), level, dtype=torch.float64),
    )


def subjects(
    seeds: range, folder: Path
) -> Iterator[tuple[PlainNetwork, torch.Tensor, Interval, np.random.Generator]]:
    """Networks, a point, and a box around it."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        place = folder / str(seed)
        place.mkdir()
        network = load_plain((dense_network, spread_network)[seed % 2](rng, place))
        centre = torch.from_numpy(rng.uniform(-1, 1, network.input_shape))
        reach = torch.full_like(centre, float(rng.choice([0.1, 0.3, 0.8])))
        yield network, centre, Interval(-reach, reach), rng


def problem_of(bounds: BoxBounds, forms: Forms) -> Layered:
    found = bounds.layered(forms)
    assert isinstance(found, Layered)
    return found


def points_of(box: Interval, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Random points and corners of a box of deviations."""
    share = torch.from_numpy(rng.uniform(size=(count, *box.lower.shape)))
    share[: count // 2] = (share[: count // 2] > 0.5).to(torch.float64)
    return box.lower + share * (box.upper - box.lower)


def signs_at(problem: Layered, points: torch.Tensor) -> torch.Tensor:
    """The sign of every open unit at points [N, C, H, W]: [N, U]."""
    values, found = {problem.input: problem.middle + points}, []
    for step in problem.steps:
        values[step.output] = step.layer(*(values[name] for name in step.inputs))
        if step.output in problem.rectifiers:
            found.append(values[step.inputs[0]].flatten(1)[:, problem.rectifiers[step.output].open])
    return torch.cat(found, 1).sign()


def test_any_lines_and_multipliers_bound_what_they_are_for(tmp_path: Path) -> None:
    """Random slopes, multipliers and signs: no sample of the part of the box lies below the bound."""
    compared = 0
    for network, centre, box, rng in subjects(range(12), tmp_path):
        forms = form(rng, len(network.outputs), 0.0)
        problem = narrowed(problem_of(default_engine().boxes(network)(centre, box), forms), Rate(2))
        points, units = points_of(problem.box, 400, rng), problem.undecided
        margins, signs = problem.margins(points)[:, 0], signs_at(problem, points)
        for _ in range(20):
            given = torch.from_numpy(rng.choice([0, 0, 0, 0, 1, -1], size=(1, units))).to(torch.int8)
            # Beyond their range, too, and not a number: they are only suggestions.
            alpha = torch.from_numpy(rng.uniform(-0.5, 1.5, (1, units)))
            beta = torch.from_numpy(rng.exponential(2.0, (1, units)) - 0.5)
            alpha[0, :1], beta[0, -1:] = torch.nan, torch.nan
            slopes = Slopes(alpha, beta, given)
            start = {problem.output: problem.rows}
            lower = float(Sweep(problem).run(start, problem.constant, slopes, rigorous=True).lower[0])
            inside = ((signs == given) | (given == 0)).all(1)
            slack = 1e-9 * float(margins.abs().max())
            assert not bool((margins[inside] < lower - slack).any())
            compared += int(inside.sum())
    assert compared > 5000


def test_inner_bounds_hold(tmp_path: Path) -> None:
    for network, centre, box, rng in subjects(range(20, 28), tmp_path):
        problem = problem_of(
            default_engine().boxes(network)(centre, box), form(rng, len(network.outputs), 0.0)
        )
        found = narrowed(problem, Rate(3))
        values = {problem.input: problem.middle + points_of(problem.box, 300, rng)}
        for step in problem.steps:
            values[step.output] = step.layer(*(values[name] for name in step.inputs))
            if step.output in found.rectifiers:
                known, z = found.rectifiers[step.output], values[step.inputs[0]].flatten(1)
                assert bool(((z >= known.lower - 1e-9) & (z <= known.upper + 1e-9)).all())
                assert bool((z[:, known.sign > 0] >= -1e-9).all() & (z[:, known.sign < 0] <= 1e-9).all())
                before = problem.rectifiers[step.output]
                assert bool((known.lower >= before.lower).all() & (known.upper <= before.upper).all())


@pytest.mark.parametrize("count", [1, 2])
def test_verdicts_are_those_of_the_tree(count: int, tmp_path: Path) -> None:
    """At levels around the least value; where either gives up nothing is compared."""
    counts = Counter[type]()
    for network, centre, box, rng in subjects(range(100, 112), tmp_path):
        bounds = default_engine().boxes(network)(centre, box)
        forms = form(rng, len(network.outputs), 0.0, count)
        least = float(problem_of(bounds, forms).margins(points_of(box, 2000, rng)).amax(1).min())
        for level in (-least - 0.2, -least - 0.01, -least + 0.05, -least + 0.3):
            moved = replace(forms, constant=torch.full_like(forms.constant, level))
            cone = bounds.unfold(moved)
            assert isinstance(cone, Cone)
            tree = TreeDecider().decide(cone, 500)
            found = BRANCH.decide(narrowed(problem_of(bounds, moved), Rate(3)), 500)
            if Undecided not in (type(tree), type(found)):
                assert type(tree) is type(found), (tree, found)
                counts[type(found)] += 1
    assert min(counts[Proved], counts[Counterexample]) > 5, counts


@pytest.mark.parametrize("widest", [1, 2, 64])
def test_a_planted_counterexample_is_never_proved(
    widest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The level is that of a corner, a little below 0 there; of a batch no part is lost, however wide."""
    monkeypatch.setattr(branch, "_WIDEST", widest)
    for network, centre, box, rng in subjects(range(200, 206), tmp_path):
        forms = form(rng, len(network.outputs), 0.0)
        bounds = default_engine().boxes(network)(centre, box)
        least = float(problem_of(bounds, forms).margins(points_of(box, 2000, rng)).min())
        planted = replace(forms, constant=torch.full_like(forms.constant, -least - 1e-7))
        verdict = BRANCH.decide(narrowed(problem_of(bounds, planted), Rate(3)), 500)
        assert not isinstance(verdict, Proved)


def hard(folder: Path) -> Layered:
    """A problem that the root alone does not decide."""
    for network, centre, box, rng in subjects(range(300, 340), folder):
        bounds = default_engine().boxes(network)(centre, box)
        forms = form(rng, len(network.outputs), 0.0)
        least = float(problem_of(bounds, forms).margins(points_of(box, 2000, rng)).min())
        moved = replace(forms, constant=torch.full_like(forms.constant, 0.01 - least))
        found = BRANCH.decide(problem_of(bounds, moved), 4000)
        if isinstance(found, Proved) and found.nodes > 8:
            return problem_of(bounds, moved)
    raise AssertionError("every problem is decided at the root")


def test_what_ends_early_is_never_a_proof(tmp_path: Path) -> None:
    problem = hard(tmp_path)
    assert isinstance(BRANCH.decide(problem, 4000), Proved)
    assert isinstance(BRANCH.decide(problem, 1), Undecided)
    with limited(time.monotonic() - 1):
        verdict = None
        with suppress(OutOfTime):
            verdict = BRANCH.decide(problem, 4000)
        assert not isinstance(verdict, Proved)


@pytest.mark.parametrize("calls", [0, 3, 30])
def test_ctrl_c_is_never_a_proof(calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in the middle of the steps of some batch."""
    problem, seen, verdict = hard(tmp_path), iter(range(10**6)), None

    def interrupted() -> float:
        if next(seen) == calls:
            raise KeyboardInterrupt
        return left()

    monkeypatch.setattr(lines, "left", interrupted)
    with Stoppable() as end:
        verdict = BRANCH.decide(problem, 4000)
    assert verdict is None
    assert end.status is Status.INTERRUPTED


def test_what_is_not_a_number_proves_nothing(tmp_path: Path) -> None:
    problem = hard(tmp_path)
    broken = replace(problem, constant=torch.full_like(problem.constant, torch.nan))
    assert not isinstance(BRANCH.decide(broken, 50), Proved)
    sizes = {**problem.sizes, problem.output: problem.sizes[problem.output] * torch.nan}
    assert not isinstance(BRANCH.decide(replace(problem, sizes=sizes), 50), Proved)


def bounds_of(network: PlainNetwork, reach: float) -> BoxBounds:
    centre = torch.zeros(network.input_shape, dtype=torch.float64)
    return default_engine().boxes(network)(centre, Interval(centre - reach, centre + reach))


def many_layers(rng: np.random.Generator, folder: Path) -> PlainNetwork:
    """Strides, padding, groups, residuals, differences, concatenation, scales, means and clipping."""
    net = OnnxModel((2, 5, 5))

    def conv(value: str, outputs: int, inputs: int, size: int, **options: object) -> str:
        return net.node(
            "Conv",
            value,
            float32(rng, outputs, inputs, size, size),
            float32(rng, outputs),
            **options,
        )

    first = net.node("Relu", conv(IMAGE, 4, 2, 3, pads=[1, 1, 1, 1]))
    second = net.node("Relu", conv(first, 4, 2, 3, pads=[1, 1, 1, 1], group=2))
    both = net.node("Sub", net.node("Add", first, second), net.node("Mul", second, float32(rng, 4, 1, 1)))
    third = net.node("Concat", net.node("Clip", both, np.float32(-1), np.float32(2)), first, axis=1)
    third = net.node(
        "AveragePool",
        net.node("Relu", conv(third, 6, 8, 2, strides=[1, 1])),
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
    flat = net.node("Flatten", third)
    return load_plain(net.save(folder, net.node("Gemm", flat, float32(rng, 24, 3), float32(rng, 3))))


@pytest.mark.parametrize("seed", range(6))
def test_layers_of_all_kinds_bound_what_they_are_for(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    network = many_layers(rng, tmp_path)
    problem = narrowed(problem_of(bounds_of(network, 0.3), form(rng, 3, 0.0)), Rate(2))
    points, units = points_of(problem.box, 600, rng), problem.undecided
    margins, signs = problem.margins(points)[:, 0], signs_at(problem, points)
    slack = 1e-9 * float(margins.abs().max())
    # The signs of one of the points: it stays in its own part.
    for at in (None, *range(12)):
        alpha, beta = torch.rand(1, units).to(torch.float64), 0.1 * torch.rand(1, units).to(torch.float64)
        given = torch.zeros(1, units, dtype=torch.int8) if at is None else signs[at : at + 1].to(torch.int8)
        start = {problem.output: problem.rows}
        sweep = Sweep(problem).run(start, problem.constant, Slopes(alpha, beta, given), rigorous=True)
        inside = ((signs == given) | (given == 0)).all(1)
        assert bool(inside.any())
        assert not bool((margins[inside] < float(sweep.lower[0]) - slack).any())


def test_what_many_layers_read_is_rounded_at_each_of_them(tmp_path: Path) -> None:
    """1 + tiny + ... + tiny - 1: the coefficient ends as 0, and what was lost on the way is not."""
    count, tiny = 200, float(np.float32(0.99 * 2.0**-53))
    weights = np.array([1.0, *[tiny] * (count - 2), -1.0], np.float32)
    net = OnnxModel((1, 1, 1))
    value = net.node("Concat", *[IMAGE] * count, axis=1)
    value = net.node("Conv", value, weights.reshape(1, count, 1, 1), np.zeros(1, np.float32))
    network = load_plain(net.save(tmp_path, net.node("Flatten", value)))
    forms = Forms(
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        *torch.tensor([[1.0], [0.0]]).to(torch.float64),
    )
    problem, none = problem_of(bounds_of(network, 1.0), forms), torch.zeros(1, 0, dtype=torch.float64)
    start = {problem.output: problem.rows}
    slopes = Slopes(none, none, none.to(torch.int8))
    lower = float(Sweep(problem).run(start, problem.constant, slopes, rigorous=True).lower[0])
    assert Fraction(lower) <= -sum(Fraction(float(weight)) for weight in weights)
    # Nothing to split: undecided or proved, and no exception.
    assert isinstance(BRANCH.decide(problem, 10), Undecided)


def test_a_window_of_one_element_with_a_stride_is_no_rectifier(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = OnnxModel((1, 3, 3))
    value = net.node("Conv", IMAGE, float32(rng, 2, 1, 1, 1), float32(rng, 2))
    value = net.node("Relu", net.node("MaxPool", value, kernel_shape=[1, 1], strides=[2, 2]))
    network = load_plain(net.save(tmp_path, net.node("Flatten", value)))
    assert isinstance(bounds_of(network, 0.5).layered(form(rng, 8, 0.0)), NotLayered)


def test_pools_are_not_served(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network = load_plain(conv_network(rng, tmp_path))
    centre = torch.zeros(network.input_shape, dtype=torch.float64)
    bounds = default_engine().boxes(network)(centre, Interval(centre - 0.1, centre + 0.1))
    found = bounds.layered(form(rng, len(network.outputs), 0.0))
    assert isinstance(found, NotLayered)
    assert "ReLU" in found.reason
