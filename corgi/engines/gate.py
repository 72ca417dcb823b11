"""The engine's part of the equality gate: what onnxruntime computes in a ball lies in the bounds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from corgi.engines.interface import Bounder
from corgi.errors import GateError
from corgi.network import layers
from corgi.network.gate import compare
from corgi.network.network import Network
from corgi.types import Ball


def check_engine_at_radius_zero(
    network: Network, class_id: int, bounder: Bounder, images: NDArray[np.float32]
) -> None:
    """Compare an engine's bounds at radius 0 with onnxruntime on images [N, C, H, W].

    Raises:
        GateError: a bound differs from onnxruntime's map.
    """
    for image in images:
        reference, _ = network.oracle_cam(image, class_id)
        bounds = bounder.cheap(Ball(torch.from_numpy(image), 0.0))
        # Intervals gather rounding over a deep network, and some engines have none; rows do not.
        if not bool((bounds.upper - bounds.lower < _NARROW * float(np.abs(reference).max())).all()):
            bounds = bounder.pixels(Ball(torch.from_numpy(image), 0.0))
        for what, ends in (("lower", bounds.lower), ("upper", bounds.upper)):
            found = ends.to(torch.float64).numpy().reshape(reference.shape)
            # A vacuous bound is not wrong; nothing can be certified with it.
            exact = np.where(np.isfinite(found), reference, 0.0).astype(np.float32)
            finite = np.where(np.isfinite(found), found, 0.0)
            compare(network, f"{what} bound of the map at radius 0", finite, exact)


_NARROW = 1e-6
_PIXELS = 4
_RADIUS = 3e-4
_DEEP = 10
"""Layers of activations from which on the ball is 100 times smaller: else nearly all of them would be
undecided, and rows would take long to say nothing."""
_SLACK = 1e-4
"""Share of the map's largest value that float32 arithmetic in onnxruntime may be off by (network/gate.py)."""


def check_engine_on_a_ball(
    network: Network, class_id: int, bounder: Bounder, image: NDArray[np.float32]
) -> None:
    """Hold bounds of some pixels over a small ball against the images that take them there, in onnxruntime.

    At radius 0 an engine's rows have nothing to do. Here each of a few pixels is driven up or down by its
    gradient, which at this radius comes close to its bound: a layer that rows read wrongly shows.

    Raises:
        GateError: an image of the ball leaves the bounds.
    """
    centre = torch.from_numpy(image)
    curves = sum(
        isinstance(step.layer, layers.Relu | layers.Sigmoid | layers.Tanh) for step in network.trunk.steps
    )
    radius = _RADIUS if curves < _DEEP else 0.01 * _RADIUS
    ball = Ball(centre, radius)
    box, rng = ball.inner_box(torch.float32), np.random.default_rng(1)
    pixels = torch.from_numpy(rng.choice(network.pixels, min(_PIXELS, network.pixels), replace=False))
    bounds = bounder.pixels(ball, pixels, pixels)
    images = centre.expand(len(pixels), *centre.shape).clone().requires_grad_(True)
    values = network.head.cam(network.trunk32(images), class_id).flatten(1)[torch.arange(len(pixels)), pixels]
    (gradient,) = torch.autograd.grad(values.sum(), images)
    for lower in (True, False):
        ends = torch.where((gradient > 0) == lower, box.lower, box.upper)
        for pixel, end in zip(pixels.tolist(), ends, strict=True):
            reference, _ = network.oracle_cam(end.numpy(), class_id)
            value, slack = float(reference.reshape(-1)[pixel]), _SLACK * float(np.abs(reference).max())
            if value < float(bounds.lower[pixel]) - slack or value > float(bounds.upper[pixel]) + slack:
                raise GateError(
                    f"{network.path}: map pixel {pixel} of class {class_id} is {value:.6g} on an image within"
                    f" {radius:g} of another, outside the engine's bounds"
                    f" [{float(bounds.lower[pixel]):.6g}, {float(bounds.upper[pixel]):.6g}]",
                    hint="The engine bounds another function than onnxruntime runs. No certificate is given.",
                )
