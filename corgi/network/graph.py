"""Read an ONNX file into a checked graph with folded constants.

What is checked before anything is converted: the file parses, external data stays beside the file, its names
are plain text, there is nothing in it that corgi would ignore (a training graph) or cannot follow (control
flow), the standard checker accepts it, its operators are in the opset range corgi knows, it has one float
image input of static size (`wrap.py`), no value would be absurdly large, and no weight is NaN or infinite.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper

from corgi.data.file import is_regular_file, resolved
from corgi.errors import LONGEST_TEXT, ModelError, UnsupportedOperator, first_line, naming, printable
from corgi.network import runtime
from corgi.network.canonical import all_nodes, branches, canonical, casts_like, take_branches
from corgi.network.computed import rounded_constants
from corgi.network.node import Attribute, Node
from corgi.network.rows import with_batch_axis
from corgi.network.vendor import VENDOR_OPERATORS, expanded
from corgi.network.wrap import Normalisation, wrap
from corgi.network.written import without_sequences, written_out

OPSETS = range(7, 27)
"""ONNX opset versions corgi converts: to the newest that onnxruntime runs."""

LARGEST_VALUE = 2**27
"""Elements a value of the network may have, 1 GiB in float64: a damaged size is refused, not allocated."""

MOST_ELEMENTS = 2**28
"""Elements all values may have together, 2 GiB in float64: conversion and the gate hold them at once."""

MOST_NODES = 10_000
"""Nodes a graph may have, its functions written out: 40 functions that each call the next one twice are 2^40
nodes. The deepest published networks have 3000."""

_SHOWN = 3
"""Computed constants that a note names."""

_FEW = 1024
"""Elements of a weight that is no larger than lists of sizes and axes are."""

LARGEST_FILE = 2**31
"""Bytes of the file and its external data: onnxruntime is handed a protobuf message, which holds no more."""

_RUNTIME_DOMAINS = ("ai.onnx", "com.microsoft", "com.ms")
"""Domains, and what begins like them, of which onnxruntime has operators."""


# Every graph optimisation of onnxruntime's basic level except constant folding: names of tensors then
# stay those of the user's file, so errors and the feature map can be named.
_OTHER_OPTIMIZERS = [
    "CastElimination", "CastChainElimination", "CommonSubexpressionElimination", "ConstantSharing",
    "ConvActivationFusion", "ConvAddFusion", "ConvBNFusion", "ConvMulFusion", "DivMulFusion",
    "DoubleQDQPairsRemover", "EliminateDropout", "EliminateIdentity", "EliminateSlice",
    "EnsureUniqueDQForNodeUnit", "ExpandElimination", "FuseReluClip", "GemmSumFusion",
    "GemmTransposeFusion", "IdenticalChildrenConsolidation", "LabelEncoderFusion", "MatMulAddFusion",
    "MatMul_BatchNormalization_Fusion", "NoopElimination", "NotWhereFusion", "Pad_Fusion",
    "PreShapeNodeElimination", "PropagateCastOps", "QDQPropagationTransformer", "ReluQuantRewrite",
    "ReshapeFusion", "TransposeOptimizer", "UnsqueezeElimination",
]  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """A checked ONNX graph, batch size 1, constants folded.

    Attributes:
        path: the file; `sha256` its digest (the weights of external data included).
        nodes: in topological order.
        constants: weights and folded values by name.
        input_name, input_shape: the image input, [C, H, W].
        output_name: the one output.
        metadata: ONNX `metadata_props`.
        opset: version of the default operator set.
        proto: the model with external data loaded, wrapped to take the image (`wrap.py`): what is held
            against onnxruntime.
        notes: what wrapping changed, in plain words.
        channels_last: whether the file's input is [N, H, W, C].
    """

    path: Path
    sha256: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    input_name: str
    input_shape: tuple[int, int, int]
    output_name: str
    metadata: Mapping[str, str]
    opset: int
    proto: onnx.ModelProto
    notes: tuple[str, ...] = ()
    channels_last: bool = False


def read_graph(
    path: Path,
    *,
    output: str | None = None,
    size: tuple[int, int] | None = None,
    normalisation: Normalisation | None = None,
    any_rank: bool = False,
) -> Graph:
    """Read and check an ONNX file. See `wrap` for the options.

    Raises:
        ModelError: the file is missing, is not ONNX, is invalid, points outside its folder, or has an
            input or output corgi cannot serve; the message names the file and the reason.
        UnsupportedOperator: a node of a vendor domain or a hidden subgraph.
    """
    with naming(path):
        return _graph(path, output, size, normalisation or Normalisation(), any_rank)


def _graph(
    path: Path, output: str | None, size: tuple[int, int] | None, normalisation: Normalisation, any_rank: bool
) -> Graph:
    proto, digest = read_model(path)
    _check_names(proto)
    canonical(proto)
    opset = _check_opsets(proto)
    _check_nodes(proto)
    _check_count(proto)
    _check_valid(proto)
    wrapped = wrap(proto, output=output, size=size, normalisation=normalisation, any_rank=any_rank)
    proto = wrapped.proto
    _check_sizes(proto)
    while conditions := [node.input[0] for node in branches(proto)]:
        take_branches(proto, _constants(proto, _fold_constants(proto, conditions)))
    casts_like(proto)
    _check_names(proto)
    _check_nodes(proto, whole=True)  # functions were inlined, branches taken
    _check_sizes(proto)
    folded = _fold_constants(proto)
    _check_sizes(folded)  # sizes that were computed are constants now
    constants = _constants(proto, folded)
    notes = wrapped.notes
    if computed := rounded_constants(proto, constants):
        shown = ", ".join(f"'{name}'" for name in computed[:_SHOWN]) + (" ..." if computed[_SHOWN:] else "")
        notes += (f"constants the file computes are taken as onnxruntime computes them (float32): {shown}",)
    # Only values are taken from the folded graph. Its nodes are not trusted: onnxruntime also rewrites them
    # there (it moves a zero Pad into MaxPool, whose padding means -inf).
    nodes: list[Node] = []
    written = [*constants]

    def known(found: tuple[tuple[Node, ...], Mapping[str, np.ndarray]]) -> tuple[Node, ...]:
        """Nodes that were written out; the constants they need are taken in."""
        parts, more = found
        written.extend(more)
        constants.update(more)
        return parts

    for node in proto.graph.node:
        if node.output and node.output[0] not in constants:
            for part in known(expanded(_node(node), node.domain)):
                nodes += known(written_out(part, constants))
    nodes = list(known(without_sequences(nodes, constants)))
    if wrapped.bare:
        nodes = list(known(with_batch_axis(nodes, constants, wrapped.bare)))
    written += [output for node in nodes for output in node.outputs if output]
    if len(set(written)) < len(written):
        twice = next(name for name in written if written.count(name) > 1)
        raise ModelError(f"value '{twice}' is named as one that corgi writes out", hint="Rename it.")
    return Graph(
        path=path,
        sha256=digest,
        nodes=tuple(nodes),
        constants=constants,
        input_name=wrapped.input_name,
        input_shape=wrapped.input_shape,
        output_name=wrapped.output_name,
        metadata={_text(p.key): _text(p.value) for p in proto.metadata_props},
        opset=opset,
        proto=proto,
        notes=notes,
        channels_last=wrapped.channels_last,
    )


def _text(value: str | bytes) -> str:
    """A string of the file; protobuf hands over bytes where it is no UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _constants(*models: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The weights and constants of models, by name."""
    found: dict[str, np.ndarray] = {}
    for graph in (model.graph for model in models):
        found |= {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        found |= {n.output[0]: _constant(n) for n in graph.node if n.op_type == "Constant"}
    return found


def read_model(path: Path) -> tuple[onnx.ModelProto, str]:
    """What a file holds, its external data loaded, and the digest of both.

    Raises:
        ModelError: it is missing, is no ONNX file, or points outside its folder.
    """
    if not is_regular_file(path):
        raise ModelError("no such model file")
    try:
        _check_bytes(path.stat().st_size)
        raw = path.read_bytes()
        proto = onnx.load_from_string(raw)
    except (DecodeError, ValueError, MemoryError) as error:
        raise ModelError(f"not an ONNX file: {first_line(error)}") from error
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}") from error
    if not proto.graph.node:
        raise ModelError("not an ONNX model: it holds no graph nodes")
    digest, size = sha256(raw), len(raw)
    for tensor in external_data_helper._get_all_tensors(proto):
        if external_data_helper.uses_external_data(tensor):
            _load_external(path, tensor, size)
            digest.update(tensor.raw_data)
            size += len(tensor.raw_data)
        try:
            numpy_helper.to_array(tensor)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the data of '{tensor.name}': {first_line(error)}") from error
    return proto, digest.hexdigest()


def _check_bytes(size: int) -> None:
    if size > LARGEST_FILE:
        raise ModelError(f"the model and its external data are larger than {LARGEST_FILE} bytes")


def _load_external(path: Path, tensor: TensorProto, before: int) -> None:
    """Load the data of a tensor from its file; `before`: bytes that were read already.

    Where the model is a link into a store of files (as in Hugging Face's cache), its data is a link beside it
    into the same store.
    """
    folders = resolved(path.parent), resolved(path).parent
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # onnx would ignore a key it does not know
            info = external_data_helper.ExternalDataInfo(tensor)
        places = [resolved(folder / info.location) for folder in folders]
        target = next((place for place in places if place.exists()), places[0])
    except (UserWarning, OSError, ValueError) as error:  # also a name no file can have
        raise ModelError(f"external data of '{tensor.name}': {first_line(error)}") from error
    leaves = Path(info.location).is_absolute() or ".." in Path(info.location).parts
    if leaves or not any(target.is_relative_to(folder) for folder in folders):
        raise ModelError(f"external data of '{tensor.name}' leaves the model's folder: {info.location}")
    if target == resolved(path):
        raise ModelError(f"external data of '{tensor.name}' is the model file itself")
    if not is_regular_file(target):
        raise ModelError(
            f"external data file {info.location} of '{tensor.name}' is missing",
            hint="Copy it beside the model: both files belong together.",
        )
    length: int | None = info.length
    _check_bytes(before + (target.stat().st_size if length is None else length))
    try:
        with target.open("rb") as file:
            file.seek(info.offset or 0)
            tensor.raw_data = file.read(-1 if length is None else length)
    except (OSError, ValueError) as error:
        raise ModelError(f"external data of '{tensor.name}': {first_line(error)}") from error
    if length is not None and len(tensor.raw_data) != length:
        raise ModelError(f"external data of '{tensor.name}': {info.location} is too short")
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _check_names(proto: onnx.ModelProto) -> None:
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


def _check_valid(proto: onnx.ModelProto) -> None:
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


def _check_nodes(proto: onnx.ModelProto, *, whole: bool = False) -> None:
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
        for attribute in node.attribute:
            branch = node.op_type == "If" and node.domain == "" and not whole
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) and not branch:
                raise UnsupportedOperator(
                    f"node '{node.name}' ({node.op_type}) has a subgraph '{attribute.name}'",
                    hint="Export without control flow.",
                )
    functions = {(f.domain, f.name) for f in proto.functions}
    for node in proto.graph.node:
        if any(attribute.ref_attr_name for attribute in node.attribute):
            raise ModelError(f"node '{node.name}' ({node.op_type}) refers to an attribute of no function")
        known = node.domain == "" or (node.domain, node.op_type) in VENDOR_OPERATORS
        if not known and (node.domain, node.op_type) not in functions:
            raise UnsupportedOperator(
                f"node '{node.name}' ({node.op_type}) is of the vendor domain '{node.domain}'",
                hint="Export with standard ONNX operators only (onnxruntime's optimiser: level basic).",
            )


def _check_count(proto: onnx.ModelProto) -> None:
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


def _check_sizes(proto: onnx.ModelProto) -> None:
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


def _check_opsets(proto: onnx.ModelProto) -> int:
    versions = [o.version for o in proto.opset_import if o.domain == ""]
    if len(versions) != 1 or versions[0] not in OPSETS:
        found = " and ".join(map(str, versions)) or "none"
        raise ModelError(
            f"opset {found}, supported are {OPSETS.start}-{OPSETS.stop - 1}",
            hint="Convert it with onnx.version_converter.",
        )
    return int(versions[0])


def _fold_constants(proto: onnx.ModelProto, conditions: Iterable[str] = ()) -> onnx.ModelProto:
    """Fold constants by onnxruntime, at batch size 1 (so shape chains fold too); `conditions` are kept."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for name in sorted(set(conditions) - {value.name for value in proto.graph.output}):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.BOOL, None))
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    options = runtime.options(ort.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    # A constant may be computed from a few numbers and as large as they say.
    options.add_session_config_entry(
        "optimization.constant_folding_max_output_size_in_bytes", str(4 * LARGEST_VALUE)
    )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(target)
        runtime.start(model, options, _OTHER_OPTIMIZERS)
        return onnx.load(target)


def _node(proto: onnx.NodeProto) -> Node:
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    name = proto.name or proto.output[0]
    return Node(proto.op_type, name, tuple(proto.input), tuple(proto.output), attributes)


def _attribute(attribute: onnx.AttributeProto) -> Attribute:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return str(value, errors="replace")
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, int | float):
        return value
    return list(value) if isinstance(value, Iterable) else str(value)


def _constant(node: onnx.NodeProto) -> np.ndarray:
    value = _attribute(node.attribute[0])
    if isinstance(value, str):
        raise UnsupportedOperator(f"constant '{node.output[0]}' is no dense tensor of numbers")
    return np.asarray(value)
