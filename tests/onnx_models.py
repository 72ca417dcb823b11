"""Small ONNX models for tests: a builder with a CAM head, and a generator of varied CAM networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Operand = str | NDArray[Any] | None
IMAGE = "image"
_file_numbers = itertools.count()


@dataclass
class OnnxModel:
    """A model under construction.

    `node` takes value names, arrays (which become initializers) or None (an operand left out) and returns the
    name of the output. Names ending in an operator take the form that operator has in `opset`.
    """

    shape: tuple[int, ...] = (2, 8, 8)
    opset: int = 17
    batch: int | str = 1
    rank: int = 2  # of the outputs
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    def weight(self, array: NDArray[Any], name: str | None = None) -> str:
        """Add an initializer."""
        name = name or f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def node(
        self,
        op: str,
        *operands: Operand,
        outputs: int = 1,
        domain: str = "",
        name: str | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node; returns the name of its first output."""
        names = [
            "" if o is None else o if isinstance(o, str) else self.weight(np.asarray(o)) for o in operands
        ]
        name = name or f"{op.lower()}{len(self.nodes)}"
        values = [name + "_out"] + [f"{name}_out{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(op, names, values, name=name, domain=domain, **attributes))
        return values[0]

    def chain(
        self, steps: Sequence[tuple[str, Sequence[Operand], dict[str, Any]]], value: str = IMAGE
    ) -> str:
        """Nodes one after the other: (operator, further operands, attributes); returns the last value."""
        for op, operands, attributes in steps:
            value = self.node(op, value, *operands, **attributes)
        return value

    def clip(self, value: str, low: float | None, high: float | None) -> str:
        """Clip: attributes before opset 11, operands after."""
        if self.opset < 11:
            given = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
            return self.node("Clip", value, **given)
        return self.node("Clip", value, *(None if v is None else np.float32(v) for v in (low, high)))

    def pad(
        self, value: str, pads: Sequence[int], constant: float | None = None, mode: str = "constant"
    ) -> str:
        """Pad by (top, left, bottom, right): attributes before opset 11, operands after."""
        top, left, bottom, right = pads
        amounts = [0, 0, top, left, 0, 0, bottom, right]
        if self.opset < 11:
            given = {} if constant is None else {"value": constant}
            return self.node("Pad", value, pads=amounts, mode=mode, **given)
        operand = () if constant is None else (np.float32(constant),)
        return self.node("Pad", value, np.array(amounts), *operand, mode=mode)

    def reduce_mean(self, value: str, axes: Sequence[int], keepdims: int = 1) -> str:
        """ReduceMean: the axes are an attribute before opset 18, an operand after."""
        if self.opset < 18:
            return self.node("ReduceMean", value, axes=list(axes), keepdims=keepdims)
        return self.node("ReduceMean", value, np.array(axes), keepdims=keepdims)

    def reduce_sum(self, value: str, axes: Sequence[int]) -> str:
        """ReduceSum that drops its axes: an attribute before opset 13, an operand after."""
        if self.opset < 13:
            return self.node("ReduceSum", value, axes=list(axes), keepdims=0)
        return self.node("ReduceSum", value, np.array(axes), keepdims=0)

    def slice(self, value: str, start: int, stop: int, axis: int, step: int = 1) -> str:
        """Slice: attributes before opset 10, operands after (steps exist since then)."""
        if self.opset < 10:
            return self.node("Slice", value, starts=[start], ends=[stop], axes=[axis])
        operands = [np.array([number]) for number in (start, stop, axis, step)]
        return self.node("Slice", value, *operands)

    def split(self, value: str, sizes: Sequence[int], axis: int = 1) -> list[str]:
        """Split: sizes are an attribute before opset 13, an operand after."""
        given = {"split": list(sizes)} if self.opset < 13 else {}
        operands = () if self.opset < 13 else (np.array(sizes),)
        first = self.node("Split", value, *operands, outputs=len(sizes), axis=axis, **given)
        return [first, *(f"{first}{i}" for i in range(1, len(sizes)))]

    def squeeze(self, value: str, axes: Sequence[int], op: str = "Squeeze") -> str:
        """Squeeze or Unsqueeze: the axes are an attribute before opset 13, an operand after."""
        if self.opset < 13:
            return self.node(op, value, axes=list(axes))
        return self.node(op, value, np.array(axes))

    def dropout(self, value: str) -> str:
        """Dropout at inference: the ratio is an attribute before opset 12, an operand after."""
        if self.opset < 12:
            return self.node("Dropout", value, ratio=0.25)
        return self.node("Dropout", value, np.float32(0.25), np.array(False))

    def head(self, value: str, weight: NDArray[Any], bias: NDArray[Any] | None = None) -> str:
        """The CAM head GlobalAveragePool -> Flatten -> Gemm; weight is [classes, F]."""
        value = self.node("Flatten", self.node("GlobalAveragePool", value), axis=1)
        bias = np.zeros(len(weight)) if bias is None else bias
        return self.node("Gemm", value, np.float32(weight), np.float32(bias), transB=1)

    def proto(self, *outputs: str) -> onnx.ModelProto:
        """The model with the given outputs."""
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, [self.batch, *self.shape])],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, [None] * self.rank) for o in outputs],
            self.weights,
        )
        domains = {node.domain for node in self.nodes} - {""}
        imports = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid(d, 1) for d in domains]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        helper.set_model_props(model, self.metadata)
        return model

    def save(self, folder: Path, *outputs: str) -> Path:
        """Write the model with the given outputs to a new file of a folder."""
        path = folder / f"model{next(_file_numbers)}.onnx"
        path.write_bytes(self.proto(*outputs).SerializeToString())
        return path


def float32(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Normal numbers."""
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def run_onnxruntime(path: Path, images: NDArray[np.float32], *values: str) -> list[NDArray[np.float32]]:
    """Outputs of a file for images [N, C, H, W], one at a time: its own output, then the named values."""
    proto = onnx.load(path)
    for value in values:
        proto.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    runs = [session.run(None, {IMAGE: image[None]}) for image in images]
    return [np.concatenate(values) for values in zip(*runs, strict=True)]


def random_cam_network(rng: np.random.Generator, folder: Path, *, curved: bool = False) -> Path:
    """A small CAM network every engine must be able to bound.

    Image 1-3 x 8..12 x 8..12, map at least 3 x 3, 2-4 classes; convolutions (stride, asymmetric padding,
    dilation, groups), batch norm, all activations, overlapping and padded pools, residual Add and Sub,
    Concat, constants on either side, zero Pad, Identity; every form of the head. With `curved`, most
    activations are those that the patch engine alone bounds.
    """
    return _Generator(rng, curved).network(folder)


class _Generator:
    """A network under construction: `value` is the last one, of `channels` x `size`."""

    def __init__(self, rng: np.random.Generator, curved: bool) -> None:
        self.rng, self.curved = rng, curved
        self.channels = int(rng.integers(1, 4))
        self.size = (int(rng.integers(8, 13)), int(rng.integers(8, 13)))
        opset = int(rng.choice([9, 11, 13, 15, 17, 18, 20]))
        self.model = OnnxModel((self.channels, *self.size), opset, batch=str(rng.choice(["N", ""])) or 1)
        self.value = IMAGE
        self.relu_last = False

    def network(self, folder: Path) -> Path:
        self.conv_block()
        blocks = [
            self.conv_block,
            self.conv_block,
            self.max_pool,
            self.max_pool,
            self.average_pool,
            self.residual,
            self.concat,
            self.constant,
            self.pad,
            self.identity,
            self.activation,
        ]
        for index in self.rng.integers(len(blocks), size=int(self.rng.integers(1, 6))):
            blocks[index]()
        return self.head(folder)

    def maybe(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def ints(self, low: int, high: int, count: int = 2) -> list[int]:
        """`count` integers in [low, high]."""
        return [int(v) for v in self.rng.integers(low, high + 1, count)]

    def set(self, value: str, size: tuple[int, int] | None = None, channels: int | None = None) -> None:
        self.value, self.relu_last = value, False
        self.size, self.channels = size or self.size, channels or self.channels

    def windows(self, kernel: list[int], stride: list[int], pads: list[int], dilation: list[int]) -> Any:
        """The output size, or None if the map would become smaller than 3 x 3."""
        size = tuple(
            (n + pads[i] + pads[i + 2] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
            for i, n in enumerate(self.size)
        )
        return size if min(size) >= 3 else None

    def conv(self, value: str, out: int, kernel: list[int], **attributes: Any) -> str:
        groups = attributes.get("group", 1)
        fan_in = self.channels // groups * kernel[0] * kernel[1]
        weight = float32(self.rng, out, self.channels // groups, *kernel, scale=fan_in**-0.5 * 1.4)
        bias = [float32(self.rng, out, scale=0.2)] if self.maybe(0.8) else []
        return self.model.node("Conv", value, weight, *bias, **attributes)

    def conv_block(self) -> None:
        kernel, stride, dilation = self.ints(1, 3), [1, 1], [1, 1]
        if self.maybe(0.3):
            stride = self.ints(1, 2)
        if self.maybe(0.25):
            dilation = self.ints(1, 2)
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pads = [int(self.rng.integers(0, r + 1)) for r in reach * 2]
        groups = self.channels if self.maybe(0.25) else 1
        out = groups * int(self.rng.integers(1, 3)) if groups > 1 else int(self.rng.integers(2, 6))
        size = self.windows(kernel, stride, pads, dilation)
        if size is None or out > 6:
            return
        settings = {"strides": stride, "pads": pads, "dilations": dilation, "group": groups}
        self.set(self.conv(self.value, out, kernel, **settings), size, out)
        if self.maybe(0.4):
            self.batch_norm()
        if self.maybe(0.8):
            self.activation()

    def batch_norm(self) -> None:
        c = self.channels
        self.set(
            self.model.node(
                "BatchNormalization",
                self.value,
                1 + float32(self.rng, c, scale=0.3),
                float32(self.rng, c, scale=0.2),
                float32(self.rng, c, scale=0.2),
                self.rng.uniform(0.5, 2, c).astype(np.float32),
                epsilon=float(self.rng.choice([1e-5, 1e-2])),
            )
        )

    def activation(self) -> None:
        if self.curved and self.maybe(0.8):
            self.curve()
            return
        kind = self.rng.choice(["Relu", "Relu", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip"])
        if kind == "Clip":
            low, high = self.rng.choice([-0.3, 0.0, 0.1]), self.rng.choice([0.6, 1.5])
            limits = [(float(low), float(high)), (None, float(high)), (float(low), None)]
            self.set(self.model.clip(self.value, *limits[self.rng.integers(3)]))
            return
        slope = {"alpha": float(self.rng.choice([0.01, 0.3]))} if kind == "LeakyRelu" else {}
        self.set(self.model.node(str(kind), self.value, **slope))
        self.relu_last = kind == "Relu"

    def curve(self) -> None:
        """As an operator, or as several nodes."""
        model, value = self.model, self.value
        kind = self.rng.choice(["silu", "gelu", "hard swish", "elu", "selu", "softplus", "prelu"])
        match kind:
            case "silu":
                beta = np.float32(self.rng.choice([-0.7, 1.0, 1.702, 8.0]))
                self.set(model.node("Mul", value, model.node("Sigmoid", model.node("Mul", value, beta))))
            case "gelu":
                error = model.node("Erf", model.node("Div", value, np.float32(2**0.5)))
                half = model.node("Mul", value, np.float32(0.5))
                self.set(model.node("Mul", half, model.node("Add", error, np.float32(1))))
            case "hard swish":
                gate = model.clip(model.node("Add", value, np.float32(3)), 0.0, 6.0)
                self.set(model.node("Div", model.node("Mul", value, gate), np.float32(6)))
            case "elu":
                self.set(model.node("Elu", value, alpha=float(self.rng.choice([0.2, 1.0]))))
            case "prelu":
                slope = self.rng.uniform(0, 1, (self.channels, 1, 1)).astype(np.float32)
                self.set(model.node("PRelu", value, slope))
            case _:
                self.set(model.node(str(kind).capitalize(), value))

    def max_pool(self) -> None:
        kernel, stride = [self.ints(2, 3, 1)[0]] * 2, self.ints(1, 2)
        if self.maybe(0.2):
            kernel = self.ints(1, 3)
        behind = not self.relu_last and self.maybe(0.5)
        padded = (self.relu_last or behind) and self.maybe(0.5)
        pads = [int(self.rng.integers(0, k)) for k in kernel * 2] if padded else [0] * 4
        size = self.windows(kernel, stride, pads, [1, 1])
        if size is None:
            return
        self.set(self.model.node("MaxPool", self.value, kernel_shape=kernel, strides=stride, pads=pads), size)
        if behind:
            self.set(self.model.node("Relu", self.value))
            self.relu_last = True

    def average_pool(self) -> None:
        kernel, stride = self.ints(1, 3), self.ints(1, 2)
        # Symmetric: corgi refuses the rest.
        pads = [int(self.rng.integers(0, k // 2 + 1)) for k in kernel] * 2 if self.maybe(0.4) else [0] * 4
        size = self.windows(kernel, stride, pads, [1, 1])
        if size is None:
            return
        settings = {"kernel_shape": kernel, "strides": stride, "pads": pads, "count_include_pad": 1}
        self.set(self.model.node("AveragePool", self.value, **settings), size)

    def branch(self) -> str:
        """A value of the present shape, computed from the present one."""
        value = self.conv(self.value, self.channels, [3, 3], pads=[1, 1, 1, 1])
        return self.model.node("Relu", value) if self.maybe(0.5) else value

    def residual(self) -> None:
        before = self.value
        operands = [before, self.branch()]
        if self.maybe(0.3):
            operands.reverse()
        self.set(self.model.node("Sub" if self.maybe(0.3) else "Add", *operands))
        if self.maybe(0.6):
            self.activation()

    def concat(self) -> None:
        if self.channels > 3:
            return
        before = self.value
        self.set(self.model.node("Concat", before, self.branch(), axis=1), channels=2 * self.channels)

    def constant(self) -> None:
        op = str(self.rng.choice(["Mul", "Add", "Sub", "Div"]))
        shapes = [(), (1,), (self.channels, 1, 1), (1, self.channels, 1, 1)]
        shape = shapes[self.rng.integers(4)]
        values = self.rng.uniform(0.3, 1.5, shape) * self.rng.choice([-1, 1], shape)
        operands: list[Operand] = [self.value, np.asarray(values, np.float32)]
        if op != "Div" and self.maybe(0.3):
            operands.reverse()
        self.set(self.model.node(op, *operands))

    def pad(self) -> None:
        """Pad, then a convolution: onnxruntime would move the zeros into a MaxPool, where they mean -inf."""
        if max(self.size) > 12:
            return
        pads = self.ints(0, 1, 4)
        size = (self.size[0] + pads[0] + pads[2], self.size[1] + pads[1] + pads[3])
        self.set(self.model.pad(self.value, pads), size)
        self.set(self.conv(self.value, self.channels, [3, 3], pads=[1, 1, 1, 1]))

    def identity(self) -> None:
        kept = self.relu_last
        self.set(self.model.dropout(self.value) if kept else self.model.node("Identity", self.value))

    def head(self, folder: Path) -> Path:
        classes, model = int(self.rng.integers(2, 5)), self.model
        weight = float32(self.rng, self.channels, classes)
        bias = float32(self.rng, classes, scale=0.2)
        form = self.rng.integers(8)
        if form == 0:
            value = model.head(self.value, weight.T, bias)
        elif form == 1:
            value = model.reduce_mean(self.value, [2, 3], keepdims=0)
            value = model.node("Add", model.node("MatMul", value, weight), bias)
        elif form == 2:
            value = model.node("AveragePool", self.value, kernel_shape=list(self.size))
            value = model.node("Reshape", value, np.array([-1, self.channels]))
            value = model.node("Gemm", value, weight, bias, alpha=0.5, beta=2.0)
        elif form == 3:
            value = model.squeeze(model.node("GlobalAveragePool", self.value), [2, 3])
            value = model.node("Gemm", model.dropout(value), weight, bias)
        elif form == 4:
            classifier = np.ascontiguousarray(weight.T)[:, :, None, None]
            value = model.node("GlobalAveragePool", model.node("Conv", self.value, classifier, bias))
            value = model.node("Flatten", value)
        elif form == 5:
            classifier = np.ascontiguousarray(weight.T)[:, :, None, None]
            value = model.node("Conv", model.node("GlobalAveragePool", self.value), classifier, bias)
            value = model.node("Flatten", value)
        elif form == 6:
            value = model.reduce_sum(self.value, [2, 3])
            value = model.node("Gemm", value, weight, bias)
        else:
            value = model.node("GlobalAveragePool", self.value)
            numbers = [float32(self.rng, self.channels, scale=0.5) for _ in range(3)]
            variance = self.rng.uniform(0.5, 2, self.channels).astype(np.float32)
            value = model.node("BatchNormalization", value, *numbers, variance)
            value = model.node("Gemm", model.node("Flatten", value), weight, bias)
        if self.maybe(0.3):
            value = model.node("Softmax", value, axis=1)
        return model.save(folder, value)
