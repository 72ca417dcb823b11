"""Several images, radii and ranks in one call say what one call each says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import corgi
from corgi.certify.batch import verify_radii
from corgi.certify.verify import VerifyOptions
from tests.onnx_models import random_cam_network


@pytest.fixture
def network(tmp_path):
    return corgi.load(random_cam_network(np.random.default_rng(9), tmp_path))


@pytest.fixture
def images(network):
    rng = np.random.default_rng(1)
    return [rng.random(network.input_shape, dtype=np.float32) for _ in range(3)]


def test_one_result_an_image(network, images) -> None:
    results = corgi.verify_batch(network, images, k=3, attack=None, names=["a", "b", "c"])
    assert [r.image_name for r in results] == ["a", "b", "c"]
    for image, result in zip(images, results, strict=True):
        alone = corgi.verify(network, image, k=3, attack=None)
        assert result.certificate.radius == pytest.approx(alone.certificate.radius, rel=0.02)
        assert result.status is alone.status


def test_a_reused_buffer_is_another_image(network, images) -> None:
    """The engine keeps bounds by image: it must not be fooled by memory that was written anew."""
    buffer = images[0].copy()
    bounder = corgi.PatchEngine().bind(network, 0)
    results = []
    for image in images:
        buffer[:] = image
        bounder.pixels(corgi.Ball(torch.from_numpy(buffer), 0.01))
        results.append(bounder.pixels(corgi.Ball(torch.from_numpy(buffer), 0.01)).lower)
    fresh = corgi.PatchEngine().bind(network, 0)
    expected = fresh.pixels(corgi.Ball(torch.from_numpy(images[2].copy()), 0.01)).lower
    assert np.allclose(results[2], expected)


@pytest.mark.parametrize("together", [False, True])
def test_radii_are_decided_as_one_by_one(together, network, images) -> None:
    radii = [0.001, 1e-6, 0.001, 0.1]
    options = VerifyOptions(k=3, attack=None)
    results = verify_radii(network, images, radii, options, ["a", "b", "c"], together=together)
    for image, row in zip(images, results, strict=True):
        alone = [corgi.verify(network, image, k=3, attack=None, eps=radius).status for radius in radii]
        assert [r.status for r in row] == alone
        assert [r.eps for r in row] == radii


@pytest.mark.parametrize("norm", [corgi.Norm.L2, corgi.Norm.L1])
def test_radii_in_another_norm(norm, network, images) -> None:
    options = VerifyOptions(k=3, attack=None, norm=norm)
    both = [
        verify_radii(network, images, [0.02, 1e-6], options, ["a", "b", "c"], together=together)
        for together in (False, True)
    ]
    assert [[r.status for r in row] for row in both[0]] == [[r.status for r in row] for row in both[1]]
    for row in both[0]:
        assert all(r.certificate.norm is norm for r in row)


def test_ranks_share_bounds_and_agree_with_single_calls(network, images) -> None:
    ranks = [(1, 1), (3, 3), (3, 5), (2, 6)]
    results = corgi.verify_ranks(network, images[0], ranks, attack=None)
    assert [(r.certificate.k, r.certificate.k2) for r in results] == ranks
    for (k, k2), result in zip(ranks, results, strict=True):
        alone = corgi.verify(network, images[0], k=k, k2=k2, attack=None)
        assert result.certificate.radius == pytest.approx(alone.certificate.radius, rel=0.05, abs=1e-9)
