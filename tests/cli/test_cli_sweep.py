"""`corgi sweep` from the command line: text, JSON, picture, options, errors, ends."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from corgi.certify import sweep as module
from corgi.cli.exits import Exit
from corgi.cli.main import app
from corgi.cli.radius import sizes_of
from corgi.decide.parts import PartsSearch
from corgi.reporting.schemas import json_schema
from tests.soundness.test_families import spike


def corgi(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model whose map breaks along brightness around 0.06, and its image."""
    folder = tmp_path_factory.mktemp("case")
    network, image = spike(folder, 0.56, 0.01)
    np.save(folder / "image.npy", image)
    return network.path, folder / "image.npy"


def test_writes_text_json_and_picture(case: tuple[Path, Path], tmp_path: Path) -> None:
    outputs = ("--json", tmp_path / "s.json", "--picture", tmp_path / "s.png")
    result = corgi("sweep", *case, "--change", "brightness", "--sizes", "2%,20%", "--k", 1, *outputs)
    assert result.exit_code == Exit.OK, result.output
    for said in ("REFUTED", "For every image of the change brightness", "certified up to", "broken"):
        assert said in result.stdout
    document = json.loads((tmp_path / "s.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("sweep")))
    assert [(one["size"], one["status"]) for one in document["sizes"]] == [(0.02, "proved"), (0.2, "refuted")]
    assert 0.04 < document["certified_size"] <= document["broken_size"] <= document["witness"]["size"] < 0.07
    kinds = [one["finding"] for one in document["intervals"]]
    assert [kind for kind in kinds if kind != "open"] == ["holds", "broken", "holds"]
    ends = [(one["lower"], one["upper"]) for one in document["intervals"]]
    assert ends[0][0] == -0.2
    assert ends[-1][1] == 0.2
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
    assert Image.open(tmp_path / "s.png").width == 1800


@pytest.mark.parametrize("change", ["brightness+fog", "contrast+darken+blur"])
def test_several_parameters_are_drawn(case: tuple[Path, Path], change: str, tmp_path: Path) -> None:
    outputs = ("--json", tmp_path / "s.json", "--picture", tmp_path / "s.png")
    result = corgi("sweep", *case, "--change", change, "--to", "0.01", "--k", 1, *outputs)
    assert result.exit_code == Exit.OK, result.output
    document = json.loads((tmp_path / "s.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("sweep")))
    assert document["status"] == "proved"
    assert document["intervals"] == []
    assert len(document["parameters"]) == len(change.split("+"))
    assert Image.open(tmp_path / "s.png").format == "PNG"


@pytest.mark.parametrize(
    ("change", "size", "said"),
    [
        ("rotation", "2", "t from -2 to 2 degrees"),
        ("shift", "0.05", "all its 2 parameters from -0.05 to 0.05 pixels"),
        ("scale", "2%", "t from -0.02 to 0.02,"),
        ("gamma", "10%", "t from -0.1 to 0.1,"),
    ],
)
def test_curves_and_motions(
    case: tuple[Path, Path], change: str, size: str, said: str, tmp_path: Path
) -> None:
    outputs = ("--json", tmp_path / "s.json", "--picture", tmp_path / "s.png")
    result = corgi("sweep", *case, "--change", change, "--to", size, "--k", 1, *outputs)
    assert result.exit_code == Exit.OK, result.output
    assert said in " ".join(result.stdout.split())
    document = json.loads((tmp_path / "s.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("sweep")))
    assert document["status"] == "proved"
    unit = {"rotation": " degrees", "shift": " pixels"}.get(change, "")
    assert f"change {change} up to {document['sizes'][-1]['size']}{unit}\n" in result.stdout
    assert said in document["guarantee"]
    assert document["set"].startswith("x")


def test_a_change_may_name_files_and_regions(case: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.npy"
    np.save(other, np.full((1, 4, 4), 0.5, np.float32))
    for change in (f"haze:{other}", f"towards:{other}+fog", "shadow:0,0,1,1", f"noise-pattern:{other}"):
        result = corgi("sweep", *case, "--change", change, "--to", "0.01", "--k", 1, "--json", "-")
        assert result.exit_code == Exit.OK, result.output
        assert json.loads(result.stdout)["change"].startswith(change.split(":")[0])


def test_other_properties(case: tuple[Path, Path]) -> None:
    asked = ("--property", "pointing", "--region", "2,1,2,1")
    result = corgi("sweep", *case, "--change", "fog", "--to", "1%", *asked)
    assert result.exit_code == Exit.OK, result.output
    assert "lies inside the region" in " ".join(result.stdout.split())
    failing = corgi("sweep", *case, "--change", "fog", "--property", "pointing", "--region", "0,0,0,0")
    assert failing.exit_code == Exit.OK
    assert "UNKNOWN" in failing.stdout
    assert "at the image itself it is not true" in " ".join(failing.stdout.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--change", "mist"), "no change 'mist'"),
        (("--change", "mist"), "Expected one of brightness"),
        (("--change", "rotation", "--sizes", "5%"), "sizes of rotation are in degrees"),
        (("--change", "shift", "--to", "5%"), "sizes of shift are in pixels"),
        (("--change", "rotation", "--to", "90"), "expected sizes below 90 degrees"),
        (("--change", "gamma", "--to", "100%"), "expected sizes below 1"),
        (("--change", "rotation+fog"), "rotation stands alone"),
        (("--change", "fog", "--to", "1%,2%"), "expected one number"),
        (("--change", "haze"), "expected haze:IMAGE"),
        (("--change", "fog", "--eps", "-1/255"), "eps -0.00392156862745098: expected a radius"),
        (("--change", "fog", "--eps", "2"), "expected a radius in (0, 1]"),
        (("--change", "fog", "--eps", "1/0"), "1/0"),
        (("--change", "haze:nowhere.png"), "nowhere.png"),
        (("--change", "fog", "--to", "0"), "expected a finite number > 0"),
        (("--change", "fog", "--to", "many"), "expected numbers"),
        (("--change", "fog", "--sizes", "5%,x"), "expected numbers with commas"),
        (("--change", "fog", "--sizes", "30%", "--to", "20%"), "beyond --to"),
        (("--change", "fog", "--k2", "3", "--property", "pointing"), "--k2"),
        ((), "--change"),
    ],
)
def test_what_cannot_be_is_refused(case: tuple[Path, Path], options: tuple[str, ...], said: str) -> None:
    result = corgi("sweep", *case, *options)
    assert result.exit_code == Exit.ERROR
    assert said in " ".join(result.output.split())


def test_sizes_as_people_write_them() -> None:
    assert sizes_of("--sizes", "5%, 10%,0.2,1/4") == (0.05, 0.1, 0.2, 0.25)
    assert sizes_of("--sizes", "12.5%,5%") == (0.05, 0.125)


def test_small_balls_around_each_image(case: tuple[Path, Path], tmp_path: Path) -> None:
    outputs = ("--json", tmp_path / "s.json", "--picture", tmp_path / "s.png")
    asked = ("--change", "fog", "--to", "1%", "--k", 1, "--eps", "0.25/255")
    result = corgi("sweep", *case, *asked, *outputs)
    assert result.exit_code == Exit.OK, result.output
    said = " ".join(result.stdout.split())
    assert "and every image within 0.0009803921 of one of these in l_inf" in said
    document = json.loads((tmp_path / "s.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("sweep")))
    assert "up to 0.01 and 0.0009803921 around each" in said
    assert document["eps"] == 0.25 / 255
    assert document["set"].startswith("clip(y + delta, 0, 1), |delta_i| <= 0.00098")
    assert document["status"] == "proved"
    for other in ("batch", "export"):
        refused = corgi(other, *case, "--change", "fog", "--eps", "0.25/255")
        assert refused.exit_code == Exit.ERROR


def test_time_and_ctrl_c_keep_what_was_done(
    case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = corgi("sweep", *case, "--change", "fog", "--k", 1, "--time-limit", "0.0001")
    assert result.exit_code == Exit.TIME_LIMIT
    whole = PartsSearch.run

    def stopped(self: PartsSearch) -> None:
        whole(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.PartsSearch, "run", stopped)
    result = corgi("sweep", *case, "--change", "fog", "--to", "1%", "--k", 1, "--json", tmp_path / "s.json")
    assert result.exit_code == Exit.TIME_LIMIT
    document = json.loads((tmp_path / "s.json").read_text())
    assert document["interrupted"]
    assert document["sizes"] == [{"size": 0.01, "status": "proved"}]
    assert "stopped early" in result.stdout
