"""The label's certified radius (theory 1.9): no image of the ball is given another class."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from corgi.budget import limited
from corgi.certify.label import certify_label
from corgi.certify.radius import SearchLimits
from corgi.certify.verify import VerifyOptions, verify
from corgi.engines.forms import ClassMargins
from corgi.engines.lirpa import LirpaEngine
from corgi.engines.patch.engine import PatchBounder, PatchEngine
from corgi.network.network import load
from corgi.results import Status
from corgi.types import Ball, Norm
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network
from tests.soundness.samples import inside


@pytest.mark.parametrize(("dtype", "budget"), [(torch.float32, 20_000), (torch.float64, 256 * 2**20)])
@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("seed", range(3))
def test_margins_of_scores_hold_all_images_of_the_ball(
    seed: int, norm: Norm, dtype, budget: int, tmp_path
) -> None:
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, tmp_path))
    image = torch.from_numpy(rng.random(network.input_shape, dtype=np.float32))
    label = seed % network.head.classes
    bounder = PatchEngine(budget=budget).bind(network, 0, dtype)
    for radius in (0.0, 0.003, 0.05):
        ball = Ball(image, radius, norm)
        margins_to = ClassMargins(network.head, label)
        lower = torch.full((network.head.classes,), math.inf, dtype=torch.float64)
        lower[margins_to.others] = bounder.lower(ball, margins_to)
        logits = network.head.logits(network.trunk(inside(network, ball, 0, 30, seed)))
        margins = (logits[:, label, None] - logits).index_fill(1, torch.tensor(label), torch.inf)
        slack = 1e-12 * float(logits.abs().max())
        assert (margins >= lower - slack).all()
        if radius == 0:
            at_image = margins[0].masked_fill(lower == torch.inf, 0)
            share = 1e-9 if dtype is torch.float64 else 1e-3
            assert float((at_image - lower.masked_fill(lower == torch.inf, 0)).max()) <= share * max(
                1.0, float(logits.abs().max())
            )


def certified(network, image, label: int, **settings):
    bounder = PatchEngine().bind(network, label, torch.float64)
    return certify_label(
        bounder, network, Ball(torch.from_numpy(image), 0.0), label, SearchLimits(), **settings
    )


@pytest.mark.parametrize("seed", range(6))
def test_no_attack_finds_another_label_within_the_radius(seed: int, tmp_path) -> None:
    rng = np.random.default_rng(100 + seed)
    network = load(random_cam_network(rng, tmp_path))
    image = rng.random(network.input_shape, dtype=np.float32)
    label = network.predict(image)
    found = certified(network, image, label)
    assert found.status in (Status.CERTIFIED, Status.UNKNOWN)
    if found.radius == 0:
        return
    ball = Ball(torch.from_numpy(image), found.radius)
    box = ball.inner_box(torch.float64)
    images = inside(network, ball, label, 30, seed)
    for share in (1.0, 0.5, 0.2, 0.1, 0.05):
        images.requires_grad_(True)
        logits = network.head.logits(network.trunk(images))
        rivals = logits.index_fill(1, torch.tensor(label), -torch.inf)
        (gradient,) = torch.autograd.grad((logits[:, label] - rivals.amax(1)).sum(), images)
        images = (images.detach() - share * found.radius * gradient.sign()).clamp(box.lower, box.upper)
        assert (network.head.logits(network.trunk(images)).argmax(1) == label).all()


def test_absurd_radii_and_other_classes_are_never_certified(tmp_path) -> None:
    rng = np.random.default_rng(3)
    network = load(random_cam_network(rng, tmp_path))
    image = rng.random(network.input_shape, dtype=np.float32)
    label = network.predict(image)
    other = (label + 1) % network.head.classes
    assert certified(network, image, other).radius == 0
    answer = certified(network, image, label, eps=1.0)
    logits = network.head.logits(network.trunk(torch.rand(200, *network.input_shape).double()))
    if (logits.argmax(1) != label).any():
        assert (answer.radius, answer.status) == (0.0, Status.UNKNOWN)
        assert "do not decide radius 1" in answer.reason


def test_the_joint_radius_is_the_smaller_one(paper_model, paper_image) -> None:
    bounds = VerifyOptions(label=True, exact=None, attack=None, max_evaluations=3)
    result = verify(paper_model, paper_image, bounds)
    assert result.label is not None
    assert result.label.label == result.predicted_class == 17
    assert result.label.radius > 0
    assert result.joint_radius == min(result.label.radius, result.certificate.radius)
    assert (
        verify(paper_model, paper_image, replace(bounds, label=False, max_evaluations=1)).joint_radius is None
    )


def test_engine_lirpa_keeps_the_label_of_a_small_network(tmp_path) -> None:
    network = load(random_cam_network(np.random.default_rng(3), tmp_path))
    image = np.full(network.input_shape, 0.5, np.float32)
    label = network.predict(image)
    options = VerifyOptions(label=True, exact=None, attack=None, engine=LirpaEngine(), eps=1e-6)
    found = verify(network, image, options).label
    assert found is not None
    assert found.status is Status.PROVED
    assert found.label == label


def test_one_score_is_no_label(tmp_path) -> None:
    rng, model = np.random.default_rng(5), OnnxModel((2, 8, 8))
    value = model.node("Relu", model.node("Conv", IMAGE, float32(rng, 4, 2, 3, 3)))
    network = load(model.save(tmp_path, model.node("Sigmoid", model.head(value, float32(rng, 1, 4)))))
    found = certified(network, rng.random(network.input_shape, dtype=np.float32), 0)
    assert (found.radius, found.status) == (0.0, Status.UNKNOWN)
    assert "one score" in found.reason


@pytest.mark.parametrize("eps", [None, 0.001])
def test_ctrl_c_keeps_the_certificate_of_the_map(eps: float | None, monkeypatch, tmp_path) -> None:
    def stopped(self, ball, label):
        raise KeyboardInterrupt

    network = load(random_cam_network(np.random.default_rng(0), tmp_path))
    image = np.random.default_rng(1).random(network.input_shape, dtype=np.float32)
    options = VerifyOptions(k=2, eps=eps, exact=None, attack=None)
    alone = verify(network, image, options)
    monkeypatch.setattr(PatchBounder, "_class_margins", stopped)
    result = verify(network, image, replace(options, label=True))
    assert (result.certificate.radius, result.status) == (alone.certificate.radius, alone.status)
    assert result.label is not None
    assert (result.label.radius, result.label.status) == (0.0, Status.INTERRUPTED)
    assert "interrupted" in result.label.reason


def test_a_time_limit_is_the_reason(paper_model, paper_image) -> None:
    ball = Ball(torch.from_numpy(paper_image), 0.0)
    bounder = PatchEngine().bind(paper_model, 17, torch.float64)
    with limited(0.0):
        found = certify_label(bounder, paper_model, ball, 17, SearchLimits())
    assert (found.radius, found.status) == (0.0, Status.TIME_LIMIT)
    assert "time limit" in found.reason
