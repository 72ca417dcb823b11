"""Balls around all images of a part of a family hold them, and every image within eps of one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.changes.gamma import Gamma
from corgi.changes.geometry import Rotation
from corgi.changes.interface import Change
from corgi.changes.light import Contrast
from corgi.changes.weather import Fog
from corgi.decide.around import ball_around
from corgi.engines.forward.images import images
from corgi.engines.parametric import Boxes
from corgi.types import Interval


@pytest.mark.parametrize("change", [Fog(), Contrast(), Gamma(), Rotation()], ids=str)
@given(
    seed=st.integers(0, 2**31),
    start=st.floats(0, 0.3),
    width=st.floats(0, 0.1),
    eps=st.floats(1e-9, 0.3),
)
def test_it_holds_corners_and_ends(change: Change, seed: int, start: float, width: float, eps: float) -> None:
    rng = np.random.default_rng(seed)
    family = change.family(torch.from_numpy(rng.random((2, 3, 4))))
    ends = torch.tensor([[[start]], [[start + width]]], dtype=torch.float64)
    box = Boxes(ends[0], ends[1])
    known = images(family, box).interval()
    ball = ball_around(Interval(known.lower[0], known.upper[0]), eps)
    points = torch.linspace(start, start + width, 9, dtype=torch.float64)[:, None].clamp(max=start + width)
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], (9, 2, 3, 4)))
    changed = (family.at(points) + eps * (1 - 2.0**-40) * signs).clamp(0, 1)
    assert all(ball.distance(image) <= ball.radius for image in changed)


@given(low=st.floats(0, 1), high=st.floats(0, 1), eps=st.floats(1e-12, 1))
def test_its_ends_are_outside_in_exact_arithmetic(low: float, high: float, eps: float) -> None:
    low, high = min(low, high), max(low, high)
    ends = torch.tensor([[[low, 0.25]], [[high, 0.5]]], dtype=torch.float64)
    ball = ball_around(Interval(ends[:1], ends[1:]), eps)
    assert ball.scale is not None
    for place, (first, last) in enumerate(((low, high), (0.25, 0.5))):
        reach = Fraction(ball.radius) * Fraction(float(ball.scale[0, 0, place]))
        centre = Fraction(float(ball.center[0, 0, place]))
        assert centre - reach <= Fraction(first) - Fraction(eps)
        assert centre + reach >= Fraction(last) + Fraction(eps)


def test_pixels_of_which_nothing_is_known_may_be_any() -> None:
    unknown = torch.full((1, 1, 2), torch.nan, dtype=torch.float64)
    ball = ball_around(Interval(unknown, unknown), 0.1)
    box = ball.box(torch.float64)
    assert bool((box.lower == 0).all())
    assert bool((box.upper == 1).all())
