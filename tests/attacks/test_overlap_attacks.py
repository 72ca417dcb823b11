"""Attacks on the top-k overlap of gradient maps: inside the ball, class kept, better than chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import Saliency

from corgi import load
from corgi.attacks.levine import LevineAttack
from corgi.attacks.overlap import ascent, kept_share
from corgi.attacks.transfer import TransferAttack
from corgi.attacks.twin import averaged, saliency_guide
from corgi.network.network import Network
from corgi.types import Ball, Norm
from tests.onnx_models import random_cam_network

PIXELS = 12


@pytest.fixture
def network(tmp_path) -> Network:
    return load(random_cam_network(np.random.default_rng(11), tmp_path))


@pytest.fixture
def image(network) -> torch.Tensor:
    rng = np.random.default_rng(3)
    return torch.from_numpy(rng.random(network.input_shape, dtype=np.float32))


def labels(network):
    def classes(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network.logits32(images).argmax(1)

    return classes


def largest(network, image, guide) -> tuple[int, ...]:
    return tuple(guide(image[None])[0].detach().topk(PIXELS).indices.tolist())


def test_the_guide_of_a_steep_twin_is_the_gradient(network, image) -> None:
    twin = saliency_guide(network, 1, beta=1e4)(image[None])[0]
    true = (
        Saliency(network.logits32).attribute(image[None].clone().requires_grad_(True), target=1)[0].flatten()
    )
    assert torch.allclose(twin, true, atol=1e-3 * float(true.max()))


def test_the_gradient_of_the_objective_is_the_slope_of_its_values(network, image) -> None:
    guide = saliency_guide(network, 1, beta=10.0)
    pixels = torch.tensor(largest(network, image, guide))
    _, slope = ascent(guide, image[None], pixels)
    step = 1e-2 * slope / slope.norm()
    above, below = (ascent(guide, image[None] + sign * step, pixels)[0] for sign in (1, -1))
    assert float(above - below) == pytest.approx(2e-2 * float(slope.norm()), rel=0.05)


def test_the_average_of_a_guide_is_its_mean(network, image) -> None:
    guide = saliency_guide(network, 1)
    noise = 0.1 * torch.randn(3, *image.shape, generator=torch.Generator().manual_seed(0))
    images = torch.stack([image, image.flip(-1)])
    expected = torch.stack([guide(x + noise).mean(0) for x in images])
    assert torch.allclose(averaged(guide, noise)(images), expected, atol=1e-6)


@pytest.mark.parametrize("radius", [1e-4, 0.3, 3.0])
def test_levine_stays_in_the_ball_and_the_class(network, image, radius) -> None:
    classes = labels(network)
    label = int(classes(image[None])[0])
    guide, ball = saliency_guide(network, label), Ball(image, radius, Norm.L2)
    pixels = largest(network, image, guide)
    attack = LevineAttack(steps=8, draws=20, restarts=3)
    found = attack.run(guide, classes, ball, pixels, torch.Generator().manual_seed(0))
    assert found is not None
    assert ball.distance(found.image) <= radius
    assert float(found.image.min()) >= 0
    assert float(found.image.max()) <= 1
    assert int(classes(found.image[None])[0]) == label
    assert found.gradients == 3 * 9
    value = float(ascent(guide, found.image[None], torch.tensor(pixels))[0])
    assert found.objective == pytest.approx(value, rel=1e-4)
    again = attack.run(guide, classes, ball, pixels, torch.Generator().manual_seed(0))
    assert torch.equal(again.image, found.image)
    random = image + radius * torch.nn.functional.normalize(
        torch.randn(20, image.numel(), generator=torch.Generator().manual_seed(1))
    ).reshape(20, *image.shape)
    chance = float(ascent(guide, random.clamp(0, 1), torch.tensor(pixels))[0].max())
    assert found.objective > chance


def test_levine_says_when_no_start_keeps_the_class(network, image) -> None:
    """Line 28 of the algorithm: every random start lost the class."""
    guide, ball = saliency_guide(network, 0), Ball(image, 0.1, Norm.L2)

    def only_the_image(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([int(torch.equal(row, image)) for row in images])

    attack, generator = LevineAttack(draws=7), torch.Generator().manual_seed(0)
    assert attack.run(guide, only_the_image, ball, (0, 1), generator) is None


def test_levine_stops_short_of_the_decision_boundary(network, image) -> None:
    """A class that ends where the first pixel grows by 1e-3: the ascent alone would cross it."""
    limit = float(image[0, 0, 0]) + 1e-3

    def classes(images: torch.Tensor) -> torch.Tensor:
        return (images[:, 0, 0, 0] > limit).long()

    def towards(images: torch.Tensor) -> torch.Tensor:
        return -images.flatten(1)

    found = LevineAttack(steps=6).run(
        towards, classes, Ball(image, 0.2, Norm.L2), (0,), torch.Generator().manual_seed(0)
    )
    assert found is not None
    assert limit - 1e-4 < float(found.image[0, 0, 0]) <= limit


def test_transfer_stays_in_the_ball_and_lowers_the_sum(network, image) -> None:
    guide = saliency_guide(network, 0)
    ball, pixels = Ball(image, 8 / 256, Norm.LINF), largest(network, image, guide)
    found = TransferAttack(steps=40).run(guide, ball, pixels)
    assert ball.distance(found.image) <= ball.radius
    assert float(found.image.min()) >= 0
    assert float(found.image.max()) <= 1
    start = float(ascent(guide, image[None], torch.tensor(pixels))[0])
    assert found.objective > start
    before, after = (guide(x[None])[0].detach() for x in (image, found.image))
    assert kept_share(before, after, PIXELS) < 1


def test_a_flat_map_cannot_be_attacked(image) -> None:
    found = TransferAttack(steps=5).run(lambda x: 0 * x.flatten(1), Ball(image, 0.1), (0, 1))
    assert torch.equal(found.image, image)


def test_kept_share_ranks_equal_values_by_index() -> None:
    plateau = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert kept_share(plateau, plateau, 2) == 1.0
    assert kept_share(plateau, plateau.flip(0), 2) == 0.5
