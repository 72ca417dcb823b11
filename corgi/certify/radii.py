"""For every pixel of the map the radius within which it stays on its side of rank k.

A pixel of the top-k stays in it while at most k - 1 others can exceed it: theory 1.5 for the set {i} with k2
= k. A pixel outside stays outside while at least k others exceed it: the same for the map turned upside
down, with k2 = pixels - k. First intervals of the map say so for all pixels at once, on a grid of radii;
then the top pixels, and the outside ones nearest to them, are searched one by one, with attack and exact
decisions.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.attacks.pairs import linear_radius
from corgi.attacks.search import AttackOptions, attack_radius
from corgi.budget import OutOfTime, Stoppable, cancelled, check, check_limit, left, limited, tell, within
from corgi.certify.bounders import Bounders
from corgi.certify.exact import ExactRadius
from corgi.certify.explain import Explanation, explain
from corgi.certify.methods import default_engine
from corgi.decide.ball import ExactOptions
from corgi.engines.interface import BoundEngine, Bounder
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.properties.topk import Topk
from corgi.results import Brief, FloatArray, ImageArray, TopK
from corgi.terms import Size
from corgi.types import Norm

_INTERVAL_SHARE = 0.4
"""Share of the time there is that intervals of all pixels may take."""

_STEP = 1.25
"""Ratio of neighbouring radii of the grid."""


@dataclass(frozen=True)
class RadiiOptions:
    """What to compute.

    Attributes:
        k: size of the set.
        class_id: class to explain; None means the predicted one.
        norm: of the radii.
        outside: how many outside pixels, those with the largest values, are searched one by one.
        engine: how to bound; exact: how to decide; attack: how to attack.
        time_limit: seconds after which the pixels left keep what intervals gave them.
    """

    k: Size = None
    class_id: int | None = None
    norm: Norm = Norm.LINF
    outside: int = 15
    engine: BoundEngine = field(default_factory=default_engine)
    exact: ExactOptions = field(default_factory=lambda: ExactOptions(gap=0.05, seconds=6.0))
    attack: AttackOptions = field(default_factory=lambda: AttackOptions(restarts=1, tolerance=0.02))
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if self.outside < 0:
            raise UsageError(f"outside = {self.outside}: expected a number of pixels >= 0")
        check_limit(self.time_limit)


@dataclass(frozen=True)
class PixelRadius:
    """One pixel.

    Attributes:
        pixel: flat (row-major) index; rank: 1 for the largest.
        certified: radius, pixel scale, within which it provably stays on its side of rank k.
        attacked: distance of an image, confirmed by onnxruntime, in which it does not; None if none was
        found. reason: why the two are not closer, empty if they are as close as asked.
    """

    pixel: int
    rank: int
    certified: float
    attacked: float | None
    reason: str


@dataclass(frozen=True, repr=False)
class PixelRadii(Brief):
    """All pixels of a map.

    Attributes:
        explanation: the map and its top-k set.
        certified: float64 [h, w], every pixel's certified radius; those not in `searched` by intervals alone.
        searched: pixels searched one by one, by rank.
        interrupted: Ctrl-C or the time limit ended it early.
        seconds: wall time.
        norm: of the radii.
    """

    explanation: Explanation
    certified: FloatArray
    searched: tuple[PixelRadius, ...]
    interrupted: bool
    seconds: float
    norm: Norm


@settled()
def pixel_radii(network: Network, image: ImageArray, options: RadiiOptions | None = None) -> PixelRadii:
    """Radii of all pixels of the map of an image [C, H, W] float32 in [0, 1].

    Raises:
        ImageError, UsageError: the image or an option does not fit the network.
        GateError: network or engine differ from onnxruntime on this image.
        EngineError: the engine cannot bound this network.
    """
    options = options or RadiiOptions()
    deadline = None if options.time_limit is None else time.monotonic() + options.time_limit
    radii = _Radii(network, image, options)
    with limited(deadline):
        return radii.run()


class _Radii:
    """State of one computation."""

    def __init__(self, network: Network, image: ImageArray, options: RadiiOptions) -> None:
        self.started = time.monotonic()
        self.options = options
        explained = self.explanation = explain(network, image, options.k, options.class_id)
        self.k, self.ball = explained.top.k, explained.ball(options.norm)
        self.values = torch.from_numpy(explained.cam).reshape(-1)
        self.order = self.values.argsort(descending=True, stable=True)
        self.bounders = Bounders()
        # The map upside down: a pixel outside the top-k is one of the `pixels - k` largest of it.
        head = explained.network.head
        turned = replace(explained.network, head=replace(head, weight=-head.weight))
        self.turned = replace(explained, network=turned, cam=-explained.cam)

    def run(self) -> PixelRadii:
        certified = torch.zeros(len(self.values), dtype=torch.float64)
        searched: list[PixelRadius] = []
        with Stoppable() as end:
            if self.explanation.doubt is None:
                explained = self.explanation
                bounder = self.bounders.bind(self.options.engine, explained.network, explained.class_id)
                with suppress(OutOfTime), limited(time.monotonic() + _INTERVAL_SHARE * left()):
                    self.by_intervals(bounder, certified)
            for rank in range(1, min(self.k + self.options.outside, len(self.values)) + 1):
                check()
                pixel = int(self.order[rank - 1])
                with within(f"pixel {rank} of {self.k + self.options.outside}"):
                    found = self.search(pixel, rank, float(certified[pixel]))
                certified[pixel] = found.certified
                searched.append(found)
        return PixelRadii(
            self.explanation,
            certified.reshape(self.explanation.cam.shape).numpy(),
            tuple(searched),
            end.status is not None or cancelled(),
            time.monotonic() - self.started,
            self.ball.norm,
        )

    def by_intervals(self, bounder: Bounder, certified: Tensor) -> None:
        """Try a grid of radii: up from a guess while any pixel stays on its side, down until all do."""
        inside = torch.zeros(len(self.values), dtype=torch.bool)
        inside[self.order[: self.k]] = True
        guess = linear_radius(self.explanation.question(), self.ball)
        first = 1e-4 if guess is None else 0.7 * guess
        up = [first * _STEP**step for step in range(60)]
        down = [first / 2.0**step for step in range(1, 12)]
        for radius in (*up, *down):
            stuck = radius > first and not bool((certified >= radius / _STEP**1.5).any())
            if radius > self.ball.largest or stuck or (radius < first and bool((certified > 0).all())):
                continue
            bounds = bounder.pixels(self.ball.with_radius(radius))
            # Itself counted off: an interval meets itself.
            above = (bounds.upper[None, :] >= bounds.lower[:, None]).sum(1) - 1
            surely = (bounds.lower[None, :] > bounds.upper[:, None]).sum(1)
            stays = torch.where(inside, above <= self.k - 1, surely >= self.k)
            certified[stays] = certified[stays].clamp(min=radius)
            detail = f"intervals at radius {radius:.3g}: {int(stays.sum())} pixels stay"
            tell("radii", detail)

    def search(self, pixel: int, rank: int, certified: float) -> PixelRadius:
        """Attack and decide one pixel."""
        explained = self.explanation if rank <= self.k else self.turned
        stay_within = self.k if rank <= self.k else len(self.values) - self.k
        question = replace(explained, top=TopK(1, (pixel,), math.nan, tie=False)).question(Topk(stay_within))
        assert question.cam is not None
        if not float(question.holds.margin(question.cam)) > 2 * question.rounding:
            return PixelRadius(pixel, rank, 0.0, None, f"tie at rank {self.k}")
        if explained.doubt is not None:
            return PixelRadius(pixel, rank, 0.0, None, explained.doubt)
        options = self.options
        found = attack_radius(question, self.ball, options.attack)
        exact = ExactRadius(
            question,
            self.bounders.bind(options.engine, explained.network, explained.class_id),
            self.ball,
            options.exact,
            time.monotonic() + options.exact.seconds,
            certified=certified,
            witness=found.witness,
        )
        reason = exact.run()
        attacked = None if exact.witness is None else exact.witness.radius
        return PixelRadius(pixel, rank, exact.certified, attacked, reason or "")
