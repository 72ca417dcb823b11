"""Base maps made of gradients: what the papers define, in [0, 1], one row an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients

from corgi import load
from corgi.network.network import Network
from corgi.smoothing.maps.gradients import Colours, scaled
from corgi.smoothing.maps.integrated import IntegratedGradientsMap
from corgi.smoothing.maps.quadratic import Quadratic
from corgi.smoothing.maps.saliency import SaliencyMap
from tests.onnx_models import random_cam_network


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Network:
    return load(random_cam_network(np.random.default_rng(11), tmp_path_factory.mktemp("model")))


@pytest.fixture
def images(network) -> torch.Tensor:
    """Noise takes some pixels out of the pixel box."""
    generator = torch.Generator().manual_seed(0)
    return 0.5 + 0.5 * torch.randn(3, *network.input_shape, generator=generator)


def gradient(network, images, class_id) -> torch.Tensor:
    at = images.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(network.logits32(at)[:, class_id].sum(), at)
    return found.abs()


def maps(network):
    for colours in Colours:
        saliency = SaliencyMap(network, 1, colours)
        yield from (saliency, Quadratic(saliency), IntegratedGradientsMap(network, 1, colours, steps=4))


def test_values_lie_between_0_and_1_and_reach_1(network, images) -> None:
    for found in maps(network):
        values = found(images)
        assert values.shape == (3, found.n)
        assert found.n == found.shape[0] * found.shape[1]
        assert values.dtype == torch.float32
        assert not values.requires_grad
        assert float(values.min()) >= 0
        assert torch.equal(values.amax(1), torch.ones(3))
        assert not found.binary
        assert "class 1" in found.name
    assert len({found.name for found in maps(network)}) == 6


def test_a_row_depends_on_its_image_alone(network, images) -> None:
    for found in maps(network):
        alone = torch.cat([found(image[None]) for image in images])
        assert torch.allclose(found(images), alone, atol=1e-5)


def test_saliency_is_the_gradient_scaled(network, images) -> None:
    sizes = gradient(network, images, 1)
    each = sizes.flatten(1) / sizes.flatten(1).amax(1, keepdim=True)
    assert torch.allclose(SaliencyMap(network, 1, Colours.EACH)(images), each, atol=1e-6)
    largest = sizes.amax(1).flatten(1) / sizes.amax((1, 2, 3))[:, None]
    assert torch.allclose(SaliencyMap(network, 1)(images), largest, atol=1e-6)
    channels, height, width = network.input_shape
    assert SaliencyMap(network, 1).shape == (height, width)
    assert SaliencyMap(network, 1, Colours.EACH).shape == (channels * height, width)


def test_quadratic_is_the_square(network, images) -> None:
    saliency = SaliencyMap(network, 0)
    assert torch.equal(Quadratic(saliency)(images), saliency(images).square())


def test_integrated_gradients_add_up_to_the_change_of_the_score(network, images) -> None:
    """Completeness (Sundararajan et al., proposition 1): the attributions sum to score(x) - score(0)."""
    attributions = IntegratedGradients(network.logits32).attribute(images, target=1, n_steps=200)
    change = (network.logits32(images) - network.logits32(0 * images))[:, 1]
    assert torch.allclose(attributions.sum((1, 2, 3)), change.detach(), rtol=0.02, atol=0.02)
    found = IntegratedGradientsMap(network, 1, Colours.EACH, steps=200)(images)
    assert torch.allclose(found, scaled(attributions.float(), Colours.EACH), atol=1e-4)


def test_images_do_not_keep_gradients(network, images) -> None:
    for found in maps(network):
        found(images)
    assert images.grad is None
    assert not images.requires_grad


@pytest.mark.parametrize("colours", list(Colours))
def test_a_dead_network_has_a_map_of_zeros(colours) -> None:
    assert float(scaled(torch.zeros(2, 3, 4, 4), colours).abs().max()) == 0.0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_says_nothing(value) -> None:
    gradients = torch.rand(2, 3, 4, 4)
    gradients[0, 1, 2, 3] = value
    found = scaled(gradients, Colours.LARGEST)
    assert found[0].isnan().all()
    assert found[1].isfinite().all()
