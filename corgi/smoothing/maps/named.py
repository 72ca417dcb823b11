"""Base maps by name: which map, and what becomes of its values before they are averaged."""

from __future__ import annotations

import math

from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.smoothing.cam_map import CamMap
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.maps.quadratic import Quadratic
from corgi.smoothing.maps.relaxed import Relaxed
from corgi.smoothing.sparsified import Sparsified
from corgi.terms import MapForm, MapName


def named_map(network: Network, class_id: int, name: MapName) -> BaseMap:
    """The map of a class, with values in [0, 1].

    `network` is one whose class activation map or Grad-CAM is fixed at the image (`Network.explaining`).
    """
    match name:
        case MapName.CAM | MapName.GRADCAM:
            return CamMap(network, class_id)
        case MapName.SALIENCY:
            from corgi.smoothing.maps.saliency import SaliencyMap  # captum takes seconds to load

            return SaliencyMap(network, class_id)
        case MapName.INTEGRATED_GRADIENTS:
            from corgi.smoothing.maps.integrated import IntegratedGradientsMap

            return IntegratedGradientsMap(network, class_id)


def formed_map(base: BaseMap, form: MapForm, kept: int, clipped: float) -> BaseMap:
    """A map in one of the forms of theory 7.4.

    Args:
        base: the map, values in [0, 1].
        form: what becomes of them.
        kept: of sparsified and relaxed: how many values stay, tau * n.
        clipped: of relaxed: the share gamma of values that become 1.

    Raises:
        UsageError: a number of values the map does not have.
    """
    match form:
        case MapForm.SCALED:
            return base
        case MapForm.QUADRATIC:
            return Quadratic(base)
        case MapForm.SPARSIFIED:
            return Sparsified(base, kept)
        case MapForm.RELAXED:
            return Relaxed(base, min(math.ceil(clipped * base.n), kept), kept)


def kept_of(base: BaseMap, tau: float) -> int:
    """How many values a share tau in (0, 1) of a map is, rounded up.

    Raises:
        UsageError: it is not such a share.
    """
    if not 0 < tau < 1:
        raise UsageError(f"--tau {tau:g}: expected a share between 0 and 1")
    return math.ceil(tau * base.n)
