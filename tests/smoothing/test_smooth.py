from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from corgi.errors import UsageError
from corgi.progress import Progress
from corgi.results import Claim, Status
from corgi.smoothing.confidence import Confidence
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.smooth import SmoothOptions, begin, smooth
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
    tally, found = smooth(BASE, IMAGE, replace(OPTIONS, samples=130, seed=9), listener=heard.append)
    sampling = found.sampling
    assert (sampling.samples, sampling.seed, sampling.sigma, sampling.looks) == (130, 9, SIGMA, 1)
    assert (sampling.noise, sampling.confidence, sampling.correction) == (
        "Gaussian", "clopper-pearson", "bonferroni",
    )  # fmt: skip
    assert (sampling.failure_probability, sampling.inputs, sampling.map_shape) == (0.001, 4, (1, 6))
    assert [p.detail for p in heard] == [f"{n} of 130 noisy images" for n in (64, 128, 130)]
    assert tally.samples == 130
    assert found.norm_label == "l_2"


def test_going_on_gives_the_sums_of_one_run_and_counts_looks() -> None:
    whole, _ = smooth(BASE, IMAGE, OPTIONS)
    first, once = smooth(BASE, IMAGE, replace(OPTIONS, samples=500), begin(BASE, IMAGE, OPTIONS))
    second, twice = smooth(BASE, IMAGE, OPTIONS, first)
    assert np.array_equal(whole.sums, second.sums)
    assert (once.sampling.looks, twice.sampling.looks) == (1, 2)
    same, _ = smooth(BASE, IMAGE, replace(OPTIONS, samples=100), second)  # nothing new to look at
    assert (same.samples, same.looks) == (3000, 2)
    alone = smooth(BASE, IMAGE, OPTIONS)[1]
    assert 0 < twice.radius < alone.radius


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
