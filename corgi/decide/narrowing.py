"""The ReLUs inside of a cone narrowed: what each can be is bounded by a small tree of its own.

The planes around undecided windows come from backward bounds of their elements, which lose more with every
layer. Where a tree over the whole cone takes many nodes it pays to bound the elements of its inner ReLUs
first: their cones are small, so a few nodes each bring much (docs/results.md). For x_0 = 0 and x_1 = z with

    above_10 >= max over the ball of z - 0,   above_01 >= max of 0 - z:

a ReLU with above_01 < 0 is z, one with above_10 < 0 is 0, any other lies below its chord (patch/maximum.py).
Windows of several elements are left as they are: narrowing them was measured to bring nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from corgi.budget import left
from corgi.decide.decider import Minimum
from corgi.engines.cone import Cone, ConeLayer, reading
from corgi.engines.rigour import SPARE, roundings, smallest

_NODES = 4
"""Nodes of the tree of each end."""


def narrows(cone: Cone) -> bool:
    """Whether there are ReLUs inside, between windows they read and windows that read them."""
    return any(_inner(layer) for layer in cone.layers[:-1])


def narrowed(cone: Cone, minimum: Callable[[Cone], Minimum]) -> Cone:
    """The same margins over the same ball, with tighter planes; as far as there is time."""
    for place, layer in enumerate(cone.layers[:-1]):
        if _inner(layer):
            layers = (*cone.layers[:place], _narrowed(cone, layer, minimum), *cone.layers[place + 1 :])
            cone = replace(cone, layers=layers)
    return cone


def _inner(layer: ConeLayer) -> bool:
    return layer.live.shape[1] == 2 and layer.start > 0


def _narrowed(cone: Cone, layer: ConeLayer, minimum: Callable[[Cone], Minimum]) -> ConeLayer:
    """One layer of ReLUs."""
    both = torch.full((2, len(layer)), torch.inf, dtype=torch.float64)
    for row, (window, _) in enumerate(zip(layer.window.tolist(), layer.element.tolist(), strict=True)):
        if left() <= 0:
            break
        if bool(layer.live[window].all()):
            for side, sign in enumerate((1, -1)):
                both[side, window] = -_least(cone, layer, row, sign, minimum)
    return _around(layer, both[0], both[1])


def _least(cone: Cone, layer: ConeLayer, row: int, sign: int, minimum: Callable[[Cone], Minimum]) -> float:
    """A lower bound of sign * (z - 0) over the ball, z the element of a row; at most so far as its sign."""
    zero, lead = layer.lead[layer.window[row]]
    error = SPARE * layer.error[row] + roundings(4) * (zero.abs() + lead.abs())
    constant = sign * (lead - zero) - error
    image, windows = sign * layer.image[row], sign * layer.earlier[row]
    found = minimum(reading(cone, constant[None], error[None], image[None], windows[None]))
    found.improve(_NODES, 0.0)
    return found.bound


def _around(layer: ConeLayer, below: Tensor, over: Tensor) -> ConeLayer:
    """The layer with what is known of its elements: above_01 and above_10, inf where nothing is."""
    zero, lead = layer.lead.T
    size = zero.abs() + lead.abs() + torch.maximum(layer.lower.abs(), layer.upper.abs())
    known = torch.isfinite(below) & torch.isfinite(over) & layer.live.all(1)
    below, over = torch.where(known, below, 0), torch.where(known, over, 0)
    # Everything below is rounded a few times, relative to sizes that are summed up here, or underflows.
    slack = roundings(32) * (size + below.abs() + over.abs()) + 8 * smallest(torch.float64)
    is_element, is_zero = known & (below < 0), known & (over < 0) & ~(below < 0)
    live = layer.live.clone()
    live[is_element, 0], live[is_zero, 1] = False, False
    share = over.clamp(min=0) / (over.clamp(min=0) + below.clamp(min=0)).clamp(min=1e-300)
    share = torch.where(is_element, 1.0, torch.where(is_zero, 0.0, share.clamp(0, 1)))
    up = torch.stack([1 - share, share], 1)
    height = torch.maximum(share * below.clamp(min=0), (1 - share) * over.clamp(min=0))
    height = torch.where(live.all(1), height, 0)
    shift = up[:, 0] * zero + up[:, 1] * lead + height + slack
    # Of two planes around the same window that which is lower in the middle of the ball.
    better = known & (~live.all(1) | (shift < layer.up_shift))
    lowest = zero + torch.where(is_element, -below, 0) - slack
    highest = zero + over.clamp(min=0) + slack
    rows = live[layer.window, layer.element]
    return replace(
        layer,
        live=live,
        low=torch.where((live.sum(1) == 1)[:, None], live.to(layer.low.dtype), layer.low),
        up=torch.where(better[:, None], up, layer.up),
        up_shift=torch.where(better, shift, layer.up_shift),
        window=layer.window[rows],
        element=layer.element[rows],
        image=layer.image[rows],
        earlier=layer.earlier[rows],
        error=layer.error[rows],
        lower=torch.where(known, torch.maximum(layer.lower, lowest), layer.lower),
        upper=torch.where(known, torch.minimum(layer.upper, highest), layer.upper),
    )
