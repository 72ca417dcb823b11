"""All kinds of certificates on one image: same network, same class, norms that can be compared.

The deterministic methods speak of the class activation map of every image x' itself. The statistical ones
speak of another map, smoothed by noise: its empirical mean at x against its expectation at every x'. Maps of
other sizes get the same share of largest pixels as k is of the class activation map.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch

from corgi.ambient import settled
from corgi.budget import OutOfTime, Stoppable, check, grace, left, limited, tell, within
from corgi.certify.bounders import Bounders
from corgi.certify.explain import Explanation, check_image, explain
from corgi.certify.methods import default_engine
from corgi.certify.options import VerifyOptions
from corgi.certify.verify import verify_explained
from corgi.comparison.options import CompareOptions
from corgi.comparison.rows import Comparison, Guarantee, Row, wanted
from corgi.decide.ball import ExactOptions
from corgi.errors import EngineError
from corgi.network.network import Network
from corgi.properties.interface import check_region
from corgi.properties.overlap import Overlap
from corgi.properties.pointing import Pointing
from corgi.results import EmpiricalBound, ImageArray, VerifyResult
from corgi.smoothing.cam_map import CamMap
from corgi.smoothing.confidence import bounds, usual
from corgi.smoothing.divergence import noise_for
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.maps.named import named_map
from corgi.smoothing.overlap import curve_of, overlap_radii
from corgi.smoothing.pointing import pointing_radius, renyi_pointing_radius
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.renyi import renyi_radii
from corgi.smoothing.sparsified import Sparsified
from corgi.smoothing.tally import empty, sample
from corgi.terms import EngineName, MapName
from corgi.types import Ball, Norm

_METHODS = 12
"""Methods, at most, that share the time there is."""

_EXACT_SECONDS = 20.0
"""Most of an exact search of a property that can spare pixels: `corgi verify` goes on where it ends."""

_FORWARDS = 20
"""Forward passes timed, at most."""


@settled()
def compare(
    network: Network,
    image: ImageArray,
    options: CompareOptions | None = None,
) -> Comparison:
    """Every kind of certificate for the map of an image [C, H, W] float32 in [0, 1].

    Ctrl-C and the time limit end the comparison; finished rows are kept. Every row may take an equal share of
    the time that is left.

    Raises:
        ImageError, UsageError, GateError, EngineError: as `corgi.certify.verify.verify`.
    """
    options = options or CompareOptions()
    deadline = None if options.time_limit is None else time.monotonic() + options.time_limit
    comparison = _Comparison(network, image, options)
    with limited(deadline):
        return comparison.run()


class _Comparison:
    """State of one comparison."""

    def __init__(self, network: Network, image: ImageArray, options: CompareOptions) -> None:
        self.started = time.monotonic()
        self.options = options
        self.image = check_image(network, image)
        self.explanation: Explanation = explain(network, self.image, options.k, options.class_id)
        self.network = self.explanation.network
        self.cam = CamMap(self.network, self.explanation.class_id)
        self.bounders = Bounders()
        asked = options.region
        self.region = None if asked is None else check_region(asked, self.network.pixels)
        self.pointing: list[Row] = []
        self.attacks: dict[Norm, EmpiricalBound] = {}
        """What was found that changes the top-k set, for the next method that asks about it."""
        with grace():
            self.forward = self.forward_seconds()

    def run(self) -> Comparison:
        rows: list[Row] = []
        with Stoppable() as end:
            for number, (name, answers) in enumerate(self.methods()):
                with (
                    within(name),
                    suppress(OutOfTime),
                    limited(time.monotonic() + left() / (_METHODS - number)),
                ):
                    tell("compare", "begins")
                    rows += answers()
                check()
        return Comparison(
            self.explanation,
            tuple(rows),
            self.options.share,
            self.forward,
            end.status is not None,
            time.monotonic() - self.started,
            tuple(self.pointing),
        )

    def methods(self) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        """Names and what computes their rows, in order."""
        exact, bounds_alone = VerifyOptions(), VerifyOptions(exact=None)
        lipschitz = VerifyOptions(engine=default_engine(EngineName.LIPSCHITZ), exact=None)
        for method, norm, options, attack in (
            ("exact", Norm.LINF, exact, True),
            ("crown", Norm.LINF, bounds_alone, False),
            ("crown", Norm.L2, bounds_alone, True),
            ("lipschitz", Norm.LINF, lipschitz, False),
            ("lipschitz", Norm.L2, lipschitz, False),
        ):
            yield f"{method}, {norm.label}", partial(self.certified, method, norm, options, attack)
        k = self.explanation.top.k
        if (keep := wanted(self.options.share, k)) < k:
            # What the statistical rows ask, of the map itself.
            sparing = VerifyOptions(property=Overlap(keep), exact=ExactOptions(seconds=_EXACT_SECONDS))
            overlap = partial(self.certified, "overlap", Norm.LINF, sparing)
            yield f"overlap, {Norm.LINF.label}", partial(overlap, attack=True, kept=keep)
        if self.region is not None:
            yield f"pointing, {Norm.LINF.label}", partial(self.points, self.region)
        saliency = named_map(self.network, self.explanation.class_id, MapName.SALIENCY)
        k = self.kept(self.cam)
        scored = RankScores(self.cam, k)
        for name, base, norm in (
            ("smoothed CAM", self.cam, Norm.L2),
            ("sparsified CAM", Sparsified(self.cam, k), Norm.L2),
            ("sparsified gradient", Sparsified(saliency, self.kept(saliency)), Norm.L2),
            ("Renyi CAM", scored, Norm.L2),
            ("Renyi CAM", scored, Norm.LINF),
        ):
            yield f"{name}, {norm.label}", partial(self.smoothed, name, base, norm)

    def kept(self, base: BaseMap) -> int:
        """The k of another map: the same share of its pixels, at least one."""
        return max(1, round(self.explanation.top.k * base.n / self.network.pixels))

    def points(self, region: tuple[int, ...]) -> list[Row]:
        """A certificate that the largest pixel stays in the region, and an image in which it does not."""
        options = VerifyOptions(property=Pointing(region), exact=ExactOptions(seconds=_EXACT_SECONDS))
        for row in self.certified("pointing", Norm.LINF, options, attack=True):
            kept = 0 if row.guarantee is Guarantee.EMPIRICAL else 1
            steps = tuple((kept, radius) for _, radius in row.steps)
            self.pointing.append(replace(row, pixels=region, steps=steps))
        return []

    def certified(
        self, method: str, norm: Norm, options: VerifyOptions, attack: bool, kept: int | None = None
    ) -> list[Row]:
        """A certificate of the CAM; with `attack`, also what the attack found that ran before it.

        `kept`: how many of the k largest pixels the property keeps; None for all.
        """
        explained, top = self.explanation, self.explanation.top
        row = Row(
            method=method,
            about=self.cam.name,
            values=explained.cam,
            pixels=top.pixels,
            guarantee=Guarantee.DETERMINISTIC,
            norm=norm,
            steps=(),
            work="no bound evaluations",
            seconds=0.0,
        )
        try:
            self.bounders.prepared(options.engine, self.network, explained.class_id)
        except EngineError as error:  # others may serve this network
            return [replace(row, reason=error.message)]
        asked = replace(options, norm=norm)
        known = self.attacks.get(norm) if options.property is None else None
        result = verify_explained(explained, asked, bounders=self.bounders, attacked=known)
        if options.property is None and result.attack is not None:
            self.attacks[norm] = result.attack
        certificate, exact = result.certificate, result.certificate.exact
        open_end = exact.reason if exact is not None and not exact.closed else ""
        decided = f", {exact.decisions} margins decided" if exact is not None and exact.decisions else ""
        found = replace(
            row,
            steps=((kept or top.k, certificate.radius),) if certificate.radius > 0 else (),
            work=f"{certificate.evaluations} bound evaluations{decided}",
            seconds=certificate.seconds,
            reason=certificate.reason or open_end,
        )
        return [found, *(self.attacked(row, result) if attack else [])]

    def attacked(self, row: Row, result: VerifyResult) -> list[Row]:
        """What the attack of a verification found, on the map and in the norm of its row."""
        attack = result.attack
        if attack is None:  # at a tie there is nothing to attack
            return []
        witness = attack.witness
        found = replace(
            row,
            method="attack",
            guarantee=Guarantee.EMPIRICAL,
            work=f"{attack.attack}, {attack.gradients} gradients",
            seconds=attack.seconds,
        )
        if witness is None:
            return [found]
        other = Ball(torch.from_numpy(self.image), 0.0, Norm.L2 if row.norm is Norm.LINF else Norm.LINF)
        return [
            replace(
                found,
                steps=((row.k - len(witness.lost), witness.radius),),
                elsewhere=other.distance(torch.from_numpy(witness.image)),
            )
        ]

    def smoothed(self, method: str, base: BaseMap, norm: Norm) -> list[Row]:
        """The overlap certificate of a base map averaged over noise (theory 7), and that of the region.

        Both hold at once: they are made of the same bounds. A map of other pixels has no such region.
        """
        started, options, k = time.monotonic(), self.options, self.kept(base)
        noise = noise_for(norm.order, options.sigma, self.image.size, options.seed)
        tally = empty(base, self.image, noise)
        tally = sample(tally, base, self.image, options.samples)
        held = bounds(tally, usual(base.binary), options.failure)
        if isinstance(base, RankScores):
            radii = renyi_radii(tally, base, k, norm.order, held)
        else:
            radii = overlap_radii(tally, k, held)
        row = Row(
            method=method,
            about=base.name,
            values=tally.mean.reshape(tally.map_shape),
            pixels=tally.order[:k],
            guarantee=Guarantee.STATISTICAL,
            norm=norm,
            steps=curve_of(radii),
            work=f"{tally.samples} images, {noise.name} noise, sigma = {options.sigma:g}",
            seconds=time.monotonic() - started,
            failure_probability=options.failure,
            reason="" if radii.max() > 0 else "the samples show no overlap at any radius",
        )
        if self.region is not None and tally.map_shape == self.explanation.map_shape:
            if isinstance(base, RankScores):
                radius = renyi_pointing_radius(tally, base, self.region, norm.order, held)
            else:
                radius = pointing_radius(tally, self.region, held)
            shows = radius > 0
            self.pointing.append(
                replace(
                    row,
                    pixels=self.region,
                    steps=((1, radius),) if shows else (),
                    reason="" if shows else "the samples do not show the largest pixel in the region",
                )
            )
        return [row]

    def forward_seconds(self) -> float:
        """Median time of one forward pass on the image alone: of some, as many as a second allows."""
        images, times = torch.from_numpy(self.image)[None], list[float]()
        with torch.no_grad():
            while not times or (len(times) < _FORWARDS and sum(times) < 1):
                started = time.monotonic()
                self.network.trunk32(images)
                times.append(time.monotonic() - started)
        return statistics.median(times)
