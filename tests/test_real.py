"""Real pretrained networks of the shared data, one photograph: answers, without a clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corgi.attack.search import AttackOptions
from corgi.certify.explain import explain
from corgi.certify.verify import VerifyOptions, verify
from corgi.data.image import load_input
from corgi.data.preprocess import Recipe
from corgi.network.network import Network, load
from corgi.network.wrap import Normalisation
from corgi.results import ImageArray

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def faces(data_dir: Path) -> tuple[Network, ImageArray]:
    """mini-XCEPTION and a photograph in grey, [1, 64, 64]."""
    model = data_dir / "real" / "fer_emotion_identity_fc.onnx"
    picture = data_dir / "ImageNet" / "ILSVRC2012_val_00000001.JPEG"
    if not (model.is_file() and picture.is_file()):
        pytest.skip(f"{model} or {picture} not found")
    network = load(model, normalisation=Normalisation((0.5,), (0.5,)))
    return network, load_input(picture, network.input_shape, Recipe.parse("grey,resize"), None)


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
