"""A trunk in the layers the patch engine bounds itself.

requires: a converted trunk (typed layers, samples independent).
ensures: the same function of one image, using only Conv (any stride, dilation, groups), Affine, Resample,
Maximum, Sigmoid, Tanh, Curve, Power, Add, Sub, Mul and Concat along channels. Values of another rank than
[N, C, H, W], of fully connected layers, become such first (`network/spatial.py`). Beyond the cases of
`lowering.py`:
  1. Conv keeps its groups and dilation;
  2. Affine that no convolution before it can take stays one, also with constants that vary over the map;
  4. Relu and MaxPool become Maximum; a Relu around a pool is merged with it (relu and max commute);
  5. AveragePool: the sums of its windows, each divided by the number of elements it counts;
 10. Mean and Sum: over channels a 1 x 1 convolution, over height and width a Resample, axes of size 1 kept;
 11. operands that are copied along an axis (broadcasting): a convolution of ones, a Resample of ones;
 12. entries taken along axes: a 1 x 1 convolution for channels, a Resample for rows and columns;
 13. Mul of a value with itself is its square, Div a product with the power -1, of a root -1/2;
 14. Max over height and width: Maximum along one, then the other; over channels: max(a, b) = b + relu(a - b)
     of two halves of them, until one is left;
 15. Standardise: means and squares of what is left, its product with the variance's power -1/2, an Affine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.engines.lowering import KeepingGroups, Lowerable, Lowering, padded_conv
from corgi.engines.rigour import roundings
from corgi.errors import EngineError, UnsupportedOperator
from corgi.network import layers
from corgi.network.convert import Converted, Step, TorchGraph
from corgi.network.expansion import quotient, two_sum
from corgi.network.spatial import as_convolutions


class Maximum(nn.Module):
    """Max over a window, and with `zero` also over 0: Relu (one element), MaxPool, or both at once.

    pads: (top, left, bottom, right) such that the last window ends where the padding does. Elements in the
    padding are never the maximum.
    """

    def __init__(
        self,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        zero: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.pads, self.zero = pads, zero

    @property
    def elements(self) -> int:
        """Elements of a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def elementwise(self) -> bool:
        """Whether a window is its own place: the layer is a Relu, or nothing at all."""
        return self.elements == 1 and self.stride == (1, 1) and not any(self.pads)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Where the elements stand in a window, from its corner."""
        rows, columns = range(self.kernel[0]), range(self.kernel[1])
        return [(y * self.dilation[0], x * self.dilation[1]) for y in rows for x in columns]

    @property
    def reach(self) -> tuple[int, int]:
        """Height and width of a window, dilation included."""
        height, width = self.offsets[-1]
        return height + 1, width + 1

    @property
    def readers(self) -> int:
        """In how many windows an element stands at most."""
        return math.prod(-(-reach // stride) for reach, stride in zip(self.reach, self.stride, strict=True))

    @property
    def tiles(self) -> bool:
        """Whether windows stand side by side, without dilation or padding."""
        return self.stride == self.kernel == self.reach and not any(self.pads)

    @property
    def overlaps(self) -> bool:
        """Whether an element can belong to several windows."""
        return self.reach[0] > self.stride[0] or self.reach[1] > self.stride[1]

    def windows(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H', W', elements]; -inf in the padding."""
        if self.elementwise:
            return x[..., None]
        top, left, bottom, right = self.pads
        if any(self.pads):
            x = F.pad(x, (left, right, top, bottom), value=-torch.inf)
        cut = x.unfold(2, self.reach[0], self.stride[0]).unfold(3, self.reach[1], self.stride[1])
        return cut[..., :: self.dilation[0], :: self.dilation[1]].flatten(-2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H', W']."""
        largest = self.windows(x).amax(-1)
        return largest.clamp(min=0) if self.zero else largest


_ROUNDED = roundings(32)
"""Of its terms: more than a shift or bias that was composed of several constants is off by."""


def least_value(step: Step, known: Mapping[str, float]) -> float:
    """What a step makes is at least, in real arithmetic, whatever the image; -inf: nothing is known.

    Squares, roots, sigmoids and maxima with 0 are at least 0, and so are sums of what is, with weights >= 0;
    a constant that is added counts then. `known`: the same of the values before it.
    """
    if isinstance(step.layer, layers.Sigmoid | layers.Softplus):
        return 0.0
    if not all(known.get(name, -math.inf) >= 0 for name in step.inputs):
        sign = isinstance(step.layer, layers.Power) and step.layer.exponent in (2, 0.5)
        return 0.0 if sign or (isinstance(step.layer, Maximum) and step.layer.zero) else -math.inf
    match step.layer:
        case layers.Affine() as affine if bool((affine.scale >= 0).all()):
            return float((affine.shift - _ROUNDED * affine.shift_magnitude).min())
        case layers.Conv() as conv:
            signed = (conv.weight >= 0).all() & (conv.bias - _ROUNDED * conv.bias_magnitude >= 0).all()
        case layers.Resample(rows=rows, columns=columns):
            signed = (rows >= 0).all() & (columns >= 0).all()
        case layers.Add() | layers.Mul() | layers.Concat() | Maximum() | layers.Power():
            return 0.0
        case _:
            return -math.inf
    return 0.0 if bool(signed) else -math.inf


POINTWISE = (
    layers.Affine,
    layers.Sigmoid,
    layers.Tanh,
    layers.Curve,
    layers.Power,
    layers.Add,
    layers.Sub,
    layers.Mul,
    layers.Concat,
)
"""Layers an output of which reads its own place of each input."""

LAYERS = (layers.Conv, layers.Resample, Maximum, *POINTWISE)
"""What a prepared trunk consists of; the engine has a rule for each and no other."""


@dataclass(frozen=True)
class _Spatial:
    """A network all values of which are [N, C, H, W]; fields as in `Lowerable`."""

    path: Path
    input_shape: tuple[int, int, int]
    shapes: Mapping[str, tuple[int, ...]]
    trunk: TorchGraph


def prepare(network: Lowerable, *, folding: bool = True) -> TorchGraph:
    """The trunk of a network in the layers of the patch engine, float64.

    Args:
        network: what is prepared.
        folding: whether convolutions take the constants behind them; if not, constants are the file's.

    Raises:
        EngineError: a layer it has no rule for, named with its node.
    """
    graph = _Preparation(_spatial(network), folding=folding).run()
    for step in graph.steps:
        if not isinstance(step.layer, LAYERS):
            raise TypeError(f"{step}: no rule for {type(step.layer).__name__}")
    return graph


def _spatial(network: Lowerable) -> Lowerable:
    """The same network in values [N, C, H, W]; itself if it is that already."""
    if all(len(network.shapes[step.output]) == 4 for step in network.trunk.steps):
        return network
    try:
        found = as_convolutions(Converted(network.trunk, network.shapes, {}))
    except UnsupportedOperator as error:
        raise EngineError(f"{network.path}: {error.message}", hint=error.hint) from error
    shape = network.shapes[network.trunk.output_name]
    same = torch.equal(found.outputs, torch.arange(len(found.outputs)))
    if not same or found.shapes[found.trunk.output_name] != shape:
        raise EngineError(
            f"{network.path}: the bounding engine does not support a feature map rearranged from a vector",
            hint="Supported: feature maps [N, C, H, W].",
        )
    return _Spatial(network.path, network.input_shape, found.shapes, found.trunk)


def cast(graph: TorchGraph, dtype: torch.dtype, device: str) -> TorchGraph:
    """The same steps in another precision, every constant of a layer included, on a device."""

    def replaced(layer: nn.Module) -> nn.Module:
        def moved(value: Tensor) -> Tensor:
            return value.to(dtype).to(device)

        match layer:
            case layers.Conv():
                return layers.Conv(
                    moved(layer.weight),
                    moved(layer.bias),
                    layer.stride,
                    layer.padding,
                    layer.dilation,
                    layer.groups,
                    bias_magnitude=moved(layer.bias_magnitude),
                )
            case layers.Affine():
                return layers.Affine(*map(moved, (layer.scale, layer.shift, layer.shift_magnitude)))
            case layers.Resample():
                return layers.Resample(moved(layer.rows), moved(layer.columns))
        return layer

    return graph.with_layers(replaced).eval()


class _Preparation(KeepingGroups):
    """The cases in which the patch engine keeps more than the plain layers."""

    def __init__(self, network: Lowerable, *, folding: bool) -> None:
        super().__init__(network)
        self.folding = folding
        self.least: dict[str, float] = {}

    RULES: ClassVar[dict[type[nn.Module], str]] = Lowering.RULES | {
        layers.Resample: "kept",
        layers.Take: "taken",
        layers.Power: "powered",
        layers.Mean: "reduced",
        layers.Sum: "reduced",
        layers.Max: "largest",
        layers.Standardise: "standardised",
        layers.Mul: "multiplied",
        layers.Div: "divided",
    }

    def relu(self, step: Step, layer: layers.Relu, source: str) -> str:
        """Nothing behind a Maximum that holds the zero already."""
        last = self.steps[-1] if self.steps else None
        if last is not None and last.output == source and isinstance(last.layer, Maximum) and last.layer.zero:
            return source
        return super().relu(step, layer, source)

    def taken(self, step: Step, layer: layers.Take, source: str) -> str:
        """Case 12."""
        if len(layer.entries) != 4 or layer.entries[0] is not None:
            self.unknown(step)
        _, channels, rows, columns = layer.entries
        if channels is not None:
            source = self.select(step, channels, source)
        return self.picked(step, (rows, columns), source)

    def sliced(self, step: Step, layer: layers.Slice, source: str) -> str:
        """Case 9, and of rows and columns case 12."""
        if layer.axis not in (2, 3):
            return super().sliced(step, layer, source)
        places = tuple(range(layer.start, layer.stop, layer.step))
        return self.picked(step, (places, None) if layer.axis == 2 else (None, places), source)

    def powered(self, step: Step, layer: layers.Power, source: str) -> str:
        """A power of what stands there."""
        return self.power(step, layer.exponent, source)

    def multiplied(self, step: Step, layer: layers.Mul, *inputs: str) -> str:
        """Case 13."""
        if inputs[0] == inputs[1]:
            return self.emit(step, layers.Power(2), inputs[:1])
        return self.emit(step, layer, self.fitted(step, inputs))

    def divided(self, step: Step, layer: layers.Div, source: str, by: str) -> str:
        """Case 13."""
        return self.emit(step, layers.Mul(), self.fitted(step, (source, self.inverse(step, by))))

    def picked(self, step: Step, entries: tuple[tuple[int, ...] | None, ...], source: str) -> str:
        """Case 12: rows and columns; None: all of them."""
        if entries == (None, None):
            return source
        sizes = self.network.shapes[step.inputs[0]][2:]
        chosen = (
            torch.eye(size, dtype=torch.float64)[list(range(size) if places is None else places)]
            for size, places in zip(sizes, entries, strict=True)
        )
        return self.emit(step, layers.Resample(*chosen), (source,))

    def standardised(self, step: Step, layer: layers.Standardise, source: str) -> str:
        """Case 15.

        With n values that share a mean and a variance, off_i^2 <= n variance, so no result exceeds sqrt(n).
        """
        shape, groups = self.network.shapes[step.output], layer.groups
        count = math.prod(shape[axis] for axis in layer.axes) / groups
        mean, small = self.pooled(step, source, shape, layer.axes, 1.0, groups)
        off = self.emit(step, layers.Sub(), (source, self.copied(step, mean, small, shape)))
        square = self.emit(step, layers.Power(2), (off,))
        variance, _ = self.pooled(step, square, shape, layer.axes, 1.0, groups)
        variance = self.channelwise(step, variance, 1.0, layer.epsilon)
        inverse = self.emit(step, layers.Power(-0.5, layer.epsilon), (variance,))
        operands = off, self.copied(step, inverse, small, shape)
        value = self.emit(step, layers.Mul(math.sqrt(count)), operands)
        constants = (c.broadcast_to(shape[1:]).clone() for c in (layer.scale, layer.shift))
        return self.emit(step, layers.Affine(*constants), (value,))

    def inverse(self, step: Step, source: str) -> str:
        """Case 13: 1 / z, and of a root z = sqrt(x) at once x^(-1/2)."""
        made = next((s for s in self.steps if s.output == source), None)
        if made is not None and isinstance(made.layer, layers.Power) and made.layer.exponent == 0.5:
            return self.power(step, -0.5, made.inputs[0])
        return self.power(step, -1, source)

    def power(self, step: Step, exponent: float, source: str) -> str:
        """A power, with what is known of its operand: intervals of sums of squares end a little below 0."""
        for made in self.steps[len(self.least) :]:  # the last is whole, too: a power follows it
            self.least[made.output] = least_value(made, self.least)
        return self.emit(step, layers.Power(exponent, self.least.get(source, -math.inf)), (source,))

    def reduced(self, step: Step, layer: layers.Reduction, source: str) -> str:
        """Case 10."""
        shape = self.network.shapes[step.inputs[0]]
        if not layer.keepdims:
            self.refuse(step, "axes that are dropped", "keepdims=1")
        count = math.prod(shape[axis] for axis in layer.axes) if isinstance(layer, layers.Sum) else 1.0
        return self.pooled(step, source, shape, layer.axes, count)[0]

    def largest(self, step: Step, layer: layers.Max, source: str) -> str:
        """Case 14."""
        if not layer.keepdims:
            self.refuse(step, "axes that are dropped", "keepdims=1")
        shape = self.network.shapes[step.inputs[0]]
        for axis in (2, 3):
            if axis in layer.axes:
                kernel = (shape[2], 1) if axis == 2 else (1, shape[3])
                source = self.emit(step, Maximum(kernel, zero=False), (source,))
        count = shape[1] if 1 in layer.axes else 1
        while count > 1:
            half, odd = count // 2, count % 2
            rest = (self.select(step, (count - 1,), source),) if odd else ()
            first, second = (self.select(step, tuple(range(i, i + half)), source) for i in (0, half))
            over = self.emit(step, layers.Relu(), (self.emit(step, layers.Sub(), (first, second)),))
            source = self.emit(step, layers.Add(), (second, over))
            source = self.emit(step, layers.Concat(1), (source, *rest)) if odd else source
            count = half + odd
        return source

    def pooled(
        self,
        step: Step,
        source: str,
        shape: tuple[int, ...],
        axes: tuple[int, ...],
        factor: float,
        groups: int = 1,
    ) -> tuple[str, tuple[int, ...]]:
        """`factor` times the mean over axes, which keep size 1, channels one a group; and its shape."""
        if 1 in axes:
            ones = torch.ones(groups, shape[1] // groups, 1, 1, dtype=torch.float64)
            weight = ones * (factor * groups / shape[1])
            conv = layers.Conv(weight, weight.new_zeros(groups), groups=groups, roundings=2)
            source, shape, factor = self.emit(step, conv, (source,)), (1, groups, *shape[2:]), 1.0
        if 2 in axes or 3 in axes:
            rows, columns = (
                torch.full((1, size), 1 / size, dtype=torch.float64)
                if axis in axes
                else torch.eye(size, dtype=torch.float64)
                for axis, size in ((2, shape[2]), (3, shape[3]))
            )
            source = self.emit(step, layers.Resample(factor * rows, columns), (source,))
            shape = (*shape[:2], len(rows), len(columns))
        return source, shape

    def fitted(self, step: Step, inputs: tuple[str, ...]) -> tuple[str, ...]:
        shape = self.network.shapes[step.output]
        return tuple(
            self.copied(step, source, self.network.shapes[name], shape)
            for name, source in zip(step.inputs, inputs, strict=True)
        )

    def copied(self, step: Step, source: str, before: tuple[int, ...], after: tuple[int, ...]) -> str:
        """Case 11: a value of one shape copied along its axes of size 1."""
        if before[1] != after[1]:
            ones = torch.ones(after[1], 1, 1, 1, dtype=torch.float64)
            conv = layers.Conv(ones, ones.new_zeros(after[1]), groups=before[1])
            source = self.emit(step, conv, (source,))
        if before[2:] != after[2:]:
            rows, columns = (
                torch.eye(size, dtype=torch.float64)
                if size == have
                else torch.ones(size, 1, dtype=torch.float64)
                for have, size in zip(before[2:], after[2:], strict=True)
            )
            source = self.emit(step, layers.Resample(rows, columns), (source,))
        return source

    def emit(self, step: Step, layer: nn.Module, inputs: tuple[str, ...]) -> str:
        return super().emit(step, Maximum() if isinstance(layer, layers.Relu) else layer, inputs)

    def affine_map(self, step: Step, layer: layers.Affine, source: str) -> str:
        shape = self.network.shapes[step.output][1:]
        constants = (layer.scale, layer.shift, layer.shift_magnitude)
        return self.emit(step, layers.Affine(*(c.broadcast_to(shape).clone() for c in constants)), (source,))

    def affine(self, step: Step, layer: layers.Affine, source: str) -> str:
        """Case 2; as it is where nothing is folded, with what float64 lost of its constants."""
        if self.folding:
            return super().affine(step, layer, source)
        self.keeps_shape(step)
        shape = self.network.shapes[step.output][1:]
        return self.emit(step, layer.moved(lambda c: c.broadcast_to(shape).clone()), (source,))

    def leaky_relu(self, step: Step, layer: layers.LeakyRelu, source: str) -> str:
        """Case 7."""
        self.needs_exact(step, torch.tensor(layer.slope, dtype=torch.float64))
        return super().leaky_relu(step, layer, source)

    def prelu(self, step: Step, layer: layers.PRelu, source: str) -> str:
        """Case 7 with a slope a channel."""
        self.needs_exact(step, layer.slope)
        return super().prelu(step, layer, source)

    def needs_exact(self, step: Step, slope: Tensor) -> None:
        """Where nothing is folded 1 - slope must be what it says."""
        if not self.folding and bool(two_sum(torch.ones_like(slope), -slope)[1].any()):
            self.refuse(step, "a slope that 1 - slope rounds", "slopes of few digits")

    def diagonal(self, step: Step, scale: Tensor, shift: Tensor, magnitude: Tensor, source: str) -> str:
        constants = (c[:, None, None] for c in (scale, shift, magnitude))
        return self.emit(step, layers.Affine(*constants), (source,))

    def max_pool(self, step: Step, layer: layers.MaxPool, source: str) -> str:
        producer = next((s for s in self.trunk.steps if s.output == step.inputs[0]), None)
        before = producer is not None and isinstance(producer.layer, layers.Relu)
        after = self.uses.get(step.output, [])
        behind = len(after) == 1 and isinstance(after[0].layer, layers.Relu)
        moved = before and self.pooled_only(step.inputs[0])
        only = behind and step.output != self.trunk.output_name
        pads = self.exact_pads(step, layer.kernel, layer.stride, layer.dilation, layer.pads[:2])
        maximum = Maximum(layer.kernel, layer.stride, layer.dilation, pads, zero=moved or only)
        return self.emit(step, maximum, (source,))

    def average_pool(self, step: Step, layer: layers.AveragePool, source: str) -> str:
        pads = self.exact_pads(step, layer.kernel, layer.stride, (1, 1), layer.pads[:2])
        channels = self.channels[source]
        ones = torch.ones(channels, 1, *layer.kernel, dtype=torch.float64)
        total = padded_conv(ones, layer.stride, pads, channels)
        # What a window counts: the sum of ones over their average.
        image = torch.ones(1, *self.network.shapes[step.inputs[0]][1:], dtype=torch.float64)
        share = layer(image)[0] / total(image)[0]
        if bool((share == share.flatten()[0]).all()):
            average = layers.Conv(
                total.weight * share.flatten()[0],
                total.bias,
                total.stride,
                total.padding,
                groups=channels,
                roundings=2,
            )
            return self.emit(step, average, (source,))
        value = self.emit(step, total, (source,))
        # Each is 1 / a whole number, which float64 need not hold.
        share, rest = quotient(torch.ones_like(share), (1 / share).round())
        nothing = torch.zeros_like(share)
        return self.emit(step, layers.Affine(share, nothing, rest=(rest, nothing)), (value,))

    def exact_pads(
        self,
        step: Step,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        before: tuple[int, ...],
    ) -> tuple[int, int, int, int]:
        """Padding (top, left, bottom, right) that ends with the last window, as ceil_mode may have it."""
        ends = []
        sizes, counts = self.network.shapes[step.inputs[0]][2:], self.network.shapes[step.output][2:]
        for axis in (0, 1):
            last = (counts[axis] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1
            ends.append(max(last - sizes[axis] - before[axis], 0))
        return before[0], before[1], ends[0], ends[1]
