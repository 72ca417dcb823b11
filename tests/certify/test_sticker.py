"""Stickers at every place: no sticker contradicts what is proved, a planted one is never excluded."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import corgi
from corgi import ExactOptions, explain
from corgi.attacks.places import PlacesAttack
from corgi.budget import limited
from corgi.certify import sticker as module
from corgi.certify.sticker import StickerMap, StickerOptions, sticker_map
from corgi.errors import UsageError
from corgi.network.network import load
from corgi.properties import Overlap, Pointing, Topk
from corgi.results import Status
from corgi.types import Norm
from tests.onnx_models import random_cam_network
from tests.soundness.properties import subject
from tests.soundness.test_certificates import PLANTED, SIGNS
from tests.soundness.test_properties import HIDDEN, hidden

__all__ = ["hidden"]  # a fixture of the suite of properties


def stickers(of, options: StickerOptions, top: int, left: int, count: int, seed: int) -> torch.Tensor:
    """Images with random stickers at a place, half of them at the ends of what is allowed: float64."""
    rng, size = np.random.default_rng(seed), options.size
    image = np.repeat(of.explained.image[None].astype(np.float64), count, 0)
    below = image[:, :, top : top + size, left : left + size]
    change = rng.uniform(-options.eps, options.eps, below.shape)
    change[count // 2 :] = np.sign(change[count // 2 :]) * options.eps
    image[:, :, top : top + size, left : left + size] = np.clip(below + change, 0, 1)
    return torch.from_numpy(image)


@pytest.mark.parametrize("seed", [304, 305, 320, 322, 328, 331])
def test_no_sticker_contradicts_what_is_proved(seed: int, tmp_path: Path) -> None:
    of = subject(seed, tmp_path)
    assert of is not None
    k = of.k
    found = []
    for asked in (Topk(min(2 * k, of.network.pixels - 1)), Overlap(max(1, k // 2))):
        for eps in (0.02, 1.0):
            options = StickerOptions(
                2, 2, eps, k, asked, of.explained.class_id, exact=ExactOptions(seconds=0.3), time_limit=20
            )
            answer = sticker_map(of.network, of.explained.image, options)
            margin = of.explained.question(asked).holds
            for row, top in enumerate(answer.rows):
                for column, left in enumerate(answer.columns):
                    status = answer.statuses[row][column]
                    found.append(status)
                    assert (status is Status.REFUTED) <= (answer.worst is not None)
                    if status is not Status.PROVED:
                        continue
                    images = stickers(of, options, top, left, 24, seed)
                    with torch.no_grad():
                        least = float(margin.margin(of.cams(images)).min())
                    assert least > -of.slack * (1 + margin.sensitivity)
            if answer.worst is not None:
                check_witness(of, answer)
    assert Status.PROVED in found


def check_witness(of, answer: StickerMap) -> None:
    """It differs from the image below the sticker alone, and breaks the property."""
    top, left = answer.worst_place
    changed = (answer.worst.image != of.explained.image).any(0)
    size = answer.options.size
    changed[top : top + size, left : left + size] = False
    assert not changed.any()
    assert np.abs(answer.worst.image - of.explained.image).max() <= answer.options.eps
    holds = of.explained.question(answer.asked).holds
    assert float(holds.margin(torch.from_numpy(answer.worst.cam).flatten())) < 0


@pytest.mark.parametrize("kind", list(HIDDEN))
def test_a_planted_sticker_is_never_excluded(kind: str, hidden) -> None:
    """3 x 3 at row 3, column 1, which no gradient points to."""
    network, image = hidden
    attack = PlacesAttack(steps=1, starts=0)
    options = StickerOptions(3, 1, PLANTED, 4, HIDDEN[kind], attack=attack, exact=ExactOptions(seconds=1.0))
    found = sticker_map(network, image, options)
    assert found.statuses[3][1] is not Status.PROVED
    broken = image.copy()
    broken[0, 3:6, 1:4] += np.float32(PLANTED) * SIGNS
    margin = explain(network, image, 4).question(HIDDEN[kind]).holds.margin
    assert float(margin(network.cam(broken, 0).flatten())) < 0
    assert found.counts[Status.PROVED] > 0


@pytest.fixture
def case(tmp_path: Path):
    rng = np.random.default_rng(3)
    network = load(random_cam_network(rng, tmp_path))
    return network, rng.random(network.input_shape, dtype=np.float32)


def test_attacks_find_stickers_by_what_they_reach(case) -> None:
    """Images stay in their balls, margins are those of the images, and no random sticker breaks far more."""
    network, image = case
    explained = explain(network, image, 3)
    question = explained.question(Pointing(tuple(explained.top.pixels)))
    places = module._Places(network, image, StickerOptions(3, 2, 1.0, 3, Pointing(explained.top.pixels)))
    balls = [places.ball(np.array([[row, row]])) for row in range(3)]
    images, margins = PlacesAttack().run(question, balls, torch.Generator().manual_seed(0))
    for ball, found, margin in zip(balls, images, margins.tolist(), strict=True):
        assert ball.distance(found) <= ball.radius
        assert float(question.broken_margins(found[None])) == pytest.approx(margin, rel=1e-4, abs=1e-4)
    clean = float(question.broken_margins(torch.from_numpy(image)[None]))
    assert (margins <= clean).all()
    assert (margins < clean).any()


def test_blocks_are_what_all_of_their_stickers_can_do(case) -> None:
    network, image = case
    places = module._Places(network, image, StickerOptions(2, 1, 0.5, 3))
    block = next(places.blocks())
    whole = places.ball(block)
    for place in block:
        one = places.ball(place[None])
        assert bool((one.scale <= whole.scale).all())
        assert int((one.scale > 0).any(0).sum()) == 4
    everything = np.concatenate(list(places.blocks()))
    assert len({tuple(place) for place in everything.tolist()}) == places.proved.size


def test_time_and_what_there_is_nothing_to_keep(case) -> None:
    network, image = case
    with limited(time.monotonic()):
        late = sticker_map(network, image, StickerOptions(2, 3, k=3))
    assert late.interrupted
    assert set(late.counts) == {Status.UNKNOWN}
    assert np.isinf(late.margins).all()
    explained = explain(network, image, 3)
    outside = tuple(i for i in range(network.pixels) if i not in explained.top.pixels)
    broken = sticker_map(network, image, StickerOptions(2, 3, k=3, property=Pointing(outside)))
    assert broken.reason == "the property does not hold at the image itself"
    assert set(broken.counts) == {Status.UNKNOWN}


@pytest.mark.parametrize("wrong", [{"size": 0}, {"stride": 0}, {"eps": 0.0}, {"eps": math.nan}, {"eps": 2.0}])
def test_options_that_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        StickerOptions(**wrong)


def test_a_sticker_larger_than_the_image(case) -> None:
    network, image = case
    with pytest.raises(UsageError, match="the input has"):
        corgi.sticker(network, image, size=100)
    found = corgi.sticker(network, image, size=2, stride=4, k=3, time_limit=20, eps=0.01)
    assert repr(found).startswith("StickerMap(2 x 2, eps 0.01: ")
    assert found.explanation.ball(Norm.LINF).radius == 0
