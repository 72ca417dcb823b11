"""Certified accuracy against the radius: figures and picture."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from corgi.reporting.accuracy_picture import accuracy_picture
from corgi.reporting.document import DecidedDocument
from corgi.reporting.picture import picture_bytes
from corgi.reporting.summary import USUAL_RADII, AccuracyCurve, accuracy_curve, decided
from corgi.terms import Norm
from tests.reporting.example_cases import make_case, make_failure
from tests.reporting.example_results import make_result, make_tie

DECIDED_FAR = (
    DecidedDocument(radius=1e-6, radius_255=2.55e-4, status="proved"),
    DecidedDocument(radius=0.01, radius_255=2.55, status="refuted"),
)


@pytest.fixture
def curve() -> AccuracyCurve:
    """Three images with different radii, a tie and a failure."""
    radii = ((0.001, 0.002), (0.004, 0.005), (0.009, None))
    cases = [
        make_case(key, make_result(), certified_radius=certified, attack_radius=attacked)
        for key, (certified, attacked) in enumerate(radii)
    ]
    found = accuracy_curve([*cases, make_case(3, replace(make_tie(), holds=False)), make_failure(4)])
    assert found is not None
    return found


def test_shares_at_all_radii(curve) -> None:
    assert [row.radius for row in curve.decided] == list(USUAL_RADII)
    assert curve.norm is Norm.LINF
    assert curve.asked == "the 15 largest pixels stay the same"
    assert {(row.images, row.holds) for row in curve.between} == {(5, 3)}
    assert set(curve.decided) <= set(curve.between)
    radii = np.array([row.radius for row in curve.between])
    assert (np.diff(radii) > 0).all()
    assert radii[-1] > USUAL_RADII[-1]
    for row in curve.between:
        assert row.certified == sum(radius >= row.radius for radius in (0.001, 0.004, 0.009))
        assert row.refuted == sum(radius <= row.radius for radius in (0.002, 0.005))
        assert row.certified + row.refuted + row.open == row.holds


def test_radii_that_are_far_from_each_other_are_on_a_logarithmic_axis(curve) -> None:
    assert not curve.far
    assert accuracy_picture(curve).axes[0].get_xscale() == "linear"
    case = make_case(0, make_result(), radii=DECIDED_FAR)
    found = accuracy_curve([case])
    assert found is not None
    assert found.far
    assert [row.radius for row in found.decided] == [1e-6, 0.01]
    assert accuracy_picture(found).axes[0].get_xscale() == "log"


@pytest.mark.parametrize("norm", Norm)
def test_it_can_be_drawn(curve, norm) -> None:
    figure = accuracy_picture(replace(curve, norm=norm))
    assert Image.open(io.BytesIO(picture_bytes(figure, "png"))).width == 1800
    label = figure.axes[0].get_xlabel()
    assert norm.label in label
    assert ("in 1/255" in label) is (norm is Norm.LINF)


def test_without_answers_there_is_no_curve() -> None:
    assert accuracy_curve([make_failure(0)]) is None
    assert decided([make_failure(0)]) == ()
