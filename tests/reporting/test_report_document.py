from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from example_results import VERSIONS, make_result
from pydantic import ValidationError

from corgi.cli.schema import Kind
from corgi.reporting.document import to_json, verify_document
from corgi.reporting.schemas import DOCUMENTS, json_schema, version_of
from corgi.reporting.versions import installed_versions
from corgi.results import VerifyResult

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
PROMISED = [
    "model",
    "image",
    "class_id",
    "k",
    "k2",
    "norm",
    "certified_radius",
    "uncertified_radius",
    "attack_radius",
    "method",
    "form",
    "engine",
    "evaluations",
    "seconds",
    "status",
    "reason",
    "tie",
]


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_committed_schema_is_current(kind: str) -> None:
    path = SCHEMAS / f"{kind}-{version_of(kind)}.json"
    assert path.read_text(encoding="utf-8") == json_schema(kind), f"corgi schema {kind} > {path}"


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_schema_is_valid(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(json_schema(kind)))


def test_the_command_line_knows_every_schema() -> None:
    assert {kind.value for kind in Kind} == set(DOCUMENTS)


def test_document_satisfies_its_schema(result: VerifyResult) -> None:
    document = json.loads(to_json(verify_document(result, VERSIONS)))
    jsonschema.validate(document, json.loads(json_schema("verify")))


def test_document_has_the_promised_fields() -> None:
    document = json.loads(to_json(verify_document(make_result(), VERSIONS)))
    assert document["schema_version"] == "3"
    assert set(PROMISED) <= set(document)
    assert set(PROMISED) <= set(json.loads(json_schema("verify"))["required"])


def test_document_says_what_the_result_says() -> None:
    result = make_result()
    document = verify_document(result, VERSIONS)
    assert document.certified_radius == result.certificate.radius
    assert document.attack_radius == result.attack.radius
    assert document.certified_radius_255 == result.certificate.radius * 255
    assert [row * 24 + column for row, column in document.top_k] == list(result.top.pixels)
    assert [row * 24 + column for row, column in document.attack.witness.lost] == list(
        result.attack.witness.lost
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_never_enter(value: float) -> None:
    result = make_result()
    broken = replace(result, certificate=replace(result.certificate, uncertified_radius=value))
    with pytest.raises(ValidationError, match="finite"):
        verify_document(broken, VERSIONS)


def test_versions_are_found() -> None:
    versions = installed_versions()
    assert versions.torch != "not installed"
    assert versions.onnxruntime != "not installed"
