"""Operators of onnxruntime's optimiser (domain com.microsoft), written out in standard ones.

FusedConv    activation(Conv(x, W, b) + z); the last operand may be left out;
Gelu         the standard operator of that name;
QuickGelu    x * sigmoid(alpha x).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from corgi.errors import UnsupportedOperator
from corgi.network.node import Attribute, Node

VENDOR_OPERATORS = {("com.microsoft", op) for op in ("FusedConv", "Gelu", "QuickGelu")}

_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}
"""Names of the numbers in `activation_params`."""


def expanded(node: Node, domain: str) -> tuple[tuple[Node, ...], dict[str, np.ndarray]]:
    """A node as standard nodes and their constants; a standard node stays.

    Raises:
        UnsupportedOperator: an activation without a standard node.
    """
    match (domain, node.op):
        case ("com.microsoft", "FusedConv"):
            return _fused_conv(node)
        case ("com.microsoft", "QuickGelu"):
            return _quick_gelu(node)
    return (node,), {}


def _fused_conv(node: Node) -> tuple[tuple[Node, ...], dict[str, np.ndarray]]:
    given = dict(node.attributes)
    kind, numbers = given.pop("activation", ""), given.pop("activation_params", [])
    (output, *_), constants = node.outputs, {}
    conv = Node("Conv", node.name, node.inputs[:3], (f"{output}:conv",), given)
    parts = [conv]
    if len(node.inputs) > 3 and node.inputs[3]:
        parts.append(Node("Add", node.name, (*parts[-1].outputs, node.inputs[3]), (f"{output}:add",), {}))
    values = [float(v) for v in numbers] if isinstance(numbers, list) else []
    source = parts[-1].outputs
    if kind == "Clip" and len(values) == 2:
        for name, value in zip(("low", "high"), values, strict=True):
            constants[f"{output}:{name}"] = np.float32(value)
        parts.append(Node("Clip", node.name, (*source, *constants), (output,), {}))
    elif isinstance(kind, str) and len(values) == len(_ACTIVATIONS.get(kind, (None,) * 9)):
        attributes: dict[str, Attribute] = dict(zip(_ACTIVATIONS[kind], values, strict=True))
        parts.append(Node(kind, node.name, source, (output,), attributes))
    else:
        raise UnsupportedOperator(
            f"{node}: activation {kind}{values} is not supported",
            hint=f"Supported: {', '.join((*_ACTIVATIONS, 'Clip'))}.",
        )
    return tuple(parts), {name: np.asarray(value) for name, value in constants.items()}


def _quick_gelu(node: Node) -> tuple[tuple[Node, ...], dict[str, np.ndarray]]:
    alpha = node.attributes.get("alpha", 1.702)
    (source,), (output, *_) = node.inputs, node.outputs
    constants = {f"{output}:alpha": np.asarray(alpha, np.float32)}
    return (
        Node("Mul", node.name, (source, *constants), (f"{output}:scaled",), {}),
        Node("Sigmoid", node.name, (f"{output}:scaled",), (f"{output}:gate",), {}),
        Node("Mul", node.name, (source, f"{output}:gate"), (output,), {}),
    ), constants
