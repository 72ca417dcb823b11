"""Reports and pictures of batches along a change: figures, golden files, and the page in a browser."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from example_results import VERSIONS
from PIL import Image
from test_report_sweep import make_sweep

from corgi.certify.sweep import SweepResult
from corgi.cli.browser import find_browser
from corgi.reporting import facts
from corgi.reporting.accuracy_picture import accuracy_picture
from corgi.reporting.bundle import report_document
from corgi.reporting.case import Case, Pictures, read_answer
from corgi.reporting.document import to_json
from corgi.reporting.markdown import report_markdown
from corgi.reporting.page.render import page
from corgi.reporting.picture import picture_bytes
from corgi.reporting.schemas import json_schema
from corgi.reporting.summary import Report, accuracy_curve, make_report, make_run
from corgi.reporting.sweep import SweepDocument, sweep_document
from corgi.terms import Status
from tests.reporting.example_cases import CALL, ORIGIN, example_pictures, make_case, make_failure, make_setup
from tests.reporting.example_results import make_result
from tests.reporting.test_report_renderers import check_golden, unpacked

PROVED = {"sizes": ((0.05, Status.PROVED), (0.2, Status.PROVED)), "certified": 0.2, "broken": None}


def make_swept(key: int, result: SweepResult) -> Case:
    document = sweep_document(result, f"a/{key:03d}.png", VERSIONS)
    shown = (document.image, f"{key:064x}", "17", document.status, document.reason, document.seconds)
    return Case(key, *shown, document)


def swept_cases() -> list[Case]:
    """Broken and witnessed; broken but not witnessed; proved; not true of the image itself; a failure."""
    found, late = make_sweep(), "time limit of 2 s reached"
    proved = replace(found, **PROVED, witness=None, parts=found.parts[:1], status=Status.PROVED)
    opened = ((0.05, Status.PROVED), (0.2, Status.UNKNOWN))
    unseen = replace(found, witness=None, sizes=opened, status=Status.TIME_LIMIT, reason=late)
    nothing = ((0.05, Status.UNKNOWN), (0.2, Status.UNKNOWN))
    false = replace(
        found, witness=None, sizes=nothing, certified=0.0, broken=None, holds=False, parts=(),
        status=Status.UNKNOWN, reason="at the image itself it is not true",
    )  # fmt: skip
    swept = (make_swept(key, one) for key, one in enumerate((found, unseen, proved, false)))
    return [*swept, make_failure(9)]


def change_report() -> Report:
    """A run along a change, the same with another time limit, and one of balls."""
    of = {"change": {"text": "brightness"}}
    runs = [
        make_run(make_setup(**of), [CALL], swept_cases()),
        make_run(make_setup(**of, time_limit=9), [CALL], [make_swept(0, make_sweep())]),
        make_run(make_setup(), [CALL], [make_case(0, make_result())]),
    ]
    return make_report("Signs in any light", runs, ORIGIN)


def html(report: Report) -> str:
    return page(report, pictures, "ab" * 32)


def pictures(run: int, case: Case) -> Pictures | None:
    if case.document is None or case.document.kind == "verify":
        return example_pictures(run, case)
    made = example_pictures(run, make_case(0, make_result()))
    assert made is not None
    return made if case.attacked is not None else replace(made, change_png=None, witness_cam=None)


def test_page_matches_golden_file() -> None:
    check_golden("report-change.html", unpacked(html(change_report())))


def test_markdown_matches_golden_file() -> None:
    check_golden("report-change.md", report_markdown(change_report()))


def test_bundle_is_of_its_schema() -> None:
    text = to_json(report_document(change_report()))
    jsonschema.validate(json.loads(text), json.loads(json_schema("report")))


def test_a_document_reads_back_as_what_it_is() -> None:
    for case in (*swept_cases(), make_case(0, make_result())):
        if case.document is not None:
            assert read_answer(case.document.model_dump_json()) == case.document


def test_figures_along_a_change() -> None:
    """What is refuted has a witness; what is proved to be broken without one stays open at its size."""
    run = change_report().runs[0]
    assert (run.norm, run.change) == (None, "brightness")
    assert run.summary.witnesses == 1
    assert run.summary.contradictions == 0
    assert [(row.radius, row.certified, row.refuted, row.open) for row in run.decided] == [
        (0.05, 3, 0, 0),
        (0.2, 1, 1, 1),
    ]
    assert [case.broken for case in run.cases] == [0.0782, 0.0782, None, None, None]
    assert all(share.radius <= 0.2 for share in run.shares)
    assert "brightness in [-T, T]" in facts.run_claim(run)
    assert facts.claim(run.cases[3]) == "Nothing is proved: at the image itself it is not true."


def test_runs_along_one_change_are_compared_and_no_others() -> None:
    report = change_report()
    assert [(pair.first, pair.second, pair.noun) for pair in report.comparisons] == [(0, 1, "size")]
    assert report.comparisons[0].same_property == 1
    wrong = make_swept(0, replace(make_sweep(), certified=0.11))
    of = {"change": {"text": "brightness"}}
    assert make_run(make_setup(**of), [], [wrong]).summary.contradictions == 1
    other = make_run(make_setup(**of, k=3), [], [wrong])
    assert make_report("", [report.runs[0], other], ORIGIN).comparisons[0].contradictions == 1


def test_accuracy_against_the_size() -> None:
    curve = accuracy_curve(swept_cases())
    assert curve is not None
    assert curve.norm is None
    assert curve.between[-1].radius == 0.2
    figure = accuracy_picture(curve)
    assert figure.axes[0].get_xlabel() == "size, in %: largest |t| of the change brightness"
    assert np.asarray(Image.open(io.BytesIO(picture_bytes(figure, "png")))).std() > 0


def test_sizes_in_a_unit_are_said_in_it() -> None:
    case = swept_cases()[2]
    assert isinstance(case.document, SweepDocument)
    turned = replace(
        case, document=case.document.model_copy(update={"change": "rotation", "unit": "degrees"})
    )
    run, curve = make_run(make_setup(), [], [turned]), accuracy_curve([turned])
    assert [fact.name for fact in facts.certified_at(run.decided, run.measure)] == [
        "certified at 0.05 degrees",
        "certified at 0.2 degrees",
    ]
    assert curve is not None
    said = accuracy_picture(curve).axes[0].get_xlabel()
    assert said == "size, in degrees: largest |t| of the change rotation"


def test_the_page_draws_the_series_on_a_card(tmp_path: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if find_browser() is None:
        pytest.skip("no browser of the Chromium family found: apt-get install chromium")
    path, faults = tmp_path / "index.html", list[str]()
    path.write_text(html(change_report()), encoding="utf-8")
    with driver.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        tab = opened.new_page()
        tab.set_default_timeout(120_000)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto(f"{path.as_uri()}#image-1")
        tab.wait_for_selector("#card .series")
        for kind in ("holds", "open", "broken"):
            assert tab.locator(f".series .part.{kind}").count() == 1
        assert tab.locator(".series .witness").count() == 1
        said = tab.locator("#card").inner_text()
        assert "witness: the image at t = 0.1" in said
        assert "certified up to size" in said
        assert "5% proved, 20% refuted" in said
        for place in (2, 4, 5, 7):
            tab.goto("about:blank")
            tab.goto(f"{path.as_uri()}#image-{place}")
            tab.wait_for_selector("#card table")
        opened.close()
    assert not faults
