"""Upper cuts of one window that read all its inputs, not only the ranges of its elements.

A window is y = max_e z_e, each z_e = A_e . v + k_e affine in the variables v of the relaxation, which lie in
a box. For any coefficients a,

    y <= a . v + max_e ( k_e + max over the box of (A_e - a) . v ),

since y = z_e for some e. The right side is the cut. The best a at a point for two elements is known in
closed form: with z_1 = z_0 + w . v + c the maximum is z_0 + relu(w . v + c), whose concave envelope over a
box takes, variable by variable in the order of how far each has moved towards making w . v large, the
coefficients that the relu's growth along that order gives (Anderson et al. 2020; Tjandraatmadja et al.
2020). So a lies between A_0 and A_1 entry by entry. Where a window has more elements, a comes from its two
largest at the point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from corgi.engines.rigour import gamma

Vector = npt.NDArray[np.float64]


def envelope(
    elements: Vector, constants: Vector, lower: Vector, upper: Vector, point: Vector
) -> tuple[Vector, float]:
    """Coefficients a [variables] and a constant b with max_e z_e <= a . v + b on the box, tight near a point.

    Args:
        elements: A_e, [E, variables].
        constants: k_e, rounded up by all errors of the elements, [E].
        lower: of the box, [variables].
        upper: of the box, [variables].
        point: where the cut should be low, [variables].
    """
    values = elements @ point + constants
    order = np.argsort(-values)
    first, second = order[0], order[min(1, len(order) - 1)]
    slope = elements[first] - elements[second]
    share = _shares(slope, float(constants[first] - constants[second]), lower, upper, point)
    cut = elements[second] + share * slope
    return cut, _side(cut, elements, constants, lower, upper)


def _shares(slope: Vector, constant: float, lower: Vector, upper: Vector, point: Vector) -> Vector:
    """How much of each variable's slope the concave envelope of relu(slope . v + constant) takes: [0, 1]."""
    start, end = np.where(slope >= 0, lower, upper), np.where(slope >= 0, upper, lower)
    growth = slope * (end - start)
    moved = np.divide(point - start, end - start, out=np.zeros_like(point), where=end != start)
    order = np.argsort(-moved, kind="stable")
    reached = constant + float(slope @ start) + np.cumsum(growth[order])
    gained = np.diff(np.maximum(reached, 0.0), prepend=max(constant + float(slope @ start), 0.0))
    share = np.zeros_like(slope)
    positive = growth[order] > 0
    share[order[positive]] = gained[positive] / growth[order[positive]]
    return np.clip(share, 0.0, 1.0)


def _side(cut: Vector, elements: Vector, constants: Vector, lower: Vector, upper: Vector) -> float:
    """The least b for which the cut holds, rounded up: its rounding is relative to all terms."""
    left = elements - cut
    largest = constants + np.maximum(left * lower, left * upper).sum(1)
    size = np.maximum(np.abs(lower), np.abs(upper))
    amounts = np.abs(constants) + (np.abs(elements) + np.abs(cut)) @ size
    return float((largest + gamma(len(cut) + 8, torch.float64) * amounts).max())
