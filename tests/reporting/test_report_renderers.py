"""The renderers of a whole report: golden files, and names that would be markup."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import jsonschema
import pytest
from pydantic import ValidationError

from corgi.reporting.bundle import report_document
from corgi.reporting.document import to_json
from corgi.reporting.markdown import report_markdown
from corgi.reporting.page.render import page
from corgi.reporting.schemas import json_schema
from corgi.reporting.summary import Report, make_report, make_run
from tests.reporting.example_cases import (
    CALL,
    HOSTILE,
    ORIGIN,
    example_pictures,
    large_report,
    make_case,
    make_failure,
    make_setup,
    small_report,
)
from tests.reporting.example_results import GOLDEN, make_result


def html(report: Report, budget: int = 10**7) -> str:
    return page(report, example_pictures, "ab" * 32, budget)


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CORGI_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path}: CORGI_UPDATE_GOLDEN=1 writes it anew"


def unpacked(text: str) -> str:
    """A page with its chunks in plain text, pictures, script and style left out."""

    def plain(chunk: re.Match[str]) -> str:
        documents = json.loads(zlib.decompress(base64.b64decode(chunk[2])))
        return chunk[1] + json.dumps(documents, indent=1) + "</script>"

    text = re.sub(r'(<script type="text/plain" id="chunk-\d+">)([^<]*)</script>', plain, text)
    text = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "data:image/png", text)
    text = re.sub(r"(<style>|<script>).*?(</style>|</script>)", r"\1\2", text, flags=re.S)
    return re.sub(r"sha256-[A-Za-z0-9+/=]*", "sha256-", text)


def test_page_matches_golden_file() -> None:
    check_golden("report.html", unpacked(html(small_report())))


def test_markdown_matches_golden_file() -> None:
    check_golden("report.md", report_markdown(small_report()))


def test_bundle_matches_golden_file_and_its_schema() -> None:
    text = to_json(report_document(small_report()))
    check_golden("report.json", text)
    jsonschema.validate(json.loads(text), json.loads(json_schema("report")))


def test_numbers_that_are_not_finite_never_enter() -> None:
    case = replace(make_case(0, make_result()), seconds=math.nan)
    with pytest.raises(ValidationError):
        report_document(make_report("", [make_run(make_setup(), [], [case])], ORIGIN))


class Elements(HTMLParser):
    """What a browser would make of a page: elements, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.scripts.append((dict(attributes), ""))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style") and self.scripts[-1][1] == "":
            self.scripts[-1] = (self.scripts[-1][0], data)


def hostile_report() -> Report:
    """Every text that comes from a file tries to be markup."""
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J</script>'
    setup = replace(make_setup(), model=evil, code=evil, parameters={evil: evil})
    result = replace(make_result(), class_name=evil)
    cases = [make_case(0, result, evil, reason=evil, caveat=evil, method=evil), make_failure(1, evil)]
    call = replace(CALL, command=evil, host=evil)
    origin = replace(ORIGIN, stores=(evil,), command=evil)
    return make_report(evil, [make_run(setup, [call], cases), make_run(make_setup(), [], cases)], origin)


def test_names_never_become_markup() -> None:
    tame, wild = Elements(html(small_report())), Elements(html(hostile_report()))
    assert {tag for tag, _ in wild.found} <= {tag for tag, _ in tame.found}
    assert all(not name.startswith("on") for _, attributes in wild.found for name in attributes)
    running = [text for attributes, text in wild.scripts if "type" not in attributes]
    assert running == [text for attributes, text in tame.scripts if "type" not in attributes]
    for attributes, text in wild.scripts:
        if attributes.get("type") == "application/json":
            json.loads(text)


def test_names_never_become_markdown() -> None:
    written = report_markdown(hostile_report())
    assert "<" not in re.sub(r"`.*?`", "", written)
    assert "\x1b" not in written
    table = [line for line in report_markdown(small_report()).splitlines() if "alert(1)" in line]
    assert table
    assert all("&lt;script&gt;" in line and "\\|" in line and "\\`" in line for line in table)


def test_names_never_become_links_mentions_or_formulas() -> None:
    names = ["https://evil.example/a", "@root", "$x$", "WWW.evil.example", "#17", "a`@|\\|`<b>.png"]
    cases = [make_case(key, make_result(), name) for key, name in enumerate(names)]
    written = report_markdown(make_report("@all", [make_run(make_setup(), [], cases)], ORIGIN))
    outside = re.sub(r"(`+)[^`].*?[^`]\1(?!`)|`[^`]+`", "", written)
    assert not re.search(r"evil|root|\$|@|#17|<", outside)
    rows = [line for line in written.splitlines() if "class 17 (no entry) | certified" in line]
    assert len(rows) == len(names)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {8}


def test_what_is_no_text_is_written_out() -> None:
    origin = replace(ORIGIN, stores=("\udcff.sqlite",), command="corgi report '\udcff.sqlite'")
    report = make_report("\udcff", [make_run(make_setup(), [], [make_failure(0)])], origin)
    for text in (html(report), report_markdown(report), to_json(report_document(report))):
        assert "udcff" in text.encode().decode()


def test_how_a_model_was_read_is_on_page_card_and_in_markdown() -> None:
    case = make_case(0, make_result(), loaded_as=("float16 taken as float32",))
    report = make_report("", [make_run(make_setup(), [], [case])], ORIGIN)
    assert "read so: float16 taken as float32" in report_markdown(report)
    assert unpacked(html(report)).count("read so: float16 taken as float32") == 2


def test_the_page_needs_nothing_and_allows_nothing_else() -> None:
    elements = Elements(html(small_report()))
    (policy,) = [a["content"] or "" for t, a in elements.found if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, text in ((t, s) for t, (a, s) in zip(("style", "script"), own(elements), strict=True)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, attributes in elements.found:
        assert "style" not in attributes, "the policy would refuse it"
        if tag != "a":
            assert not (attributes.get("src") or "").startswith(("http", "//", "/"))
            assert (attributes.get("href") or "data:").startswith("data:")


def own(elements: Elements) -> list[tuple[dict[str, str | None], str]]:
    return [(attributes, text) for attributes, text in elements.scripts if "type" not in attributes]


def test_pictures_are_those_of_the_smallest_radii_and_the_rest_is_said() -> None:
    report = large_report(40)
    text = html(report, budget=60_000)
    drawn = {int(place) for place in re.findall(r'id="pictures-(\d+)"', text)}
    cases = [case for run in report.runs for case in run.cases]
    answered = [place for place, case in enumerate(cases) if case.document is not None]
    assert 0 < len(drawn) < len(answered)
    largest = max(cases[place].certified for place in drawn)
    assert all(place in drawn or cases[place].certified >= largest for place in answered)
    assert f"The cards of {len(answered) - len(drawn)} images are without" in " ".join(text.split())
    assert "are without" not in html(report)


def test_the_hash_of_the_bundle_and_the_commands_are_named() -> None:
    text = html(small_report())
    for said in ("ab" * 32, "corgi batch models/sign.onnx a --k 15", "corgi report runs.sqlite", "00" * 32):
        assert said in text
        assert said in report_markdown(small_report()) or said == "ab" * 32
    alone = page(small_report(), example_pictures, None)  # of --pdf: no report.json is written
    assert "report.json beside" not in alone
    assert '"bundle":false' in alone


def test_every_image_keeps_its_document() -> None:
    report = large_report(70)
    text = html(report)
    chunks = re.findall(r'id="chunk-\d+">([^<]*)<', text)
    entries = [e for chunk in chunks for e in json.loads(zlib.decompress(base64.b64decode(chunk)))]
    cases = [case for run in report.runs for case in run.cases]
    assert len(chunks) == 2
    assert [e["document"] and e["document"]["image"] for e in entries] == [
        None if case.document is None else case.image for case in cases
    ]
    assert HOSTILE not in text
