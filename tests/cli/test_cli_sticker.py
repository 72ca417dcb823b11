"""`corgi sticker`: text, document and picture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import corgi
from corgi.budget import heard
from corgi.cli import common
from corgi.cli.main import app
from corgi.network import depth
from corgi.reporting.schemas import json_schema
from tests.onnx_models import random_cam_network


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(3)
    model = random_cam_network(rng, tmp_path)

    image = tmp_path / "image.npy"
    np.save(image, rng.random(corgi.load(model).input_shape, dtype=np.float32))
    return model, image


def run(*arguments: object):
    return CliRunner().invoke(app, ["sticker", *map(str, arguments)])


def test_text_document_and_picture(given: tuple[Path, Path], tmp_path: Path) -> None:
    picture, written = tmp_path / "places.png", tmp_path / "places.json"
    options = ["--size", 2, "--stride", 3, "--eps", "8/255", "--k", 3, "--time-limit", 30]
    found = run(*given, *options, "--picture", picture, "--json", written)
    assert found.exit_code in (0, 3), found.output
    document = json.loads(written.read_text())
    jsonschema.validate(document, json.loads(json_schema("sticker")))
    total = len(document["rows"]) * len(document["columns"])
    assert document["certified"] + document["refuted"] + document["open"] == total
    assert f"At {document['certified']} of {total} places" in " ".join(found.output.split())
    assert Image.open(picture).size[0] > 1000
    assert document["eps_255"] == pytest.approx(8)


def test_a_deep_network_has_a_time_limit(given: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    network, told = corgi.load(given[0]), list[str]()
    with heard(lambda progress: told.append(progress.detail)):
        assert common.in_time("sticker", None, network) is None
        monkeypatch.setattr(depth, "DEEP", 1)
        assert common.in_time("sticker", None, network) == common.DEEP_SECONDS
        assert common.in_time("verify", None, network, 2) == 2 * common.DEEP_SECONDS
        assert common.in_time("sticker", math.inf, network) == math.inf
    assert len(told) == 2
    assert all("a deep network" in line for line in told)


def test_errors(given: tuple[Path, Path]) -> None:
    for options, message in (
        (["--size", 99], "the input has"),
        (["--eps", 2], "expected a radius in (0, 1]"),
    ):
        found = run(*given, *options)
        assert found.exit_code == 4
        assert message in " ".join(found.output.split())
