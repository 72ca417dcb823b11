"""Real processes: two on one store, one of them killed; the command line; a Ray worker killed."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corgi.batch.cluster import Cluster
from corgi.batch.items import files
from corgi.batch.run import compute_rows
from corgi.batch.store import CRASHED, Store
from corgi.cli.exits import Exit
from corgi.cli.main import app
from corgi.reporting.versions import installed_versions
from tests.batch import cases

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cases.save_model(tmp_path_factory.mktemp("model"))


def test_two_processes_on_one_store_and_one_is_killed(model: Path, tmp_path: Path) -> None:
    images = cases.save_images(tmp_path / "images", 40)
    path = tmp_path / "runs.sqlite"
    command = [sys.executable, "-m", "tests.batch.cases", path, model, tmp_path / "images"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(2)]
    try:
        while {run for (run,) in computed_by(path)} != {1, 2}:  # until both have written a row
            assert all(process.poll() is None for process in both)
            time.sleep(0.05)
        tasks = Path(f"/proc/{both[0].pid}/task").glob("*/children")
        workers = [worker for task in tasks for worker in task.read_text().split()]
        both[0].send_signal(signal.SIGKILL)
        both[0].wait()
        assert both[1].wait() == 0
    finally:
        for process in both:
            process.kill()
    with Store(path) as store:
        rows = list(store.rows())
        assert sorted(Path(row.item.name) for row in rows) == images
        assert all(row.answer.status == "certified" for row in rows)
        assert [run.finished is None for run in store.runs()].count(True) == 1
        assert store._sql.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert workers
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


def computed_by(path: Path) -> list[tuple[int]]:
    if not path.is_file():
        return []
    with Store(path, create=True) as store:  # it may be just being made
        found: list[tuple[int]] = store._sql.execute("SELECT DISTINCT run FROM results").fetchall()
    return found


def test_the_command_line(model: Path, tmp_path: Path) -> None:
    def corgi(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == expected, result.output
        return result.output

    cases.save_images(tmp_path / "images" / "12", 2)
    odd = os.fsdecode(b"\xff")  # a name of file and folder that is no text
    for path in cases.save_images(tmp_path / "images" / odd, 3)[:2]:
        path.unlink()
    model = shutil.copy(model, tmp_path / f"{odd}.onnx")
    (tmp_path / "images" / "damaged.png").write_bytes(b"no picture")
    path = tmp_path / "runs.sqlite"
    batch = ["batch", model, tmp_path / "images", "--k", 3, "--no-attack", "--store", path]
    expected = Exit.UNKNOWN
    first = corgi(*batch, "--workers", 1)
    assert "4 images: 3 certified, 1 failed" in first
    assert "0 computed now, 4 before" in corgi(*batch)
    names = {option: tmp_path / f"rows.{option[2:]}" for option in ("--csv", "--jsonl")}
    expected = Exit.OK
    corgi("export-runs", path, *[part for pair in names.items() for part in pair])
    with names["--csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    objects = [json.loads(line) for line in names["--jsonl"].read_text().splitlines()]
    assert [row["status"] for row in rows] == [o["status"] for o in objects]
    assert {row["true_class"] for row in rows} == {"", "12", "\\udcff"}
    assert all(row["model"].endswith("\\udcff.onnx") for row in rows)
    good = [(row, o) for row, o in zip(rows, objects, strict=True) if row["status"] == "certified"]
    for row, o in good:
        assert float(row["certified_radius"]) == o["certified_radius"] == o["document"]["certified_radius"]
        assert json.loads(row["parameters"]) == o["parameters"]
        assert (o["parameters"]["method"], o["parameters"]["attack"]) == ("exact", None)
    assert len(good) == 3
    expected = Exit.ERROR
    assert "either IMAGES or --gtsrb" in corgi("batch", model)
    assert "only with --gtsrb" in corgi(*batch, "--classes", "12")
    assert "nothing to write" in corgi("export-runs", path)


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'corgi[parquet]'")
    from pyarrow import parquet

    from corgi.batch.export import write_parquet
    from tests.batch.test_run import compute, good

    with Store(tmp_path / "runs.sqlite", create=True) as store:
        compute(store, good)
        write_parquet(store, tmp_path / "rows.parquet")
    read = parquet.read_table(tmp_path / "rows.parquet")
    assert read.num_rows == 6
    assert read.schema.field("evaluations").type == "int64"
    assert read.column("certified_radius").to_pylist() == [0.25] * 6
    assert read.column("attack_radius").null_count == 6


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'corgi[ray]'"
)
def test_ray_with_workers_killed(model: Path, tmp_path: Path) -> None:
    images = cases.save_images(tmp_path / "images", 12)
    images[5].rename(tmp_path / "images" / "deadly.npy")
    images[7].rename(tmp_path / "images" / "once.npy")
    cluster = Cluster("local")
    try:
        work = cases.work(model, cases.deadly)
        workers = [cluster.worker(work) for _ in range(2)]
        with Store(tmp_path / "runs.sqlite", create=True) as store:
            setting = store.setting("00", "m.onnx", {}, "code")
            run = store.begin_run(setting, "", 2, 1, installed_versions())
            tally = compute_rows(
                store, setting, run, files([tmp_path / "images"]), workers, lambda tally: None
            )
            found = {Path(row.item.name).name: row.answer.status for row in store.rows()}
    finally:
        cluster.close()
    assert (tally.done, found.pop("deadly.npy")) == (12, CRASHED)
    assert list(found.values()) == ["certified"] * 11
