"""Remainders of the map through the last layers at once.

Carried from layer to layer a remainder r becomes |W_2| S_1 |W_1| r, S the slopes of the units between. What
the map gains from the errors e, |e| <= r, is W_2 S_1 W_1 e, and |W_2 S_1 W_1| r is much less: terms of the
product cancel. So each map pixel's row of coefficients is carried backwards, as a patch of the value that it
reads, through the convolutions and Relus that the network ends with. With own_v what a layer's output v adds
to its remainder by itself (half a chord, rounding), and K_v the rows on v,

    remainder <= sum_v |K_v| own_v + |K_e| r_e,    e where the rows end.

K_v is computed with roundings: it is off by at most gamma_n of what the product of all |W| and S makes of the
same, and that product, summed with the same own_v, is at most the remainder as it was carried forwards. So
gamma_n of that is added, n the terms of all sums on the way and the roundings of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.budget import check
from corgi.engines.forward.rules import conv_remainder
from corgi.engines.forward.values import own_of_zero
from corgi.engines.parametric import AffineForms
from corgi.engines.patch.prepare import Maximum
from corgi.engines.rigour import FAR_RAISED, FOLDING, gamma, smallest
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph

_WORK = 4.0
"""Most work of the rows, in that of one image through the convolutions of the network."""


def tail_of(graph: TorchGraph) -> tuple[Step, ...]:
    """The convolutions and Relus that a prepared trunk ends with, the last one first."""
    made = {step.output: step for step in graph.steps}
    found, name = list[Step](), graph.output_name
    while name in made and _carries(made[name].layer):
        found.append(made[name])
        name = made[name].inputs[0]
    return tuple(found)


def _carries(layer: nn.Module) -> bool:
    if isinstance(layer, Maximum):
        return layer.zero and layer.elementwise
    return isinstance(layer, layers.Conv) and layer.dilation == (1, 1)


@dataclass
class _Rows:
    """Rows of all map pixels on one value.

    Attributes:
        values: [N * h * w, C, height, width], for pixel (y, x) of box n.
        shape: N, h and w.
        stride, start: the patch of pixel (y, x) begins at (y, x) * stride + start.
    """

    values: Tensor
    shape: tuple[int, int, int]
    stride: tuple[int, int]
    start: tuple[int, int]

    def patches(self, value: Tensor) -> Tensor:
        """What the rows read of a value [N, C, H, W], 0 beyond its edge: as `values`."""
        sides = []
        for axis in (0, 1):
            last = (
                (self.shape[1 + axis] - 1) * self.stride[axis]
                + self.start[axis]
                + self.values.shape[2 + axis]
            )
            sides += [max(last - value.shape[2 + axis], 0), max(-self.start[axis], 0)]
        below, above, right, left = sides
        padded = F.pad(value, (left, right, above, below))
        padded = padded[:, :, max(self.start[0], 0) :, max(self.start[1], 0) :]
        cut = padded.unfold(2, self.values.shape[2], self.stride[0]).unfold(
            3, self.values.shape[3], self.stride[1]
        )
        cut = cut[:, :, : self.shape[1], : self.shape[2]]
        return cut.permute(0, 2, 3, 1, 4, 5).reshape(self.values.shape)

    def reach(self, size: Tensor) -> Tensor:
        """Sum |K| size, over each row: [N, h * w], rounded up."""
        found = (self.values.abs() * self.patches(size)).sum((1, 2, 3))
        return found.reshape(self.shape[0], -1) * FAR_RAISED

    def through(self, conv: layers.Conv) -> _Rows:
        """Rows on the input of a convolution from rows on its output."""
        values = F.conv_transpose2d(self.values, conv.weight, None, conv.stride, 0, 0, conv.groups)
        start = tuple(s * by - pad for s, by, pad in zip(self.start, conv.stride, conv.padding, strict=True))
        stride = tuple(s * by for s, by in zip(self.stride, conv.stride, strict=True))
        return _Rows(values, self.shape, (stride[0], stride[1]), (start[0], start[1]))

    def work(self, conv: layers.Conv) -> int:
        """Products that takes, of one box."""
        return self.values[0].numel() * conv.weight[0].numel() * self.shape[1] * self.shape[2]


def narrowed(
    head: layers.Conv, tail: tuple[Step, ...], found: dict[str, AffineForms], cams: AffineForms
) -> AffineForms:
    """The map's forms with smaller remainders where the tail makes them so.

    Args:
        head: the convolution that makes the map of the feature map.
        tail: see `tail_of`; without one nothing is narrowed.
        found: the forms of the tail's values and inputs.
        cams: the map's forms, [N, 1 + d, 1, h, w] and [N, 1, h, w].
    """
    count, _, height, width = cams.remainder.shape
    weight = head.weight.expand(count * height * width, -1, -1, -1)
    rows = _Rows(weight, (count, height, width), (1, 1), (0, 0))
    if not tail:
        return cams
    features = end = found[tail[0].output]
    total = conv_remainder(head, torch.zeros_like(features.remainder), features).flatten(1)
    terms, amplified, largest = FOLDING + 8, 1.0, torch.zeros((), dtype=torch.float64)
    budget = _WORK * sum(_products(step.layer, found[step.output]) for step in tail)
    for step in tail:
        check()
        value = found[step.inputs[0]]
        if isinstance(step.layer, layers.Conv):
            if (budget := budget - rows.work(step.layer)) < 0:
                break
            own = conv_remainder(step.layer, torch.zeros_like(value.remainder), value)
            total = total + rows.reach(own)
            # A place beyond the edge is the padding of what reads it: none of its errors.
            inside = torch.ones_like(own[:1, :1]).expand_as(own)
            rows.values = rows.values * rows.patches(inside)
            terms += step.layer.weight[:, 0].numel() + FOLDING + 4
            amplified *= max(1.0, float(step.layer.weight.abs().sum((0, 2, 3)).max()))
            rows = rows.through(step.layer)
        else:
            slope, own = own_of_zero(value)
            total = total + rows.reach(own)
            terms += 2
            rows.values = rows.values * rows.patches(slope)
        largest = torch.maximum(largest, own.max())
        end = value
    total = total + rows.reach(end.remainder)
    largest = torch.maximum(largest, end.remainder.max())
    plain = cams.remainder.flatten(1)
    # What a coefficient loses by underflow, amplified by what lies before it.
    lost = 64 * terms * rows.values[0].numel() * smallest(torch.float64) * amplified * (1 + largest)
    total = total * FAR_RAISED + 2 * gamma(terms, torch.float64) * plain + lost
    # NaN stays NaN.
    return AffineForms(cams.terms, torch.minimum(plain, total).reshape(cams.remainder.shape))


def _products(layer: nn.Module, output: AffineForms) -> int:
    """Products of a layer for one image."""
    if not isinstance(layer, layers.Conv):
        return 0
    return output.remainder[0].numel() * layer.weight[0].numel()
