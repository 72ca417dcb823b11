"""No certificate of any kind exceeds a witness found by any attack, in any norm they can be compared in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from corgi import AttackKind, AttackOptions, explain, load
from corgi.attacks.levine import LevineAttack
from corgi.attacks.search import attack_radius
from corgi.attacks.transfer import TransferAttack
from corgi.attacks.twin import Guide, averaged, saliency_guide
from corgi.certify.verify import VerifyOptions, verify
from corgi.comparison.rows import converted
from corgi.engines.interface import BoundEngine
from corgi.engines.lipschitz.engine import LipschitzEngine
from corgi.engines.patch.engine import PatchEngine
from corgi.network.network import Network
from corgi.properties.topk import Topk
from corgi.results import ImageArray
from corgi.smoothing.cam_map import CamMap
from corgi.smoothing.confidence import bounds, usual
from corgi.smoothing.divergence import noise_for
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.maps.saliency import SaliencyMap
from corgi.smoothing.noise import Noise
from corgi.smoothing.overlap import overlap_radii
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.renyi import renyi_radii
from corgi.smoothing.sparsified import Sparsified
from corgi.smoothing.tally import Tally, empty, sample
from corgi.types import Ball, Norm
from tests.onnx_models import random_cam_network

K, SIGMA, SAMPLES, FAILURE = 4, 0.3, 1500, 1e-6
NORMS = (Norm.LINF, Norm.L2)


def case(seed: int, tmp_path) -> tuple[Network, ImageArray]:
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, tmp_path))
    return network, rng.random(network.input_shape, dtype=np.float32)


@pytest.mark.parametrize("seed", [14])
def test_no_deterministic_certificate_reaches_a_witness(seed, tmp_path) -> None:
    network, image = case(seed, tmp_path)
    explained = explain(network, image, K)
    assert not explained.top.tie
    target = explained.question(Topk(K))
    center = torch.from_numpy(image)
    found = []
    for norm in NORMS:
        for kind in AttackKind:
            options = AttackOptions(kind=kind, steps=15, rounds=6)
            bound = attack_radius(target, Ball(center, 0.0, norm), options)
            if bound.witness is not None:
                found.append(torch.from_numpy(bound.witness.image))
    assert found
    nearest = {norm: min(Ball(center, 0.0, norm).distance(one) for one in found) for norm in NORMS}
    engines: tuple[tuple[BoundEngine, bool], ...] = (
        (PatchEngine(), True),
        (PatchEngine(), False),
        (LipschitzEngine(), False),
    )
    certified = []
    for norm in NORMS:
        for engine, exact in engines:
            options = VerifyOptions(k=K, norm=norm, engine=engine, max_evaluations=6)
            asked = options if exact else replace(options, exact=None, attack=None)
            radius = verify(network, image, asked).certificate.radius
            certified.append(radius)
            for other in NORMS:
                assert converted(radius, norm, other, image.size) < nearest[other], (engine, exact, norm)
    assert max(certified) > 0


def cam_guide(network: Network, class_id: int) -> Guide:
    def cams(images: Tensor) -> Tensor:
        return network.head.cam(network.trunk32(images), class_id).flatten(1)

    return cams


def surely_lost(before: Tally, after: Tally) -> int:
    """Pixels of the k largest at x that are certainly not among the k largest of the expected map at x'."""
    held = bounds(after, usual(after.binary), FAILURE)
    return sum(int((held.lower > held.upper[pixel]).sum()) >= K for pixel in before.order[:K])


def smoothed(network: Network, class_id: int, kind: str) -> tuple[BaseMap, Guide, Norm]:
    """A base map, what its attack descends, and the norm of its certificate."""
    cam, saliency = CamMap(network, class_id), SaliencyMap(network, class_id)
    gradient = saliency_guide(network, class_id)
    channels, height, width = network.input_shape

    def largest(images: Tensor) -> Tensor:
        return gradient(images).reshape(len(images), channels, height * width).amax(1)

    scored = RankScores(cam, K)
    return {
        "cam": (cam, cam_guide(network, class_id), Norm.L2),
        "sparsified cam": (Sparsified(cam, K), cam_guide(network, class_id), Norm.L2),
        "sparsified saliency": (Sparsified(saliency, K), largest, Norm.L2),
        "renyi l_2": (scored, cam_guide(network, class_id), Norm.L2),
        "renyi l_inf": (scored, cam_guide(network, class_id), Norm.LINF),
    }[kind]


@pytest.mark.parametrize("kind", ["cam", "sparsified cam", "sparsified saliency", "renyi l_2", "renyi l_inf"])
def test_no_statistical_certificate_is_broken_by_an_attack(kind, tmp_path) -> None:
    """Attacks on the smoothed map at the radius certified for each overlap.

    The claim is about expected maps, so an attack counts where fresh samples at its image leave no doubt.
    """
    network, image = case(11, tmp_path)
    class_id = network.predict(image)
    base, guide, norm = smoothed(network, class_id, kind)
    noise = noise_for(norm.order, SIGMA, image.size, 0)
    tally = sample(empty(base, image, noise), base, image, SAMPLES)
    held = bounds(tally, usual(base.binary), FAILURE)
    if isinstance(base, RankScores):
        radii = renyi_radii(tally, base, K, norm.order, held)
    else:
        radii = overlap_radii(tally, K, held)
    assert radii[0] > 0
    drawn = torch.from_numpy(noise.draw(10**6, 16, image.shape)).float()
    center, mean = torch.from_numpy(image), averaged(guide, drawn)
    for overlap, radius in enumerate(radii, 1):
        if not 0 < radius < np.inf:
            continue
        ball = Ball(center, float(radius), norm)
        if norm is Norm.LINF:
            found = TransferAttack(steps=10, rate=ball.radius).run(mean, ball, tally.order[:K])
        else:
            found = LevineAttack(steps=5, restarts=2).run(
                mean, lambda x: torch.zeros(len(x)), ball, tally.order[:K], torch.Generator().manual_seed(0)
            )
        assert found is not None
        assert ball.distance(found.image) <= ball.radius
        moved = found.image.numpy()
        fresh = Noise(SIGMA, noise.shape, seed=1)
        lost = surely_lost(tally, sample(empty(base, moved, fresh), base, moved, SAMPLES))
        assert lost <= K - overlap


def test_an_attack_beyond_the_certificate_is_noticed(tmp_path) -> None:
    """The check above can fail: far outside every certified radius the same attack does lose pixels."""
    network, image = case(11, tmp_path)
    class_id = network.predict(image)
    base, guide, _ = smoothed(network, class_id, "sparsified cam")
    noise = Noise(SIGMA)
    tally = sample(empty(base, image, noise), base, image, SAMPLES)
    drawn = torch.from_numpy(noise.draw(10**6, 16, image.shape)).float()
    found = LevineAttack(steps=10, restarts=2).run(
        averaged(guide, drawn),
        lambda x: torch.zeros(len(x)),
        Ball(torch.from_numpy(image), 4.0, Norm.L2),
        tally.order[:K],
        torch.Generator().manual_seed(0),
    )
    assert found is not None
    moved = found.image.numpy()
    assert surely_lost(tally, sample(empty(base, moved, Noise(SIGMA, seed=1)), base, moved, SAMPLES)) > 0
