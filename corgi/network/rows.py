"""Networks whose input has no batch axis, [n] or the column [n, 1]: each value gets one, as a row [1, n].

requires: the nodes of a graph in order, and the first value without a batch axis.
ensures: the same numbers in the same sequence; the file's value is [n] or [n, 1] where the new one is [1, n].
A column is a row transposed: where the file has A @ x + b, the row is x^T A^T + b^T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from corgi.errors import UnsupportedOperator
from corgi.network.node import Attribute, Constants, Node, take_in

ELEMENTWISE = (
    "Add", "Cast", "Celu", "Clip", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Log", "Mul", "Neg", "Pow", "PRelu", "Reciprocal", "Relu", "Selu", "Sigmoid",
    "Softplus", "Sqrt", "Sub", "Sum", "Tanh",
)  # fmt: skip
"""Operators that act entry by entry, constants broadcasting."""


def with_batch_axis(nodes: Sequence[Node], constants: Constants, given: str) -> list[Node]:
    """Nodes that compute with rows [1, n].

    Args:
        nodes: of the file, in order; one of them reshapes the input to `given`.
        constants: of the network; those that rows need are taken in.
        given: the value the file calls its input, [n] or [n, 1].

    Raises:
        UnsupportedOperator: a node reads a value without a batch axis that is not served there.
    """
    rows = _Rows(constants, {}, given)
    return [rows.read(node) for node in nodes]


_Turned = tuple[Node, int | None]
"""A node on rows, and the rank of the value it makes in the file; None: that has a batch axis."""


@dataclass
class _Rows:
    """What was read so far; `ranks`: of the file's values without a batch axis, 1 or 2."""

    constants: Constants
    ranks: dict[str, int]
    given: str

    def read(self, node: Node) -> Node:
        """The node on rows; it stays what it is where all it reads has a batch axis."""
        (output, *others), bare = node.outputs, [name for name in node.inputs if name in self.ranks]
        if output == self.given:
            shape = self.constants[node.inputs[1]]
            self.ranks[output] = len(shape)
            row = self.constant(output, np.array([1, int(shape[0])]))
            return replace(node, inputs=(node.inputs[0], row))
        if not bare:
            return node
        if len({self.ranks[name] for name in bare}) > 1 or len(bare) < sum(
            name not in self.constants for name in node.inputs if name
        ):
            self.refuse(node)
        rule = _RULES.get(node.op)
        if rule is None:
            self.refuse(node)
        found, rank = rule(self, node, self.ranks[bare[0]])
        if rank is not None:
            self.ranks |= dict.fromkeys((output, *others), rank)
        return found

    def matmul(self, node: Node, rank: int) -> _Turned:
        """A x is x^T A^T; x^T A is a row already."""
        first, second = node.inputs
        matrix = self.constants.get(first, self.constants.get(second))
        if matrix is None or matrix.ndim != 2 or (first not in self.constants and rank != 1):
            self.refuse(node)
        if first not in self.constants:
            return node, rank
        turned = self.constant(node.outputs[0], np.ascontiguousarray(matrix.T))
        return replace(node, inputs=(second, turned)), rank

    def flatten(self, node: Node, rank: int) -> _Turned:
        return _identity(node), None if node.attributes.get("axis", 1) == 0 else 2

    def unsqueeze(self, node: Node, rank: int) -> _Turned:
        first, *axes = sorted(self.axes(node)) or [-1]
        if rank == 1 and first in (1, -1) and not axes:
            return _identity(node), 2
        if rank != 1 or first != 0:
            self.refuse(node)
        if not axes:
            return _identity(node), None
        inner = self.constant(node.outputs[0], np.array(axes))
        return replace(node, inputs=(node.inputs[0], inner), attributes={}), None

    def squeeze(self, node: Node, rank: int) -> _Turned:
        if rank != 2 or self.axes(node) not in ([], [1], [-1]):
            self.refuse(node)
        return _identity(node), 1

    def transpose(self, node: Node, rank: int) -> _Turned:
        turns = rank == 2 and node.attributes.get("perm", [1, 0]) == [1, 0]
        return _identity(node), None if turns else rank

    def along(self, node: Node, rank: int) -> _Turned:
        """What acts along the one axis there is."""
        default = -1 if "Softmax" in node.op else 0
        listed = node.op != "Gather" or self.constants[node.inputs[1]].ndim == 1
        if node.attributes.get("axis", default) not in (0, -rank) or not listed:
            self.refuse(node)
        return replace(node, attributes={**node.attributes, "axis": 1}), rank

    def elementwise(self, node: Node, rank: int) -> _Turned:
        """Constants as rows, where the file has them as columns."""
        names: list[str] = []
        for name in node.inputs:
            value = self.constants.get(name)
            if value is not None and value.size > 1 and value.ndim > 0:
                if value.ndim != rank or value.shape[1:] not in ((), (1,)):
                    self.refuse(node)
                name = self.constant(f"{node.outputs[0]}:{len(names)}", value.reshape(1, -1))
            elif value is not None and value.ndim > rank:
                self.refuse(node)
            names.append(name)
        return replace(node, inputs=tuple(names)), rank

    def gemm(self, node: Node, rank: int) -> _Turned:
        """With A' and B' what is multiplied: (A' x)^T = x^T A'^T, and x^T B' is a row already."""
        first, second, *bias = node.inputs
        attributes: dict[str, Attribute] = dict(node.attributes)
        turns = bool(attributes.pop("transA", 0)), bool(attributes.pop("transB", 0))
        if first in self.ranks and turns[0]:
            return replace(node, attributes={**attributes, "transB": int(turns[1])}), None
        if second not in self.ranks or turns[1]:
            self.refuse(node)
        names = [second, first]
        for name in filter(None, bias):
            value = self.constants[name]
            if value.size > 1 and value.shape[1:] != (1,):
                self.refuse(node)
            names.append(self.constant(f"{node.outputs[0]}:bias", value.reshape(1, -1)))
        return replace(node, inputs=tuple(names), attributes={**attributes, "transB": int(not turns[0])}), 2

    def reshaped(self, node: Node, rank: int) -> _Turned:
        target = self.constants[node.inputs[1]].reshape(-1).tolist()
        if len(target) == 1:
            return _identity(node), 1
        if len(target) == 2 and target[1] == 1 and target[0] not in (0, 1):
            return _identity(node), 2
        if not target or 0 in target or target[0] not in (1, -1):
            self.refuse(node)
        return node, None

    def axes(self, node: Node) -> list[int]:
        if len(node.inputs) > 1:
            found: list[int] = self.constants[node.inputs[1]].reshape(-1).tolist()
            return found
        given = node.attributes.get("axes", [])
        return [int(axis) for axis in given] if isinstance(given, list) else []

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant of this rewriting's own; its name."""
        return take_in(self.constants, f"{name}:row", value)

    def refuse(self, node: Node) -> NoReturn:
        rank = max(self.ranks[name] for name in node.inputs if name in self.ranks)
        raise UnsupportedOperator(
            f"{node}: a value {'[n]' if rank == 1 else '[n, 1]'} without a batch axis is not"
            " supported here, nor is a batch of n",
            hint="Export the network with an input [1, n], or an open batch axis.",
        )


def _identity(node: Node) -> Node:
    return Node("Identity", node.name, node.inputs[:1], node.outputs[:1], {})


_RULES: Mapping[str, Callable[[_Rows, Node, int], _Turned]] = {
    "MatMul": _Rows.matmul,
    "Gemm": _Rows.gemm,
    "Reshape": _Rows.reshaped,
    "Flatten": _Rows.flatten,
    "Unsqueeze": _Rows.unsqueeze,
    "Squeeze": _Rows.squeeze,
    "Transpose": _Rows.transpose,
    **dict.fromkeys(("Concat", "Split", "Gather", "Softmax", "LogSoftmax"), _Rows.along),
    **dict.fromkeys(ELEMENTWISE, _Rows.elementwise),
}
"""How an operator acts on rows that stand for values of a rank."""
