"""Unfolded margins against the network itself, in float64 and without any rounding."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from corgi import LirpaEngine, LirpaMethod, PatchEngine, PatchMethod, load
from corgi.engines.cone import Cone, NotUnfolded
from corgi.engines.forms import pairs
from corgi.engines.patch import unfold
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.intervals import centres
from corgi.engines.patch.patches import Patches, Places
from corgi.engines.patch.prepare import Maximum, prepare
from corgi.engines.patch.unfold import cone_of
from corgi.errors import EngineError
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Ball, Interval
from tests.decide.cases import Case, Subject, subjects
from tests.engines.patch import exact as ex
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network

RADII = (1e-4, 0.01, 0.05, 0.2)


def random_case(subject: Subject, rng: np.random.Generator, radius: float, margins: int) -> Case:
    """Any margins, far and near ones, of either sign."""
    above, below = torch.from_numpy(rng.integers(0, subject.network.pixels, (2, margins)))
    return Case(subject, above, below, radius)


@pytest.mark.parametrize("margins", [1, 2, 5])
@pytest.mark.parametrize("start", range(0, 40, 10))
def test_margins_are_those_of_the_network(start: int, margins: int, tmp_path: Path) -> None:
    """At random points and corners; never above by more than float64 rounds."""
    undecided = []
    for subject, rng in subjects(range(start, start + 10), tmp_path):
        for radius in RADII:
            case = random_case(subject, rng, radius, margins)
            undecided.append(case.cone.undecided)
            points = case.deviations(40, start)
            found, expected = case.cone.margins(points), case.margins(case.images(points))
            assert found.shape == (40, margins)
            assert (found - expected).abs().max() <= 1e-9 * subject.scale
            assert (found - expected).max() <= 1e-12 * subject.scale
    assert max(undecided) > 20, "some windows have to be undecided for the test to mean anything"


def test_a_row_that_reads_outside_its_cone_is_no_cone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coefficient that is dropped would make a margin something else; it is checked, not believed."""
    columns = unfold._columns
    monkeypatch.setattr(unfold, "_columns", lambda *asked: columns(*asked)[1:])
    for subject, rng in subjects(range(3), tmp_path):
        with pytest.raises(EngineError, match="outside of its cone"):
            random_case(subject, rng, 0.05, 2).cone  # noqa: B018


@pytest.mark.parametrize("relaxation", list(PatchMethod))
def test_every_relaxation_unfolds_the_same_function(relaxation: PatchMethod, tmp_path: Path) -> None:
    """Which windows are decided depends on it, the margins do not."""
    for subject, rng in subjects(range(5, 12), tmp_path):
        bounder = PatchEngine(relaxation).bind(subject.network, 0, torch.float64)
        case = random_case(Subject(subject.network, bounder, subject.image), rng, 0.05, 2)
        points = case.deviations(20, 0)
        off = case.cone.margins(points) - case.margins(case.images(points))
        assert off.abs().max() <= 1e-9 * subject.scale


def test_parts_fit_together(tmp_path: Path) -> None:
    """Windows are numbered layer by layer, read earlier ones only, and lie within their ends."""
    for subject, rng in subjects(range(40, 60), tmp_path):
        case = random_case(subject, rng, 0.1, 2)
        cone, points = case.cone, case.deviations(30, 1)
        outputs, start = cone.outputs(points), 0
        for layer in cone.layers:
            assert layer.start == start
            assert layer.earlier.shape == (len(layer.window), start)
            assert (layer.error >= 0).all()
            start += len(layer)
            found = outputs[:, layer.start : start]
            assert (layer.lower - 1e-9 * subject.scale <= found).all()
            assert (found <= layer.upper + 1e-9 * subject.scale).all()
            elements = layer.elements(points, outputs)
            assert torch.equal(elements > -torch.inf, layer.live.expand_as(elements))
            assert torch.equal(elements.amax(-1), found)
        assert start == cone.undecided
        maxima = cone.maxima(points[0])
        assert len(maxima) == cone.undecided
        for layer in cone.layers:
            chosen = maxima[layer.start : layer.start + len(layer)]
            assert all(live[element] for live, element in zip(layer.live, chosen, strict=True))
        box = case.ball.box(torch.float64)
        deviation = torch.stack([box.lower, box.upper]) - subject.image.double()
        ends = deviation.flatten(1)[:, cone.pixels]
        assert (cone.lower <= ends[0]).all()
        assert (ends[1] <= cone.upper).all()
        assert (torch.stack([cone.lower, cone.upper]).abs() <= 0.1 * (1 + 1e-9)).all()


def test_pixels_outside_the_cone_do_not_matter(tmp_path: Path) -> None:
    for subject, rng in subjects(range(20), tmp_path):
        case = random_case(subject, rng, 0.1, 1)
        box, images = case.ball.inner_box(torch.float64), subject.image.double().repeat(2, 1, 1, 1)
        noise = box.lower + torch.rand(box.lower.shape, dtype=torch.float64) * (box.upper - box.lower)
        outside = torch.ones(noise.numel(), dtype=torch.bool)
        outside[case.cone.pixels] = False
        images[1].view(-1)[outside] = noise.flatten()[outside]
        first, second = case.margins(images)
        assert (first - second).abs().max() <= 1e-12 * subject.scale


def numbers(values: Tensor) -> list[Fraction]:
    return [Fraction(v) for v in values.flatten().tolist()]


def dot(coefficients: list[Fraction], values: list[Fraction]) -> Fraction:
    return sum((c * v for c, v in zip(coefficients, values, strict=True) if c), Fraction(0))


def least_and_most(cone: Cone, deviations: list[Fraction]) -> list[tuple[Fraction, Fraction]]:
    """What a cone says of its margins at one point, without rounding: values and the errors it admits.

    `constant` has its error set aside already, so it is an end from below only; the other end gets none.
    """
    low: list[Fraction] = []
    high: list[Fraction] = []

    def over(coefficients: Tensor) -> tuple[Fraction, Fraction]:
        known = numbers(coefficients)
        ends = [(c * a, c * b) for c, a, b in zip(known, low[: len(known)], high[: len(known)], strict=True)]
        return sum((min(e) for e in ends), Fraction(0)), sum((max(e) for e in ends), Fraction(0))

    for layer in cone.layers:
        found = []
        for window, live in enumerate(layer.live):
            ends = []
            for element in live.nonzero().flatten().tolist():
                lead = Fraction(float(layer.lead[window, element]))
                off, below, above = Fraction(2) ** -52 * abs(lead), lead, lead
                at = ((layer.window == window) & (layer.element == element)).nonzero().flatten().tolist()
                for row in at:
                    own = dot(numbers(layer.image[row]), deviations)
                    least, most = over(layer.earlier[row])
                    off += Fraction(float(layer.error[row]))
                    below, above = below + own + least, above + own + most
                ends.append((below - off, above + off))
            found.append((max(e[0] for e in ends), max(e[1] for e in ends)))
        low.extend(e[0] for e in found)
        high.extend(e[1] for e in found)
    margins = []
    for constant, image, windows in zip(cone.constant, cone.image, cone.windows, strict=True):
        value = Fraction(float(constant)) + dot(numbers(image), deviations)
        least, most = over(windows)
        margins.append((value + least, value + most))
    return margins


@pytest.mark.parametrize("seed", [5, 6, 17, 28, 34])
def test_margins_hold_exact_values(seed: int, tmp_path: Path) -> None:
    """No rounding is forgiven: what the cone says with its errors is at most the margin, and close to it."""
    ((subject, rng),) = subjects(range(seed, seed + 1), tmp_path)
    graph = prepare(subject.network)
    weight = subject.network.head.weight[0]
    for radius in (0.003, 0.1):
        case = random_case(subject, rng, radius, 2)
        for deviations in case.deviations(2, seed):
            dense = torch.zeros(subject.image.numel(), dtype=torch.float64)
            dense[case.cone.pixels] = deviations
            # The sum in float64 would round: exactly image + deviation.
            image = ex.exact(subject.image.double()) + ex.exact(dense.reshape(subject.image.shape))
            values = {graph.input_name: image}
            for step in graph.steps:
                values[step.output] = ex.step_value(step.layer, [values[name] for name in step.inputs])
            features = values[graph.output_name]
            flat = ex.Exact(features.numbers.reshape(len(features.numbers), -1), features.scale)
            cam = ex.exact(weight.double()[:, None]) * flat
            unit = Fraction(1, 2**cam.scale)
            total = [unit * n for n in cam.numbers.sum(0)]
            ends = least_and_most(case.cone, numbers(deviations))
            pairs = zip(case.above.tolist(), case.below.tolist(), strict=True)
            for (least, most), (i, p) in zip(ends, pairs, strict=True):
                assert least <= total[i] - total[p]
                assert most >= total[i] - total[p] - Fraction(1e-9) * Fraction(subject.scale)
                assert most - least <= Fraction(1e-9) * Fraction(subject.scale)


def test_errors_of_cancelled_biases_are_set_aside() -> None:
    """Biases of 1e9 come and go: centres and leads are off by 1e-7, and the cone has to know."""
    generator = torch.Generator().manual_seed(0)
    off = 0
    for trial in range(8):
        weights = torch.randn(2, 2, 2, 2, 2, generator=generator, dtype=torch.float64)
        first = layers.Conv(weights[0, :, :1], torch.full((2,), 1e9, dtype=torch.float64))
        back = -1e9 * weights[1].sum((1, 2, 3)) + 0.1 * torch.randn(2, generator=generator)
        second = layers.Conv(weights[1], back)
        kinds = [first, Maximum(), second, Maximum()]
        names = ["x", "a", "b", "c", "d"]
        steps = [Step("", "", kind, (names[i],), names[i + 1]) for i, kind in enumerate(kinds)]
        graph = TorchGraph(tuple(steps), "x", "d")
        image = torch.rand(1, 1, 5, 5, generator=generator, dtype=torch.float64)
        ends = torch.full_like(image, 0.125)
        known = centres(graph, image)
        bounds = BallBounds.over(graph, known, Interval(-ends, ends), refine=trial % 2 == 0, budget=2**28)
        bounds.require("d", torch.ones(1, 3, 3, dtype=torch.bool))
        # One channel minus the other, at each place.
        place = np.arange(9)
        values = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(9, 1)[:, :, None, None]
        rows = Patches(values, Places(np.zeros_like(place), place // 3, place % 3), place)
        value = known["d"].value[0].flatten(1)
        at_centre = value[0] - value[1]
        cone = cone_of(bounds, "d", rows, at_centre - 2.0**-52 * at_centre.abs())
        assert cone.undecided >= 4
        share = torch.rand(3, len(cone.pixels), generator=generator, dtype=torch.float64)
        for deviations in cone.lower + share * (cone.upper - cone.lower):
            dense = torch.zeros(25, dtype=torch.float64)
            dense[cone.pixels] = deviations
            found = {"x": ex.exact(image[0]) + ex.exact(dense.reshape(1, 5, 5))}
            for step in steps:
                found[step.output] = ex.step_value(step.layer, [found[name] for name in step.inputs])
            exact = found["d"].numbers.reshape(2, 9)
            unit = Fraction(1, 2 ** found["d"].scale)
            plain = cone.margins(deviations[None])[0] + cone.error
            for row, (least, most) in enumerate(least_and_most(cone, numbers(deviations))):
                true = unit * (exact[0, row] - exact[1, row])
                assert least <= true <= most + 2 * Fraction(float(cone.error[row]))
                assert most - least <= Fraction(1e-3)
                off += abs(true - Fraction(float(plain[row]))) > Fraction(1e-8)
    assert off >= 20, "rounding has to matter for the test to mean anything"


@pytest.mark.parametrize("curve", ["Sigmoid", "Tanh"])
@pytest.mark.parametrize("behind", [False, True])
def test_curves_are_not_unfolded(curve: str, behind: bool, tmp_path: Path) -> None:
    """Even if only one of several activations is none."""
    rng, model = np.random.default_rng(0), OnnxModel()
    value = IMAGE
    for activation in ("Relu", curve) if behind else (curve, "Relu"):
        value = model.node(activation, model.node("Conv", value, float32(rng, 2, 2, 2, 2)))
    network = load(model.save(tmp_path, model.head(value, float32(rng, 2, 2))))
    bounder = PatchEngine().bind(network, 0, torch.float64)
    ball = Ball(torch.full(network.input_shape, 0.5), 0.01)
    assert not bounder.unfolds
    assert isinstance(bounder.unfold(ball, pairs(torch.tensor([0]), torch.tensor([1]))), NotUnfolded)


@pytest.mark.parametrize("method", list(LirpaMethod))
def test_auto_lirpa_does_not_unfold(method: LirpaMethod, tmp_path: Path) -> None:
    network = load(random_cam_network(np.random.default_rng(5), tmp_path))
    assert PatchEngine().bind(network, 0, torch.float64).unfolds
    bounder = LirpaEngine(method).bind(network, 0, torch.float64)
    ball = Ball(torch.full(network.input_shape, 0.5), 0.01)
    assert not bounder.unfolds
    assert isinstance(bounder.unfold(ball, pairs(torch.tensor([0]), torch.tensor([1]))), NotUnfolded)


@pytest.mark.parametrize("budget", [2**14, 2**18])
def test_a_cone_beyond_the_budget_is_not_written_out(budget: int, tmp_path: Path) -> None:
    found = {Cone: 0, NotUnfolded: 0}
    for subject, rng in subjects(range(5, 9), tmp_path):
        bounder = PatchEngine(budget=budget).bind(subject.network, 0, torch.float64)
        above, below = torch.from_numpy(rng.choice(subject.network.pixels, (2, 1), replace=False))
        cone = bounder.unfold(Ball(subject.image, 0.1), pairs(above, below))
        found[type(cone)] += 1
        if isinstance(cone, NotUnfolded):
            assert "pixels" in cone.reason
            assert "windows" in cone.reason
        else:
            assert 8 * cone.undecided * (len(cone.pixels) + cone.undecided) <= budget
    assert min(found.values()) > 0, found
