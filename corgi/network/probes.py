"""Hold a network against onnxruntime on images made for it: at its kinks and limits, and at its map's ends.

Random images keep to the middle of every layer: a limit of Clip that is read wrongly, a slope below zero, the
padding of a pool are never seen where no unit comes there. So images are driven there, by signed gradients in
the float32 trunk: (a) beyond each kink of a layer with one unit, then as far as it goes; (b) every channel of
every non-linear layer as far as it goes, also where the layer as it was read has no limit; (c) the explained
map's largest pixel. Each goal is climbed and descended: below each kink, the smallest pixel.

At a tie inside a pooling window both sides take the same value, so there is nothing to compare at the tie
itself; what decides a pool that is read wrongly is whether all of a window lies below its padding, so a pool
counts as one with a kink at 0.

The probes are a heuristic: they find misreadings and prove nothing. What counts is that none differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from corgi.budget import check
from corgi.errors import GateError
from corgi.network import layers
from corgi.network.depth import LINEAR
from corgi.network.gate import (
    check_equal_to_onnxruntime,
    check_equal_to_reference,
    check_map,
    only_float32_differs,
)
from corgi.network.network import Network

_STEPS, _WORK = 8, 2e8
"""Steps at most, and numbers that the trunk may compute for all of them: fewer steps for larger networks.
They are counted and not timed, so that the same file is always held against the same images."""

_BEYOND = 0.1
"""How far beyond a kink is far enough, as a share of the layer's largest value: well above the tolerance."""

_FURTHER = 1e-3
"""What going on weighs beside kinks that are not reached yet."""

_SIGNS = (1.0, -1.0)
"""Every goal is climbed and descended."""

Goal = Callable[[Network, int, Mapping[str, Tensor], Tensor], Tensor]
"""Of a network, a class, the values of its trunk for images [N, C, H, W], and signs [N] (1 to climb, -1 to
descend): scores [N] to be raised."""


def check_at_probes(network: Network, class_id: int, image: NDArray[np.float32]) -> None:
    """Compare feature map, scores and the map of a class with onnxruntime on images driven away from one.

    On the first two of them, beyond and below all kinks, onnx's reference evaluator in float64 judges, too.

    Raises:
        GateError: a value differs or is not finite.
        OutOfTime: there was no time for it.
    """
    for number, probe in enumerate(probes(network, class_id, image)):
        try:
            features = check_equal_to_onnxruntime(network, probe[None])
            check_map(network, probe, class_id, network.head.cam(features, class_id)[0].numpy())
        except GateError:
            # Images that are driven so far can be where float32 says nothing of the network, in onnxruntime
            # as in corgi. That it was read as it is meant is then seen in float64, or not at all.
            if not only_float32_differs(network, probe):
                raise
        else:
            if number < len(_SIGNS):
                check_equal_to_reference(network, probe, features)


def probes(network: Network, class_id: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images in [0, 1] that reach what random ones do not: [C, H, W] -> [6, C, H, W]."""
    goals: tuple[Goal, ...] = (_kinks, _channels, _map)
    signs = torch.tensor(_SIGNS)
    numbers = sum(math.prod(network.shapes[step.output]) for step in network.trunk.steps)
    steps = int(min(max(_WORK / max(numbers * len(signs) * len(goals), 1), 1), _STEPS))
    found = []
    for goal in goals:
        images = torch.from_numpy(image).expand(len(signs), *image.shape)
        for _ in range(steps):
            check()
            images = images.detach().requires_grad_(True)
            score = goal(network, class_id, network.trunk32.values(images), signs).sum()
            (gradient,) = torch.autograd.grad(score, images)
            images = (images + gradient.nan_to_num(0).sign() / steps).clamp(0, 1)
        found.append(images.detach())
    return torch.cat(found).numpy()


def _kinks(network: Network, class_id: int, values: Mapping[str, Tensor], signs: Tensor) -> Tensor:
    """The nearest unit of every layer to beyond each of its kinks, then as far as it goes."""
    total = torch.zeros(len(signs))
    for given, scale, kinks in _layers(network, values):
        nearest = (given.flatten(1).T * signs).amax(0)
        total = total + _FURTHER * nearest / scale
        for kink in kinks:
            total = total - (signs * kink + _BEYOND * scale - nearest).clamp(min=0) / scale
    return total


def _channels(network: Network, class_id: int, values: Mapping[str, Tensor], signs: Tensor) -> Tensor:
    """Every channel's largest unit, in the mean."""
    total = torch.zeros(len(signs))
    for given, scale, _ in _layers(network, values):
        units = given.reshape(*given.shape[:2], -1) * signs[:, None, None]
        total = total + units.amax(2).mean(1) / scale
    return total


def _map(network: Network, class_id: int, values: Mapping[str, Tensor], signs: Tensor) -> Tensor:
    """The map's largest pixel."""
    cam = network.head.cam(values[network.trunk.output_name], class_id)
    return (cam.flatten(1) * signs[:, None]).amax(1)


def _layers(network: Network, values: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor, tuple[float, ...]]]:
    """What each non-linear layer is given, that value's scale, and where the layer has kinks.

    The feature map is the last: a limit that was read as none at all shows there.
    """
    read = [(s.inputs[0], _kinks_of(s.layer)) for s in network.trunk.steps if not isinstance(s.layer, LINEAR)]
    found = []
    for name, kinks in [*read, (network.trunk.output_name, ())]:
        given = values[name]
        scale = given.detach().abs().max().clamp(min=torch.finfo(given.dtype).tiny)
        found.append((given, scale, kinks))
    return found


def _kinks_of(layer: nn.Module) -> tuple[float, ...]:
    match layer:
        case layers.Clip(low=low, high=high):
            return tuple(limit for limit in (low, high) if np.isfinite(limit))
        case layers.HardSigmoid(alpha=alpha, beta=beta) | layers.HardSwish(alpha=alpha, beta=beta):
            return (-beta / alpha, (1 - beta) / alpha) if alpha else ()
        case layers.Relu() | layers.LeakyRelu() | layers.PRelu() | layers.Elu() | layers.MaxPool():
            return (0.0,)
    return ()
