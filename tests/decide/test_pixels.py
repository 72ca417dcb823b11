"""Bounds of single pixels, against images of the ball."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import torch

from corgi.cam.topk import top_k
from corgi.decide.margins import Question, margins_of
from corgi.decide.pixels import PixelBounds
from corgi.decide.separation import separate
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import Cone, NotUnfolded
from corgi.properties.formula import Ranking
from corgi.types import Ball
from tests.decide.cases import Subject, Useless, subjects


def question_of(subject: Subject) -> Question:
    cam = subject.network.cam(subject.image, 0)
    holds = Ranking((0,), tuple(range(1, subject.network.pixels)), 1, 1)
    return Question(subject.network, 0, top_k(cam, 1, 0.0), holds, cam=cam.reshape(-1))


def test_no_image_leaves_them(tmp_path: Path) -> None:
    narrowed = 0
    for subject, rng in subjects(range(3100, 3116), tmp_path):
        ball = Ball(subject.image, float(rng.choice([0.01, 0.05, 0.2])))
        pixels = PixelBounds(question_of(subject), subject.bounder, TreeDecider(), ball)
        before = pixels.interval.upper - pixels.interval.lower
        for pixel in rng.permutation(subject.network.pixels)[:3].tolist():
            for ends in (pixels.least, pixels.most):
                for _ in range(4):
                    pixels.improve(ends, pixel, math.inf)
        box = ball.inner_box(torch.float64)
        share = torch.rand(200, *subject.image.shape, dtype=torch.float64)
        share[100:] = share[100:].round()
        cams = subject.cams(box.lower + share * (box.upper - box.lower))
        slack = 1e-9 * subject.scale
        known = pixels.interval
        assert bool((cams >= known.lower - slack).all())
        assert bool((cams <= known.upper + slack).all())
        for ends in (pixels.least, pixels.most):
            assert bool((ends.first <= ends.bound).all())
            assert bool((ends.bound <= ends.seen + slack).all())
        narrowed += bool((known.upper - known.lower < 0.999 * before).any())
    assert narrowed >= 5


def test_an_end_that_does_not_unfold_is_closed(tmp_path: Path, monkeypatch) -> None:
    """As one that was worked on in vain: it is not asked for again and again."""
    subject, _ = next(iter(subjects(range(3100, 3110), tmp_path)))
    monkeypatch.setattr(subject.bounder, "unfold", lambda ball, forms: NotUnfolded("too large"))
    ball = Ball(subject.image, 0.05)
    pixels = PixelBounds(question_of(subject), subject.bounder, TreeDecider(), ball)
    before = float(pixels.least.bound[1]), float(pixels.most.bound[0])
    pixels.improve(pixels.least, 1, 0.0)
    pixels.improve(pixels.most, 0, 0.0)
    assert (float(pixels.least.bound[1]), float(pixels.most.bound[0])) == before
    assert (float(pixels.least.seen[1]), float(pixels.most.seen[0])) == before
    assert (pixels.nodes, pixels.searches) == (0, 0)


def test_a_share_of_the_time_ends_the_tree_and_not_the_engine(tmp_path: Path) -> None:
    """Its cone is made all the same: a bounder stopped in the middle could not be used again."""
    subject, _ = next(iter(subjects(range(3100, 3110), tmp_path)))
    pixels = PixelBounds(question_of(subject), subject.bounder, TreeDecider(), Ball(subject.image, 0.05))
    before = float(pixels.least.bound[1])
    pixels.improve(pixels.least, 1, math.inf, deadline=time.monotonic() - 1)
    assert subject.bounder.whole
    assert pixels.nodes <= 1
    assert float(pixels.least.bound[1]) >= before


class Wrong(TreeDecider):
    """Its minima are no bounds."""

    bound = math.nan

    def minimum(self, cone: Cone) -> Useless:  # type: ignore[override]
        return Useless(self.bound)


@pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf])
def test_what_is_no_bound_proves_nothing(bound: float, tmp_path: Path, monkeypatch) -> None:
    subject, _ = next(iter(subjects(range(3100, 3110), tmp_path)))
    monkeypatch.setattr(Wrong, "bound", bound)
    ball, question = Ball(subject.image, 0.5), question_of(subject)
    pixels = PixelBounds(question, subject.bounder, Wrong(), ball)
    ranking = question.holds
    assert isinstance(ranking, Ranking)
    before = margins_of(ranking, pixels.interval)
    margins = separate(ranking, pixels, before, math.inf)
    assert not bool((margins > before).any())
