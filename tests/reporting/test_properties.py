"""Every property in words, documents, pictures and figures: what is claimed, and what a witness shows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from corgi import properties
from corgi.certify.attack import AttackResult
from corgi.reporting import wording
from corgi.reporting.broken import broken_parts, centre_of, mask_of
from corgi.reporting.case import Case
from corgi.reporting.document import AttackDocument, VerifyDocument, attack_document, to_json, verify_document
from corgi.reporting.facts import columns, decided_table
from corgi.reporting.marks import after, before
from corgi.reporting.page.pictures import card_pictures
from corgi.reporting.picture import attack_picture, picture_bytes, verify_picture
from corgi.reporting.summary import USUAL_RADII, decided, make_report, make_run, shares
from corgi.results import Mapped, Status, VerifyResult
from corgi.types import Norm
from tests.reporting.example_cases import make_case, small_report
from tests.reporting.example_results import NETWORK, VERSIONS, make_result, top_of

LEFT = tuple(row * 24 + column for row in range(24) for column in range(12))
RIGHT = tuple(sorted(set(range(576)) - set(LEFT)))
ASKED = {
    "overlap": properties.Overlap(14),
    "pointing": properties.Pointing(LEFT),
    "inside": properties.Inside(12, LEFT),
    "iou": properties.Iou(0.5, 0.99),
    "order": properties.Order(((12, 12),), ((12, 13), (0, 0))),
    "centre": properties.Centre(0.25),
    "pointing+overlap": properties.Both((properties.Pointing(RIGHT), properties.Overlap(14))),
}


def asked(name: str) -> VerifyResult:
    """The example, whose witness moves the hill to the right, as an answer about another property."""
    result, statement = make_result(), ASKED[name].statement(15)
    return replace(result, certificate=replace(result.certificate, statement=statement))


@pytest.mark.parametrize("name", ASKED)
def test_a_claim_is_about_what_was_asked(name: str) -> None:
    result = asked(name)
    subject, verb = ASKED[name].words(15)
    said = wording.guarantee(result)
    assert said is not None
    assert f"{subject} of the map of class 17 (no entry) {verb}." in said
    assert "stay the same" not in said


@pytest.mark.parametrize("name", ASKED)
def test_documents_hold_the_property(name: str) -> None:
    document = verify_document(asked(name), VERSIONS)
    assert document.property is not None
    assert document.property.name == name
    assert document.property.holds_at_image is True
    assert VerifyDocument.model_validate_json(to_json(document)) == document
    region = getattr(ASKED[name], "region", None)
    assert document.property.region_count == (None if region is None else len(region))
    if "keep" in document.property.parameters:
        assert document.property.parameters["keep"] in (12, 14)


@pytest.mark.parametrize("name", ASKED)
def test_a_witness_is_said_to_break_what_it_breaks(name: str) -> None:
    document = verify_document(asked(name), VERSIONS)
    assert document.attack is not None
    assert document.attack.witness is not None
    shown = document.attack.witness.shows
    assert wording.finding(document).endswith(f"confirmed by onnxruntime on the model file, {shown}.")


@pytest.mark.parametrize("name", ASKED)
def test_pictures_are_drawn(name: str) -> None:
    result = asked(name)
    assert picture_bytes(verify_picture(result), "png")
    explanation = type("E", (Mapped,), {"cam": result.cam, "top": result.top})()
    for field in ("class_id", "class_name", "predicted_class", "image"):
        setattr(explanation, field, getattr(result, field))
    explanation.network, explanation.holds = NETWORK, lambda _: True
    found = AttackResult(explanation, result.attack, ASKED[name], Norm.LINF, None, 0, False)
    assert picture_bytes(attack_picture(found), "png")
    assert isinstance(attack_document(found, "a.png", VERSIONS), AttackDocument)


def mapped(cam: np.ndarray, k: int) -> Mapped:
    found = Mapped()
    found.cam, found.top = cam, top_of(cam, k)
    return found


BEFORE = np.array([[9.0, 8.0, 7.0], [1.0, 2.0, 3.0], [0.5, 0.4, 0.3]])
MOVED = np.array([[1.0, 2.0, 7.0], [9.0, 8.0, 3.0], [0.5, 0.4, 0.3]])
TOP_ROW = (0, 1, 2)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (properties.Topk(), "2 of the 3 pixels are no longer among the 3 largest"),
        (properties.Overlap(2), "only 1 of the 3 largest pixels stay among the 3 largest"),
        (properties.Pointing(TOP_ROW), "the largest pixel, [1, 0], lies outside the region"),
        (properties.Inside(2, TOP_ROW), "only 1 of the 3 largest pixels lie inside the region"),
        (properties.Iou(0.5, 0.5), "the mask has an intersection over union of 0.2 with the original one"),
        (properties.Order(((0, 0),), ((1, 0),)), "pixel [0, 0] is not above pixel [1, 0]"),
        (properties.Centre(0.25), "the mass centre has moved by"),
    ],
)
def test_what_a_map_shows(what, told) -> None:
    original = mapped(BEFORE, 3)
    found = broken_parts(what.statement(3), original, MOVED, 3)
    assert list(found) == [what.name]
    assert found[what.name].startswith(told)
    assert broken_parts(what.statement(3), original, BEFORE, 3) == {}


def test_of_several_properties_the_broken_ones_are_named() -> None:
    both = properties.Both((properties.Pointing((3, 4, 5)), properties.Overlap(2)))
    found = broken_parts(both.statement(3), mapped(BEFORE, 3), MOVED, 3)
    assert list(found) == ["overlap"]


def test_of_equal_values_those_that_keep_a_property_count_first() -> None:
    """As the property itself counts: what is no counterexample is not called one."""
    flat = np.ones((2, 2))
    for what in (properties.Pointing((3,)), properties.Inside(1, (3,)), properties.Overlap(1)):
        assert broken_parts(what.statement(1), mapped(flat, 1), flat, 1) == {}


def test_marks_tell_sides_apart() -> None:
    result = asked("inside")
    assert result.attack is not None
    assert result.attack.witness is not None
    shown = before(result.certificate.statement, result)
    inside, outside = shown.groups
    assert set(inside.pixels) == set(result.top.pixels) & set(LEFT)
    assert set(outside.pixels) == set(result.top.pixels) - set(LEFT)
    moved = after(result.certificate.statement, result, result.attack.witness, 15)
    assert moved.title == f"{len(moved.groups[0].pixels)} of its 15 largest inside"
    assert mask_of(np.array([[1.0, 0.5], [0.4, 0.0]]), 0.5) == {0, 1}
    assert centre_of(np.array([[0.0, 0.0], [0.0, 3.0]])) == (1.0, 1.0)
    assert centre_of(-np.ones((2, 2))) is None


def test_documents_of_older_releases_are_read() -> None:
    document = json.loads(to_json(verify_document(make_result(), VERSIONS)))
    for name in ("property", "radii"):
        del document[name]
    document["schema_version"] = "1"
    del document["attack"]["witness"]["shows"]
    old = VerifyDocument.model_validate(document)
    assert old.property is None
    assert wording.finding(old) == wording.finding(verify_document(make_result(), VERSIONS))
    assert "stay the same" in wording.guarantee_of_many([old])
    assert decided([Case(0, "a", "0", None, "certified", "", 1.0, old)])[0].holds == 1


def cases_of(name: str) -> list[Case]:
    """Certified beyond 0.25/255 with a witness at 0.4/255, decided at two radii; and one that never held."""
    radii = ((0.25 / 255, Status.PROVED), (1 / 255, Status.REFUTED))
    holds = replace(asked(name), radii=radii)
    never = replace(
        holds,
        attack=None,
        holds=False,
        certificate=replace(holds.certificate, radius=0.0, decision=None),
        radii=tuple((radius, Status.UNKNOWN) for radius, _ in radii),
    )
    return [make_case(0, holds), make_case(1, never)]


def test_fixed_radii_are_counted() -> None:
    small, large = decided(cases_of("pointing"))
    assert (small.images, small.holds, small.certified, small.refuted, small.open) == (2, 1, 1, 0, 0)
    assert (large.images, large.holds, large.certified, large.refuted, large.open) == (2, 1, 0, 1, 0)
    assert (small.correct, small.accurate) == (2, 1)
    titles, rows = decided_table([small, large])
    assert titles == (
        "radius",
        "images",
        "correct",
        "holds",
        "certified",
        "refuted",
        "open",
        "certified and correct",
    )
    assert columns(titles, rows).splitlines()[0].split() == " ".join(titles).split()
    assert rows[0] == ("0.25/255", "2", "2", "1", "1 (50.0%)", "0 (0.0%)", "0 (0.0%)", "1 (50.0%)")


def test_usual_radii_where_none_were_asked_for() -> None:
    found = decided([make_case(0, make_result())])
    assert tuple(one.radius for one in found) == USUAL_RADII
    assert (
        decided(
            [
                make_case(
                    0, replace(make_result(), certificate=replace(make_result().certificate, norm=Norm.L2))
                )
            ]
        )
        == ()
    )
    unknown = replace(make_case(0, make_result()), true_class=None)
    (titles, _), (first, *_) = decided_table(decided([unknown])), decided([unknown])
    assert "correct" not in titles
    assert first.correct is None


def test_an_image_where_it_never_held_keeps_no_radius() -> None:
    """It has no witness, but it is none of those that may keep the property."""
    found = shares(cases_of("pointing"))
    assert all(one.unbroken <= 0.5 for one in found)


@pytest.mark.parametrize(
    ("said", "expected"), [("17", True), ("00017", True), ("12", False), ("no entry", True), ("stop", False)]
)
def test_the_class_the_data_says(said, expected) -> None:
    assert replace(make_case(0, make_result()), true_class=said).correct is expected


def test_runs_that_ask_different_things_contradict_nothing() -> None:
    wide = asked("pointing")
    wide = replace(wide, certificate=replace(wide.certificate, radius=0.1), attack=None)
    narrow = make_result()
    setup, origin = small_report().runs[0].setup, small_report().origin
    runs = [make_run(setup, (), [make_case(0, one)]) for one in (wide, narrow)]
    (pair,) = make_report("a", runs, origin).comparisons
    assert (pair.same_property, pair.contradictions) == (0, 0)


def test_cards_know_the_largest_pixels_of_a_witness() -> None:
    from corgi.batch.pictures import pictures_of

    for name, known in (("pointing", True), ("overlap", False)):
        found = card_pictures(make_case(0, asked(name)), pictures_of(asked(name)))
        assert ("largest" in found) is known
