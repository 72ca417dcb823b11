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

from dataclasses import dataclass, replace

from torch import Tensor, nn

from corgi.network import layers
from corgi.network.convert import Converted, Step, TorchGraph

Order = tuple[int, ...]
_FIRST, _LAST = (0, 1, 2, 3), (0, 2, 3, 1)

_ELEMENTWISE = (
    layers.Relu,
    layers.LeakyRelu,
    layers.Sigmoid,
    layers.Tanh,
    layers.HardSigmoid,
    layers.Erf,
    layers.Curve,
    layers.Power,
    layers.Exp,
    layers.Log,
    layers.Clip,
    layers.Identity,
)


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
        module = TorchGraph(tuple(self.steps), self.found.module.input_name, output.name).eval()
        shapes = {name: base.shape for name, base in self.bases.items()}
        return Converted(module, shapes, {name: base.order for name, base in self.bases.items()})

    def emit(
        self, step: Step, layer: nn.Module, inputs: tuple[str, ...], shape: tuple[int, ...], order: Order
    ) -> _Base:
        """Add a step that makes a base for the step's output."""
        self.steps.append(replace(step, layer=layer, inputs=inputs))
        self.bases[step.output] = _Base(step.output, order, shape)
        return self.bases[step.output]

    def moved(self, step: Step) -> _Base:
        inputs = [self.values[name] for name in step.inputs]
        first, shape = inputs[0], self.found.shapes[step.output]
        match step.layer:
            case layers.Transpose() as transpose:
                return replace(first, order=tuple(first.order[a] for a in transpose.order))
            case layers.Reshape() if len(shape) == len(first.shape):
                order = _order_of(first.shape, shape)
                if order is not None and _same_memory(first):
                    return replace(first, order=order)
            case layers.Affine() as affine if len(affine.scale.shape) < len(first.order) and shape == _seen(
                first
            ):
                parts = (affine.scale, affine.shift, affine.shift_magnitude, *(affine.rest or ()))
                scale, shift, magnitude, *rest = (_back(v, first.order) for v in parts)
                layer = layers.Affine(scale, shift, magnitude, rest=(rest[0], rest[1]) if rest else None)
                return self.emit(step, layer, (first.name,), first.shape, first.order)
            case layers.PRelu(slope=slope) if slope.dim() < len(first.order):
                turned = layers.PRelu(_back(slope, first.order))
                return self.emit(step, turned, (first.name,), first.shape, first.order)
            case layers.Standardise() as norm if norm.scale.dim() < len(first.order) and norm.groups == 1:
                axes = tuple(sorted(first.order[a] for a in norm.axes))
                scale, shift = (_back(constant, first.order) for constant in (norm.scale, norm.shift))
                moved_norm = layers.Standardise(axes, norm.epsilon, scale, shift)
                return self.emit(step, moved_norm, (first.name,), first.shape, first.order)
            case layers.Add() | layers.Sub() | layers.Mul() | layers.Div() if _alike(inputs):
                names = tuple(base.name for base in inputs)
                sizes = [max(each) for each in zip(*(base.shape for base in inputs), strict=True)]
                return self.emit(step, step.layer, names, tuple(sizes), first.order)
            case layers.Concat(axis=axis) if _alike(inputs):
                at = first.order[axis]
                names = tuple(base.name for base in inputs)
                together = [*first.shape[:at], sum(base.shape[at] for base in inputs), *first.shape[at + 1 :]]
                return self.emit(step, layers.Concat(at), names, tuple(together), first.order)
            case layers.Slice() as part:
                at = first.order[part.axis]
                size = shape[part.axis]
                cut = (*first.shape[:at], size, *first.shape[at + 1 :])
                sliced = layers.Slice(at, part.start, part.stop, part.step)
                return self.emit(step, sliced, (first.name,), cut, first.order)
            case layers.Pad() as pad:
                before, after = ([0] * len(first.order) for _ in range(2))
                for axis, at in enumerate(first.order):
                    before[at], after[at] = pad.before[axis], pad.after[axis]
                grown = tuple(map(sum, zip(first.shape, before, after, strict=True)))
                moved = layers.Pad(tuple(before), tuple(after), pad.value)
                return self.emit(step, moved, (first.name,), grown, first.order)
            case layers.Take() as take:
                places = [first.order.index(at) for at in range(len(first.order))]
                widened = tuple(shape[axis] for axis in places)
                return self.emit(step, take.permuted(places), (first.name,), widened, first.order)
            case layers.Reduction(axes=(2, 3)) if first.order not in (_FIRST, _LAST):
                pass  # a map whose axes are turned about otherwise is brought into its own order first
            case layers.Reduction() as reduction:
                axes = tuple(sorted(first.order[a] for a in reduction.axes))
                left = [a for a in first.order if a not in axes]
                pooled = type(reduction)(axes, reduction.keepdims)
                if reduction.keepdims:
                    kept = tuple(1 if a in axes else size for a, size in enumerate(first.shape))
                    return self.emit(step, pooled, (first.name,), kept, first.order)
                if left == sorted(left):
                    return self.emit(step, pooled, (first.name,), shape, tuple(range(len(shape))))
            case layers.Linear() as linear if len(first.order) == 4 and first.order[-1] == 1:
                conv = layers.Conv(linear.weight.T[:, :, None, None].contiguous(), linear.bias)
                made = (1, linear.weight.shape[1], *first.shape[2:])
                return self.emit(step, conv, (first.name,), made, first.order)
            case layer if isinstance(layer, _ELEMENTWISE):
                return self.emit(step, layer, (first.name,), first.shape, first.order)
        if isinstance(step.layer, layers.Reshape) and _same_memory(first):
            return self.emit(step, step.layer, (first.name,), shape, tuple(range(len(shape))))
        names = tuple(self.materialised(name).name for name in step.inputs)
        return self.emit(step, step.layer, names, shape, tuple(range(len(shape))))

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


def _alike(inputs: list[_Base]) -> bool:
    return len({base.order for base in inputs}) == 1


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
    for size in target[1:]:
        source = ones if size == 1 else others
        if not source:
            return None
        order.append(source.pop(0))
    return tuple(order) if tuple(shape[a] for a in order) == target else None


def _back(constant: Tensor, order: Order) -> Tensor:
    """A constant that broadcasts against a value without its batch axis, for the value's base."""
    rank = len(order) - 1
    full = constant.reshape((1,) * (rank - constant.dim()) + tuple(constant.shape))
    places = [a - 1 for a in order[1:]]
    return full.permute([places.index(a) for a in range(rank)]).contiguous()
