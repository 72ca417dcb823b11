"""The engine's part of the equality gate: a ball of radius 0 is one image, and onnxruntime knows its map."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from corgi.engines.interface import Bounder
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
        bounds = bounder.pixels(Ball(torch.from_numpy(image), 0.0))
        if not bool(torch.isfinite(bounds.lower).all() and torch.isfinite(bounds.upper).all()):
            continue  # a vacuous bound is not wrong; nothing can be certified with it
        shape, exact = reference.shape, reference.astype(np.float32)
        lower, upper = (v.to(torch.float64).numpy().reshape(shape) for v in (bounds.lower, bounds.upper))
        compare(network, "lower bound of the map at radius 0", lower, exact)
        compare(network, "upper bound of the map at radius 0", upper, exact)
