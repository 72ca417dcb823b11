"""Rewrite a model file so that it takes what corgi gives it and returns one value; the function stays.

Steps, each noted in plain words where it changed anything:
  1. functions of the file (the dynamo exporter writes them) are inlined;
  2. float16 and bfloat16 tensors become float32, exactly: the file is then compared with, and certified as,
     that model, not as float16 arithmetic would run it; an input of bytes that are cast before anything is
     computed becomes one of real numbers, and a pixel 255 times itself (unless a scale is given);
  3. one of several outputs is chosen;
  4. symbolic height and width become the size asked for, a symbolic batch becomes 1;
  5. an input [N, H, W, C] gets a Transpose in front of it, an input on another pixel scale its normalisation;
  6. where that is asked for, an input of any other rank is taken as [N, 1, 1, n], with a Reshape behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, inliner, numpy_helper

from corgi.errors import ModelError, UsageError
from corgi.network.canonical import all_nodes, shown
from corgi.terms import ColourOrder

_CHANNELS = (1, 3)
"""What a dimension of the input must be to be taken for its channels, where that is in doubt."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)

_FULL = {TensorProto.FLOAT16: TensorProto.FLOAT, TensorProto.BFLOAT16: TensorProto.FLOAT}

_MOVING = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Flatten")
"""Operators that hand bytes on as they are."""

_MOST_BYTE = 255.0


TAKEN_AS_FLOAT32 = "is taken as float32"
"""What a note says of a file whose arithmetic is another one."""


@dataclass(frozen=True)
class Normalisation:
    """What a network expects instead of pixels in [0, 1]: (scale * pixel - mean) / std, channel by channel.

    Attributes:
        mean, std: one number, or one a channel, in units of the scaled pixel; std > 0.
        scale: 1 for pixels in [0, 1], 255 for pixels in [0, 255].
        colour_order: of the network, and so of mean and std; images are RGB all the same.

    Raises:
        UsageError: a number is not finite in float32, or a scale or deviation is not > 0.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    colour_order: ColourOrder = ColourOrder.RGB

    def __post_init__(self) -> None:
        for name, values, least in (
            ("mean", self.mean, -math.inf),
            ("std", self.std, 0.0),
            ("scale", (self.scale,), 0.0),
        ):
            for value in values:
                with np.errstate(over="ignore", under="ignore"):
                    held = np.float32(value)
                if not (np.isfinite(held) and held > least):
                    above = "" if least == -math.inf else " > 0"
                    raise UsageError(f"--{name} {value:g}: expected finite numbers{above}")

    @property
    def is_identity(self) -> bool:
        """Whether pixels in [0, 1] are what the network expects."""
        plain = set(self.mean) == {0.0} and set(self.std) == {1.0} and self.scale == 1.0
        return plain and self.colour_order is ColourOrder.RGB

    def __str__(self) -> str:
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        order = "" if self.colour_order is ColourOrder.RGB else ", channels in the order blue, green, red"
        return f"({self.scale:g} * pixel - [{mean}]) / [{std}]{order}"


@dataclass(frozen=True)
class Wrapped:
    """A rewritten model.

    Attributes:
        proto: takes `input_name` [1, C, H, W] with pixels in [0, 1], returns `output_name`.
        input_shape: [C, H, W].
        notes: what was changed, in plain words.
        channels_last: whether the file's input is [N, H, W, C].
        bare: the value that stands for an input without a batch axis; empty if the file's has one.
    """

    proto: onnx.ModelProto
    input_name: str
    input_shape: tuple[int, int, int]
    output_name: str
    notes: tuple[str, ...]
    channels_last: bool
    bare: str


def wrap(
    original: onnx.ModelProto,
    *,
    output: str | None,
    size: tuple[int, int] | None,
    normalisation: Normalisation,
    any_rank: bool = False,
) -> Wrapped:
    """Rewrite a checked model.

    Args:
        original: what it holds, external data loaded; it is not changed.
        output: name of the output that holds the class scores; None if there is only one.
        size: height and width where the file leaves them open.
        normalisation: what the network expects instead of pixels in [0, 1].
        any_rank: serve inputs that are no images, too.

    Raises:
        ModelError: an input or output corgi cannot serve; the message says what was expected.
    """
    notes: list[str] = []
    proto = onnx.ModelProto()
    proto.CopyFrom(inliner.inline_local_functions(original) if original.functions else original)
    if _upcast(proto):
        notes.append(f"float16 {TAKEN_AS_FLOAT32}: bounds, onnxruntime and witnesses are of that model")
    output_name = _choose_output(proto, output)
    if not any_rank and _takes_bytes(proto):
        if normalisation.scale == 1.0:
            normalisation = replace(normalisation, scale=_MOST_BYTE)
        notes.append(
            f"its input of bytes {TAKEN_AS_FLOAT32}, not rounded to bytes: bounds, onnxruntime and"
            " witnesses are of that model"
        )
    nodes, bare = _spread_input(proto) if any_rank else ([], False)
    given = nodes[-1].output[0] if bare else ""
    name, shape, channels_last = _fix_input(proto, size)
    value = nodes[-1].output[0] if nodes else name
    if not normalisation.is_identity:
        nodes += _normalising(normalisation, shape[0], name)
        value = nodes[-1].output[0]
        notes.append(f"the network is given {normalisation}, pixels in [0, 1]")
    if channels_last:
        nodes.append(helper.make_node("Transpose", [value], [f"{name}:nhwc"], perm=[0, 2, 3, 1]))
        notes.append("the input is [N, H, W, C]; images are [C, H, W] all the same")
    if nodes:
        _put_in_front(proto, name, nodes)
    return Wrapped(proto, name, shape, output_name, tuple(notes), channels_last, given)


def _put_in_front(proto: onnx.ModelProto, name: str, nodes: list[onnx.NodeProto]) -> None:
    """Let all that read a value read what nodes make of it in the end."""
    for node in all_nodes(proto.graph.node):
        node.input[:] = [nodes[-1].output[0] if read == name else read for read in node.input]
    for node in reversed(nodes):
        node.name = node.output[0]
        proto.graph.node.insert(0, node)


def _upcast(proto: onnx.ModelProto) -> bool:
    """Make every float16 tensor, value and Cast of a model float32; whether there was one.

    Raises:
        ModelError: values are cast to float16 where there is no float16 tensor: they are meant to be rounded.
    """
    found = False
    for tensor in external_data_helper._get_all_tensors(proto):
        if tensor.data_type in _FULL:
            found = True
            full = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
            tensor.CopyFrom(full)
    for value in (*proto.graph.input, *proto.graph.output):
        kind = value.type.tensor_type
        if kind.elem_type in _FULL:
            found, kind.elem_type = True, _FULL[kind.elem_type]
    for node in all_nodes(proto.graph.node):
        for attribute in node.attribute:
            if (node.op_type, attribute.name) == ("Cast", "to") and attribute.i in _FULL:
                if not found:
                    raise ModelError(
                        f"{shown(node)} rounds to float16, no weight is float16",
                        hint="Export it without automatic mixed precision.",
                    )
                attribute.i = _FULL[attribute.i]
    return found


def _takes_bytes(proto: onnx.ModelProto) -> bool:
    """Make an input of bytes one of float32; whether there was one.

    Raises:
        ModelError: something is computed with the bytes, which may wrap around.
    """
    if len(proto.graph.input) != 1 or proto.graph.input[0].type.tensor_type.elem_type != TensorProto.UINT8:
        return False
    given = proto.graph.input[0]
    bytes_ = {given.name}
    for node in proto.graph.node:  # in order
        read = bytes_.intersection(name for part in all_nodes([node]) for name in part.input)
        real = node.op_type == "Cast" and _attribute(node, "to") in _FLOATS
        if not read or real or node.op_type in ("Shape", "Size"):
            continue
        if node.op_type not in _MOVING or bytes_.intersection(node.input[1:]):
            raise ModelError(
                f"input '{given.name}' has type UINT8, and {shown(node)}"
                " computes with the bytes; expected a Cast to float32 before",
                hint="Export the network with a float32 input.",
            )
        bytes_.update(node.output)
    given.type.tensor_type.elem_type = TensorProto.FLOAT
    return True


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _choose_output(proto: onnx.ModelProto, output: str | None) -> str:
    names: list[str] = [o.name for o in proto.graph.output]
    if output is not None:
        if output not in names:
            raise ModelError(f"no output '{output}'; it has {', '.join(names) or 'none'}")
        kept = next(o for o in proto.graph.output if o.name == output)
        del proto.graph.output[:]
        proto.graph.output.append(kept)
        return output
    # Numbers of classes (of an ArgMax) and the like are no class scores.
    scores = [o for o in proto.graph.output if o.type.tensor_type.elem_type in _FLOATS]
    if len(scores) == 1 and len(names) > 1:
        return _choose_output(proto, scores[0].name)
    if len(names) != 1:
        raise ModelError(
            f"expected one output (the class scores), found {len(names)}: {', '.join(names)}",
            hint="Choose one with --output NAME.",
        )
    return names[0]


def _fix_input(
    proto: onnx.ModelProto, size: tuple[int, int] | None
) -> tuple[str, tuple[int, int, int], bool]:
    """Name, [C, H, W] and whether channels come last; then the input is [1, C, H, W] with fixed sizes."""
    inputs = list(proto.graph.input)
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise ModelError(f"expected one image input, found {len(inputs)} ({names})")
    name, kind = inputs[0].name, inputs[0].type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        known = kind.elem_type in TensorProto.DataType.values()
        found = TensorProto.DataType.Name(kind.elem_type) if known else kind.elem_type
        raise ModelError(
            f"input '{name}' has type {found}, expected FLOAT (float32)",
            hint="Export the network with a float32 input.",
        )
    dims = list(kind.shape.dim)
    shown = ", ".join(str(d.dim_value or d.dim_param or "?") for d in dims)
    sizes = [d.dim_value if d.dim_value > 0 else 0 for d in dims]
    if len(dims) != 4:
        raise ModelError(f"input '{name}' has shape [{shown}], expected [N, C, H, W] or [N, H, W, C]")
    if any(d.HasField("dim_value") and d.dim_value <= 0 for d in dims[1:]):
        raise ModelError(f"input '{name}' has shape [{shown}], expected sizes > 0")
    if sizes[0] > 1:
        raise ModelError(
            f"input '{name}' has the fixed batch size {sizes[0]}, expected 1 or a symbol",
            hint="Export with batch size 1 or a dynamic batch axis.",
        )
    channels_last = sizes[3] in _CHANNELS and sizes[1] not in _CHANNELS
    channels, *spatial = (sizes[3], *sizes[1:3]) if channels_last else sizes[1:]
    if channels == 0:
        raise ModelError(
            f"input '{name}' has shape [{shown}], expected a fixed number of channels",
            hint="Export with a fixed number of channels.",
        )
    if 0 in spatial and size is None:
        raise ModelError(
            f"input '{name}' has shape [{shown}] with an open height or width",
            hint="Give the size to verify at, as --size 224x224, or export with a fixed image size.",
        )
    if size is not None and any(have not in (0, want) for have, want in zip(spatial, size, strict=True)):
        raise ModelError(
            f"input '{name}' has the fixed size {spatial[0]}x{spatial[1]},"
            f" --size asks for {size[0]}x{size[1]}",
            hint="Leave --size away.",
        )
    height, width = size or (spatial[0], spatial[1])
    del kind.shape.dim[:]
    for value in (1, channels, height, width):
        kind.shape.dim.add().dim_value = value
    return name, (channels, height, width), channels_last


def _spread_input(proto: onnx.ModelProto) -> tuple[list[onnx.NodeProto], bool]:
    """Make an input of another rank than 4 one [N, 1, 1, n]; the nodes that undo it.

    Returns also whether the input has no batch axis: [n], or a column [n, 1].
    """
    inputs = list(proto.graph.input)
    dims = list(inputs[0].type.tensor_type.shape.dim) if len(inputs) == 1 else []
    sizes = [d.dim_value for d in dims]
    bare = len(sizes) == 1 or (len(sizes) == 2 and sizes[0] > 1 and sizes[1] == 1)
    inner = sizes if bare else sizes[1:]
    if not sizes or len(sizes) == 4 or min(inner) <= 0:
        return [], False
    name = inputs[0].name
    shape = inputs[0].type.tensor_type.shape
    del shape.dim[0 if bare else 1 :]
    for size in (1,) * (4 - len(shape.dim) - 1) + (math.prod(inner),):
        shape.dim.add().dim_value = size
    given = inner if bare else [1, *inner]
    target = numpy_helper.from_array(np.array(given, np.int64), f"{name}:shape")
    return [
        helper.make_node("Constant", [], [target.name], value=target),
        helper.make_node("Reshape", [name, target.name], [f"{name}:given"]),
    ], bare


def _normalising(given: Normalisation, channels: int, name: str) -> list[onnx.NodeProto]:
    """Nodes for (scale * pixel - mean) / std on [N, C, H, W], the channels in the network's order."""
    nodes, value = [], name
    if given.colour_order is ColourOrder.BGR:
        if channels != 3:
            raise ModelError(f"--colour-order bgr: the input '{name}' has {channels} channels, expected 3")
        order = numpy_helper.from_array(np.array([2, 1, 0]), f"{name}:order")
        nodes.append(helper.make_node("Constant", [], [order.name], value=order))
        nodes.append(helper.make_node("Gather", [name, order.name], [f"{name}:bgr"], axis=1))
        value = f"{name}:bgr"
    for op, what, numbers in (
        ("Mul", "scale", (given.scale,)),
        ("Sub", "mean", given.mean),
        ("Div", "std", given.std),
    ):
        if len(numbers) not in (1, channels):
            raise ModelError(
                f"--{what} has {len(numbers)} numbers, the input '{name}' has {channels} channels"
            )
        if set(numbers) == {0.0 if op == "Sub" else 1.0}:
            continue
        constant = np.array(numbers, np.float32).reshape(1, -1, 1, 1)
        tensor = numpy_helper.from_array(constant, f"{name}:{what}")
        nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        nodes.append(helper.make_node(op, [value, tensor.name], [f"{name}:{op.lower()}"]))
        value = f"{name}:{op.lower()}"
    return nodes
