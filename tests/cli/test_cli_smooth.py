from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from corgi.cli.exits import Exit
from corgi.cli.main import app
from corgi.reporting.schemas import json_schema
from corgi.smoothing import tally as tallies

MODELS = Path(__file__).parents[2] / "models"
SUBJECT = (MODELS / "gtsrb.onnx", MODELS / "demo" / "no_entry.png")


def smooth(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["smooth", *map(str, SUBJECT), *map(str, arguments)])


def document(path: Path) -> Any:
    found = json.loads(path.read_text())
    jsonschema.validate(found, json.loads(json_schema("smooth")))
    return found


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ([], Exit.OK),
        (["--overlap", 2], Exit.OK),
        (["--radius", 0.01, "--interval", "hoeffding"], Exit.OK),
        (["--overlap", 15, "--as-published"], Exit.UNKNOWN),
        (["--certificate", "rank", "--radius", 0.001], Exit.OK),
        (["--certificate", "pixels", "--radius", 0.02, "--correction", "bonferroni"], Exit.OK),
        (["--certificate", "renyi", "--norm", "l1", "--overlap", 1], Exit.OK),
        (["--certificate", "renyi", "--norm", "linf", "--overlap", 1, "--as-published"], Exit.UNKNOWN),
        (["--form", "relaxed", "--tau", 0.1, "--overlap", 1, "--k", "auto"], None),
        (["--map", "gradcam", "--form", "scaled", "--overlap", 1], None),
        (["--map", "saliency", "--form", "quadratic", "--k", 100, "--overlap", 1], Exit.UNKNOWN),
    ],
)
def test_every_certificate_as_text_json_and_picture(
    options: list[object], status: Exit | None, tmp_path: Path
) -> None:
    files = ["--json", tmp_path / "s.json"]
    if "pixels" in options or "saliency" in options:  # tests of the report draw the others
        files += ["--picture", tmp_path / "s.png"]
    result = smooth("--samples", 256, "--sigma", 0.05, "--confidence", 0.95, *options, *files)
    found = document(tmp_path / "s.json")
    certified = found["certified_radius"] > 0
    assert result.exit_code == (Exit.OK if certified else Exit.UNKNOWN), result.output
    assert status in (None, result.exit_code)
    assert "--picture" not in files or Image.open(tmp_path / "s.png").format == "PNG"
    said = " ".join(result.stdout.split())
    if certified:
        assert found["guarantee"] in said
        assert "With probability at least 0.95" in said
        assert found["compared"] in said
    else:
        assert found["guarantee"] is None
        assert ("No guarantee" if found["claimed_radius"] else "Nothing is certified") in said
    assert (found["claimed_radius"] is not None) == ("renyi" in options and "--as-published" in options)
    assert (found["samples"], found["sigma"], found["seed"], found["rung"]) == (256, 0.05, 0, None)
    assert found["failure_probability"] == pytest.approx(0.05)
    height, width = found["map_shape"]
    assert np.array(found["smoothed_map"]).shape == (height, width)
    assert len(found["top_k"]) == found["k"]
    curve = [(point["overlap"], point["certified_radius"]) for point in found["curve"]]
    if found["claim"] in ("rank", "pixels") or found["claimed_radius"] is not None:
        assert curve == []
    elif certified and "--radius" not in options:
        assert (found["overlap"], found["certified_radius"]) in curve
        assert options or curve[0] == (found["overlap"], found["certified_radius"])


def test_a_time_limit_certifies_with_what_was_sampled(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    result = smooth("--samples", 10**9, "--time-limit", 1.5, "--json", file)
    assert result.exit_code == Exit.TIME_LIMIT
    assert "stopped early" in result.stdout
    found = document(file)
    assert found["interrupted"]
    assert found["status"] == "certified"
    assert found["samples"] == found["samples_drawn"] > 0


def test_saved_samples_are_gone_on_from(tmp_path: Path) -> None:
    state, files = tmp_path / "s.npz", [tmp_path / f"{i}.json" for i in range(3)]
    smooth("--samples", 100, "--overlap", 1, "--state", state, "--json", files[0], "--quiet")
    smooth("--samples", 230, "--overlap", 1, "--state", state, "--json", files[1], "--quiet")
    smooth("--samples", 200, "--overlap", 1, "--json", files[2], "--quiet")
    first, resumed, whole = map(document, files)
    assert [d["samples"] for d in (first, resumed, whole)] == [100, 200, 200]
    assert [d["samples_drawn"] for d in (first, resumed, whole)] == [100, 230, 200]
    assert [d["rung"] for d in (first, resumed, whole)] == [0, 1, None]
    assert resumed["failure_share"] == pytest.approx(0.001 / 6)
    assert whole["failure_share"] == whole["failure_probability"]
    assert resumed["smoothed_map"] == whole["smoothed_map"]
    assert resumed["certified_radius"] <= whole["certified_radius"]
    again = smooth("--samples", 230, "--overlap", 2, "--state", state)  # looking twice at a rung is free
    assert "the first 200 of 230" in again.stdout
    for options, said in (
        (["--samples", 60], "--samples 60: there are 230 already"),
        (["--samples", 230, "--seed", 1], "another seed (0, not 1)"),
        (["--samples", 230, "--scale", 2], "another model or image"),
        (["--samples", 230, "--interval", "hoeffding"], "hoeffding intervals"),
        (["--samples", 230, "--certificate", "pixels"], "holm tests"),
    ):
        refused = smooth("--state", state, *options)
        assert refused.exit_code == Exit.ERROR
        assert said in refused.stderr


def test_ctrl_c_certifies_with_what_was_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked, calls = tallies._checked, []

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return checked(*arguments)

    monkeypatch.setattr(tallies, "_checked", stopping)
    file, state = tmp_path / "s.json", tmp_path / "s.npz"
    result = smooth("--samples", 500, "--batch", 64, "--overlap", 1, "--json", file, "--state", state)
    assert result.exit_code == Exit.TIME_LIMIT
    assert "stopped early" in result.stdout
    found = document(file)
    assert (found["samples"], found["samples_drawn"], found["samples_wanted"]) == (100, 128, 500)
    assert found["interrupted"]
    assert state.exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--confidence", 1.0], ["--confidence 1"]),
        (["--norm", "l0"], ["--norm l0"]),
        (["--norm", "4"], ["--norm 4"]),
        (["--norm", "linf"], ["--norm", "renyi"]),
        (["--certificate", "rank"], ["--radius"]),
        (["--overlap", 16], ["--overlap 16"]),
        (["--k", 576], ["k = 576"]),
        (["--sigma", 0], ["sigma"]),
        (["--tau", 1.5], ["--tau"]),
        (["--form", "scaled", "--certificate", "pixels"], ["0/1"]),
        (["--form", "scaled", "--interval", "clopper-pearson"], ["--interval"]),
        (["--map", "saliency", "--k", "auto"], ["--k auto"]),
        (["--state", "counts.txt"], ["--state", ".npz"]),
        (["--picture", "a.txt"], ["--picture"]),
        (["--radius", 0.1, "--overlap", 3], ["--overlap", "--radius"]),
        (["--certificate", "renyi", "--form", "scaled"], ["--form scaled"]),
        (["--form", "scaled", "--tau", 0.1], ["--tau 0.1"]),
        (["--gamma", 0.1], ["--gamma 0.1"]),
        (["--certificate", "pixels", "--interval", "bernstein"], ["--interval bernstein"]),
        (["--correction", "holm"], ["--correction holm"]),
    ],
)
def test_what_cannot_be_asked_is_one_or_two_lines(options: list[object], parts: list[str]) -> None:
    result = smooth("--samples", 4, *options)
    assert result.exit_code == Exit.ERROR, result.output
    assert result.stdout == ""
    assert 1 <= len(result.stderr.strip().splitlines()) <= 2
    for part in parts:
        assert part in result.stderr
