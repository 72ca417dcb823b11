"""Results as an interpreter shows them: one line each, without the network and without arrays."""

from __future__ import annotations

import numpy as np

import corgi
from tests.onnx_models import random_cam_network


def test_every_result_is_one_line(tmp_path) -> None:
    network = corgi.load(random_cam_network(np.random.default_rng(9), tmp_path))
    image = np.random.default_rng(1).random(network.input_shape, dtype=np.float32)
    quick = {"exact": None, "max_evaluations": 2}
    found = [
        network,
        corgi.explain(network, image, 2),
        corgi.attack(network, image, k=2),
        corgi.verify(network, image, k=2, **quick),
        corgi.verify_properties(network, image, ["topk"], k=2, **quick),
        corgi.decide_radii(network, image, [1e-4], k=2, **quick),
        corgi.curve(network, image, [2], **quick),
        corgi.radii(network, image, k=2, outside=0, time_limit=5.0),
        corgi.compare(network, image, k=2, samples=20, time_limit=5.0),
        corgi.smooth(network, image, k=2, samples=20),
    ]
    for one in found:
        shown = repr(one)
        assert shown.startswith(type(one).__name__ + "(")
        assert "\n" not in shown
        assert "array(" not in shown
        assert "tensor(" not in shown
        assert "Graph(" not in shown
    assert len(repr(network)) < 300
    assert len(repr(found[2])) < 3000
    assert "class_id=" in repr(found[1])
