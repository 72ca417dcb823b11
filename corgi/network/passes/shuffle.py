"""Recognise channel shuffles (ShuffleNet): reshapes and transpositions that only permute channels.

A chain of them that ends in an image's shape again, behind another rank, is run on numbers instead of values:
if what comes out is the input's channels in another order, whole, the chain is replaced by that order. Any
such chain is found, whatever its shapes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

import torch
from torch import nn

from corgi.network import layers
from corgi.network.convert import Converted, Step


def channel_shuffles(found: Converted) -> Converted:
    """The same network with chains that permute channels as one layer each."""
    moved: dict[str, tuple[str, tuple[nn.Module, ...]]] = {}
    steps: list[Step] = []
    for step in found.module.steps:
        if isinstance(step.layer, layers.Reshape | layers.Transpose):
            (source,) = step.inputs
            origin, chain = moved.get(source, (source, ()))
            moved[step.output] = origin, (*chain, step.layer)
            again = len(found.shapes[source]) != 4 and found.shapes[step.output] == found.shapes[origin]
            order = _channel_order(found.shapes[origin], moved[step.output][1]) if again else None
            if order is not None:
                stays = order == tuple(range(len(order)))
                layer = layers.Identity() if stays else layers.Channels(order)
                step = replace(step, layer=layer, inputs=(origin,))
                del moved[step.output]
        steps.append(step)
    return found.with_steps(steps)


def _channel_order(shape: tuple[int, ...], chain: tuple[nn.Module, ...]) -> tuple[int, ...] | None:
    """Which channel of [N, C, H, W] each channel is that a chain makes of it; None if it is none, whole."""
    if len(shape) != 4:
        return None
    numbers = torch.arange(math.prod(shape)).reshape(shape)
    made = reduce(lambda value, layer: layer(value), chain, numbers)
    order = made[0, :, 0, 0] // (shape[2] * shape[3])
    return tuple(order.tolist()) if torch.equal(numbers[:, order], made) else None
