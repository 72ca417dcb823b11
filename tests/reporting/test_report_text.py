from __future__ import annotations

import io
import json
import os
from dataclasses import replace

import jsonschema
import pytest
from example_results import GOLDEN, RESULTS, VERSIONS, make_result, make_tie
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from corgi.properties import Pointing
from corgi.reporting import wording
from corgi.reporting.document import properties_document, to_json, verify_document
from corgi.reporting.schemas import json_schema
from corgi.reporting.text import properties_text, verify_text
from corgi.results import Status, VerifyResult, VerifyResults


def plain(renderable: RenderableType) -> str:
    """As a pipe of 100 columns gets it, without trailing blanks."""
    console = Console(file=io.StringIO(), width=100, color_system=None, highlight=False, legacy_windows=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def said(result: VerifyResult) -> str:
    return plain(verify_text(verify_document(result, VERSIONS)))


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CORGI_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path}: CORGI_UPDATE_GOLDEN=1 writes it anew"


@pytest.mark.parametrize("name", RESULTS)
def test_text_matches_golden_file(name: str) -> None:
    check_golden(f"verify-{name}.txt", said(RESULTS[name]))


@pytest.mark.parametrize("name", ["certified", "relaxed", "refuted", "tie"])
def test_json_matches_golden_file(name: str) -> None:
    check_golden(f"verify-{name}.json", to_json(verify_document(RESULTS[name], VERSIONS)))


def test_several_properties_match_golden_files() -> None:
    """One heading, a block each, and what none of them says once."""
    pointing = Pointing(tuple(range(200, 400))).statement(15)
    certified = RESULTS["certified"]
    first = replace(certified, certificate=replace(certified.certificate, statement=pointing))
    results = VerifyResults((first, RESULTS["relaxed"], RESULTS["unknown"]), 51.25)
    document = properties_document(results, VERSIONS)
    jsonschema.validate(json.loads(to_json(document)), json.loads(json_schema("properties")))
    assert document.answers[1] == verify_document(RESULTS["relaxed"], VERSIONS)
    check_golden("properties.json", to_json(document))
    check_golden("properties.txt", plain(properties_text(document)))


@given(st.floats(min_value=1e-12, max_value=1.0))
def test_claims_are_rounded_to_the_true_side(value: float) -> None:
    assert float(wording.round_down(value)) <= value <= float(wording.round_up(value))


@pytest.mark.parametrize(
    ("value", "down", "up"),
    [
        (0.00113456, "0.001134", "0.001135"),
        (0.003, "0.003", "0.003"),
        (0.0, "0", "0"),
        (1.0, "1", "1"),
        (2e-9, "2e-9", "2e-9"),
    ],
)
def test_rounding_examples(value: float, down: str, up: str) -> None:
    assert (wording.round_down(value), wording.round_up(value)) == (down, up)


def test_sentence_names_radius_rank_and_class() -> None:
    assert wording.guarantee(make_result()) == (
        "For every image within 0.001134 of this one (largest change of a pixel, scale [0, 1]), the "
        "15 largest pixels of the map of class 17 (no entry) stay the same."
    )
    assert "stay among the 25 largest" in str(wording.guarantee(make_result(k2=25)))
    assert "the largest pixel of the map" in str(wording.guarantee(make_result(k=1)))


def test_nothing_is_claimed_without_a_radius(result: VerifyResult) -> None:
    assert (wording.guarantee(result) is None) == (result.certificate.radius == 0)
    if result.certificate.radius == 0:
        assert "For every image" not in said(result)


def test_a_relaxed_property_at_a_tie_is_not_blamed_on_rank_k() -> None:
    tied = make_tie()
    relaxed = replace(tied, certificate=replace(tied.certificate, k2=20), reason="tie at rank 20")
    assert "tie at rank 20" in wording.no_guarantee(verify_document(relaxed))


def test_file_names_are_not_markup() -> None:
    odd = replace(make_result(), image_name="[red]x[/red] [1, 2].png")
    assert "[red]x[/red] [1, 2].png" in said(odd).replace("\n", " ")


def test_an_explained_class_that_is_not_predicted_is_said() -> None:
    text = said(replace(make_result(), predicted_class=3))
    assert "not predicted" in text
    assert "class 3" in text


@pytest.mark.parametrize("status", Status)
def test_every_status_has_words(status: Status) -> None:
    assert wording.headline(status)
