"""The figures of a report in words, the same on the page and in Markdown.

As in `wording.py`, a number that is a bound is rounded to the side on which it stays one: certified radii and
shares down, distances of witnesses and shares without one up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from corgi.errors import printable
from corgi.reporting import wording
from corgi.reporting.case import Case
from corgi.reporting.document import VerifyDocument
from corgi.reporting.summary import ClassSummary, Comparison, Decided, Quartiles, Report, Run, Share, Summary
from corgi.reporting.sweep import SweepDocument, guarantee_of_sweeps, nothing_proved
from corgi.reporting.wording import (
    BALLS,
    Measure,
    class_label,
    percent_down,
    percent_up,
    round_down,
    round_up,
)
from corgi.results import Status


@dataclass(frozen=True)
class Fact:
    """One figure: its name, its value, and what it is of."""

    name: str
    value: str
    note: str


Table = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]
"""Titles of columns, and rows of cells."""


def certified_at(rows: Iterable[Decided], measure: Measure = BALLS) -> tuple[Fact, ...]:
    """The certified share at fixed radii or sizes, as figures."""
    return tuple(
        Fact(
            f"certified at {measure.short(row.radius)}",
            percent_down(row.certified / row.images),
            f"refuted {percent_down(row.refuted / row.images)}, open {percent_up(row.open / row.images)}",
        )
        for row in rows
    )


def headline(summary: Summary, measure: Measure = BALLS) -> tuple[Fact, ...]:
    """The figures of a set of images."""
    ended = ", ".join(f"{count:,} {_status(status)}" for status, count in summary.statuses)
    share, proved = percent_down(summary.certified / summary.images), "deterministic; all images"
    facts = [
        Fact("images", f"{summary.images:,}", ended),
        Fact("certified", share, f"{summary.certified:,} with a {measure.noun} above 0; deterministic"),
        _spread(measure.certified, summary.certified_radius, round_down, proved, measure),
    ]
    if summary.joint_radius is not None:
        name = "radius, map and label"
        facts.append(_spread(name, summary.joint_radius, round_down, proved, measure))
    if summary.attack_radius is not None:
        of = f"empirical; the {summary.witnesses:,} images with a witness"
        facts.append(_spread(measure.attacked, summary.attack_radius, round_up, of, measure))
    if summary.ratio is not None:
        name, ratio = "attack / certified, median", summary.ratio
        facts.append(Fact(name, plain(ratio.median), f"{_quartiles(ratio)}; {ratio.count:,} images"))
    if summary.seconds is not None:
        seconds = summary.seconds
        low, high = f"{seconds.low:.3g}", f"{seconds.high:.3g}"
        each = f"an image {seconds.median:.3g} s (median), quartiles {low} and {high} s"
        facts.append(Fact("time, all images", duration(summary.total_seconds), each))
    return tuple(facts)


def _spread(name: str, found: Quartiles, rounded: wording.Rounding, of: str, measure: Measure) -> Fact:
    low, high = rounded(found.low), rounded(found.high)
    note = f"{rounded(found.median * measure.unit)}{measure.suffix}; quartiles {low} and {high}; {of}"
    return Fact(f"median {name}", rounded(found.median), note)


def _quartiles(spread: Quartiles) -> str:
    return f"quartiles {plain(spread.low)} and {plain(spread.high)}"


def _status(status: str) -> str:
    """A status of a row as people read it."""
    return wording.headline(Status(status)) if status in set(Status) else status


def alarms(report: Report) -> tuple[str, ...]:
    """What must be seen before any figure: contradictions of certificates and witnesses."""
    found = []
    for name, run in zip(run_names(report), report.runs, strict=True):
        if run.summary.contradictions:
            found.append(f"{name}, {run.summary.contradictions:,} times: {wording.CONTRADICTION}")
    for pair in report.comparisons:
        if pair.contradictions:
            which = f"runs {pair.first + 1} and {pair.second + 1}, {pair.contradictions:,} times"
            found.append(f"{which}: {wording.CONTRADICTION}")
    return tuple(found)


def share_table(shares: Iterable[Share], measure: Measure = BALLS) -> Table:
    """What holds at round radii or sizes."""
    titles = (measure.noun, measure.suffix, "certified: at least", "no witness: at most")
    return titles, tuple(
        (
            round_down(share.radius),
            round_down(share.radius * measure.unit),
            percent_down(share.certified),
            percent_up(share.unbroken),
        )
        for share in shares
    )


def decided_table(rows: Iterable[Decided], measure: Measure = BALLS) -> Table:
    """What is known at fixed radii or sizes: certified accuracy."""
    rows = tuple(rows)
    told = any(row.correct is not None for row in rows)
    known = ("correct",) if told else ()
    titles = (measure.noun, "images", *known, "holds", "certified", "refuted", "open")
    return (*titles, *(("certified and correct",) if told else ())), tuple(
        (
            measure.short(row.radius),
            f"{row.images:,}",
            *((f"{row.correct:,}",) if told else ()),
            f"{row.holds:,}",
            f"{row.certified:,} ({percent_down(row.certified / row.images)})",
            f"{row.refuted:,} ({percent_down(row.refuted / row.images)})",
            f"{row.open:,} ({percent_up(row.open / row.images)})",
            *((f"{row.accurate:,} ({percent_down((row.accurate or 0) / row.images)})",) if told else ()),
        )
        for row in rows
    )


def columns(titles: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """A table as lines of text, every column as wide as its widest cell."""
    lines = [titles, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(titles))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def decided_title(measure: Measure) -> str:
    """Title of that table."""
    of = "of all images, those at which the property holds at the image itself"
    return f"Known at fixed {measure.plural}: {of}"


def share_title(measure: Measure) -> str:
    """Title of the table of shares."""
    return f"Share of images that keep the property, at {measure.plural}"


def class_table(run: Run) -> Table:
    """The figures of every class explained, and of the images of which none was."""
    of = run.measure
    titles = ("class", "images", "certified", of.certified, of.attacked, "attack / certified", "s")
    rows = [_class_row(shown) for shown in run.classes]
    if run.classes and run.summary.failed:
        rows.append(("no answer", f"{run.summary.failed:,}", percent_down(0), round_down(0), "-", "-", "-"))
    return titles, tuple(rows)


def unanswered(run: Run) -> str:
    """What figures of classes leave out, as one sentence; empty if that is nothing."""
    if not run.summary.failed:
        return ""
    number = f"{run.summary.failed:,} image{'s' if run.summary.failed > 1 else ''} without an answer"
    return (
        f"{number}: of no class, so charts by class are of the images with an answer only; all other figures "
        f"count {run.measure.noun} 0."
    )


def _class_row(shown: ClassSummary) -> tuple[str, ...]:
    summary = shown.summary
    attack, ratio, seconds = summary.attack_radius, summary.ratio, summary.seconds
    return (
        printable(class_label(shown.class_id, shown.class_name)),
        f"{summary.images:,}",
        percent_down(summary.certified / summary.images),
        round_down(summary.certified_radius.median),
        "-" if attack is None else round_up(attack.median),
        "-" if ratio is None else f"{plain(ratio.median)} [{plain(ratio.low)}, {plain(ratio.high)}]",
        "-" if seconds is None else f"{seconds.median:.3g}",
    )


def comparison_facts(pair: Comparison) -> tuple[Fact, ...]:
    """The second run against the first."""
    facts = [
        Fact("images in both runs", f"{pair.images:,}", f"the same is asked of {pair.same_property:,}"),
        Fact(
            f"certified {pair.noun} larger",
            f"{pair.larger:,}",
            f"equal {pair.equal:,}, smaller {pair.smaller:,}",
        ),
        Fact(
            "certified in one run only",
            f"{pair.only_first + pair.only_second:,}",
            f"in the first {pair.only_first:,}, in the second {pair.only_second:,}",
        ),
    ]
    if pair.ratio is not None:
        note = f"{_quartiles(pair.ratio)}; {pair.ratio.count:,} images certified in both"
        facts.append(Fact(f"certified {pair.noun}, second / first", plain(pair.ratio.median), note))
    if pair.seconds is not None:
        note = _quartiles(pair.seconds)
        facts.append(Fact("time of an image, second / first", f"{pair.seconds.median:.3g}", note))
    return tuple(facts)


def change_table(report: Report, pair: Comparison) -> Table:
    """The images whose certified radius differs most."""
    first, second = report.runs[pair.first].cases, report.runs[pair.second].cases
    return ("image", "first", "second"), tuple(
        (printable(first[a].image), round_down(first[a].certified), round_down(second[b].certified))
        for a, b in pair.most_changed
    )


def changed_title(pair: Comparison) -> str:
    """Title of that table."""
    return f"Certified {'radii' if pair.noun == BALLS.noun else 'sizes'} that differ most"


def scales(report: Report) -> tuple[str, ...]:
    """What radii and sizes of a report mean, each said once."""
    return tuple(dict.fromkeys(wording.scale_of(run.measure) for run in report.runs))


def setup_facts(run: Run) -> tuple[tuple[str, str], ...]:
    """What a run is of: model, code and every parameter, by name."""
    setup = run.setup
    return (
        ("model", printable(setup.model)),
        ("SHA-256 of the model", setup.model_sha256),
        ("code", printable(setup.code)),
        *parameters(setup.parameters),
    )


def parameters(values: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Nested parameters one by one: `attack.seed`, `0`."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found += parameters(value, f"{prefix}{name}.")
        else:
            text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
            found.append((printable(f"{prefix}{name}"), printable(text)))
    return tuple(found)


def run_names(report: Report) -> tuple[str, ...]:
    """A name for each run that says in what it differs from the others."""
    every = [dict(setup_facts(run)) for run in report.runs]
    differing = [
        key for key in dict.fromkeys(k for e in every for k in e) if len({e.get(key, "") for e in every}) > 1
    ]
    shown = [key for key in differing if key not in ("SHA-256 of the model", "model")]
    names = []
    for number, values in enumerate(every, 1):
        told = [f"{key} {values[key]}" for key in shown if key in values][:3]
        model = [values["model"].rpartition("/")[2]] if "model" in differing or not told else []
        names.append(f"run {number}: {', '.join((*model, *told))}")
    return tuple(names)


def run_claim(run: Run) -> str:
    """What the certified radii of a run say, as one sentence."""
    swept = [case.document for case in run.cases if isinstance(case.document, SweepDocument)]
    if swept:
        return guarantee_of_sweeps(swept)
    documents = [case.document for case in run.cases if isinstance(case.document, VerifyDocument)]
    if not documents or run.norm is None:
        return "No image has an answer, so nothing is claimed."
    said = wording.guarantee_of_many(documents)
    both = " Within the radius of map and label the network also predicts the same class."
    return said + (both if run.summary.joint_radius is not None else "")


def read_so(run: Run) -> tuple[str, ...]:
    """How the model of a run was read where not as the file stands: its claims are about that model."""
    notes = (note for c in run.cases if c.document is not None for note in c.document.loaded_as)
    return tuple(printable(f"read so: {note}") for note in dict.fromkeys(notes))


def claim(case: Case) -> str:
    """What is certified of a case, or why nothing is, as one sentence."""
    document = case.document
    if document is None:
        return printable(f"No answer: {case.reason}")
    if isinstance(document, SweepDocument):
        return printable(document.guarantee or nothing_proved(document))
    return printable(document.guarantee or wording.no_guarantee(document))


def finding(case: Case) -> str:
    """What breaks the property, as one sentence or two; empty without an answer."""
    document = case.document
    if document is None:
        return ""
    return document.finding if isinstance(document, SweepDocument) else wording.finding(document)


def plain(value: float) -> str:
    """A number that is no bound, to the nearest of its five digits: ratios are often 1.00 and a little."""
    return f"{value:.5g}"


def moment(iso: str) -> str:
    """A date and time, ISO 8601 in UTC, for people."""
    return f"{iso[:10]} {iso[11:19]} UTC"


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
