"""How fine the grids of a precise pass must be (precise.py): where an error would be amplified to the map.

Nothing here is a bound: a grid that is too coarse or too fine makes forms wide or slow, never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.engines.forward.digits import BITS
from corgi.engines.patch.prepare import Maximum
from corgi.engines.rules import rule_of
from corgi.network import layers
from corgi.network.convert import TorchGraph

_GUARD = 44
"""Bits of the map, as a share of its spread, that grids leave right: for sums of many small errors."""


@dataclass(frozen=True)
class Precision:
    """What an error of 1 in each value of a network becomes, added up over the map.

    Attributes:
        amplification: of each entry of a value, as a share of the map's spread: [C, H, W], by name.
        fraction: digits behind the point, by name.
    """

    amplification: dict[str, Tensor]
    fraction: dict[str, int]

    @property
    def numbers(self) -> int:
        """Of the digits of the largest value, of one term; two digits stand before the point."""
        return max(value.numel() * (self.fraction[name] + 2) for name, value in self.amplification.items())

    @staticmethod
    def of(graph: TorchGraph, head: layers.Conv, image: Tensor) -> Precision:
        """Around one image [C, H, W]: units are on or off as there."""
        with torch.no_grad():
            values = graph.values(image[None])
            cam = head(values[graph.output_name])
            spread = float(cam.max() - cam.min()) or 1.0
        with torch.enable_grad():
            errors = {graph.input_name: torch.zeros_like(values[graph.input_name]).requires_grad_()}
            carried = dict(errors)
            for step in graph.steps:
                at = values[step.output]
                errors[step.output] = torch.zeros_like(at).requires_grad_()
                rule = rule_of(_ERRORS, step.layer)
                inputs = [carried[name] for name in step.inputs]
                carried[step.output] = (
                    rule(step.layer, [values[name] for name in step.inputs], *inputs) + errors[step.output]
                )
            total = _conv(head, [], carried[graph.output_name]).sum() / spread
            found = torch.autograd.grad(total, list(errors.values()))
        amplification = {name: value[0] for name, value in zip(errors, found, strict=True)}
        return Precision(amplification, {name: _digits(value) for name, value in amplification.items()})


def _digits(amplification: Tensor) -> int:
    largest = float(amplification.max())
    bits = _GUARD + (math.log2(largest) if 0 < largest < math.inf else 0)
    return max(1, math.ceil(bits / BITS))


def _conv(conv: layers.Conv, _: list[Tensor], error: Tensor) -> Tensor:
    return F.conv2d(error, conv.weight.abs(), None, conv.stride, conv.padding, conv.dilation, conv.groups)


def _maximum(layer: Maximum, at: list[Tensor], error: Tensor) -> Tensor:
    windows = layer.windows(at[0])
    largest, which = windows.max(-1, keepdim=True)
    chosen = layer.windows(error).gather(-1, which)[..., 0]
    return chosen * (largest[..., 0] > 0) if layer.zero else chosen


_ERRORS: dict[type[nn.Module], Callable[..., Any]] = {
    layers.Conv: _conv,
    layers.Affine: lambda layer, _, error: error * layer.scale.abs(),
    layers.Add: lambda _, __, *errors: sum(errors),
    layers.Sub: lambda _, __, *errors: sum(errors),
    layers.Concat: lambda _, __, *errors: torch.cat(errors, 1),
    Maximum: _maximum,
}
"""What a step makes of errors of its inputs that all add up."""
