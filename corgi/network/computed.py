"""Which constants a file computes are not real numbers: those that onnxruntime rounded (docs/decisions/0003).

A constant that nodes make of others is exact where every operation on the way is: numbers are moved, compared
or chosen, integers are computed with, or a sum, product, quotient or root is a float32 number itself, which
error-free transformations show. All others are weights as onnxruntime computes them, and are named.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from corgi.network.expansion import two_product, two_sum

Value = NDArray[np.generic]

_CHOOSING = frozenset((
    "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile", "Pad", "Cast",
    "Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "ScatterND", "OneHot", "Trilu",
    "Abs", "Neg", "Sign", "Relu", "Clip", "Max", "Min", "Where", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "And", "Or", "Not", "Shape", "Size", "ConstantOfShape", "Constant",
))  # fmt: skip
"""Operators that compute nothing, or whose result is one of their operands up to its sign."""

_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal"))


def rounded_constants(proto: onnx.ModelProto, constants: Mapping[str, Value]) -> tuple[str, ...]:
    """Names of those floating-point constants of a graph that nodes compute and that may have been rounded.

    Args:
        proto: the model.
        constants: by name: its weights, and values of its nodes that do not depend on the image.
    """
    made = {output for node in proto.graph.node if node.op_type != "Constant" for output in node.output}
    asked = [name for name, value in constants.items() if name in made and value.dtype.kind == "f"]
    needed, nodes = set(asked), list[onnx.NodeProto]()
    for node in reversed(proto.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    known: dict[str, Value | None] = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    for node in nodes:
        known |= dict(zip(node.output, _made(node, known, proto), strict=False))
    return tuple(name for name in asked if not _equal(known.get(name), constants[name]))


def _equal(found: Value | None, expected: Value) -> bool:
    return found is not None and found.dtype == expected.dtype and np.array_equal(found, expected)


def _made(
    node: onnx.NodeProto, known: Mapping[str, Value | None], proto: onnx.ModelProto
) -> tuple[Value | None, ...]:
    """What a node makes of exact values; None is what is not known to be exact."""
    nothing = (None,) * len(node.output)
    values = {name: v for name in node.input if (v := known.get(name)) is not None}
    operands = [values[name] for name in node.input if name in values]
    if len(operands) < sum(map(bool, node.input)):
        return nothing
    if node.op_type in _ARITHMETIC and any(v.dtype.kind == "f" for v in operands):
        return (_arithmetic(node.op_type, operands),)
    if not (node.op_type in _CHOOSING or all(v.dtype.kind in "iub" for v in operands)):
        return nothing
    graph = onnx.GraphProto(name="one", node=[node])
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in values)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    model = onnx.ModelProto(graph=graph, opset_import=proto.opset_import, ir_version=8)
    try:
        made = [np.asarray(v) for v in ReferenceEvaluator(model).run(None, values)]
    except Exception:  # the evaluator raises many types, and says nothing then
        return nothing
    if node.op_type == "Cast":
        kept = np.array_equal(made[0].astype(np.float64), operands[0].astype(np.float64))
        return tuple(made) if kept else nothing
    if node.op_type not in _CHOOSING and any(v.dtype.kind == "f" for v in made):
        return nothing
    return tuple(made)


def _arithmetic(op: str, operands: list[Value]) -> Value | None:
    """The real result, if it is a number of the operands' type."""
    kind = operands[0].dtype
    a, *others = (torch.from_numpy(np.array(v, np.float64)) for v in operands)
    b = others[0] if others else a
    match op:
        case "Add" | "Sub":
            value, lost = two_sum(a, b if op == "Add" else -b)
        case "Mul":
            value, lost = two_product(a, b)
        case "Div":
            value = a / b
            lost = _off(two_product(value, b), a)
        case "Sqrt":
            value = a.sqrt()
            lost = _off(two_product(value, value), a)
        case _:
            value = 1 / a
            lost = _off(two_product(value, a), torch.ones_like(a))
    made = value.numpy().astype(kind)
    exact = not bool(lost.any()) and bool(torch.isfinite(value).all())
    return made if exact and np.array_equal(made.astype(np.float64), value.numpy()) else None


def _off(product: tuple[Tensor, ...], expected: Tensor) -> Tensor:
    return (product[0] - expected) + product[1]
