"""Bounds of single pixels, against images of the ball."""

from __future__ import annotations

import math
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
        before = pixels.high - pixels.low
        for pixel in rng.permutation(subject.network.pixels)[:3].tolist():
            for from_below in (True, False):
                for _ in range(3):
                    pixels.improve(pixel, from_below=from_below, enough=math.inf if from_below else -math.inf)
        box = ball.inner_box(torch.float64)
        share = torch.rand(200, *subject.image.shape, dtype=torch.float64)
        share[100:] = share[100:].round()
        cams = subject.cams(box.lower + share * (box.upper - box.lower))
        slack = 1e-9 * subject.scale
        assert bool((cams >= pixels.low - slack).all())
        assert bool((cams <= pixels.high + slack).all())
        assert bool((pixels.lowest >= pixels.low - slack).all())
        assert bool((pixels.highest <= pixels.high + slack).all())
        narrowed += bool((pixels.high - pixels.low < 0.999 * before).any())
    assert narrowed >= 5


def test_an_end_that_does_not_unfold_is_closed(tmp_path: Path, monkeypatch) -> None:
    """As one that was worked on in vain: it is not asked for again and again."""
    subject, _ = next(iter(subjects(range(3100, 3110), tmp_path)))
    monkeypatch.setattr(subject.bounder, "unfold", lambda ball, forms: NotUnfolded("too large"))
    ball = Ball(subject.image, 0.05)
    pixels = PixelBounds(question_of(subject), subject.bounder, TreeDecider(), ball)
    low, high = float(pixels.low[1]), float(pixels.high[0])
    pixels.improve(1, from_below=True, enough=0.0)
    pixels.improve(0, from_below=False, enough=0.0)
    assert (float(pixels.low[1]), float(pixels.lowest[1])) == (low, low)
    assert (float(pixels.high[0]), float(pixels.highest[0])) == (high, high)
    assert pixels.begun(1, from_below=True)
    assert not pixels.begun(1, from_below=False)
    assert pixels.nodes == 0


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
