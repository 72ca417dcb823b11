"""Plain networks, rewritten into convolutions, equal onnxruntime on the file as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.errors import ModelError
from corgi.vnnlib.network import check_equal, load_plain
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.vnnlib.nets import conv_network, dense_network

RNG = np.random.default_rng(0)


def batch_norm_and_add(net: OnnxModel) -> str:
    """[N, 4] -> Gemm -> BatchNormalization -> Relu, twice, added; a constant for every unit."""
    parts = [net.node("Gemm", IMAGE, float32(RNG, 4, 5), float32(RNG, 5)) for _ in range(2)]
    numbers = [float32(RNG, 5) for _ in range(3)] + [np.float32([1, 2, 3, 4, 5])]
    value = net.node("Add", net.node("Relu", net.node("BatchNormalization", parts[0], *numbers)), parts[1])
    return net.node("Sub", net.node("Mul", value, float32(RNG, 5)), float32(RNG, 5))


def flattened_map(net: OnnxModel) -> str:
    """Constants between flattening and a fully connected layer, which end up on the map."""
    value = net.node("Flatten", net.node("Conv", IMAGE, float32(RNG, 3, 2, 2, 2), float32(RNG, 3)))
    value = net.node("LeakyRelu", net.node("Add", value, float32(RNG, 3 * 4 * 4)), alpha=0.2)
    return net.node("Gemm", value, float32(RNG, 48, 2), float32(RNG, 2))


def transposed(net: OnnxModel) -> str:
    """[N, C, H, W] -> [N, H, W, C] -> flattened: another order of the inputs."""
    value = net.node("Transpose", net.node("Relu", IMAGE), perm=[0, 2, 3, 1])
    return net.node("Gemm", net.node("Flatten", value), float32(RNG, 50, 3), float32(RNG, 3))


def side_by_side(net: OnnxModel) -> str:
    parts = [net.node("Gemm", IMAGE, float32(RNG, 4, size), float32(RNG, size)) for size in (2, 3)]
    return net.node("Gemm", net.node("Relu", net.node("Concat", *parts, axis=1)), float32(RNG, 5, 2))


def pooled_scores(net: OnnxModel) -> str:
    value = net.node("Conv", IMAGE, float32(RNG, 3, 2, 2, 2), float32(RNG, 3))
    return net.head(net.node("Relu", value), float32(RNG, 4, 3), float32(RNG, 4))


def turned_map(net: OnnxModel) -> str:
    return net.node("Conv", net.node("Transpose", IMAGE, perm=[0, 1, 3, 2]), float32(RNG, 1, 2, 2, 2))


def two_orders(net: OnnxModel) -> str:
    turned = net.node("Transpose", net.node("Relu", IMAGE), perm=[0, 3, 2, 1])
    return net.node("Add", net.node("Flatten", IMAGE), net.node("Flatten", turned))


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (batch_norm_and_add, (4,)),
        (side_by_side, (4,)),
        (flattened_map, (2, 5, 5)),
        (transposed, (2, 5, 5)),
        (pooled_scores, (2, 5, 5)),
    ],
)
def test_equal_to_onnxruntime(
    build: Callable[[OnnxModel], str], shape: tuple[int, ...], tmp_path: Path
) -> None:
    net = OnnxModel(shape)
    network = load_plain(net.save(tmp_path, build(net)))
    check_equal(network, float32(np.random.default_rng(1), 4, network.inputs))
    for name in (step.output for step in network.trunk.steps):
        assert len(network.shapes[name]) == 4


def test_dense_and_convolutional_networks(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for path in (dense_network(rng, tmp_path), conv_network(rng, tmp_path)):
        network = load_plain(path)
        check_equal(network, float32(rng, 4, network.inputs))


def test_inputs_are_numbered_as_the_file_has_them(tmp_path: Path) -> None:
    """[N, H, W, C]: the trunk is given [C, H, W]."""
    net = OnnxModel((4, 5, 3))
    value = net.node("Transpose", IMAGE, perm=[0, 3, 1, 2])
    value = net.node("Relu", net.node("Conv", value, float32(RNG, 2, 3, 2, 2), float32(RNG, 2)))
    value = net.node("Transpose", value, perm=[0, 2, 3, 1])
    net.rank = 4
    network = load_plain(net.save(tmp_path, value))
    assert network.input_shape == (3, 4, 5)
    points = float32(np.random.default_rng(3), 2, 60)
    check_equal(network, points)
    given = network.given(torch.from_numpy(points))
    assert np.array_equal(given[0].numpy(), points[0].reshape(4, 5, 3).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda net: net.node("Flatten", IMAGE), "nothing to decide"),
        (lambda net: net.node("Reshape", IMAGE, np.array([1, 25, 2])), "nothing to decide"),
        (lambda net: net.node("Softmax", net.node("Flatten", IMAGE), axis=1), "Softmax"),
        (turned_map, "Conv"),
        (two_orders, "Add"),
    ],
)
def test_what_has_no_such_form_is_refused(
    build: Callable[[OnnxModel], str], reason: str, tmp_path: Path
) -> None:
    net = OnnxModel((2, 5, 5))
    path = net.save(tmp_path, build(net))
    with pytest.raises(ModelError, match=reason):
        load_plain(path)


def test_float16_is_refused(tmp_path: Path) -> None:
    net = OnnxModel((4,))
    value = net.node("Gemm", IMAGE, float32(RNG, 4, 2), float32(RNG, 2))
    extra = net.node("Cast", np.float16([1, 2]), to=1)
    path = net.save(tmp_path, net.node("Add", value, extra))
    with pytest.raises(ModelError, match="float16"):
        load_plain(path)
