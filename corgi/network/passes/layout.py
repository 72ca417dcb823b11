"""Take transpositions out of a converted network: every image-shaped value becomes [N, C, H, W].

Files from Keras and TensorFlow keep their values as [N, H, W, C] and transpose around each convolution. Here
a value of the file is followed as  value = base.permute(order)  of a base that needs no transposition:

  Transpose, and a Reshape that only moves axes of size 1:   the order changes, nothing is computed;
  elementwise layers, constants, sums, Concat, Mean:         act on the bases, axes and constants moved along;
  Linear over the channels of [N, H, W, C]:                  a 1x1 convolution of the base;
  anything else:                                             the base is brought into the file's order first.

A network without transpositions passes unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from corgi.network import layers
from corgi.network.convert import Converted, Step, TorchGraph

Order = tuple[int, ...]
Shape = tuple[int, ...]
_FIRST, _LAST = (0, 1, 2, 3), (0, 2, 3, 1)


def channels_first(found: Converted) -> Converted:
    """The same network without transpositions where that is possible."""
    if not any(_moves(step, found) for step in found.module.steps):
        return found
    return _Layout(found).run()


def _moves(step: Step, found: Converted) -> bool:
    """Whether a step can stand for a transposition."""
    ranks = [len(found.shapes[name]) for name in (*step.inputs, step.output)]
    reshapes = isinstance(step.layer, layers.Reshape) and ranks == [4, 4]
    return isinstance(step.layer, layers.Transpose) or reshapes


@dataclass(frozen=True)
class _Base:
    """A value of the file: `name` in the new network, permuted by `order`; `shape` of the base."""

    name: str
    order: Order
    shape: tuple[int, ...]


class _Layout:
    """State of one rewriting: the steps so far, and what each value of the file is."""

    def __init__(self, found: Converted) -> None:
        self.found = found
        self.steps: list[Step] = []
        self.makers = {step.output: step for step in found.module.steps}
        name = found.module.input_name
        self.values = {name: _plain(name, found.shapes[name])}
        self.bases = dict(self.values)

    def run(self) -> Converted:
        for step in self.found.module.steps:
            self.values[step.output] = self.moved(step)
        output = self.materialised(self.found.module.output_name)
        module = TorchGraph(tuple(self.steps), self.found.module.input_name, output.name)
        shapes = {name: base.shape for name, base in self.bases.items()}
        return Converted(module, shapes, {name: base.order for name, base in self.bases.items()})

    def emit(self, step: Step, layer: nn.Module, inputs: Iterable[_Base], order: Order) -> _Base:
        """Add a step that makes a base for the step's output."""
        self.steps.append(replace(step, layer=layer, inputs=tuple(base.name for base in inputs)))
        shape = _back_shape(self.found.shapes[step.output], order)
        self.bases[step.output] = _Base(step.output, order, shape)
        return self.bases[step.output]

    def moved(self, step: Step) -> _Base:
        """What a step makes, in terms of the bases of what it reads where that is possible."""
        inputs, shape = [self.values[name] for name in step.inputs], self.found.shapes[step.output]
        layer, first, plain = step.layer, inputs[0], tuple(range(len(shape)))
        if isinstance(layer, layers.Transpose):
            return replace(first, order=tuple(first.order[a] for a in layer.order))
        if isinstance(layer, layers.Reshape) and _same_memory(first):
            order = _order_of(first.shape, shape)
            return self.emit(step, layer, [first], plain) if order is None else replace(first, order=order)
        rule = next((rule for kind, rule in _RULES.items() if isinstance(layer, kind)), None)
        alike = len({base.order for base in inputs}) == 1
        made = rule(layer, first, shape) if rule is not None and alike else None
        if made is not None:
            return self.emit(step, made, inputs, first.order if len(shape) == len(first.order) else plain)
        return self.emit(step, layer, [self.materialised(name) for name in step.inputs], plain)

    def materialised(self, value: str) -> _Base:
        """A value of the file in the order in which the file has it, under the file's name."""
        base = self.values[value]
        if base.order == tuple(range(len(base.order))):
            return base
        name = f"{value}:turned" if value == base.name else value
        while name != value and name in self.makers:  # the file has a value of that name
            name += "'"
        if name not in self.bases:
            made = self.makers[value]
            turn = layers.Transpose(base.order)
            self.steps.append(replace(made, op="Transpose", layer=turn, inputs=(base.name,), output=name))
            self.bases[name] = _plain(name, _seen(base))
        return self.bases[name]


def _plain(name: str, shape: tuple[int, ...]) -> _Base:
    return _Base(name, tuple(range(len(shape))), shape)


def _seen(base: _Base) -> tuple[int, ...]:
    """The shape the file's value has."""
    return tuple(base.shape[a] for a in base.order)


def _same_memory(base: _Base) -> bool:
    """Whether permuting the base leaves its elements in their sequence: axes that matter keep their order."""
    axes = [a for a in base.order if base.shape[a] != 1]
    return axes == sorted(axes)


def _order_of(shape: tuple[int, ...], target: tuple[int, ...]) -> Order | None:
    """An order with which a permutation of `shape` is a reshape to `target`; None if there is none.

    The batch axis stays first; axes of size 1 go where `target` has one, the others keep their sequence.
    """
    ones = [a for a, size in enumerate(shape) if size == 1 and a > 0]
    others = [a for a, size in enumerate(shape) if size != 1 and a > 0]
    order = [0]
    if len(shape) != len(target):
        return None
    for size in target[1:]:
        source = ones if size == 1 else others
        if not source:
            return None
        order.append(source.pop(0))
    return tuple(order) if tuple(shape[a] for a in order) == target else None


def _places(order: Order) -> list[int]:
    """Which axis of the file's value each axis of the base is."""
    return [order.index(axis) for axis in range(len(order))]


def _back_shape(sizes: tuple[int, ...], order: Order) -> tuple[int, ...]:
    """Numbers by axis of the file's value, by axis of the base."""
    return tuple(sizes[axis] for axis in _places(order))


def _back(constant: Tensor, order: Order) -> Tensor:
    """A constant that broadcasts against a value without its batch axis, for the value's base."""
    rank = len(order) - 1
    full = constant.reshape((1,) * (rank - constant.dim()) + tuple(constant.shape))
    return full.permute([axis - 1 for axis in _places(order)[1:]]).contiguous()


def _itself(layer: nn.Module, first: _Base, shape: Shape) -> nn.Module:
    return layer


def _affine(layer: layers.Affine, first: _Base, shape: Shape) -> nn.Module | None:
    if layer.scale.dim() >= len(first.order) or shape != _seen(first):
        return None
    return layer.moved(lambda constant: _back(constant, first.order))


def _prelu(layer: layers.PRelu, first: _Base, shape: Shape) -> nn.Module | None:
    fits = layer.slope.dim() < len(first.order)
    return layers.PRelu(_back(layer.slope, first.order)) if fits else None


def _standardise(layer: layers.Standardise, first: _Base, shape: Shape) -> nn.Module | None:
    if layer.scale.dim() >= len(first.order) or layer.groups != 1:
        return None
    axes = tuple(sorted(first.order[a] for a in layer.axes))
    scale, shift = _back(layer.scale, first.order), _back(layer.shift, first.order)
    return layers.Standardise(axes, layer.epsilon, scale, shift)


def _slice(layer: layers.Slice, first: _Base, shape: Shape) -> nn.Module:
    return layers.Slice(first.order[layer.axis], layer.start, layer.stop, layer.step)


def _pad(layer: layers.Pad, first: _Base, shape: Shape) -> nn.Module:
    before, after = (_back_shape(amounts, first.order) for amounts in (layer.before, layer.after))
    return layers.Pad(before, after, layer.value)


def _reduction(layer: layers.Reduction, first: _Base, shape: Shape) -> nn.Module | None:
    if layer.axes == (2, 3) and first.order not in (_FIRST, _LAST):
        return None  # a map whose axes are turned about otherwise is brought into its own order first
    axes = tuple(sorted(first.order[a] for a in layer.axes))
    left = [a for a in first.order if a not in axes]
    return type(layer)(axes, layer.keepdims) if layer.keepdims or left == sorted(left) else None


def _linear(layer: layers.Linear, first: _Base, shape: Shape) -> nn.Module | None:
    if len(first.order) != 4 or first.order[-1] != 1:
        return None
    return layers.Conv(layer.weight.T[:, :, None, None].contiguous(), layer.bias)


_RULES: Mapping[type[nn.Module], Callable[[Any, _Base, Shape], nn.Module | None]] = {
    layers.Affine: _affine,
    layers.PRelu: _prelu,
    layers.Standardise: _standardise,
    **dict.fromkeys((layers.Elementwise, layers.Add, layers.Sub, layers.Mul, layers.Div), _itself),
    layers.Concat: lambda layer, first, shape: layers.Concat(first.order[layer.axis]),
    layers.Slice: _slice,
    layers.Pad: _pad,
    layers.Take: lambda layer, first, shape: layer.permuted(_places(first.order)),
    layers.Reduction: _reduction,
    layers.Linear: _linear,
}
"""What a layer is on bases of one order, of which the first is given, and the shape of the file's value; None
where it is no layer there. All others need the file's order."""
