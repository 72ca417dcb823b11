"""Files that say in another way what corgi reads: each loads, and is what onnxruntime makes of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from corgi.errors import UnsupportedOperator
from corgi.network.network import load
from tests.onnx_models import IMAGE, OnnxModel, float32

RNG = np.random.default_rng(5)


def network(
    build: Callable[[OnnxModel, str], str] = lambda _, value: value, opset: int = 17
) -> onnx.ModelProto:
    """A convolution, what is built, and a CAM head."""
    model = OnnxModel((2, 8, 8), opset, batch="N")
    value = model.node("Relu", model.node("Conv", IMAGE, float32(RNG, 4, 2, 3, 3), float32(RNG, 4)))
    return model.proto(model.head(build(model, value), float32(RNG, 3, 4), float32(RNG, 3)))


def check(proto: onnx.ModelProto, folder: Path) -> None:
    """The file loads and has the scores that onnxruntime computes from it as it is."""
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    images = RNG.random((3, 2, 8, 8), dtype=np.float32)
    assert_allclose(load(path).oracle.run(images)[0], scores(proto, images), rtol=1e-5, atol=1e-6)


def scores(proto: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {IMAGE: image[None]})[0] for image in images])


def test_the_default_domain_by_its_long_name(tmp_path: Path) -> None:
    proto = network()
    for node in proto.graph.node[::2]:
        node.domain = "ai.onnx"
    check(proto, tmp_path)
    proto.opset_import[0].domain = "ai.onnx"
    check(proto, tmp_path)


def test_nodes_in_any_order(tmp_path: Path) -> None:
    proto = network(lambda m, v: m.node("Add", m.node("Sigmoid", v), m.node("Tanh", v)))
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes[i] for i in RNG.permutation(len(nodes)))
    check(proto, tmp_path)


def test_an_output_without_shape(tmp_path: Path) -> None:
    proto = network()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    check(proto, tmp_path)


def test_weights_that_are_listed_as_inputs(tmp_path: Path) -> None:
    def computed(model: OnnxModel, value: str) -> str:
        sizes = model.node("Concat", model.weight(np.array([0, 4])), np.array([-1]), axis=0)
        return model.node("Reshape", model.node("Reshape", value, sizes), np.array([0, 4, 6, 6]))

    proto = network(computed)
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    check(proto, tmp_path)


@pytest.mark.parametrize("op", ["Dropout", "MaxPool"])
@pytest.mark.parametrize("opset", [8, 11, 17])
def test_a_second_output_nobody_reads(op: str, opset: int, tmp_path: Path) -> None:
    window = {"kernel_shape": [2, 2]} if op == "MaxPool" else {}
    check(network(lambda m, v: m.node(op, v, outputs=2, **window), opset), tmp_path)


@pytest.mark.parametrize("like", ["constant", "value"])
def test_cast_like(like: str, tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        half = model.node("CastLike", np.float64(0.5), value)
        same = model.node("CastLike", value, np.float32(0) if like == "constant" else IMAGE)
        return model.node("Mul", same, half)

    check(network(build), tmp_path)


def branch(op: str, value: str, *, inner: onnx.NodeProto | None = None) -> onnx.GraphProto:
    """A branch that adds a weight of its own to an activation of an outer value."""
    nodes = [
        helper.make_node(op, [value], ["activated"]),
        helper.make_node("Add", ["activated", "more"], ["sum"]),
        *([inner] if inner is not None else []),
    ]
    result = inner.output[0] if inner is not None else "sum"
    outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)]
    return helper.make_graph(
        nodes, "branch", [], outputs, [numpy_helper.from_array(np.float32(0.25), "more")]
    )


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("rank", [3, 4])
def test_a_branch_that_shapes_decide(rank: int, nested: bool, tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        sizes = model.node("Shape", value)
        known = model.node("Equal", model.node("Size", sizes), np.array(rank))
        inner = None
        if nested:
            deeper = branch("Tanh", "sum").node[0], branch("Sigmoid", "sum").node[0]
            graphs = [
                helper.make_graph(
                    [helper.make_node(part.op_type, ["sum"], ["deep"])],
                    "deeper",
                    [],
                    [helper.make_tensor_value_info("deep", TensorProto.FLOAT, None)],
                )
                for part in deeper
            ]
            inner = helper.make_node("If", [known], ["inner"], then_branch=graphs[0], else_branch=graphs[1])
        return model.node(
            "If", known, then_branch=branch("Tanh", value, inner=inner), else_branch=branch("Sigmoid", value)
        )

    proto = network(build)
    check(proto, tmp_path)
    # The same with the nodes of every branch turned round.
    path = tmp_path / "turned.onnx"
    path.write_bytes(turned(proto).SerializeToString())
    images = RNG.random((3, 2, 8, 8), dtype=np.float32)
    assert_allclose(load(path).oracle.run(images)[0], scores(proto, images), rtol=1e-5, atol=1e-6)


def turned(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the nodes of all its graphs in the other order."""
    made = onnx.ModelProto.FromString(proto.SerializeToString())
    graphs = [made.graph]
    while graphs:
        graph = graphs.pop()
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(graph.node)]
        del graph.node[:]
        graph.node.extend(nodes)
        graphs += [
            attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")
        ]
    return made


@pytest.mark.parametrize("opset", [7, 8])
def test_old_opsets(opset: int, tmp_path: Path) -> None:
    """Every operator whose meaning or form changed since, in the form it had."""

    def build(model: OnnxModel, value: str) -> str:
        numbers = [float32(RNG, 4) for _ in range(3)]
        value = model.node(
            "BatchNormalization", value, *numbers, float32(RNG, 4) ** 2, epsilon=1e-3, spatial=1
        )
        value = model.clip(value, -1.0, None)
        value = model.pad(value, (1, 0, 1, 2), 0.5)
        value = model.node("MaxPool", value, kernel_shape=[2, 2], strides=[1, 1])
        first, second = model.split(value, [1, 3])
        value = model.node("Concat", second, model.node("PRelu", first, np.float32([0.25])), axis=1)
        value = model.node("Mul", model.node("Add", value, float32(RNG, 4, 1, 1)), np.float32([0.5]))
        value = model.dropout(model.node("AveragePool", value, kernel_shape=[2, 3], pads=[1, 0, 0, 1]))
        return model.node("Reshape", model.slice(value, 1, 6, 2), np.array([0, 4, 5, -1]))

    proto = network(build, opset)
    proto.ir_version = 3  # every weight was an input, too
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    check(proto, tmp_path)


def test_the_only_output_that_holds_scores(tmp_path: Path) -> None:
    proto = network()
    proto.graph.node.append(helper.make_node("ArgMax", [proto.graph.output[0].name], ["best"], axis=1))
    proto.graph.output.insert(0, helper.make_tensor_value_info("best", TensorProto.INT64, None))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    assert load(path).graph.output_name == proto.graph.output[1].name


def test_flatten_from_the_batch_and_casts_that_lose_nothing(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        wide = model.node("Cast", value, to=TensorProto.DOUBLE)
        value = model.node("Cast", wide, to=TensorProto.FLOAT)
        return model.node("Reshape", model.node("Flatten", value, axis=0), np.array([1, 4, 6, -1]))

    check(network(build), tmp_path)


@pytest.mark.parametrize("vector", ["squeeze", "reshape"])
@pytest.mark.parametrize("back", [False, True])
def test_scores_that_have_lost_the_batch_axis(vector: str, back: bool, tmp_path: Path) -> None:
    model = OnnxModel((2, 8, 8), rank=2 if back else 1)
    value = model.node("Relu", model.node("Conv", IMAGE, float32(RNG, 4, 2, 3, 3), float32(RNG, 4)))
    value = model.node("GlobalAveragePool", value)
    value = (
        model.node("Squeeze", value) if vector == "squeeze" else model.node("Reshape", value, np.array([-1]))
    )
    value = model.node("Add", model.node("MatMul", value, float32(RNG, 4, 3)), float32(RNG, 3))
    value = model.node("Softmax", value, axis=-1)
    path = model.save(tmp_path, model.node("Reshape", value, np.array([1, -1])) if back else value)
    images = RNG.random((3, 2, 8, 8), dtype=np.float32)
    network = load(path)
    assert_allclose(
        network.oracle.run(images)[0].reshape(-1), scores(onnx.load(path), images).reshape(-1), rtol=1e-5
    )


def test_a_value_that_regains_its_batch_axis_by_gather(tmp_path: Path) -> None:
    """As torch's exporter writes as_strided, in ConvNeXt's head."""
    model = OnnxModel((2, 8, 8))
    value = model.node("Relu", model.node("Conv", IMAGE, float32(RNG, 4, 2, 3, 3), float32(RNG, 4)))
    flat = model.node("Reshape", model.node("GlobalAveragePool", value), np.array([-1]))
    back = model.node("Gather", flat, np.arange(4).reshape(1, 4, 1, 1), axis=0)
    turned = model.node("Transpose", back, perm=[0, 2, 3, 1])
    turned = model.node("LayerNormalization", turned, float32(RNG, 4), float32(RNG, 4))
    value = model.node("Flatten", model.node("Transpose", turned, perm=[0, 3, 1, 2]))
    check(model.proto(model.node("Gemm", value, float32(RNG, 4, 3), float32(RNG, 3))), tmp_path)
    for wrong in (np.array([[1, 0, 2, 3]]), np.arange(4).reshape(2, 2)):
        picked = model.node("Gather", flat, wrong, axis=0)
        with pytest.raises(UnsupportedOperator, match="Gather"):
            load(model.save(tmp_path, model.node("Reshape", picked, np.array([1, 4]))))


@pytest.mark.parametrize("sizes", [np.array(3), np.array([1, 3, 2])])
def test_parts_of_a_sequence(sizes: NDArray[np.int64], tmp_path: Path) -> None:
    """torch.chunk and torch.split, exported without optimisation."""

    def build(model: OnnxModel, value: str) -> str:
        parts = model.node("SplitToSequence", value, sizes, axis=2)
        first, last = (model.node("SequenceAt", parts, np.array(i)) for i in (0, 1))
        return model.node("Concat", last, first, axis=2)

    check(network(build), tmp_path)


def test_a_part_that_is_not_known_is_refused(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        parts = model.node("SplitToSequence", value, np.array(3), axis=2)
        return model.node("SequenceAt", parts, np.array(-1))

    path = tmp_path / "model.onnx"
    path.write_bytes(network(build).SerializeToString())
    with pytest.raises(UnsupportedOperator, match="SplitToSequence"):
        load(path)


@pytest.mark.parametrize("data", [True, False])
def test_links_into_a_store(data: bool, tmp_path: Path) -> None:
    """Hugging Face's cache: the model and its data are links in one folder to files in another."""
    proto = network()
    store, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    store.mkdir()
    snapshot.mkdir(parents=True)
    if data:
        kernel = proto.graph.initializer[0]
        (store / "5e").write_bytes(kernel.raw_data)
        (snapshot / "model.onnx_data").symlink_to(Path("..") / ".." / "blobs" / "5e")
        size = len(kernel.raw_data)
        kernel.ClearField("raw_data")
        kernel.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "model.onnx_data", "offset": "0", "length": str(size)}.items():
            kernel.external_data.add(key=key, value=value)
    (store / "8b").write_bytes(proto.SerializeToString())
    (snapshot / "model.onnx").symlink_to(Path("..") / ".." / "blobs" / "8b")
    load(snapshot / "model.onnx")
