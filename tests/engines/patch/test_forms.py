"""Linear forms of any network's output over boxes: sound everywhere, exact where nothing is undecided."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.decide.decider import Counterexample, Proved
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import Cone, with_inputs
from corgi.engines.patch.engine import PatchEngine
from corgi.engines.patch.forms import FormBounds
from corgi.engines.patch.prepare import prepare
from corgi.vnnlib.constraints import ArrayCase, Box, forms_of, inputs_of
from corgi.vnnlib.network import load_plain
from corgi.vnnlib.spec import Case, Constraint
from tests.vnnlib.nets import conv_network, dense_network, fractions

Build = Callable[[np.random.Generator, Path], Path]


def random_constraints(rng: np.random.Generator, inputs: int, outputs: int) -> tuple[Constraint, ...]:
    """Some on outputs, some on inputs, too, with coefficients that are no floats."""
    found = []
    for number in range(6):
        of_outputs = tuple((j, Fraction(int(rng.integers(1, 9)), 7)) for j in range(number % outputs + 1))
        of_inputs = ((int(rng.integers(inputs)), Fraction(-1, 3)),) if number % 2 else ()
        found.append(Constraint(of_inputs, of_outputs, Fraction(int(rng.integers(-5, 5)), 3)))
    return tuple(found)


@pytest.mark.parametrize("build", [dense_network, conv_network])
@pytest.mark.parametrize("half", [0.0, 0.01, 0.3, 2.0])
def test_bounds_and_cones_hold_at_all_points(build: Build, half: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(int(10 * half))
    network = load_plain(build(rng, tmp_path))
    centre = rng.normal(size=network.inputs)
    widths = half * rng.random(network.inputs)
    lower, upper = ((centre + sign * widths).astype(np.float32) for sign in (-1, 1))
    parts = random_constraints(rng, network.inputs, len(network.outputs))
    array = ArrayCase.of(Case(fractions(lower), fractions(upper), (parts,)))
    box = Box.of(array.case, network)
    forms, of_inputs = forms_of(array, network, box)
    bounds = FormBounds(PatchEngine(), prepare(network), box.centre, box.deviations)
    by_intervals = bounds.by_intervals(forms) + of_inputs
    by_rows = bounds.by_rows(forms) + of_inputs
    assert bool((by_rows >= by_intervals).all())
    bounds.learn(forms)
    learned = bounds.by_intervals(forms) + of_inputs
    points = torch.cat([box.random(200, torch.Generator().manual_seed(0)), box.lower[None], box.upper[None]])
    outputs = network.forward(network.trunk, points.to(torch.float64))
    for number, constraint in enumerate(parts):
        values = [
            float(constraint.value(list(map(Fraction, x)), list(map(Fraction, y))))
            for x, y in zip(points.tolist(), outputs.tolist(), strict=True)
        ]
        assert min(values) >= float(torch.maximum(by_rows, learned)[number])
        if half == 0:
            assert min(values) == pytest.approx(float(by_rows[number]), abs=1e-9)
        # The same constraint alone, as a cone: its value at every point, up to its error.
        cone = bounds.unfold(forms.chosen(torch.tensor([number])))
        assert isinstance(cone, Cone)
        cone = with_inputs(cone, *inputs_of(array, torch.tensor([number]), network, box))
        deviations = network.given(points.to(torch.float64)).flatten(1) - box.centre.flatten()
        margins = cone.margins(deviations[:, cone.pixels])[:, 0]
        assert margins.numpy() == pytest.approx(np.array(values), abs=1e-9)
        assert bool((margins <= torch.tensor(values, dtype=torch.float64) + 1e-12).all())


def test_a_cone_with_inputs_is_decided(tmp_path: Path) -> None:
    """Y_0 + x_0 against its least value over the box, found by enumeration of a fine grid."""
    rng = np.random.default_rng(5)
    network = load_plain(dense_network(rng, tmp_path, inputs=1))
    lower, upper = np.float32([-1]), np.float32([1])
    grid = torch.linspace(-1, 1, 20001, dtype=torch.float64)[:, None]
    values = network.forward(network.trunk, grid)[:, 0] + grid[:, 0]
    least = float(values.min())
    for level, kind in ((least - 1e-3, Proved), (least + 1e-3, Counterexample)):
        constraint = Constraint(((0, Fraction(1)),), ((0, Fraction(1)),), Fraction(-level))
        array = ArrayCase.of(Case(fractions(lower), fractions(upper), ((constraint,),)))
        box = Box.of(array.case, network)
        forms, _ = forms_of(array, network, box)
        bounds = FormBounds(PatchEngine(), prepare(network), box.centre, box.deviations)
        cone = bounds.unfold(forms)
        assert isinstance(cone, Cone)
        cone = with_inputs(cone, *inputs_of(array, torch.tensor([0]), network, box))
        assert isinstance(TreeDecider().decide(cone, 20_000), kind)
