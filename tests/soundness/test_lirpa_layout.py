"""Networks on which auto_LiRPA 0.3, in its "patches" layout, returns bounds that do not hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.engines.gate import check_engine_on_a_ball
from corgi.engines.lirpa import PATCHES, LirpaBounder, LirpaEngine
from corgi.errors import EngineError, GateError
from corgi.network.network import Network, load
from corgi.terms import LirpaMethod
from corgi.types import Ball, Interval
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network
from tests.soundness.samples import inside

WRONG = [46, 68, 75, 82, 130, 154, 155, 207, 297, 305]
"""Seeds of networks in which patches outgrow the values they read."""
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
def test_bounds_hold_where_the_fast_layout_fails(seed: int, method: LirpaMethod, tmp_path: Path) -> None:
    network, image = generated(seed, tmp_path)
    bounder = LirpaEngine(method).bind(network, 0, torch.float64)
    for radius in (3e-4, 0.01, 0.05):
        ball = Ball(image, radius)
        assert left(network, ball, bounder.pixels(ball)) <= 1e-9


def test_branches_of_unequal_kernels(tmp_path: Path) -> None:
    """Pairs the library proves in its fast layout and images refute, also where both gates pass."""
    rng = np.random.default_rng(3)
    model = OnnxModel((3, 12, 12), 13)

    def conv(value: str, inputs: int, kernel: int, stride: int, pad: int) -> str:
        weight = float32(rng, 3, inputs, kernel, kernel, scale=(inputs * kernel**2) ** -0.5 * 1.4)
        bias = float32(rng, 3, scale=0.2)
        options = {"strides": [stride] * 2, "pads": [pad] * 4}
        return model.node("Relu", model.node("Conv", value, weight, bias, **options))

    value = conv(IMAGE, 3, 3, 1, 1)
    pooled = model.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = conv(model.node("Concat", pooled, conv(value, 3, 1, 2, 0), axis=1), 6, 3, 1, 0)
    network = load(model.save(tmp_path, model.head(value, float32(rng, 3, 3))))
    image = torch.from_numpy(np.random.default_rng(0).random(network.input_shape, dtype=np.float32))
    everything = torch.arange(network.pixels)
    above, below = (v.flatten() for v in torch.meshgrid(everything, everything, indexing="ij"))
    different = above != below
    above, below = above[different], below[different]
    for radius in (0.01, 0.05):
        ball = Ball(image, radius)
        images = inside(network, ball, 0, 120, 1)
        with torch.no_grad():
            cams = network.head.cam(network.trunk(images), 0).flatten(1)
        seen = (cams[:, above] - cams[:, below]).amin(0)
        for method in METHODS:
            bounder = LirpaEngine(method).bind(network, 0, torch.float64)
            assert (bounder.differences(ball, above, below) <= seen + 1e-9).all()
            assert left(network, ball, bounder.pixels(ball)) <= 1e-9


def test_the_layout_is_wrong_and_the_gate_can_see_it(tmp_path: Path) -> None:
    """Believed, the library would give bounds that exclude the map of the image; the gate's ball shows it."""
    network, image = generated(68, tmp_path)
    bounder = LirpaBounder(LirpaEngine(), network, 0, torch.float64, layout=PATCHES)
    ball = Ball(image, 3e-4)
    try:
        found = bounder.pixels(ball)
    except EngineError:
        pytest.skip("this release of auto_LiRPA refuses")
    if left(network, ball, found) <= 1e-9:
        pytest.skip("this release of auto_LiRPA is right")
    with pytest.raises(GateError, match="outside the engine's bounds"):
        check_engine_on_a_ball(network, 0, bounder, image.numpy())
