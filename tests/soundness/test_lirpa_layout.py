"""Networks on which auto_LiRPA 0.3, in its "patches" layout, returns bounds that do not hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.engines import lirpa
from corgi.engines.gate import check_engine_on_a_ball
from corgi.engines.lirpa import LirpaBounder, LirpaEngine, LirpaMethod
from corgi.engines.lirpa_layout import patches_hold
from corgi.engines.lowering import lower_trunk
from corgi.errors import EngineError, GateError
from corgi.network.network import Network, load
from corgi.types import Ball, Interval
from tests.onnx_models import random_cam_network
from tests.soundness.samples import inside

WRONG = [46, 68, 75, 82, 130, 154, 155, 207, 297, 305]
"""Seeds: a patch larger than its value, or a convolution read by an activation and by something else."""
METHODS = [LirpaMethod.CROWN_IBP, LirpaMethod.CROWN]


def generated(seed: int, folder: Path) -> tuple[Network, torch.Tensor]:
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, folder))
    return network, torch.from_numpy(rng.random(network.input_shape, dtype=np.float32))


def left(network: Network, ball: Ball, bounds: Interval) -> float:
    """How far sampled and attacked images of the ball leave bounds, as a share of the map's size."""
    images = inside(network, ball, 0, 60, 1)
    with torch.no_grad():
        cams = network.head.cam(network.trunk(images), 0).flatten(1)
    out = torch.maximum(bounds.lower - cams.amin(0), cams.amax(0) - bounds.upper)
    return float(out.max() / cams.abs().max())


@pytest.mark.parametrize("seed", WRONG)
@pytest.mark.parametrize("method", METHODS)
def test_the_layout_that_holds_is_asked(seed: int, method: LirpaMethod, tmp_path: Path) -> None:
    network, image = generated(seed, tmp_path)
    assert not patches_hold(lower_trunk(network), network.input_shape)
    bounder = LirpaEngine(method).bind(network, 0, torch.float64)
    for radius in (3e-4, 0.01, 0.05):
        ball = Ball(image, radius)
        assert left(network, ball, bounder.pixels(ball)) <= 1e-9


def test_the_layout_is_wrong_and_the_gate_can_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the library is believed all the same, bounds exclude the map, and the gate's ball shows it."""
    monkeypatch.setattr(lirpa, "patches_hold", lambda *_: True)
    network, image = generated(68, tmp_path)
    bounder = LirpaEngine().bind(network, 0, torch.float64)
    assert isinstance(bounder, LirpaBounder)
    ball = Ball(image, 3e-4)
    try:
        shift = left(network, ball, bounder.pixels(ball))
    except EngineError:
        pytest.skip("this release of auto_LiRPA refuses")
    if shift <= 1e-9:
        pytest.skip("this release of auto_LiRPA is right")
    with pytest.raises(GateError, match="outside the engine's bounds"):
        check_engine_on_a_ball(network, 0, bounder, image.numpy())


def test_the_fast_layout_is_still_asked_of_plain_networks(tmp_path: Path) -> None:
    network, _ = generated(8, tmp_path)
    assert patches_hold(lower_trunk(network), network.input_shape)
