"""Which units a row can reach."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.engines.patch.prepare import POINTWISE, Maximum
from corgi.engines.patch.resample import most_read, read_by, readers_of
from corgi.network import layers
from corgi.network.convert import TorchGraph

Shape = Callable[[str], tuple[int, int]]
"""Height and width of a value."""


def _geometry(layer: nn.Module) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None:
    """Stride, padding before and reach of a layer that reads windows; None for one that reads in place."""
    match layer:
        case layers.Conv():
            kernel, dilation = layer.weight.shape[2:], layer.dilation
            reach = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
            return layer.stride, layer.padding, reach
        case Maximum():
            return layer.stride, layer.pads[:2], layer.reach
        case layer if isinstance(layer, POINTWISE):
            return None
    raise TypeError(f"no rule for {type(layer).__name__}")


def cone_sizes(
    graph: TorchGraph, value: str, size: tuple[int, int], shape: Shape
) -> dict[str, tuple[int, int]]:
    """Height and width of the patch that a patch on a value becomes on every value below it."""
    sizes = {value: size}
    for step in reversed(graph.steps):
        if step.output not in sizes:
            continue
        height, width = _patch_read(step.layer, sizes[step.output])
        for name in step.inputs:
            before, whole = sizes.get(name, (1, 1)), shape(name)
            sizes[name] = (
                max(before[0], min(height, whole[0])),
                max(before[1], min(width, whole[1])),
            )
    return sizes


def _patch_read(layer: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what a patch of outputs reads."""
    height, width = size
    if isinstance(layer, layers.Resample):
        return most_read(layer.rows, height), most_read(layer.columns, width)
    geometry = _geometry(layer)
    if geometry is None:
        return size
    stride, _, reach = geometry
    return (height - 1) * stride[0] + reach[0], (width - 1) * stride[1] + reach[1]


def horizons(graph: TorchGraph, value: str, size: tuple[int, int], shape: Shape) -> list[tuple[str, float]]:
    """Where one row, a patch on a value, may end: values through which all of it passes, nearest first.

    With each the multiply-adds of the convolutions on the way there; the last one is the image.
    """
    sizes, pending, total = cone_sizes(graph, value, size, shape), {value}, 0.0
    ends: list[tuple[str, float]] = []
    for step in reversed(graph.steps):
        if step.output not in pending:
            continue
        pending = (pending - {step.output}) | set(step.inputs)
        if isinstance(step.layer, layers.Conv):
            height, width = sizes[step.output]
            total += float(height * width * step.layer.weight.numel())
        if len(pending) == 1:
            ends.append((next(iter(pending)), total))
    return ends or [(value, 0.0)]


def cone_masks(graph: TorchGraph, start: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Where units feed some marked places, value by value: bool [B, H, W]."""
    masks = dict(start)
    for step in reversed(graph.steps):
        if step.output not in masks:
            continue
        mask = masks[step.output]
        for name in step.inputs:
            read = read_places(step.layer, mask, shape(name))
            masks[name] = masks[name] | read if name in masks else read
    return masks


def read_places(layer: nn.Module, mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """The places a layer reads for outputs at marked places."""
    if isinstance(layer, layers.Resample):
        return read_by(layer, mask)
    geometry = _geometry(layer)
    if geometry is None:
        return mask
    stride, padding, reach = geometry
    ones = torch.ones(1, 1, *reach, device=mask.device)
    spread = F.conv_transpose2d(mask[:, None].float(), ones, stride=stride)[:, 0] > 0
    over = (max(padding[0] + shape[0] - spread.shape[1], 0), max(padding[1] + shape[1] - spread.shape[2], 0))
    spread = F.pad(spread, (0, over[1], 0, over[0]))
    return spread[:, padding[0] : padding[0] + shape[0], padding[1] : padding[1] + shape[1]]


def readers(graph: TorchGraph, marked: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Which units of every value have a marked place of some value in their cone: bool [B, h, w].

    `marked`: places of values, bool [B, H, W]; a marked place is in its own cone. Values that read none are
    left out. The opposite of `cone_masks`; as there, a dilated kernel counts as whole.
    """
    masks: dict[str, Tensor] = dict(marked)
    for step in graph.steps:
        for name in step.inputs:
            if name in masks:
                mask = _reading(step.layer, masks[name], shape(step.output))
                masks[step.output] = masks[step.output] | mask if step.output in masks else mask
    return masks


def _reading(layer: nn.Module, mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """The outputs of a layer, of height and width `shape`, that read a marked place."""
    if isinstance(layer, layers.Resample):
        return readers_of(layer, mask)
    geometry = _geometry(layer)
    if geometry is None:
        return mask
    (sy, sx), padding, reach = geometry
    before = mask.shape[1:]
    over = [
        max((shape[axis] - 1) * geometry[0][axis] + reach[axis] - padding[axis] - before[axis], 0)
        for axis in (0, 1)
    ]
    padded = F.pad(mask[:, None].float(), (padding[1], over[1], padding[0], over[0]))
    return F.max_pool2d(padded, reach, (sy, sx))[:, 0, : shape[0], : shape[1]] > 0


def map_reach(graph: TorchGraph) -> tuple[int, int]:
    """From which distance on, in map pixels, the cones of two map pixels share no image pixel."""
    return _reach_along(graph, 0), _reach_along(graph, 1)


def _reach_along(graph: TorchGraph, axis: int) -> int:
    """Unit o of the map reads image pixels o s + low .. o s + high, which are disjoint far enough apart.

    Through a window (stride t, padding p, reach k), o s + [low, high] becomes o s t + [low t - p,
    high t - p + k - 1]; branches that meet are joined. Branches of different strides, and means or copies
    of whole values, have no such form: then no distance counts as far.
    """
    reads = {graph.output_name: (1, 0, 0)}
    for step in reversed(graph.steps):
        if step.output not in reads:
            continue
        if isinstance(step.layer, layers.Resample):
            return 2**31
        stride, low, high = reads[step.output]
        geometry = _geometry(step.layer)
        if geometry is not None:
            t, p, k = (v[axis] for v in geometry)
            stride, low, high = stride * t, low * t - p, high * t - p + k - 1
        for name in step.inputs:
            before = reads.get(name, (stride, low, high))
            if before[0] != stride:
                return 2**31
            reads[name] = (stride, min(before[1], low), max(before[2], high))
    stride, low, high = reads.get(graph.input_name, (1, 0, 0))
    return (high - low) // stride + 1
