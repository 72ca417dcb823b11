"""Rewrite a trunk into the few layers every linear-relaxation engine bounds well.

requires: a converted trunk (typed layers, samples independent).
ensures: the same function of one image, using only Conv (dense, undilated, symmetric padding), Relu,
Sigmoid, Tanh, Curve, Add, Sub and Concat along channels. The cases, numbered as in the code:
  1. Conv: groups and dilation written out as zeros of a dense kernel;
  2. Affine by channel: folded into the convolution before it, as long as its weights are then not rounded
     more often than `rigour.FOLDING` allows for, else a 1x1 convolution;
  3. Clip: low + relu(x - low), then high - relu(high - x); with a limit so large that x is lost in the
     difference, x + relu(low - x) and x - relu(x - high), whose relu is exactly 0 where x is within;
  4. MaxPool: max(a, b) = b + relu(a - b) as a tournament over strided selections of the window, any Relu
     around it moved behind it (relu and max commute);
  5. AveragePool and Pad: convolutions, and a shift around them where the padding is not 0;
  6. Identity: dropped;
  7. LeakyRelu, PRelu: slope * x + (1 - slope) * relu(x), which relaxes to the same two lines;
  8. HardSigmoid: Affine, then Clip to [0, 1];
  9. Slice and Channels: a 1x1 convolution that selects channels.
Anything else is refused: a layer an engine would bound wrongly or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NoReturn, Protocol

import torch
from torch import Tensor, nn

from corgi.engines.rigour import FOLDING
from corgi.engines.rules import rule_of
from corgi.errors import EngineError
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.network.network import Network
from corgi.network.passes.limits import LARGE_LIMIT
from corgi.network.rules import dense_kernel, spread_dilation, symmetric_kernel

PLAIN_LAYERS = (
    layers.Conv,
    layers.Relu,
    layers.Sigmoid,
    layers.Tanh,
    layers.Curve,
    layers.Add,
    layers.Sub,
    layers.Concat,
)
"""What a lowered trunk consists of; engines and `rounding.py` have a rule for each and no other."""


_SCALE_ROUNDINGS = 3
"""Of a scale that was computed: gamma / sqrt(variance + epsilon)."""


class Lowerable(Protocol):
    """What of a network is lowered: with or without a CAM head."""

    @property
    def path(self) -> Path:
        """The model file, for messages."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[C, H, W] of the input."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each value of the trunk at batch size 1."""

    @property
    def trunk(self) -> TorchGraph:
        """The steps, float64; every value is [N, C, H, W]."""


def lower_trunk(network: Lowerable) -> TorchGraph:
    """The trunk of a network in plain layers, float64.

    Raises:
        EngineError: a layer outside the cases above, named with its node.
    """
    return Lowering(network).run()


def check_plain(network: Lowerable) -> None:
    """Refuse what `lower_trunk` refuses, by the layers alone: kernels written out may take gigabytes.

    Raises:
        EngineError: as `lower_trunk`.
    """
    _Check(network).run()


def explained_class(network: Network, class_id: int) -> layers.Conv:
    """The 1x1 convolution with kernel w^c that turns the feature map into the map (theory 1.2)."""
    weight = network.head.weight[class_id][None, :, None, None]
    return layers.Conv(weight, weight.new_zeros(1))


class Lowering:
    """State of one rewriting: the steps so far and what each old value became.

    The patch engine knows more layers than the plain ones, and keeps them by overriding the cases here
    (`patch/prepare.py`).
    """

    def __init__(self, network: Lowerable) -> None:
        self.network, self.trunk = network, network.trunk
        self.renamed = {self.trunk.input_name: self.trunk.input_name}
        self.channels = {self.trunk.input_name: network.input_shape[0]}
        self.steps: list[Step] = []
        self.uses: dict[str, list[Step]] = {}
        for step in self.trunk.steps:
            for name in step.inputs:
                self.uses.setdefault(name, []).append(step)

    def run(self) -> TorchGraph:
        """The rewritten trunk."""
        for step in self.trunk.steps:
            self.renamed[step.output] = self.lower(step)
        output = self.renamed[self.trunk.output_name]
        return TorchGraph(tuple(self.steps), self.trunk.input_name, output).eval()

    RULES: ClassVar[dict[type[nn.Module], str]] = {
        layers.Conv: "conv",
        layers.Affine: "affine",
        layers.Clip: "clip",
        layers.MaxPool: "windows",
        layers.Relu: "relu",
        layers.AveragePool: "average_pool",
        layers.Pad: "padded",
        layers.Identity: "identity",
        layers.Slice: "sliced",
        layers.Channels: "shuffled",
        layers.Add: "combine",
        layers.Sub: "combine",
        layers.Concat: "concat",
        layers.LeakyRelu: "leaky_relu",
        layers.PRelu: "prelu",
        layers.HardSigmoid: "hard_sigmoid",
        layers.Sigmoid: "kept",
        layers.Tanh: "kept",
        layers.Curve: "kept",
    }
    """The method that emits a layer: of the step, the layer and what its inputs became."""

    def lower(self, step: Step) -> str:
        """Emit a step in layers we know; the name of what it became."""
        try:
            rule = rule_of(self.RULES, step.layer)
        except TypeError:
            self.unknown(step)
        made: str = getattr(self, rule)(step, step.layer, *(self.renamed[name] for name in step.inputs))
        return made

    def unknown(self, step: Step) -> NoReturn:
        """Refuse a layer that has no case."""
        self.refuse(step, "this operator inside the trunk", "layers that keep [N, C, H, W]")

    def kept(self, step: Step, layer: nn.Module, *inputs: str) -> str:
        """A plain layer."""
        return self.emit(step, layer, inputs)

    def identity(self, step: Step, layer: nn.Module, source: str) -> str:
        """Case 6."""
        return source

    def windows(self, step: Step, layer: layers.MaxPool, source: str) -> str:
        """Case 4, but for windows of padding alone.

        Their maximum is -infinity; a Relu that comes behind the pool instead would make it 0.
        """
        image = torch.zeros(1, 1, *self.network.shapes[step.inputs[0]][2:])
        if bool(layer(image).isinf().any()):
            self.refuse(step, "windows of padding alone", "windows that hold a value")
        return self.max_pool(step, layer, source)

    def relu(self, step: Step, layer: layers.Relu, source: str) -> str:
        """Case 4: where only pools read it, it comes behind them."""
        return source if self.pooled_only(step.output) else self.emit(step, layer, (source,))

    def padded(self, step: Step, layer: layers.Pad, source: str) -> str:
        """Case 5: pad(x, v) = pad(x - v, 0) + v."""
        if any((*layer.before[:2], *layer.after[:2])):
            self.refuse(step, "padding of channels", "padding of height and width")
        if math.isinf(layer.value):
            self.refuse(step, "padding by -infinity here", "such padding in front of a MaxPool")
        value = self.channelwise(step, source, 1.0, -layer.value)
        (top, left), (bottom, right) = layer.before[2:], layer.after[2:]
        value = self.pad(step, (top, left, bottom, right), value)
        return self.channelwise(step, value, 1.0, layer.value)

    def leaky_relu(self, step: Step, layer: layers.LeakyRelu, source: str) -> str:
        """Case 7."""
        kept = self.channelwise(step, source, layer.slope, 0.0)
        positive = self.emit(step, layers.Relu(), (source,))
        positive = self.channelwise(step, positive, 1 - layer.slope, 0.0)
        return self.emit(step, layers.Add(), (kept, positive))

    def hard_sigmoid(self, step: Step, layer: layers.HardSigmoid, source: str) -> str:
        """Case 8."""
        source = self.channelwise(step, source, layer.alpha, layer.beta)
        return self.clip(step, layers.Clip(0.0, 1.0), source)

    def sliced(self, step: Step, layer: layers.Slice, source: str) -> str:
        """Case 9."""
        if layer.axis != 1:
            self.unknown(step)
        return self.select(step, tuple(range(layer.start, layer.stop, layer.step)), source)

    def shuffled(self, step: Step, layer: layers.Channels, source: str) -> str:
        """Case 9."""
        return self.select(step, layer.order, source)

    def select(self, step: Step, channels: tuple[int, ...], source: str) -> str:
        """Case 9."""
        weight = torch.zeros(len(channels), self.channels[source], 1, 1, dtype=torch.float64)
        weight[range(len(channels)), channels] = 1.0
        return self.emit(step, layers.Conv(weight, weight.new_zeros(len(channels))), (source,))

    def emit(self, step: Step, layer: nn.Module, inputs: tuple[str, ...]) -> str:
        """Add a step; the name of its output."""
        name = f"{step.output}:{len(self.steps)}"
        while name in self.channels:  # a file may call its input so
            name += "'"
        self.steps.append(Step(step.node, step.op, layer, inputs, name))
        match layer:
            case layers.Conv():
                self.channels[name] = int(layer.weight.shape[0])
            case layers.Concat():
                self.channels[name] = sum(self.channels[i] for i in inputs)
            case _:
                self.channels[name] = self.channels[inputs[0]]
        return name

    def refuse(self, step: Step, what: str, supported: str) -> NoReturn:
        """Raise the EngineError that names the node and what would be supported."""
        raise EngineError(
            f"{self.network.path}: {step}: the bounding engine does not support {what}",
            hint=f"Supported: {supported}.",
        )

    def pooled_only(self, value: str) -> bool:
        """Whether nothing but pools reads a value."""
        uses = self.uses.get(value, [])
        only = bool(uses) and all(isinstance(s.layer, layers.MaxPool) for s in uses)
        return only and value != self.trunk.output_name

    def conv(self, step: Step, layer: layers.Conv, source: str) -> str:
        """Case 1."""
        weight = spread_dilation(dense_kernel(layer.weight, layer.groups), layer.dilation)
        return self.emit(step, layers.Conv(weight, layer.bias, layer.stride, layer.padding), (source,))

    def pad(self, step: Step, pads: tuple[int, int, int, int], source: str) -> str:
        """Case 5, zero padding by (top, left, bottom, right)."""
        eye = _selection(self.channels[source], (1, 1), 0)
        return self.emit(step, padded_conv(eye, (1, 1), pads), (source,))

    def affine(self, step: Step, layer: layers.Affine, source: str) -> str:
        """Case 2."""
        self.keeps_shape(step)
        channels = self.channels[source]
        try:
            scale = layer.scale.broadcast_to(channels, 1, 1).reshape(-1)
            shift = layer.shift.broadcast_to(channels, 1, 1).reshape(-1)
            magnitude = layer.shift_magnitude.broadcast_to(channels, 1, 1).reshape(-1)
        except RuntimeError:
            return self.affine_map(step, layer, source)
        last = self.steps[-1] if self.steps else None
        # Folding changes the value called `source`, so nobody else may read it under any of its names.
        names = [old for old, new in self.renamed.items() if new == source]
        ours_alone = names == [step.inputs[0]] and len(self.uses[step.inputs[0]]) == 1
        conv = last.layer if last and last.output == source else None
        # A weight takes over the roundings of the scale, and those of the product.
        more = 1 if layer.rest is None else _SCALE_ROUNDINGS + 1
        if last and isinstance(conv, layers.Conv) and ours_alone and conv.roundings + more <= FOLDING - 2:
            weight = conv.weight * scale[:, None, None, None]
            bias, magnitude = conv.bias * scale + shift, conv.bias_magnitude * scale.abs() + magnitude
            folded = layers.Conv(
                weight,
                bias,
                conv.stride,
                conv.padding,
                conv.dilation,
                conv.groups,
                bias_magnitude=magnitude,
                roundings=conv.roundings + more,
            )
            self.steps[-1] = replace(last, layer=folded)
            return source
        return self.diagonal(step, scale, shift, magnitude, source)

    def keeps_shape(self, step: Step) -> None:
        """Refuse constants that enlarge: a unit that is copied is read by several, which nobody counts."""
        before, after = self.network.shapes[step.inputs[0]], self.network.shapes[step.output]
        if before != after:
            self.refuse(step, f"constants that enlarge {list(before)} to {list(after)}", "constants that fit")

    def affine_map(self, step: Step, layer: layers.Affine, source: str) -> str:
        """Case 2 where the constants vary over the map."""
        self.refuse(step, "constants that vary over the map", "one constant a channel")

    def diagonal(self, step: Step, scale: Tensor, shift: Tensor, magnitude: Tensor, source: str) -> str:
        """A scale and a shift [C] a channel."""
        weight = torch.diag(scale)[:, :, None, None]
        conv = layers.Conv(weight, shift, bias_magnitude=magnitude, roundings=_SCALE_ROUNDINGS)
        return self.emit(step, conv, (source,))

    def clip(self, step: Step, layer: layers.Clip, source: str) -> str:
        """First y = max(x, low), then min(y, high)."""
        value = source
        for limit, sign in ((layer.low, 1.0), (layer.high, -1.0)):
            if math.isinf(limit):
                continue
            if abs(limit) <= LARGE_LIMIT:
                value = self.channelwise(step, value, sign, -sign * limit)
                value = self.emit(step, layers.Relu(), (value,))
                value = self.channelwise(step, value, sign, limit)
            else:
                beyond = self.channelwise(step, value, -sign, sign * limit)
                beyond = self.emit(step, layers.Relu(), (beyond,))
                value = self.emit(step, layers.Add() if sign > 0 else layers.Sub(), (value, beyond))
        return value

    def prelu(self, step: Step, layer: layers.PRelu, source: str) -> str:
        """Case 7 with a slope a channel."""
        channels = self.channels[source]
        try:
            slope = layer.slope.broadcast_to(channels, 1, 1).reshape(-1)
        except RuntimeError:
            self.refuse(step, "slopes that vary over the map", "one slope a channel")
        nothing = torch.zeros_like(slope)
        kept = self.diagonal(step, slope, nothing, nothing, source)
        positive = self.emit(step, layers.Relu(), (source,))
        positive = self.diagonal(step, 1 - slope, nothing, nothing, positive)
        return self.emit(step, layers.Add(), (kept, positive))

    def channelwise(self, step: Step, source: str, scale: float, shift: float) -> str:
        """The same scale and shift for all channels."""
        if (scale, shift) == (1.0, 0.0):
            return source
        scales = torch.full((self.channels[source],), scale, dtype=torch.float64)
        shifts = torch.full_like(scales, shift)
        return self.diagonal(step, scales, shifts, shifts.abs(), source)

    def max_pool(self, step: Step, layer: layers.MaxPool, source: str) -> str:
        """Case 4."""
        if layer.ceil_mode:
            self.refuse(step, "attribute ceil_mode=1", "ceil_mode=0")
        if layer.dilation != (1, 1):
            self.refuse(step, f"attribute dilations={list(layer.dilation)}", "dilations=[1, 1]")
        producer = next((s for s in self.trunk.steps if s.output == step.inputs[0]), None)
        before = producer is not None and isinstance(producer.layer, layers.Relu)
        after = self.uses.get(step.output, [])
        behind = len(after) == 1 and isinstance(after[0].layer, layers.Relu)
        if any(layer.pads) and not (before or behind):
            # A selection reads 0 in the padding, which is harmless only if relu clips the maximum at 0.
            self.refuse(step, "padding without a Relu before or behind", "padded pooling of Relu outputs")
        moved = before and self.pooled_only(step.inputs[0])
        pooled = self.tournament(step, layer, source)
        return self.emit(step, layers.Relu(), (pooled,)) if moved else pooled

    def tournament(self, step: Step, layer: layers.MaxPool, source: str) -> str:
        """Pairwise maxima: max(a, b) = b + relu(a - b). The first round's a - b is one convolution."""
        channels, size = self.channels[source], layer.kernel[0] * layer.kernel[1]

        def select(kernel: Tensor) -> str:
            return self.emit(step, padded_conv(kernel, layer.stride, layer.pads), (source,))

        one = [_selection(channels, layer.kernel, j) for j in range(size)]
        values = []
        for a, b in zip(one[0::2], one[1::2], strict=False):
            over = self.emit(step, layers.Relu(), (select(a - b),))
            values.append(self.emit(step, layers.Add(), (select(b), over)))
        if size % 2:
            values.append(select(one[-1]))
        while len(values) > 1:
            first, second, *rest = values
            difference = self.emit(step, layers.Sub(), (first, second))
            over = self.emit(step, layers.Relu(), (difference,))
            values = [*rest, self.emit(step, layers.Add(), (second, over))]
        return values[0]

    def average_pool(self, step: Step, layer: layers.AveragePool, source: str) -> str:
        """Case 5."""
        if layer.ceil_mode:
            self.refuse(step, "attribute ceil_mode=1", "ceil_mode=0")
        if any(layer.pads) and not layer.count_include_pad:
            self.refuse(step, "padding with count_include_pad=0", "count_include_pad=1, or no padding")
        return self.mean(step, layer, source)

    def mean(self, step: Step, layer: layers.AveragePool, source: str) -> str:
        """The mean of every window, padding counted."""
        channels, (height, width) = self.channels[source], layer.kernel
        weight = torch.eye(channels, dtype=torch.float64)[:, :, None, None]
        weight = weight.expand(-1, -1, height, width) / (height * width)
        return self.emit(step, padded_conv(weight, layer.stride, layer.pads), (source,))

    def concat(self, step: Step, layer: layers.Concat, *inputs: str) -> str:
        """Side by side."""
        if layer.axis != 1:
            self.refuse(step, f"attribute axis={layer.axis}", "axis=1 (channels)")
        return self.emit(step, layer, inputs)

    def combine(self, step: Step, layer: nn.Module, *inputs: str) -> str:
        """Sums and differences, of several two by two."""
        first, *others = self.fitted(step, inputs)
        for other in others:
            first = self.emit(step, layer, (first, other))
        return first

    def fitted(self, step: Step, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """Operands in the shape of the output."""
        if len({self.network.shapes[name] for name in step.inputs}) != 1:
            self.refuse(step, "operands of different shapes", "operands of one shape")
        return inputs


class KeepingGroups(Lowering):
    """The same, but for groups and dilation: written out they add only zeros to a sum."""

    def conv(self, step: Step, layer: layers.Conv, source: str) -> str:
        """Case 1, as it is."""
        return self.emit(step, layer, (source,))

    def pad(self, step: Step, pads: tuple[int, int, int, int], source: str) -> str:
        """Case 5, channel by channel."""
        channels = self.channels[source]
        ones = torch.ones(channels, 1, 1, 1, dtype=torch.float64)
        return self.emit(step, padded_conv(ones, (1, 1), pads, channels), (source,))


class _Check(Lowering):
    """The same cases, each convolution and constant that would be written out left away."""

    def nothing(self, step: Step, channels: int, source: str) -> str:
        """A step that only has its channels."""
        name = self.emit(step, layers.Identity(), (source,))
        self.channels[name] = channels
        return name

    def conv(self, step: Step, layer: layers.Conv, source: str) -> str:
        return self.nothing(step, len(layer.weight), source)

    def select(self, step: Step, channels: tuple[int, ...], source: str) -> str:
        return self.nothing(step, len(channels), source)

    def pad(self, step: Step, pads: tuple[int, int, int, int], source: str) -> str:
        return self.nothing(step, self.channels[source], source)

    def diagonal(self, step: Step, scale: Tensor, shift: Tensor, magnitude: Tensor, source: str) -> str:
        return self.nothing(step, self.channels[source], source)

    def tournament(self, step: Step, layer: layers.MaxPool, source: str) -> str:
        return self.nothing(step, self.channels[source], source)

    def mean(self, step: Step, layer: layers.AveragePool, source: str) -> str:
        return self.nothing(step, self.channels[source], source)


def _selection(channels: int, kernel: tuple[int, int], index: int) -> Tensor:
    """The kernel [C, C, kh, kw] that reads element `index` (row-major) of the window, channel by channel."""
    weight = torch.zeros(channels, channels, *kernel, dtype=torch.float64)
    weight[range(channels), range(channels), index // kernel[1], index % kernel[1]] = 1.0
    return weight


def padded_conv(
    weight: Tensor, stride: tuple[int, int], pads: tuple[int, int, int, int], groups: int = 1
) -> layers.Conv:
    """A convolution without bias, padded by (top, left, bottom, right); its weights may be 1 / a count."""
    kernel, padding, _ = symmetric_kernel(weight, pads, (1, 1))
    bias, whole = kernel.new_zeros(kernel.shape[0]), bool((kernel == kernel.round()).all())
    return layers.Conv(kernel, bias, stride, padding, groups=groups, roundings=0 if whole else 1)
