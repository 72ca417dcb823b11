"""The equality gate: a network that does not equal onnxruntime is refused, with the numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from corgi.errors import GateError

if TYPE_CHECKING:
    from corgi.network.network import Network

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest magnitude of the value or channel compared. onnxruntime
works in float32 (unit roundoff 6e-8) and sums up to some thousands of terms; a wrong attribute moves values
by far more than this."""

_FLOAT32, _MOST = 4.0, 0.01
"""In a network of many layers float32 alone is off by more. How much shows where corgi's own trunk runs in
float32: that many times its difference from float64 is allowed, but never more than `_MOST`."""

_FLOOR = 0.1
"""A channel counts as at least this share of the largest one: what cancels there was once as large."""


def check_equal_to_onnxruntime(network: Network, images: NDArray[np.float32]) -> None:
    """Compare feature map, class scores and CAM head with onnxruntime on images [N, C, H, W].

    Raises:
        GateError: a value differs or is not finite.
    """
    scores, features = network.oracle.run(images)
    x = torch.from_numpy(images).to(torch.float64)
    with torch.no_grad():
        ours = network.trunk(x)
        head_scores = network.head.scores(ours)

    @functools.cache
    def rounded() -> torch.Tensor:
        with torch.no_grad():
            features: torch.Tensor = network.trunk32(torch.from_numpy(images)).to(torch.float64)
        return features

    def of_scores() -> NDArray[np.float64]:
        with torch.no_grad():
            return (network.head.scores(rounded()) - head_scores).numpy()

    compare(
        network,
        "feature map",
        ours.numpy(),
        features,
        by_channel=True,
        rounding=lambda: (rounded() - ours).numpy(),
    )
    with torch.no_grad():
        converted = network.module(x).numpy().reshape(scores.shape)
    compare(
        network,
        "class scores of the converted network",
        converted,
        scores,
        rounding=lambda: of_scores().reshape(scores.shape),
    )
    compare(network, "class scores of the CAM head", head_scores.numpy(), scores, rounding=of_scores)


def compare(
    network: Network,
    what: str,
    ours: NDArray[np.float64],
    reference: NDArray[np.floating[Any]],
    *,
    by_channel: bool = False,
    rounding: Callable[[], NDArray[np.float64]] | None = None,
) -> None:
    """Refuse the network unless two values agree, as a whole or channel by channel (axis 1).

    Args:
        network: whose values they are.
        what: they are, for the message.
        ours: as corgi computes them in float64.
        reference: as onnxruntime does.
        by_channel: whether every channel is compared on its own scale.
        rounding: what float32 changes in them where corgi's own trunk runs in it, if that can be known; asked
            only of values that differ by more than `TOLERANCE`.

    Raises:
        GateError: they differ in shape or by more than is allowed, or one is not finite.
    """
    if ours.shape != reference.shape:
        raise GateError(f"{network.path}: {what} has shape {ours.shape}, onnxruntime says {reference.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(reference).all()):
        raise GateError(f"{network.path}: {what} is not finite on a valid image")
    others = tuple(a for a in range(reference.ndim) if a != 1) if by_channel else None
    magnitude = np.abs(reference).max(axis=others, keepdims=True)
    scale = np.maximum(magnitude, max(_FLOOR * float(magnitude.max()), float(np.finfo(np.float32).tiny)))
    worst, allowed = float((np.abs(ours - reference) / scale).max()), TOLERANCE
    if worst > TOLERANCE and rounding is not None and np.isfinite(changed := rounding()).all():
        own = float((np.abs(changed) / scale).max())
        allowed = min(max(TOLERANCE, _FLOAT32 * own), _MOST)
    if worst > allowed:
        raise GateError(
            f"{network.path}: {what} differs from onnxruntime by {worst:.3g} of its largest value"
            f" ({float(scale.max()):.3g}); allowed is {allowed:.3g}",
            hint="The model is refused because a certificate for it would say nothing of the file you run.",
        )
