"""Recognise the CAM head: pooling of the whole map, and class scores that are affine in what it gives.

The network is read backwards from its output:
  1. an optional Softmax, LogSoftmax or Sigmoid;
  2. the tail: any of Gemm, MatMul, 1x1 convolution, batch normalisation and other constants, with Flatten,
     Reshape, Squeeze, Dropout, Identity between them; composed, it is  scores = W pooled + b;
  3. pooling: GlobalAveragePool, ReduceMean or ReduceSum over height and width, AveragePool of full size;
  4. if the tail mixes no filters, the classifier stands before pooling. A 1x1 convolution that pooling reads
     (all-convolutional networks) gives its W and b to the head; behind anything else (an activation as in
     SqueezeNet and NIN, a convolution of another kernel, stride or grouping, a batch normalisation) the
     classes are the channels of the pooled map, each class's map is its channel, and W is diagonal.
  5. a layer normalisation of the pooled values may stand first in the tail (ConvNeXt): then
     scores = W (pooled - mean) / s + b  with s > 0, the deviation over the filters. Every class's map is
     taken without 1 / s, a positive factor of the whole map that moves with the image: no comparison of two
     pixels, and so no top-k set, depends on it.
The value that enters pooling (case 4: the 1x1 convolution) is the feature map (theory, notation).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor

from corgi.errors import NoCamHead
from corgi.network import layers
from corgi.network.convert import Converted, Step
from corgi.network.expansion import QUOTIENT_ERROR, UNIT, Expansion, added, product, rounded, scaled
from corgi.network.graph import Graph
from corgi.network.rules import dense_kernel


class Activation(StrEnum):
    """What stands behind the class scores; none of them changes which class is largest."""

    NONE = "none"
    SOFTMAX = "softmax"
    LOG_SOFTMAX = "log-softmax"
    SIGMOID = "sigmoid"

    def __call__(self, logits: Tensor) -> Tensor:
        """The network's output: [N, classes] -> [N, classes]."""
        match self:
            case Activation.NONE:
                return logits
            case Activation.SOFTMAX:
                return torch.softmax(logits, 1)
            case Activation.LOG_SOFTMAX:
                return torch.log_softmax(logits, 1)
            case Activation.SIGMOID:
                return torch.sigmoid(logits)


ACTIVATIONS = (
    (layers.Softmax, Activation.SOFTMAX),
    (layers.LogSoftmax, Activation.LOG_SOFTMAX),
    (layers.Sigmoid, Activation.SIGMOID),
)


@dataclass(frozen=True, kw_only=True)
class Head(ABC):
    """A feature map, a map that is linear in it, and the class scores.

    Attributes:
        feature: name of the feature map's value; map_shape: its (h, w); filters: its F.
        order: the file's value is the feature map [N, F, h, w] with its axes permuted so.
        pooling, dense: what stands between the feature map and the scores, as text.
        weight: [classes, F] float64, the map's weights.
        activation: what stands behind the scores.
    """

    feature: str
    order: tuple[int, ...]
    map_shape: tuple[int, int]
    filters: int
    pooling: str
    dense: str
    weight: Tensor
    activation: Activation

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.weight.shape[0])

    def cam(self, features: Tensor, class_id: int) -> Tensor:
        """I = sum_k w^c_k f_k (theory, notation): [N, F, h, w] -> [N, h, w]."""
        return torch.einsum("nfhw,f->nhw", features, self.weight[class_id].to(features))

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Class scores before any activation: [N, F, h, w] -> [N, classes]."""

    def scores(self, features: Tensor) -> Tensor:
        """The network's output: [N, F, h, w] -> [N, classes]."""
        return self.activation(self.logits(features))


@dataclass(frozen=True, kw_only=True)
class PooledHead(Head):
    """Scores computed from the pooled feature map.

    Attributes:
        sums: whether pooling adds up instead of averaging.
        bias: [classes] float64.
    """

    sums: bool
    bias: Tensor

    def pooled(self, features: Tensor) -> Tensor:
        """One number a filter: [N, F, h, w] -> [N, F]."""
        return features.sum((2, 3)) if self.sums else features.mean((2, 3))


@dataclass(frozen=True, kw_only=True)
class CamHead(PooledHead):
    """Scores that are affine in the pooled feature map; its weights are the map's.

    Attributes:
        bias_terms: sums of the absolute terms of the bias: where several layers were composed and cancelled,
            rounding is relative to these. That of `weight` is 4 units of itself.
    """

    bias_terms: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Class scores before any activation: [N, F, h, w] -> [N, classes]."""
        return self.pooled(features) @ self.weight.to(features).T + self.bias.to(features)

    def score_terms(self, features: Tensor) -> Tensor:
        """Beside what each score is compared: [N, F, h, w] -> [N, classes], > 0.

        The absolute terms of the weights; of the bias no more than hides what float32 rounds in it.
        """
        pooled = self.pooled(features.abs())
        terms = pooled @ self.weight.abs().T.to(features) + 2.0**-10 * self.bias_terms.to(features)
        return terms.clamp(min=torch.finfo(torch.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class NormalisedHead(PooledHead):
    """Scores behind a layer normalisation of the pooled feature map; the map is theirs but for its factor.

    Attributes:
        epsilon: of the normalisation.
    """

    epsilon: float

    def logits(self, features: Tensor) -> Tensor:
        """Class scores before any activation: [N, F, h, w] -> [N, classes]."""
        pooled = self.pooled(features)
        off = pooled - pooled.mean(1, keepdim=True)
        deviation = ((off * off).mean(1, keepdim=True) + self.epsilon).sqrt()
        return off @ self.weight.to(features).T / deviation + self.bias.to(features)


def recognise_head(found: Converted) -> CamHead | NormalisedHead:
    """Find the CAM head of a converted network.

    Raises:
        NoCamHead: the network ends otherwise; the message says what was found.
    """
    reader = _Backwards(found)
    activation, tail = reader.take_tail()
    pooling = reader.take_pooling(tail)
    filters = found.shapes[reader.at][1]
    norm = next((step.layer for step in tail if isinstance(step.layer, layers.Standardise)), None)
    tail = [part for step in tail for part in _without_deviation(step, filters)]
    classifier = None if any(map(_mixes, tail)) else reader.take_classifier()
    if classifier is not None:
        step, conv = classifier
        height, width = found.shapes[reader.at][2:]
        share = height * width if isinstance(pooling.layer, layers.Sum) else 1
        first = replace(step, layer=layers.Conv(conv.weight, conv.bias * share))
        composed, dense = _composed([first, *tail], found.shapes[reader.at][1]), str(step)
    else:
        composed = _composed(tail, filters)
        dense = ", ".join(str(step) for step in tail if _mixes(step))
        dense = dense or f"none behind pooling: the classes are the channels of {reader.step or 'the image'}"
    if reader.at == found.module.input_name:
        reader.fail("a feature map computed from the image")
    _, filters, height, width = found.shapes[reader.at]
    kind: Callable[..., CamHead | NormalisedHead]
    if norm is None:
        kind = partial(CamHead, weight=composed.weight, bias_terms=composed.bias_terms)
    else:
        kind = partial(NormalisedHead, weight=composed.weight / filters, epsilon=norm.epsilon)
        dense += "; the map is taken without the positive factor of the normalisation"
    return kind(
        feature=reader.at,
        order=found.orders.get(reader.at, (0, 1, 2, 3)),
        map_shape=(height, width),
        filters=filters,
        pooling=str(pooling),
        sums=isinstance(pooling.layer, layers.Sum),
        dense=dense,
        bias=composed.bias,
        activation=activation,
    )


def refuse_transformer(graph: Graph) -> None:
    """Say of a network without a CAM that it is a transformer, which explains more than its last node does.

    Raises:
        NoCamHead: a softmax of the file weights another value by a matrix product: attention.
    """
    weights = {output for node in graph.nodes if node.op == "Softmax" for output in node.outputs}
    for node in graph.nodes:
        if node.op in ("Cast", "Dropout", "Identity") and node.inputs[0] in weights:
            weights.update(node.outputs)
        if node.op == "MatMul" and node.inputs[0] in weights and node.inputs[1] not in graph.constants:
            raise NoCamHead(
                f"no CAM head: {node} is attention, so this is a transformer, or in part one",
                hint="corgi explains convolutional networks.",
            )


@dataclass(frozen=True)
class _Composed:
    """Scores as W pooled + b: each entry of W is off by at most 4 units of itself, of b by 4 of its terms."""

    weight: Tensor
    bias: Tensor
    bias_terms: Tensor


def _composed(tail: list[Step], filters: int) -> _Composed:
    """The steps behind pooling as one matrix and bias.

    Layers are multiplied exactly (`expansion.py`), so what cancels in the product is not left to rounding;
    only constants that are quotients or roots themselves (batch normalisation) have an error, below
    2^-90 of the terms they are part of.

    Raises:
        NoCamHead: terms cancel so far that this error counts, or numbers are too extreme.
    """
    ones = torch.ones(filters, dtype=torch.float64)
    # One number a filter until a layer mixes filters, then a matrix; `terms` are the absolute terms of both.
    weight: Expansion = (ones,)
    bias: Expansion = (torch.zeros_like(ones),)
    weight_terms, bias_terms, mixed, exact = ones, torch.zeros_like(ones), False, True
    try:
        for step in tail:
            match step.layer:
                case layers.Linear() | layers.Conv() as layer:
                    matrix = _matrix(layer)
                    weight = product((matrix,), weight) if mixed else scaled((matrix,), weight)
                    bias = added(
                        layer.bias, *(v[:, 0] for v in product((matrix,), tuple(v[:, None] for v in bias)))
                    )
                    size = matrix.abs()
                    weight_terms = size @ weight_terms if mixed else size * weight_terms
                    bias_terms = size @ bias_terms + layer.bias.abs()
                    mixed = True
                case layers.Affine() as affine:
                    parts = (affine.scale, affine.shift, affine.shift_magnitude, *(affine.rest or ()))
                    parts = tuple(v.reshape(-1).broadcast_to(len(bias_terms)) for v in parts)
                    scale, shift = (parts[0], *parts[3:4]), (parts[1], *parts[4:5])
                    bias = added(*scaled(bias, scale), *shift)
                    bias_terms = parts[0].abs() * bias_terms + parts[2]
                    scale = tuple(v[:, None] for v in scale) if mixed else scale
                    weight, weight_terms = scaled(weight, scale), weight_terms * scale[0].abs()
                    exact = exact and affine.rest is None
    except ArithmeticError as error:
        raise NoCamHead(f"the layers behind pooling cannot be composed: {error}") from error
    made = rounded(weight)
    if not exact and bool((len(tail) * _QUOTIENTS * weight_terms > UNIT * made.abs()).any()):
        raise NoCamHead(
            "the layers behind pooling cancel in their product: its weights would be rounding",
            hint="Fold the batch normalisation behind pooling into a layer before exporting.",
        )
    made = made if mixed else torch.diag(made)
    return _Composed(made.contiguous(), rounded(bias).clone(), bias_terms)


_QUOTIENTS = 16 * QUOTIENT_ERROR
"""The scale and shift of a batch normalisation, relative to their terms, with the products they enter."""


def _without_deviation(step: Step, filters: int) -> tuple[Step, ...]:
    """A layer normalisation of pooled values as affine steps, times filters and its deviation; others as is.

    filters * (p - mean p) is a matrix of integers, which leaves the product of the layers behind it exact.
    """
    if not isinstance(step.layer, layers.Standardise):
        return (step,)
    matrix = filters * torch.eye(filters, dtype=torch.float64) - 1
    centred = layers.Linear(matrix, torch.zeros(filters, dtype=torch.float64))
    scale, shift = (v.reshape(-1).broadcast_to(filters) for v in (step.layer.scale, step.layer.shift))
    return replace(step, layer=centred), replace(step, layer=layers.Affine(scale, shift))


def _mixes(step: Step) -> bool:
    return isinstance(step.layer, layers.Linear | layers.Conv)


def _matrix(layer: layers.Linear | layers.Conv) -> Tensor:
    """A layer on pooled values as a matrix [O, I]."""
    if isinstance(layer, layers.Linear):
        return layer.weight.T
    return dense_kernel(layer.weight, layer.groups)[:, :, 0, 0]


class _Backwards:
    """A walk from the output towards the image along single-use values."""

    def __init__(self, found: Converted) -> None:
        self.shapes, self.at = found.shapes, found.module.output_name
        self.producers = {step.output: step for step in found.module.steps}

    @property
    def step(self) -> Step | None:
        """What makes the current value."""
        return self.producers.get(self.at)

    def take_tail(self) -> tuple[Activation, list[Step]]:
        """Step over everything that is affine in the pooled values, a layer normalisation of those first.

        In the order of the network.
        """
        activation, tail = Activation.NONE, list[Step]()
        while (step := self.step) is not None:
            kind = next((a for layer, a in ACTIVATIONS if isinstance(step.layer, layer)), None)
            first = activation is Activation.NONE and not any(map(_computes, tail))
            if kind is not None and first and self.is_over_classes(step):
                activation = kind
            elif not self.is_pooled(step.inputs[0]):
                break
            elif any(isinstance(behind.layer, layers.Standardise) for behind in tail):
                if _computes(step):
                    break
            elif not (self.is_affine(step) or self.normalises(step)):
                break
            tail.insert(0, step)
            self.at = step.inputs[0]
        if not self.is_pooled(self.at):
            self.fail("class scores for the whole image, [N, classes]")
        return activation, tail

    def is_pooled(self, value: str) -> bool:
        """Whether a value has one number a filter or class."""
        shape = self.shapes[value]
        return sorted(shape, reverse=True)[1:] == [1] * (len(shape) - 1)

    def is_over_classes(self, step: Step) -> bool:
        """Whether an activation takes in all scores, or one of them at a time."""
        shape = self.shapes[step.inputs[0]]
        axis = getattr(step.layer, "axis", None)
        return axis is None or shape[axis] == math.prod(shape)

    def is_affine(self, step: Step) -> bool:
        """Whether a step on pooled values is affine, filter by filter or mixing them."""
        count = math.prod(self.shapes[step.inputs[0]])
        match step.layer:
            case layers.Identity() | layers.Reshape() | layers.Transpose():
                return True
            case layers.Linear() as linear:
                return linear.weight.shape[0] == count
            case layers.Conv() as conv:
                fits = self.shapes[step.inputs[0]][1] == count
                return fits and conv.weight.shape[2:] == (1, 1) and conv.padding == (0, 0)
            case layers.Mean() | layers.Sum() as reduction:
                sizes = self.shapes[step.inputs[0]]
                return all(sizes[axis] == 1 for axis in reduction.axes)
            case layers.Affine() as affine:
                return math.prod(self.shapes[step.output]) == count and affine.scale.numel() in (1, count)
        return False

    def normalises(self, step: Step) -> bool:
        """Whether a step is a layer normalisation over all pooled values."""
        norm, sizes = step.layer, self.shapes[step.inputs[0]]
        if not isinstance(norm, layers.Standardise) or norm.groups != 1:
            return False
        count = math.prod(sizes)
        return all(sizes[axis] == 1 or axis in norm.axes for axis in range(1, len(sizes))) and all(
            v.numel() in (1, count) for v in (norm.scale, norm.shift)
        )

    def take_pooling(self, tail: list[Step]) -> Step:
        """Step over pooling of the whole map, whatever moves its numbers on the way; the step that pools.

        `tail`: the steps behind, of which one may pool a map of one pixel.
        """
        if self.step is None:
            self.fail("pooling of a feature map computed from the image")
        chain, at, found = list[Step](), self.at, self.at
        while (step := self.producers.get(at)) is not None and self.pools_or_moves(step):
            chain.insert(0, step)
            at = step.inputs[0]
            if len(self.shapes[at]) == 4 and _pools_channels(chain, self.shapes[at]):
                found = at  # and further: a mean over width may stand in front of one over height
        if found == self.at:
            if any(isinstance(step.layer, layers.Mean | layers.Sum | layers.AveragePool) for step in tail):
                raise NoCamHead(
                    "no CAM head: the map that pooling reads has one pixel at this image size",
                    hint="Take a larger image: --size, or export the network at another size.",
                )
            self.fail("global average pooling over height and width")
        self.at = found
        return next(step for step in reversed(chain) if _computes(step))

    def pools_or_moves(self, step: Step) -> bool:
        """Whether a step takes means or sums over whole axes, or computes nothing."""
        if not isinstance(step.layer, layers.AveragePool):
            return isinstance(step.layer, layers.Mean | layers.Sum) or not _computes(step)
        pool, (height, width) = step.layer, self.shapes[step.inputs[0]][2:]
        top, left, *_ = pool.pads
        # Its one window holds the map, and no padding counts; what ceil_mode adds behind it never does.
        one = self.shapes[step.output][2:] == (1, 1)
        holds = pool.kernel[0] >= top + height and pool.kernel[1] >= left + width
        return one and holds and not (pool.count_include_pad and any(pool.pads))

    def take_classifier(self) -> tuple[Step, layers.Conv] | None:
        """Step over a 1x1 convolution of the whole map before pooling."""
        if (step := self.step) is None or not isinstance(conv := step.layer, layers.Conv):
            return None
        settings = (conv.weight.shape[2:], conv.stride, conv.padding, conv.groups)
        if settings != ((1, 1), (1, 1), (0, 0), 1):
            return None
        self.at = step.inputs[0]
        return step, conv

    def fail(self, expected: str) -> NoReturn:
        """Raise the error that says what was found instead."""
        raise NoCamHead(
            f"no CAM head: reading back from the output, expected {expected}, found {self.found()}",
            hint="A CAM needs global average pooling, then class scores that are affine in the pooled values."
            " Another choice, with a guarantee of its own: --map gradcam.",
        )

    def found(self) -> str:
        """The current step in words that say which kind of network this is."""
        step = self.step
        if step is None:
            return "the network's input"
        shape = list(self.shapes[self.at])
        before = self.shapes[step.inputs[0]]
        what = f"{step} of shape {shape}"
        match step.layer:
            case layers.MaxPool() as pool if len(before) == 4 and pool.kernel == before[2:]:
                return f"{what}: global max pooling, which no average weights"
            case layers.Max():
                return f"{what}: global max pooling, which no average weights"
            case layers.Reshape() if len(before) == 4:
                maker = self.producers.get(step.inputs[0], "the input")
                return f"{what}: the map {list(before[1:])} of {maker} is flattened (flatten -> dense)"
            case _ if isinstance(step.layer, _BEHIND) and self.is_pooled(self.at):
                return f"{what}: an activation between or behind fully connected layers"
        return what


_BEHIND = (
    layers.PRelu, layers.HardSigmoid, layers.Curve, layers.Relu, layers.LeakyRelu, layers.Clip,
    layers.Sigmoid, layers.Tanh, layers.Identity,
)  # fmt: skip


def _pools_channels(chain: list[Step], shape: tuple[int, ...]) -> bool:
    """Whether steps make of a map [1, F, h, w] the means, or the sums, over each channel's pixels, in order.

    Numbers of the elements are sent through instead of values: what is reduced is kept, along a last axis. A
    mean of means of equally many elements is the mean of all.
    """
    reductions = {
        layers.Sum if isinstance(step.layer, layers.Sum) else layers.Mean for step in chain if _computes(step)
    }
    if len(reductions) != 1:
        return False
    numbers = torch.arange(math.prod(shape)).reshape(*shape, 1)
    for step in chain:
        match step.layer:
            case layers.Reshape(shape=new):
                numbers = numbers.reshape(1, *new, numbers.shape[-1])
            case layers.Transpose(order=order):
                numbers = numbers.permute(*order, len(order))
            case layers.Reduction(axes=axes, keepdims=keepdims):
                numbers = _reduced(numbers, axes, keepdims)
            case layers.AveragePool():
                numbers = _reduced(numbers, (2, 3), True)
    return torch.equal(
        numbers.reshape(-1, numbers.shape[-1]).sort(1).values,
        torch.arange(math.prod(shape)).reshape(shape[1], -1),
    )


def _reduced(numbers: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    kept = [axis for axis in range(numbers.dim() - 1) if axis not in axes]
    sizes = [
        1 if axis in axes else numbers.shape[axis]
        for axis in (range(numbers.dim() - 1) if keepdims else kept)
    ]
    return numbers.permute(*kept, *axes, numbers.dim() - 1).reshape(*sizes, -1)


def _computes(step: Step) -> bool:
    """Whether a step of the tail does more than move numbers."""
    return not isinstance(step.layer, layers.Identity | layers.Reshape | layers.Transpose)
