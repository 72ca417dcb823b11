"""Files that keep their values as [N, H, W, C]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from corgi.engines.patch.prepare import prepare
from corgi.network import layers
from corgi.network.network import Network, load
from tests.onnx_models import IMAGE, OnnxModel, float32

RNG = np.random.default_rng(11)
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def conv(model: OnnxModel, value: str, out: int, channels: int, **attributes: object) -> str:
    """A convolution of a value [N, H, W, C] with transpositions around it."""
    value = model.node("Transpose", value, perm=FIRST)
    value = model.node("Conv", value, float32(RNG, out, channels, 3, 3), pads=[1, 1, 1, 1], **attributes)
    return model.node("Transpose", value, perm=LAST)


def agrees(path: Path) -> Network:
    """A network that equals onnxruntime, feature map and scores, and that the patch engine can bound."""
    network = load(path)
    images = np.random.default_rng(0).random((3, *network.input_shape), dtype=np.float32)
    scores, features = network.oracle.run(images)
    x = torch.from_numpy(images).double()
    assert_allclose(network.trunk(x), features, atol=1e-4)
    assert_allclose(network.head.scores(network.trunk(x)), scores, atol=1e-4)
    assert not any(isinstance(step.layer, layers.Transpose) for step in network.trunk.steps)
    prepare(network)
    return network


def channels_last_model() -> tuple[OnnxModel, str]:
    model = OnnxModel((8, 7, 3))
    return model, conv(model, IMAGE, 4, 3)


def mean(model: OnnxModel, value: str, classes: int = 3, channels: int = 4) -> str:
    pooled = model.reduce_mean(value, [1, 2], keepdims=0)
    return model.node("Gemm", pooled, float32(RNG, channels, classes), float32(RNG, classes))


def test_the_input_is_turned(tmp_path: Path) -> None:
    model, value = channels_last_model()
    network = agrees(model.save(tmp_path, mean(model, model.node("Relu", value))))
    assert network.input_shape == (3, 8, 7)
    assert any("[N, H, W, C]" in note for note in network.graph.notes)
    # The file's feature map is [N, H, W, C], too.
    assert network.head.order == (0, 2, 3, 1)


def test_constants_concatenation_and_sums(tmp_path: Path) -> None:
    model, value = channels_last_model()
    value = model.node("Add", value, float32(RNG, 4))
    value = model.node("Mul", model.node("Relu", value), float32(RNG, 1, 1, 1, 4))
    other = model.node("LeakyRelu", conv(model, value, 4, 4), alpha=0.2)
    value = model.node("Concat", model.node("Add", value, other), other, axis=3)
    value = model.node("Sub", float32(RNG, 8), value)
    agrees(model.save(tmp_path, mean(model, value, channels=8)))


@pytest.mark.parametrize("axes", [[1, 2], [-3, -2]])
def test_means_that_keep_their_axes(axes: list[int], tmp_path: Path) -> None:
    model, value = channels_last_model()
    pooled = model.reduce_mean(model.node("Relu", value), axes, keepdims=1)
    pooled = model.node("Reshape", pooled, np.array([-1, 4]))
    agrees(model.save(tmp_path, model.node("Gemm", pooled, float32(RNG, 4, 3), float32(RNG, 3))))


def test_fully_connected_layer_over_channels(tmp_path: Path) -> None:
    model, value = channels_last_model()
    value = model.node("MatMul", model.node("Relu", value), float32(RNG, 4, 5))
    value = model.node("Relu", model.node("Add", value, float32(RNG, 5)))
    agrees(model.save(tmp_path, mean(model, value, channels=5)))


def test_a_reshape_that_stands_for_a_transposition(tmp_path: Path) -> None:
    model = OnnxModel((8, 7, 1))
    value = model.node("Reshape", IMAGE, np.array([-1, 1, 8, 7]))
    value = model.node("Relu", model.node("Conv", value, float32(RNG, 4, 1, 3, 3)))
    agrees(model.save(tmp_path, model.head(value, float32(RNG, 3, 4))))


def test_a_reshape_that_moves_numbers_is_refused_by_the_engine_only(tmp_path: Path) -> None:
    """[N, 4, 8, 7] as [N, 8, 7, 4] without a Transpose mixes channels and places."""
    model = OnnxModel((3, 8, 7))
    value = model.node("Relu", model.node("Conv", IMAGE, float32(RNG, 4, 3, 3, 3), pads=[1, 1, 1, 1]))
    value = model.node("Reshape", value, np.array([0, 8, 7, 4]))
    value = model.node("Relu", model.node("Conv", value, float32(RNG, 4, 8, 3, 3)))
    network = load(model.save(tmp_path, model.head(value, float32(RNG, 3, 4))))
    assert any(isinstance(step.layer, layers.Reshape) for step in network.trunk.steps)


def test_constants_that_vary_over_the_map(tmp_path: Path) -> None:
    model, value = channels_last_model()
    value = model.node("Relu", model.node("Add", value, float32(RNG, 8, 7, 4)))
    agrees(model.save(tmp_path, mean(model, value)))


def test_a_transposition_that_cannot_go_stays(tmp_path: Path) -> None:
    """Height and width change places for one branch: the sum needs both in one order."""
    model = OnnxModel((3, 8, 8))
    value = model.node("Relu", model.node("Conv", IMAGE, float32(RNG, 4, 3, 3, 3)))
    turned = model.node("Transpose", value, perm=[0, 1, 3, 2])
    value = model.node("Relu", model.node("Add", value, turned))
    network = load(model.save(tmp_path, model.head(value, float32(RNG, 3, 4))))
    assert any(isinstance(step.layer, layers.Transpose) for step in network.trunk.steps)
