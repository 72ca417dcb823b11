"""No answer about small balls around a family of images that an image in one of them can refute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import corgi
from corgi import Status, SweepOptions, SweepResult
from corgi.attacks.steps import Projection
from corgi.attacks.target import Target
from corgi.certify.sweep import sweep
from corgi.changes.given import Basis
from corgi.network.network import Network, load
from corgi.reporting.sweep import finding_of, guarantee
from corgi.terms import Finding
from corgi.types import Ball
from tests.onnx_models import IMAGE, OnnxModel
from tests.soundness.properties import subject
from tests.soundness.test_certificates import PLANTED, SIGNS, hidden_violation
from tests.soundness.test_families import CHANGES, CURVED, hold, margins_of, spike

POINTS, STEPS = 24, 6


def least(result: SweepResult, target: Target, points: Tensor, rng: np.random.Generator) -> Tensor:
    """The smallest margin found around the image at each point [N, d]: random, corners, descents."""
    found = []
    for centre in result.family.at(points):
        ball = Ball(centre, result.eps)
        inside, shape = Projection(ball, torch.float64), (8, *centre.shape)
        starts = torch.from_numpy(np.concatenate([rng.uniform(-1, 1, shape), rng.choice([-1.0, 1.0], shape)]))
        images = inside(centre + result.eps * starts)
        margins = [target.holds.margin(_cams(target, images))]
        for _ in range(STEPS):
            images = images.detach().requires_grad_(True)
            margin = target.holds.margin(_cams(target, images))
            (gradient,) = torch.autograd.grad(margin.sum(), images)
            images = inside(images.detach() - 0.5 * result.eps * gradient.sign())
            margins.append(target.holds.margin(_cams(target, images)))
        found.append(torch.cat(margins).detach().min())
    return torch.stack(found)


def _cams(target: Target, images: Tensor) -> Tensor:
    return target.network.head.cam(target.network.trunk(images), target.class_id).flatten(1)


def hold_around(result: SweepResult, target: Target, slack: float, rng: np.random.Generator) -> int:
    """Hold each part against images around its own; how many are proved."""
    proved = [part for part in result.parts if part.finding is Finding.HOLDS]
    for part in proved[:: max(1, len(proved) // 8)]:
        low, high = (torch.tensor(end, dtype=torch.float64) for end in (part.lower, part.upper))
        shares = torch.from_numpy(rng.random((POINTS, len(low))))
        shares[0], shares[1] = 0, 1
        points = (low + shares * (high - low)).clamp(low, high)
        assert bool((least(result, target, points, rng) > -slack).all()), part
    return len(proved)


@pytest.mark.parametrize("first", range(3000, 3032, 8))
def test_no_image_around_a_family_contradicts_an_answer(first: int, tmp_path: Path) -> None:
    decided = 0
    for seed in range(first, first + 8):
        of = subject(seed, tmp_path)
        if of is None:
            continue
        rng = np.random.default_rng(seed)
        change, size = CHANGES[int(rng.integers(len(CHANGES)))], float(rng.choice([0.02, 0.1]))
        if seed % 3 == 0:
            change, usual = list(CURVED.values())[int(rng.integers(len(CURVED)))]
            size *= usual
        eps = float(rng.choice([1e-4, 1e-3, 1e-2]))
        options = SweepOptions(
            (size / 4, size), of.k, class_id=of.explained.class_id, time_limit=1.0, eps=eps
        )
        result = sweep(of.network, of.explained.image, change, options)
        question = of.explained.question(options.asked)
        hold(result, question, of.slack, 1000)
        decided += hold_around(result, question, of.slack, rng) > 0
        if (witness := result.witness) is not None:
            point = torch.tensor([witness.parameters], dtype=torch.float64)
            beside = (torch.from_numpy(witness.witness.image).double() - result.family.at(point)[0]).abs()
            assert float(beside.max()) <= max(eps, 2.0**-24)
            assert witness.beside <= eps
    assert decided > 0


def test_what_only_a_parameter_and_a_ball_reach_together(tmp_path: Path) -> None:
    """The pattern fires beyond 0.03 of the direction; 0.02 of it with 0.011 around it are enough."""
    network, image = hidden_violation(tmp_path)
    pattern = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    pattern[0, 0, 2:5, 1:4] = torch.from_numpy(SIGNS).to(torch.float64)

    def ask(size: float, eps: float) -> SweepResult:
        return corgi.sweep(network, image, Basis(pattern), sizes=(size,), k=4, time_limit=10, eps=eps)

    assert ask(0.02, 0.0).status is Status.PROVED
    assert ask(0.015, 0.0075).status is Status.PROVED
    assert ask(1e-4, 0.011).status is Status.PROVED
    assert ask(0.02, PLANTED - 0.019).status is not Status.PROVED
    far = ask(0.02, 0.02)
    assert far.status is not Status.PROVED
    assert far.certified < 0.0101


def ramp(folder: Path) -> tuple[Network, np.ndarray]:
    """A map that is its image, one bright pixel 0.1 above all others."""
    image = np.full((1, 4, 4), 0.4, np.float32)
    image[0, 1, 2] = 0.5
    model = OnnxModel((1, 4, 4))
    value = model.node("Relu", model.node("Conv", IMAGE, np.ones((1, 1, 1, 1), np.float32)))
    return load(model.save(folder, model.head(value, np.array([[1.0]])))), image


def test_a_witness_beside_the_family(tmp_path: Path) -> None:
    """The bright pixel falls by t; a ball of 0.03, which moves both sides, hides the rest from 0.04 on."""
    network, image = ramp(tmp_path)
    fall = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    fall[0, 0, 1, 2] = -1
    assert corgi.sweep(network, image, Basis(fall), sizes=(0.06,), k=1).status is Status.PROVED
    result = corgi.sweep(network, image, Basis(fall), sizes=(0.03, 0.06), k=1, eps=0.03, time_limit=30)
    assert result.sizes == ((0.03, Status.PROVED), (0.06, Status.REFUTED))
    assert result.witness is not None
    assert 0 < result.witness.beside <= 0.03
    assert 0.03 <= result.certified <= 0.04 <= result.witness.size <= 0.06
    point = torch.tensor([result.witness.parameters], dtype=torch.float64)
    question = result.explanation.question()
    assert float(margins_of(question, result.family, point)) > 0, "the family alone does not break there"
    change = np.abs(result.witness.witness.image.astype(np.float64) - image).max()
    assert result.witness.witness.radius == change
    assert "and every image within 0.03 of one of these in l_inf" in str(guarantee(result))
    assert "A witness is an image of float32 pixels within 0.0" in finding_of(result)


def test_the_ball_around_the_image_itself_may_break(tmp_path: Path) -> None:
    network, image = ramp(tmp_path)
    result = corgi.sweep(network, image, "fog", sizes=(0.01, 0.1), k=1, eps=0.06, time_limit=10)
    assert [status for _, status in result.sizes] == [Status.REFUTED] * 2
    assert result.certified == 0
    assert result.broken == 0
    assert result.witness is not None
    (drawn,) = (view for view in result.views if view.witness)
    assert np.array_equal(drawn.image, result.witness.witness.image)


def test_without_a_ball_it_is_the_answer_of_the_family(tmp_path: Path) -> None:
    network, image = spike(tmp_path, 0.5613, 0.01)
    one, other = (
        corgi.sweep(network, image, "brightness", sizes=(0.02, 0.2), k=1, **given)
        for given in ({}, {"eps": 0.0})
    )
    assert (one.sizes, one.intervals, one.parts) == (other.sizes, other.intervals, other.parts)
