"""Properties of generated networks, and what samples and descents say of them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corgi import Form, Norm, explain, load
from corgi.attacks.pairs import linear_radius
from corgi.attacks.steps import Projection, steepest
from corgi.budget import OutOfTime, limited
from corgi.certify.explain import Explanation
from corgi.decide.ball import BallDecider, ExactOptions, Finding
from corgi.decide.decider import Proved, Undecided
from corgi.decide.margins import score
from corgi.engines.interface import Bounder
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.properties import Both, Centre, Formula, Inside, Iou, Order, Overlap, Pointing, Property, Topk
from corgi.types import Ball, Where
from tests.onnx_models import random_cam_network
from tests.soundness.samples import inside

KINDS = ("topk", "spare", "overlap", "pointing", "inside", "iou", "order", "centre", "both")
STEPS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
"""Of a descent, in radii."""


@dataclass(frozen=True)
class Subject:
    """An image of a network, k, and what may change."""

    explained: Explanation
    seed: int
    where: Where | None = None

    @property
    def network(self) -> Network:
        return self.explained.network

    @property
    def k(self) -> int:
        return self.explained.top.k

    def ball(self, radius: float, norm: Norm = Norm.LINF) -> Ball:
        return self.explained.ball(norm, self.where).with_radius(radius)

    @cached_property
    def slack(self) -> float:
        """What float64 may change in a margin."""
        features = self.network.trunk(torch.from_numpy(self.explained.image)[None].double())
        weight = self.network.head.weight[self.explained.class_id].abs()
        return 1e-10 * (1 + float((features.abs().amax((0, 2, 3)) * weight).sum()))

    def cams(self, images: Tensor) -> Tensor:
        return self.network.head.cam(self.network.trunk(images), self.explained.class_id).flatten(1)


def subject(seed: int, folder: Path, *, curved: bool = False) -> Subject | None:
    """A generated network with an image and k; None where the top set is a tie."""
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, folder, curved=curved))
    k = int(rng.integers(1, min(network.pixels - 1, 12)))
    found = explain(network, rng.random(network.input_shape, dtype=np.float32), k)
    return None if found.top.tie else Subject(found, seed)


def properties(of: Subject, rng: np.random.Generator) -> dict[str, tuple[Property, Formula]]:
    """One of each kind that can be asked, most of them true at the image."""
    found = {}
    for kind in KINDS:
        try:
            asked = _property(kind, of, rng)
            found[kind] = asked, of.explained.question(asked).holds
        except UsageError:  # nothing can break it, or nothing fulfil it
            continue
    return found


def _property(kind: str, of: Subject, rng: np.random.Generator) -> Property:
    pixels, k, width = of.network.pixels, of.k, of.explained.cam.shape[1]
    order = np.argsort(-of.explained.cam, axis=None)
    region = tuple(map(int, order[: int(rng.integers(1, max(2, pixels // 2)))]))
    if rng.random() < 0.5:  # others, too
        region = tuple({*region, *map(int, rng.choice(pixels, max(1, pixels // 4), replace=False))})
    match kind:
        case "topk":
            return Topk()
        case "spare":
            return Topk(int(rng.integers(k, pixels)))
        case "overlap":
            return Overlap(int(rng.integers(max(1, k // 2), k + 1)))
        case "pointing":
            return Pointing(region)
        case "inside":
            most = sum(int(i) in region for i in order[:k])
            return Inside(int(rng.integers(1, max(1, most) + 1)), region)
        case "iou":
            return Iou(float(rng.choice([0.3, 0.5, 0.8])), float(rng.choice([0.3, 0.5, 0.75, 1.0])))
        case "order":
            cut = int(rng.integers(1, pixels))
            places = [(int(i) // width, int(i) % width) for i in order]
            return Order(tuple(places[:cut][-3:]), tuple(places[cut:][:4]))
        case "centre":
            return Centre(float(rng.choice([0.1, 0.3, 1.0])))
    return Both((_property("pointing", of, rng), _property(str(rng.choice(["overlap", "centre"])), of, rng)))


def radius_of(of: Subject, asked: Property, norm: Norm, share: float) -> float:
    """So much of where a linear network would break it."""
    ball = of.ball(0.0, norm)
    linear = linear_radius(of.explained.question(asked), ball)
    return min(share * (linear or 0.01), 0.5 * ball.largest)


def images_of(of: Subject, ball: Ball, formulas: list[Formula], count: int, seed: int) -> Tensor:
    """Samples, corners and attacks on pixels of the map, and descents of every formula: float64."""
    found = [inside(of.network, ball, of.explained.class_id, count, seed)]
    generator = torch.Generator().manual_seed(seed)
    starts = found[0][torch.randperm(len(found[0]), generator=generator)[:2]]
    starts = torch.cat([ball.center[None].double(), starts])
    found.extend(descended(of, ball, formula, starts) for formula in formulas)
    return torch.cat(found)


def descended(of: Subject, ball: Ball, formula: Formula, images: Tensor) -> Tensor:
    """The last images of steepest descents of a margin, which moves its first term as well: [N, C, H, W]."""
    within, images = Projection(ball, torch.float64), images.clone()
    for step in STEPS:
        images.requires_grad_(True)
        total = formula.margin(of.cams(images)).sum()
        (gradient,) = torch.autograd.grad(total, images, allow_unused=True)
        images = images.detach()
        if gradient is None:
            break
        images = within(images - step * ball.radius * steepest(ball, images, gradient))
    return images


@dataclass
class Checked:
    """How many answers were held against images, and which were wrong."""

    bounds: int = 0
    positive: int = 0
    decided: int = 0
    proved: int = 0
    refuted: int = 0
    wrong: list[str] | None = None

    def note(self, what: str) -> None:
        self.wrong = [*(self.wrong or []), what]

    def bound(
        self,
        of: Subject,
        bounder: Bounder,
        ball: Ball,
        asked: Property,
        cams: Tensor,
        *,
        form: Form = Form.PAIRWISE,
        sign: bool = False,
    ) -> None:
        """A lower bound of the margin is below the margin of every image."""
        question = of.explained.question(asked, form=form)
        found = score(question, bounder, ball, sign_only=sign)
        least = float(question.holds.margin(cams).min())
        self.bounds += 1
        self.positive += found.value > 0
        slack = of.slack * (1 + question.holds.sensitivity)
        if not found.value <= least + slack or (found.value > 0 and least < 0):
            self.note(f"seed {of.seed}, {asked}, radius {ball.radius}: bound {found.value} > {least}")
        known = math.inf if found.value > 0 else 0.0
        for formula, value in found.parts.items():
            at = float(formula.margin(cams).min())
            if value > at + of.slack * (1 + formula.sensitivity) or (value > known and at < 0):
                self.note(f"seed {of.seed}, part of {asked}, radius {ball.radius}: bound {value} > {at}")

    def exact(
        self, of: Subject, bounder: Bounder, ball: Ball, asked: Property, cams: Tensor, options: ExactOptions
    ) -> Finding:
        """A ball that is decided: no image contradicts a proof, and a witness is one."""
        question = of.explained.question(asked)
        try:
            with limited(time.monotonic() + options.seconds):
                found = BallDecider(question, bounder, options, lambda _: None).decide(ball)
        except OutOfTime:  # in the middle of a bound: what a search takes as its end
            found = Undecided("time was up", 0)
        margin = question.holds.margin
        least, slack = float(margin(cams).min()), of.slack * (1 + question.holds.sensitivity)
        self.decided += 1
        if isinstance(found, Proved):
            self.proved += 1
            right = 0 < found.least <= least + slack and least > -slack
        elif isinstance(found, Undecided):
            right = bool(found.reason)
        else:
            self.refuted += 1
            near = ball.with_radius(ball.radius * (1 + options.gap))
            right = near.distance(torch.from_numpy(found.image)) <= near.radius
            exact = of.cams(torch.from_numpy(found.image)[None].double())[0]
            right = (
                right
                and float(margin(exact)) < 0
                and float(margin(torch.from_numpy(found.cam).flatten())) < 0
            )
        if not right:
            self.note(f"seed {of.seed}, {asked}, radius {ball.radius}: {found} against {least}")
        return found
