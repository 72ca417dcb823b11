"""Margins of generated networks to decide, and what brute force says of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import clarabel
import numpy as np
import scipy.sparse as sp
import torch
from scipy.optimize import linprog
from torch import Tensor

from corgi import PatchEngine, load
from corgi.engines.cone import Cone
from corgi.engines.forms import pairs
from corgi.engines.interface import Bounder
from corgi.network.network import Network
from corgi.types import Ball, Norm
from tests.onnx_models import random_cam_network


@dataclass(frozen=True)
class Subject:
    """A piecewise linear network and an image [C, H, W] float32."""

    network: Network
    bounder: Bounder
    image: Tensor

    def cams(self, images: Tensor) -> Tensor:
        """Maps of class 0 of images [N, C, H, W] float64, by the network itself: [N, pixels]."""
        return self.network.head.cam(self.network.trunk(images), 0).flatten(1)

    @cached_property
    def scale(self) -> float:
        """How large the terms of a map value are: what rounding is measured against."""
        features = self.network.trunk(self.image[None].double())
        return float((features.abs().amax((0, 2, 3)) * self.network.head.weight[0].abs()).sum()) + 1e-3

    def case(self, rng: np.random.Generator, share: float, margins: int = 1, norm: Norm = Norm.LINF) -> Case:
        """Random margins, positive at the image, in a ball of `share` times the radius a linear network has.

        Several margins share their top pixel, as they do where k2 > k; the radius is that of the last one.
        """
        cam = self.network.cam(self.image, 0).flatten()
        order = cam.argsort(descending=True)
        first = int(rng.integers(0, self.network.pixels - margins))
        above = order[first].repeat(margins)
        later = rng.choice(np.arange(first + 1, self.network.pixels), margins, replace=False)
        below = order[torch.from_numpy(later)]
        x = self.image[None].double().requires_grad_(True)
        values = self.cams(x)[0]
        radii = []
        for i, p in zip(above.tolist(), below.tolist(), strict=True):
            (gradient,) = torch.autograd.grad(values[i] - values[p], x, retain_graph=True)
            radii.append(float((cam[i] - cam[p]) / norm.dual.sizes(gradient)[0].clamp(min=1e-9)))
        return Case(self, above, below, min(share * max(radii), 0.5), norm)


@dataclass(frozen=True)
class Case:
    """Margins I_above - I_below, int64 [P] each, over a ball of a radius around a subject's image."""

    subject: Subject
    above: Tensor
    below: Tensor
    radius: float
    norm: Norm = Norm.LINF

    @property
    def ball(self) -> Ball:
        return Ball(self.subject.image, self.radius, self.norm)

    @cached_property
    def cone(self) -> Cone:
        cone = self.subject.bounder.unfold(self.ball, pairs(self.above, self.below))
        assert isinstance(cone, Cone)
        return cone

    def images(self, deviations: Tensor) -> Tensor:
        """The images that deviations [N, pixels of the cone] stand for: [N, C, H, W] float64."""
        centre = self.subject.image.double()
        flat = centre.flatten().repeat(len(deviations), 1)
        flat[:, self.cone.pixels] += deviations
        return flat.reshape(-1, *centre.shape)

    def margins(self, images: Tensor) -> Tensor:
        """The margins of images [N, C, H, W], by the network itself: [N, P]."""
        cams = self.subject.cams(images)
        return cams[:, self.above] - cams[:, self.below]

    def deviations(self, count: int, seed: int) -> Tensor:
        """Points of the cone's box and ball, half of them corners moved into it: [count, pixels]."""
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(count, len(self.cone.pixels), generator=generator, dtype=torch.float64)
        share[count // 2 :] = share[count // 2 :].round()
        found = self.cone.lower + share * (self.cone.upper - self.cone.lower)
        if self.norm is Norm.LINF:
            return found
        return found * (self.radius / self.norm.sizes(found[:, :, None, None])[:, None]).clamp(max=1)

    def descended(self, starts: int = 8, seed: int = 0) -> Tensor:
        """The images of a signed gradient descent on the largest margin, all steps: [N, C, H, W] float64."""
        generator = torch.Generator().manual_seed(seed)
        box = self.ball.inner_box(torch.float64)
        share = torch.rand(starts, *box.lower.shape, generator=generator, dtype=torch.float64)
        share[0] = 0.5
        images, found = box.lower + share * (box.upper - box.lower), []
        for step in (1.0, 0.5, 0.5, 0.25, 0.25, 0.1, 0.1, 0.03):
            images = images.detach().requires_grad_(True)
            largest = self.margins(images).amax(1).sum()
            (gradient,) = torch.autograd.grad(largest, images)
            images = (images.detach() - step * self.radius * gradient.sign()).clamp(box.lower, box.upper)
            found.append(images)
        return torch.cat(found)


def subjects(seeds: range, folder: Path) -> Iterator[tuple[Subject, np.random.Generator]]:
    """The piecewise linear ones among generated networks, and the generator each is to go on with."""
    for seed in seeds:
        network, image, rng = _generated(seed, folder)
        bounder = PatchEngine().bind(network, 0, torch.float64)
        if bounder.unfolds:
            yield Subject(network, bounder, image), deepcopy(rng)


_made: dict[int, tuple[Network, Tensor, np.random.Generator]] = {}


def _generated(seed: int, folder: Path) -> tuple[Network, Tensor, np.random.Generator]:
    """Network, image and generator of a seed, made once a process: many tests ask for the same."""
    if seed not in _made:
        rng = np.random.default_rng(seed)
        network = load(random_cam_network(rng, folder))
        image = torch.from_numpy(rng.random(network.input_shape, np.float32))
        _made[seed] = network, image, rng
    return _made[seed]


def raised(cone: Cone, amount: float) -> Cone:
    """All margins larger by an amount."""
    return replace(cone, constant=cone.constant + amount)


def patterns(cone: Cone) -> int:
    """How many choices of a maximum for every undecided window there are."""
    return math.prod(int(live.sum()) for layer in cone.layers for live in layer.live)


def brute_force(cone: Cone) -> float:
    """The least value of the largest margin: a linear program for each choice of all windows' maxima.

    In one choice every window is equal to its element, which is at least every other live one.
    """
    pixels, windows = len(cone.pixels), cone.undecided
    columns = pixels + windows + 1
    rows: list[list[tuple[np.ndarray, float]]] = []  # by window and live element: row, lead
    for layer in cone.layers:
        for window, live in enumerate(layer.live):
            elements = []
            for element in live.nonzero().flatten().tolist():
                row = np.zeros(columns)
                at = ((layer.window == window) & (layer.element == element)).nonzero().flatten()
                assert len(at) == (element > 0), "the zero has no row"
                if len(at):
                    row[:pixels] = layer.image[at[0]]
                    row[pixels : pixels + layer.start] = layer.earlier[at[0]]
                elements.append((row, float(layer.lead[window, element])))
            rows.append(elements)
    margins = np.concatenate([cone.image, cone.windows, -np.ones((len(cone.constant), 1))], 1)
    box = list(zip(cone.lower.tolist(), cone.upper.tolist(), strict=True))
    bounds = [*box, *[(None, None)] * (windows + 1)]
    cost = np.zeros(columns)
    cost[-1] = 1
    least = math.inf
    for choice in itertools.product(*(range(len(elements)) for elements in rows)):
        equal, equal_to = np.zeros((windows, columns)), np.zeros(windows)
        below, below_by = [*margins], [*(-cone.constant).tolist()]
        for window, taken in enumerate(choice):
            row, lead = rows[window][taken]
            equal[window, pixels + window], equal_to[window] = 1, lead
            equal[window] -= row
            for other, (another, its_lead) in enumerate(rows[window]):
                if other != taken:
                    below.append(another - row)
                    below_by.append(lead - its_lead)
        least = min(
            least, _program(cone, cost, (np.array(below), np.array(below_by)), (equal, equal_to), bounds)
        )
    assert math.isfinite(least), "every point has some maxima"
    return least


Rows = tuple[np.ndarray, np.ndarray]


def _program(
    cone: Cone, cost: np.ndarray, below: Rows, equal: Rows, ends: list[tuple[float | None, float | None]]
) -> float:
    """The least cost . v with A v <= b, C v = d, ends, and pixels in the ball; inf if there is none."""
    pixels, columns = len(cone.pixels), len(cost)
    if cone.norm is Norm.L2:
        sides = [
            (i, sign, sign * end)
            for i, both in enumerate(ends)
            for sign, end in zip((-1, 1), both, strict=True)
            if end is not None
        ]
        rows = np.zeros((len(sides), columns))
        for row, (i, sign, _) in zip(rows, sides, strict=True):
            row[i] = sign
        ball = np.concatenate([np.zeros((1, columns)), -np.eye(pixels, columns)])
        matrix = sp.csc_matrix(np.concatenate([equal[0], below[0], rows, ball]))
        right = np.concatenate(
            [equal[1], below[1], [end for _, _, end in sides], [cone.radius], np.zeros(pixels)]
        )
        cones = [
            clarabel.ZeroConeT(len(equal[1])),
            clarabel.NonnegativeConeT(len(below[1]) + len(sides)),
            clarabel.SecondOrderConeT(pixels + 1),
        ]
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        nothing = sp.csc_matrix((columns, columns))
        found = clarabel.DefaultSolver(nothing, cost, matrix, right, cones, settings).solve()
        assert str(found.status) in ("Solved", "PrimalInfeasible", "AlmostSolved"), found.status
        return math.inf if str(found.status) == "PrimalInfeasible" else found.obj_val
    if cone.norm is Norm.L1:
        # w >= d, w >= -d, sum w <= r.
        unit = np.eye(pixels, columns)
        ball = np.concatenate([np.concatenate([unit, -unit]), np.tile(-np.eye(pixels), (2, 1))], 1)
        total = np.append(np.zeros(columns), np.ones(pixels))
        wide = (np.pad(below[0], ((0, 0), (0, pixels))), ball, total[None])
        below = np.concatenate(wide), np.concatenate([below[1], np.zeros(2 * pixels), [cone.radius]])
        equal = np.pad(equal[0], ((0, 0), (0, pixels))), equal[1]
        cost, ends = np.pad(cost, (0, pixels)), [*ends, *[(0, None)] * pixels]
    given = {"A_eq": equal[0], "b_eq": equal[1]} if len(equal[1]) else {}
    solved = linprog(cost, *below, bounds=ends, **given)
    assert solved.status in (0, 2), solved.message  # solved, or no point has these maxima
    return float(solved.fun) if solved.status == 0 else math.inf


@dataclass
class Useless:
    """A `Minimum` of which nothing is found out, or something that is no bound."""

    bound: float = -math.inf
    seen: float = math.inf
    nodes: int = 0
    finished: bool = False

    def improve(self, nodes: int, enough: float) -> None:
        self.nodes += nodes
        self.finished = self.nodes > 100
