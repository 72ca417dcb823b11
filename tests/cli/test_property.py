"""`--property` and its options on the command line."""

from __future__ import annotations

import json
import sqlite3

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import corgi
from corgi.cli.main import app
from corgi.reporting.schemas import json_schema
from tests.onnx_models import random_cam_network
from tests.pictures import annotated_picture


@pytest.fixture
def model(tmp_path):
    return random_cam_network(np.random.default_rng(3), tmp_path)


@pytest.fixture
def picture(tmp_path, model):
    """An image of the network's size with a box that holds some pixels of its map, and with an annotation."""
    return annotated_picture(tmp_path, model, 0)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


ASKED = [
    ("topk", []),
    ("overlap", ["--keep", "1"]),
    ("iou", ["--threshold", "0.9", "--iou", "0.2"]),
    ("order", ["--above", "0,0", "--below", "1,1"]),
    ("centre", ["--within", "0.5"]),
]


@pytest.mark.parametrize(("name", "options"), ASKED)
def test_every_property_is_verified_and_attacked(name, options, model, picture) -> None:
    for command in ("verify", "attack"):
        found = run(command, model, picture, "--property", name, *options, "--k", "2", "--json", "-")
        assert found.exit_code in (0, 2), found.output


@pytest.mark.parametrize("name", ["pointing", "inside"])
def test_regions_of_a_picture(name, model, picture, tmp_path) -> None:
    """A box and the annotation that says the same box are one question."""
    network = corgi.load(model)
    _, height, width = network.input_shape
    keep = ["--keep", "1"] if name == "inside" else []
    answers = []
    for region in ("annotation", f"0,0,{width - 1},{height // 2}"):
        found = run(
            "verify", model, picture, "--property", name, "--region", region, *keep, "--k", "3", "--json", "-"
        )
        assert found.exit_code in (0, 2), found.output
        answers.append(json.loads(found.stdout)["certified_radius"])
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--property", "topk", "--keep", "3"], "--keep: not an option"),
        (["--property", "overlap"], "expected --keep"),
        (["--property", "best"], "expected one of topk"),
        (["--property", "order", "--above", "1", "--below", "0,0"], "--above 1"),
        (["--property", "pointing", "--region", "there"], "region there"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "attack", "batch"])
def test_what_does_not_go_together(command, options, message, model, picture) -> None:
    found = run(command, model, picture, *options)
    assert found.exit_code == 4
    assert message in found.output


def test_several_properties_are_answered_under_one_heading(model, picture, tmp_path) -> None:
    several = ["--property", "pointing", "--property", "overlap", "--region", "annotation", "--keep", "1"]
    files = ["--json", tmp_path / "a.json", "--picture", tmp_path / "drawn.png"]
    found = run("verify", model, picture, "--k", "2", *several, *files)
    assert found.exit_code in (0, 2), found.output
    assert found.stdout.index("  pointing") < found.stdout.index("  overlap")
    assert found.stderr.count("region: annotation") == 1
    document = json.loads((tmp_path / "a.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("properties")))
    assert [answer["property"]["name"] for answer in document["answers"]] == ["pointing", "overlap"]
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")
    for name, options, answer in zip(
        ("pointing", "overlap"), (several[4:6], several[6:]), document["answers"], strict=True
    ):
        alone = run("verify", model, picture, "--k", "2", "--property", name, *options, "--json", "-")
        assert json.loads(alone.stdout)["certified_radius"] == pytest.approx(
            answer["certified_radius"], rel=0.02
        )


def test_of_several_properties_a_refuted_one_is_the_exit_code(model, picture) -> None:
    several = ["--property", "topk", "--property", "overlap", "--keep", "1", "--k", "3"]
    assert run("verify", model, picture, *several, "--eps", "1e-7").exit_code == 0
    found = run("verify", model, picture, *several, "--eps", "0.9", "--json", "-")
    assert "refuted" in {answer["status"] for answer in json.loads(found.stdout)["answers"]}
    assert found.exit_code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--property", "topk", "--property", "overlap"], "expected --keep"),
        (["--property", "topk", "--property", "iou", "--keep", "3"], "--keep: not an option"),
        (["--property", "topk", "--property", "topk"], "asked twice"),
        (["--property", "topk", "--property", "iou", "--witness", "a.npy"], "--witness: each"),
    ],
)
def test_what_does_not_go_together_of_several(options, message, model, picture) -> None:
    found = run("verify", model, picture, *options)
    assert found.exit_code == 4
    assert message in found.output


def test_a_batch_asks_each_question_in_rows_of_its_own(model, picture, tmp_path) -> None:
    store = tmp_path / "runs.sqlite"
    for options in (
        ["--property", "pointing", "--region", "annotation"],
        ["--property", "overlap", "--keep", "1", "--k", "2", "--radii", "1/255,1e-6"],
        ["--k", "2"],
    ):
        found = run("batch", model, picture, "--store", store, "--workers", "1", *options)
        assert found.exit_code in (0, 2), found.output
        assert ("certified refuted" in " ".join(found.output.split())) is ("--radii" in options)
    with sqlite3.connect(store) as database:
        asked = [json.loads(text) for (text,) in database.execute("SELECT parameters FROM settings")]
        rows = database.execute("SELECT count(*) FROM results").fetchone()
    assert rows == (3,)
    names = [(one.get("property") or {}).get("name") for one in asked]
    assert sorted(names, key=str) == [None, "overlap", "pointing"]
    assert [one["radii"] for one in asked if "radii" in one] == [[1e-6, 1 / 255]]


def test_shares_of_a_batch_are_drawn(model, picture, tmp_path) -> None:
    asked = ["--store", tmp_path / "runs.sqlite", "--workers", "1", "--k", "2", "--radii", "1/255,1e-6"]
    found = run("batch", model, picture, *asked, "--picture", tmp_path / "shares.png")
    assert found.exit_code == 0, found.output
    assert (tmp_path / "shares.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--picture", "shares.png"], "--picture: draws the shares of images at --radii"),
        (["--picture", "shares.bmp", "--radii", "1/255"], "expected a name that ends in"),
        (["--picture", "nowhere/shares.png", "--radii", "1/255"], "does not exist"),
    ],
)
def test_pictures_of_a_batch_that_cannot_be(options, message, model, picture) -> None:
    found = run("batch", model, picture, *options)
    assert found.exit_code == 4
    assert message in " ".join(found.output.split())


def test_a_picture_without_its_region_is_no_answer_and_the_others_go_on(model, picture, tmp_path) -> None:
    other = tmp_path / "b.png"
    Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    store = tmp_path / "runs.sqlite"
    found = run(
        "batch", model, picture, other, "--store", store, "--property", "pointing", "--region", "annotation"
    )
    assert found.exit_code == 2
    with sqlite3.connect(store) as database:
        rows = dict(database.execute("SELECT image, status FROM results"))
    assert rows.pop(str(other)) == "failed"
    assert rows.popitem()[1] != "failed"


def test_a_changed_annotation_is_asked_anew(model, picture, tmp_path) -> None:
    """Of the picture it is about alone, and its row with the box of before is gone."""
    other = tmp_path / "b.png"
    Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    table = tmp_path / "GT-test.csv"
    head, first = table.read_text().splitlines()
    second = first.replace("a.png", "b.png")
    store = tmp_path / "runs.sqlite"

    def asked(*rows: str) -> tuple[str, list[tuple[str, str]]]:
        table.write_text("\n".join([head, *rows]) + "\n")
        options = ["--store", store, "--workers", "1", "--property", "pointing", "--region", "annotation"]
        found = run("batch", model, picture, other, *options)
        assert found.exit_code in (0, 2), found.output
        with sqlite3.connect(store) as database:
            rows_now = database.execute("SELECT image, image_sha256 FROM results ORDER BY image").fetchall()
        return found.stdout, rows_now

    said, before = asked(first, second)
    assert "2 computed now, 0 before" in said
    said, same = asked(first, second, first.replace("a.png", "c.png"))
    assert "0 computed now, 2 before" in said
    assert same == before
    narrower = second.replace(";0;0;", ";1;0;", 1)
    said, changed = asked(first, narrower)
    assert "1 computed now, 1 before" in said
    assert changed[0] == before[0]
    assert changed[1][0] == before[1][0]
    assert changed[1][1] != before[1][1]
    assert changed[1][1].partition("+")[0] == before[1][1].partition("+")[0]
    said, missing = asked(first)
    assert "1 failed" in said
    assert len(missing) == 2
    assert "1 computed now, 1 before" in asked(first, second)[0]
