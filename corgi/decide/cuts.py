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

Pixels in a ball of l_2 or l_1 as well: the same, with the maximum over box and ball (reach.py). Of a ball the
envelope is another one (docs/theory.md, section 6), so a need not lie between A_0 and A_1.
"""

from __future__ import annotations

import numpy as np
import torch

from corgi.decide.reach import Reach
from corgi.decide.solver import Vector
from corgi.engines.rigour import gamma
from corgi.terms import Norm

_INSIDE = 0.8
"""Share of the radius up to which the point is moved inwards: on the sphere itself the best cut is infinitely
steep, and good at that point only (0.8 gave the best root programs of 0.5 to 0.99)."""

_GRIDS = 4
"""Grids, each around the best point of the one before."""


def envelope(
    elements: Vector, constants: Vector, reach: Reach, lower: Vector, upper: Vector, point: Vector
) -> tuple[Vector, float]:
    """Coefficients a [variables] and a constant b with max_e z_e <= a . v + b, tight near a point.

    Args:
        elements: A_e, [E, variables].
        constants: k_e, rounded up by all errors of the elements, [E].
        reach: where the first variables are, the pixels.
        lower: ends of the others, the windows.
        upper: the same.
        point: where the cut should be low, [variables].
    """
    values = elements @ point + constants
    order = np.argsort(-values)
    first, second = order[0], order[min(1, len(order) - 1)]
    slope, gap = elements[first] - elements[second], float(constants[first] - constants[second])
    pixels = len(reach.lower)
    if reach.norm is Norm.LINF:
        lower, upper = np.append(reach.lower, lower), np.append(reach.upper, upper)
        cut = _shares(slope, gap, lower, upper, point) * slope
        lower, upper = lower[pixels:], upper[pixels:]
    else:
        cut = _around_ball(slope, gap, reach, lower, upper, point)
    cut = elements[second] + cut
    return cut, _side(cut, elements, constants, reach, lower, upper)


def _around_ball(
    slope: Vector, constant: float, reach: Reach, lower: Vector, upper: Vector, point: Vector
) -> Vector:
    """The same of relu(slope . v + constant), where the pixels are in a ball.

    The windows take shares as in a box, all pixels together being one more variable of it. That leaves two
    functions of the pixels alone, 0 and slope . d, with constants of their own.
    """
    pixels = len(reach.lower)
    of_pixels, of_windows = slope[:pixels], slope[pixels:]
    ends = reach.least(of_pixels), -reach.least(-of_pixels)
    at = float(of_pixels @ point[:pixels])
    share = _shares(
        np.append(of_windows, 1.0),
        constant,
        np.append(lower, ends[0]),
        np.append(upper, ends[1]),
        np.append(point[pixels:], min(max(at, ends[0]), ends[1])),
    )
    taken = share[:-1] * of_windows
    rest = of_windows - taken
    zero = float(np.maximum(-taken * lower, -taken * upper).sum())
    other = constant + float(np.maximum(rest * lower, rest * upper).sum())
    around = _around_l2 if reach.norm is Norm.L2 else _around_l1
    return np.append(around(of_pixels, other - zero, reach.radius, point[:pixels]), taken)


def _around_l1(slope: Vector, constant: float, radius: float, point: Vector) -> Vector:
    """Coefficients a for f = relu(slope . d + constant) in a ball of l_1.

    Its corners are +-r e_i. With b the largest mean of f at two opposite ones, a . d + b is f at the corners
    between which the point lies, and not below f at those opposite to them.
    """
    above, below = (np.maximum(sign * radius * slope + constant, 0.0) for sign in (1.0, -1.0))
    middle = float(((above + below) / 2).max(initial=0.0))
    return (
        np.where(point > 0, above - middle, np.where(point < 0, middle - below, (above - below) / 2)) / radius
    )


def _around_l2(slope: Vector, constant: float, radius: float, point: Vector) -> Vector:
    """The a of the least a . d + max(r |a|, constant + r |slope - a|), at a point d moved inwards a little.

    a lies in the plane of the point and the slope, which a grid is laid over again and again.
    """
    length = float(np.linalg.norm(point))
    along = point / length if length > 0 else slope / max(float(np.linalg.norm(slope)), 1e-300)
    p = float(slope @ along)
    across = slope - p * along
    q = float(np.linalg.norm(across))
    across = across / q if q > 0 else across
    distance, size = min(length, _INSIDE * radius), float(np.hypot(p, q))
    x0, z0, x1, z1 = -4 * size, 0.0, 4 * size, q
    for _ in range(_GRIDS):
        x, z = np.linspace(x0, x1, 33)[:, None], np.linspace(z0, z1, 17)[None, :]
        value = x * distance + np.maximum(radius * np.hypot(x, z), constant + radius * np.hypot(p - x, q - z))
        i, j = np.unravel_index(int(value.argmin()), value.shape)
        x_at, z_at = float(x[i, 0]), float(z[0, j])
        x_step, z_step = (x1 - x0) / 16, (z1 - z0) / 8
        x0, x1, z0, z1 = x_at - x_step, x_at + x_step, max(z_at - z_step, 0.0), min(z_at + z_step, q)
    return x_at * along + z_at * across


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


def _side(
    cut: Vector, elements: Vector, constants: Vector, reach: Reach, lower: Vector, upper: Vector
) -> float:
    """The least b for which the cut holds, rounded up: its rounding is relative to all terms."""
    left, pixels = elements - cut, len(reach.lower)
    windows = left[:, pixels:]
    largest = np.array([-reach.least(-row) for row in left[:, :pixels]])
    largest = constants + largest + np.maximum(windows * lower, windows * upper).sum(1)
    size = np.append(reach.size, np.maximum(np.abs(lower), np.abs(upper)))
    amounts = np.abs(constants) + (np.abs(elements) + np.abs(cut)) @ size
    return float((largest + gamma(len(cut) + 8, torch.float64) * amounts).max())
