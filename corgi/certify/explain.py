"""The map of one image and its top-k set, before anything is proved about them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.cam.topk import choose_k, top_k
from corgi.engines.patch.engine import PatchEngine
from corgi.engines.rounding import rounding
from corgi.errors import EngineError, ImageError, UsageError
from corgi.network.gate import check_equal_to_onnxruntime, check_map
from corgi.network.network import Network
from corgi.results import FloatArray, ImageArray, TopK
from corgi.types import Ball

_ROUNDING_SHARE = 1e-9
"""A rounding error below this share of the map is small enough not to look closer."""


@dataclass(frozen=True)
class Explanation:
    """The map of one image.

    Attributes:
        class_id: the explained class; predicted_class: what onnxruntime predicts.
        cam: the map [h, w], float64.
        top: its top-k set.
        rounding: bound on the rounding error of one value of the map.
        network: the network whose map that is (`Network.explaining`).
    """

    class_id: int
    predicted_class: int
    cam: FloatArray
    top: TopK
    rounding: float
    network: Network


@settled()
def explain(
    network: Network, image: ImageArray, k: int | None = 15, class_id: int | None = None
) -> Explanation:
    """The map of an image [C, H, W] in [0, 1] and its top-k pixels.

    Raises:
        ImageError: the image does not fit the network.
        UsageError: no such class, or a k the map cannot have.
        GateError: the converted network differs from onnxruntime on this image.
    """
    image = check_image(network, image)
    check_equal_to_onnxruntime(network, image[None])
    predicted = network.predict(image)
    explained = predicted if class_id is None else class_id
    if not 0 <= explained < network.head.classes:
        raise UsageError(f"class {explained}: the network has classes 0-{network.head.classes - 1}")
    network = network.explaining(image, explained)
    cam = network.cam(image, explained)
    check_map(network, image, explained, cam.numpy())
    error = _value_rounding(network, explained, image, cam)
    top = top_k(cam, choose_k(cam) if k is None else k, error)
    return Explanation(explained, predicted, cam.numpy(), top, error, network)


def _value_rounding(network: Network, class_id: int, image: ImageArray, cam: Tensor) -> float:
    """Bound on the rounding error of one map value.

    The a-priori bound grows with the product of all absolute weights, so deep networks need the patch
    engine's, which counts each step's rounding once: how far a ball of radius 0 is from a point, for the
    engine's sum and as much again for the map's own. A trunk that no engine can bound (`corgi cam` shows its
    map all the same) has neither: then a generous share of the largest value stands in for it, which only the
    tie rule and witnesses use.
    """
    share = _ROUNDING_SHARE * float(cam.abs().max())
    try:
        first = rounding(network, class_id).value
    except EngineError:
        first = math.inf
    if first <= share:
        return first
    try:
        bounds = (
            PatchEngine().bind(network, class_id, torch.float64).pixels(Ball(torch.from_numpy(image), 0.0))
        )
    except EngineError:
        return share
    return min(first, 2 * float((bounds.upper - bounds.lower).max()))


def check_image(network: Network, image: ImageArray) -> ImageArray:
    """The image as contiguous float32 [C, H, W].

    Raises:
        ImageError: wrong shape, type or range.
    """
    if image.shape != network.input_shape:
        raise ImageError(f"image has shape {image.shape}, the network expects {network.input_shape}")
    if image.dtype != np.float32:
        raise ImageError(f"image has type {image.dtype}, expected float32")
    if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
        raise ImageError(f"image has values from {image.min()} to {image.max()}, expected [0, 1]")
    return np.ascontiguousarray(image)
