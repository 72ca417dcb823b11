"""Operators written out in others: rules, engines and gates have fewer to know.

The operator stands on the left, what it is written out in on the right; values in between are named after
the node's output. Whatever is real arithmetic of the operator is that of what it is written out in.

  Max, Min, of a value and a number       Clip; without numbers  max(a, b) = b + relu(a - b),
                                          min(a, b) = b - relu(b - a), one operand after the other
  Mean of several values                  Sum, Div by their number
  Sum with a constant among three         Add, one after the other
  Div of a constant by a value            Reciprocal, Mul
  Abs                                     relu(x) + relu(-x)
  Softsign                                x / (1 + abs(x))
  Mish                                    x * tanh(softplus(x))
  Swish                                   x * sigmoid(alpha x)
  ReduceL1, ReduceL2, ReduceSumSquare     ReduceSum of Abs or of squares, Sqrt
  Conv, MaxPool, AveragePool along one    the same on [N, C, 1, L]
  axis, [N, C, L]
  Einsum of a value and a constant        Transpose, MatMul or Mul, Transpose
  Gather of one entry                     Gather of a list of one, Squeeze

Of onnxruntime's optimiser (domain com.microsoft):

  FusedConv                               activation(Conv(x, W, b) + z); z may be left out
  QuickGelu                               x * sigmoid(alpha x)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import numpy as np

from corgi.errors import UnsupportedOperator
from corgi.network.node import Attribute, Constants, Node, take_in

VENDOR_OPERATORS = {("com.microsoft", op) for op in ("FusedConv", "Gelu", "QuickGelu")}
"""Gelu is the standard operator of that name."""


def written_out(node: Node, constants: Constants, domain: str = "") -> list[Node]:
    """A node in other operators; most stay as they are.

    Args:
        node: an operator.
        constants: of the network; those that the operators need are taken in.
        domain: of the operator: the standard's, or that of `VENDOR_OPERATORS`.

    Raises:
        UnsupportedOperator: an Einsum beyond a value, or a value and a constant; an activation of a FusedConv
            without a standard node.
    """
    write = (_VENDOR_WRITERS if domain else _WRITERS).get(node.op)
    if write is None:
        return [node]
    writing = _Writing(node, constants)
    write(writing)
    if not domain:
        return writing.nodes
    return [part for one in writing.nodes for part in written_out(one, constants)]


@dataclass
class _Writing:
    """What a node becomes; the last operator written makes its output."""

    node: Node
    constants: Constants
    nodes: list[Node] = field(default_factory=list)
    made: int = 0

    @property
    def output(self) -> str:
        """The node's output."""
        return self.node.outputs[0]

    def emit(self, op: str, *inputs: str, last: bool = False, **attributes: Attribute) -> str:
        """Add an operator; the name of what it makes."""
        return self.emit_with(attributes, op, *inputs, last=last)

    def emit_with(
        self, attributes: Mapping[str, Attribute], op: str, *inputs: str, last: bool = False
    ) -> str:
        """Add an operator with attributes of the file; the name of what it makes."""
        made = self.output if last else f"{self.output}:{len(self.nodes)}"
        self.nodes.append(Node(op, self.node.name, inputs, (made,), attributes))
        return made

    def constant(self, value: np.ndarray | np.generic) -> str:
        """A constant of the writing's own; its name."""
        self.made += 1
        return take_in(self.constants, f"{self.output}:constant{self.made - 1}", value)

    def transposed(self, value: str, perm: list[int]) -> str:
        """A value with its axes in another order; itself if that is the one it has."""
        return value if perm == sorted(perm) else self.emit("Transpose", value, perm=perm)

    def finish(self, value: str) -> None:
        """Make a value, the last one written or one that was there, the node's output."""
        if self.nodes and self.nodes[-1].outputs == (value,):
            self.nodes[-1] = replace(self.nodes[-1], outputs=(self.output,))
        else:
            self.emit("Identity", value, last=True)

    def keep(self) -> None:
        """Leave the node as it is."""
        self.nodes.append(self.node)

    def refuse(self, reason: str, supported: str) -> NoReturn:
        raise UnsupportedOperator(f"{self.node}: {reason} is not supported", hint=f"Supported: {supported}.")


def _extreme(writing: _Writing) -> None:
    """Max and Min; operands that depend on the image come first."""
    largest = writing.node.op == "Max"
    names = sorted(writing.node.inputs, key=lambda name: name in writing.constants)
    value = names[0]
    if len(names) == 1:
        writing.emit("Identity", value, last=True)
    for i, other in enumerate(names[1:], 1):
        last, known = i == len(names) - 1, writing.constants.get(other)
        if known is not None and known.size == 1:
            none = np.float32(np.inf if largest else -np.inf)  # a limit left away would be float32's last
            limits = [writing.constant(limit) for limit in (known.reshape(()), none)]
            value = writing.emit("Clip", value, *(limits if largest else reversed(limits)), last=last)
        elif largest:
            over = writing.emit("Relu", writing.emit("Sub", value, other))
            value = writing.emit("Add", over, other, last=last)
        else:
            under = writing.emit("Neg", writing.emit("Relu", writing.emit("Sub", other, value)))
            value = writing.emit("Add", under, other, last=last)


def _mean(writing: _Writing) -> None:
    names = writing.node.inputs
    if len(names) == 1:
        writing.emit("Identity", *names, last=True)
        return
    total = _added(writing, names)
    writing.emit("Div", total, writing.constant(np.float32(len(names))), last=True)


def _sum(writing: _Writing) -> None:
    if len(writing.node.inputs) > 2 and any(name in writing.constants for name in writing.node.inputs):
        *most, last = sorted(writing.node.inputs, key=lambda name: name in writing.constants)
        writing.emit("Add", _added(writing, tuple(most)), last, last=True)
    else:
        writing.keep()


def _added(writing: _Writing, names: tuple[str, ...]) -> str:
    value, *others = sorted(names, key=lambda name: name in writing.constants)
    for other in others:
        value = writing.emit("Add", value, other)
    return value


def _div(writing: _Writing) -> None:
    above, below = writing.node.inputs
    if above not in writing.constants or below in writing.constants:
        writing.keep()
        return
    writing.emit("Mul", writing.emit("Reciprocal", below), above, last=True)


def _absolute(writing: _Writing, value: str, *, last: bool = False) -> str:
    mirrored = writing.emit("Relu", writing.emit("Neg", value))
    return writing.emit("Add", writing.emit("Relu", value), mirrored, last=last)


def _abs(writing: _Writing) -> None:
    _absolute(writing, writing.node.inputs[0], last=True)


def _softsign(writing: _Writing) -> None:
    value = writing.node.inputs[0]
    below = writing.emit("Add", _absolute(writing, value), writing.constant(np.float32(1)))
    writing.emit("Div", value, below, last=True)


def _mish(writing: _Writing) -> None:
    value = writing.node.inputs[0]
    writing.emit("Mul", value, writing.emit("Tanh", writing.emit("Softplus", value)), last=True)


def _swish(writing: _Writing, default: float = 1.0) -> None:
    value, alpha = writing.node.inputs[0], writing.node.attributes.get("alpha", default)
    scaled = writing.emit("Mul", value, writing.constant(np.asarray(alpha, np.float32)))
    writing.emit("Mul", value, writing.emit("Sigmoid", scaled), last=True)


def _norm(writing: _Writing) -> None:
    """The reductions; what says which axes is handed on."""
    node = writing.node
    value, *axes = node.inputs
    each = _absolute(writing, value) if node.op == "ReduceL1" else writing.emit("Mul", value, value)
    root = node.op == "ReduceL2"
    total = writing.emit_with(node.attributes, "ReduceSum", each, *axes, last=not root)
    if root:
        writing.emit("Sqrt", total, last=True)


_WINDOWS: Mapping[str, int] = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 0}
"""Attributes of a window by axis, and what they are along an axis of size 1."""


def _along_one_axis(writing: _Writing) -> None:
    node = writing.node
    weight = writing.constants.get(node.inputs[1]) if node.op == "Conv" else None
    kernel = node.attributes.get("kernel_shape")
    rank = weight.ndim - 2 if weight is not None else len(kernel) if isinstance(kernel, list) else 0
    if rank != 1:
        writing.keep()
        return
    axes = writing.constant(np.array([2]))
    inputs = [writing.emit("Unsqueeze", node.inputs[0], axes), *node.inputs[1:]]
    if weight is not None:
        inputs[1] = writing.constant(weight[:, :, None])
    attributes = dict(node.attributes)
    for name, nothing in _WINDOWS.items():
        given = attributes.get(name)
        if isinstance(given, list):
            attributes[name] = [v for number in given for v in (nothing, number)]
    windows = writing.emit_with(attributes, node.op, *inputs)
    writing.emit("Squeeze", windows, axes, last=True)


def _einsum(writing: _Writing) -> None:
    """Einsum with at most one operand that depends on the image, its first axis the batch."""
    node = writing.node
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    supported = "a value [N, ...], alone or with one constant, the batch axis first in the result"
    known = [name for name in node.inputs if name in writing.constants]
    operands, arrow, result = equation.partition("->")
    labels = dict(zip(node.inputs, operands.split(","), strict=False))
    (value, *more), (constant, *extra) = [n for n in node.inputs if n not in known] or [""], known or [""]
    ours, theirs = labels.get(value, ""), labels.get(constant, "")
    distinct = all(len(set(each)) == len(each) for each in (ours, theirs, result))
    plain = bool(arrow) and bool(ours) and f"{ours}{theirs}{result}".isalpha()
    if more or extra or not (distinct and plain) or len(labels) != len(node.inputs):
        writing.refuse(f"equation {equation}", supported)
    fits = result[:1] == ours[0] and ours[0] not in theirs and set(result) <= {*ours, *theirs}
    if not fits:
        writing.refuse(f"equation {equation}", supported)
    gone = [label for label in ours if label not in result and label not in theirs]
    if gone:
        axes = writing.constant(np.array([ours.index(label) for label in gone]))
        value = writing.emit("ReduceSum", value, axes, keepdims=0)
        ours = "".join(label for label in ours if label not in gone)
    if theirs:
        value, ours = _with_constant(writing, value, ours, theirs, result, constant)
    writing.finish(writing.transposed(value, [ours.index(label) for label in result]))


def _with_constant(
    writing: _Writing, value: str, ours: str, theirs: str, result: str, constant: str
) -> tuple[str, str]:
    """A value times a constant, summed over what both have and the result has not; its labels then."""
    array = writing.constants[constant]
    alone = [label for label in theirs if label not in ours and label not in result]
    summed = "".join(label for label in ours if label in theirs and label not in result)
    new = "".join(label for label in theirs if label not in ours)
    shared = [label for label in ours if label in theirs and label in result]
    if not (summed or new or alone):
        order = [theirs.index(label) for label in ours if label in theirs]
        sizes = iter(np.transpose(array, order).shape)
        spread = [next(sizes) if label in theirs else 1 for label in ours]
        factor = writing.constant(np.transpose(array, order).reshape(spread))
        return writing.emit("Mul", value, factor), ours
    if shared or alone or not summed:
        writing.refuse(
            f"equation {writing.node.attributes['equation']}",
            "a product by axes that both have, or a matrix product over axes that the result has not",
        )
    kept = "".join(label for label in ours if label not in summed)
    value = writing.transposed(value, [ours.index(label) for label in kept + summed])
    array = np.transpose(array, [theirs.index(label) for label in summed + new])
    inner, outer = array.shape[: len(summed)], array.shape[len(summed) :]
    places = [0] * len(kept)  # a 0 keeps the size that is there
    if len(inner) > 1:
        value = writing.emit("Reshape", value, writing.constant(np.array([*places, math.prod(inner)])))
    value = writing.emit("MatMul", value, writing.constant(array.reshape(math.prod(inner), -1)))
    if len(outer) != 1:
        value = writing.emit("Reshape", value, writing.constant(np.array([*places, *outer], np.int64)))
    return value, kept + new


def _gather(writing: _Writing) -> None:
    """One entry of an axis, which is dropped."""
    node = writing.node
    indices = writing.constants.get(node.inputs[1])
    axis = node.attributes.get("axis", 0)
    if indices is None or indices.ndim > 0 or not isinstance(axis, int):
        writing.keep()
        return
    taken = writing.emit("Gather", node.inputs[0], writing.constant(indices.reshape(1)), axis=axis)
    writing.emit("Squeeze", taken, writing.constant(np.array([axis])), last=True)


def without_sequences(nodes: Sequence[Node], constants: Constants) -> list[Node]:
    """SplitToSequence and SequenceAt (torch.chunk, exported without optimisation) as slices.

    Those of which the part that is asked for is not known stay, and are refused as operators.
    """
    splits = {node.outputs[0]: node for node in nodes if node.op == "SplitToSequence"}
    found = list[Node]()
    for node in nodes:
        split = splits.get(node.inputs[0]) if node.op == "SequenceAt" else None
        ends = None if split is None else _part(split, constants.get(node.inputs[1]), constants)
        if split is None or ends is None:
            found.append(node)
            continue
        (output,), axis = node.outputs, split.attributes.get("axis", 0)
        operands = [
            take_in(constants, f"{output}:{name}", np.array([v]))
            for name, v in zip("sea", (*ends, axis), strict=True)
        ]
        found.append(Node("Slice", node.name, (split.inputs[0], *operands), (output,), {}))
    read = {name for node in found for name in node.inputs}
    return [node for node in found if node.outputs[0] in read or node.outputs[0] not in splits]


def _part(split: Node, number: np.ndarray | None, constants: Constants) -> tuple[int, int] | None:
    """From where to where a part of a split goes; a slice ends where the axis does."""
    sizes = constants.get(split.inputs[1]) if len(split.inputs) > 1 else None
    if number is None or sizes is None:
        return None
    at = int(number.reshape(()))
    if sizes.ndim == 0:
        return None if at < 0 else (at * int(sizes), (at + 1) * int(sizes))
    if not -len(sizes) <= at < len(sizes):
        return None
    start = int(sizes[: at % len(sizes)].sum())
    return start, start + int(sizes[at])


_WRITERS: Mapping[str, Callable[[_Writing], None]] = {
    "Abs": _abs,
    "AveragePool": _along_one_axis,
    "Conv": _along_one_axis,
    "Div": _div,
    "Einsum": _einsum,
    "Gather": _gather,
    "Max": _extreme,
    "MaxPool": _along_one_axis,
    "Mean": _mean,
    "Min": _extreme,
    "Mish": _mish,
    "ReduceL1": _norm,
    "ReduceL2": _norm,
    "ReduceSumSquare": _norm,
    "Softsign": _softsign,
    "Sum": _sum,
    "Swish": _swish,
}

_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("low", "high"),
}
"""Names of the numbers in `activation_params`; those of Clip are operands."""


def _fused_conv(writing: _Writing) -> None:
    given = dict(writing.node.attributes)
    kind, numbers = str(given.pop("activation", "")), given.pop("activation_params", [])
    values = [float(v) for v in numbers] if isinstance(numbers, list) else []
    if len(values) != len(_ACTIVATIONS.get(kind, (None,) * 9)):
        writing.refuse(f"activation {kind}{values}", ", ".join(_ACTIVATIONS))
    value = writing.emit_with(given, "Conv", *writing.node.inputs[:3])
    if len(writing.node.inputs) > 3 and writing.node.inputs[3]:
        value = writing.emit("Add", value, writing.node.inputs[3])
    limits = [writing.constant(np.float32(v)) for v in values] if kind == "Clip" else []
    attributes = {} if limits else dict(zip(_ACTIVATIONS[kind], values, strict=True))
    writing.emit_with(attributes, kind, value, *limits, last=True)


_VENDOR_WRITERS: Mapping[str, Callable[[_Writing], None]] = {
    "FusedConv": _fused_conv,
    "QuickGelu": lambda writing: _swish(writing, 1.702),
}

WRITTEN_OUT = frozenset(_WRITERS)
"""Operators of which some or all nodes are written out."""
