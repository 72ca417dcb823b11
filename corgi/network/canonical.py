"""One form for what an ONNX file may say in several; the function stays.

1. the domain `ai.onnx` is the default domain, whose name is empty;
2. nodes may stand in any order, those of subgraphs, too: they are sorted;
3. a weight that is listed as an input, too, is a weight: a default nobody overrides;
4. shapes a file notes of its inner values are left out: they may speak of symbolic sizes, and follow anyway;
5. CastLike is the Cast to the type of its second operand;
6. an If whose condition is a constant is the branch it takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import numpy as np
import onnx
from onnx import TensorProto, helper

from corgi.errors import UnsupportedOperator

DEFAULT_DOMAINS = ("", "ai.onnx")


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from all_nodes(graph.node)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def canonical(proto: onnx.ModelProto) -> None:
    """Cases 1 to 4, in place, of a file whose names were checked."""
    for holder in (proto.graph, *proto.functions):
        for node in all_nodes(holder.node):
            node.domain = _domain(node.domain)
    for entries in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        versions = {(_domain(entry.domain), entry.version) for entry in entries}
        del entries[:]
        entries.extend(helper.make_opsetid(domain, version) for domain, version in sorted(versions))
    for holder in (proto.graph, *proto.functions):
        _sort(holder)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    if 0 < proto.ir_version < 4:
        proto.ir_version = 4  # before, every weight had to be listed
    del proto.graph.value_info[:]


def _sort(holder: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Put nodes behind those that make what they read, and so within their subgraphs; a cycle stays."""
    for node in holder.node:
        for graph in _subgraphs(node):
            _sort(graph)
    makers = {output: i for i, node in enumerate(holder.node) for output in node.output if output}
    read = {
        i: {makers[name] for inner in all_nodes([node]) for name in inner.input if name in makers}
        for i, node in enumerate(holder.node)
    }
    if any(maker >= i for i, found in read.items() for maker in found):
        with contextlib.suppress(CycleError):
            order = [*TopologicalSorter(read).static_order()]
            ordered = [onnx.NodeProto.FromString(holder.node[i].SerializeToString()) for i in order]
            del holder.node[:]
            holder.node.extend(ordered)


def _domain(name: str) -> str:
    return "" if name in DEFAULT_DOMAINS else name


def casts_like(proto: onnx.ModelProto) -> None:
    """Case 5, in place.

    Raises:
        UnsupportedOperator: the type of a second operand is not known.
    """
    if not any(node.op_type == "CastLike" for node in proto.graph.node):
        return
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "CastLike":
            kind = types.get(node.input[1], TensorProto.UNDEFINED)
            if kind == TensorProto.UNDEFINED:
                raise UnsupportedOperator(
                    f"{shown(node)}: the type of '{node.input[1]}' is not known",
                    hint="Export with Cast.",
                )
            node.op_type = "Cast"
            del node.input[1:]
            node.attribute.append(helper.make_attribute("to", kind))


def shown(node: onnx.NodeProto) -> str:
    """A node, for messages."""
    return f"node '{node.name}' ({node.op_type})"


def is_branch(node: onnx.NodeProto) -> bool:
    """Whether a node is the standard's If."""
    return bool(node.op_type == "If" and node.domain == "")


def branches(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The If nodes of a graph."""
    return [node for node in proto.graph.node if is_branch(node)]


def take_branches(proto: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> None:
    """Case 6, in place, for all If nodes of the graph; those within the branches come up to it.

    Raises:
        UnsupportedOperator: a condition is no constant, or a branch holds sparse weights.
    """
    nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(proto.graph.node):
        if not is_branch(node):
            nodes.append(node)
            continue
        condition = constants.get(node.input[0])
        if condition is None or condition.size != 1:
            raise UnsupportedOperator(
                f"{shown(node)}: its condition '{node.input[0]}' depends on the image",
                hint="Export without control flow.",
            )
        taken = "then_branch" if bool(condition.reshape(())) else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == taken)
        if branch.sparse_initializer:
            raise UnsupportedOperator(
                f"{shown(node)}: sparse weights are not supported", hint="Export dense weights."
            )
        inner = {tensor.name for tensor in branch.initializer}
        inner |= {name for part in all_nodes(branch.node) for name in part.output if name}
        inner |= {t.name for part in all_nodes(branch.node) for a in part.attribute for t in a.g.initializer}
        names = {name: f"{node.output[0]}:{number}:{name}" for name in inner}
        for part in all_nodes(branch.node):
            part.input[:] = [names.get(name, name) for name in part.input]
            part.output[:] = [names.get(name, name) for name in part.output]
            for attribute in part.attribute:
                for value in (*attribute.g.initializer, *attribute.g.output):
                    value.name = names.get(value.name, value.name)
        for tensor in branch.initializer:
            tensor.name = names[tensor.name]
            proto.graph.initializer.append(tensor)
        nodes += branch.node
        for result, output in zip(branch.output, node.output, strict=True):
            source = names.get(result.name, result.name)
            nodes.append(helper.make_node("Identity", [source], [output], name=f"{output}:taken"))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
