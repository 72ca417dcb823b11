"""Recognise the CAM head: global average pooling, then one fully connected layer.

Cases (the network is read backwards from its output):
  1. optional Softmax;
  2. Gemm, or MatMul with an optional Add of a constant;
  3. any of Flatten, Reshape, Squeeze, Dropout, Identity that keep the F pooled values in order;
  4. GlobalAveragePool, ReduceMean over height and width, or AveragePool of full size.
The value that enters pooling is the feature map (theory, notation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from corgi.errors import NoCamHead
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph


@dataclass(frozen=True)
class CamHead:
    """What turns the feature map into class scores.

    Attributes:
        feature: name of the feature map's value; map_shape: its (h, w); filters: its F.
        pooling: the pooling node, as text.
        dense: the fully connected node, as text.
        weight: [classes, F] float64; bias: [classes] float64.
        softmax: whether a softmax follows.
    """

    feature: str
    map_shape: tuple[int, int]
    filters: int
    pooling: str
    dense: str
    weight: Tensor
    bias: Tensor
    softmax: bool

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.weight.shape[0])

    def cam(self, features: Tensor, class_id: int) -> Tensor:
        """I = sum_k w^c_k f_k (theory, notation): [N, F, h, w] -> [N, h, w]."""
        return torch.einsum("nfhw,f->nhw", features, self.weight[class_id].to(features))

    def logits(self, features: Tensor) -> Tensor:
        """Class scores before any softmax: [N, F, h, w] -> [N, classes]."""
        return features.mean((2, 3)) @ self.weight.to(features).T + self.bias.to(features)

    def scores(self, features: Tensor) -> Tensor:
        """The network's output: [N, F, h, w] -> [N, classes]."""
        logits = self.logits(features)
        return torch.softmax(logits, 1) if self.softmax else logits


def recognise_head(path: Path, module: TorchGraph, shapes: Mapping[str, tuple[int, ...]]) -> CamHead:
    """Find the CAM head of a converted network.

    Raises:
        NoCamHead: the network ends otherwise; the message says what was found.
    """
    reader = _Backwards(path, module, shapes)
    softmax = reader.take(layers.Softmax) is not None
    bias_step = reader.take_bias()
    dense = reader.take(layers.Linear)
    if dense is None:
        reader.fail("a fully connected layer (Gemm or MatMul)")
    while reader.take(layers.Identity, layers.Reshape):
        pass
    pooling = reader.take_pooling()
    if reader.at == module.input_name:
        reader.fail("a feature map computed from the image")
    linear = dense.layer
    assert isinstance(linear, layers.Linear)
    bias = linear.bias
    if bias_step is not None and isinstance(bias_step.layer, layers.Affine):
        bias = bias + bias_step.layer.shift.reshape(-1)
    _, filters, height, width = shapes[reader.at]
    if linear.weight.shape[0] != filters:
        reader.fail(f"a fully connected layer that reads the {filters} pooled filters")
    return CamHead(
        feature=reader.at,
        map_shape=(height, width),
        filters=filters,
        pooling=str(pooling),
        dense=str(dense),
        weight=linear.weight.T.contiguous(),
        bias=bias.clone(),
        softmax=softmax,
    )


class _Backwards:
    """A walk from the output towards the image along single-use values."""

    def __init__(self, path: Path, module: TorchGraph, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.path, self.shapes, self.at = path, shapes, module.output_name
        self.producers = {step.output: step for step in module.steps}

    def take(self, *kinds: type[torch.nn.Module]) -> Step | None:
        """Step over the producer of the current value if it is of one of the kinds."""
        step = self.producers.get(self.at)
        if step is None or not isinstance(step.layer, kinds):
            return None
        self.at = step.inputs[0]
        return step

    def take_bias(self) -> Step | None:
        """Step over an Add of a constant vector (the bias of a MatMul)."""
        step = self.producers.get(self.at)
        if step is None or not isinstance(step.layer, layers.Affine):
            return None
        classes = self.shapes[step.output][-1]
        scale, shift = step.layer.scale, step.layer.shift
        if not bool((scale == 1).all()) or shift.numel() not in (1, classes):
            self.fail("an Add of one bias a class")
        return self.take(layers.Affine)

    def take_pooling(self) -> Step:
        """Step over pooling of the whole map."""
        step = self.producers.get(self.at)
        if step is None or len(self.shapes[step.inputs[0]]) != 4:
            self.fail("global average pooling over height and width")
        size = self.shapes[step.inputs[0]][2:]
        layer = step.layer
        whole = isinstance(layer, layers.Mean) and sorted(layer.axes) == [2, 3]
        whole |= isinstance(layer, layers.AveragePool) and (layer.kernel, layer.padding) == (size, (0, 0))
        if not whole:
            self.fail("global average pooling over height and width")
        self.at = step.inputs[0]
        return step

    def fail(self, expected: str) -> NoReturn:
        step = self.producers.get(self.at)
        found = "the network's input" if step is None else f"{step} of shape {list(self.shapes[self.at])}"
        raise NoCamHead(
            f"{self.path}: no CAM head: reading back from the output, expected {expected}, found {found}",
            hint="corgi explains networks that end in global average pooling -> one fully connected layer.",
        )
