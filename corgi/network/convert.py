"""A checked graph -> a torch module that runs the same steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from corgi.budget import check
from corgi.errors import ModelError, UnsupportedOperator
from corgi.network.graph import Graph
from corgi.network.node import Node
from corgi.network.node_reader import NodeReader
from corgi.network.rows import ELEMENTWISE
from corgi.network.rules import RULES, SPLITTING_RULES, gives_batch_axis
from corgi.network.written import WRITTEN_OUT

_SPARE_OUTPUTS = ("Dropout", "MaxPool")
"""Operators whose further outputs only say more (those of BatchNormalization mean training)."""


@dataclass(frozen=True)
class Step:
    """One layer of a network: which values it reads and which one it writes."""

    node: str
    op: str
    layer: nn.Module
    inputs: tuple[str, ...]
    output: str

    def __str__(self) -> str:
        return f"node '{self.node}' ({self.op})"


class TorchGraph(nn.Module):
    """A network as its steps in topological order.

    Attributes:
        steps: the layers; input_name: the value the image is bound to; output_name: the value returned.
        read_last: of every step, the values that no later one reads.
    """

    def __init__(self, steps: tuple[Step, ...], input_name: str, output_name: str) -> None:
        super().__init__()
        self.steps, self.input_name, self.output_name = steps, input_name, output_name
        self.layers = nn.ModuleList(step.layer for step in steps)
        self.read_last = _read_last(steps, output_name)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the output value [N, ...]; samples are independent.

        A value is let go behind the last step that reads it, unless a gradient needs it.
        """
        values = {self.input_name: x}
        for step, done in zip(self.steps, self.read_last, strict=True):
            check()
            values[step.output] = step.layer(*(values[name] for name in step.inputs))
            for name in done:
                del values[name]
        return values[self.output_name]

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """All values of the network by name, for images [N, C, H, W]."""
        values = {self.input_name: x}
        for step in self.steps:
            check()
            values[step.output] = step.layer(*(values[name] for name in step.inputs))
        return values

    def live(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """The most numbers that a forward pass holds at once, for values of these shapes."""
        held, most = {self.input_name}, 0
        for step, done in zip(self.steps, self.read_last, strict=True):
            held.add(step.output)
            most = max(most, sum(math.prod(shapes[name]) for name in held))
            held -= done
        return most

    def with_layers(self, replaced: Callable[[nn.Module], nn.Module]) -> TorchGraph:
        """The same network with every layer exchanged for `replaced(layer)`."""
        steps = tuple(replace(step, layer=replaced(step.layer)) for step in self.steps)
        return TorchGraph(steps, self.input_name, self.output_name)

    def after(self, input_name: str) -> TorchGraph:
        """The part of the network that makes the output from `input_name`."""
        return self._between(input_name, self.output_name)

    def up_to(self, output_name: str) -> TorchGraph:
        """The part of the network that `output_name` depends on."""
        return self._between(self.input_name, output_name)

    def _between(self, input_name: str, output_name: str) -> TorchGraph:
        needed, kept = {output_name}, []
        for step in reversed(self.steps):
            if step.output in needed and step.output != input_name:
                needed.update(step.inputs)
                kept.append(step)
        return TorchGraph(tuple(reversed(kept)), input_name, output_name)


def _read_last(steps: tuple[Step, ...], output_name: str) -> tuple[frozenset[str], ...]:
    """Of each step, the values that no later one reads: what it reads and what it writes, but the output."""
    later, found = {output_name}, []
    for step in reversed(steps):
        done = frozenset((*step.inputs, step.output)) - later
        found.append(done)
        later |= done
    return tuple(reversed(found))


@dataclass(frozen=True)
class Converted:
    """A network and its values.

    Attributes:
        module: the steps.
        shapes: shape of each value at batch size 1.
        orders: a value of the file is the value of that name here with its axes permuted so; where it is not
            named, they are equal.
    """

    module: TorchGraph
    shapes: Mapping[str, tuple[int, ...]]
    orders: Mapping[str, tuple[int, ...]]

    def with_steps(self, steps: Iterable[Step]) -> Converted:
        """The same network by other steps; those that nobody reads any more are gone."""
        output = self.module.output_name
        module = TorchGraph(tuple(steps), self.module.input_name, output).up_to(output)
        return replace(self, module=module)


def convert(graph: Graph) -> Converted:
    """Convert all nodes the output depends on, in float64.

    Raises:
        UnsupportedOperator: a node, attribute or operand outside the supported set.
        ModelError: a layer does not fit its input.
    """
    nothing = torch.zeros((), dtype=torch.float64)  # no value changes a shape
    shapes: dict[str, tuple[int, ...]] = {graph.input_name: (1, *graph.input_shape)}
    steps: list[Step] = []
    vectors: set[str] = set()
    for node in _needed(graph):
        check()
        if _makes_vector(graph, node, shapes, vectors):
            vectors.update(node.outputs)
        for step in _convert_node(graph, node, shapes):
            try:
                with torch.no_grad():
                    made = step.layer(*(nothing.expand(shapes[name]) for name in step.inputs))
            except (RuntimeError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise ModelError(f"{node} cannot be run: {reason}") from error
            if made.numel() == 0:
                raise ModelError(f"{node} makes a value without elements")
            shapes[step.output] = tuple(made.shape)
            steps.append(step)
    if graph.output_name not in shapes:
        raise ModelError(f"the output '{graph.output_name}' does not depend on the image")
    return Converted(TorchGraph(tuple(steps), graph.input_name, graph.output_name), shapes, {})


def _makes_vector(
    graph: Graph, node: Node, shapes: Mapping[str, tuple[int, ...]], vectors: Collection[str]
) -> bool:
    """Whether a node makes a value that has lost its batch axis in the file: [n] there, [1, n] here.

    Such a value comes from Squeeze without axes and from Reshape. What may read it means the same by both.

    Raises:
        UnsupportedOperator: another node reads it, or more than one axis would be left.
    """
    constants = [graph.constants[name] for name in node.inputs if name in graph.constants]
    target = constants[0].reshape(-1).tolist() if node.op == "Reshape" and constants else []
    if any(name in vectors for name in node.inputs):
        if _stays_vector(graph, node, constants, shapes, vectors):
            return True
        if node.op == "Gather" and node.attributes.get("axis", 0) == 0 and constants:
            if gives_batch_axis(constants[0], shapes[node.inputs[0]]):
                return False
        elif target and 0 not in target:
            return len(target) == 1
    elif node.op != "Squeeze" or len(node.inputs) > 1 or node.attributes.get("axes"):
        return len(target) == 1
    elif sum(size > 1 for size in shapes.get(node.inputs[0], ())) == 1:
        return True
    raise UnsupportedOperator(
        f"{node}: a value without a batch axis is not supported here",
        hint="Export with a batch axis; Squeeze with named axes.",
    )


def _stays_vector(
    graph: Graph,
    node: Node,
    constants: list[np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    vectors: Collection[str],
) -> bool:
    """Whether an operator makes [n] of [n] in the file where it makes [1, n] of [1, n] here."""
    match node.op:
        case "MatMul":
            return node.inputs[0] in vectors and [value.ndim for value in constants] == [2]
        case "Softmax" | "LogSoftmax":
            return node.attributes.get("axis", -1 if graph.opset >= 13 else 1) == -1
    alone = all(name in vectors for name in node.inputs if name in shapes)
    return node.op in ELEMENTWISE and alone and all(value.ndim <= 1 for value in constants)


_ELSEWHERE = (
    (
        (
            *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
            *("ConvInteger", "MatMulInteger"),
        ),
        "The network is quantised, and its steps have no slopes. Take the float32 network it was made of.",
    ),
    (
        ("ArgMax", "ArgMin", "TopK", "NonMaxSuppression", "NonZero"),
        "It picks numbers, and no class scores are left: export the network up to its scores, or name them by"
        " --output.",
    ),
    (("LSTM", "GRU", "RNN", "Loop", "Scan"), "corgi explains convolutional networks."),
)
"""Operators that say of the whole network what it is."""


def _needed(graph: Graph) -> list[Node]:
    names, kept = {graph.output_name}, []
    for node in reversed(graph.nodes):
        if any(output in names for output in node.outputs):
            names.update(node.inputs)
            kept.append(node)
    return list(reversed(kept))


def _convert_node(graph: Graph, node: Node, shapes: dict[str, tuple[int, ...]]) -> list[Step]:
    rule, splitting = RULES.get(node.op), SPLITTING_RULES.get(node.op)
    if rule is None and splitting is None:
        known = ", ".join(sorted({*RULES, *SPLITTING_RULES, *WRITTEN_OUT}))
        why = next((why for ops, why in _ELSEWHERE if node.op in ops), f"Supported operators: {known}.")
        raise UnsupportedOperator(f"{node}: operator {node.op} is not supported", hint=why)
    reader = NodeReader(node, graph.constants, shapes, graph.opset)
    missing = [n for n in node.inputs if n and n not in shapes and n not in graph.constants]
    if missing or not reader.variables:
        reader.refuse(f"operand '{missing[0]}'" if missing else "a node without an operand from the image")
    try:
        made = splitting(reader) if splitting is not None else (rule(reader),) if rule is not None else ()
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:  # an operand of an odd shape
        reader.refuse(f"an operand or attribute that does not fit ({str(error).splitlines()[0]})")
    # Nobody reads a mask of Dropout or where a maximum stands; a further output that is read is missed there.
    reader.finish(len(node.outputs) if node.op in _SPARE_OUTPUTS else len(made))
    pairs = zip(made, node.outputs, strict=False)
    return [Step(node.name, node.op, layer, reader.variables, output) for layer, output in pairs if output]
