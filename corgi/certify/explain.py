"""The map of one image and its top-k set, before anything is proved about them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.budget import grace
from corgi.cam.topk import choose_k, size_of, top_k
from corgi.decide.margins import Question
from corgi.engines.rounding import rounding
from corgi.errors import EngineError, ImageError, UsageError
from corgi.network.depth import is_deep
from corgi.network.gate import MOST, check_equal_to_onnxruntime, check_map
from corgi.network.network import Network
from corgi.properties.interface import Property
from corgi.properties.topk import Topk
from corgi.results import FloatArray, ImageArray, Mapped, TopK
from corgi.terms import Form, Size
from corgi.types import Ball, Norm, Where

_ROUNDING_SHARE = 1e-9
"""Share of the map's largest value that float64 changes in none of its values: see `_value_rounding`."""


@dataclass(frozen=True, repr=False)
class Explanation(Mapped):
    """The map of one image.

    Attributes:
        class_id: the explained class; predicted_class: what onnxruntime predicts.
        cam: the map [h, w], float64.
        top: its top-k set.
        rounding: what float64 may change in one value of the map (`_value_rounding`).
        network: the network whose map that is (`Network.explaining`).
        image: [C, H, W] float32, the network's input.
        differs: by how much onnxruntime's map does, as a share of the map's range (`check_map`).
    """

    class_id: int
    predicted_class: int
    cam: FloatArray
    top: TopK
    rounding: float
    network: Network
    image: ImageArray
    differs: float = math.inf

    @property
    def class_name(self) -> str | None:
        """Name of the explained class, if the model carries one."""
        return self.network.class_name(self.class_id)

    @property
    def doubt(self) -> str | None:
        """Why no certificate of this map may be given; None if it was seen to be that of onnxruntime."""
        if self.differs <= MOST:
            return None
        return (
            f"the map is within float32 rounding: onnxruntime's differs by {self.differs:.3g} of its range,"
            f" a certificate needs {MOST:g}"
        )

    def question(
        self, asked: Property | None = None, *, form: Form = Form.PAIRWISE, keep_label: bool = False
    ) -> Question:
        """That a property stays true, None for the set as it is; of witnesses, that they keep the label.

        Raises:
            UsageError: the map has no such pixels or ranks.
        """
        return Question(
            self.network,
            self.class_id,
            self.top,
            (asked or Topk()).formula(torch.from_numpy(self.cam), self.top),
            self.rounding,
            self.predicted_class if keep_label else None,
            torch.from_numpy(self.cam).reshape(-1),
            form=form,
        )

    def holds(self, asked: Property) -> bool | None:
        """Whether a property holds at the image itself; None where float64 rounding hides it.

        Raises:
            UsageError: the map has no such pixels or ranks.
        """
        question = self.question(asked)
        assert question.cam is not None
        value, error = float(question.holds.margin(question.cam)), question.holds.sensitivity * self.rounding
        return None if not abs(value) > error else value > 0

    def ball(self, norm: Norm, where: Where | None = None) -> Ball:
        """The ball of radius 0 around the image, of images that differ from it only there.

        Raises:
            UsageError: the image has no such places, or see `Ball`.
        """
        return Ball(torch.from_numpy(self.image), 0.0, norm, where=where)

    def at(self, k: int) -> Explanation:
        """The same map with its top-k set for another k.

        Raises:
            UsageError: the map has no such rank.
        """
        return replace(self, top=top_k(torch.from_numpy(self.cam), k, self.rounding))


@settled()
def explain(network: Network, image: ImageArray, k: Size = None, class_id: int | None = None) -> Explanation:
    """The map of an image [C, H, W] in [0, 1] and its top-k pixels.

    Raises:
        ImageError: the image does not fit the network.
        UsageError: no such class, or a k the map cannot have.
        GateError: the converted network differs from onnxruntime on this image.
    """
    image = check_image(network, image)
    with grace():
        return _explain(network, image, k, class_id)


def _explain(network: Network, image: ImageArray, k: Size, class_id: int | None) -> Explanation:
    features = check_equal_to_onnxruntime(network, image[None])
    predicted = network.predict(image)
    explained = predicted if class_id is None else class_id
    if not 0 <= explained < network.head.classes:
        raise UsageError(f"class {explained}: the network has classes 0-{network.head.classes - 1}")
    network = network.explaining(image, explained)
    cam = network.head.cam(features, explained)[0]
    differs = check_map(network, image, explained, cam.numpy())
    error = _value_rounding(network, explained, cam)
    top = top_k(cam, choose_k(cam) if k == "auto" else size_of(k, cam.numel()), error)
    return Explanation(explained, predicted, cam.numpy(), top, error, network, image, differs)


def _value_rounding(network: Network, class_id: int, cam: Tensor) -> float:
    """What float64 may change in one map value: which gaps count as ties, and which witnesses are strict.

    The a-priori bound where that is small. It multiplies all weights, so of deep networks it says nothing;
    there stands a share of the largest value that float64 stays far below, as the equality gate shows: of
    two values that differ by at most 1% when one of them is computed in float32, the other is within
    2^-29 times that, 2e-11, to first order. No certificate rests on it: bounds set the rounding of their own
    rows aside, at the image itself, too, so that a tie they cannot exclude has no positive score. And a
    witness is one that onnxruntime confirms.
    """
    share = _ROUNDING_SHARE * float(cam.abs().max())
    if is_deep(network.trunk):
        return share
    try:
        return min(rounding(network, class_id).value, share)
    except EngineError:  # a trunk that no engine can bound
        return share


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
