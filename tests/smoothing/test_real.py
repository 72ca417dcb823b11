"""Networks that people have installed: by default a part of their maps is certified, in little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import corgi
from corgi.network.wrap import Normalisation
from corgi.results import Status
from corgi.smoothing.cam_map import CamMap
from corgi.smoothing.options import SmoothOptions
from corgi.smoothing.smooth import smooth
from corgi.smoothing.sparsified import Sparsified
from corgi.smoothing.tally import MEMORY, batch_of

HALF = Normalisation((0.5,), (0.5,))


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "recipe", "options"),
    [
        ("fer_emotion_identity_fc.onnx", "grey,resize", {"normalisation": HALF}),
        ("ppocr_cls.onnx", "resize", {"normalisation": HALF, "size": (48, 192)}),
    ],
)
def test_a_part_is_certified_by_default(
    file: str, recipe: str, options: dict[str, Any], data_dir: Path
) -> None:
    if not (data_dir / "real").is_dir():
        pytest.skip(f"no real networks in {data_dir}")
    network = corgi.load(data_dir / "real" / file, **options)
    picture = data_dir / "ImageNet" / "ILSVRC2012_val_00000001.JPEG"
    image = corgi.read_image(picture, network, recipe)
    base = Sparsified(CamMap(network, network.predict(image)), 15)
    _, found = smooth(base, image, SmoothOptions(samples=200))
    assert found.status is Status.CERTIFIED
    assert (found.overlap, found.radius) == found.curve[0]
    assert 4 * base.live * batch_of(base, image.size) <= MEMORY
    assert np.all(np.diff([radius for _, radius in found.curve]) > 0)
