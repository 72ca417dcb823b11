"""A trained network as one self-contained ONNX file, and the proof that the file computes the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from corgi.errors import ModelError

OPSET = 17
IR_VERSION = 8
"""Of the same time as opset 17, so that onnxruntimes of its age read the file."""

TOLERANCE = 1e-4
"""Largest accepted |torch - onnxruntime|, relative to the largest logit (at least 1)."""


@dataclass(frozen=True)
class _Node:
    """One operator of the graph: its parameters by name, and its ONNX attributes."""

    operator: str
    parameters: Mapping[str, Tensor]
    attributes: Mapping[str, Any]


def _conv(layer: nn.Module) -> _Node:
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    padding = [int(p) for p in layer.padding]
    attributes = {"kernel_shape": list(layer.kernel_size), "pads": padding * 2, "strides": list(layer.stride)}
    return _Node("Conv", {"weight": layer.weight, "bias": layer.bias}, attributes)


def _max_pool(layer: nn.Module) -> _Node:
    assert isinstance(layer, nn.MaxPool2d)
    size = [int(layer.kernel_size)] * 2  # type: ignore[arg-type]
    return _Node("MaxPool", {}, {"kernel_shape": size, "strides": size})


def _gemm(layer: nn.Module) -> _Node:
    assert isinstance(layer, nn.Linear)
    return _Node("Gemm", {"weight": layer.weight, "bias": layer.bias}, {"transB": 1})


_RULES: Mapping[type[nn.Module], Callable[[nn.Module], _Node]] = {
    nn.Conv2d: _conv,
    nn.ReLU: lambda layer: _Node("Relu", {}, {}),
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: lambda layer: _Node("GlobalAveragePool", {}, {}),
    nn.Flatten: lambda layer: _Node("Flatten", {}, {}),
    nn.Linear: _gemm,
}


def write_onnx(
    network: nn.Sequential, input_shape: tuple[int, int, int], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a folded network: input `image` [N, C, H, W], output `logits` [N, classes], N symbolic.

    Args:
        network: Conv2d, ReLU, MaxPool2d, AdaptiveAvgPool2d(1), Flatten and Linear layers in a row.
        input_shape: C, H, W.
        path: file to write; its folder is made.
        metadata: the file's `metadata_props`.

    Raises:
        ModelError: a layer of another type, or a file that `onnx.checker` refuses.
    """
    nodes, initializers, value, counts = [], [], "image", dict.fromkeys(_RULES, 0)
    for position, layer in enumerate(network):
        rule = _RULES.get(type(layer))
        if rule is None:
            known = ", ".join(kind.__name__ for kind in _RULES)
            raise ModelError(f"cannot export layer {type(layer).__name__}; supported: {known}")
        node = rule(layer)
        counts[type(layer)] += 1
        name = f"{node.operator.lower()}{counts[type(layer)]}"
        parameters = [f"{name}.{key}" for key in node.parameters]
        initializers += [
            numpy_helper.from_array(tensor.detach().cpu().numpy(), f"{name}.{key}")
            for key, tensor in node.parameters.items()
        ]
        output = "logits" if position == len(network) - 1 else f"{name}.out"
        nodes.append(
            helper.make_node(node.operator, [value, *parameters], [output], name=name, **node.attributes)
        )
        value = output
    classes = next(layer.out_features for layer in reversed(network) if isinstance(layer, nn.Linear))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *input_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
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


def run_onnx(path: Path, images: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """Logits [N, classes] that onnxruntime computes from the file for images [N, C, H, W] in [0, 1]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["logits"], {"image": images[start : start + batch]})[0]
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
