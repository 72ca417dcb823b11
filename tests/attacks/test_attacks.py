"""Attacks: what counts as a witness, and that every attack finds one where one is easy to find."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from corgi import AttackKind, AttackOptions, explain, load
from corgi.attacks import margin, search
from corgi.attacks.ghorbani import GhorbaniAttack
from corgi.attacks.interface import Attempt
from corgi.attacks.pairs import critical_sets, linear_radius
from corgi.attacks.search import attack_radius
from corgi.attacks.target import Target
from corgi.attacks.witness import confirm
from corgi.budget import heard, limited
from corgi.types import Ball, Norm
from tests.onnx_models import random_cam_network


def exact_distance(a: np.ndarray, b: np.ndarray, norm: Norm) -> Fraction:
    """In l_2 its square."""
    changes = [abs(Fraction(float(x)) - Fraction(float(y))) for x, y in zip(a.flat, b.flat, strict=True)]
    return sum((c * c for c in changes) if norm is Norm.L2 else changes, Fraction(0))


@pytest.fixture
def target(tmp_path) -> tuple[Target, torch.Tensor]:
    rng = np.random.default_rng(11)
    network = load(random_cam_network(rng, tmp_path))
    image = rng.random(network.input_shape, dtype=np.float32)
    explanation = explain(network, image, k=5)
    assert not explanation.top.tie
    return explanation.question(), torch.from_numpy(image)


@pytest.mark.parametrize("kind", list(AttackKind))
def test_a_witness_is_inside_the_ball_and_breaks_the_map_in_onnxruntime(target, kind) -> None:
    aim, image = target
    options = AttackOptions(kind=kind, steps=60)
    found = attack_radius(aim, Ball(image, 0.0), options)
    assert found.witness is not None
    witness = found.witness
    assert witness.image.dtype == np.float32
    assert witness.image.min() >= 0
    assert witness.image.max() <= 1
    distance = np.abs(witness.image.astype(np.float64) - image.numpy().astype(np.float64)).max()
    assert witness.radius == distance == found.radius
    cam, label = aim.network.oracle_cam(witness.image, aim.class_id)
    largest = set(np.argsort(-cam.reshape(-1))[:5].tolist())
    assert set(witness.lost) == set(aim.top.pixels) - largest
    assert label == witness.class_id
    assert witness.margin > 0


@pytest.mark.parametrize("kind", [AttackKind.MARGIN, AttackKind.TOPK])
@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1])
def test_a_witness_in_another_norm_is_inside_its_ball_exactly(target, kind, norm) -> None:
    aim, image = target
    found = attack_radius(aim, Ball(image, 0.0, norm), AttackOptions(kind=kind, steps=30))
    assert found.witness is not None
    assert ((found.witness.image >= 0) & (found.witness.image <= 1)).all()
    radius, distance = Fraction(found.radius), exact_distance(found.witness.image, image.numpy(), norm)
    assert distance <= radius ** (2 if norm is Norm.L2 else 1)
    assert confirm(aim, Ball(image, found.radius, norm), torch.from_numpy(found.witness.image))
    assert not confirm(aim, Ball(image, 0.999 * found.radius, norm), torch.from_numpy(found.witness.image))
    # The nearest pair is aimed at in this norm: no farther than the l_inf attack's witness is in it.
    other = attack_radius(aim, Ball(image, 0.0), AttackOptions(kind=kind, steps=30)).witness
    assert found.radius < Ball(image, 0.0, norm).distance(torch.from_numpy(other.image))


def test_critical_sets_and_linear_radii_take_the_dual_norm(target) -> None:
    aim, image = target
    (critical,) = critical_sets(aim, Ball(image, 0.0, Norm.L2), 1)
    ((above,), (below,)) = critical.above, critical.below
    images = image[None].clone().requires_grad_(True)
    cams = aim.cams(images)
    margin = cams[0, above] - cams[0, below]
    (gradient,) = torch.autograd.grad(margin, images)
    expected = float(margin.detach()) / float(gradient.square().sum().sqrt())
    linf, l2, l1 = (linear_radius(aim, Ball(image, 0.0, norm)) for norm in (Norm.LINF, Norm.L2, Norm.L1))
    assert l2 == pytest.approx(expected, rel=1e-4)
    assert linf < expected < l1


def test_bisection_does_not_return_a_larger_radius_than_it_saw(target) -> None:
    aim, image = target
    radii = []
    with heard(lambda told: radii.append(told.attacked)):
        found = attack_radius(aim, Ball(image, 0.0), AttackOptions(steps=40))
    assert found.radius == min(r for r in radii if r is not None)


def test_only_one_radius(target) -> None:
    aim, image = target
    tiny = attack_radius(aim, Ball(image, 0.0), AttackOptions(steps=10), only=1e-7)
    assert tiny.witness is None
    assert tiny.radius is None
    assert tiny.searched_up_to == 1e-7


def test_a_deadline_in_the_past_attacks_at_most_once(target) -> None:
    aim, image = target
    with limited(0.0):
        found = attack_radius(aim, Ball(image, 0.0), AttackOptions(steps=5))
    assert found.gradients <= 5


@pytest.mark.parametrize("fault", ["nan", "outside the ball", "outside the box", "unchanged map"])
def test_no_witness_without_confirmation(target, fault) -> None:
    aim, image = target
    broken = attack_radius(aim, Ball(image, 0.0), AttackOptions(steps=60)).witness
    assert broken is not None
    candidate, radius = torch.from_numpy(broken.image.copy()), broken.radius
    assert confirm(aim, Ball(image, radius), candidate) is not None
    if fault == "nan":
        candidate[0, 0, 0] = torch.nan
    elif fault == "outside the ball":
        radius *= 0.999
    elif fault == "outside the box":
        candidate[0, 0, 0] = -1e-6
        radius = 1.0
    else:
        candidate = image.clone()
    assert confirm(aim, Ball(image, radius), candidate) is None


def test_keep_label(target) -> None:
    aim, image = target
    label = aim.network.predict(image.numpy())
    kept = replace(aim, label=label)
    found = attack_radius(kept, Ball(image, 0.0), AttackOptions(steps=40, keep_label=True))
    assert found.witness is None or found.witness.class_id == label


def test_ctrl_c_at_a_radius_leaves_no_witness_beyond_it(target, monkeypatch) -> None:
    """Larger balls are attacked to find the way only."""
    aim, image = target
    broken = attack_radius(aim, Ball(image, 0.0), AttackOptions(steps=60))
    balls = []

    def run(self, target, ball, *_):
        balls.append(ball.radius)
        image = ball.center if len(balls) == 1 else torch.from_numpy(broken.witness.image)
        return Attempt(image, 1.0 - 2 * (len(balls) == 2), 1)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "nearer", interrupt)
    monkeypatch.setattr(margin.MarginAttack, "run", run)
    radius = 0.95 * broken.radius
    found = attack_radius(aim, Ball(image, 0.0), AttackOptions(steps=5), only=radius)
    assert len(balls) == 2
    assert found.witness is None
    assert found.searched_up_to == radius


def test_the_same_seed_gives_the_same_witness(target) -> None:
    aim, image = target
    first, second = (attack_radius(aim, Ball(image, 0.0), AttackOptions(steps=30, seed=5)) for _ in "ab")
    assert first.radius == second.radius


def test_little_time_makes_steps_and_starts_few_and_still_finds_a_witness(target, monkeypatch) -> None:
    aim, image = target
    monkeypatch.setattr(margin, "left", lambda: 1e-6)  # as on a network whose gradients take very long
    options, runs = AttackOptions(steps=60), []
    original = margin.MarginAttack._affordable

    def noted(*arguments):
        runs.append(original(*arguments))
        return runs[-1]

    monkeypatch.setattr(margin.MarginAttack, "_affordable", noted)
    found = attack_radius(aim, Ball(image, 0.0), options)
    assert found.witness is not None
    assert len(runs) > 1
    assert {(len(images), steps) for _, images, steps in runs} == {(2, 8)}
    assert all(len(some.critical) == 1 for some, _, _ in runs)


class LosesItsLabel(Target):
    """A target whose later iterates, which keep fewest of the pixels, have all lost the label."""

    def broken_margins(self, images: torch.Tensor) -> torch.Tensor:
        margins = self.margins(images).detach()
        return torch.where(margins > -0.05, margins, torch.inf)


def test_an_iterate_that_lost_the_label_hides_no_witness(target) -> None:
    aim, image = target
    loses = LosesItsLabel(aim.network, aim.class_id, aim.top, aim.holds, label=aim.class_id)
    tried = GhorbaniAttack(steps=200, step=0.01).run(loses, Ball(image, 0.2), image[None], torch.Generator())
    assert -0.05 < tried.margin < 0
