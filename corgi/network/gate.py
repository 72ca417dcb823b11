"""The equality gate: a network that does not equal onnxruntime is refused, with the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from corgi.errors import GateError

if TYPE_CHECKING:
    from corgi.network.network import Network

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest magnitude of the value compared. onnxruntime works in
float32 (unit roundoff 6e-8) and sums up to some thousands of terms; a wrong attribute moves values by far
more than this."""


def check_equal_to_onnxruntime(network: Network, images: NDArray[np.float32]) -> None:
    """Compare feature map, class scores and CAM head with onnxruntime on images [N, C, H, W].

    Raises:
        GateError: a value differs or is not finite.

    """
    scores, features = network.oracle.run(images)
    x = torch.from_numpy(images).to(torch.float64)
    with torch.no_grad():
        ours = network.trunk(x)
        compare(network, "feature map", ours.numpy(), features)
        compare(network, "class scores of the converted network", network.module(x).numpy(), scores)
        compare(network, "class scores of the CAM head", network.head.scores(ours).numpy(), scores)


def compare(network: Network, what: str, ours: NDArray[np.float64], reference: NDArray[np.float32]) -> None:
    """Refuse the network unless two values agree.

    Raises:
        GateError: they differ in shape or by more than `TOLERANCE`, or one is not finite.

    """
    if ours.shape != reference.shape:
        raise GateError(f"{network.path}: {what} has shape {ours.shape}, onnxruntime says {reference.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(reference).all()):
        raise GateError(f"{network.path}: {what} is not finite on a valid image")
    scale = max(float(np.abs(reference).max()), float(np.finfo(np.float32).tiny))
    difference = float(np.abs(ours - reference).max())
    if difference > TOLERANCE * scale:
        raise GateError(
            f"{network.path}: {what} differs from onnxruntime by {difference:.3g}"
            f" (largest value {scale:.3g}, allowed {TOLERANCE * scale:.3g})",
            hint="The model is refused because a certificate for it would say nothing of the file you run.",
        )
