"""Every engine, method and form: no image of the ball leaves the bounds.

One case is one image against one set of bounds. `test_ten_thousand_cases` counts them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from corgi.cam.topk import top_k
from corgi.decide.margins import Question, feature_wise
from corgi.engines.interface import BoundEngine
from corgi.engines.lirpa import LirpaEngine
from corgi.engines.patch.engine import PatchEngine
from corgi.engines.rounding import rounding
from corgi.errors import EngineError
from corgi.network.network import Network, load
from corgi.terms import Form, LirpaMethod, PatchMethod
from corgi.types import Ball, Interval, Norm
from tests.onnx_models import random_cam_network
from tests.soundness.samples import PLACES, inside, places

RADII = (0.003, 0.05, 0.4)
SAMPLES = 60

ENGINES: list[tuple[BoundEngine, Sequence[int]]] = [
    (LirpaEngine(LirpaMethod.IBP), range(0, 24, 2)),
    (LirpaEngine(LirpaMethod.CROWN_IBP), range(1, 24, 2)),
    (LirpaEngine(LirpaMethod.CROWN), range(0, 24, 2)),
    (LirpaEngine(LirpaMethod.ALPHA_CROWN, iterations=2), (1, 8, 12, 14)),
    (PatchEngine(PatchMethod.CROWN_IBP), range(0, 40, 2)),
    (PatchEngine(PatchMethod.CROWN), range(1, 40, 2)),
    (PatchEngine(PatchMethod.CROWN, budget=20_000), range(40, 50)),
    (PatchEngine(PatchMethod.CROWN_IBP), range(60, 72, 2)),
    (PatchEngine(PatchMethod.CROWN), range(61, 84, 2)),
    (PatchEngine(PatchMethod.CROWN, work=1e5), range(50, 58)),
    (PatchEngine(PatchMethod.CROWN, work=0), range(58, 64)),
]
CURVED = range(60, 84)
"""Seeds of networks with activations that the patch engine alone bounds."""

CASES = [
    pytest.param(engine, seed, dtype, id=f"{engine.name.split()[0]}-{engine.method}-{seed}-{dtype}")
    for engine, seeds in ENGINES
    for i, seed in enumerate(seeds)
    for dtype in ((torch.float32, torch.float64) if i % 4 == 0 else (torch.float32,))
]
"""float64 on every fourth network of an engine, too."""

NORM_CASES = [
    pytest.param(engine, seed, norm, id=f"{norm}-{engine.name.split()[0]}-{engine.method}-{seed}")
    for engine, seeds in ENGINES
    for seed in (seeds[1:2] if engine.method == LirpaMethod.ALPHA_CROWN else seeds[:4])
    for norm in (Norm.L2, Norm.L1)
]


def generated(seed: int, folder) -> tuple[Network, np.ndarray]:
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, folder, curved=seed in CURVED))
    return network, rng.random(network.input_shape, dtype=np.float32)


def assert_inside(bounds: Interval, values: torch.Tensor, slack: float, what: str) -> int:
    below = (bounds.lower.to(torch.float64) - values).amax()
    above = (values - bounds.upper.to(torch.float64)).amax()
    assert below <= slack, f"{what}: a value lies {float(below)} below its lower bound (slack {slack})"
    assert above <= slack, f"{what}: a value lies {float(above)} above its upper bound (slack {slack})"
    return len(values)


@pytest.mark.parametrize(("engine", "seed", "dtype"), CASES)
def test_bounds_hold_all_images_of_the_ball(engine: BoundEngine, seed: int, dtype, tmp_path) -> None:
    assert_bounds_hold(engine, seed, dtype, Norm.LINF, tmp_path)


@pytest.mark.parametrize(("engine", "seed", "norm"), NORM_CASES)
def test_bounds_hold_all_images_of_other_balls(engine: BoundEngine, seed: int, norm: Norm, tmp_path) -> None:
    assert_bounds_hold(engine, seed, (torch.float64, torch.float32)[seed % 2], norm, tmp_path)


def assert_bounds_hold(
    engine: BoundEngine, seed: int, dtype: torch.dtype, norm: Norm, tmp_path, kind: str | None = None
) -> None:
    network, image = generated(seed, tmp_path)
    class_id = seed % network.head.classes
    bounder = engine.bind(network, class_id, dtype)
    errors = rounding(network, class_id)
    # The bounds are rigorous: only the sampled images' own maps may be off, by float64 rounding.
    slack = errors.value
    rng = torch.Generator().manual_seed(seed)
    for radius in RADII if norm is Norm.LINF else RADII[1:]:
        changing = None if kind is None else places(kind, image.shape, seed)
        ball = Ball(torch.from_numpy(image), radius, norm, where=changing)
        images = inside(network, ball, class_id, SAMPLES, seed)
        assert max(ball.distance(one) for one in images) <= radius * (1 + 1e-12)
        with torch.no_grad():
            features = network.trunk(images)
        cams = network.head.cam(features, class_id).flatten(1)
        where = f"network {seed}, radius {radius}"

        assert_inside(bounder.pixels(ball), cams, slack, f"folded, {where}")

        above = torch.randint(network.pixels, (20,), generator=rng)
        below = torch.randint(network.pixels, (20,), generator=rng)
        lower = bounder.differences(ball, above, below)
        margins = cams[:, above] - cams[:, below]
        assert_inside(
            Interval(lower, torch.full_like(lower, torch.inf)), margins, 2 * slack, f"pairs, {where}"
        )

        bounds = bounder.features(ball)
        feature_slack = slack + errors.features
        assert_inside(bounds, features.flatten(2), feature_slack, f"features, {where}")
        top = top_k(cams[0].reshape(network.head.map_shape), 1, 0.0)
        question = Question(network, class_id, top, 1, form=Form.FEATURE)
        assert_inside(feature_wise(question, bounds), cams, slack, f"feature-wise, {where}")


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize(("engine", "seeds"), ENGINES)
def test_bounds_hold_all_images_that_differ_somewhere(engine, seeds, norm, tmp_path) -> None:
    """What may change is a part of the image, or changes by shares of the radius."""
    for number, kind in enumerate(PLACES):
        if kind == "shares" and norm is not Norm.LINF:
            continue  # they are of l_inf
        if engine.method == LirpaMethod.ALPHA_CROWN and number > 0:
            continue  # it takes long, and reads the same box
        assert_bounds_hold(engine, seeds[number % len(seeds)], torch.float64, norm, tmp_path, kind)


@pytest.mark.parametrize("seed", [0, 2])
def test_auto_lirpa_cannot_optimise_the_lines_of_an_s_shape(seed: int, tmp_path) -> None:
    """A sigmoid and a tanh: where release 0.3 fails, that is an error and no bound."""
    network, image = generated(seed, tmp_path)
    bounder = LirpaEngine(LirpaMethod.ALPHA_CROWN, iterations=2).bind(network, 0, torch.float64)
    ball = Ball(torch.from_numpy(image), RADII[0])
    try:
        bounds = bounder.pixels(ball)
    except EngineError:
        return
    cams = network.head.cam(network.trunk(inside(network, ball, 0, SAMPLES, seed)), 0).flatten(1)
    slack = rounding(network, 0).value
    assert_inside(bounds, cams.detach(), slack, f"network {seed}")


def test_ten_thousand_cases() -> None:
    """The suite above compares at least 10,000 images with bounds (4 forms, 3 radii)."""
    assert len(CASES) * len(RADII) * 4 * SAMPLES >= 10_000


def test_tighter_methods_are_not_looser(tmp_path) -> None:
    """IBP >= CROWN-IBP >= CROWN in mean width: a method that changes nothing would hide here."""
    network, image = generated(3, tmp_path)
    ball = Ball(torch.from_numpy(image), 0.02)
    widths = []
    for method in (LirpaMethod.IBP, LirpaMethod.CROWN_IBP, LirpaMethod.CROWN):
        bounds = LirpaEngine(method).bind(network, 0, torch.float64).pixels(ball)
        widths.append(float((bounds.upper - bounds.lower).mean()))
    assert widths[0] >= widths[1] >= widths[2] > 0
    assert widths[0] > widths[2]
