from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from corgi.budget import heard as listened
from corgi.errors import UsageError
from corgi.progress import Progress
from corgi.results import Claim, ImageArray, StatisticalCertificate, Status
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.options import SmoothOptions
from corgi.smoothing.smooth import begin, smooth
from corgi.smoothing.tally import Tally, sample
from corgi.terms import Confidence, Correction
from tests.smoothing.synthetic import Halfspaces, Spread

IMAGE = np.full((1, 1, 4), 0.5, dtype=np.float32)
# Pixels 0 and 1 along one direction, 2 to 5 against it: one step moves both groups towards each other.
BASE = Halfspaces(((1.0, 0, 0, 0),) * 2 + ((-1.0, 0, 0, 0),) * 4, (0.0, 0.1, -0.3, -0.2, -0.1, 0.0))
SIGMA = 0.5
OPTIONS = SmoothOptions(k=2, sigma=SIGMA, samples=3000)


def leading(x0: float) -> set[int]:
    """The two largest pixels of the population map where the first input value is x0."""
    image = IMAGE.copy()
    image[..., 0] = x0
    return set(np.argsort(-BASE.population(image, SIGMA), kind="stable")[:2].tolist())


def test_no_claim_outlives_the_known_worst_image() -> None:
    assert leading(0.21) == {0, 1}
    assert leading(0.19) != {0, 1}
    worst = 0.5 - 0.2  # pixel 1 meets pixel 2 where x0 - 0.1 = 0.3 - x0
    for options in (
        OPTIONS,
        replace(OPTIONS, confidence=Confidence.HOEFFDING),
        replace(OPTIONS, as_published=True, overlap=1),
        replace(OPTIONS, claim=Claim.RENYI),
        replace(OPTIONS, claim=Claim.RENYI, norm=1.0),
        replace(OPTIONS, claim=Claim.RENYI, norm=math.inf),
    ):
        _, found = smooth(BASE, IMAGE, options)
        assert found.status is Status.CERTIFIED
        assert set(found.pixels) == {0, 1}
        kept = len(leading(0.5 - found.radius) & {0, 1})
        assert kept >= (found.overlap or 0) >= 1
        assert found.radius < worst or found.overlap == 1
    _, exact = smooth(BASE, IMAGE, OPTIONS)
    assert exact.radius > 0.75 * worst  # the certificate is tight for half-spaces, up to sampling


def test_radii_keep_their_claims() -> None:
    for radius in (0.05, 0.15, 0.25):
        _, ranks = smooth(BASE, IMAGE, replace(OPTIONS, claim=Claim.RANK, radius=radius))
        image = IMAGE.copy()
        image[..., 0] = 0.5 - radius
        population = BASE.population(image, SIGMA)
        for pixel, rank in zip(ranks.pixels, ranks.ranks or (), strict=True):
            assert int((population >= population[pixel]).sum()) <= rank
        _, pixels = smooth(BASE, IMAGE, replace(OPTIONS, claim=Claim.PIXELS, radius=radius))
        assert (population[list(pixels.inside or ())] > 0.5).all()
        assert (population[list(pixels.outside or ())] < 0.5).all()


def test_the_certificate_says_what_it_rests_on() -> None:
    heard: list[Progress] = []
    with listened(heard.append):
        tally, found = smooth(BASE, IMAGE, replace(OPTIONS, samples=130, seed=9, batch=64))
    sampling = found.sampling
    assert (sampling.samples, sampling.seed, sampling.sigma, sampling.rung) == (130, 9, SIGMA, None)
    assert (sampling.noise, sampling.confidence, sampling.correction) == (
        "Gaussian", "clopper-pearson", "bonferroni",
    )  # fmt: skip
    assert (sampling.inputs, sampling.map_shape) == (4, (1, 6))
    assert sampling.failure_probability == sampling.failure_share == 0.001
    assert [p.detail.partition(",")[0] for p in heard] == [f"{n} of 130 noisy images" for n in (64, 128, 130)]
    assert tally.samples == 130
    assert found.norm_label == "l_2"


def begun() -> Tally:
    return begin(BASE, IMAGE, OPTIONS)


def test_going_on_gives_the_sums_of_one_run_and_certificates_of_rungs() -> None:
    whole, alone = smooth(BASE, IMAGE, OPTIONS)
    first, once = smooth(BASE, IMAGE, replace(OPTIONS, samples=500), begun())
    second, twice = smooth(BASE, IMAGE, OPTIONS, first)
    assert np.array_equal(whole.sums, second.sums)
    assert [(c.sampling.rung, c.sampling.samples) for c in (once, twice)] == [(2, 400), (4, 1600)]
    assert twice.sampling.failure_share == pytest.approx(0.001 / 30)
    assert 0 < twice.radius < alone.radius
    rung = second.at_rung()
    assert np.array_equal(rung.sums, smooth(BASE, IMAGE, replace(OPTIONS, samples=1600))[0].sums)
    assert twice.pixels == rung.order[:2]
    again, free = smooth(
        BASE, IMAGE, replace(OPTIONS, overlap=1), second
    )  # another question of the same rung
    assert (again.samples, free.sampling, free.overlap) == (3000, twice.sampling, 1)


def test_between_rungs_nothing_can_be_chosen() -> None:
    """Whatever is seen and however many samples are added then: only the rung decides what is certified."""
    rng, tally = np.random.default_rng(3), begun()
    found: dict[int | None, StatisticalCertificate] = {}
    while tally.samples < 900:
        more = tally.samples + int(rng.integers(1, 150 if tally.samples < 100 else tally.samples))
        tally, seen = smooth(BASE, IMAGE, replace(OPTIONS, samples=max(more, 100)), tally)
        straight = smooth(BASE, IMAGE, replace(OPTIONS, samples=tally.samples), begun())[1]
        assert seen == straight == found.setdefault(seen.sampling.rung, seen)
    assert len(found) > 2


def test_one_way_of_certifying_a_set_of_samples() -> None:
    pixels = replace(OPTIONS, claim=Claim.PIXELS, radius=0.1)
    ways = [
        OPTIONS,
        replace(OPTIONS, confidence=Confidence.HOEFFDING),
        replace(OPTIONS, failure=0.01),
        pixels,
        replace(pixels, radius=0.2),
        replace(pixels, correction=Correction.BONFERRONI),
    ]
    tallies = [smooth(BASE, IMAGE, replace(way, samples=100), begun())[0] for way in ways]
    for i, tally in enumerate(tallies):
        for j, way in enumerate(ways):
            if i != j:
                with pytest.raises(UsageError, match="certified by"):
                    smooth(BASE, IMAGE, way, tally)
    serving = [(0, replace(OPTIONS, claim=Claim.RANK, radius=0.1, k=3)),
               (0, replace(OPTIONS, radius=0.1)),
               (5, replace(ways[5], radius=0.01))]  # fmt: skip
    for i, way in serving:
        assert smooth(BASE, IMAGE, replace(way, samples=100), tallies[i])[1].sampling.rung == 0


def test_a_failure_probability_is_spent_once() -> None:
    spent, _ = smooth(BASE, IMAGE, OPTIONS)
    for options in (OPTIONS, replace(OPTIONS, samples=6000)):
        with pytest.raises(UsageError, match="no certificate may follow"):
            smooth(BASE, IMAGE, options, spent)
    sampled = sample(begun(), BASE, IMAGE, 250)
    assert smooth(BASE, IMAGE, replace(OPTIONS, samples=250), sampled)[1].sampling.samples == 200
    with pytest.raises(UsageError, match="there are 250 already"):
        smooth(BASE, IMAGE, replace(OPTIONS, samples=249), sampled)
    with pytest.raises(UsageError, match="100, 200, 400"):
        smooth(BASE, IMAGE, replace(OPTIONS, samples=99), begun())


def test_a_start_of_something_else_is_refused() -> None:
    start = sample(begun(), BASE, IMAGE, 100)
    asked: dict[str, tuple[BaseMap, ImageArray, SmoothOptions]] = {
        "model or image": (replace(BASE, model="another"), IMAGE, OPTIONS),
        "image": (BASE, IMAGE + np.float32(0.1), OPTIONS),
        "map": (replace(BASE, name="others"), IMAGE, OPTIONS),
        "sigma": (BASE, IMAGE, replace(OPTIONS, sigma=0.2)),
        "seed": (BASE, IMAGE, replace(OPTIONS, seed=1)),
        "scored by rank": (BASE, IMAGE, replace(OPTIONS, claim=Claim.RENYI)),
    }
    for what, (base, image, options) in asked.items():
        with pytest.raises(UsageError, match=f"^start: saved counts of another .*{what}"):
            smooth(base, image, options, start)
    gone_on = sample(start.at_rung(), BASE, IMAGE, 150)  # is no rung any more
    assert (gone_on.rung, gone_on.at_rung().rung) == (None, 0)


def test_an_interrupt_below_the_first_rung_certifies_nothing_yet() -> None:
    class Stopped(Halfspaces):
        def __call__(self, images: Tensor) -> Tensor:
            calls.append(len(images))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return super().__call__(images)

    calls: list[int] = []
    tally, found = smooth(Stopped(BASE.directions, BASE.offsets), IMAGE, OPTIONS, begun())
    assert (tally.samples, tally.spent, found.status, found.radius) == (16, "", Status.UNKNOWN, 0)
    assert "16 samples" in found.reason
    assert smooth(BASE, IMAGE, OPTIONS, tally)[1].status is Status.CERTIFIED


def test_a_claim_without_samples_is_none() -> None:
    class Stopped(Halfspaces):
        def __call__(self, images: Tensor) -> Tensor:
            raise KeyboardInterrupt

    stopped = Stopped(BASE.directions, BASE.offsets)
    for claim in Claim:
        options = replace(OPTIONS, claim=claim, radius=0.1)
        tally, found = smooth(stopped, IMAGE, options)
        assert (tally.samples, found.status, found.radius) == (0, Status.UNKNOWN, 0)
        assert found.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "--samples 0"),
        ({"batch": 0}, "--batch 0"),
        ({"time_limit": -1.0}, "--time-limit -1"),
        ({"time_limit": math.nan}, "--time-limit nan"),
        ({"failure": 0.0}, "failure probability"),
        ({"norm": 1.0}, "--norm"),
        ({"claim": Claim.RANK}, "--radius"),
        ({"claim": Claim.RANK, "radius": 0.1, "overlap": 1}, "--overlap"),
        ({"claim": Claim.PIXELS, "as_published": True}, "--as-published"),
        ({"overlap": 3}, "--overlap 3"),
        ({"k": 6}, "k = 6"),
        ({"sigma": 0.0}, "sigma"),
        ({"claim": Claim.RENYI, "norm": 0.5}, "norm"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_work(changes: dict[str, object], message: str) -> None:
    class Untouched(Halfspaces):
        def __call__(self, images: Tensor) -> Tensor:
            pytest.fail("sampled")

    with pytest.raises(UsageError, match=message):
        smooth(Untouched(BASE.directions, BASE.offsets), IMAGE, replace(OPTIONS, **changes))  # type: ignore[arg-type]


def test_maps_between_0_and_1() -> None:
    base: BaseMap = Spread()
    _, found = smooth(base, IMAGE, SmoothOptions(k=2, sigma=0.3, samples=2000))
    assert found.sampling.confidence == "bernstein"
    assert torch.isfinite(torch.tensor(found.radius))
    with pytest.raises(UsageError, match="0/1"):
        smooth(base, IMAGE, SmoothOptions(claim=Claim.PIXELS, k=2))
