"""The page: a template, a style sheet and a script beside this file, and the rows as JSON in between.

Nothing that comes from a file reaches the page as markup: the template escapes, JSON is data, and the script
writes text. The page's own policy (CSP) forbids all but this one script and style sheet, known by their hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from corgi.errors import printable
from corgi.reporting import facts, wording
from corgi.reporting.case import Case, Pictures
from corgi.reporting.page import charts
from corgi.reporting.page.pictures import card_pictures
from corgi.reporting.summary import Report, Run
from corgi.reporting.wording import class_label, round_down, round_up
from corgi.terms import PAGE_BUDGET
from corgi.types import Norm

Fetch = Callable[[int, Case], Pictures | None]
"""Fetches the pictures of a case of the run of that number, from 0."""

CHUNK = 64
"""Documents that are compressed together, and unpacked together when a card of one is opened."""

COLUMNS = (
    "run", "image", "trueClass", "class", "predicted", "status", "reason",
    "certified", "broken", "ratio", "joint", "seconds", "file",
)  # fmt: skip
"""Names by which the script finds the values of a row."""


@dataclass(frozen=True)
class _RunView:
    """What the template shows of a run."""

    name: str
    headline: tuple[facts.Fact, ...]
    tables: tuple[tuple[str, facts.Table], ...]
    charts: tuple[Markup, ...]
    claim: str
    read_so: tuple[str, ...]
    unanswered: str
    setup: tuple[tuple[str, str], ...]
    run: Run


def page(report: Report, pictures: Fetch, bundle_sha256: str | None, budget: int = PAGE_BUDGET) -> str:
    """The page of a report as HTML.

    Args:
        report: what to show.
        pictures: fetches what a card draws; asked for the smallest certified radii first, until the budget
            is spent.
        bundle_sha256: digest of the report.json that goes with the page; None if none does.
        budget: bytes of pictures.

    Raises:
        pydantic.ValidationError: a number of a document is not finite.
    """
    folder = files("corgi.reporting.page")
    style, script, template = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html")
    )
    names = facts.run_names(report)
    drawn = _drawn(report, pictures, budget)
    cases = [case for run in report.runs for case in run.cases]
    answered = sum(case.document is not None for case in cases)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(
        report=report,
        policy=f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}';"
        " base-uri 'none'; form-action 'none'",
        style=Markup(style),
        script=Markup(script),
        runs=[_view(name, run) for name, run in zip(names, report.runs, strict=True)],
        alarms=facts.alarms(report),
        proof_kinds=wording.PROOF_KINDS,
        of_these_images=wording.OF_THESE_IMAGES,
        scales=facts.scales(report),
        caveats=list(dict.fromkeys(case.document.caveat for case in cases if case.document is not None)),
        bundle_sha256=bundle_sha256,
        printable=printable,
        moment=facts.moment,
        images=len(cases),
        without_pictures=answered - len(drawn),
        data=_json(_table(report, names) | {"bundle": bundle_sha256 is not None}),
        chunks=list(_chunks(cases)),
        pictures=[(place, _json(found)) for place, found in sorted(drawn.items())],
    )


def _view(name: str, run: Run) -> _RunView:
    measure, groups = run.measure, charts.class_groups(run)
    drawn: list[Markup] = []
    if run.norm is not None or run.change is not None:
        of = "size" if run.norm is None else f"{Norm(run.norm).label} radius"
        plural = measure.plural.capitalize()
        drawn += [charts.radii_chart(f"{plural}, {title}", cases, of) for title, cases in groups]
        drawn += [charts.ratio_chart(f"Attack / certified, {title}", cases) for title, cases in groups]
        drawn.append(charts.share_chart(run, of if run.norm is None else f"{of}, scale [0, 1]"))
    return _RunView(
        name,
        facts.certified_at(run.decided, measure) + facts.headline(run.summary, measure),
        (
            (facts.decided_title(measure), facts.decided_table(run.decided, measure)),
            ("By class: medians", facts.class_table(run)),
            (facts.share_title(measure), facts.share_table(run.shares, measure)),
        ),
        tuple(drawn),
        facts.run_claim(run),
        facts.read_so(run),
        facts.unanswered(run),
        facts.setup_facts(run),
        run,
    )


def _table(report: Report, names: Sequence[str]) -> dict[str, Any]:
    """What the script sorts, filters and compares; rows are lists, in the order of `COLUMNS`."""
    folder = _folder([printable(case.image) for run in report.runs for case in run.cases])
    classes: dict[str, int] = {}
    images: dict[str, int] = {}
    rows = []
    for number, run in enumerate(report.runs):
        for case in run.cases:
            document = case.document
            label = "-" if document is None else class_label(document.class_id, document.class_name)
            rows.append(
                [
                    number,
                    printable(case.image)[len(folder) :],
                    None if case.true_class is None else printable(case.true_class),
                    classes.setdefault(printable(label), len(classes)),
                    None if document is None else document.predicted_class,
                    case.status,
                    printable(case.reason),
                    None if document is None else round_down(case.certified),
                    None if case.broken is None else round_up(case.broken),
                    None if case.ratio is None else facts.plain(case.ratio),
                    None if case.joint is None else round_down(case.joint),
                    None if case.seconds is None else round(case.seconds, 2),
                    images.setdefault(case.image_sha256, len(images)),
                ]
            )
    starts = [sum(len(run.cases) for run in report.runs[:number]) for number in range(len(report.runs))]
    return {
        "columns": COLUMNS,
        "folder": folder,
        "rows": rows,
        "classes": list(classes),
        "runs": names,
        "changes": [run.change for run in report.runs],
        "chunk": CHUNK,
        "comparisons": [
            {
                "first": pair.first,
                "second": pair.second,
                "certified": f"certified {pair.noun}",
                "title": facts.changed_title(pair),
                "facts": [[fact.name, fact.value, fact.note] for fact in facts.comparison_facts(pair)],
                "changed": [(starts[pair.first] + a, starts[pair.second] + b) for a, b in pair.most_changed],
            }
            for pair in report.comparisons
        ],
    }


def _folder(names: Sequence[str]) -> str:
    """The folder, with its final slash, that all names begin with; empty if there is none."""
    before, slash, _ = os.path.commonprefix(names).rpartition("/")  # noqa: RUF071 - cut at a slash here
    return before + slash


def _chunks(cases: Sequence[Case]) -> Iterator[str]:
    """Sentences and documents of all cases, `CHUNK` by `CHUNK`: zlib, base64."""
    for start in range(0, len(cases), CHUNK):
        entries = (_entry(case) for case in cases[start : start + CHUNK])
        yield base64.b64encode(zlib.compress(f"[{','.join(entries)}]".encode())).decode()


def _entry(case: Case) -> str:
    notes = () if case.document is None else case.document.loaded_as
    said = {
        "sha256": case.image_sha256,
        "claim": facts.claim(case),
        "notes": [printable(f"read so: {note}") for note in notes],
        "finding": facts.finding(case),
    }
    document = "null" if case.document is None else case.document.model_dump_json()
    return f'{json.dumps(said)[:-1]}, "document": {document}}}'


def _drawn(report: Report, pictures: Fetch, budget: int) -> dict[int, dict[str, Any]]:
    """Pictures by place in the table: of the smallest certified radii first, until the budget is spent."""
    every = [(number, case) for number, run in enumerate(report.runs) for case in run.cases]
    order = sorted(range(len(every)), key=lambda place: every[place][1].certified)
    found: dict[int, dict[str, Any]] = {}
    spent = 0
    for place in order:
        number, case = every[place]
        if case.document is None:
            continue
        shown = card_pictures(case, pictures(number, case))
        spent += len(json.dumps(shown))
        if spent > budget:
            break
        if shown:
            found[place] = shown
    return found


def _json(value: object) -> Markup:
    """JSON that can stand inside a script element: no `<` ends it."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


def _hash(text: str) -> str:
    """An inline element's text as a source of the page's policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
