"""Merge convolutions that follow each other, so that intervals see what cancels between them.

requires: a lowered trunk (plain layers).
ensures: the same function; a convolution without padding whose input is another convolution is replaced by
the convolution of both, reading what the first one reads. The selections of a pooling window become such
kernels: a - b of two neighbours is then one kernel on the layer below, and its interval is far tighter than
the difference of two intervals. What nobody reads any more is dropped.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from corgi.network import layers
from corgi.network.convert import Step, TorchGraph


def compose(graph: TorchGraph) -> TorchGraph:
    """The graph with consecutive convolutions merged."""
    producers: dict[str, Step] = {}
    for step in graph.steps:
        merged = step
        before = producers.get(step.inputs[0])
        if isinstance(step.layer, layers.Conv) and before is not None:
            first = before.layer
            if isinstance(first, layers.Conv) and step.layer.padding == (0, 0):
                layer = composed(first, step.layer)
                merged = Step(step.node, step.op, layer, before.inputs, step.output)
        producers[step.output] = merged
    return TorchGraph(tuple(producers.values()), graph.input_name, graph.output_name).up_to(graph.output_name)


def composed(first: layers.Conv, second: layers.Conv) -> layers.Conv:
    """second(first(x)) as one convolution; `second` has no padding.

    Output o of `second` reads first at o s2 + k2, which reads x at (o s2 + k2) s1 - p1 + k1: a kernel of size
    (k2 - 1) s1 + k1, stride s1 s2, padding p1, its entries sums over k2 s1 + k1 = k.
    """
    # The kernel of each output channel is what `first`, transposed, makes of that channel of `second`.
    kernel = F.conv_transpose2d(second.weight, first.weight, stride=first.stride)
    through = torch.einsum("oikl,i->o", second.weight, first.bias)
    magnitude = torch.einsum("oikl,i->o", second.weight.abs(), first.bias_magnitude)
    stride = (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1])
    return layers.Conv(
        kernel,
        through + second.bias,
        stride,
        first.padding,
        bias_magnitude=magnitude + second.bias_magnitude,
    )
