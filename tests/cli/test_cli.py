from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from corgi.attacks.interface import Attempt
from corgi.attacks.margin import MarginAttack
from corgi.cli.exits import Exit, exit_of
from corgi.cli.main import app
from corgi.reporting.schemas import json_schema
from corgi.results import Status
from tests.onnx_models import IMAGE, OnnxModel, float32


def corgi(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_error(result: Result, *parts: str) -> None:
    """Exit 4, nothing on stdout, one or two short lines on stderr that hold the parts."""
    assert result.exit_code == Exit.ERROR, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert 1 <= len(result.stderr.strip().splitlines()) <= 2, result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions with ReLUs, a 6 x 6 map of a grey 8 x 8 image, two classes with names."""
    rng = np.random.default_rng(3)
    net = OnnxModel((1, 8, 8), metadata={"corgi.class_names": '["cat", "dog"]'})
    value = net.chain(
        [
            ("Conv", [float32(rng, 4, 1, 3, 3, scale=0.5), float32(rng, 4, scale=0.2)], {}),
            ("Relu", [], {}),
            ("Conv", [float32(rng, 4, 4, 1, 1, scale=0.7), 1 + float32(rng, 4, scale=0.1)], {}),
            ("Relu", [], {}),
        ]
    )
    return net.save(tmp_path_factory.mktemp("model"), net.head(value, float32(rng, 2, 4)))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "image.npy"
    np.save(path, np.random.default_rng(4).random((1, 8, 8), dtype=np.float32))
    return path


def test_verify_writes_text_json_picture_and_witness(model: Path, image: Path, tmp_path: Path) -> None:
    outputs = [
        "--json",
        tmp_path / "r.json",
        "--picture",
        tmp_path / "p.png",
        "--witness",
        tmp_path / "w.npy",
    ]
    result = corgi("verify", model, image, "--k", 3, *outputs)
    assert result.exit_code == Exit.OK, result.output
    assert "CERTIFIED" in result.stdout
    assert "For every image within" in result.stdout
    document = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("verify")))
    assert 0 < document["certified_radius"] < document["attack_radius"]
    assert document["class_name"] in ("cat", "dog")
    witness, original = np.load(tmp_path / "w.npy"), np.load(image)
    assert np.abs(witness.astype(float) - original.astype(float)).max() == document["attack_radius"]
    assert Image.open(tmp_path / "p.png").format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.png", "r.json", "w.npy"]


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_every_command_takes_a_norm(model: Path, image: Path, tmp_path: Path, norm: str) -> None:
    label = {"l2": "l_2", "l1": "l_1"}[norm]
    for command, options in (
        ("verify", ["--k", 3, "--picture", tmp_path / "p.png"]),
        ("attack", ["--k", 3]),
        ("radii", ["--k", 1, "--outside", 0]),
        ("curve", ["--k", "3", "--picture", tmp_path / "c.png"]),
    ):
        file = tmp_path / f"{command}.json"
        result = corgi(command, model, image, "--norm", norm, *options, "--json", file)
        assert result.exit_code == Exit.OK, result.output
        document = json.loads(file.read_text())
        jsonschema.validate(document, json.loads(json_schema(command)))
        assert document["norm"] == norm
        assert label in result.stdout
    verified = json.loads((tmp_path / "verify.json").read_text())
    attacked = json.loads((tmp_path / "attack.json").read_text())
    assert 0 < verified["certified_radius"] < min(verified["attack_radius"], attacked["attack_radius"])
    assert verified["certified_radius_255"] == 255 * verified["certified_radius"]
    assert verified["exact"]["closed"]
    assert verified["attack_radius"] <= 1.005 * verified["certified_radius"]


def test_a_radius_beyond_1_is_one_of_l_2_or_l_1(model: Path, image: Path) -> None:
    assert_error(corgi("verify", model, image, "--eps", 1.5), "(0, 1]")
    assert_error(corgi("attack", model, image, "--eps", 1.5), "--eps 1.5", "(0, 1]")
    assert_error(corgi("verify", model, image, "--norm", "l2", "--eps", 0), "l_2 radius > 0")
    refuted = corgi("verify", model, image, "--k", 3, "--norm", "l1", "--eps", 20.0)
    assert refuted.exit_code == Exit.REFUTED


def test_json_dash_leaves_stdout_to_json(model: Path, image: Path) -> None:
    result = corgi("verify", model, image, "--k", "auto", "--no-attack", "--method", "ibp", "--json", "-")
    document = json.loads(result.stdout)
    assert document["attack"] is None
    assert document["method"] == "ibp"
    assert result.exit_code == (Exit.OK if document["certified_radius"] > 0 else Exit.UNKNOWN)


def test_quiet_prints_nothing(model: Path, image: Path) -> None:
    result = corgi("verify", model, image, "--k", 3, "--eps", 1e-6, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (Exit.OK, "", "")


def test_eps_decides(model: Path, image: Path, tmp_path: Path) -> None:
    assert corgi("verify", model, image, "--k", 3, "--eps", 1e-6).exit_code == Exit.OK
    refuted = corgi("verify", model, image, "--k", 3, "--eps", 0.5)
    assert refuted.exit_code == Exit.REFUTED
    assert "REFUTED" in refuted.stdout
    witness = tmp_path / "w.npy"
    unknown = corgi("verify", model, image, "--k", 3, "--eps", 0.9, "--no-attack", "--method", "ibp")
    assert unknown.exit_code == Exit.UNKNOWN
    assert corgi("verify", model, image, "--k", 3, "--eps", 1e-6, "--witness", witness).exit_code == Exit.OK
    assert not witness.exists()


def test_a_tie_is_unknown_with_its_reason(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.full((1, 8, 8), 0.5, dtype=np.float32))
    result = corgi("verify", model, tmp_path / "flat.npy", "--k", 3)
    assert result.exit_code == Exit.UNKNOWN
    assert "Tie at rank 3" in result.stdout


def test_time_limit_exits_3(model: Path, image: Path) -> None:
    result = corgi("verify", model, image, "--k", 3, "--time-limit", 1e-6)
    assert result.exit_code == Exit.TIME_LIMIT
    assert "time limit" in result.stdout


@pytest.mark.parametrize("status", Status)
def test_every_status_has_an_exit_code(status: Status) -> None:
    assert exit_of(status) in (0, 1, 2, 3)


def test_cam(model: Path, image: Path, tmp_path: Path) -> None:
    saved, drawn = tmp_path / "cam.npy", tmp_path / "cam.svg"
    result = corgi("cam", model, image, "--k", 3, "--save", saved, "--picture", drawn, "--json", "-")
    document = json.loads(result.stdout)
    jsonschema.validate(document, json.loads(json_schema("cam")))
    cam = np.load(saved)
    assert cam.shape == (6, 6)
    assert cam.tolist() == document["map"]
    assert tuple(document["top_k"][0]) == np.unravel_index(cam.argmax(), cam.shape)
    assert drawn.read_bytes().startswith(b"<?xml")
    assert "largest pixels" in corgi("cam", model, image, "--k", 3, "--class", 1).stdout


def test_inspect(model: Path) -> None:
    document = json.loads(corgi("inspect", model, "--json", "-").stdout)
    jsonschema.validate(document, json.loads(json_schema("inspect")))
    assert document["input_shape"] == [1, 8, 8]
    assert document["map_shape"] == [6, 6]
    assert document["class_names"] == ["cat", "dog"]
    assert document["lirpa"] is True
    text = corgi("inspect", model).stdout
    assert "GlobalAveragePool" in text
    assert "4 filters of 6 x 6" in text


def test_attack(model: Path, image: Path, tmp_path: Path) -> None:
    outputs = [
        "--witness",
        tmp_path / "w.npy",
        "--picture",
        tmp_path / "p.png",
        "--json",
        tmp_path / "a.json",
    ]
    result = corgi("attack", model, image, "--k", 3, *outputs)
    assert result.exit_code == Exit.OK, result.output
    assert "WITNESS FOUND" in result.stdout
    document = json.loads((tmp_path / "a.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("attack")))
    assert document["attack_radius"] > 0
    assert (tmp_path / "p.png").stat().st_size > 0
    assert np.load(tmp_path / "w.npy").dtype == np.float32


def test_attack_with_eps_refutes_or_does_not_know(model: Path, image: Path) -> None:
    assert corgi("attack", model, image, "--k", 3, "--eps", 0.5).exit_code == Exit.REFUTED
    nothing = corgi("attack", model, image, "--k", 3, "--eps", 1e-7)
    assert nothing.exit_code == Exit.UNKNOWN
    assert "NO WITNESS" in nothing.stdout


def test_interrupted_attack_reports_what_it_has(
    model: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, balls = MarginAttack.run, []

    def stopped(*asked: Any) -> Attempt:
        balls.append(asked)
        if len(balls) == 2:
            raise KeyboardInterrupt
        return run(*asked)

    monkeypatch.setattr(MarginAttack, "run", stopped)
    result = corgi("attack", model, image, "--k", 3)
    assert result.exit_code == Exit.TIME_LIMIT
    assert " 0 gradients" not in result.stdout
    assert "gradients" in result.stdout


def test_schema_prints_the_published_schema() -> None:
    assert corgi("schema").stdout == json_schema("verify")
    assert corgi("schema", "cam").stdout == json_schema("cam")


def test_help_and_version() -> None:
    assert corgi("--version").stdout.startswith("corgi ")
    assert corgi("--help").exit_code == Exit.OK
    assert corgi("train", "gtsrb", "--help").exit_code == Exit.OK
    assert corgi("train", "cifar10", "--help").exit_code == Exit.OK
    assert corgi().exit_code == Exit.ERROR


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--foo"], ["--foo", "--help"]),
        (["--method", "magic"], ["magic", "alpha-crown"]),
        (["--k", "many"], ["--k many"]),
        (["--k", 0], ["k = 0", "35"]),
        (["--k", 36], ["k = 36", "35"]),
        (["--k", 5, "--k2", 4], ["k2 = 4"]),
        (["--class", 2, "--k", 3], ["class 2", "0-1"]),
        (["--eps", 0], ["eps"]),
        (["--eps", "nan"], ["eps"]),
        (["--tolerance", 2], ["tolerance"]),
        (["--time-limit", -1], ["time limit"]),
        (["--device", "quantum"], ["--device quantum"]),
        (["--preprocess", "polish"], ["polish", "resize"]),
        (["--picture", "x.docx"], ["x.docx", ".png"]),
        (["--witness", "w.txt"], ["w.txt", ".npy"]),
        (["--no-attack", "--witness", "w.npy"], ["--no-attack"]),
        (["--json", "/no/such/folder/r.json"], ["/no/such/folder", "does not exist"]),
        (["--seed", -1], ["--seed"]),
    ],
)
def test_bad_options_are_errors(model: Path, image: Path, options: list[object], parts: list[str]) -> None:
    assert_error(corgi("verify", model, image, *options), *parts)


@pytest.mark.parametrize("command", ["verify", "cam", "attack"])
def test_missing_files_are_errors(command: str, model: Path, image: Path) -> None:
    assert_error(corgi(command, "no.onnx", image), "no.onnx")
    assert_error(corgi(command, model, "no.png"), "no.png")
    assert_error(corgi(command, model), "IMAGE")
    assert_error(corgi("inspect", "no.onnx"), "no.onnx")


def test_inputs_and_outputs_must_differ(model: Path, image: Path, tmp_path: Path) -> None:
    assert_error(corgi("verify", model, image, "--json", model), "overwrite")
    assert_error(corgi("verify", model, image, "--witness", image), "overwrite")
    assert_error(corgi("verify", model, image, "--json", tmp_path), "is a folder")
    same = tmp_path / "x.png"
    assert_error(corgi("verify", model, image, "--json", same, "--picture", same), "overwrite")


def test_wrong_size_proposes_a_recipe(model: Path, tmp_path: Path) -> None:
    Image.new("L", (20, 20), 100).save(tmp_path / "large.png")
    assert_error(corgi("verify", model, tmp_path / "large.png"), "20 x 20", "--preprocess resize")


def test_a_broken_image_is_an_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    assert_error(corgi("cam", model, tmp_path / "broken.png"), "broken.png")


def test_a_model_without_cam_head_is_refused(tmp_path: Path, image: Path) -> None:
    rng = np.random.default_rng(0)
    net = OnnxModel((1, 8, 8))
    flat = net.node("Flatten", net.node("Relu", IMAGE), axis=1)
    path = net.save(tmp_path, net.node("Gemm", flat, float32(rng, 64, 2)))
    assert_error(corgi("inspect", path), "no CAM head", "global average pooling")
    assert_error(corgi("verify", path, image), "no CAM head")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, image: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    assert_error(corgi("verify", tmp_path / "text.onnx", image), "text.onnx")


@pytest.mark.parametrize("task", ["gtsrb", "cifar10"])
def test_train_checks_before_it_works(task: str, tmp_path: Path) -> None:
    assert_error(corgi("train", task, "--data", tmp_path, "--out", tmp_path / "x.txt"), ".onnx")
    assert_error(corgi("train", task, "--data", tmp_path, "--out", "/no/such/x.onnx"), "does not exist")
    assert_error(corgi("train", task, "--data", tmp_path, "--out", tmp_path / "x.onnx"), "missing")


def test_train_names_the_architectures(tmp_path: Path) -> None:
    command = ("train", "cifar10", "--data", tmp_path, "--out", tmp_path / "x.onnx")
    assert_error(corgi(*command, "--architecture", "alexnet"), "squeezenet")


def test_debug_shows_the_traceback() -> None:
    result = corgi("inspect", "no.onnx", "--debug")
    assert result.exit_code == Exit.ERROR
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ZeroDivisionError("oops"), Exit.ERROR, "ZeroDivisionError: oops"),
        (KeyboardInterrupt(), Exit.KEYBOARD, ""),
    ],
)
def test_the_unexpected_is_short(
    error: BaseException,
    code: Exit,
    text: str,
    model: Path,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("corgi.certify.verify.verify", broken)
    result = corgi("verify", model, image)
    assert result.exit_code == code
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_radii_writes_text_json_and_picture(model: Path, image: Path, tmp_path: Path) -> None:
    outputs = ["--json", tmp_path / "r.json", "--picture", tmp_path / "p.png"]
    result = corgi("radii", model, image, "--k", 3, "--outside", 2, *outputs)
    assert result.exit_code == Exit.OK, result.output
    assert "PIXEL RADII" in result.stdout
    document = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("radii")))
    assert [found["inside"] for found in document["searched"]] == [True] * 3 + [False] * 2
    assert np.array(document["certified"]).shape == (6, 6)
    assert Image.open(tmp_path / "p.png").format == "PNG"


def test_curve_writes_text_json_and_picture(model: Path, image: Path, tmp_path: Path) -> None:
    outputs = ["--json", tmp_path / "r.json", "--picture", tmp_path / "p.png"]
    result = corgi("curve", model, image, "--k", "1-3", "--k2", "4,5", "--base", 3, *outputs)
    assert result.exit_code == Exit.OK, result.output
    assert "Recommended: k = " in result.stdout
    document = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(document, json.loads(json_schema("curve")))
    assert [point["k"] for point in document["by_k"]] == [1, 2, 3]
    assert [(point["k"], point["k2"]) for point in document["by_k2"]] == [(3, 4), (3, 5)]
    assert Image.open(tmp_path / "p.png").format == "PNG"


@pytest.mark.parametrize("ranks", ["", "0-3", "5-3", "1-9:0", "a", "3-", "1,,2"])
def test_curve_refuses_ranks_it_cannot_read(model: Path, image: Path, ranks: str) -> None:
    assert_error(corgi("curve", model, image, "--k", ranks), "--k", "expected ranks like")


def test_method_exact_is_refused_where_it_cannot_be(model: Path, image: Path) -> None:
    assert_error(corgi("verify", model, image, "--method", "exact", "--engine", "lirpa"), "--method exact")
    assert_error(corgi("verify", model, image, "--method", "exact", "--form", "folded"), "--method exact")


@pytest.mark.parametrize(
    ("options", "method"),
    [
        (["--method", "lipschitz"], "lipschitz-rows"),
        (["--engine", "lipschitz"], "lipschitz-rows"),
        (["--method", "lipschitz-intervals", "--norm", "l2"], "lipschitz-intervals"),
        (["--method", "lipschitz-norms", "--engine", "lipschitz", "--eps", "1e-7"], "lipschitz-norms"),
    ],
)
def test_lipschitz_certificates(options: list[object], method: str, model: Path, image: Path) -> None:
    result = corgi("verify", model, image, "--k", 3, "--no-attack", "--json", "-", *options)
    assert result.exit_code == Exit.OK, result.output
    document = json.loads(result.stdout)
    jsonschema.validate(document, json.loads(json_schema("verify")))
    assert (document["method"], document["engine"]) == (method, "lipschitz")
    assert document["certified_radius"] > 0
    assert document["exact"] is None


@pytest.mark.parametrize("engine", ["patch", "lirpa"])
def test_other_engines_have_no_lipschitz_method(engine: str, model: Path, image: Path) -> None:
    options = ("--method", "lipschitz", "--engine", engine)
    assert_error(corgi("verify", model, image, *options), f"--engine {engine}: no method lipschitz")


def test_a_gap_must_be_a_share(model: Path, image: Path) -> None:
    assert_error(corgi("verify", model, image, "--gap", 0), "gap = 0", "share in (0, 1)")


def test_how_a_model_is_read(model: Path, image: Path) -> None:
    result = corgi("verify", model, image, "--k", 3, "--mean", "0.1", "--std", "0.5", "--scale", 2, "--label")
    assert result.exit_code in (Exit.OK, Exit.UNKNOWN), result.output
    assert "read so: the network is given (2 * pixel - [0.1]) / [0.5]" in result.stdout
    assert "label" in result.stdout
    assert "image' [N, 1, 8, 8]" in corgi("inspect", model, "--size", "8x8").stdout
    shown = corgi("cam", model, image, "--map", "gradcam", "--k", 3, "--json", "-")
    assert json.loads(shown.stdout)["map_kind"] == "gradcam"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--mean", "a,b"], "--mean a,b: expected numbers"),
        (["--std", "0"], "--std 0: expected finite numbers > 0"),
        (["--scale", "-1"], "--scale -1: expected finite numbers > 0"),
        (["--mean", "1,2"], "--mean has 2 numbers"),
        (["--size", "8"], "--size 8: expected height x width"),
        (["--size", "9x8"], "fixed size 8x8"),
        (["--output", "absent"], "no output 'absent'"),
        (["--layer", "conv0"], "only with --map gradcam"),
        (["--map", "gradcam", "--layer", "absent"], "'absent' is no feature map"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_wrong_ways_to_read_a_model(
    command: str, options: list[str], part: str, model: Path, image: Path
) -> None:
    files = [model] if command == "inspect" else [model, image]
    assert_error(corgi(command, *files, *options), part)


def test_label_and_joint_radius_in_the_document(model: Path, image: Path) -> None:
    result = corgi("verify", model, image, "--k", 3, "--label", "--no-attack", "--json", "-")
    document = json.loads(result.stdout)
    jsonschema.validate(document, json.loads(json_schema("verify")))
    label = document["label"]
    assert label["class_id"] == document["predicted_class"]
    assert label["joint_radius"] == min(label["certified_radius"], document["certified_radius"])
    assert "label" not in document["caveat"] or "and the label" in document["caveat"]
