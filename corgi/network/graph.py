"""Read an ONNX file into a checked graph with folded constants.

What is checked before anything is converted: the file parses, external data stays beside the file, its names
are plain text, there is nothing in it that corgi would ignore (a training graph) or cannot follow (control
flow), the standard checker accepts it, its operators are in the opset range corgi knows, it has one float
image input of static size (`wrap.py`), no value would be absurdly large, and no weight is NaN or infinite.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

from corgi.errors import UnsupportedOperator, naming
from corgi.network import checks, runtime
from corgi.network.canonical import branches, canonical, casts_like, take_branches
from corgi.network.computed import rounded_constants
from corgi.network.node import Attribute, Node, named_twice
from corgi.network.rows import with_batch_axis
from corgi.network.source import read_model
from corgi.network.wrap import Normalisation, wrap
from corgi.network.written import without_sequences, written_out

_SHOWN = 3
"""Computed constants that a note names."""

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
    checks.check_names(proto)
    canonical(proto)
    opset = checks.check_opsets(proto)
    checks.check_nodes(proto)
    checks.check_count(proto)
    checks.check_valid(proto)
    wrapped = wrap(proto, output=output, size=size, normalisation=normalisation, any_rank=any_rank)
    proto = wrapped.proto
    checks.check_sizes(proto)
    while conditions := [node.input[0] for node in branches(proto)]:
        take_branches(proto, _constants(proto, _fold_constants(proto, conditions)))
    casts_like(proto)
    checks.check_names(proto)
    checks.check_nodes(proto, whole=True)  # functions were inlined, branches taken
    checks.check_sizes(proto)
    folded = _fold_constants(proto)
    checks.check_sizes(folded)  # sizes that were computed are constants now
    constants = _constants(proto, folded)
    notes = wrapped.notes
    if computed := rounded_constants(proto, constants):
        shown = ", ".join(f"'{name}'" for name in computed[:_SHOWN]) + (" ..." if computed[_SHOWN:] else "")
        notes += (f"constants the file computes are taken as onnxruntime computes them (float32): {shown}",)
    nodes = _written(proto, constants, wrapped.bare)
    return Graph(
        path=path,
        sha256=digest,
        nodes=nodes,
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


def _written(proto: onnx.ModelProto, constants: dict[str, np.ndarray], bare: str) -> tuple[Node, ...]:
    """The nodes, in operators that have rules; the constants those need are taken in.

    Only values are taken from a folded graph. Its nodes are not trusted: onnxruntime also rewrites them there
    (it moves a zero Pad into MaxPool, whose padding means -inf).

    Raises:
        ModelError: the file names a value as one that is written out.
    """
    computed = [node for node in proto.graph.node if node.output and node.output[0] not in constants]
    nodes = [part for node in computed for part in written_out(_node(node), constants, node.domain)]
    nodes = without_sequences(nodes, constants)
    if bare:
        nodes = with_batch_axis(nodes, constants, bare)
    names = Counter([*constants, *(output for node in nodes for output in node.outputs if output)])
    if twice := next((name for name, count in names.items() if count > 1), None):
        raise named_twice(twice)
    return tuple(nodes)


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
        "optimization.constant_folding_max_output_size_in_bytes", str(4 * checks.LARGEST_VALUE)
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
