"""What is put around a model file before it is read: size, outputs, half precision, normalisation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper

from corgi.errors import ModelError, UnsupportedOperator, UsageError
from corgi.network.network import load
from corgi.network.wrap import Normalisation
from tests.onnx_models import IMAGE, OnnxModel, float32

RNG = np.random.default_rng(12)


def plain(shape: tuple[int | str, ...] = (3, 8, 7), **settings: object) -> OnnxModel:
    return OnnxModel(shape, **settings)


def saved(model: OnnxModel, folder: Path) -> Path:
    value = model.node("Relu", model.node("Conv", IMAGE, float32(RNG, 4, 3, 3, 3), pads=[1, 1, 1, 1]))
    return model.save(folder, model.head(value, float32(RNG, 3, 4)))


@pytest.mark.parametrize(
    "given",
    [
        Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
        Normalisation((104.0, 117.0, 123.0), scale=255.0),
        Normalisation((0.5,), (0.5,)),
        Normalisation(scale=255.0),
    ],
)
def test_normalisation(given: Normalisation, tmp_path: Path) -> None:
    path = saved(plain(), tmp_path)
    image = RNG.random((1, 3, 8, 7), dtype=np.float32)
    mean, std = (np.reshape(v, (-1, 1, 1)) for v in (given.mean, given.std))
    expected, _ = load(path).oracle.run(((given.scale * image - mean) / std).astype(np.float32))
    network = load(path, normalisation=given)
    scores, _ = network.oracle.run(image)
    assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    assert_allclose(network.module(torch.from_numpy(image).double()), scores, rtol=1e-5, atol=1e-5)
    assert str(given) in network.graph.notes[0]


def test_normalisation_of_another_number_of_channels(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--mean has 2 numbers, the input 'image' has 3 channels"):
        load(saved(plain(), tmp_path), normalisation=Normalisation((0.1, 0.2)))


@pytest.mark.parametrize("wrong", [{"std": (0.0,)}, {"mean": (float("nan"),)}, {"scale": -1.0}])
def test_numbers_no_normalisation_has(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
        Normalisation(**wrong)


def test_open_height_and_width(tmp_path: Path) -> None:
    path = saved(plain((3, "H", "W"), batch="N"), tmp_path)
    assert load(path, size=(9, 5)).head.map_shape == (9, 5)
    with pytest.raises(ModelError, match="--size 224x224"):
        load(path)


def test_a_size_the_file_does_not_have(tmp_path: Path) -> None:
    path = saved(plain(), tmp_path)
    assert load(path, size=(8, 7)).input_shape == (3, 8, 7)
    with pytest.raises(ModelError, match="fixed size 8x7, --size asks for 9x7"):
        load(path, size=(9, 7))


@pytest.mark.parametrize("whole", [True, False])
def test_half_precision(whole: bool, tmp_path: Path) -> None:
    """Weights alone in float16 behind Casts, or the whole model: both equal their float32 reading."""
    model = plain()
    weight = float32(RNG, 4, 3, 3, 3).astype(np.float16)
    kind = TensorProto.FLOAT16 if whole else TensorProto.FLOAT
    kernel = model.weight(weight) if whole else model.node("Cast", weight, to=TensorProto.FLOAT)
    value = model.node("Relu", model.node("Conv", IMAGE, kernel))
    dense = float32(RNG, 4, 3).astype(np.float16 if whole else np.float32)
    value = model.node("Gemm", model.node("Flatten", model.node("GlobalAveragePool", value)), dense)
    proto = model.proto(value)
    for end in (*proto.graph.input, *proto.graph.output):
        end.type.tensor_type.elem_type = kind
    path = tmp_path / "half.onnx"
    onnx.save(proto, path)
    network = load(path)
    assert_allclose(network.trunk.steps[0].layer.weight, weight.astype(np.float64), rtol=0)
    assert any("float16" in note for note in network.graph.notes)


def test_values_that_would_not_fit_into_memory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="elements, at most"):
        load(saved(plain((3, 200_000, 200_000)), tmp_path))
    model = plain()
    huge = model.node("ConstantOfShape", np.array([1, 3, 50_000, 50_000]))
    value = model.node("Add", IMAGE, model.node("ReduceMean", huge, axes=[2, 3]))
    with pytest.raises(ModelError, match=f"value '{huge}' would have 7.5e\\+09 elements"):
        load(model.save(tmp_path, model.head(value, float32(RNG, 3, 3))))


@pytest.mark.parametrize(
    ("activation", "numbers"),
    [("Relu", []), ("LeakyRelu", [0.1]), ("Clip", [0.0, 0.5]), ("Sigmoid", []), ("Tanh", [])],
)
@pytest.mark.parametrize("added", [True, False])
def test_fused_convolutions(activation: str, numbers: list[float], added: bool, tmp_path: Path) -> None:
    model = plain()
    first = model.node("Conv", IMAGE, float32(RNG, 4, 3, 3, 3), pads=[1, 1, 1, 1])
    value = model.node(
        "FusedConv",
        first,
        float32(RNG, 4, 4, 3, 3),
        float32(RNG, 4),
        *([first] if added else []),
        domain="com.microsoft",
        activation=activation,
        pads=[1, 1, 1, 1],
        **({"activation_params": numbers} if numbers else {}),
    )
    network = load(model.save(tmp_path, model.head(value, float32(RNG, 3, 4))))
    assert [s.op for s in network.trunk.steps] == ["Conv", "Conv", *(["Add"] if added else []), activation]


def test_fused_convolution_with_another_activation(tmp_path: Path) -> None:
    model = plain()
    value = model.node(
        "FusedConv", IMAGE, float32(RNG, 4, 3, 3, 3), domain="com.microsoft", activation="Swirl"
    )
    with pytest.raises(ModelError, match="onnxruntime cannot load the model"):
        load(model.save(tmp_path, model.head(value, float32(RNG, 3, 4))))


def test_functions_of_the_file_are_inlined(tmp_path: Path) -> None:
    model = plain()
    value = model.node("Block", model.node("Conv", IMAGE, float32(RNG, 4, 3, 3, 3)), domain="mine")
    proto = model.proto(model.head(value, float32(RNG, 3, 4)))
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Tanh", ["y"], ["z"])]
    proto.functions.append(
        helper.make_function("mine", "Block", ["x"], ["z"], nodes, [helper.make_opsetid("", 17)])
    )
    path = tmp_path / "functions.onnx"
    onnx.save(proto, path)
    assert [s.op for s in load(path).trunk.steps] == ["Conv", "Relu", "Tanh"]


@pytest.mark.parametrize("domain", ["com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml"])
def test_functions_that_shadow_the_runtime_are_refused(domain: str, tmp_path: Path) -> None:
    model = plain()
    value = model.node("Gelu", model.node("Conv", IMAGE, float32(RNG, 4, 3, 3, 3)), domain=domain)
    proto = model.proto(model.head(value, float32(RNG, 3, 4)))
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    opset = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function(domain, "Gelu", ["x"], ["y"], nodes, opset))
    path = tmp_path / "shadow.onnx"
    onnx.save(proto, path)
    with pytest.raises(UnsupportedOperator, match="redefines the operator 'Gelu'"):
        load(path)


def test_casts_that_round_are_refused(tmp_path: Path) -> None:
    model = plain()
    value = model.node("Conv", IMAGE, float32(RNG, 4, 3, 3, 3))
    value = model.node("Cast", model.node("Cast", value, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)
    with pytest.raises(ModelError, match="rounds to float16"):
        load(model.save(tmp_path, model.head(value, float32(RNG, 3, 4))))


@pytest.mark.parametrize("wrong", [{"scale": 1e-50}, {"scale": 1e39}, {"std": (1e-46,)}])
def test_numbers_float32_does_not_hold(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected finite numbers"):
        Normalisation(**wrong)


def test_names_corgi_writes_out_itself(tmp_path: Path) -> None:
    model = plain()
    value = model.node(
        "FusedConv", IMAGE, float32(RNG, 4, 3, 3, 3), domain="com.microsoft", activation="Relu"
    )
    value = model.node("Add", value, model.node("Tanh", value, name=value + ":0"))
    proto = model.proto(model.head(value, float32(RNG, 3, 4)))
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = name.replace(":0_out", ":0")
    path = tmp_path / "names.onnx"
    onnx.save(proto, path)
    with pytest.raises(ModelError, match="is named as one that corgi writes out"):
        load(path)


def test_names_of_constants_corgi_writes_out_itself(tmp_path: Path) -> None:
    model = plain()
    value = model.node("Softsign", model.node("Conv", IMAGE, float32(RNG, 4, 3, 3, 3)))
    proto = model.proto(model.head(value, float32(RNG, 3, 4)))
    weight = proto.graph.initializer[0].name
    for node in proto.graph.node:
        node.input[:] = [f"{value}:constant0" if name == weight else name for name in node.input]
    proto.graph.initializer[0].name = f"{value}:constant0"
    path = tmp_path / "names.onnx"
    onnx.save(proto, path)
    with pytest.raises(ModelError, match="is named as one that corgi writes out"):
        load(path)


def test_unused_domains_mean_nothing(tmp_path: Path) -> None:
    proto = onnx.load(saved(plain(), tmp_path))
    proto.opset_import.append(helper.make_opsetid("org.nobody", 3))
    path = tmp_path / "domains.onnx"
    onnx.save(proto, path)
    assert load(path).head.classes == 3


@pytest.mark.parametrize("form", ["raw_data", "float_data"])
def test_where_weights_are_kept(form: str, tmp_path: Path) -> None:
    proto = onnx.load(saved(plain(), tmp_path))
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        raw = form == "raw_data"
        data = values.tobytes() if raw else values.flatten().tolist()
        tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, values.shape, data, raw))
    path = tmp_path / "weights.onnx"
    onnx.save(proto, path)
    load(path)


def test_bfloat16(tmp_path: Path) -> None:
    """Weights, input and output: the model of the same numbers in float32."""
    import ml_dtypes

    proto = onnx.load(saved(plain(), tmp_path))
    full, half = onnx.ModelProto.FromString(proto.SerializeToString()), proto
    for i, tensor in enumerate(proto.graph.initializer):
        if tensor.data_type == TensorProto.FLOAT:
            short = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
            half.graph.initializer[i].CopyFrom(numpy_helper.from_array(short, tensor.name))
            full.graph.initializer[i].CopyFrom(
                numpy_helper.from_array(short.astype(np.float32), full.graph.initializer[i].name)
            )
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    image = RNG.random((1, 3, 8, 7), dtype=np.float32)
    found = []
    for name, model in (("half", half), ("full", full)):
        onnx.save(model, tmp_path / f"{name}.onnx")
        found.append(load(tmp_path / f"{name}.onnx"))
    assert_allclose(*(network.oracle.run(image)[0] for network in found))
    assert any("is taken as float32" in note for note in found[0].graph.notes)


def of_bytes(build: Callable[[OnnxModel], str], shape: tuple[int, ...], folder: Path) -> Path:
    """A file that takes bytes, what is built with them, and a network."""
    model = plain(shape)
    value = model.node("Relu", model.node("Conv", build(model), float32(RNG, 4, 3, 3, 3)))
    path = model.save(folder, model.head(value, float32(RNG, 3, 4)))
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("last", [False, True])
def test_an_input_of_bytes(last: bool, tmp_path: Path) -> None:
    """On pixels that are bytes the network is the file; [N, H, W, C] is turned before the cast."""

    def build(model: OnnxModel) -> str:
        value = model.node("Transpose", IMAGE, perm=[0, 3, 1, 2]) if last else IMAGE
        value = model.node("Cast", value, to=TensorProto.FLOAT)
        return model.node("Sub", model.node("Mul", value, np.float32(1 / 127.5)), np.float32(1))

    path = of_bytes(build, (8, 7, 3) if last else (3, 8, 7), tmp_path)
    network = load(path)
    assert any("bytes" in note for note in network.graph.notes)
    pixels = RNG.integers(0, 256, (3, 8, 7), dtype=np.uint8)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {IMAGE: (pixels.transpose(1, 2, 0) if last else pixels)[None]})[0]
    image = (pixels / np.float32(255)).astype(np.float32)
    assert_allclose(network.oracle.run(image[None])[0], expected, rtol=1e-4, atol=1e-5)
    assert_allclose(network.module(torch.from_numpy(image[None]).double()), expected, rtol=1e-4, atol=1e-5)
    # A scale that is given counts instead.
    given = load(path, normalisation=Normalisation(scale=100.0))
    assert_allclose(given.oracle.run(image[None] * 2.55)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "op"),
    [
        (lambda m: m.node("Cast", m.node("Sub", IMAGE, np.uint8([3])), to=TensorProto.FLOAT), "Sub"),
        (
            lambda m: m.node("Cast", m.node("Cast", IMAGE, to=TensorProto.INT8), to=TensorProto.FLOAT),
            "Cast",
        ),
    ],
)
def test_bytes_that_are_computed_with(build: Callable[[OnnxModel], str], op: str, tmp_path: Path) -> None:
    """They may wrap around."""
    with pytest.raises(ModelError, match=rf"type UINT8, and node '.*' \({op}\) computes with the bytes"):
        load(of_bytes(build, (3, 8, 7), tmp_path))
