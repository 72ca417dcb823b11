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
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from corgi.errors import UnsupportedOperator
from corgi.network import layers
from corgi.network.convert import Converted, Step, TorchGraph

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
            elif isinstance(step.layer, (layers.Reshape, layers.Affine, layers.PRelu, layers.Elementwise)):
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
        trunk = TorchGraph(tuple(self.steps), module.input_name, last.name).up_to(last.name)
        return Spatial(trunk, self.shapes, last.index.flatten())

    def fresh(self, name: str, shape: tuple[int, ...]) -> _View:
        """A value that stands for itself; vectors become [N, F, 1, 1]."""
        inner = shape[1:]
        self.shapes[name] = shape if len(shape) == 4 else (1, math.prod(inner), 1, 1)
        return _View(name, torch.arange(math.prod(inner)).reshape(inner))

    def emit(self, step: Step, layer: nn.Module, views: list[_View]) -> _View:
        """A layer on what views are of; what it makes stands for itself."""
        self.steps.append(replace(step, layer=layer, inputs=tuple(view.name for view in views)))
        return self.fresh(step.output, self.found.shapes[step.output])

    def kept(self, step: Step, layer: nn.Module, *views: _View) -> _View:
        """A layer that acts element by element on what a view, or several equal ones, are of."""
        made = self.emit(step, layer, list(views))
        self.shapes[made.name] = self.shapes[views[0].name]
        return _View(made.name, views[0].index)

    def moved(self, step: Step) -> _View:
        """What a step makes; a step may also be one of case 6 where the rule of its layer says nothing."""
        views = [self.views[name] for name in step.inputs]
        rule = next((rule for kind, rule in _RULES if isinstance(step.layer, kind)), None)
        made = None if rule is None else rule(self, step, step.layer, views)
        if made is not None:
            return made
        if len(self.found.shapes[step.output]) == 4 and all(map(self.is_plain, views)):  # case 6
            return self.emit(step, step.layer, views)
        return self.matrix(step, views[0])

    def turned(self, step: Step, layer: layers.Transpose, views: list[_View]) -> _View:
        """Case 1."""
        return _View(views[0].name, views[0].index.permute([axis - 1 for axis in layer.order[1:]]))

    def reshaped(self, step: Step, layer: layers.Reshape | layers.Identity, views: list[_View]) -> _View:
        """Case 1."""
        return _View(views[0].name, views[0].index.reshape(self.found.shapes[step.output][1:]))

    def linear(self, step: Step, layer: layers.Linear, views: list[_View]) -> _View | None:
        """Case 2."""
        (view,) = views
        if layer.weight.shape[0] != view.index.numel():
            return None
        if step.output in self.images:
            return self.image(step, layer, self.vector(step, view), self.images[step.output])
        return self.emit(step, self.whole(step, layer, view), views)

    def pooled(self, step: Step, layer: layers.Reduction, views: list[_View]) -> _View | None:
        """Case 3; a maximum is a pool, too."""
        (view,) = views
        if layer.axes != (2, 3) or not self.is_plain(view):
            return None
        channels, height, width = view.index.shape
        if isinstance(layer, layers.Mean):
            return self.emit(step, layers.AveragePool((height, width), (1, 1)), views)
        if isinstance(layer, layers.Max):
            return self.emit(step, layers.MaxPool((height, width), (1, 1)), views)
        if isinstance(layer, layers.Sum):
            ones = torch.ones(channels, 1, height, width, dtype=torch.float64)
            return self.emit(step, layers.Conv(ones, ones.new_zeros(channels), groups=channels), views)
        return None

    def affine(self, step: Step, layer: layers.Affine, views: list[_View]) -> _View | None:
        """Case 4."""
        (view,) = views
        if self.is_plain(view) or self.found.shapes[step.output][1:] != view.index.shape:
            return None
        return self.kept(step, layer.moved(lambda constant: self.back(constant, view)), view)

    def elementwise(self, step: Step, layer: layers.Elementwise, views: list[_View]) -> _View:
        """Case 4."""
        return self.kept(step, layer, views[0])

    def prelu(self, step: Step, layer: layers.PRelu, views: list[_View]) -> _View | None:
        """Case 4."""
        scalar = layer.slope.numel() == 1
        return self.kept(step, layers.PRelu(layer.slope.reshape(())), views[0]) if scalar else None

    def added(self, step: Step, layer: layers.Add | layers.Sub, views: list[_View]) -> _View | None:
        """Case 5."""
        return self.kept(step, layer, *views) if self.alike(views) else None

    def joined(self, step: Step, layer: layers.Concat, views: list[_View]) -> _View | None:
        """Case 5."""
        return self.emit(step, layers.Concat(1), views) if all(map(self.is_vector, views)) else None

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
        self.emit(step, self.whole(step, layers.Linear(rows, bias), view), [view])
        self.shapes[step.output] = (1, made, 1, 1)
        return _View(step.output, torch.arange(made).reshape(after))

    def is_plain(self, view: _View) -> bool:
        """Whether a view is an image as it stands."""
        shape = self.shapes[view.name][1:]
        return view.index.shape == shape and torch.equal(view.index, _numbers(shape))

    def is_vector(self, view: _View) -> bool:
        """Whether a value [N, F] is [N, F, 1, 1] as it stands."""
        return view.index.dim() == 1 and self.shapes[view.name] == (1, len(view.index), 1, 1)

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


_Rule = Callable[[_Rewriting, Step, Any, list[_View]], _View | None]

_RULES: tuple[tuple[type[nn.Module] | types.UnionType, _Rule], ...] = (
    (layers.Transpose, _Rewriting.turned),
    (layers.Reshape | layers.Identity, _Rewriting.reshaped),
    (layers.Linear, _Rewriting.linear),
    (layers.Reduction, _Rewriting.pooled),
    (layers.Affine, _Rewriting.affine),
    (layers.Elementwise, _Rewriting.elementwise),
    (layers.PRelu, _Rewriting.prelu),
    (layers.Add | layers.Sub, _Rewriting.added),
    (layers.Concat, _Rewriting.joined),
)
"""By layer, the first that fits; what none serves is case 6 or 7."""
