"""Cones whose inner ReLUs were narrowed: no point of the ball leaves their planes, and minima stay."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from corgi.budget import limited
from corgi.decide import minimum as module
from corgi.decide.linear import LinearRelaxation
from corgi.decide.minimum import TreeMinimum
from corgi.decide.narrowing import narrowed, narrows
from corgi.engines.cone import Cone, reading
from tests.decide.cases import Case, Useless, brute_force, patterns, subjects


def deep(folder: Path, seeds: range = range(3200, 3320)) -> Iterator[Case]:
    """Cases with ReLUs between others."""
    for subject, rng in subjects(seeds, folder):
        for share in (1.5, 4.0, 10.0):
            case = subject.case(rng, share)
            if case.radius > 0 and narrows(case.cone):
                yield case


def check_holds(cone: Cone, points: Tensor, outputs: Tensor, slack: float) -> None:
    """Every point satisfies what a cone says of its windows; `outputs`: their true values there."""
    for layer in cone.layers:
        own = outputs[:, layer.start : layer.start + len(layer)]
        elements = layer.elements(points, outputs)
        assert bool((elements.amax(-1) >= own - slack).all()), "a dropped element was the maximum"
        planes = torch.where(layer.live, elements.nan_to_num(neginf=0.0), 0.0)
        upper = (layer.up * planes).sum(-1) + layer.up_shift - (layer.up * layer.lead).sum(-1)
        assert bool((own <= upper + slack).all())
        assert bool((own >= layer.lower - slack).all())
        assert bool((own <= layer.upper + slack).all())


def test_no_point_leaves_the_planes(tmp_path: Path) -> None:
    decided = lower = 0
    for number, case in enumerate(deep(tmp_path)):
        if number >= 16:
            break
        cone, slack = case.cone, 1e-9 * case.subject.scale
        found = narrowed(cone, TreeMinimum)
        points = torch.cat([case.deviations(400, number), cone.lower[None], cone.upper[None]])
        outputs = cone.outputs(points)
        check_holds(cone, points, outputs, slack)
        check_holds(found, points, outputs, slack)
        assert torch.allclose(found.margins(points), cone.margins(points), atol=slack)
        for before, after in zip(cone.layers, found.layers, strict=True):
            decided += int(before.live.sum() - after.live.sum())
            lower += int((after.up_shift < before.up_shift - slack).sum())
        below, above = (LinearRelaxation(each).solve({}).bound for each in (cone, found))
        assert above >= below - 1e-6 * case.subject.scale
    assert decided >= 2
    assert lower >= 5


def test_minima_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrowed before any node is split: bounds stay below the least value, and reach it."""
    compared = 0
    for case in deep(tmp_path):
        if compared >= 5:
            break
        if patterns(case.cone) > 10**6:
            continue
        few, slack = patterns(case.cone) <= 40, 1e-7 * max(case.subject.scale, 1)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_NARROW", 10**9)
            plain = TreeMinimum(case.cone)
            plain.improve(80, math.inf)
        if not plain.finished:
            continue
        least = brute_force(case.cone) if few else plain.bound
        with monkeypatch.context() as patch:
            patch.setattr(module, "_NARROW", 0)
            minimum = TreeMinimum(case.cone)
            while not minimum.finished:
                minimum.improve(20, math.inf)
                assert minimum.bound <= least + slack
        assert minimum.bound >= least - slack
        compared += 1
    assert compared >= 5


def test_what_nothing_is_known_of_stays(tmp_path: Path) -> None:
    """Without time, and where bounds of elements are none."""
    case = next(deep(tmp_path))
    with limited(time.monotonic()):
        late = narrowed(case.cone, TreeMinimum)
    useless = [
        narrowed(case.cone, partial(lambda bound, _: Useless(bound), bound))
        for bound in (-math.inf, math.nan, math.inf)
    ]
    for found in (late, *useless):
        for before, after in zip(case.cone.layers, found.layers, strict=True):
            for name in ("live", "up", "up_shift", "lower", "upper", "image"):
                assert torch.equal(getattr(before, name), getattr(after, name))


def test_a_cone_of_what_is_read(tmp_path: Path) -> None:
    """Margins on a part of the windows, as functions of fewer pixels and windows."""
    for number, case in enumerate(deep(tmp_path)):
        if number >= 10:
            break
        cone, points = case.cone, case.deviations(50, number)
        generator = torch.Generator().manual_seed(number)
        last = cone.layers[-1].start
        windows = torch.randn(2, last, generator=generator, dtype=torch.float64)
        windows[:, torch.rand(last, generator=generator) < 0.7] = 0
        image, nothing = torch.zeros(2, len(cone.pixels), dtype=torch.float64), torch.zeros(2).double()
        image[:, 0] = 1
        part = reading(cone, nothing, nothing, image, windows)
        where = torch.searchsorted(cone.pixels, part.pixels)
        expected = points @ image.T + cone.outputs(points)[:, :last] @ windows.T
        assert torch.allclose(part.margins(points[:, where]), expected, atol=1e-9 * case.subject.scale)
        assert part.undecided <= last
