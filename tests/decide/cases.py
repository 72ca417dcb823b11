"""Margins of generated networks to decide, and what brute force says of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from corgi import PatchEngine, load
from corgi.engines.cone import Cone
from corgi.engines.forms import pairs
from corgi.engines.interface import Bounder
from corgi.network.network import Network
from corgi.types import Ball
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

    def case(self, rng: np.random.Generator, share: float, margins: int = 1) -> Case:
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
            radii.append(float((cam[i] - cam[p]) / gradient.abs().sum().clamp(min=1e-9)))
        return Case(self, above, below, min(share * max(radii), 0.5))


@dataclass(frozen=True)
class Case:
    """Margins I_above - I_below, int64 [P] each, over a ball of a radius around a subject's image."""

    subject: Subject
    above: Tensor
    below: Tensor
    radius: float

    @property
    def ball(self) -> Ball:
        return Ball(self.subject.image, self.radius)

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
        """Points of the cone's box, half of them corners: [count, pixels]."""
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(count, len(self.cone.pixels), generator=generator, dtype=torch.float64)
        share[count // 2 :] = share[count // 2 :].round()
        return self.cone.lower + share * (self.cone.upper - self.cone.lower)

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
        equalities = {"A_eq": equal, "b_eq": equal_to} if windows else {}
        found = linprog(cost, np.array(below), np.array(below_by), bounds=bounds, **equalities)
        assert found.status in (0, 2), found.message  # solved, or no point has these maxima
        if found.status == 0:
            least = min(least, float(found.fun))
    assert math.isfinite(least), "every point has some maxima"
    return least


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
