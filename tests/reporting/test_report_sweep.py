"""`corgi sweep` as text, JSON and picture, from an answer made by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
import torch
from example_results import NETWORK, VERSIONS, make_cam, make_image, top_of
from PIL import Image
from test_report_text import check_golden, plain

from corgi.attacks.along import FamilyWitness
from corgi.certify.explain import Explanation
from corgi.certify.sweep import SweepResult, View
from corgi.changes.light import Brightness, Colour, Contrast
from corgi.decide.parts import Part
from corgi.properties import Topk
from corgi.reporting.document import to_json
from corgi.reporting.picture import picture_bytes
from corgi.reporting.schemas import json_schema
from corgi.reporting.sweep import guarantee, sweep_document, sweep_text
from corgi.reporting.sweep_picture import sweep_picture
from corgi.results import Witness
from corgi.terms import Finding, Status

HOLDS, BROKEN, OPEN = Finding.HOLDS, Finding.BROKEN, Finding.OPEN


def make_sweep() -> SweepResult:
    cam, image = make_cam(), make_image()
    top = top_of(cam, 5)
    explanation = Explanation(17, 17, cam, top, 0.0, NETWORK, image)
    after = make_cam(1.0)
    ends = [(-0.2, -0.1, HOLDS), (-0.1, 0.0781, HOLDS), (0.0781, 0.0782, OPEN), (0.0782, 0.2, BROKEN)]
    parts = tuple(Part((low,), (high,), 0, kind) for low, high, kind in ends)
    views = (View((-0.2,), HOLDS, image, cam), View((0.1,), BROKEN, image, after, witness=True))
    return SweepResult(
        explanation=explanation,
        statement=Topk(8).statement(5),
        change="brightness",
        family=Brightness().family(torch.from_numpy(image).to(torch.float64)),
        sizes=((0.05, Status.PROVED), (0.2, Status.REFUTED)),
        certified=0.0781,
        broken=0.0782,
        witness=FamilyWitness((0.1,), Witness(image, 0.1, after, top.pixels[:2], 17, 0.125)),
        parts=parts,
        views=views,
        bounded=9,
        status=Status.REFUTED,
        reason="",
        holds=True,
        interrupted=False,
        engine="forward affine forms",
        seconds=1.25,
    )


def test_text_matches_golden_file() -> None:
    check_golden("sweep.txt", plain(sweep_text(sweep_document(make_sweep(), "no_entry.png", VERSIONS))))


def test_json_matches_golden_file_and_schema() -> None:
    text = to_json(sweep_document(make_sweep(), "no_entry.png", VERSIONS))
    jsonschema.validate(json.loads(text), json.loads(json_schema("sweep")))
    check_golden("sweep.json", text)


def test_intervals_join_neighbours_of_a_kind() -> None:
    found = make_sweep().intervals
    assert found == ((-0.2, 0.0781, HOLDS), (0.0781, 0.0782, OPEN), (0.0782, 0.2, BROKEN))


def test_no_sentence_claims_more_than_is_proved() -> None:
    """Numbers are rounded to the side on which what is said of them stays true."""
    exact = replace(make_sweep(), certified=0.07812345678, broken=0.07812345679)
    assert "t from -0.07812345 to 0.07812345," in str(guarantee(exact))
    parts = tuple(replace(part, upper=(0.123456789123,)) for part in exact.parts[:1])
    said = plain(sweep_text(sweep_document(replace(exact, parts=parts), "no_entry.png", VERSIONS)))
    assert "t in [-0.2, 0.123456789]" in said
    none = replace(exact, certified=0.0, reason="the map is within float32 rounding", status=Status.UNKNOWN)
    assert guarantee(none) is None
    said = plain(sweep_text(sweep_document(none, "no_entry.png", VERSIONS)))
    assert "Nothing is proved: the map is within float32 rounding." in said
    assert "For every image" not in said


def test_an_open_rest_and_an_early_end_are_said() -> None:
    late = replace(
        make_sweep(), status=Status.TIME_LIMIT, reason="time limit of 2 s reached", interrupted=True,
        witness=None, broken=None,
    )  # fmt: skip
    said = plain(sweep_text(sweep_document(late, "no_entry.png", VERSIONS)))
    assert "TIME LIMIT, stopped early" in said
    assert "The rest is open: time limit of 2 s reached." in said
    assert "No witness was confirmed, which proves nothing." in said


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("kind", Finding)
def test_any_answer_can_be_drawn(dimensions: int, kind: Finding) -> None:
    result = make_sweep()
    image = torch.from_numpy(make_image()).to(torch.float64)
    if dimensions > 1:
        family = Colour().family(image) if dimensions == 3 else Brightness().family(image)
        family = family + Contrast().family(image) if dimensions == 2 else family
        part = Part((-0.2,) * dimensions, (0.2,) * dimensions, 0, kind)
        assert result.witness is not None
        witness = replace(result.witness, parameters=(0.1,) * dimensions)
        views = tuple(replace(view, parameters=view.parameters * dimensions) for view in result.views)
        result = replace(result, family=family, parts=(part,), witness=witness, views=views)
    else:
        result = replace(result, parts=(replace(result.parts[0], upper=(0.2,), finding=kind),))
    for one in (result, replace(result, witness=None, views=(), broken=None, certified=0.0)):
        drawn = Image.open(io.BytesIO(picture_bytes(sweep_picture(one), "png")))
        assert drawn.width == 1800
        assert np.asarray(drawn).std() > 0
