"""Fully connected layers as convolutions, so that engines which know images can bound any plain network.

requires: a converted network.
ensures: the same function; every value is [N, C, H, W], and the file's output is a rearrangement of the last
one. The cases, numbered as in the code:
  1. Reshape, Transpose, Identity: no step; the value is a view of an earlier one;
  2. Linear on a vector, whatever it is a view of: a convolution whose kernel covers the whole value. Where
     its output becomes an image, convolutions of [N, F, 1, 1] with so much padding that every window holds
     that one pixel, each at another place;
  3. Mean and Sum over height and width: an average pool, a convolution with ones;
  4. elementwise layers act on what the view is of; constants are moved along;
  5. Add and Sub of equal views, and Concat of vectors that are no views of anything else;
  6. every other layer takes values [N, C, H, W] as they stand;
  7. a linear layer on any other view of a few elements is a matrix, as in case 2 (a convolution along the
     channels of a pooled value, as in ECA-Net).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor, nn

from corgi.errors import UnsupportedOperator
from corgi.network import layers
from corgi.network.convert import Converted, Step, TorchGraph

_ELEMENTWISE = (
    layers.Relu,
    layers.LeakyRelu,
    layers.Sigmoid,
    layers.Tanh,
    layers.HardSigmoid,
    layers.Curve,
    layers.Power,
    layers.Clip,
)

_MATRICES = (layers.Conv, layers.Linear, layers.Take, layers.Slice, layers.Channels)
"""Case 7: layers whose matrix is read off exactly."""

LARGEST_MATRIX = 2**24
"""Entries of a matrix of case 7, and of the identity it is read off with."""

LARGEST_KERNEL = 2**27
"""Entries of a convolution written for a fully connected layer."""


@dataclass(frozen=True)
class Spatial:
    """A network in values [N, C, H, W].

    Attributes:
        trunk: the steps; shapes: of its values.
        outputs: which element of the trunk's output (flattened) each output of the file is: int64 [outputs].
    """

    trunk: TorchGraph
    shapes: dict[str, tuple[int, ...]]
    outputs: Tensor


@dataclass(frozen=True)
class _View:
    """A value of the file: element i of it is element `index[i]` of `name`, both without batch axis."""

    name: str
    index: Tensor


def _numbers(shape: tuple[int, ...]) -> Tensor:
    """The elements of a value, numbered."""
    return torch.arange(math.prod(shape)).reshape(shape)


_NEED_IMAGES = (layers.Conv, layers.MaxPool, layers.AveragePool, layers.Pad, layers.Reduction)


def _images(found: Converted) -> dict[str, Tensor]:
    """Vectors that become images: which element of the vector each element [C, H, W] of the image is."""
    images: dict[str, Tensor] = {}
    for step in reversed(found.module.steps):
        source = step.inputs[0]
        shape = found.shapes[source]
        if isinstance(step.layer, _NEED_IMAGES) and len(shape) == 4 and math.prod(shape[2:]) > 1:
            images[source] = _numbers(shape[1:])
        elif step.output in images and math.prod(shape) == images[step.output].numel():
            if isinstance(step.layer, layers.Transpose):
                images[source] = step.layer(_numbers(shape)).flatten()[images[step.output]]
            elif isinstance(step.layer, (layers.Reshape, layers.Affine, layers.PRelu, *_ELEMENTWISE)):
                images[source] = images[step.output]
    return {name: order for name, order in images.items() if len(found.shapes[name]) != 4}


def as_convolutions(found: Converted) -> Spatial:
    """Rewrite a converted network.

    Raises:
        UnsupportedOperator: a layer outside the cases above, named with its node.
    """
    return _Rewriting(found).run()


class _Rewriting:
    """State of one rewriting: the steps so far, and what each value of the file is a view of."""

    def __init__(self, found: Converted) -> None:
        self.found = found
        name = found.module.input_name
        self.steps: list[Step] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.views = {name: self.fresh(name, found.shapes[name])}
        self.images = _images(found)

    def run(self) -> Spatial:
        module = self.found.module
        for step in module.steps:
            self.views[step.output] = self.moved(step)
        last = self.views[module.output_name]
        if last.name == module.input_name:
            raise UnsupportedOperator("the output is the input rearranged; nothing to decide")
        trunk = TorchGraph(tuple(self.steps), module.input_name, last.name).up_to(last.name).eval()
        return Spatial(trunk, self.shapes, last.index.flatten())

    def fresh(self, name: str, shape: tuple[int, ...]) -> _View:
        """A value that stands for itself; vectors become [N, F, 1, 1]."""
        inner = shape[1:]
        self.shapes[name] = shape if len(shape) == 4 else (1, math.prod(inner), 1, 1)
        return _View(name, torch.arange(math.prod(inner)).reshape(inner))

    def emit(self, step: Step, layer: nn.Module, *names: str) -> str:
        self.steps.append(replace(step, layer=layer, inputs=names))
        return step.output

    def kept(self, step: Step, layer: nn.Module, view: _View) -> _View:
        """A layer that acts element by element on what a view is of."""
        self.shapes[step.output] = self.shapes[view.name]
        return _View(self.emit(step, layer, view.name), view.index)

    def moved(self, step: Step) -> _View:
        inputs, shape = [self.views[name] for name in step.inputs], self.found.shapes[step.output]
        first = inputs[0]
        match step.layer:
            case layers.Identity():  # case 1
                return first
            case layers.Reshape():  # case 1
                return _View(first.name, first.index.reshape(shape[1:]))
            case layers.Transpose() as transpose:  # case 1
                return _View(first.name, first.index.permute([axis - 1 for axis in transpose.order[1:]]))
            case layers.Linear() as linear if linear.weight.shape[0] == first.index.numel():  # case 2
                if step.output in self.images:
                    return self.image(step, linear, self.vector(step, first), self.images[step.output])
                self.emit(step, self.whole(step, linear, first), first.name)
                return self.fresh(step.output, shape)
            case layers.Mean(axes=(2, 3)) if self.is_plain(first):  # case 3
                self.emit(step, layers.AveragePool(self.size(first), (1, 1)), first.name)
                return self.fresh(step.output, shape)
            case layers.Max(axes=(2, 3)) if self.is_plain(first):
                self.emit(step, layers.MaxPool(self.size(first), (1, 1)), first.name)
                return self.fresh(step.output, shape)
            case layers.Sum(axes=(2, 3)) if self.is_plain(first):  # case 3
                channels = first.index.shape[0]
                ones = torch.ones(channels, 1, *self.size(first), dtype=torch.float64)
                self.emit(step, layers.Conv(ones, ones.new_zeros(channels), groups=channels), first.name)
                return self.fresh(step.output, shape)
            case layers.Affine() as affine if (
                not self.is_plain(first) and shape[1:] == first.index.shape
            ):  # case 4
                parts = (affine.scale, affine.shift, affine.shift_magnitude, *(affine.rest or ()))
                scale, shift, magnitude, *rest = (self.back(part, first) for part in parts)
                moved = layers.Affine(scale, shift, magnitude, rest=(rest[0], rest[1]) if rest else None)
                return self.kept(step, moved, first)
            case layer if isinstance(layer, _ELEMENTWISE):  # case 4
                return self.kept(step, layer, first)
            case layers.PRelu(slope=slope) if slope.numel() == 1:  # case 4
                return self.kept(step, layers.PRelu(slope.reshape(())), first)
            case layers.Add() | layers.Sub() if self.alike(inputs):  # case 5
                self.shapes[step.output] = self.shapes[first.name]
                return _View(self.emit(step, step.layer, *(view.name for view in inputs)), first.index)
            case layers.Concat() if all(self.is_vector(view) for view in inputs):  # case 5
                self.emit(step, layers.Concat(1), *(view.name for view in inputs))
                return self.fresh(step.output, shape)
        if len(shape) != 4 or not all(map(self.is_plain, inputs)):  # case 6
            return self.matrix(step, first)
        self.emit(step, step.layer, *(view.name for view in inputs))
        return self.fresh(step.output, shape)

    def matrix(self, step: Step, view: _View) -> _View:
        """Case 7."""
        before, after = (self.found.shapes[name][1:] for name in (step.inputs[0], step.output))
        count, made, layer = math.prod(before), math.prod(after), step.layer
        if not isinstance(layer, _MATRICES) or count * max(count, made) > LARGEST_MATRIX:
            self.refuse(step)
        bias = layer(torch.zeros(1, *before, dtype=torch.float64)).flatten()
        if isinstance(layer, layers.Conv | layers.Linear):  # each entry alone, without the bias beside it
            layer = copy.deepcopy(layer)
            layer.bias.zero_()
        rows = layer(torch.eye(count, dtype=torch.float64).reshape(count, *before)).reshape(count, made)
        self.emit(step, self.whole(step, layers.Linear(rows, bias), view), view.name)
        self.shapes[step.output] = (1, made, 1, 1)
        return _View(step.output, torch.arange(made).reshape(after))

    def is_plain(self, view: _View) -> bool:
        """Whether a view is an image as it stands."""
        shape = self.shapes[view.name][1:]
        return view.index.shape == shape and torch.equal(view.index, _numbers(shape))

    def is_vector(self, view: _View) -> bool:
        """Whether a value [N, F] is [N, F, 1, 1] as it stands."""
        return view.index.dim() == 1 and self.shapes[view.name] == (1, len(view.index), 1, 1)

    def size(self, view: _View) -> tuple[int, int]:
        height, width = view.index.shape[1:]
        return height, width

    def whole(self, step: Step, linear: layers.Linear, view: _View) -> layers.Conv:
        """Case 2: x @ W + b of a view as a convolution that covers what it is a view of."""
        _, channels, height, width = self.shapes[view.name]
        rows = linear.weight.T
        if rows.numel() > LARGEST_KERNEL:
            self.refuse(step)
        kernel = torch.empty_like(rows)
        kernel[:, view.index.flatten()] = rows
        return layers.Conv(kernel.reshape(len(rows), channels, height, width).contiguous(), linear.bias)

    def vector(self, step: Step, view: _View) -> str:
        """Case 2: a view as a value [N, F, 1, 1], each element moved to its channel by a one."""
        count = view.index.numel()
        if self.is_vector(_View(view.name, view.index.flatten())) and torch.equal(
            view.index.flatten(), torch.arange(count)
        ):
            return view.name
        ones = layers.Linear(*(f(count, dtype=torch.float64) for f in (torch.eye, torch.zeros)))
        name = f"{step.output}:vector"
        self.shapes[name] = (1, count, 1, 1)
        self.steps.append(replace(step, layer=self.whole(step, ones, view), inputs=(view.name,), output=name))
        return name

    def image(self, step: Step, linear: layers.Linear, source: str, order: Tensor) -> _View:
        """Case 2: x @ W + b of a value [N, F, 1, 1] as an image [N, C, H, W], elements in the given order.

        First a column of H pixels in C W channels: padded by H - 1, the window of output y has the one pixel
        at H - 1 - y. Then, padded by W - 1, the window of output (y, x) of channel c has row y at W - 1 - x,
        and a one there takes what channel (c, x) has. Both in one convolution would cost W times more.
        """
        channels, height, width = order.shape
        rows = linear.weight.T[order]  # [C, H, W, F]
        column = rows.permute(0, 2, 3, 1).flatten(0, 1).flip(2)[..., None].contiguous()
        ones = torch.eye(width, dtype=rows.dtype).flip(1)[None, :, None].repeat(channels, 1, 1, 1)
        zeros = linear.bias.new_zeros(channels * width)
        made = (
            (
                f"{step.output}:column",
                (1, channels * width, height, 1),
                layers.Conv(column, zeros, padding=(height - 1, 0)),
            ),
            (
                f"{step.output}:image",
                (1, channels, height, width),
                layers.Conv(ones, zeros[:channels], padding=(0, width - 1), groups=channels),
            ),
            (
                step.output,
                (1, channels, height, width),
                layers.Affine(torch.ones_like(linear.bias[order]), linear.bias[order]),
            ),
        )
        for name, shape, layer in made:
            self.steps.append(replace(step, layer=layer, inputs=(source,), output=name))
            self.shapes[name], source = shape, name
        return _View(step.output, order.flatten().argsort().reshape(self.found.shapes[step.output][1:]))

    def back(self, constant: Tensor, view: _View) -> Tensor:
        """Case 4: a constant of a view where it belongs in what that is a view of."""
        spread = constant.broadcast_to(view.index.shape).flatten()
        placed = torch.empty_like(spread)
        placed[view.index.flatten()] = spread
        return placed.reshape(self.shapes[view.name][1:])

    def alike(self, views: list[_View]) -> bool:
        """Whether values are the same view of values of one shape."""
        first = views[0]
        return all(
            torch.equal(view.index, first.index) and self.shapes[view.name] == self.shapes[first.name]
            for view in views
        )

    def refuse(self, step: Step) -> NoReturn:
        raise UnsupportedOperator(
            f"{step}: not supported on {[list(self.found.shapes[n]) for n in step.inputs]}",
            hint="Supported: layers on [N, C, H, W], then flattening and fully connected layers.",
        )
