"""No certificate of any method and form exceeds what an attack, a sample or the construction can refute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi import (
    AttackOptions,
    Form,
    LirpaEngine,
    LirpaMethod,
    PatchEngine,
    PatchMethod,
    Status,
    load,
    verify,
)
from corgi.attack.margin import MarginAttack
from corgi.attack.target import Target
from corgi.cam.topk import decision_margin
from corgi.network.network import Network
from corgi.types import Ball
from tests.onnx_models import OnnxModel, random_cam_network
from tests.soundness.samples import inside

ENGINES = [
    LirpaEngine(LirpaMethod.IBP),
    LirpaEngine(LirpaMethod.CROWN_IBP),
    LirpaEngine(LirpaMethod.CROWN),
    PatchEngine(PatchMethod.CROWN_IBP),
    PatchEngine(PatchMethod.CROWN),
]
every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda e: f"{e.name.split()[0]}-{e.method}")
SEEDS = range(100, 112)


def case(seed: int, folder: Path) -> tuple[Network, np.ndarray, int, int]:
    """A generated network, an image, and ranks (k, k2); half the cases are relaxed."""
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, folder))
    k = int(rng.integers(1, network.pixels - 1))
    k2 = k if seed % 2 else int(rng.integers(k, network.pixels))
    return network, rng.random(network.input_shape, dtype=np.float32), k, k2


@pytest.mark.parametrize("form", list(Form))
@every_engine
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_inside_a_certified_ball_breaks_it(seed: int, engine, form: Form, tmp_path) -> None:
    network, image, k, k2 = case(seed, tmp_path)
    result = verify(network, image, k=k, k2=k2, engine=engine, form=form, attack=None, max_evaluations=8)
    certificate = result.certificate
    if certificate.radius == 0:
        assert certificate.recheck is None
        return
    assert certificate.recheck is not None
    assert certificate.recheck.margin > certificate.recheck.rounding_bound > 0
    assert certificate.recheck.radius == certificate.radius
    ball = Ball(torch.from_numpy(image), certificate.radius)
    images = inside(network, ball, result.class_id, 90, seed)
    with torch.no_grad():
        cams = network.head.cam(network.trunk(images), result.class_id).flatten(1)
    assert decision_margin(cams, result.top, k2).min() > 0
    target = Target(network.trunk32, network, result.class_id, result.top, k2, False, 0)
    attempt = MarginAttack(steps=60, restarts=6).run(
        target, ball, torch.zeros(0, *image.shape), torch.Generator().manual_seed(seed)
    )
    assert attempt.margin > -1e-5 * float(cams.abs().max())


@every_engine
@pytest.mark.parametrize("seed", SEEDS)
def test_an_absurd_radius_is_not_certified_where_an_attack_changes_the_map(
    seed: int, engine, tmp_path
) -> None:
    network, image, k, k2 = case(seed, tmp_path)
    options = AttackOptions(steps=40, restarts=4)
    attacked = verify(
        network, image, k=k, k2=k2, eps=1.0, attack=options, engine=LirpaEngine(LirpaMethod.IBP)
    )
    alone = verify(network, image, k=k, k2=k2, eps=1.0, attack=None, engine=engine)
    if attacked.status is Status.REFUTED:
        assert alone.status is Status.UNKNOWN
        assert alone.certificate.radius == 0


SIGNS = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]], np.float32)
PLANTED = 0.0301


def hidden_violation(folder: Path) -> tuple[Network, np.ndarray]:
    """A network whose map breaks in a corner of the ball that no gradient points to, and an image.

    The map is 0.01 * (mean of 3 x 3 pixels) + 100 relu(SIGNS . x - t). The image rises by 0.16 a row, so by
    the means alone the last row of the 4 x 4 map stays on top up to radius 0.08. For the third row,
    SIGNS . x is the window's centre; t lies 9 * 0.03 above it, so the pattern fires there just beyond
    radius 0.03, where the perturbation is r * SIGNS. Below, its gradient there is zero.
    """
    rows = 0.1 + 0.16 * np.arange(6, dtype=np.float32)
    image = np.broadcast_to(rows[None, :, None], (1, 6, 6)).astype(np.float32)
    threshold = float(rows[3]) + 9 * 0.03
    model = OnnxModel((1, 6, 6))
    bump = model.node("Conv", "image", SIGNS[None, None], np.array([-threshold], np.float32))
    bump = model.node("Relu", bump)
    base = model.node("Conv", "image", np.full((1, 1, 3, 3), 1 / 9, np.float32))
    features = model.node("Concat", bump, base, axis=1)
    return load(model.save(folder, model.head(features, np.array([[100.0, 0.01]])))), image


def test_the_planted_counterexample_exists_and_is_hidden(tmp_path) -> None:
    network, image = hidden_violation(tmp_path)
    result = verify(
        network, image, k=4, eps=PLANTED, attack=AttackOptions(), engine=LirpaEngine(LirpaMethod.IBP)
    )
    assert result.status is Status.UNKNOWN, "the attack should not find it"
    broken = image.copy()
    broken[0, 2:5, 1:4] += np.float32(PLANTED) * SIGNS
    cam = network.cam(broken, 0).reshape(1, -1)
    assert decision_margin(cam, result.top, 4).item() < 0


@pytest.mark.parametrize("form", list(Form))
@every_engine
def test_a_planted_counterexample_is_never_proved(engine, form: Form, tmp_path) -> None:
    network, image = hidden_violation(tmp_path)
    result = verify(network, image, k=4, eps=PLANTED, attack=None, engine=engine, form=form)
    assert result.status is Status.UNKNOWN
    searched = verify(network, image, k=4, attack=None, engine=engine, form=form)
    assert 0 < searched.certificate.radius < PLANTED


@every_engine
def test_a_vacuous_bound_is_never_a_proof(engine, tmp_path, monkeypatch) -> None:
    """NaN from an engine: unknown, radius 0."""
    network, image, k, k2 = case(105, tmp_path)

    def nan_bounds(self, source, ball, form):
        size = network.pixels if form is None else form.shape[1]
        if source == "features":
            size = network.pixels * network.head.filters
        return torch.full((size,), torch.nan), torch.full((size,), torch.nan)

    def nan_rows(self, value, rows, sign_only=False):
        return torch.full((len(rows.top),), torch.nan, dtype=rows.values.dtype)

    monkeypatch.setattr("corgi.engines.lirpa.LirpaBounder._bound", nan_bounds)
    monkeypatch.setattr("corgi.engines.patch.bounds.BallBounds.lower_rows", nan_rows)
    for form in Form:
        result = verify(network, image, k=k, k2=k2, attack=None, engine=engine, form=form)
        assert result.certificate.radius == 0
        assert result.status is Status.UNKNOWN
