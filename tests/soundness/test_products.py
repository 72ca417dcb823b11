"""Networks with products, norms and resizes: bounds hold for every norm and method, so do certificates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi import AttackOptions, LirpaEngine, PatchEngine, PatchMethod, load, verify
from corgi.engines.forms import ClassMargins
from corgi.engines.interface import BoundEngine
from corgi.engines.lipschitz.engine import LipschitzEngine
from corgi.engines.patch.batch import bound_maps
from corgi.errors import EngineError
from corgi.network.network import Network
from corgi.smoothing.cam_map import CamMap
from corgi.terms import Status
from corgi.types import Ball, Norm
from tests.rankings import decision_margin
from tests.soundness.networks import NETWORKS
from tests.soundness.samples import inside

every_network = pytest.mark.parametrize("kind", NETWORKS)
SLACK = 1e-12


def case(kind: str, folder: Path, seed: int = 0) -> tuple[Network, np.ndarray]:
    rng = np.random.default_rng(seed)
    network = load(NETWORKS[kind](rng, folder))
    return network, rng.random(network.input_shape, dtype=np.float32)


METHODS = [
    *((method, norm) for method in (PatchMethod.CROWN_IBP, PatchMethod.CROWN) for norm in Norm),
    (PatchMethod.ALPHA_CROWN, Norm.LINF),
    (PatchMethod.FOCUS, Norm.LINF),
]


@every_network
@pytest.mark.parametrize(("method", "norm"), METHODS)
def test_bounds_hold(kind: str, method: PatchMethod, norm: Norm, tmp_path: Path) -> None:
    """Pixels, pairs and labels; CROWN's in both precisions, with all the work and with little."""
    network, image = case(kind, tmp_path)
    generator = torch.Generator().manual_seed(0)
    above, below = (torch.randint(network.pixels, (8,), generator=generator) for _ in range(2))
    settings = [(torch.float64, 2e12), (torch.float32, 2e12), (torch.float64, 1e6)]
    for dtype, work in settings if method is PatchMethod.CROWN else settings[:1]:
        bounder = PatchEngine(method, work=work, rounds=2).bind(network, 0, dtype)
        for radius in (0.003,) if bounder.sharpens else (0.0, 0.003, 0.3):
            ball = Ball(torch.from_numpy(image), radius, norm)
            images = inside(network, ball, 0, 24, 1) if radius else torch.from_numpy(image)[None].double()
            with torch.no_grad():
                features = network.trunk(images)
            values, scores = network.head.cam(features, 0).flatten(1), network.head.logits(features)
            slack = SLACK * (1 + float(values.abs().max()))
            for bounds in (bounder.intervals(ball), bounder.pixels(ball)):
                assert (bounds.lower <= values + slack).all()
                assert (values <= bounds.upper + slack).all()
            margins = values[:, above] - values[:, below]
            assert (bounder.differences(ball, above, below) <= margins + slack).all()
            if bounder.sharpens and radius == 0.003:
                found = bounder.sharpened(ball, above[:3], below[:3])
                assert (found <= margins[:, :3] + slack).all()
            lower = bounder.lower(ball, ClassMargins(network.head, 0))
            assert (lower <= (scores[:, :1] - scores)[:, 1:] + slack).all()
            if radius == 0.003 and work > 1e6:
                assert torch.isfinite(bounds.lower).all()
                assert torch.isfinite(bounds.upper).all()


@every_network
def test_certificate_and_witness(kind: str, tmp_path: Path) -> None:
    network, image = case(kind, tmp_path, seed=1)
    result = verify(network, image, k=3, exact=None, attack=AttackOptions(steps=20, restarts=2))
    radius = result.certificate.radius
    assert result.attack is not None
    assert 0 < radius < result.attack.witness.radius
    images = inside(network, Ball(torch.from_numpy(image), radius), result.class_id, 60, 0)
    with torch.no_grad():
        found = network.head.cam(network.trunk(images), result.class_id).flatten(1)
    assert decision_margin(found, result.top, 3).min() > 0


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind != "attention"])  # that takes 8 s
def test_a_counterexample_is_never_proved_away(kind: str, tmp_path: Path) -> None:
    """At the radius of a witness nothing is proved, whatever the method."""
    network, image = case(kind, tmp_path, seed=2)
    witness = verify(network, image, k=3, exact=None, attack=AttackOptions(steps=20, restarts=2)).attack
    assert witness is not None
    for method in (PatchMethod.CROWN, PatchMethod.FOCUS):
        options = {"k": 3, "exact": None, "attack": None, "engine": PatchEngine(method, rounds=2)}
        assert verify(network, image, eps=witness.witness.radius, **options).status is Status.UNKNOWN


@every_network
def test_several_balls_at_once(kind: str, tmp_path: Path) -> None:
    network, image = case(kind, tmp_path)
    balls = [Ball(torch.from_numpy(image), radius) for radius in (0.001, 0.01)]
    together = bound_maps(PatchEngine(), network, balls, [0, 1])
    for i, ball in enumerate(balls):
        images = inside(network, ball, i, 30, 0)
        with torch.no_grad():
            values = network.head.cam(network.trunk(images), i).flatten(1)
        assert (together.lower[i] <= values + SLACK).all()
        assert (values <= together.upper[i] + SLACK).all()


@every_network
@pytest.mark.parametrize("engine", [LirpaEngine(), LipschitzEngine()], ids=["lirpa", "lipschitz"])
def test_other_engines_refuse_by_node(kind: str, engine: BoundEngine, tmp_path: Path) -> None:
    network, _ = case(kind, tmp_path)
    with pytest.raises(EngineError, match=r"node '.*' \(\w+\)"):
        engine.bind(network, 0, torch.float64)


@every_network
def test_maps_to_smooth(kind: str, tmp_path: Path) -> None:
    network, image = case(kind, tmp_path)
    found = CamMap(network, 0)(torch.from_numpy(image)[None].repeat(2, 1, 1, 1))
    assert found.shape[0] == 2
    assert np.isfinite(np.asarray(found)).all()
