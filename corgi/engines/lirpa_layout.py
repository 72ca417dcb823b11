"""Whether auto_LiRPA's "patches" layout of convolutions can be believed on a network.

Release 0.3 takes two shortcuts there, and its bounds exclude what the network computes where they do not hold
(15 of 476 generated networks; from which radius on depends on the image):

- a coefficient on the padding of a convolution's output is not set to 0 if an activation reads that output
  (`relu_followed`), since on the way back through the activation it was. Other layers may read it, too;
- a patch that outgrows the value it reads becomes a matrix, and not always the right one.

requires: a lowered trunk.
ensures: True only where no activation shares the output of a convolution, and no patch on the way back from
the map, or from an activation's input, outgrows its value. Of the 476 networks 306 are so, and on none of
them was a bound left (tests/soundness/test_lirpa_layout.py runs some of both kinds).
"""

from __future__ import annotations

import torch

from corgi.network import layers
from corgi.network.convert import TorchGraph

_ACTIVATIONS = (layers.Relu, layers.Sigmoid, layers.Tanh)


def patches_hold(trunk: TorchGraph, input_shape: tuple[int, int, int]) -> bool:
    """Whether no shortcut is taken where it does not hold. Float64 trunk, `input_shape` [C, H, W]."""
    return not _read_in_two_ways(trunk) and not _outgrown(trunk, input_shape)


def _read_in_two_ways(trunk: TorchGraph) -> bool:
    """Whether an activation shares the output of a convolution."""
    for step in trunk.steps:
        if isinstance(step.layer, layers.Conv):
            readers = [reader for reader in trunk.steps if step.output in reader.inputs]
            activated = any(isinstance(reader.layer, _ACTIVATIONS) for reader in readers)
            if activated and len(readers) + (step.output == trunk.output_name) > 1:
                return True
    return False


def _outgrown(trunk: TorchGraph, input_shape: tuple[int, int, int]) -> bool:
    """Whether a patch that begins as one unit somewhere becomes larger than a value it reaches."""
    with torch.no_grad():
        image = torch.zeros(1, *input_shape, dtype=torch.float64)
        sizes = {name: tuple(value.shape[2:]) for name, value in trunk.values(image).items()}
    reach = dict.fromkeys(sizes, (1, 1))
    for step in reversed(trunk.steps):
        height, width = reach[step.output]
        if isinstance(step.layer, layers.Conv):
            (sy, sx), (kh, kw) = step.layer.stride, step.layer.weight.shape[2:]
            height, width = (height - 1) * sy + kh, (width - 1) * sx + kw
        for name in step.inputs:
            if height > sizes[name][0] or width > sizes[name][1]:
                return True
            reach[name] = max(height, reach[name][0]), max(width, reach[name][1])
    return False
