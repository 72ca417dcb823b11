"""`corgi compare` from the command line: table, JSON, picture, Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from corgi.cli.exits import Exit
from corgi.cli.main import app
from corgi.comparison import compare as module
from corgi.engines.lipschitz.engine import LipschitzEngine
from corgi.errors import EngineError
from corgi.network.network import load
from corgi.reporting.schemas import json_schema
from corgi.results import VerifyResult
from corgi.smoothing import tally as tallies
from tests.onnx_models import OnnxModel, float32, random_cam_network


def corgi(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_cam_network(np.random.default_rng(11), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def image(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "image.npy"
    np.save(path, np.random.default_rng(4).random(load(model).input_shape, dtype=np.float32))
    return path


@pytest.fixture(autouse=True)
def verify_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same verification is not computed again for every test."""
    whole = module.verify_explained

    def remembered(explained, options, **given):
        key = (explained.network.sha256, explained.image.tobytes(), repr(options))
        if key not in _VERIFIED:
            _VERIFIED[key] = whole(explained, options, **given)
        return _VERIFIED[key]

    monkeypatch.setattr(module, "verify_explained", remembered)


_VERIFIED: dict[tuple[str, bytes, str], VerifyResult] = {}
FEW = ("--k", 5, "--samples", 300, "--sigma", 0.3)


def test_writes_text_json_and_picture(model: Path, image: Path, tmp_path: Path) -> None:
    outputs = ("--json", tmp_path / "c.json", "--picture", tmp_path / "c.png")
    result = corgi("compare", model, image, *FEW, *outputs)
    assert result.exit_code == Exit.OK, result.output
    assert "COMPARISON" in result.stdout
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / "c.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("compare")))
    rows = document["rows"]
    assert [(row["method"], row["norm"]) for row in rows] == [
        ("exact", "linf"),
        ("attack", "linf"),
        ("crown", "linf"),
        ("crown", "l2"),
        ("attack", "l2"),
        ("lipschitz", "linf"),
        ("lipschitz", "l2"),
        ("overlap", "linf"),
        ("attack", "linf"),
        ("smoothed CAM", "l2"),
        ("sparsified CAM", "l2"),
        ("sparsified gradient", "l2"),
        ("Renyi CAM", "l2"),
        ("Renyi CAM", "linf"),
    ]
    assert not document["interrupted"]
    kinds = {row["method"]: row["guarantee"] for row in rows}
    assert kinds["exact"] == kinds["crown"] == kinds["lipschitz"] == "deterministic"
    assert kinds["sparsified CAM"] == kinds["Renyi CAM"] == "statistical"
    assert kinds["attack"] == "empirical"
    witness = min(row["distance_linf"] for row in rows if row["guarantee"] == "empirical")
    for row in rows:
        statistical = row["guarantee"] == "statistical"
        assert row["failure_probability"] == (0.05 if statistical else 0.0)
        assert row["forward_passes"] >= 0
        if row["method"] == "overlap":
            # Four of five: of the same map, so at least where all five stay, and below its own witness.
            assert row["steps"] == [{"kept": 4, "radius": row["share_certified_linf"]}]
            assert row["share_certified_linf"] >= 0.99 * rows[0]["certified_linf"]
            assert rows[8]["steps"][0]["kept"] < 4
            assert row["share_certified_linf"] < rows[8]["distance_linf"]
        elif row["guarantee"] == "deterministic":
            assert 0 < row["certified_linf"] < witness
            assert row["certified_linf"] <= row["certified_l2"]
            assert row["share_certified_l2"] == row["certified_l2"]
        if row["guarantee"] == "empirical":
            assert row["certified_linf"] is None
            assert row["steps"][0]["kept"] < row["k"]
    # The exact search ends half a per cent below its witness.
    assert rows[0]["certified_linf"] >= 0.99 * rows[2]["certified_linf"]
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout
    assert "wrong with probability <= 0.05" in result.stdout.replace("\n   ", " ")


def test_whether_the_largest_pixel_stays_in_a_region(model: Path, image: Path, tmp_path: Path) -> None:
    network = load(model)
    size = network.input_shape[1:]
    # All but the corner with the smallest pixels of the map.
    files = ("--json", tmp_path / "c.json", "--picture", tmp_path / "c.png")
    result = corgi("compare", model, image, *FEW, "--region", f"0,0,{size[1] - 1},{size[0] - 3}", *files)
    assert result.exit_code == Exit.OK, result.output
    document = json.loads((tmp_path / "c.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("compare")))
    assert len(document["rows"]) == 14
    assert 0 < len(document["region"]) < network.pixels
    found = {(row["method"], row["norm"]): row for row in document["pointing"]}
    assert list(found) == [
        ("pointing", "linf"),
        ("attack", "linf"),
        ("smoothed CAM", "l2"),
        ("sparsified CAM", "l2"),
        ("Renyi CAM", "l2"),
        ("Renyi CAM", "linf"),
    ]
    certified, attack = found["pointing", "linf"], found["attack", "linf"]
    assert 0 < certified["certified_linf"] < attack["distance_linf"]
    assert {row["failure_probability"] for row in document["pointing"]} == {0.0, 0.05}
    region = f"0,0,{size[1] - 1},{size[0] - 3}"
    alone = corgi(
        "attack", model, image, "--k", 5, "--property", "pointing", "--region", region, "--json", "-"
    )
    assert certified["certified_linf"] < json.loads(alone.stdout)["attack_radius"]
    assert "THE LARGEST PIXEL STAYS IN THE REGION" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_ctrl_c_keeps_finished_rows(
    model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "named_map", stop)
    result = corgi("compare", model, image, *FEW, "--json", tmp_path / "c.json")
    assert result.exit_code == Exit.TIME_LIMIT
    assert "stopped early" in result.stdout
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["interrupted"]
    assert len(document["rows"]) == 9


def test_ctrl_c_while_sampling_keeps_what_was_sampled(
    model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, batches = tallies._checked, []

    def stopping(*arguments: Any) -> Any:
        batches.append(arguments)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return checked(*arguments)

    monkeypatch.setattr(tallies, "_checked", stopping)
    monkeypatch.setattr(tallies, "LARGEST_BATCH", 64)
    result = corgi("compare", model, image, *FEW, "--json", tmp_path / "c.json")
    assert result.exit_code == Exit.TIME_LIMIT
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert rows[-1]["method"] == "smoothed CAM"
    assert rows[-1]["work"].startswith("128 images")


def test_an_engine_that_cannot_serve_the_network_has_a_row_with_the_reason(
    model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self, network, class_id):
        raise EngineError("no rule for this network")

    monkeypatch.setattr(LipschitzEngine, "bind", refuse)
    result = corgi("compare", model, image, *FEW, "--json", tmp_path / "c.json")
    assert result.exit_code == Exit.OK, result.output
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    refused = [row for row in rows if row["method"] == "lipschitz"]
    assert len(rows) == 14
    assert {(row["certified_l2"], row["reason"]) for row in refused} == {(0.0, "no rule for this network")}


def test_a_tie_is_no_crash(image: Path, tmp_path: Path) -> None:
    """A constant image under a network without padding: all pixels of its map are equal."""
    rng = np.random.default_rng(0)
    net = OnnxModel((1, 8, 8))
    value = net.chain([("Conv", [float32(rng, 3, 1, 3, 3), float32(rng, 3)], {}), ("Relu", [], {})])
    path = net.save(tmp_path, net.head(value, float32(rng, 2, 3)))
    np.save(tmp_path / "flat.npy", np.full((1, 8, 8), 0.5, dtype=np.float32))
    result = corgi("compare", path, tmp_path / "flat.npy", *FEW, "--json", "-")
    assert result.exit_code == Exit.OK, result.output
    rows = json.loads(result.stdout)["rows"]
    assert {row["certified_linf"] for row in rows if row["guarantee"] == "deterministic"} == {0.0}
    assert "tie" in rows[0]["reason"]


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (("--region", "5,5,1,1"), "X1 <= X2"),
        (("--share", 0), "--share 0"),
        (("--samples", 0), "--samples"),
        (("--picture", "c.bmp"), "--picture"),
    ],
)
def test_wrong_options_are_errors(model: Path, image: Path, wrong, part) -> None:
    result = corgi("compare", model, image, *wrong)
    assert result.exit_code == Exit.ERROR
    assert part in result.stderr
