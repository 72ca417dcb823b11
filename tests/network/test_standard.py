"""What a file leaves away is what the standard says, as the float32 number it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from corgi.errors import UnsupportedOperator
from corgi.network.checks import OPSETS
from corgi.network.convert import Step, convert
from corgi.network.graph import read_graph
from corgi.network.node import Node
from corgi.network.node_reader import NodeReader
from corgi.network.rules import RULES, SPLITTING_RULES
from corgi.network.standard import HARD_SWISH_ALPHA, HARD_SWISH_BETA, attribute_default
from corgi.network.written import written_out
from tests.network.test_operators import CASES, FORMS, NEWER, RESIZES, Build, save
from tests.onnx_models import OnnxModel

SUPPORTED = sorted({*RULES, *SPLITTING_RULES})
FLOAT = onnx.AttributeProto.FLOAT


def schema_defaults(op: str, opset: int) -> dict[str, onnx.AttributeProto]:
    """Defaults of a standard operator by attribute."""
    if not onnx.defs.has(op, opset, ""):
        return {}
    attributes = onnx.defs.get_schema(op, opset, "").attributes
    return {name: a.default_value for name, a in attributes.items() if a.default_value.type}


@pytest.mark.parametrize("op", SUPPORTED)
def test_reader_says_what_the_schema_says(op: str) -> None:
    for opset in OPSETS:
        reader = NodeReader(Node(op, "n", ("x",), ("y",), {}), {}, {"x": (1,)}, opset)
        for name, default in schema_defaults(op, opset).items():
            value = onnx.helper.get_attribute_value(default)
            match default.type:
                case onnx.AttributeProto.FLOAT:
                    found: object = reader.float_attribute(name)
                    assert value == np.float32(value)
                case onnx.AttributeProto.INT:
                    found = reader.int_attribute(name)
                case onnx.AttributeProto.STRING:
                    found, value = reader.choice(name, value.decode()), value.decode()
                case _:
                    raise AssertionError(f"{op}: {name} has a default of a type no rule can read")
            assert found == value


def test_versions_without_an_attribute_mean_what_the_nearest_one_means() -> None:
    largest = float(np.finfo(np.float32).max)
    assert attribute_default("BatchNormalization", "training_mode", 9) == 0  # came with 14
    assert attribute_default("Clip", "max", 13) == largest  # an operand since 11
    assert attribute_default("Softmax", "axis", 12) == 1
    assert attribute_default("Softmax", "axis", 13) == -1
    assert attribute_default("Gelu", "approximate", 9) == "none"  # by way of com.microsoft
    assert attribute_default("Conv", "strides", 9) is None
    assert attribute_default("NoSuch", "axis", 9) is None


def test_a_rule_cannot_have_a_default_of_its_own() -> None:
    reader = NodeReader(Node("LeakyRelu", "n", ("x",), ("y",), {}), {}, {"x": (1,)}, 16)
    with pytest.raises(AssertionError, match="alpha"):
        reader.int_attribute("alpha", 0)
    with pytest.raises(UnsupportedOperator, match="absent"):
        reader.float_attribute("absent")


def written(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same model with every default written out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        given = {a.name for a in node.attribute}
        for name, default in schema_defaults(node.op_type, opset).items():
            if name not in given:
                node.attribute.add().CopyFrom(default)
                node.attribute[-1].name = name
    return copy


def numbers(step: Step) -> dict[str, object]:
    """Everything a layer holds."""
    layer = step.layer
    plain = {k: v for k, v in vars(layer).items() if not k.startswith("_")}
    return {"type": type(layer), **plain, **dict(layer.named_buffers())}


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


ALL: dict[str, tuple[int, Build]] = {
    **{name: (9, build) for name, build in {**CASES, **FORMS}.items()},
    "batch-norm": (7, CASES["batch-norm"]),
    **NEWER,
    **RESIZES,
}


def test_a_default_left_away_is_the_default_written(tmp_path: Path) -> None:
    """Two files the standard calls equal convert to the same layers, bit by bit."""
    tested: set[tuple[str, int]] = set()
    for since, build in ALL.values():
        model = OnnxModel((2, 8, 8), 9)
        build(model, "image")
        ops = {n.op_type for n in model.nodes}
        floats = {(op, v) for op in ops for v in OPSETS if _float_version(op, v)}
        for opset in sorted({since} | {_first(op, v) for op, v in floats}):
            if opset < since:
                continue
            path = save(OnnxModel((2, 8, 8), opset), tmp_path, build)
            short = convert(read_graph(path)).module.steps
            path.write_bytes(written(onnx.load(path), opset).SerializeToString())
            long = convert(read_graph(path)).module.steps
            assert len(short) == len(long)
            for a, b in zip(short, long, strict=True):
                left, right = numbers(a), numbers(b)
                assert left.keys() == right.keys()
                assert all(same(left[k], right[k]) for k in left), (a.op, opset, left, right)
                tested.add((a.op, _since(a.op, opset)))
    expected = {(op, _since(op, v)) for op in SUPPORTED for v in OPSETS if _float_version(op, v)}
    assert expected <= tested


def _since(op: str, opset: int) -> int:
    return onnx.defs.get_schema(op, opset, "").since_version if onnx.defs.has(op, opset, "") else 0


def _first(op: str, opset: int) -> int:
    """The first opset corgi knows with the same version of an operator."""
    return max(_since(op, opset), OPSETS.start)


def _float_version(op: str, opset: int) -> bool:
    """Whether there is such a default, of a version that the standard's checker still lets pass."""
    if onnx.defs.has(op, opset, "") and onnx.defs.get_schema(op, opset, "").deprecated:
        return False
    return any(d.type == FLOAT for d in schema_defaults(op, opset).values())


def test_hard_swish_is_its_function_body() -> None:
    for opset in (14, 22):
        gate, product = onnx.defs.get_schema("HardSwish", opset, "").function_body.node
        constants = {a.name: onnx.helper.get_attribute_value(a) for a in gate.attribute}
        assert constants == {"alpha": HARD_SWISH_ALPHA, "beta": HARD_SWISH_BETA}
        assert (gate.op_type, product.op_type) == ("HardSigmoid", "Mul")


def test_vendor_defaults_are_onnxruntimes() -> None:
    schemas = {s.name: s for s in get_all_operator_schema() if s.domain == "com.microsoft"}

    def default(op: str, name: str) -> object:
        attribute = onnx.AttributeProto()
        attribute.ParseFromString(schemas[op].attributes[name]._default_value)
        return onnx.helper.get_attribute_value(attribute)

    constants: dict[str, np.ndarray] = {}
    written_out(Node("QuickGelu", "n", ("x",), ("y",), {}), constants, "com.microsoft")
    assert [float(v) for v in constants.values()] == [default("QuickGelu", "alpha")]
    assert default("FusedConv", "group") == attribute_default("Conv", "group", 11)
    assert default("FusedConv", "auto_pad") == attribute_default("Conv", "auto_pad", 11).encode()
