"""What a ball in l_2 or l_1 says beyond the box around it.

Let the deviations d of a value lie in a box and have ||d||_p <= r. A row a is split into any two parts,
a = b + e; then with q dual to p (Hoelder),

    a . d  >=  min over the box of b . d  -  r ||e||_q.

With e = 0 that is the bound of the box, with b = 0 that of the ball. The best split gives the least value
over both (duality). In l_2 it is e_i = -lam d_i with d the minimiser: -a_i / lam, cut to the box. In l_1 it
is a fractional knapsack: e is a cut to [-t, t], t where the larger entries' room uses up r. Any split is
sound, so how lam and t are found needs no care.

Intervals of the convolutions of the image use the same: |W_o d| <= ||W_o||_q ||d||_p. Through element-wise
scales in front of them ||d||_p grows by the largest scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from corgi.engines.patch.halfspace import HalfSpace, least
from corgi.engines.patch.intervals import Centre, cast_up, widened
from corgi.engines.patch.patches import Patches, on_device
from corgi.engines.rigour import FOLDING, LEAST_ROOT, SPARE, fan_in, gamma, roundings, smallest, unit
from corgi.network import layers
from corgi.types import Ball, Interval, Norm

_STEPS = 4
"""Fixed point steps for lam: each fixes more entries at their ends."""

_FAR = 1e3
"""The lam taken, in ratios of the two rows' norms, where the half-space misses the ball: any large one."""

_LARGEST = 64
"""Entries among which t, or the largest entry outside a patch, is looked for."""

_SPAN, _SECTIONS, _GOLDEN = 20.0, 24, 0.381966
"""In l_1: up to which ratio of the two rows' largest entries lam is looked for, and how."""


@dataclass(frozen=True)
class Reach:
    """How far values of B balls are from their centres: ||d||_p <= radius.

    Attributes:
        norm: l_2 or l_1.
        radius: float64 [B].
    """

    norm: Norm
    radius: Tensor


def reach_of(balls: list[Ball], device: str) -> Reach | None:
    """The norm of the pixels' deviations; None for l_inf, where it says no more than the box.

    Raises:
        ValueError: balls of different norms, which one pass cannot bound.
    """
    norms = {ball.norm for ball in balls}
    if len(norms) != 1:
        raise ValueError(f"balls of several norms in one pass: {', '.join(sorted(norms))}")
    (norm,) = norms
    if norm is Norm.LINF:
        return None
    return Reach(norm, torch.tensor([ball.radius for ball in balls], dtype=torch.float64, device=device))


def least_in_reach(rows: Patches, fields: Tensor, reach: Reach) -> Tensor:
    """The least of rows over a box (`halfspace.box_fields`) and a ball: float64 [R], rounded down."""
    window = rows.window(fields)
    values = rows.values
    if len(window) != len(values):
        window = window.repeat(len(values) // len(window), 1, 1, 1)
    middles, halves = window.chunk(2, 1)
    radius = reach.radius[rows.ball]
    alone = least(values, middles, halves)
    if len(values) == 0:
        return alone
    limit = _limits(values.detach(), middles, halves, radius, reach.norm)
    # Over the edge of the value there is no room, so nothing of a row there counts in its norm.
    held = torch.minimum(torch.maximum(values, -limit), limit)
    rest = values - held
    # The difference was rounded, by at most u |rest|, and may have been flushed to 0.
    moved = middles.abs() + halves
    lost = (2 * unit(values.dtype) * rest.abs() + 2 * smallest(values.dtype)) * moved
    by_ball = raised(reach.norm.dual.sizes(held), values[0].numel()) * radius
    by_box = least(rest, middles, halves)
    error = SPARE * lost.sum((1, 2, 3), dtype=torch.float64) + roundings(8) * (by_box.abs() + by_ball)
    # NaN, of an unknown interval or a radius times an overflow, says nothing: then the box alone does.
    return torch.fmax(alone, by_box - by_ball - error)


def least_in_cap(rows: Patches, reach: Reach, half_space: HalfSpace) -> Tensor:
    """The least of rows on the image over a ball and a half-space: float64 [R], rounded down.

    Where a . d + c <= 0, for every lam >= 0,

        b . d  >=  b . d + lam (a . d + c)  >=  lam c - r ||b + lam a||_q.

    The half-space cuts a cap off the ball; near the radius that matters it is a small one.
    """
    values, radius = rows.values.to(torch.float64), reach.radius[rows.ball]
    window = rows.window(half_space.row.to(torch.float64).expand(len(reach.radius), -1, -1, -1))
    if len(window) != len(values):
        window = window.repeat(len(values) // max(len(window), 1), 1, 1, 1)
    cap = _cap_l2 if reach.norm is Norm.L2 else _cap_l1
    lam, norm = cap(rows, values, window, radius, half_space)
    by_ball, constant = radius * norm, half_space.constant
    return lam * constant - by_ball - roundings(8) * (lam * abs(constant) + by_ball)


def _cap_l2(
    rows: Patches, values: Tensor, window: Tensor, radius: Tensor, half_space: HalfSpace
) -> tuple[Tensor, Tensor]:
    """The best lam, in closed form, and ||b + lam a||_2 rounded up: [R] each."""
    count, constant = half_space.row.numel(), half_space.constant
    own, shared = values.square().sum((1, 2, 3)), (values * window).sum((1, 2, 3))
    other = half_space.row.to(torch.float64).square().sum()
    # With h = c / r and t = lam + shared / other, the slope in lam is 0 where
    # other t^2 (other - h^2) = h^2 rest.
    height, rest = (constant / radius).square(), (own - shared.square() / other).clamp(min=0)
    best = (height * rest / (other * (other - height))).sqrt() - shared / other
    lam = torch.where(other > height, best, _FAR * (own / other).sqrt()) if constant > 0 else 0 * own
    lam = lam.nan_to_num(nan=0.0, posinf=0.0).clamp(min=0)
    # Each of the three sums is off by gamma_n times that of its absolute terms.
    size = own.sqrt() + lam * other.sqrt()
    square = (own + 2 * lam * shared + lam.square() * other).clamp(min=0)
    norm = (square + gamma(count + 32, torch.float64) * size.square()).sqrt()
    return lam, raised(norm, count)


def _cap_l1(
    rows: Patches, values: Tensor, window: Tensor, radius: Tensor, half_space: HalfSpace
) -> tuple[Tensor, Tensor]:
    """A good lam, by golden section (the bound is concave in it), and ||b + lam a||_inf rounded up."""
    outside, largest = _largest_outside(rows, half_space.row)
    own = values.abs().amax((1, 2, 3))

    def norm(lam: Tensor) -> Tensor:
        joined = (values + lam[:, None, None, None] * window).abs().amax((1, 2, 3))
        # Product and sum were rounded.
        return torch.maximum(joined, lam * outside) * (1 + roundings(8)) + roundings(8) * (
            own + lam * largest
        )

    def bound(lam: Tensor) -> Tensor:
        return lam * half_space.constant - radius * norm(lam)

    low, high = torch.zeros_like(own), _SPAN * own / largest
    for _ in range(_SECTIONS):
        first, second = low + _GOLDEN * (high - low), high - _GOLDEN * (high - low)
        rises = bound(first) < bound(second)
        low, high = torch.where(rises, first, low), torch.where(rises, high, second)
    lam = ((low + high) / 2).nan_to_num(nan=0.0, posinf=0.0)
    return lam, norm(lam) + smallest(torch.float64)


def _largest_outside(rows: Patches, row: Tensor) -> tuple[Tensor, Tensor]:
    """The largest absolute entry of a row on the image [1, C, H, W] outside each patch, [R], and of all.

    Looked for among the largest; if the patch holds all those, the last of them bounds the rest.
    """
    flat, width = row[0].to(torch.float64).abs().amax(0).flatten(), row.shape[3]
    largest, at = flat.topk(min(_LARGEST, len(flat)))
    (high, wide), places = rows.size, rows.places
    tops, lefts, place = (on_device(v, flat.device) for v in (places.top, places.left, rows.place))
    down, right = at // width - tops[:, None], at % width - lefts[:, None]
    inside = (down >= 0) & (down < high) & (right >= 0) & (right < wide)
    first = inside.to(torch.int64).argmin(1)
    return torch.where(inside.all(1), largest[-1], largest[first])[place], largest[0]


def raised(norms: Tensor, count: int) -> Tensor:
    """Norms of `count` entries each, computed in float64, none below the truth; squares may underflow."""
    return norms * (1 + roundings(2 * (count + 8))) + count * LEAST_ROOT


def _limits(values: Tensor, middles: Tensor, halves: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """How much of each entry the ball is to bound: finite, >= 0, 0 where the box leaves no room."""
    # How far an entry can move in the direction in which it lowers the row.
    room = torch.where(values > 0, halves - middles, halves + middles).clamp(min=0)
    room = room.nan_to_num(nan=0.0, posinf=torch.finfo(room.dtype).max)
    size, r = values.abs(), radius.to(values.dtype)[:, None, None, None]
    limit = _cut_l2(size, room, r) if norm is Norm.L2 else _cut_l1(size, room, r)
    return torch.where(room > 0, limit, 0).nan_to_num(nan=0.0, posinf=0.0)


def _cut_l2(size: Tensor, room: Tensor, r: Tensor) -> Tensor:
    """The product lam room, with lam such that the minimiser cut to the box has the norm r."""
    squares, areas = size.square() * (room > 0), room.square()
    lam = squares.sum((1, 2, 3), keepdim=True).sqrt() / r
    for _ in range(_STEPS):
        free = size <= lam * room
        left = (r.square() - torch.where(free, 0, areas).sum((1, 2, 3), keepdim=True)).clamp(min=0)
        lam = (torch.where(free, squares, 0).sum((1, 2, 3), keepdim=True) / left).sqrt().nan_to_num(nan=0.0)
    return lam * room


def _cut_l1(size: Tensor, room: Tensor, r: Tensor) -> Tensor:
    """The size t at which the room of all larger entries reaches r; 0 if the box is inside the ball."""
    flat, rooms = size.flatten(1), room.flatten(1)
    largest, order = flat.topk(min(_LARGEST, flat.shape[1]), 1)
    used = rooms.gather(1, order).cumsum(1)
    at = (used < r.flatten()[:, None]).sum(1, keepdim=True)
    found = largest.gather(1, at.clamp(max=largest.shape[1] - 1))
    if flat.shape[1] <= _LARGEST:
        found = torch.where(at < largest.shape[1], found, 0)
    return found[:, :, None, None].expand_as(size)


def held_interval(layer: nn.Module, found: Interval, before: Reach | None, after: Centre) -> Interval:
    """The interval of a convolution's output, [B, C, H, W], cut to ||W_o||_q ||d||_p (and its error)."""
    if before is None or not isinstance(layer, layers.Conv):
        return found
    kernels = layer.weight.reshape(len(layer.weight), 1, 1, -1)
    share = gamma(fan_in(layer) + FOLDING, found.lower.dtype)
    rows = raised(before.norm.dual.sizes(kernels), kernels.shape[3]) * (1 + share)
    ends = (before.radius[:, None] * rows + after.error)[:, :, None, None]
    ends = cast_up(ends * (1 + 1e-12) + fan_in(layer) * smallest(found.lower.dtype), found.lower.dtype)
    here = widened(-ends, ends, 0.0)
    return Interval(torch.fmax(found.lower, here.lower), torch.fmin(found.upper, here.upper))


def reach_step(layer: nn.Module, before: Reach | None, after: Centre) -> Reach | None:
    """The norm behind an element-wise scale, from the norm before it; None behind every other layer.

    Operator norms of convolutions would carry it on, but beside intervals and rows they gain nothing
    (docs/results.md).
    """
    if before is None or not isinstance(layer, layers.Affine):
        return None
    scale = layer.scale.abs().max().to(torch.float64)
    units = after.value[0, 0].numel()
    # The error of a centre is added for every unit.
    wrong = before.norm.sizes(after.error[:, :, None, None]) * units ** (1 / before.norm.order)
    radius = before.radius * scale * (1 + 16 * unit(layer.scale.dtype)) + wrong
    return Reach(before.norm, radius * (1 + 1e-9) + LEAST_ROOT)
