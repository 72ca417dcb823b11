from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from corgi.batch.store import Answer, Item, Store, now
from corgi.cli import browser
from corgi.cli.browser import find_browser
from corgi.cli.exits import Exit
from corgi.cli.main import app
from corgi.reporting.document import VerifyDocument
from corgi.reporting.schemas import json_schema
from tests.reporting.example_cases import HOSTILE, document_of, example_pictures, make_case, make_radii
from tests.reporting.example_results import VERSIONS, make_result


def corgi(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_error(result: Result, *parts: str) -> None:
    assert result.exit_code == Exit.ERROR, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two images with an answer and a failure, as `corgi batch` leaves them."""
    path = tmp_path / "runs.sqlite"
    with Store(path, create=True) as opened:
        setting = opened.setting("00" * 32, "models/sign.onnx", {"k": 15, "seed": 0}, "0.1.0")
        opened.setting("00" * 32, "models/sign.onnx", {"k": 5, "seed": 0}, "0.1.0")
        run = opened.begin_run(setting, "corgi batch models/sign.onnx a", 1, 1, VERSIONS)
        for key in range(2):
            case = make_case(key, make_result())
            document, drawn = document_of(case), example_pictures(0, case)
            assert drawn is not None
            answer = Answer(document.status, document.reason, document.model_dump_json())
            opened.record(run, Item(case.image_sha256, case.image, "17"), now(), answer, drawn)
        opened.record(run, Item("ff" * 32, HOSTILE), now(), Answer("failed", "not a picture"), None)
        opened.end_run(run)
    return path


def radii_file(path: Path, document: VerifyDocument) -> Path:
    path.write_text(make_radii(document).model_dump_json())
    return path


def test_writes_the_page_and_the_bundle_whose_hash_it_names(store: Path, tmp_path: Path) -> None:
    result = corgi("report", store, "--html", tmp_path / "report", "--title", "Signs")
    assert result.exit_code == Exit.OK, result.output
    assert result.stdout == ""
    bundle = (tmp_path / "report" / "report.json").read_bytes()
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert hashlib.sha256(bundle).hexdigest() in page
    assert "<title>Signs</title>" in page
    assert 'id="pictures-' in page
    document = json.loads(bundle)
    jsonschema.validate(document, json.loads(json_schema("report")))
    (run,) = document["runs"]  # a setting without results is no run
    assert run["setup"]["parameters"] == {"k": 15, "seed": 0}
    assert [case["status"] for case in run["cases"]] == ["certified", "certified", "failed"]
    assert run["calls"][0]["command"] == "corgi batch models/sign.onnx a"
    assert run["summary"]["certified"] == 2


def test_markdown_is_printed_if_nothing_else_is_asked(store: Path, tmp_path: Path) -> None:
    printed = corgi("report", store)
    assert printed.exit_code == Exit.OK
    assert printed.stdout.startswith("# Certified class activation maps\n")
    assert corgi("report", store, "--markdown", tmp_path / "r.md").stdout == ""
    lines = (tmp_path / "r.md").read_text().splitlines()
    assert lines[:2] == printed.stdout.splitlines()[:2]
    assert corgi("report", store, "--quiet").stdout == ""


def test_two_stores_are_compared(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    other.write_bytes(store.read_bytes())
    printed = corgi("report", store, other)
    assert "Run 1 and run 2" in printed.stdout
    assert "| images in both runs | 3 |" in printed.stdout


def test_radii_of_pixels_come_on_the_card_of_their_map(store: Path, tmp_path: Path) -> None:
    matching = radii_file(tmp_path / "one.json", document_of(make_case(0, make_result())))
    foreign = radii_file(tmp_path / "two.json", document_of(make_case(0, make_result(), "other.png")))
    result = corgi("report", store, "--html", tmp_path, "--radii", matching, "--radii", foreign)
    assert result.exit_code == Exit.OK, result.output
    assert "two.json: no result is of this image" in result.stderr
    assert "one.json" not in result.stderr
    assert (tmp_path / "index.html").read_text().count('"radii":"data:image/png') == 1
    other = document_of(make_case(0, make_result()))
    foreign = radii_file(tmp_path / "two.json", other.model_copy(update={"predicted_class": 3}))
    assert "no result is of this image" in corgi("report", store, "--radii", foreign).stderr
    assert_error(corgi("report", store, "--radii", store), "runs.sqlite: no document of corgi radii --json")
    assert_error(corgi("report", store, "--radii", tmp_path / "none"), "none: cannot be read")


def test_what_cannot_be_reported_is_refused(store: Path, tmp_path: Path) -> None:
    assert_error(corgi("report", tmp_path / "none.sqlite"), "no such store")
    with Store(tmp_path / "empty.sqlite", create=True):
        pass
    assert_error(corgi("report", tmp_path / "empty.sqlite"), "no results yet")
    assert_error(corgi("report", store, "--html", tmp_path / "a" / "b"), "Make the folder above it first")
    assert_error(corgi("report", store, "--html", store), "cannot be made a folder")
    assert_error(corgi("report", store, "--markdown", store), "would overwrite the input")
    assert_error(corgi("report", store, "--pdf", tmp_path / "a.txt"), "ends in .pdf")


def test_a_document_that_is_none_is_named(store: Path) -> None:
    with Store(store) as opened:
        setting = opened.settings()[0]
        run = opened.runs()[0]
        answer = Answer("certified", "", '{"kind": "other"}')
        opened.record(run, Item("ee" * 32, "odd.png"), now(), answer, None)
        assert len(opened.done(setting)) == 4
    assert_error(corgi("report", store), "(odd.png): its document is none of corgi verify")


def test_pdf_without_a_browser_says_what_to_install(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("playwright", reason="playwright is not installed")
    monkeypatch.setattr(browser, "BROWSERS", ("no-such-browser",))
    assert_error(corgi("report", store, "--pdf", tmp_path / "a.pdf"), "no browser found", "apt-get install")


def test_pdf_without_playwright_says_what_to_install(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    assert_error(corgi("report", store, "--pdf", tmp_path / "a.pdf"), "pip install 'corgi[pdf]'")


def test_pdf_is_printed_by_the_browser(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="playwright is not installed")
    if find_browser() is None:
        pytest.skip("no browser of the Chromium family found: apt-get install chromium")
    result = corgi("report", store, "--pdf", tmp_path / "a.pdf")
    assert result.exit_code == Exit.OK, result.output
    assert result.stdout == ""
    printed = (tmp_path / "a.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page") > 2
