"""No answer along a family of changes that a dense grid of its parameters can refute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import corgi
from corgi import Status, SweepOptions, SweepResult
from corgi.attacks.target import Target
from corgi.certify.sweep import sweep
from corgi.changes.family import Family
from corgi.changes.gamma import Gamma
from corgi.changes.geometry import Rotation, Scale, Shift
from corgi.changes.given import Basis
from corgi.changes.interface import Change, Sum
from corgi.changes.light import Brightness, Contrast, Darken
from corgi.changes.weather import Fog
from corgi.network.network import Network, load
from corgi.properties import Pointing, Property, Topk
from corgi.terms import Finding
from tests.onnx_models import IMAGE, OnnxModel
from tests.soundness.properties import Subject, properties, subject
from tests.soundness.test_certificates import PLANTED, SIGNS, hidden_violation

CHANGES: tuple[Change, ...] = (Brightness(), Contrast(), Darken(), Fog())
CURVED: dict[str, tuple[Change, float]] = {
    "gamma": (Gamma(), 0.3),
    "rotation": (Rotation(), 20.0),
    "scale": (Scale(), 0.2),
    "shift": (Shift(), 0.4),
}
"""Changes that are no directions, and a size of each that breaks some maps."""


def grid(result: SweepResult, count: int) -> Tensor:
    """About `count` parameters all over the box, its ends among them: [N, d]."""
    low, high = result.family.box(result.largest)
    each = max(2, round(count ** (1 / len(low))))
    axes = [torch.linspace(a, b, each, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(low))


def margins_of(target: Target, family: Family, points: Tensor) -> Tensor:
    """By the network's own layers in float64."""
    found = []
    with torch.no_grad():
        for some in points.split(2000):
            cams = target.network.head.cam(target.network.trunk(family.at(some)), target.class_id)
            found.append(target.holds.margin(cams.flatten(1)))
    return torch.cat(found)


def hold(result: SweepResult, target: Target, slack: float, count: int) -> int:
    """Hold every part, size and number of an answer against a grid; how many parts are decided."""
    points = grid(result, count)
    margins = margins_of(target, result.family, points)
    covered = torch.zeros(len(points), dtype=torch.bool)
    for part in result.parts:
        low, high = (torch.tensor(end, dtype=torch.float64) for end in (part.lower, part.upper))
        inside = ((points >= low) & (points <= high)).all(1)
        covered |= inside
        if part.finding is Finding.HOLDS:
            assert bool((margins[inside] > -slack).all()), part
        if part.finding is Finding.BROKEN:
            assert bool((margins[inside] < slack).all()), part
    assert bool(covered.all()), "the parts leave a point out"
    size = points.abs().amax(1)
    assert bool((margins[size <= result.certified] > -slack).all())
    for limit, status in result.sizes:
        if status is Status.PROVED:
            assert bool((margins[size <= limit] > -slack).all())
    if result.witness is not None:
        point = torch.tensor([result.witness.parameters], dtype=torch.float64)
        if not result.witness.beside:
            assert float(margins_of(target, result.family, point)) < 0
        assert result.witness.size >= result.certified
    if result.broken is not None:
        assert result.broken >= result.certified
    return sum(part.finding is not Finding.OPEN for part in result.parts)


def changed(of: Subject, rng: np.random.Generator, dimensions: int) -> Change:
    """Changes by name, and bases of any directions."""
    if dimensions == 1 and rng.random() < 0.6:
        return CHANGES[int(rng.integers(len(CHANGES)))]
    if dimensions == 2 and rng.random() < 0.5:
        first, second = rng.choice(len(CHANGES), 2, replace=False)
        return Sum((CHANGES[int(first)], CHANGES[int(second)]))
    return Basis(torch.from_numpy(rng.normal(size=(dimensions, *of.network.input_shape))))


def ask(of: Subject, rng: np.random.Generator, dimensions: int, count: int, seconds: float) -> list[int]:
    """Sweep each property of a subject along one change, and hold the answers against a grid."""
    change, size, done = changed(of, rng, dimensions), float(rng.choice([0.05, 0.2, 0.8])), []
    for asked, _ in properties(of, rng).values():
        options = SweepOptions(
            (size / 4, size), of.k, class_id=of.explained.class_id, property=asked, time_limit=seconds
        )
        result = sweep(of.network, of.explained.image, change, options)
        done.append(hold(result, of.explained.question(asked), of.slack, count))
    return done


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_grid_of_parameters_contradicts_an_answer(
    seed: int, curved: bool, dimensions: int, tmp_path: Path
) -> None:
    of = subject(500 + seed, tmp_path, curved=curved)
    if of is not None:
        ask(of, np.random.default_rng(seed), dimensions, 4000, 0.7)


@pytest.mark.parametrize("name", CURVED)
def test_no_grid_contradicts_curves_and_motions(name: str, tmp_path: Path) -> None:
    """Small sizes, which are decided; and ones at which places leave the image, of which little is known."""
    change, usual = CURVED[name]
    decided = 0
    for seed in range(2000, 2016):
        of = subject(seed, tmp_path)
        if of is None:
            continue
        rng = np.random.default_rng(seed)
        size = usual * float(rng.choice([0.1, 1.0, 3.0]))
        one, _ = list(properties(of, rng).values())[int(rng.integers(9))]
        options = SweepOptions(
            (size / 4, size), of.k, class_id=of.explained.class_id, property=one, time_limit=0.5
        )
        result = sweep(of.network, of.explained.image, change, options)
        decided += hold(result, of.explained.question(one), of.slack, 3000) > 0
    assert decided > 2


@pytest.mark.parametrize("width", [1e-2, 1e-3])
@pytest.mark.parametrize("name", CURVED)
def test_a_spike_along_a_curve_is_never_proved_away(name: str, width: float, tmp_path: Path) -> None:
    """The map breaks where its bright pixel has the value that the change gives it at a point."""
    change, usual = CURVED[name]
    _, image = spike(tmp_path, 0.5, width)
    family = change.family(torch.from_numpy(image).to(torch.float64))
    point = (0.37 * usual, *(0.0,) * (family.dimensions - 1))
    value = float(family.at(torch.tensor([point], dtype=torch.float64))[0, 0, 1, 2])
    assert 0.25 < value < 0.49
    network, image = spike(tmp_path, value, width)
    result = sweep(network, image, change, SweepOptions((0.2 * usual, usual), 1, time_limit=10))
    assert result.sizes[-1][1] is not Status.PROVED
    assert 0.1 * usual < result.certified < point[0]
    hold(
        result,
        Target(network, 0, result.explanation.top, result.explanation.question(Topk()).holds),
        1e-9,
        10**4,
    )
    if family.dimensions == 1:
        assert result.sizes == ((0.2 * usual, Status.PROVED), (usual, Status.REFUTED))


@pytest.mark.parametrize("first", range(0, 200, 25))
def test_on_two_hundred_networks(first: int, tmp_path: Path) -> None:
    """MaxPool, Clip, LeakyReLU, residual, average pooling and all else of `random_cam_network`."""
    decided = 0
    for seed in range(first, first + 25):
        of = subject(1000 + seed, tmp_path)
        if of is None:
            continue
        rng = np.random.default_rng(seed)
        change, size = changed(of, rng, 1 + seed % 2), float(rng.choice([0.05, 0.2, 0.8]))
        asked = list(properties(of, rng).values())
        one, _ = asked[int(rng.integers(len(asked)))]
        options = SweepOptions(
            (size / 4, size), of.k, class_id=of.explained.class_id, property=one, time_limit=0.3
        )
        result = sweep(of.network, of.explained.image, change, options)
        decided += hold(result, of.explained.question(one), of.slack, 3000) > 0
    assert decided > 4


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_hundred_thousand_parameters(dimensions: int, tmp_path: Path) -> None:
    of = subject(510, tmp_path)
    assert of is not None
    rng = np.random.default_rng(7)
    change = Basis(torch.from_numpy(rng.normal(size=(dimensions, *of.network.input_shape))))
    options = SweepOptions((0.1, 0.5), of.k, class_id=of.explained.class_id, time_limit=10)
    result = sweep(of.network, of.explained.image, change, options)
    assert hold(result, of.explained.question(Topk()), of.slack, 10**5) > 0


def test_the_first_failing_parameter_is_bracketed(tmp_path: Path) -> None:
    """To 1e-6 of itself, by a proof on either side; float64 agrees at both ends."""
    found = 0
    for seed in range(510, 530):
        of = subject(seed, tmp_path)
        if of is None:
            continue
        options = SweepOptions((1.0,), of.k, class_id=of.explained.class_id, time_limit=5)
        result = sweep(of.network, of.explained.image, Fog(), options)
        if result.broken is None or result.interrupted:
            continue
        found += 1
        assert result.certified <= result.broken <= result.certified * (1 + 1e-6) + 1e-12
        points = torch.tensor([[result.certified], [result.broken]], dtype=torch.float64)
        before, after = margins_of(of.explained.question(Topk()), result.family, points).tolist()
        assert before > -of.slack
        assert after < of.slack
    assert found >= 3


def spike(folder: Path, at: float, width: float) -> tuple[Network, np.ndarray]:
    """A map whose bright pixel falls below the others where it is within `width` of `at`, else nowhere."""
    image = np.full((1, 4, 4), 0.2, np.float32)
    image[0, 1, 2] = 0.5
    depth = 0.6 / width
    model = OnnxModel((1, 4, 4))
    weight = np.ones((4, 1, 1, 1), np.float32)
    bias = np.array([0, width - at, -at, -width - at], np.float32)
    value = model.node("Relu", model.node("Conv", IMAGE, weight, bias))
    return load(model.save(folder, model.head(value, np.array([[1, -depth, 2 * depth, -depth]])))), image


@pytest.mark.parametrize("width", [1e-2, 1e-3, 1e-4])
def test_a_narrow_spike_is_found_and_never_proved_away(width: float, tmp_path: Path) -> None:
    network, image = spike(tmp_path, 0.5 + 0.0613, width)
    result = corgi.sweep(network, image, "brightness", sizes=(0.05, 0.2), k=1, time_limit=20)
    assert result.sizes == ((0.05, Status.PROVED), (0.2, Status.REFUTED))
    assert 0.0613 - width <= result.certified <= 0.0613
    assert result.witness is not None
    assert abs(result.witness.parameters[0] - 0.0613) <= width
    kinds = [part.finding for part in result.parts if part.finding is not Finding.OPEN]
    runs = [kind for i, kind in enumerate(kinds) if i == 0 or kind is not kinds[i - 1]]
    assert runs == [Finding.HOLDS, Finding.BROKEN, Finding.HOLDS]


def test_a_planted_counterexample_is_never_proved(tmp_path: Path) -> None:
    """It fires where the pattern is added beyond 0.03; a second direction hides the way there."""
    network, image = hidden_violation(tmp_path)
    pattern = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    pattern[0, 0, 2:5, 1:4] = torch.from_numpy(SIGNS).to(torch.float64)
    pattern[1, 0, 0, 0] = 1
    for directions in (pattern[:1], pattern):
        result = corgi.sweep(
            network, image, Basis(directions), sizes=(0.0299, PLANTED, 0.04), k=4, time_limit=20
        )
        found = dict(result.sizes)
        assert found[0.0299] is Status.PROVED
        assert found[PLANTED] is not Status.PROVED
        assert found[0.04] is Status.REFUTED
        assert 0.0299 <= result.certified < 0.0301


def test_properties_that_fail_at_the_image_are_neither(tmp_path: Path) -> None:
    network, image = hidden_violation(tmp_path)
    asked: Property = Pointing((0, 1))
    result = corgi.sweep(network, image, "fog", property=asked, k=4)
    assert result.status is Status.UNKNOWN
    assert "at the image itself it is not true that" in result.reason
    assert all(status is Status.UNKNOWN for _, status in result.sizes)
    assert result.certified == 0
    assert result.witness is None
