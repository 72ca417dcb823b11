"""Hostile models: every one is to be refused with one line, whatever it claims to be."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_models import IMAGE, OnnxModel, float32

HUGE = 2**62
ESCAPE = "\x1b[2J\x1b]0;owned\x07\n\r\u202e"
"""Clears a terminal, sets its title, and writes on from right to left."""

Edit = Callable[[onnx.ModelProto], Any]
Build = Callable[[OnnxModel, str], str]


def sound(build: Build = lambda m, v: v, opset: int = 17, shape: tuple[int, ...] = (3, 8, 8)) -> OnnxModel:
    """A model that is served, but for what `build` puts between its convolution and its head."""
    rng = np.random.default_rng(5)
    model = OnnxModel(shape, opset, rank=2)
    value = model.node("Conv", IMAGE, model.weight(float32(rng, 4, shape[0], 3, 3), "kernel"), name="conv")
    value = build(model, model.node("Relu", value, name="relu"))
    model.output = model.head(value, float32(rng, 3, 4))  # type: ignore[attr-defined]
    return model


def proto(model: OnnxModel) -> onnx.ModelProto:
    return model.proto(model.output)  # type: ignore[attr-defined]


def node(op: str, *operands: Any, opset: int = 17, **attributes: Any) -> onnx.ModelProto:
    """The sound model with a node of its own between its convolution and its head."""
    return proto(sound(lambda m, v: m.node(op, v, *operands, name="culprit", **attributes), opset))


def edited(edit: Edit, base: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """The sound model after an edit."""
    model = proto(sound()) if base is None else base
    edit(model)
    return model


def find(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.op_type == op)


def kernel(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == "kernel")


def attribute(op: str, name: str, value: Any) -> onnx.ModelProto:
    """The sound model with another attribute of a node."""

    def edit(model: onnx.ModelProto) -> None:
        target = find(model, op)
        kept = [a for a in target.attribute if a.name != name]
        del target.attribute[:]
        kind = onnx.AttributeProto.INTS if value == [] else None
        target.attribute.extend([*kept, helper.make_attribute(name, value, attr_type=kind)])

    return edited(edit)


def weights(value: float, name: str = "kernel", at: int = 7) -> onnx.ModelProto:
    """The sound model with one weight set."""

    def edit(model: onnx.ModelProto) -> None:
        target = next(t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(target).copy()
        array.reshape(-1)[at] = value
        target.CopyFrom(numpy_helper.from_array(array, name))

    return edited(edit)


def dims(*sizes: int) -> onnx.ModelProto:
    """The sound model whose kernel claims another shape than it has numbers for."""

    def edit(model: onnx.ModelProto) -> None:
        del kernel(model).dims[:]
        kernel(model).dims.extend(sizes)

    return edited(edit)


def image_shape(*sizes: int | str) -> onnx.ModelProto:
    def edit(model: onnx.ModelProto) -> None:
        shape = model.graph.input[0].type.tensor_type.shape
        del shape.dim[:]
        for size in sizes:
            field = "dim_param" if isinstance(size, str) else "dim_value"
            setattr(shape.dim.add(), field, size)

    return edited(edit)


def renamed(old: str, new: str) -> Edit:
    """Give a value another name wherever it stands."""

    def edit(model: onnx.ModelProto) -> None:
        for n in model.graph.node:
            for names in (n.input, n.output):
                for i, name in enumerate(names):
                    names[i] = new if name == old else name
        for holder in (*model.graph.input, *model.graph.output, *model.graph.initializer):
            holder.name = new if holder.name == old else holder.name

    return edit


def metadata(key: str, value: str) -> onnx.ModelProto:
    return edited(lambda m: helper.set_model_props(m, {key: value}))


def made(build: Build, opset: int = 17) -> onnx.ModelProto:
    return proto(sound(build, opset))


def bomb(op: str, opset: int = 17) -> onnx.ModelProto:
    """A value of 2^40 numbers that the file folds from constants, its size hidden behind a Pow."""

    def build(m: OnnxModel, v: str) -> str:
        size = m.node("Cast", m.node("Pow", np.float64([2]), np.float64([40])), to=TensorProto.INT64)
        match op:
            case "ConstantOfShape":
                large = m.node("ConstantOfShape", size)
            case "Expand":
                large = m.node("Expand", np.float32([1]), size)
            case "Tile":
                large = m.node("Tile", np.float32([1]), size)
            case "Range":
                scalar = m.node("Squeeze", size)
                large = m.node("Range", np.int64(0), scalar, np.int64(1))
                large = m.node("Cast", large, to=TensorProto.FLOAT)
            case "Resize":
                scale = m.node("Cast", m.node("Concat", np.int64([1]), size, axis=0), to=TensorProto.FLOAT)
                large = m.node("Resize", np.ones((1, 1), np.float32), None, scale, mode="nearest")
            case "Pad":
                pads = m.node("Concat", np.int64([0]), size, axis=0)
                large = m.node("Pad", np.float32([1]), pads)
            case "OneHot":
                large = m.node("OneHot", np.int64([0]), size, np.float32([0, 1]))
            case "EyeLike":
                large = m.node("EyeLike", m.node("ConstantOfShape", m.node("Concat", size, size, axis=0)))
            case "RandomNormalLike":
                large = m.node("RandomNormalLike", m.node("Expand", np.float32([1]), size))
        return m.node("Mul", v, m.node("ReduceMean", large, keepdims=0))

    return made(build, opset)


def chained(op: str, count: int, **attributes: Any) -> onnx.ModelProto:
    def build(m: OnnxModel, v: str) -> str:
        for _ in range(count):
            v = m.node(op, v, **attributes)
        return v

    return made(build)


def doubled(times: int) -> onnx.ModelProto:
    """A value of the network that is laid beside itself again and again."""

    def build(m: OnnxModel, v: str) -> str:
        for _ in range(times):
            v = m.node("Concat", v, v, axis=1)
        return m.node("Slice", v, np.int64([0]), np.int64([4]), np.int64([1]))

    return made(build)


def subgraph(op: str) -> onnx.ModelProto:
    """If on the image, or a Loop that never ends."""
    floats = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    true = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    given = helper.make_tensor_value_info("given", TensorProto.BOOL, [])
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, None)

    def build(m: OnnxModel, v: str) -> str:
        if op == "If":
            branch = helper.make_graph([helper.make_node("Relu", [v], ["inner"])], "branch", [], [floats])
            condition = m.node("Greater", m.node("ReduceMean", IMAGE, keepdims=0), np.float32(0.5))
            return m.node("If", condition, then_branch=branch, else_branch=branch, name="culprit")
        start = v if op == "Loop" else m.weight(np.float32(1), "start")
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["given"], ["go_on"]),
                helper.make_node("Relu", ["state"], ["inner"]),
            ],
            "body",
            [count, given, state],
            [true, floats],
        )
        looped = m.node("Loop", None, np.array(True), start, body=body, name="culprit")
        return looped if op == "Loop" else m.node("Mul", v, looped)

    return made(build)


def functions(kind: str) -> onnx.ModelProto:
    """Functions that call themselves or each other, or that multiply."""
    ops = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def function(name: str, *calls: str, domain: str = "own") -> onnx.FunctionProto:
        nodes, value = [], "x"
        for i, call in enumerate(calls):
            where = "" if call in ("Relu", "Neg") else "own"
            nodes.append(helper.make_node(call, [value], [f"y{i}"], domain=where))
            value = f"y{i}"
        return helper.make_function(domain, name, ["x"], [value], nodes, ops)

    match kind:
        case "itself":
            defined = [function("F", "F")]
        case "each other":
            defined = [function("F", "G"), function("G", "F")]
        case "powers":
            defined = [function("F", "F0", "F0")]
            defined += [function(f"F{i}", f"F{i + 1}", f"F{i + 1}") for i in range(40)]
            defined += [function("F40", "Relu")]
        case "twice":
            defined = [function("F", "Relu"), function("F", "Neg")]
        case "a standard operator":
            defined = [function("F", "Relu"), function("Relu", "Neg", domain="")]
        case "a subgraph":
            outside = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
            outside.data_location = TensorProto.EXTERNAL
            outside.external_data.add(key="location", value="/etc/passwd")
            inner = helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])
            branch = helper.make_graph([], "branch", [], [inner], [outside])
            test = helper.make_node(
                "Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])
            )
            both = helper.make_node("If", ["c"], ["w1"], then_branch=branch, else_branch=branch)
            mul = helper.make_node("Mul", ["x", "w1"], ["y"])
            defined = [helper.make_function("own", "F", ["x"], ["y"], [test, both, mul], ops)]
    model = made(lambda m, v: m.node("F", v, domain="own", name="culprit"))
    model.functions.extend(defined)
    return model


def sparse(where: str) -> onnx.ModelProto:
    """2^40 zeros and a one, in a few bytes."""
    one = helper.make_tensor("large", TensorProto.FLOAT, [1], [1.0])
    place = helper.make_tensor("place", TensorProto.INT64, [1], [3])
    large = helper.make_sparse_tensor(one, place, [2**40])

    def build(m: OnnxModel, v: str) -> str:
        name = "large"
        if where == "node":
            m.nodes.append(helper.make_node("Constant", [], ["large"], name="culprit", sparse_value=large))
        return m.node("Mul", v, m.node("ReduceMean", name, keepdims=0))

    model = made(build)
    if where == "graph":
        model.graph.sparse_initializer.append(large)
    return model


def external(**info: str) -> onnx.ModelProto:
    """The sound model whose kernel lies in another file."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = kernel(model)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in info.items():
            tensor.external_data.add(key=key, value=value)

    return edited(edit)


def typed(kind: int) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        array = numpy_helper.to_array(kernel(model))
        if kind == TensorProto.STRING:
            new = helper.make_tensor("kernel", kind, array.shape, [b"1"] * array.size)
        else:
            new = helper.make_tensor("kernel", kind, array.shape, np.abs(array).reshape(-1).tolist())
        kernel(model).CopyFrom(new)

    return edit


def invalid_utf8(field: str) -> bytes:
    """The sound model with bytes in a name that are no text."""
    mark = "MARKMARK"

    def edit(model: onnx.ModelProto) -> None:
        match field:
            case "node":
                find(model, "Relu").name = mark
            case "value":
                renamed("relu_out", mark)(model)
            case "weight":
                renamed("kernel", mark)(model)
            case "domain":
                find(model, "Relu").domain = mark
            case "operator":
                find(model, "Relu").op_type = mark
            case "attribute":
                find(model, "Gemm").attribute[0].name = mark
            case "recipe":
                helper.set_model_props(model, {"corgi.preprocess": mark})
            case "input":
                renamed(IMAGE, mark)(model)
            case "output":
                renamed(model.graph.output[0].name, mark)(model)
            case "dimension":
                shape = model.graph.input[0].type.tensor_type.shape
                shape.dim[2].dim_param = mark
            case "string":
                find(model, "Conv").attribute.append(helper.make_attribute("auto_pad", mark))
            case "function":
                model.functions.append(helper.make_function("own", mark, [], [], [], []))
            case "opset":
                model.opset_import.append(helper.make_opsetid(mark, 1))

    return edited(edit).SerializeToString().replace(mark.encode(), b"\xff\xfe\x80\xc0MARK")


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("model.onnx", content)
    return target.getvalue()


def training(model: onnx.ModelProto) -> None:
    info = model.training_info.add()
    info.algorithm.name = "step"
    info.algorithm.node.append(helper.make_node("Identity", ["kernel"], ["moved"]))
    info.algorithm.output.append(helper.make_tensor_value_info("moved", TensorProto.FLOAT, [4, 3, 3, 3]))
    info.update_binding.add(key="kernel", value="moved")


def files() -> Iterator[tuple[str, bytes | onnx.ModelProto]]:
    """Name -> a model file that needs nothing beside it."""
    good = proto(sound())
    raw = good.SerializeToString()
    rng = np.random.default_rng(3)
    c4 = np.ones(4, np.float32)

    # No ONNX at all.
    yield "empty", b""
    yield "text", b"not a model, only text\n"
    yield "zeros", bytes(4096)
    yield "noise", rng.bytes(4096)
    yield "ones", b"\xff" * 4096
    yield "gzip", gzip.compress(raw, mtime=0)
    yield "zip", zipped(raw)
    yield "pickle", b"\x80\x04cos\nsystem\n(S'echo owned'\ntR."
    yield "html", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 22844\n"
    yield "json", json.dumps({"graph": {}}).encode()
    yield "elf", b"\x7fELF" + rng.bytes(500)
    yield "two-models", raw + raw
    yield "deep-groups", b"\x0b" * 100_000
    yield "deep-messages", deep_messages(1_000)

    # Graph structure.
    yield "no-nodes", edited(lambda m: m.graph.ClearField("node"))
    yield "no-input", edited(lambda m: m.graph.ClearField("input"))
    yield "no-output", edited(lambda m: m.graph.ClearField("output"))
    yield "no-weights", edited(lambda m: m.graph.ClearField("initializer"))
    yield "no-opset", edited(lambda m: m.ClearField("opset_import"))
    yield "no-ir-version", edited(lambda m: m.ClearField("ir_version"))
    yield "ir-version-huge", edited(lambda m: setattr(m, "ir_version", HUGE))
    yield "ir-version-negative", edited(lambda m: setattr(m, "ir_version", -1))
    for version in (0, -3, 10**6, HUGE, 6):
        yield f"opset-{version}", edited(lambda m, v=version: setattr(m.opset_import[0], "version", v))
    yield "opset-twice", edited(lambda m: m.opset_import.append(helper.make_opsetid("", 13)))
    yield "opset-two-names", edited(lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 13)))
    yield "node-twice", edited(lambda m: m.graph.node.append(m.graph.node[1]))
    yield "weight-twice", edited(lambda m: m.graph.initializer.append(m.graph.initializer[0]))
    yield (
        "weight-twice-other",
        edited(
            lambda m: m.graph.initializer.append(numpy_helper.from_array(float32(rng, 4, 3, 3, 3), "kernel"))
        ),
    )
    yield "input-twice", edited(lambda m: m.graph.input.append(m.graph.input[0]))
    yield "output-twice", edited(lambda m: m.graph.output.append(m.graph.output[0]))
    yield (
        "weight-named-as-image",
        edited(
            lambda m: m.graph.initializer.append(
                numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), IMAGE)
            )
        ),
    )
    yield (
        "weight-named-as-value",
        edited(lambda m: m.graph.initializer.append(numpy_helper.from_array(c4, "relu_out"))),
    )
    yield (
        "weight-as-input",
        edited(
            lambda m: m.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))
        ),
    )
    yield "output-is-image", edited(lambda m: setattr(m.graph.output[0], "name", IMAGE))
    yield "output-is-weight", edited(lambda m: setattr(m.graph.output[0], "name", "kernel"))
    yield "output-is-nothing", edited(lambda m: setattr(m.graph.output[0], "name", "nobody"))
    yield "output-is-feature", edited(lambda m: setattr(m.graph.output[0], "name", "relu_out"))
    yield "cycle", edited(lambda m: find(m, "Conv").input.__setitem__(0, "relu_out"))
    yield "cycle-of-one", edited(lambda m: find(m, "Relu").input.__setitem__(0, "relu_out"))
    yield "value-missing", edited(lambda m: find(m, "Relu").input.__setitem__(0, "nobody"))
    yield "input-empty-name", edited(lambda m: find(m, "Relu").input.__setitem__(0, ""))
    yield "output-empty-name", edited(lambda m: find(m, "Relu").output.__setitem__(0, ""))
    yield "no-operands", edited(lambda m: find(m, "Relu").ClearField("input"))
    yield "no-outputs", edited(lambda m: find(m, "Relu").ClearField("output"))
    yield "kernel-left-out", edited(lambda m: find(m, "Conv").input.__delitem__(1))
    yield "operands-many", edited(lambda m: find(m, "Relu").input.extend([IMAGE] * 1000))
    yield "operator-missing", edited(lambda m: find(m, "Relu").ClearField("op_type"))
    yield "operator-unknown", edited(lambda m: setattr(find(m, "Relu"), "op_type", "Exfiltrate"))
    yield "domain-unknown", edited(lambda m: setattr(find(m, "Relu"), "domain", "evil.corp"))
    yield "domain-training", edited(lambda m: setattr(find(m, "Relu"), "domain", "ai.onnx.training"))
    yield "domain-ml", edited(lambda m: setattr(find(m, "Relu"), "domain", "ai.onnx.ml"))
    yield "attribute-twice", edited(lambda m: find(m, "Gemm").attribute.append(find(m, "Gemm").attribute[0]))
    yield "attribute-unknown", attribute("Relu", "alpha", 0.5)
    yield "attribute-untyped", edited(lambda m: setattr(find(m, "Gemm").attribute[0], "type", 0))
    yield "attribute-mistyped", edited(lambda m: setattr(find(m, "Gemm").attribute[0], "type", 3))
    yield (
        "attribute-reference",
        edited(lambda m: find(m, "Gemm").attribute.add(name="alpha", ref_attr_name="a", type=1)),
    )
    yield "identities", chained("Identity", 100_000)
    yield "relus", chained("Relu", 20_000)
    yield "doubled", doubled(40)
    yield "doubled-within-limits", doubled(24)
    yield "sizes-add-up", wide_chain(3000)
    for op in ("If", "Loop", "constant Loop"):
        yield f"subgraph-{op}", subgraph(op)
    for kind in ("itself", "each other", "powers", "twice", "a standard operator", "a subgraph"):
        yield f"function-{kind}", functions(kind)
    for where in ("graph", "node"):
        yield f"sparse-{where}", sparse(where)
    yield "training-info", edited(training)
    yield "batch-norm-training", node("BatchNormalization", c4, c4, c4, c4, outputs=3, training_mode=1)

    # Names.
    yield (
        "escape-node",
        edited(
            lambda m: (
                setattr(find(m, "Relu"), "name", ESCAPE),
                setattr(find(m, "Relu"), "op_type", "Softsign"),
            )
        ),
    )
    yield "escape-operator", edited(lambda m: setattr(find(m, "Relu"), "op_type", f"Relu{ESCAPE}"))
    yield "escape-domain", edited(lambda m: setattr(find(m, "Relu"), "domain", ESCAPE))
    yield "escape-output", edited(lambda m: setattr(m.graph.output[0], "name", ESCAPE))
    yield "escape-input", edited(renamed(IMAGE, ESCAPE), image_shape(1, 3, "H", 8))
    yield "escape-dimension", image_shape(1, 3, ESCAPE, 8)
    yield "escape-weight", edited(renamed("kernel", ESCAPE), weights(float("nan")))
    yield "escape-attribute", attribute("Relu", ESCAPE, 1)
    yield "escape-string", node("MaxPool", kernel_shape=[2, 2], auto_pad=ESCAPE)
    yield "escape-recipe", metadata("corgi.preprocess", ESCAPE)
    yield (
        "long-node",
        edited(
            lambda m: (
                setattr(find(m, "Relu"), "name", "n" * 10**7),
                setattr(find(m, "Relu"), "op_type", "Softsign"),
            )
        ),
    )
    yield "long-operator", edited(lambda m: setattr(find(m, "Relu"), "op_type", "n" * 10**7))
    yield (
        "long-outputs",
        edited(
            lambda m: m.graph.output.extend(
                [helper.make_tensor_value_info(f"o{i}", 1, None) for i in range(10**5)]
            )
        ),
    )
    yield "nul-value", edited(renamed("relu_out", "a\0b"), attribute("Gemm", "alpha", float("nan")))
    for field in (
        "node",
        "value",
        "weight",
        "domain",
        "operator",
        "attribute",
        "recipe",
        "input",
        "output",
        "opset",
        "dimension",
        "function",
        "string",
    ):
        yield f"utf8-{field}", invalid_utf8(field)

    # Shapes.
    yield "dims-many", dims(*[1] * 1000, 4, 3, 3, 3)
    yield "dims-negative", dims(-4, 3, 3, 3)
    yield "dims-two-negative", dims(-4, -3, 3, 3)
    yield "dims-zero", dims(0, 3, 3, 3)
    yield "dims-none", dims()
    yield "dims-too-few", dims(3, 3, 3, 3)
    yield "dims-too-many", dims(5, 3, 3, 3)
    yield "dims-huge", dims(HUGE, 3, 3, 3)
    yield "dims-wrap-64", dims(2**32, 2**32, 3, 3)
    yield "dims-wrap-32", dims(2**16, 2**16, 1, 1)
    yield "dims-wrap-to-truth", dims(2**62 + 4 * 9, 4, 3, 1)
    for sizes in (
        (1, 3, HUGE, 8),
        (1, 3, 2**31, 2**31),
        (1, 3, 65536, 65536),
        (1, 3, 0, 8),
        (1, 3, -8, 8),
        (1, -3, 8, 8),
        (HUGE, 3, 8, 8),
        (1, HUGE, 8, 8),
        (1, 3, 1, 1),
        (1, 3, 8),
        (1, 3, 8, 8, 1),
        (),
        (1, "C", 8, 8),
        (1, 3, "H", "W"),
        ("N", "N", "N", "N"),
    ):
        yield f"image-{'x'.join(map(str, sizes))}", image_shape(*sizes)
    for kind in (
        "DOUBLE",
        "UINT8",
        "INT64",
        "STRING",
        "BOOL",
        "COMPLEX64",
        "FLOAT8E4M3FN",
        "INT4",
    ):
        code = getattr(TensorProto, kind)
        yield (
            f"image-{kind}",
            edited(lambda m, c=code: setattr(m.graph.input[0].type.tensor_type, "elem_type", c)),
        )
    yield "image-type-999", edited(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 999))
    yield "image-type-none", edited(lambda m: m.graph.input[0].ClearField("type"))
    yield (
        "image-sequence",
        edited(lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent()),
    )
    yield (
        "output-type",
        edited(lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.STRING)),
    )
    for kind in ("DOUBLE", "INT64", "UINT8", "STRING", "BOOL", "INT8", "COMPLEX64"):
        yield f"weight-{kind}", edited(typed(getattr(TensorProto, kind)))
    yield "weight-type-999", edited(lambda m: setattr(kernel(m), "data_type", 999))
    yield "weight-type-0", edited(lambda m: setattr(kernel(m), "data_type", 0))
    yield "weight-half-short", edited(lambda m: setattr(kernel(m), "data_type", TensorProto.FLOAT16))
    yield "weight-short", edited(lambda m: setattr(kernel(m), "raw_data", kernel(m).raw_data[:-4]))
    yield "weight-odd", edited(lambda m: setattr(kernel(m), "raw_data", kernel(m).raw_data[:-3]))
    yield "weight-long", edited(lambda m: setattr(kernel(m), "raw_data", kernel(m).raw_data + bytes(4)))
    yield "weight-empty", edited(lambda m: kernel(m).ClearField("raw_data"))
    yield "weight-both", edited(lambda m: kernel(m).float_data.extend([1.0] * 108))
    yield "weight-segment", edited(lambda m: setattr(kernel(m).segment, "begin", HUGE))
    yield "weight-unnamed", edited(lambda m: kernel(m).ClearField("name"))

    # Values that grow.
    for op in (
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "Resize",
        "Pad",
        "OneHot",
        "EyeLike",
        "RandomNormalLike",
    ):
        yield f"bomb-{op}", bomb(op)
    for exponent in (28, 30):
        yield f"bomb-fits-{exponent}", made(lambda m, v, e=exponent: constant_bomb(m, v, e))
    yield (
        "bomb-plain",
        made(
            lambda m, v: m.node(
                "Mul",
                v,
                m.node("ReduceMean", m.node("ConstantOfShape", np.int64([2**20, 2**20])), keepdims=0),
            )
        ),
    )
    yield (
        "bomb-wraps",
        made(
            lambda m, v: m.node(
                "Mul",
                v,
                m.node("ReduceMean", m.node("ConstantOfShape", np.int64([2**33, 2**31])), keepdims=0),
            )
        ),
    )
    yield (
        "bomb-negative",
        made(
            lambda m, v: m.node(
                "Mul", v, m.node("ReduceMean", m.node("ConstantOfShape", np.int64([-5])), keepdims=0)
            )
        ),
    )
    yield "grow-tile", node("Tile", np.int64([1, 1, 2**20, 2**20]))
    yield "grow-expand", node("Expand", np.int64([2**30, 4, 6, 6]))
    yield (
        "grow-resize",
        made(
            lambda m, v: m.node(
                "Resize", v, None, np.float32([1, 1, 1e6, 1e6]), mode="nearest", name="culprit"
            )
        ),
    )
    yield "grow-pad", node("Pad", np.int64([0, 0, 2**30, 2**30, 0, 0, 2**30, 2**30]))
    yield "grow-pad-hidden", made(hidden_pad)
    yield "grow-pad-within-memory", made(lambda m, v: hidden_pad(m, v, 13))
    yield "pool-wide", node("MaxPool", kernel_shape=[2**20] * 2, pads=[2**20 - 8] * 4, strides=[2**20] * 2)
    yield (
        "pool-wide-average",
        node("AveragePool", kernel_shape=[2**20] * 2, pads=[2**20 - 8] * 4, strides=[2**20] * 2),
    )
    yield "grow-upsample", node("Upsample", np.float32([1, 1, 1e6, 1e6]), opset=9)
    yield "grow-depth", node("DepthToSpace", blocksize=2**31)

    # Attributes.
    for name in ("strides", "dilations"):
        for numbers in ([0, 0], [-1, -1], [2**31, 2**31], [HUGE, HUGE], [1], [1, 1, 1], []):
            if name == "strides" and max(numbers, default=0) > 2**30:
                continue  # one window: a map of one pixel
            yield f"conv-{name}-{numbers}", attribute("Conv", name, numbers)
    for numbers in ([-1, -1, -1, -1], [2**31] * 4, [HUGE] * 4, [1], [2**20, 0, 0, 0], [2**13] * 4):
        yield f"conv-pads-{numbers}", attribute("Conv", "pads", numbers)
    yield (
        "conv-wide-strides",
        edited(
            lambda m: find(m, "Conv").attribute.extend(
                [helper.make_attribute("pads", [2**20] * 4), helper.make_attribute("strides", [2**20] * 2)]
            )
        ),
    )
    yield (
        "conv-wide-kernel",
        edited(
            lambda m: find(m, "Conv").attribute.extend(
                [
                    helper.make_attribute("pads", [2**20, 2**20, 2**20 - 4, 2**20 - 4]),
                    helper.make_attribute("dilations", [2**20] * 2),
                ]
            )
        ),
    )
    for group in (0, -1, 2, 3, 2**31, HUGE):
        yield f"conv-group-{group}", attribute("Conv", "group", group)
    yield "conv-kernel-shape", attribute("Conv", "kernel_shape", [5, 5])
    yield "conv-kernel-zero", attribute("Conv", "kernel_shape", [0, 0])
    yield "conv-auto-pad", attribute("Conv", "auto_pad", "SAME")
    for name, numbers in (
        ("kernel_shape", [0, 0]),
        ("kernel_shape", [-2, -2]),
        ("kernel_shape", [2**31, 2**31]),
        ("kernel_shape", [HUGE, 1]),
        ("strides", [0, 0]),
        ("strides", [-1, 1]),
        ("strides", [2**63 - 1] * 2),
        ("dilations", [0, 0]),
        ("dilations", [HUGE] * 2),
        ("pads", [-1] * 4),
        ("pads", [HUGE] * 4),
        ("pads", [9] * 4),
    ):
        for op in ("MaxPool", "AveragePool"):
            given = {"kernel_shape": [2, 2], name: numbers}
            yield f"{op}-{name}-{numbers}", node(op, opset=19, **given)
    yield "pool-same-stride-0", node("MaxPool", kernel_shape=[2, 2], strides=[0, 0], auto_pad="SAME_UPPER")
    yield "pool-ceil", node("MaxPool", kernel_shape=[2, 2], ceil_mode=HUGE, pads=[1, 1, 1, 1], strides=[7, 7])
    for axis in (4, -5, 0, HUGE, -HUGE):
        yield f"concat-axis-{axis}", made(lambda m, v, a=axis: m.node("Concat", v, v, axis=a, name="culprit"))
        yield f"softmax-axis-{axis}", node("Softmax", axis=axis)
        yield f"mean-axis-{axis}", node("ReduceMean", axes=[axis])
    yield "mean-axes-twice", node("ReduceMean", axes=[2, 2])
    yield "transpose-twice", node("Transpose", perm=[0, 1, 1, 2])
    yield "transpose-outside", node("Transpose", perm=[0, 1, 2, 9])
    yield "reshape-negative", node("Reshape", np.int64([1, 4, -6, -6]))
    yield "reshape-two-open", node("Reshape", np.int64([1, -1, -1, 6]))
    yield "reshape-huge", node("Reshape", np.int64([1, HUGE, HUGE, 4]))
    yield (
        "split-zero",
        made(lambda m, v: m.node("Split", v, axis=1, num_outputs=0, outputs=1, name="culprit"), 18),
    )
    yield (
        "split-many",
        made(lambda m, v: m.node("Split", v, axis=1, num_outputs=2**31, outputs=2, name="culprit"), 18),
    )
    yield "slice-step-0", node("Slice", np.int64([0]), np.int64([4]), np.int64([1]), np.int64([0]))
    yield "slice-step-negative", node("Slice", np.int64([4]), np.int64([0]), np.int64([1]), np.int64([-1]))
    yield "slice-nothing", node("Slice", np.int64([4]), np.int64([2]), np.int64([2]))
    yield "slice-unequal", node("Slice", np.int64([0, 0]), np.int64([4]), np.int64([1]))
    yield "gemm-alpha-nan", attribute("Gemm", "alpha", float("nan"))
    yield "gemm-alpha-inf", attribute("Gemm", "alpha", float("inf"))
    yield "gemm-trans-2", attribute("Gemm", "transA", 1)
    yield "cast-999", node("Cast", to=999)
    yield "cast-string", node("Cast", to=TensorProto.STRING)
    yield "clip-nan", node("Clip", np.float32(np.nan), np.float32(1))
    yield "clip-shape", node("Clip", np.zeros((2, 2), np.float32), np.float32(1))
    yield "leaky-nan", node("LeakyRelu", alpha=float("nan"))
    yield "hard-sigmoid-nan", node("HardSigmoid", alpha=float("nan"))
    yield "elu-inf", node("Elu", alpha=float("inf"))
    yield "pad-nan", node("Pad", np.int64([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(np.nan))
    yield "dropout-training", node("Dropout", np.float32(0.5), np.array(True))

    # Numbers.
    for number in (np.nan, np.inf, -np.inf):
        yield f"weight-{number}", weights(number)
    yield "weight-1e38", weights(3e38)
    yield (
        "weight-nan-in-head",
        weights(
            float("nan"),
            "w3" if any(t.name == "w3" for t in good.graph.initializer) else good.graph.initializer[1].name,
            1,
        ),
    )
    yield "weight-nan-hidden", made(lambda m, v: m.node("Mul", v, m.node("Sqrt", np.float32([-1]))))
    yield (
        "weight-inf-hidden",
        made(lambda m, v: m.node("Mul", v, m.node("Div", np.float32([1]), np.float32([0])))),
    )

    def norm(variance: list[float], epsilon: float = 1e-5) -> onnx.ModelProto:
        return node("BatchNormalization", c4, c4, c4, np.float32(variance), epsilon=epsilon)

    yield "norm-negative", norm([1, 1, -0.5, 1])
    yield "norm-zero", norm([1, 1, 0, 1], 0.0)
    yield "norm-epsilon-negative", norm([1, 1, 1, 1], -2.0)
    yield "norm-epsilon-cancels", norm([1, 1, 1, 1], -1.0)
    yield "norm-epsilon-nan", norm([1, 1, 1, 1], float("nan"))
    yield "norm-epsilon-inf", norm([1, 1, 1, 1], float("inf"))
    yield "norm-too-few", node("BatchNormalization", c4[:3], c4[:3], c4[:3], c4[:3])
    yield "div-zero", node("Div", np.float32(0))
    yield "no-classes", made_head(0)

    # Metadata.
    for name, text in (
        ("unknown", "exec"),
        ("empty-steps", ",,,"),
        ("none-and", "none,resize"),
        ("long", "x" * 10**6),
        ("repeated", ",".join(["equalize-value"] * 10**5)),
        ("path", "../../etc/passwd"),
        ("control", "resize\n\x1b[31m"),
    ):
        yield f"recipe-{name}", metadata("corgi.preprocess", text)
    for name, text in (
        ("text", "a, b, c"),
        ("two", '["a", "b"]'),
        ("object", '{"0": "a"}'),
        ("number", "3"),
        ("null", "null"),
        ("deep", "[" * 10**5),
        ("integer", "[" + "1" * 10**5 + ", 2, 3]"),
        ("surrogate", '["\\ud800", "b", "c"]'),
        ("nested", "[[1], {}, null]"),
        ("numbers", "[1, 2, 3]"),
    ):
        yield f"names-{name}", metadata("corgi.class_names", text)

    # Files cut short.
    for source in SOURCES:
        content = source.read_bytes()
        for share in (0.001, 0.03, 0.3, 0.6, 0.9, 0.99):
            yield f"cut-{source.stem}-{share}", content[: int(share * len(content))]


HERE = Path(__file__).parent
EXPORTED = HERE.parent / "network" / "exporters" / "files"
SOURCES = (
    HERE.parents[1] / "models" / "gtsrb.onnx",
    EXPORTED / "dynamo-gap_linear-residual.onnx",
    EXPORTED / "ts17-gap_nobias-ceil_pools.onnx",
    EXPORTED / "tf2onnx17-gap_linear-residual.onnx",
)
"""Files of real exporters."""


def deep_messages(depth: int) -> bytes:
    """Graphs within graphs: field 7 (graph), then node.attribute.g over and over."""
    content = b""
    for tag in (*(0x32, 0x2A, 0x0A) * depth, 0x3A):
        size = len(content)
        length = b""
        while True:
            length += bytes([size & 127 | (128 if size > 127 else 0)])
            size >>= 7
            if not size:
                break
        content = bytes([tag]) + length + content
    return content


def wide_chain(count: int) -> onnx.ModelProto:
    """Many values, each small enough: 2 million numbers, 3000 times."""
    rng = np.random.default_rng(5)
    m = OnnxModel((3, 800, 800))
    value = m.node("Conv", IMAGE, float32(rng, 3, 3, 1, 1))
    for _ in range(count):
        value = m.node("Relu", value)
    return m.proto(m.head(value, float32(rng, 3, 3)))


def hidden_pad(m: OnnxModel, v: str, exponent: int = 30) -> str:
    """Padding whose amount only folding finds."""
    amount = m.node("Cast", m.node("Pow", np.float64([2]), np.float64([exponent])), to=TensorProto.INT64)
    zero = np.int64([0])
    return m.node(
        "Pad", v, m.node("Concat", zero, zero, amount, amount, zero, zero, zero, zero, axis=0), name="culprit"
    )


def constant_bomb(m: OnnxModel, v: str, exponent: int) -> str:
    """A value the machine could hold."""
    size = m.node("Cast", m.node("Pow", np.float64([2]), np.float64([exponent])), to=TensorProto.INT64)
    return m.node("Mul", v, m.node("ReduceMean", m.node("ConstantOfShape", size), keepdims=0))


def made_head(classes: int) -> onnx.ModelProto:
    m = OnnxModel((3, 8, 8))
    value = m.node("Relu", m.node("Conv", IMAGE, np.ones((4, 3, 3, 3), np.float32)))
    return m.proto(m.head(value, np.ones((classes, 4))))
