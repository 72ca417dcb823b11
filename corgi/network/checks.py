"""What is refused of a model before it is converted: what would be ignored, not followed, or not fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Set

import onnx

from corgi.errors import LONGEST_TEXT, ModelError, UnsupportedOperator, first_line, printable
from corgi.network.canonical import all_nodes, is_branch, shown
from corgi.network.written import VENDOR_OPERATORS

OPSETS = range(7, 27)
"""ONNX opset versions corgi converts: to the newest that onnxruntime runs."""

LARGEST_VALUE = 2**27
"""Elements a value of the network may have, 1 GiB in float64: a damaged size is refused, not allocated."""

MOST_ELEMENTS = 2**28
"""Elements all values may have together, 2 GiB in float64: conversion and the gate hold them at once."""

MOST_NODES = 10_000
"""Nodes a graph may have, its functions written out: 40 functions that each call the next one twice are 2^40
nodes. The deepest published networks have 3000."""

_FEW = 1024
"""Elements of a weight that is no larger than lists of sizes and axes are."""

_RUNTIME_DOMAINS = ("ai.onnx", "com.microsoft", "com.ms")
"""Domains, and what begins like them, of which onnxruntime has operators."""


def check_names(proto: onnx.ModelProto) -> None:
    """Refuse names that no exporter writes and no terminal should be sent (ONNX asks for C identifiers)."""
    graph = proto.graph
    names = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    names |= {f.name for f in proto.functions} | {o.domain for o in proto.opset_import}
    for holder in (graph, *proto.functions):
        for node in all_nodes(holder.node):
            names.update((node.name, node.op_type, node.domain, *node.input, *node.output))
    for name in names:
        # protobuf hands over bytes where a name is no UTF-8
        if not isinstance(name, str) or printable(name) != name:
            raise ModelError(
                f"the name {name[:80]!r} is no plain text of at most {LONGEST_TEXT} characters",
                hint="Export the model again.",
            )


def check_valid(proto: onnx.ModelProto) -> None:
    """Ask the standard checker. It wants the outputs' shapes, which follow anyway: it is given some."""
    kinds = [value.type.tensor_type for value in proto.graph.output]
    open_kinds = [kind for kind in kinds if not kind.HasField("shape")]
    for kind in open_kinds:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # the checker raises several unrelated types
        raise ModelError(f"not a valid ONNX model: {first_line(error)}") from error
    for kind in open_kinds:
        kind.ClearField("shape")


def check_nodes(proto: onnx.ModelProto, *, whole: bool = False) -> None:
    """Refuse what corgi would ignore, cannot follow, or what says two things at once.

    `whole`: no branch may be left.
    """
    if proto.training_info:
        raise ModelError("it holds a training graph", hint="Export the model for inference.")
    if proto.graph.sparse_initializer:
        raise UnsupportedOperator("sparse weights are not supported", hint="Export dense weights.")
    for function in proto.functions:
        if function.domain.startswith(_RUNTIME_DOMAINS) or function.domain == "":
            # onnxruntime would run an operator of its own, corgi what the file says it is.
            raise UnsupportedOperator(
                f"a function redefines the operator '{function.name}' of domain '{function.domain}'"
            )
    for node in (n for holder in (proto.graph, *proto.functions) for n in holder.node):
        if whole or not is_branch(node):
            _check_no_subgraph(node)
    functions = {(f.domain, f.name) for f in proto.functions}
    for node in proto.graph.node:
        _check_operator(node, functions | VENDOR_OPERATORS)


def _check_no_subgraph(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise UnsupportedOperator(
                f"{shown(node)} has a subgraph '{attribute.name}'", hint="Export without control flow."
            )


def _check_operator(node: onnx.NodeProto, known: Set[tuple[str, str]]) -> None:
    if any(attribute.ref_attr_name for attribute in node.attribute):
        raise ModelError(f"{shown(node)} refers to an attribute of no function")
    if node.domain != "" and (node.domain, node.op_type) not in known:
        raise UnsupportedOperator(
            f"{shown(node)} is of the vendor domain '{node.domain}'",
            hint="Export with standard ONNX operators only (onnxruntime's optimiser: level basic).",
        )


def check_count(proto: onnx.ModelProto) -> None:
    """Refuse a graph that would have too many nodes once its functions are inlined."""
    sizes: dict[tuple[str, str], int] = {}
    left = {(f.domain, f.name): f.node for f in proto.functions}

    def count(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(sizes.get((n.domain, n.op_type), 1) for n in nodes)

    while ready := [f for f, nodes in left.items() if not any((n.domain, n.op_type) in left for n in nodes)]:
        sizes |= {f: count(left.pop(f)) for f in ready}
    total = count(proto.graph.node)
    if total > MOST_NODES:
        raise ModelError(f"{total:.4g} nodes, at most {MOST_NODES} are served")


def check_sizes(proto: onnx.ModelProto) -> None:
    """Refuse values that would not fit into memory, before anything runs the model."""
    weights = {i.name: math.prod(i.dims) for i in proto.graph.initializer}
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(proto)).graph
    except Exception as error:  # shape inference raises its own types
        raise ModelError(f"not a valid ONNX model: {first_line(error)}") from error
    sizes: dict[str, int] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.name not in weights:
            dims = value.type.tensor_type.shape.dim
            sizes[value.name] = math.prod(max(d.dim_value, 1) for d in dims)
    total = sum(sizes.values())
    sizes |= weights
    name, largest = max(sizes.items(), key=lambda item: item[1])
    if largest > LARGEST_VALUE:
        raise ModelError(
            f"value '{name}' would have {largest:.3g} elements, at most {LARGEST_VALUE} are served",
            hint="If that is no mistake in the file, verify at a smaller image size.",
        )
    if total > MOST_ELEMENTS:
        raise ModelError(
            f"all values would have {total:.3g} elements, at most {MOST_ELEMENTS} are served",
            hint="Verify at a smaller image size.",
        )


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model for shape inference alone: large weights are inputs, so that they are not copied twice.

    What inference reads of a value are numbers of sizes and axes, which are few.
    """
    bare = onnx.ModelProto(
        ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions
    )
    graph, given = bare.graph, proto.graph
    graph.name = given.name
    for field in ("node", "input", "output"):
        getattr(graph, field).extend(getattr(given, field))
    for tensor in given.initializer:
        if math.prod(tensor.dims) > _FEW:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    return bare


def check_opsets(proto: onnx.ModelProto) -> int:
    """The version of the standard's operators, if corgi knows it."""
    versions = [o.version for o in proto.opset_import if o.domain == ""]
    if len(versions) != 1 or versions[0] not in OPSETS:
        found = " and ".join(map(str, versions)) or "none"
        raise ModelError(
            f"opset {found}, supported are {OPSETS.start}-{OPSETS.stop - 1}",
            hint="Convert it with onnx.version_converter.",
        )
    return int(versions[0])
