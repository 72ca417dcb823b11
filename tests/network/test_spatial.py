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
Bare = Callable[[OnnxModel], str]


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
    """A convolution of a map that is turned: a matrix."""
    turned = net.node("Transpose", net.node("Relu", IMAGE), perm=[0, 1, 3, 2])
    value = net.node("Conv", turned, float32(RNG, 3, 2, 2, 2), float32(RNG, 3), strides=[2, 1])
    return net.node("Flatten", net.node("Relu", value))


def along_channels(net: OnnxModel) -> str:
    """A convolution along the channels of what is pooled (ECA-Net), and one of them picked."""
    value = net.node("Squeeze", net.node("GlobalAveragePool", IMAGE), np.array([3]))
    row = net.node("Transpose", value, perm=[0, 2, 1])
    row = net.node("Sigmoid", net.node("Conv", row, float32(RNG, 2, 1, 3), float32(RNG, 2), pads=[1, 1]))
    return net.node("Flatten", net.node("Gather", net.node("Relu", row), np.array(1), axis=1))


def turned_pool(net: OnnxModel) -> str:
    return net.node("MaxPool", net.node("Transpose", IMAGE, perm=[0, 1, 3, 2]), kernel_shape=[2, 2])


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
        (turned_map, (2, 5, 5)),
        (along_channels, (6, 2, 3)),
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
        (turned_pool, "MaxPool"),
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


def column(inputs: int, *, transposed: bool = False) -> Bare:
    """[n, 1]: A x + b by MatMul, Add; Relu; Gemm, its matrix in front."""

    def build(net: OnnxModel) -> str:
        value = net.node("MatMul", float32(RNG, 5, inputs), net.node("Sub", IMAGE, float32(RNG, inputs, 1)))
        value = net.node("LeakyRelu", net.node("Add", float32(RNG, 5, 1), value))
        value = net.node("Mul", value, np.float32([[0.5]]))
        matrix = float32(RNG, 5, 4) if transposed else float32(RNG, 4, 5)
        value = net.node("Gemm", matrix, value, float32(RNG, 4, 1), transA=int(transposed), alpha=0.5)
        return net.node("Identity", net.node("Concat", value, net.node("Relu", value), axis=0))

    return build


def rows_of_a_column(net: OnnxModel) -> str:
    """A column that becomes a row: by Transpose, by Reshape, by Gemm's transA."""
    turned = net.node("Gemm", IMAGE, float32(RNG, 4, 3), float32(RNG, 3), transA=1)
    value = net.node("Add", net.node("MatMul", net.node("Transpose", IMAGE), float32(RNG, 4, 3)), turned)
    third = net.node(
        "Gemm", net.node("Reshape", IMAGE, np.array([-1, 4])), float32(RNG, 4, 3), float32(RNG, 3)
    )
    return net.node("Relu", net.node("Sub", value, third))


def vector(net: OnnxModel) -> str:
    """[n]: matrices on either side, entries picked and joined, a batch axis in the end."""
    value = net.node("Relu", net.node("MatMul", float32(RNG, 6, 4), IMAGE))
    parts = [net.node("MatMul", net.node("Gather", value, np.array([5, 0, 3])), float32(RNG, 3, 2)), value]
    value = net.node("Add", net.node("Concat", *parts, axis=0), float32(RNG, 8))
    value = net.node("Gemm", net.node("Unsqueeze", value, np.array([0])), float32(RNG, 8, 3), float32(RNG, 3))
    return net.node("Relu", value)


def vector_as_column(net: OnnxModel) -> str:
    value = net.node("MatMul", float32(RNG, 3, 4), net.node("Unsqueeze", IMAGE, np.array([1])))
    return net.node("Squeeze", net.node("Relu", value), np.array([1]))


def vector_as_image(net: OnnxModel) -> str:
    value = net.node("Conv", net.node("Reshape", IMAGE, np.array([1, 1, 2, 2])), float32(RNG, 2, 1, 2, 2))
    return net.node("Relu", net.node("Reshape", value, np.array([-1])))


BARE: dict[str, tuple[Bare, tuple[int, ...], int]] = {
    "column": (column(3), (3, 1), 2),
    "column, transposed": (column(3, transposed=True), (3, 1), 2),
    "rows of a column": (rows_of_a_column, (4, 1), 2),
    "vector": (vector, (4,), 2),
    "vector as column": (vector_as_column, (4,), 1),
    "vector as image": (vector_as_image, (4,), 1),
}


def bare(build: Bare, shape: tuple[int, ...], rank: int, folder: Path) -> Path:
    """A file whose input has exactly this shape."""
    net = OnnxModel(shape, rank=rank)
    proto = net.proto(build(net))
    del proto.graph.input[0].type.tensor_type.shape.dim[0]
    path = folder / "bare.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("case", BARE)
def test_without_a_batch_axis(case: str, tmp_path: Path) -> None:
    """The gate compares with onnxruntime on the file itself."""
    network = load_plain(bare(*BARE[case], tmp_path))
    reference = check_equal(network, float32(np.random.default_rng(1), 6, network.inputs))
    assert np.abs(reference).min() < np.abs(reference).max()


@pytest.mark.parametrize(
    ("build", "shape", "reason"),
    [
        (lambda net: net.node("MatMul", IMAGE, float32(RNG, 1, 3)), (4, 1), r"\[n, 1\] without a batch axis"),
        (lambda net: net.node("Add", IMAGE, float32(RNG, 4)), (4, 1), r"nor is a batch of n"),
        (lambda net: net.node("Add", IMAGE, float32(RNG, 3, 4)), (4,), r"\[n\] without a batch axis"),
        (lambda net: net.node("MatMul", IMAGE, IMAGE), (4,), r"\[n\] without a batch axis"),
        (lambda net: net.node("ReduceSum", IMAGE, np.array([0])), (4,), r"\[n\] without a batch axis"),
    ],
)
def test_what_needs_a_batch_axis_is_refused(
    build: Bare, shape: tuple[int, ...], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        load_plain(bare(build, shape, 2, tmp_path))
    assert "[1, n]" in str(caught.value)


def test_bytes_and_batches_are_refused(tmp_path: Path) -> None:
    net = OnnxModel((4,), batch=3)
    path = net.save(tmp_path, net.node("Relu", IMAGE))
    with pytest.raises(ModelError, match="fixed batch size 3"):
        load_plain(path)
    proto = OnnxModel((4,)).proto()
    proto.graph.input[0].type.tensor_type.elem_type = 2
    proto.graph.node.add(op_type="Cast", input=[IMAGE], output=["real"]).attribute.add(name="to", type=2, i=1)
    proto.graph.output.add(name="real").type.tensor_type.elem_type = 1
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="UINT8, expected FLOAT") as caught:
        load_plain(path)
    assert "Export the network with a float32 input" in str(caught.value)
