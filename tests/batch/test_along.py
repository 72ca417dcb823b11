"""A batch along a change: rows are sweeps, named by what is asked, and reports and exports say so."""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import corgi
from corgi.batch.call import _work
from corgi.batch.items import annotated, files
from corgi.batch.question import Question
from corgi.batch.store import FAILED, Store
from corgi.batch.work import Answerer
from corgi.changes.wanted import WantedChange
from corgi.cli.main import app
from corgi.errors import UsageError
from corgi.reporting.sweep import SweepDocument
from tests.pictures import annotated_picture
from tests.soundness.test_families import spike

SIZES = (0.02, 0.2)
FOG = Question(corgi.VerifyOptions(k=1), change=WantedChange("brightness"), sizes=SIZES)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model whose map breaks along brightness around 0.06, and a folder with its image and another."""
    folder = tmp_path_factory.mktemp("case")
    network, image = spike(folder, 0.56, 0.01)
    (folder / "images").mkdir()
    np.save(folder / "images" / "a.npy", image)
    np.save(folder / "images" / "b.npy", image * np.float32(0.9))
    return network.path, folder / "images"


@pytest.fixture
def kept_signal() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answerer(question: Question, model: Path) -> Answerer:
    found = Answerer(_work(question, model, corgi.load(model).sha256, 1, question.digests()))
    found.start()
    return found


@pytest.mark.usefixtures("kept_signal")
def test_a_row_says_what_sweep_says(case: tuple[Path, Path]) -> None:
    model, images = case
    network = corgi.load(model)
    working = answerer(FOG, model)
    for item in files([images]):
        expected = corgi.sweep(network, np.load(item.name), "brightness", sizes=SIZES, k=1)
        answer, pictures = working.answer(item)
        document = SweepDocument.model_validate_json(answer.document or "")
        assert (answer.status, answer.reason) == (expected.status.value, expected.reason)
        assert document.certified_size == expected.certified
        assert document.broken_size == expected.broken
        assert tuple((one.size, one.status) for one in document.sizes) == tuple(
            (size, "open" if status.value == "unknown" else status.value) for size, status in expected.sizes
        )
        assert document.image == item.name
        assert pictures is not None
        assert (pictures.change_png is None) == (expected.witness is None)
        assert pictures.cam.shape == document.map_shape


def test_rows_are_kept_reported_and_exported(case: tuple[Path, Path], tmp_path: Path) -> None:
    model, images = case
    store, picture = tmp_path / "runs.sqlite", tmp_path / "shares.png"
    asked = ["--change", "brightness", "--sizes", "2%,20%", "--k", 1, "--workers", 1, "--store", store]
    for said in ("2 computed now", "0 computed now, 2 before"):
        found = run("batch", model, images, *asked, "--picture", picture)
        assert found.exit_code == 0, found.output
        assert said in found.output
        assert "certified" in found.output
        assert "20%" in found.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = tmp_path / "rows.csv"
    assert run("export-runs", store, "--csv", rows, "--jsonl", tmp_path / "rows.jsonl").exit_code == 0
    documents = [json.loads(line)["document"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    with rows.open(newline="") as file:
        for row, document in zip(csv.DictReader(file), documents, strict=True):
            assert float(row["certified_size"]) == document["certified_size"]
            assert json.loads(row["sizes"]) == document["sizes"]
            assert (row["broken_size"] == "") == (document["broken_size"] is None)
            assert row["certified_radius"] == row["attack_radius"] == ""
    html = tmp_path / "report"
    assert run("report", store, "--html", html, "--markdown", tmp_path / "r.md").exit_code == 0
    said = (tmp_path / "r.md").read_text()
    for words in ("Known at fixed sizes", "change brightness", "brightness in \\[-T, T\\]", "broken at"):
        assert words in said
    assert "radius" not in said.split("## What is claimed")[0]
    bundle = json.loads((html / "report.json").read_text())
    assert [one["change"] for one in bundle["runs"]] == ["brightness"]


def test_decided_sizes_of_a_run_are_those_of_its_rows(case: tuple[Path, Path], tmp_path: Path) -> None:
    model, images = case
    asked = {"change": "brightness", "sizes": SIZES, "k": 1, "workers": 1}
    found = corgi.run_batch(model, [images], tmp_path / "runs.sqlite", **asked)
    with sqlite3.connect(tmp_path / "runs.sqlite") as rows:
        documents = [json.loads(text) for (text,) in rows.execute("SELECT document FROM results")]
    for row in found.decided:
        statuses = [one["status"] for d in documents for one in d["sizes"] if one["size"] == row.radius]
        assert row.certified == statuses.count("proved")
        assert row.refuted == statuses.count("refuted")
        assert row.open == statuses.count("open")
    assert found.curve is not None
    assert found.curve.norm is None
    assert found.curve.between[-1].radius == SIZES[-1]


def test_what_is_asked_of_a_change_names_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.zeros((1, 4, 4)))
    haze = replace(FOG, change=WantedChange(f"haze:{file}+fog"))
    questions = [FOG, haze, replace(FOG, sizes=(0.2,)), replace(FOG, options=corgi.VerifyOptions(k=2))]
    questions += [replace(FOG, change=WantedChange("fog")), replace(FOG, change=None, sizes=None)]
    before = [str(one.parameters()) for one in questions]
    assert len(set(before)) == len(before)
    np.save(file, np.ones((1, 4, 4)))
    after = [str(one.parameters()) for one in questions]
    assert [a != b for a, b in zip(before, after, strict=True)] == [False, True, False, False, False, False]


def test_whole_paths_name_the_same_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a+b.npy", np.zeros((1, 4, 4)))
    monkeypatch.chdir(tmp_path)
    text = "haze:a+b.npy+fog+shadow:0,0,1,1+shadow:annotation"
    whole = WantedChange(text).absolute()
    assert whole.text == f"haze:{tmp_path}/a+b.npy+fog+shadow:0,0,1,1+shadow:annotation"
    assert whole.parameters()["sha256"] == WantedChange(text).parameters()["sha256"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"radii": (0.1,)}, "radii: of balls"),
        ({"options": corgi.VerifyOptions(eps=0.1, label=True)}, "eps, label: of balls"),
        ({"sizes": ()}, "no size"),
        ({"sizes": (-0.1,)}, "expected a finite number > 0"),
        ({"change": None}, "sizes: of a change"),
    ],
)
def test_what_cannot_be_asked_together_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        replace(FOG, **changes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--change", "mist"), "no change 'mist'"),
        (("--change", "fog", "--radii", "1/255"), "radii: of balls"),
        (("--change", "fog", "--eps", "1/255"), "eps: of balls"),
        (("--change", "fog", "--where", "0,0,1,1"), "where: of balls"),
        (("--change", "haze:nowhere.png"), "nowhere.png: no such file"),
        (("--sizes", "5%"), "--sizes: of a change"),
    ],
)
def test_options_that_a_change_does_not_take(
    case: tuple[Path, Path], options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    found = run("batch", *case, *options, "--store", tmp_path / "runs.sqlite")
    assert found.exit_code == 4
    assert said in " ".join(found.output.split())
    assert not (tmp_path / "runs.sqlite").exists()


@pytest.mark.usefixtures("kept_signal")
def test_files_that_change_during_a_batch_are_noticed(case: tuple[Path, Path], tmp_path: Path) -> None:
    model, images = case
    haze = tmp_path / "haze.npy"
    np.save(haze, np.full((1, 4, 4), 0.5, np.float32))
    (item, _) = files([images])
    working = answerer(replace(FOG, change=WantedChange(f"haze:{haze}")), model)
    assert working.answer(item)[0].status in ("proved", "refuted")
    np.save(haze, np.full((1, 4, 4), 0.25, np.float32))
    answer, _ = working.answer(item)
    assert answer.status == FAILED
    assert "has changed since the run began" in answer.reason


@pytest.mark.usefixtures("kept_signal")
def test_a_shadow_on_what_annotates_the_picture_is_part_of_its_name(tmp_path: Path) -> None:
    network, _ = spike(tmp_path, 0.56, 0.01)
    picture = annotated_picture(tmp_path, network.path, -1)
    question = replace(FOG, change=WantedChange("shadow:annotation"), sizes=(0.01,))
    (before,) = annotated(files([picture]), question.annotated_by)
    working = answerer(question, network.path)
    assert working.answer(before)[0].status != FAILED
    table = tmp_path / "GT-test.csv"
    table.write_text(table.read_text().replace(";0;0;", ";1;0;"))
    (after,) = annotated(files([picture]), question.annotated_by)
    assert before.content == after.content
    assert before.sha256 != after.sha256
    assert working.answer(before)[0].status == FAILED
    assert working.answer(after)[0].status != FAILED


def test_words_of_a_shadow_are_of_the_picture(case: tuple[Path, Path]) -> None:
    model, images = case
    found = run("sweep", model, images / "a.npy", "--change", "shadow:0,0,3,3", "--k", 1)
    assert found.exit_code == 4
    said = " ".join(found.output.split())
    assert "every pixel of the input has its centre inside" in said
    assert "map" not in said


def test_a_change_that_no_picture_can_have_ends_the_run(case: tuple[Path, Path], tmp_path: Path) -> None:
    store = tmp_path / "runs.sqlite"
    found = run("batch", *case, "--change", "colour", "--k", 1, "--workers", 1, "--store", store)
    assert found.exit_code == 4
    assert "expected 3 (colour)" in " ".join(found.output.split())
    with Store(store) as opened:
        assert not list(opened.rows())
