"""`corgi compare` as text, JSON and picture, from rows made by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from example_results import NETWORK, VERSIONS, make_cam, make_image, top_of
from PIL import Image
from test_report_text import check_golden, plain

from corgi.certify.explain import Explanation
from corgi.comparison.rows import Comparison, Guarantee, Row
from corgi.reporting.compare_picture import compare_picture
from corgi.reporting.comparison import (
    CompareDocument,
    compare_document,
    compare_text,
    meaning,
    pointing_meaning,
)
from corgi.reporting.document import to_json
from corgi.reporting.picture import picture_bytes
from corgi.reporting.schemas import json_schema
from corgi.types import Norm


def make_comparison(*, interrupted: bool = False, region: bool = False) -> Comparison:
    cam = make_cam()
    top = top_of(cam, 5)
    row = Row(
        method="exact",
        about="cam of class 17",
        values=cam,
        pixels=top.pixels,
        guarantee=Guarantee.DETERMINISTIC,
        norm=Norm.LINF,
        steps=((5, 0.0012345),),
        work="2 bound evaluations",
        seconds=2.5,
    )
    attack = replace(
        row,
        method="attack",
        guarantee=Guarantee.EMPIRICAL,
        steps=((4, 0.0012399),),
        elsewhere=0.0404,
        work="margin-pgd, 125 gradients",
    )
    smoothed = replace(
        row,
        method="sparsified CAM",
        about="cam of class 17, its 5 largest",
        values=make_cam(1.0),
        pixels=top_of(make_cam(1.0), 5).pixels,
        guarantee=Guarantee.STATISTICAL,
        norm=Norm.L2,
        steps=((4, 0.0244), (2, 0.125)),
        work="2000 images, Gaussian noise, sigma = 0.1",
        failure_probability=0.05,
    )
    nothing = replace(
        smoothed,
        method="smoothed CAM",
        about="cam of class 17",
        steps=(),
        reason="the samples show no overlap at any radius",
    )
    unbroken = replace(attack, norm=Norm.L2, steps=(), elsewhere=None, work="9 gradients")
    explanation = Explanation(17, 17, cam, top, 0.0, NETWORK, make_image())
    rows = (row, attack, unbroken, smoothed, nothing)
    return Comparison(
        explanation, rows, 0.8, 0.0005, interrupted, 12.0, pointing_rows(rows) if region else ()
    )


def pointing_rows(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The same of the left half of the map."""
    left = tuple(row * 24 + column for row in range(24) for column in range(12))
    asked = replace(rows[0], method="pointing", pixels=left, steps=((1, 0.0021),))
    found = replace(rows[1], pixels=left, steps=((0, 0.0026),), elsewhere=0.09)
    shown = replace(rows[3], pixels=left, steps=((1, 0.0312),))
    return asked, found, shown, replace(rows[4], pixels=left, reason="the samples do not show it")


def make_document(**given) -> CompareDocument:
    return compare_document(make_comparison(**given), "no_entry.png", VERSIONS)


def test_text_matches_golden_file() -> None:
    check_golden("compare.txt", plain(compare_text(make_document())))


def test_json_matches_golden_file_and_schema() -> None:
    text = to_json(make_document())
    jsonschema.validate(json.loads(text), json.loads(json_schema("compare")))
    check_golden("compare.json", text)


def test_a_region_has_a_table_of_its_own() -> None:
    document = make_document(region=True)
    assert document.rows == make_document().rows
    check_golden("compare-region.txt", plain(compare_text(document)))
    picture = Image.open(io.BytesIO(picture_bytes(compare_picture(make_comparison(region=True)), "png")))
    plainer = Image.open(io.BytesIO(picture_bytes(compare_picture(make_comparison()), "png")))
    assert picture.width == plainer.width
    assert picture.height > plainer.height


@pytest.mark.parametrize("row", make_comparison(region=True).pointing, ids=lambda row: row.method)
def test_every_kind_of_answer_about_a_region_says_what_it_means(row) -> None:
    said = pointing_meaning(row)
    assert said.startswith("proved") == (row.guarantee is Guarantee.DETERMINISTIC)
    assert ("probability" in said) == (row.guarantee is Guarantee.STATISTICAL)


def test_an_interrupted_comparison_says_so() -> None:
    assert "stopped early" in plain(compare_text(make_document(interrupted=True)))


@pytest.mark.parametrize("row", make_comparison().rows, ids=lambda row: f"{row.method} {row.norm}")
def test_every_kind_of_answer_says_what_it_means_on_one_line(row) -> None:
    said = meaning(row)
    assert "\n" not in said
    assert said.startswith("proved") == (row.guarantee is Guarantee.DETERMINISTIC)
    assert ("probability" in said) == (row.guarantee is Guarantee.STATISTICAL)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_a_comparison_of_any_length_can_be_drawn(rows) -> None:
    comparison = make_comparison()
    figure = compare_picture(replace(comparison, rows=comparison.rows[:rows]))
    image = Image.open(io.BytesIO(picture_bytes(figure, "png")))
    assert image.width == 1800


def test_a_converted_radius_is_drawn_where_the_table_has_it() -> None:
    comparison = make_comparison()
    figure = compare_picture(replace(comparison, rows=comparison.rows[3:4]))
    left, right = figure.axes[-2:]
    inputs = comparison.explanation.image.size
    for axes, norm in ((left, Norm.LINF), (right, Norm.L2)):
        radii = np.asarray(axes.lines[0].get_xdata(), dtype=float)
        expected = [comparison.rows[3].radius(kept, norm, inputs) for kept in (4, 2)]
        assert radii[1:3] == pytest.approx(expected)
