"""The least margin of a property over a box, by brute force: every choice of maxima of every window.

In one choice every window equals its element, which is at least every other one: there the map is affine in
the image, on a polytope. What remains is a linear program for each set of pixels that could break a ranking,
and for each sign of the pixels that a balance subtracts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from corgi.engines.cone import Cone
from corgi.engines.forms import signed
from corgi.engines.interface import Bounder
from corgi.properties.formula import All, Any, Balance, Formula, Ranking
from corgi.types import Ball

Vector = NDArray[np.float64]
Row = tuple[Vector, float]
"""a . d + b."""


@dataclass(frozen=True)
class Region:
    """Where all maxima are fixed: rows . d + shift <= 0 in a box; there the map is values . d + level."""

    rows: Vector
    shift: Vector
    box: list[tuple[float, float]]
    values: Vector
    level: Vector

    def least(self, cost: Vector, rows: Sequence[Vector], shift: Sequence[float]) -> float:
        """The least cost over the region and further variables: rows . x + shift <= 0; inf if none."""
        more = len(cost) - len(self.box)
        own = np.pad(self.rows, ((0, 0), (0, more)))
        below = np.concatenate([own, np.reshape(rows, (-1, len(cost)))])
        limit = -np.concatenate([self.shift, np.asarray(shift, dtype=float)])
        found = linprog(cost, below, limit, bounds=[*self.box, *[(None, None)] * more])
        assert found.status in (0, 2), found.message
        return float(found.fun) if found.status == 0 else math.inf


def whole_map(bounder: Bounder, ball: Ball, pixels: int) -> Cone | None:
    """The map over a ball, unfolded: its pixels are the margins of the cone."""
    forms = signed(torch.arange(pixels), torch.ones(pixels, dtype=torch.float64), of_map=True)
    found = bounder.unfold(ball, forms)
    return found if isinstance(found, Cone) else None


def regions(cone: Cone, most: int) -> list[Region] | None:
    """All of them that have a point; None beyond `most`."""
    box = list(zip(cone.lower.tolist(), cone.upper.tolist(), strict=True))
    windows = [list(_elements(cone, layer, window)) for layer in cone.layers for window in range(len(layer))]
    start = Region(np.zeros((0, len(box))), np.zeros(0), box, np.zeros((0, len(box))), np.zeros(0))
    found = [(start, list[Row]())]
    for elements in windows:
        found = [
            (smaller, [*rows, chosen])
            for region, rows in found
            for smaller, chosen in _split(region, rows, elements)
        ]
        if len(found) > most:
            return None
    image, of_windows, constant = (part.numpy() for part in (cone.image, cone.windows, cone.constant))
    done = []
    for region, rows in found:
        a = np.array([row for row, _ in rows]).reshape(len(rows), len(box))
        b = np.array([shift for _, shift in rows])
        values, level = image + of_windows @ a, constant + of_windows @ b
        done.append(Region(region.rows, region.shift, box, values, level))
    return done


def _elements(cone: Cone, layer, window: int) -> Iterator[tuple[Vector, Vector, float]]:
    """Of one window the live elements: coefficients on the image, on earlier windows, and the constant."""
    for element in layer.live[window].nonzero().flatten().tolist():
        at = ((layer.window == window) & (layer.element == element)).nonzero().flatten()
        image, earlier = np.zeros(len(cone.pixels)), np.zeros(cone.undecided)
        if len(at):
            image = layer.image[at[0]].numpy()
            earlier[: layer.start] = layer.earlier[at[0]].numpy()
        yield image, earlier, float(layer.lead[window, element])


def _split(region: Region, rows: list[Row], elements: list) -> Iterator[tuple[Region, Row]]:
    """One part for each element that can be the maximum somewhere in a region."""
    affine = []
    for image, earlier, lead in elements:
        row, shift = image.copy(), lead
        for (of_image, constant), coefficient in zip(rows, earlier, strict=False):
            row, shift = row + coefficient * of_image, shift + coefficient * constant
        affine.append((row, shift))
    for chosen, (row, shift) in enumerate(affine):
        others = [other for number, other in enumerate(affine) if number != chosen]
        smaller = Region(
            np.concatenate([region.rows, *(np.reshape(a - row, (1, -1)) for a, _ in others)]),
            np.concatenate([region.shift, [b - shift for _, b in others]]),
            region.box, region.values, region.level,
        )  # fmt: skip
        if smaller.least(np.zeros(len(region.box)), [], []) < math.inf:
            yield smaller, (row, shift)


def least_margin(formula: Formula, found: list[Region]) -> float:
    """The least margin of a property over all regions."""
    match formula:
        case All(parts=parts):
            return min(least_margin(part, found) for part in parts)
        case Balance():
            return min(_balance(row, region) for row in formula.rows.numpy() for region in found)
    choices = [list(_sets(part)) for part in (formula.parts if isinstance(formula, Any) else (formula,))]
    return min(_at_once(chosen, region) for chosen in itertools.product(*choices) for region in found)


def _sets(ranking: Formula) -> Iterator[tuple[Ranking, tuple[int, ...], tuple[int, ...]]]:
    assert isinstance(ranking, Ranking)
    for lost in itertools.combinations(ranking.above, ranking.lost_count):
        for gained in itertools.combinations(ranking.below, ranking.gained):
            yield ranking, lost, gained


def _at_once(chosen: tuple, region: Region) -> float:
    """The least of the largest of some parts, each with its sets: z >= a - b, a >= lost, b <= gained."""
    size = len(region.box)
    variables = size + 1 + 2 * len(chosen)
    rows, shift = list[Vector](), list[float]()
    for number, (ranking, lost, gained) in enumerate(chosen):
        high, low = size + 1 + 2 * number, size + 2 + 2 * number
        for pixels, factor, at, sign in ((lost, ranking.up, high, 1), (gained, ranking.down, low, -1)):
            for pixel in pixels:
                row = np.zeros(variables)
                row[:size], row[at] = sign * factor * region.values[pixel], -sign
                rows.append(row)
                shift.append(sign * factor * region.level[pixel])
        row = np.zeros(variables)
        row[high], row[low], row[size] = 1, -1, -1
        rows.append(row)
        shift.append(0.0)
    cost = np.zeros(variables)
    cost[size] = 1
    return region.least(cost, rows, shift)


def _balance(coefficients: Vector, region: Region) -> float:
    """The least sum_p c_p J_p: J_p >= I_p, 0 where c_p > 0, else one program for each sign of I_p."""
    size = len(region.box)
    variables = size + len(coefficients)
    reach = np.abs(region.values) @ np.maximum(*np.abs(np.array(region.box)).T)
    negative = [p for p, c in enumerate(coefficients) if c < 0]
    signs = [
        [1] if region.level[p] > reach[p] else [-1] if region.level[p] < -reach[p] else [1, -1]
        for p in negative
    ]
    cost, least = np.zeros(variables), math.inf
    cost[size:] = coefficients
    for chosen in itertools.product(*signs):
        rows, shift = list[Vector](), list[float]()

        def add(pixel: int, of_value: float, of_part: float, rows=rows, shift=shift) -> None:
            """of_value I_p + of_part J_p <= 0."""
            row = np.zeros(variables)
            row[:size], row[size + pixel] = of_value * region.values[pixel], of_part
            rows.append(row)
            shift.append(of_value * region.level[pixel])

        for pixel in range(len(coefficients)):
            add(pixel, 0, -1)
            add(pixel, 1, -1)
        for pixel, sign in zip(negative, chosen, strict=True):
            add(pixel, -sign, 0)
            add(pixel, -1 if sign > 0 else 0, 1)
        least = min(least, region.least(cost, rows, shift))
    return least
