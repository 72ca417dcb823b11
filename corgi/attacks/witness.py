"""A counterexample counts only after onnxruntime confirms it on the original file (theory 1.8)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from corgi.attacks.target import Target
from corgi.results import Witness
from corgi.types import Ball

_STEPS = 32
"""Points of a grid on the way to a witness."""


def nearer(target: Target, ball: Ball, witness: Witness) -> Witness:
    """The first broken point on the way from the centre of a ball to a witness that onnxruntime confirms.

    Looked for on a grid, then on a finer one before what that found.
    """
    image = ball.center
    direction = torch.from_numpy(witness.image) - image
    low, high = 0.0, 1.0
    for _ in range(2):
        shares = torch.linspace(low, high, _STEPS + 1)[1:]
        path = image + shares[:, None, None, None] * direction
        margins = target.broken_margins(path)
        for index in (margins < 0).nonzero().reshape(-1)[:2].tolist():
            closer = confirm(target, ball.with_radius(witness.radius), path[index])
            if closer is not None:
                witness = closer
                low, high = float(shares[index]) - (high - low) / _STEPS, float(shares[index])
                break
        else:
            break
    return witness


def confirm(target: Target, ball: Ball, image: Tensor) -> Witness | None:
    """The witness an image [C, H, W] is, or None.

    It must be a finite float32 image inside the ball and the pixel box; its map by onnxruntime must break the
    property strictly; and the same in float64 arithmetic by more than the target's `rounding`,
    so that a float32 artefact of onnxruntime is not mistaken for a property of the network.
    """
    pixels = image.detach().to(torch.float32)
    low, high = ball.pixel_box
    if not bool(torch.isfinite(pixels).all()) or not bool(((pixels >= low) & (pixels <= high)).all()):
        return None
    distance = ball.distance(pixels)
    if distance > ball.radius:
        return None
    array = np.ascontiguousarray(pixels.numpy())
    cam, label = target.network.oracle_cam(array, target.class_id)
    if target.label not in (None, label):
        return None
    values = torch.from_numpy(cam).reshape(-1)
    margin = float(target.holds.margin(values))
    exact = target.network.cam(array, target.class_id).reshape(-1)
    error = target.holds.sensitivity * target.rounding
    if not (margin < 0 and float(target.holds.margin(exact)) < -error):
        return None
    lost = target.holds.lost(values, target.cam)
    return Witness(array, distance, cam, lost, label, -margin)
