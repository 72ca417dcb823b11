"""`corgi.verify` on small networks of one activation each: certificate below witness, and both hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi import AttackOptions, LirpaEngine, LirpaMethod, PatchEngine, PatchMethod, load, verify
from corgi.errors import EngineError
from corgi.network.network import Network
from corgi.types import Ball
from tests.engines.trunks import CASES, CURVES, Build, chain
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.rankings import decision_margin
from tests.soundness.samples import inside

PIECEWISE = {
    "prelu": CASES["7 slopes"],
    "prelu by nodes": CASES["7 slopes by nodes"],
    "hard sigmoid": chain(("HardSigmoid", {"alpha": 0.3, "beta": 0.4})),
}
SMOOTH = {
    name: CURVES[name] for name in ("silu", "quick gelu", "gelu", "hard swish", "elu", "selu", "softplus")
}


def classifier(folder: Path, activation: Build) -> tuple[Network, np.ndarray]:
    """Two strided convolutions with an activation behind each, and an image."""
    rng, model, value = np.random.default_rng(2), OnnxModel((2, 12, 12)), IMAGE
    for inputs, stride in ((2, 1), (4, 2)):
        weight, bias = float32(rng, 4, inputs, 3, 3, scale=0.4), float32(rng, 4, scale=0.1)
        value = model.node("Conv", value, weight, bias, strides=[stride, stride])
        value = activation(model, value)
    return load(model.save(folder, model.head(value, float32(rng, 3, 4)))), rng.random(
        (2, 12, 12), np.float32
    )


@pytest.mark.parametrize("activation", [*PIECEWISE, *SMOOTH])
def test_certificate_and_witness(activation: str, tmp_path: Path) -> None:
    network, image = classifier(tmp_path, {**PIECEWISE, **SMOOTH}[activation])
    result = verify(network, image, k=5, exact=None, attack=AttackOptions(steps=30, restarts=4))
    radius = result.certificate.radius
    assert result.attack is not None
    # At this size bounds are nearly tight: a loose relaxation would show here.
    assert 0.8 * result.attack.witness.radius < radius < result.attack.witness.radius
    images = inside(network, Ball(torch.from_numpy(image), radius), result.class_id, 90, 0)
    with torch.no_grad():
        cams = network.head.cam(network.trunk(images), result.class_id).flatten(1)
    assert decision_margin(cams, result.top, 5).min() > 0


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("method", list(LirpaMethod))
def test_auto_lirpa_is_not_asked(activation: str, method: LirpaMethod, tmp_path: Path) -> None:
    network, _ = classifier(tmp_path, SMOOTH[activation])
    with pytest.raises(EngineError, match=r"node '.*' \(.*\): engine lirpa does not support \w+") as caught:
        LirpaEngine(method).bind(network, 0, torch.float64)
    assert caught.value.hint


@pytest.mark.parametrize("activation", PIECEWISE)
def test_auto_lirpa_bounds_what_is_lowered(activation: str, tmp_path: Path) -> None:
    network, image = classifier(tmp_path, PIECEWISE[activation])
    ball = Ball(torch.from_numpy(image), 0.01)
    theirs = LirpaEngine(LirpaMethod.CROWN).bind(network, 0, torch.float64).pixels(ball)
    ours = PatchEngine(PatchMethod.CROWN).bind(network, 0, torch.float64).pixels(ball)
    images = inside(network, ball, 0, 60, 0)
    with torch.no_grad():
        cams = network.head.cam(network.trunk(images), 0).flatten(1)
    for bounds in (theirs, ours):
        assert (bounds.lower <= cams + 1e-12).all()
        assert (cams <= bounds.upper + 1e-12).all()
