from __future__ import annotations

import numpy as np
import pytest
import torch

from corgi import AttackOptions, ExactOptions, load
from corgi.certify import radii as radii_module
from corgi.certify.radii import RadiiOptions, pixel_radii
from corgi.errors import EngineError, UsageError
from corgi.types import Ball
from tests.onnx_models import random_cam_network
from tests.soundness.samples import inside


def ranks(values: torch.Tensor) -> torch.Tensor:
    """Rank of every pixel of maps [N, pixels]: 1 for the largest."""
    return values.argsort(dim=1, descending=True).argsort(dim=1) + 1


@pytest.mark.parametrize("seed", [200, 201, 203, 205])
def test_every_pixel_stays_on_its_side_within_its_radius(seed: int, tmp_path) -> None:
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, tmp_path))
    k = int(rng.integers(1, 4))
    image = rng.random(network.input_shape, dtype=np.float32)
    exact, attack = ExactOptions(gap=0.1, nodes=20, subsets=4), AttackOptions(steps=20, rounds=8)
    found = pixel_radii(network, image, RadiiOptions(k=k, outside=2, exact=exact, attack=attack))
    at_image = ranks(torch.from_numpy(found.explanation.cam).reshape(1, -1))[0]
    certified = torch.from_numpy(found.certified).reshape(-1)
    for radius in certified[certified > 0].unique()[:6].tolist():
        ball = Ball(torch.from_numpy(image), radius)
        images = inside(network, ball, found.explanation.class_id, 60, seed)
        with torch.no_grad():
            cams = network.head.cam(network.trunk(images), found.explanation.class_id).flatten(1)
        promised = certified >= radius
        assert ((ranks(cams) <= k) == (at_image <= k))[:, promised].all()


def test_radii_and_witnesses_of_searched_pixels(tmp_path) -> None:
    rng = np.random.default_rng(3)
    network = load(random_cam_network(rng, tmp_path))
    image = rng.random(network.input_shape, dtype=np.float32)
    found = pixel_radii(network, image, RadiiOptions(k=2, outside=1))
    assert [pixel.rank for pixel in found.searched] == [1, 2, 3]
    for pixel in found.searched:
        assert found.certified.reshape(-1)[pixel.pixel] == pixel.certified
        if pixel.attacked is not None:
            assert pixel.certified < pixel.attacked
            assert pixel.reason or pixel.attacked <= 1.06 * pixel.certified


def test_the_last_top_pixel_and_the_first_outside_share_the_radius_of_the_set(
    paper_model, paper_image, monkeypatch
) -> None:
    """Where only those two can change places, the set changes exactly where both do."""
    monkeypatch.setattr(radii_module, "_INTERVAL_SHARE", 0.02)  # it is the searched ones that are looked at
    found = pixel_radii(paper_model, paper_image, RadiiOptions(k=1, outside=1, time_limit=60))
    last, first = found.searched
    assert last.attacked == pytest.approx(first.attacked, rel=0.1)
    assert 0.000320 < last.certified < 0.000345


def test_an_interval_that_reaches_a_witness_is_a_fault_that_is_told(tmp_path, monkeypatch) -> None:
    network = load(random_cam_network(np.random.default_rng(3), tmp_path))
    image = np.random.default_rng(3).random(network.input_shape, dtype=np.float32)
    attack = AttackOptions(steps=20, rounds=8)

    def by_intervals(_self: object, _bounder: object, certified: torch.Tensor) -> None:
        certified.fill_(1.0)

    monkeypatch.setattr(radii_module._Radii, "by_intervals", by_intervals)
    with pytest.raises(EngineError, match="contradiction"):
        pixel_radii(network, image, RadiiOptions(k=2, outside=1, attack=attack))


def test_a_time_limit_leaves_what_is_done(tmp_path) -> None:
    rng = np.random.default_rng(3)
    network = load(random_cam_network(rng, tmp_path))
    image = rng.random(network.input_shape, dtype=np.float32)
    found = pixel_radii(network, image, RadiiOptions(k=2, time_limit=1e-9))
    assert found.interrupted
    assert found.searched == ()
    assert (found.certified == 0).all()


@pytest.mark.parametrize("wrong", [{"outside": -1}, {"time_limit": 0.0}])
def test_wrong_options(wrong) -> None:
    with pytest.raises(UsageError):
        RadiiOptions(**wrong)
