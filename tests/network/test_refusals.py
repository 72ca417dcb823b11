"""What is refused, and that the message names the file, what was found and what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from onnx import TensorProto, helper

from corgi.errors import CorgiError, ModelError, UnsupportedOperator
from corgi.network.network import load
from tests.onnx_models import IMAGE, OnnxModel, float32, run_onnxruntime

RNG = np.random.default_rng(11)


def between(folder: Path, build: Callable[[OnnxModel, str], str], opset: int = 17, **settings: Any) -> Path:
    """A part under test between a convolution and the head."""
    model = OnnxModel((2, 8, 8), opset, **settings)
    value = model.node("Conv", IMAGE, float32(RNG, 4, 2, 1, 1))
    return model.save(folder, model.head(build(model, value), float32(RNG, 3, 4)))


def refused(path: Path, *parts: str, kind: type[CorgiError] = ModelError) -> CorgiError:
    with pytest.raises(kind) as caught:
        load(path)
    message = str(caught.value)
    for part in (str(path), *parts):
        assert part in message
    assert message.count(str(path)) == 1
    assert "Traceback" not in message
    return caught.value


def node(op: str, *operands: Any, **attributes: Any) -> Callable[[OnnxModel, str], str]:
    return lambda model, value: model.node(op, value, *operands, name="culprit", **attributes)


POOL = {"kernel_shape": [2, 2]}
C4 = np.ones(4, np.float32)
NODES: dict[str, tuple[Callable[[OnnxModel, str], str], tuple[str, ...]]] = {
    "operator": (node("Sin"), ("operator Sin", "Supported operators: Abs, Add, ", "Unsqueeze")),
    "storage order": (node("MaxPool", storage_order=1, **POOL), ("storage_order=1", "storage_order=0")),
    "batch norm in training mode": (
        lambda m, v: m.node(
            "BatchNormalization", v, C4, C4, C4, C4, outputs=3, name="culprit", training_mode=1
        ),
        ("training_mode=1", "training_mode=0"),
    ),
    "negative variance": (
        node("BatchNormalization", C4, C4, C4, np.float32([1, 1, -0.5, 1])),
        ("negative variance (-0.5)",),
    ),
    "steep slope": (node("LeakyRelu", alpha=1.5), ("alpha=1.5", "0 <= alpha <= 1")),
    "negative slope": (node("LeakyRelu", alpha=-0.1), ("alpha=-0.1",)),
    "steep slopes": (
        node("PRelu", np.float32([0.5, 1.5, 0, 1]).reshape(4, 1, 1)),
        ("slopes from 0 to 1.5", "0 <= slope <= 1"),
    ),
    "slopes below 0": (node("PRelu", np.float32([-0.5])), ("slopes from -0.5", "0 <= slope <= 1")),
    "slopes with a batch": (
        node("PRelu", np.full((2, 4, 1, 1), 0.5, np.float32)),
        ("supported",),
    ),
    "slopes from the image": (
        lambda m, v: m.node("PRelu", v, m.node("Sigmoid", v), name="culprit"),
        ("depends on the image", "expected a constant"),
    ),
    "falling elu": (node("Elu", alpha=-0.5), ("alpha=-0.5", "alpha >= 0")),
    "falling selu": (node("Selu", gamma=-1.0), ("gamma=-1.0", "gamma >= 0")),
    "celu without alpha": (node("Celu", alpha=0.0), ("alpha=0", "alpha > 0")),
    "crossed limits": (node("Clip", np.float32(1), np.float32(0)), ("limits [1.0, 0.0]", "min <= max")),
    "limit from the image": (
        lambda m, v: m.node(
            "Clip", v, m.node("ReduceMean", IMAGE, keepdims=0, axes=[0, 1, 2, 3]), name="culprit"
        ),
        ("supported",),
    ),
    "wide reflection": (
        node("Pad", np.array([0, 0, 1, 1, 0, 0, 8, 1]), mode="reflect"),
        ("by mode=reflect", "no more than the value has"),
    ),
    "cropping": (node("Pad", np.array([0, 0, -1, 0, 0, 0, 0, 0])), ("amounts >= 0",)),
    "padded batch": (node("Pad", np.array([1, 0, 0, 0, 0, 0, 0, 0])), ("axis 0",)),
    "negative padding": (node("Pad", np.array([0, 0, -1, 0, 0, 0, 0, 0])), ("amounts >= 0",)),
    "division by zero": (node("Div", np.float32([[[1]], [[0]], [[1]], [[1]]])), ("zero divisor",)),
    "constant in a concat": (
        lambda m, v: m.node("Concat", v, np.ones((1, 1, 8, 8), np.float32), axis=1, name="culprit"),
        ("constant operand",),
    ),
    "batch concat": (lambda m, v: m.node("Concat", v, v, axis=0, name="culprit"), ("axis 0", "batch axis")),
    "batch transpose": (node("Transpose", perm=[1, 0, 2, 3]), ("perm=[1, 0, 2, 3]", "axis 0 first")),
    "default transpose": (node("Transpose"), ("perm=[3, 2, 1, 0]",)),
    "batch mean": (node("ReduceMean", axes=[0, 2]), ("axis 0", "batch axis")),
    "mean of all": (node("ReduceMean"), ("reduction of all axes",)),
    "batch reshape": (node("Reshape", np.array([4, 2, 4, 8])), ("reshape from", "keep the batch axis")),
    "batch unsqueeze": (lambda m, v: m.node("Unsqueeze", v, np.array([0]), name="culprit"), ("batch axis",)),
    "squeeze of everything": (
        lambda m, v: m.node("Squeeze", v, name="culprit"),
        ("without a batch axis is not supported here",),
    ),
    "a vector as a batch": (
        lambda m, v: m.node("Softmax", m.node("Reshape", v, np.array([-1])), axis=0, name="culprit"),
        ("without a batch axis is not supported here",),
    ),
    "an equation of two values": (
        lambda m, v: m.node("Einsum", v, v, equation="bchw,bchw->bc", name="culprit"),
        ("equation bchw,bchw->bc", "one constant"),
    ),
    "an equation that sums over the batch": (
        node("Einsum", C4, equation="bchw,c->chw"),
        ("equation bchw,c->chw", "the batch axis first"),
    ),
    "an equation with a diagonal": (node("Einsum", equation="bchh->bch"), ("equation bchh->bch",)),
    "expand of the batch": (node("Expand", np.array([2, 1, 1, 1])), ("copies along the batch axis",)),
    "expand to a higher rank": (node("Expand", np.array([1, 1, 1, 1, 1])), ("a shape of the same rank",)),
    "flatten from 2": (node("Flatten", axis=2), ("axis=2", "axis=1")),
    "matrix from the image": (
        lambda m, v: m.node("MatMul", v, m.node("Reshape", v, np.array([1, 8, 32])), name="culprit"),
        ("[1, 4, 8, 8] and [1, 8, 32]", "value @ matrix"),
    ),
    "kernel from the image": (
        lambda m, v: m.node("Conv", v, v, name="culprit"),
        ("depends on the image",),
    ),
    "matrix of rank 3": (node("MatMul", np.ones((1, 8, 8), np.float32)), ("rank 3", "value @ matrix")),
    "transposed gemm": (
        lambda m, v: m.node(
            "Gemm", m.node("Flatten", v), np.ones((1, 3), np.float32), C4[:3], transA=1, name="culprit"
        ),
        ("transA=1", "transA=0"),
    ),
    "softmax over channels": (node("Softmax", axis=1), ("axis=1", "the last axis")),
    "ranks differ": (
        lambda m, v: m.node("Add", v, m.node("ReduceMean", v, axes=[1], keepdims=0), name="culprit"),
        ("[1, 4, 8, 8] and [1, 8, 8]", "equal ranks"),
    ),
    "constant with a batch": (
        node("Add", np.ones((2, 1, 1, 1), np.float32)),
        ("constant of shape [2, 1, 1, 1]",),
    ),
    "constant of higher rank": (
        node("Add", np.ones((1, 1, 4, 1, 1), np.float32)),
        ("constant of shape [1, 1, 4, 1, 1]",),
    ),
    "dropout in training": (
        node("Dropout", np.float32(0.5), np.array(True)),
        ("training mode", "dropout at inference"),
    ),
    "statistics of a batch": (
        lambda m, v: m.node("BatchNormalization", v, C4, C4, C4, C4**2, outputs=5, name="culprit"),
        ("a further output",),
    ),
    "average dilations": (
        lambda m, v: m.node("AveragePool", v, dilations=[2, 1], name="culprit", **POOL),
        ("dilations=[2, 1]", "dilations=[1, 1]"),
    ),
    "noop with empty axes": (
        lambda m, v: m.node("ReduceMean", v, noop_with_empty_axes=1, name="culprit"),
        ("noop_with_empty_axes=1 without axes",),
    ),
}
NEWER = {
    "softmax over channels": 12,
    "statistics of a batch": 9,
    "average dilations": 19,
    "noop with empty axes": 18,
}


@pytest.mark.parametrize("case", NODES)
def test_nodes(case: str, tmp_path: Path) -> None:
    build, parts = NODES[case]
    model = OnnxModel((2, 8, 8), NEWER.get(case, 17))
    value = build(model, model.node("Conv", IMAGE, float32(RNG, 4, 2, 1, 1)))
    path = model.save(tmp_path, model.node("Reshape", value, np.array([1, -1])))
    where = "limit" not in case
    refused(path, *(("node 'culprit' (",) if where else ()), *parts, kind=UnsupportedOperator)


def test_three_dimensional_convolution(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        value = model.node("Reshape", value, np.array([0, 4, 8, 4, 2]))
        return model.node("Conv", value, float32(RNG, 4, 4, 1, 1, 1), name="culprit")

    refused(between(tmp_path, build), "culprit", "rank 5", "[N, C, H, W]", kind=UnsupportedOperator)


@pytest.mark.parametrize(
    ("op", "operands", "what"),
    [
        ("QuantizeLinear", [np.float32(0.1), np.uint8(0)], "quantised"),
        ("ArgMax", [], "no class scores are left"),
    ],
)
def test_operators_that_say_what_the_network_is(
    op: str, operands: list[Any], what: str, tmp_path: Path
) -> None:
    def build(model: OnnxModel, value: str) -> str:
        return model.node("Cast", model.node(op, value, *operands, name="culprit"), to=1)

    refused(between(tmp_path, build), "node 'culprit'", op, what, kind=UnsupportedOperator)


def test_an_attribute_no_rule_reads(tmp_path: Path) -> None:
    """The standard checker accepts what a later opset added to an operator only where it belongs; a rule
    that does not read an attribute of its own opset must be found all the same."""
    from corgi.network.node import Node
    from corgi.network.node_reader import NodeReader

    reader = NodeReader(Node("Relu", "r", ("x", "c"), ("y",), {"odd": 3}), {"c": np.ones(1)}, {"x": (1,)}, 17)
    with pytest.raises(UnsupportedOperator) as caught:
        reader.finish()
    for part in ("node 'r' (Relu)", "odd=3", "operand 'c'"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "part"),
    [
        ({"pads": 3}, "pads"),
        ({"kernel_shape": [2.5, 2.0]}, "kernel_shape"),
        ({"ceil_mode": "yes"}, "ceil_mode"),
        ({"auto_pad": "SAME"}, "AutoPadType"),
    ],
)
def test_attributes_of_a_wrong_kind(attributes: dict[str, Any], part: str, tmp_path: Path) -> None:
    refused(between(tmp_path, node("MaxPool", **({"kernel_shape": [2, 2]} | attributes))), part)


def test_vendor_domain(tmp_path: Path) -> None:
    path = between(tmp_path, node("BiasGelu", C4, domain="com.microsoft"))
    refused(path, "culprit", "vendor domain 'com.microsoft'", kind=UnsupportedOperator)


def test_control_flow(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        branch = helper.make_graph(
            [helper.make_node("Relu", [value], ["branch"])],
            "branch",
            [],
            [helper.make_tensor_value_info("branch", TensorProto.FLOAT, [1, 4, 8, 8])],
        )
        condition = model.node("Greater", model.node("ReduceMean", IMAGE, keepdims=0), np.float32(0.5))
        return model.node("If", condition, then_branch=branch, else_branch=branch, name="culprit")

    refused(between(tmp_path, build), "culprit", "depends on the image", kind=UnsupportedOperator)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_numbers(bad: float, tmp_path: Path) -> None:
    weight = float32(RNG, 4, 4, 1, 1)
    weight[2, 1] = bad
    refused(
        between(tmp_path, lambda m, v: m.node("Conv", v, m.weight(weight, "broken"))),
        "weight 'broken'",
        "NaN or infinite",
    )


def test_not_a_number_in_a_node(tmp_path: Path) -> None:
    refused(between(tmp_path, node("LeakyRelu", alpha=float("nan"))), "alpha=nan")
    refused(
        between(tmp_path, node("BatchNormalization", C4, C4, C4, C4, epsilon=float("nan"))), "epsilon=nan"
    )
    refused(between(tmp_path, lambda m, v: m.clip(v, float("nan"), 1.0), opset=9), "")


@pytest.mark.parametrize("opset", [6, 27])
def test_opsets(opset: int, tmp_path: Path) -> None:
    refused(between(tmp_path, node("Relu"), opset), f"opset {opset}", "7-26", "version_converter")


def test_two_inputs(tmp_path: Path) -> None:
    proto = onnx.load(between(tmp_path, node("Relu")))
    proto.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))
    path = tmp_path / "two.onnx"
    onnx.save(proto, path)
    refused(path, "expected one image input, found 2 (image, second)")


def test_two_outputs(tmp_path: Path) -> None:
    model = OnnxModel()
    value = model.node("Conv", IMAGE, float32(RNG, 4, 2, 1, 1))
    outputs = model.head(value, float32(RNG, 3, 4)), model.head(value, float32(RNG, 3, 4))
    refused(model.save(tmp_path, *outputs), "expected one output", "found 2", "--output", *outputs)


def test_output_that_ignores_the_image(tmp_path: Path) -> None:
    model = OnnxModel()
    path = model.save(tmp_path, model.node("Relu", np.ones((1, 3), np.float32)))
    refused(path, "does not depend on the image")


@pytest.mark.parametrize(
    ("shape", "batch", "parts"),
    [
        ((2, 8, 8), 4, ("fixed batch size 4", "expected 1 or a symbol", "dynamic batch axis")),
        ((2, "H", 8), 1, ("[1, 2, H, 8]", "open height or width", "--size")),
        ((2, 8, "W"), "N", ("[N, 2, 8, W]", "open height or width")),
        ((2, None, None), 1, ("[1, 2, ?, ?]",)),
        ((8, 8), 1, ("[1, 8, 8]", "expected [N, C, H, W]")),
    ],
)
def test_input_shapes(shape: tuple[Any, ...], batch: Any, parts: tuple[str, ...], tmp_path: Path) -> None:
    model = OnnxModel(shape, batch=batch)
    refused(model.save(tmp_path, model.node("Relu", IMAGE)), "input 'image'", *parts)


def test_input_type(tmp_path: Path) -> None:
    proto = onnx.load(between(tmp_path, node("Relu")))
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    path = tmp_path / "double.onnx"
    onnx.save(proto, path)
    refused(path, "input 'image'", "DOUBLE", "expected FLOAT")


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "no graph nodes"), (b"not a model, only text\n", "not an ONNX"), (b"\x00" * 64, "not an ONNX")],
)
def test_files_that_are_no_models(content: bytes, part: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    refused(path, part)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", "no such model file")
    refused(tmp_path, "no such model file")


@given(share=st.floats(0.0, 0.999))
def test_truncated_files(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = between(tmp_path_factory.mktemp("cut"), node("Relu"))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    refused(path)


@given(position=st.floats(0.0, 1.0, exclude_max=True), value=st.integers(0, 255))
def test_damaged_files_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, position: float, value: int
) -> None:
    path = between(tmp_path_factory.mktemp("damage"), node("MaxPool", pads=[0, 1, 1, 0], **POOL))
    raw = bytearray(path.read_bytes())
    raw[int(position * len(raw))] = value
    path.write_bytes(bytes(raw))
    with contextlib.suppress(ModelError):  # any other exception is a failure
        load(path)


def external(folder: Path, location: str = "weights.bin", written: str = "weights.bin") -> Path:
    """A model whose kernel lies in another file."""
    folder.mkdir(exist_ok=True)
    path = between(folder, lambda m, v: m.node("Conv", v, m.weight(float32(RNG, 4, 4, 3, 3), "kernel")))
    proto = onnx.load(path)
    tensor = next(t for t in proto.graph.initializer if t.name == "kernel")
    (folder / written).write_bytes(b"\x00" * 16 + tensor.raw_data)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "16", "length": str(size)}.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_beside_the_file(tmp_path: Path) -> None:
    path = external(tmp_path / "model")
    network = load(path)
    image = RNG.random((1, 2, 8, 8), dtype=np.float32)
    assert_allclose(network.oracle.run(image)[0], run_onnxruntime(path, image)[0], rtol=1e-5)
    raw = bytearray((path.parent / "weights.bin").read_bytes())
    raw[-4:] = np.float32(9).tobytes()
    (path.parent / "weights.bin").write_bytes(raw)
    assert load(path).sha256 != network.sha256


@pytest.mark.parametrize("location", ["../weights.bin", "{folder}/weights.bin", "sub/../../weights.bin"])
def test_external_data_that_leaves_the_folder(location: str, tmp_path: Path) -> None:
    location = location.format(folder=tmp_path)
    path = external(tmp_path / "model", location)
    (tmp_path / "weights.bin").write_bytes((tmp_path / "model" / "weights.bin").read_bytes())
    refused(path, "'kernel'", "leaves the model's folder", location)


def test_external_data_by_a_link_out_of_the_folder(tmp_path: Path) -> None:
    path = external(tmp_path / "model", "link.bin")
    target = path.parent / "weights.bin"
    target.rename(tmp_path / "outside.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    refused(path, "'kernel'", "leaves the model's folder")


@pytest.mark.parametrize("location", ["weights.bin", "", "nul\0byte"])
def test_missing_external_data(location: str, tmp_path: Path) -> None:
    path = external(tmp_path / "model", location)
    (path.parent / "weights.bin").unlink()
    refused(path, "'kernel'")


def test_short_external_data(tmp_path: Path) -> None:
    path = external(tmp_path / "model")
    file = path.parent / "weights.bin"
    file.write_bytes(file.read_bytes()[:100])
    refused(path)


def test_every_refusal_is_one_line_and_a_hint(tmp_path: Path) -> None:
    error = refused(between(tmp_path, node("Sin")), kind=UnsupportedOperator)
    assert "\n" not in error.message
    assert error.hint
    assert re.search(r"model\d+\.onnx: node 'culprit' \(Sin\)", error.message)
