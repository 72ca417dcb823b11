"""A trained network as one self-contained ONNX file, and the proof that the file computes the same."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

from corgi.errors import ModelError
from corgi.network import runtime

OPSET = 17
IR_VERSION = 8
"""Of the same time as opset 17, so that onnxruntimes of its age read the file."""

TOLERANCE = 1e-4
"""Largest accepted |torch - onnxruntime|, relative to the largest logit (at least 1)."""


@dataclass(frozen=True)
class _Operator:
    """One ONNX operator: its parameters by name, and its attributes."""

    name: str
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _conv(layer: nn.Module) -> _Operator:
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    padding = [int(p) for p in layer.padding]
    attributes: dict[str, Any] = {
        "kernel_shape": list(layer.kernel_size),
        "pads": padding * 2,
        "strides": list(layer.stride),
    }
    if layer.groups > 1:
        attributes["group"] = layer.groups
    return _Operator("Conv", {"weight": layer.weight, "bias": layer.bias}, attributes)


def _max_pool(layer: nn.Module) -> _Operator:
    assert isinstance(layer, nn.MaxPool2d)
    size = [int(layer.kernel_size)] * 2  # type: ignore[arg-type]
    return _Operator("MaxPool", {}, {"kernel_shape": size, "strides": size})


def _gemm(layer: nn.Module) -> _Operator:
    assert isinstance(layer, nn.Linear)
    return _Operator("Gemm", {"weight": layer.weight, "bias": layer.bias}, {"transB": 1})


_LAYERS: Mapping[type[nn.Module], Callable[[nn.Module], _Operator]] = {
    nn.Conv2d: _conv,
    nn.ReLU: lambda layer: _Operator("Relu"),
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: lambda layer: _Operator("GlobalAveragePool"),
    nn.Flatten: lambda layer: _Operator("Flatten"),
    nn.Linear: _gemm,
}

_FUNCTIONS: Mapping[Callable[..., Any], _Operator] = {
    operator.add: _Operator("Add"),
    operator.sub: _Operator("Sub"),
    operator.truediv: _Operator("Div"),
    torch.cat: _Operator("Concat", attributes={"axis": 1}),
}
"""Of tensors of one shape, or of [N, C, H, W] and [C, 1, 1]; the concatenation is one of channels."""


def write_onnx(
    network: fx.GraphModule, input_shape: tuple[int, int, int], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a folded network: input `image` [N, C, H, W], output `logits` [N, classes], N symbolic.

    Args:
        network: Conv2d, ReLU, MaxPool2d (stride = kernel size), AdaptiveAvgPool2d(1), Flatten and Linear
            layers, sums, differences and quotients, concatenations of channels. What these leave open
            (dilation, padding mode) is not written: `check_export` is what tells that the file is right.
        input_shape: C, H, W.
        path: file to write; its folder is made.
        metadata: the file's `metadata_props`.

    Raises:
        ModelError: a layer or operation of another type, or a file that `onnx.checker` refuses.
    """
    with torch.no_grad():
        classes = network(torch.zeros(1, *input_shape)).shape[1]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *input_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
    nodes, initializers = _nodes(network)
    graph = helper.make_graph(nodes, path.stem, [image], [logits], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="corgi")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{path}: the exported graph is not valid ONNX ({error})") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, path)


def _nodes(network: fx.GraphModule) -> tuple[list[NodeProto], list[TensorProto]]:
    """The ONNX nodes in order, and the initializers."""
    nodes: list[NodeProto] = []
    initializers: list[TensorProto] = []
    values: dict[fx.Node, str] = {}  # traced node -> the name of its value in the file
    counts: Counter[str] = Counter()
    result = network.graph.output_node().all_input_nodes[0]
    for node in network.graph.nodes:
        if node.op == "placeholder":
            values[node] = "image"
        elif node.op == "get_attr":
            values[node] = str(node.target)
            initializers.append(_initializer(network.get_buffer(str(node.target)), values[node]))
        elif node.op != "output":
            operation = _operation(network, node)
            counts[operation.name] += 1
            name = f"{operation.name.lower()}{counts[operation.name]}"
            values[node] = "logits" if node is result else f"{name}.out"
            inputs = [values[source] for source in node.all_input_nodes]
            inputs += [f"{name}.{key}" for key in operation.parameters]
            initializers += [_initializer(t, f"{name}.{key}") for key, t in operation.parameters.items()]
            nodes.append(
                helper.make_node(operation.name, inputs, [values[node]], name=name, **operation.attributes)
            )
    return nodes, initializers


def _operation(network: fx.GraphModule, node: fx.Node) -> _Operator:
    """The operator of a node that calls a layer or a function.

    Raises:
        ModelError: there is no rule for it.
    """
    if node.op == "call_module":
        layer = network.get_submodule(str(node.target))
        rule = _LAYERS.get(type(layer))
        if rule is not None:
            return rule(layer)
        found = f"layer {type(layer).__name__}"
    else:
        known_function = _FUNCTIONS.get(node.target)  # type: ignore[arg-type]
        if known_function is not None:
            return known_function
        found = f"operation {node.target}"
    known = ", ".join([*(kind.__name__ for kind in _LAYERS), *(f.__name__ for f in _FUNCTIONS)])
    raise ModelError(f"cannot export {found}; supported: {known}")


def _initializer(tensor: Tensor, name: str) -> TensorProto:
    return numpy_helper.from_array(tensor.detach().cpu().numpy(), name)


def run_onnx(path: Path, images: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """Logits [N, classes] that onnxruntime computes from the file for images [N, C, H, W] in [0, 1]."""
    session = runtime.start(onnx.load(path), runtime.options())
    parts = [
        runtime.run(session, {"image": images[start : start + batch]}, ["logits"])[0]
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts).astype(np.float32)


def check_export(network: nn.Module, path: Path, images: NDArray[np.float32]) -> float:
    """Largest |torch - onnxruntime| over logits of the images, relative to the largest logit (at least 1).

    Args:
        network: the network as trained, batch normalisation included.
        path: its export.
        images: [N, C, H, W] in [0, 1].

    Raises:
        ModelError: the difference exceeds `TOLERANCE`; the file must not be used.
    """
    network.eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    difference = float(np.abs(run_onnx(path, images) - expected).max() / max(np.abs(expected).max(), 1.0))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path}: differs from the trained network by {difference:.3g} relative to its logits"
        )
    return difference
