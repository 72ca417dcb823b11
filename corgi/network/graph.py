"""Read an ONNX file into a checked graph with folded constants.

What is checked before anything is converted: the file parses, external data stays beside the file, the
standard checker accepts it, its operators are in the opset range corgi knows, it has one float image
input of static size (`wrap.py`), no value would be absurdly large, and no weight is NaN or infinite.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper

from corgi.errors import ModelError, UnsupportedOperator
from corgi.network.node import Attribute, Node
from corgi.network.vendor import VENDOR_OPERATORS, expanded
from corgi.network.wrap import Normalisation, wrap

OPSETS = range(9, 27)
"""ONNX opset versions corgi converts: to the newest that onnxruntime runs."""

LARGEST_VALUE = 2**27
"""Elements a value of the network may have, 1 GiB in float64: a damaged size is refused, not allocated."""

_DEFAULT_DOMAINS = ("", "ai.onnx")


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


def read_graph(
    path: Path,
    *,
    output: str | None = None,
    size: tuple[int, int] | None = None,
    normalisation: Normalisation | None = None,
) -> Graph:
    """Read and check an ONNX file. See `wrap` for the options.

    Raises:
        ModelError: the file is missing, is not ONNX, is invalid, points outside its folder, or has an
            input or output corgi cannot serve; the message names the file and the reason.
        UnsupportedOperator: a node of a vendor domain or a hidden subgraph.
    """
    proto, digest = _load(path)
    opset = _check_opsets(path, proto)
    _check_nodes(path, proto)
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # the checker raises several unrelated types
        raise ModelError(f"{path} is not a valid ONNX model: {_first_line(error)}") from error
    wrapped = wrap(path, proto, output=output, size=size, normalisation=normalisation or Normalisation())
    proto = wrapped.proto
    _check_nodes(path, proto)  # functions were inlined
    _check_sizes(path, proto)
    folded = _fold_constants(path, proto)
    constants: dict[str, np.ndarray] = {}
    for graph in (proto.graph, folded.graph):
        constants |= {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        constants |= {n.output[0]: _constant(path, n) for n in graph.node if n.op_type == "Constant"}
    # Only values are taken from the folded graph. Its nodes are not trusted: onnxruntime also rewrites them
    # there (it moves a zero Pad into MaxPool, whose padding means -inf).
    nodes: list[Node] = []
    for node in proto.graph.node:
        if node.output and node.output[0] not in constants:
            parts, more = expanded(path, _node(path, node), node.domain)
            nodes += parts
            constants |= more
    for name, value in constants.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ModelError(
                f"{path}: weight '{name}' holds NaN or infinite values", hint="Export the model again."
            )
    return Graph(
        path=path,
        sha256=digest,
        nodes=tuple(nodes),
        constants=constants,
        input_name=wrapped.input_name,
        input_shape=wrapped.input_shape,
        output_name=wrapped.output_name,
        metadata={p.key: p.value for p in proto.metadata_props},
        opset=opset,
        proto=proto,
        notes=wrapped.notes,
    )


def _first_line(error: BaseException) -> str:
    lines: list[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _load(path: Path) -> tuple[onnx.ModelProto, str]:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    try:
        raw = path.read_bytes()
        proto = onnx.load_from_string(raw)
    except (DecodeError, ValueError, MemoryError) as error:
        raise ModelError(f"{path} is not an ONNX file: {_first_line(error)}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if not proto.graph.node:
        raise ModelError(f"{path} is not an ONNX model: it holds no graph nodes")
    digest = sha256(raw)
    folder = path.resolve().parent
    for tensor in external_data_helper._get_all_tensors(proto):
        if external_data_helper.uses_external_data(tensor):
            _load_external(path, folder, tensor)
            digest.update(tensor.raw_data)
    return proto, digest.hexdigest()


def _load_external(path: Path, folder: Path, tensor: TensorProto) -> None:
    info = external_data_helper.ExternalDataInfo(tensor)
    try:
        target = (folder / info.location).resolve()
    except (OSError, ValueError) as error:  # a name no file can have
        raise ModelError(f"{path}: external data of '{tensor.name}': {error}") from error
    if not target.is_relative_to(folder):
        raise ModelError(
            f"{path}: external data of '{tensor.name}' leaves the model's folder: {info.location}"
        )
    if not target.is_file():
        raise ModelError(
            f"{path}: external data file {info.location} of '{tensor.name}' is missing",
            hint="Copy it beside the model: both files belong together.",
        )
    try:
        external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    except Exception as error:  # onnx raises checker, value and OS errors here
        raise ModelError(f"{path}: external data of '{tensor.name}': {_first_line(error)}") from error
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _check_nodes(path: Path, proto: onnx.ModelProto) -> None:
    functions = {(f.domain, f.name) for f in proto.functions}
    for node in proto.graph.node:
        known = node.domain in _DEFAULT_DOMAINS or (node.domain, node.op_type) in VENDOR_OPERATORS
        if not known and (node.domain, node.op_type) not in functions:
            raise UnsupportedOperator(
                f"{path}: node '{node.name}' ({node.op_type}) is of the vendor domain '{node.domain}'",
                hint="Export with standard ONNX operators only (onnxruntime's optimiser: level basic).",
            )


def _check_sizes(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse values that would not fit into memory, before anything runs the model."""
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception as error:  # shape inference raises its own types
        raise ModelError(f"{path} is not a valid ONNX model: {_first_line(error)}") from error
    sizes = {i.name: math.prod(i.dims) for i in proto.graph.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        sizes[value.name] = math.prod(max(d.dim_value, 1) for d in dims)
    name, largest = max(sizes.items(), key=lambda item: item[1])
    if largest > LARGEST_VALUE:
        raise ModelError(
            f"{path}: value '{name}' would have {largest:.3g} elements, at most {LARGEST_VALUE} are served",
            hint="If that is no mistake in the file, verify at a smaller image size.",
        )


def _check_opsets(path: Path, proto: onnx.ModelProto) -> int:
    versions = [o.version for o in proto.opset_import if o.domain in _DEFAULT_DOMAINS]
    if not versions or versions[0] not in OPSETS:
        found = versions[0] if versions else "none"
        raise ModelError(
            f"{path}: opset {found}, supported are {OPSETS.start}-{OPSETS.stop - 1}",
            hint="Convert it with onnx.version_converter.",
        )
    return int(versions[0])


def _fold_constants(path: Path, proto: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants by onnxruntime, at batch size 1 (so shape chains fold too)."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(target)
        try:
            ort.InferenceSession(
                model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_OTHER_OPTIMIZERS,
            )
            return onnx.load(target)
        except Exception as error:  # onnxruntime raises its own family of pybind exceptions
            raise ModelError(f"{path}: onnxruntime cannot load the model: {_first_line(error)}") from error


def _node(path: Path, proto: onnx.NodeProto) -> Node:
    attributes: dict[str, Attribute] = {}
    for attribute in proto.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise UnsupportedOperator(
                f"{path}: node '{proto.name}' ({proto.op_type}) has a subgraph '{attribute.name}'",
                hint="Export without control flow.",
            )
        attributes[attribute.name] = _attribute(attribute)
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


def _constant(path: Path, node: onnx.NodeProto) -> np.ndarray:
    value = _attribute(node.attribute[0])
    if isinstance(value, str):
        raise UnsupportedOperator(f"{path}: constant '{node.output[0]}' is no dense tensor of numbers")
    return np.asarray(value)
