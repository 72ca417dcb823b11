"""Which pixels will change places first, to first order (theory 1.7)."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.attacks.target import ENTRIES, Critical, Target
from corgi.properties.formula import All, Formula, Ranking
from corgi.types import Ball

_CANDIDATES = 48
"""Pixels looked at on either side: those next to where the ranking is decided."""

_ROWS = 64
"""Gradients computed in one batch, if they are not too many for `ENTRIES`."""

_ROUNDS = 4
"""How often both sides of a critical set are chosen anew."""


def critical_sets(target: Target, ball: Ball, count: int) -> tuple[Critical, ...]:
    """The sets with the smallest linear radius at the centre of a ball, at most `count`; else none.

    Were the network linear, I_i - I_p would vanish at radius (I_i - I_p) / ||grad I_i - grad I_p||_q, with q
    dual to the norm of the radius; a set is broken where the last of its pairs vanishes, at least.
    """
    rankings = _conjunction(target.holds)
    if not rankings:
        return ()
    with torch.no_grad():
        values = target.cams(ball.center[None])[0]
    found = list[tuple[float, Critical]]()
    for ranking in rankings[:count]:
        found += _sets(target, ranking, ball, values, max(1, count // len(rankings)))
    found.sort(key=lambda one: one[0])
    return tuple(critical for _, critical in found[:count])


def _conjunction(formula: Formula) -> list[Ranking]:
    """The rankings each of which breaks a formula by itself."""
    if isinstance(formula, All):
        return [ranking for part in formula.parts for ranking in _conjunction(part)]
    return [formula] if isinstance(formula, Ranking) else []


def _sets(
    target: Target, ranking: Ranking, ball: Ball, values: Tensor, count: int
) -> list[tuple[float, Critical]]:
    fixed_above, inside = _nearest(ranking.inside, ranking.up * values, ranking.lost_count, largest=False)
    fixed_below, others = _nearest(ranking.others, ranking.down * values, ranking.gained, largest=True)
    above, below = (_gradients(target, ball, pixels) for pixels in (inside, others))
    above, below = (g if f == 1 else f * g for g, f in ((above, ranking.up), (below, ranking.down)))
    gaps = (ranking.up * values[inside])[:, None] - (ranking.down * values[others])[None, :]
    radii = gaps / torch.cdist(above, below, p=ball.norm.dual.order).clamp(min=torch.finfo(gaps.dtype).tiny)
    lost, gained = ranking.lost_count - len(fixed_above), ranking.gained - len(fixed_below)

    def made(radius: float, rows: list[int], columns: list[int]) -> tuple[float, Critical]:
        high = (*fixed_above.tolist(), *inside[rows].tolist())
        low = (*fixed_below.tolist(), *others[columns].tolist())
        return radius, Critical(high, low, ranking.up, ranking.down)

    best = radii.flatten().topk(min(max(count, 1), radii.numel()), largest=False)
    places = [divmod(place, len(others)) for place in best.indices.tolist()]
    if lost == gained == 1:
        return [made(float(r), [row], [column]) for r, (row, column) in zip(best.values, places, strict=True)]
    grown = {}
    for row, column in places if lost == 1 or gained == 1 else places[: max(1, count // 2)]:
        radius, rows, columns = _grown(radii, row, column, lost, gained)
        grown[tuple(rows), tuple(columns)] = made(radius, rows, columns)
    return list(grown.values())


def _grown(
    radii: Tensor, row: int, column: int, lost: int, gained: int
) -> tuple[float, list[int], list[int]]:
    """A set around one pair, each side chosen so that the last of its pairs vanishes early, in turns."""
    columns = torch.tensor([column]) if lost > 1 else radii[row].topk(gained, largest=False).indices
    rows = torch.tensor([row])
    for _ in range(_ROUNDS):
        rows = radii[:, columns].amax(1).topk(lost, largest=False).indices
        columns = radii[rows].amax(0).topk(gained, largest=False).indices
    return float(radii[rows][:, columns].max()), sorted(rows.tolist()), sorted(columns.tolist())


def _nearest(pixels: Tensor, values: Tensor, wanted: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    """Pixels that any set of `wanted` of them will hold, and those next in line."""
    order = pixels[values[pixels].argsort(descending=largest)]
    fixed = max(wanted - _CANDIDATES // 2, 0)
    return order[:fixed], order[fixed : fixed + _CANDIDATES]


def linear_radius(target: Target, ball: Ball) -> float | None:
    """Where the property would break around the centre of a ball were the network linear; None if it is flat.

    A guess to start a search from, never a bound. The first of the target's critical sets is the nearest,
    where they are known: finding it takes a gradient of every pixel.
    """
    images = ball.center[None].clone().requires_grad_(True)
    if target.holds.single:
        critical = (target.critical or critical_sets(target, ball, 1))[0]
        margin = critical.gap(target.cams(images)[0])
    else:
        margin = target.margins(images).sum()
    return vanishing_radius(margin, images, ball)


def vanishing_radius(margin: Tensor, images: Tensor, ball: Ball) -> float | None:
    """Where a margin of one image [1, C, H, W] would be 0 were it linear; None if it is flat or not > 0.

    `ball`: around the image, for its norm and what may change.
    """
    (gradient,) = torch.autograd.grad(margin, images)
    value, slope = float(margin.detach()), float(ball.norm.dual.sizes(_reached(ball, gradient))[0])
    return value / slope if slope > 0 and value > 0 else None


def _reached(ball: Ball, gradients: Tensor) -> Tensor:
    """Gradients [N, C, H, W] by how far entries may change, in radii."""
    return gradients if ball.scale is None else gradients * ball.scale.to(gradients.dtype)


def _gradients(target: Target, ball: Ball, pixels: Tensor) -> Tensor:
    """Gradients of map pixels at the centre of a ball, by its radius: [rows, C * H * W]."""
    parts, image = [], ball.center
    for chunk in torch.split(pixels, max(1, min(_ROWS, ENTRIES // image.numel()))):
        images = image.expand(len(chunk), *image.shape).clone().requires_grad_(True)
        values = target.cams(images)[torch.arange(len(chunk)), chunk]
        parts.append(_reached(ball, torch.autograd.grad(values.sum(), images)[0]).flatten(1))
    return torch.cat(parts)
