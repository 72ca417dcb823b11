"""Recognise channel shuffles (ShuffleNet): reshapes and transpositions that only permute channels.

A chain of them is pushed through with numbers instead of values: if what comes out is the input's channels in
another order, whole, the chain is replaced by that order. Any such chain is found, whatever its shapes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from corgi.network import layers
from corgi.network.convert import Converted, Step, TorchGraph


def channel_shuffles(found: Converted) -> Converted:
    """The same network with chains that permute channels as one layer each."""
    moved: dict[str, tuple[str, Tensor]] = {}
    steps: list[Step] = []
    for step in found.module.steps:
        if isinstance(step.layer, layers.Reshape | layers.Transpose):
            (source,) = step.inputs
            shape = found.shapes[source]
            start = source, torch.arange(torch.Size(shape).numel()).reshape(shape)
            origin, numbers = moved.get(source, start)
            moved[step.output] = origin, step.layer(numbers)
            order = _channel_order(found.shapes[origin], moved[step.output][1])
            if order is not None and len(found.shapes[source]) != 4:
                step = replace(step, layer=layers.Channels(order), inputs=(origin,))
                del moved[step.output]
        steps.append(step)
    module = TorchGraph(tuple(steps), found.module.input_name, found.module.output_name)
    return replace(found, module=module.up_to(found.module.output_name).eval())


def _channel_order(shape: tuple[int, ...], numbers: Tensor) -> tuple[int, ...] | None:
    """Which channel of [N, C, H, W] each channel of a value made from it is; None if it is none, whole."""
    if len(shape) != 4 or tuple(numbers.shape) != shape:
        return None
    area = shape[2] * shape[3]
    order = numbers[0, :, 0, 0] // area
    whole = torch.arange(numbers.numel()).reshape(shape)[:, order]
    return tuple(order.tolist()) if torch.equal(whole, numbers) else None
