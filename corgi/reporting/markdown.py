"""A report as Markdown: its figures, and the images with the smallest certified radii."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from corgi.errors import printable
from corgi.reporting import facts, wording
from corgi.reporting.case import Case
from corgi.reporting.summary import Report, Run
from corgi.reporting.wording import class_label, round_down, round_up

MOST_ROWS = 50
"""Images of a run that are listed."""

_READ_BY_GITHUB = re.compile(r"@|\$|://|www\.|#\d", re.IGNORECASE)
"""People, formulas, addresses, issues: GitHub finds them in any text but code."""


def report_markdown(report: Report) -> str:
    """A report as GitHub's Markdown. Names from files are escaped: they can be neither markup nor HTML."""
    names = facts.run_names(report)
    parts = [f"# {_text(report.title)}", _about(report)]
    parts += [f"> **Contradiction.** {_text(alarm)}" for alarm in facts.alarms(report)]
    for name, run in zip(names, report.runs, strict=True):
        parts += _run(name, run)
    parts += _comparisons(report)
    parts.append("## What is claimed")
    for name, run in zip(names, report.runs, strict=True):
        parts.append(_text(f"{name}. {facts.run_claim(run)}"))
        parts += [_text(note) for note in facts.read_so(run)]
    parts.append("\n".join(f"- **{kind}**: {_text(text)}" for kind, text in wording.PROOF_KINDS.items()))
    parts += [_text(caveat) for caveat in _caveats(report)]
    parts.append(_text(wording.OF_THESE_IMAGES))
    parts += [_text(scale) for scale in facts.scales(report)]
    parts += _origin(report, names)
    return "\n\n".join(parts) + "\n"


def _about(report: Report) -> str:
    images = sum(len(run.cases) for run in report.runs)
    runs = f" of {len(report.runs)} runs" if len(report.runs) > 1 else ""
    origin = report.origin
    made = f"made {facts.moment(origin.created)} by corgi {_text(origin.versions.corgi)}"
    return f"{images:,} results{runs}, {made}."


def _run(name: str, run: Run) -> list[str]:
    figures = [(fact.name, fact.value, fact.note) for fact in facts.headline(run.summary, run.measure)]
    parts = [f"## {_text(name)}", _table(("figure", "value", "of"), figures)]
    if run.decided:
        title, shown = facts.decided_title(run.measure), facts.decided_table(run.decided, run.measure)
        parts += [_text(title), _table(*shown)]
    if run.classes:
        parts += ["By class: medians", _table(*facts.class_table(run))]
    if run.shares:
        parts += [facts.share_title(run.measure), _table(*facts.share_table(run.shares, run.measure))]
    listed = sorted(run.cases, key=lambda case: case.certified)[:MOST_ROWS]
    smallest = f"with the smallest certified {run.measure.plural}"
    order = f"by {run.measure.certified}" if len(listed) == len(run.cases) else smallest
    broken = "attack" if run.change is None else "broken at"
    titles = ("image", "class", "status", "certified", broken, "attack / certified", "reason")
    parts += [f"{len(listed)} of {len(run.cases):,} images, {order}", _table(titles, map(_row, listed))]
    return parts


def _row(case: Case) -> tuple[str, ...]:
    document, broken, ratio = case.document, case.broken, case.ratio
    return (
        case.image,
        "-" if document is None else class_label(document.class_id, document.class_name),
        case.status.replace("_", " "),
        round_down(case.certified),
        "-" if broken is None else round_up(broken),
        "-" if ratio is None else facts.plain(ratio),
        case.reason,
    )


def _comparisons(report: Report) -> list[str]:
    """The first run beside every other."""
    parts = []
    for pair in report.comparisons:
        if pair.first == 0:
            figures = [(fact.name, fact.value, fact.note) for fact in facts.comparison_facts(pair)]
            parts += [f"## Run 1 and run {pair.second + 1}", _table(("figure", "value", "of"), figures)]
            if pair.most_changed:
                changed = _table(*facts.change_table(report, pair))
                parts += [facts.changed_title(pair), changed]
    return parts


def _caveats(report: Report) -> Iterable[str]:
    found = (c.document.caveat for run in report.runs for c in run.cases if c.document is not None)
    return dict.fromkeys(found)


def _origin(report: Report, names: Iterable[str]) -> list[str]:
    parts = ["## Origin"]
    for name, run in zip(names, report.runs, strict=True):
        parts += [f"### {_text(name)}", _table(("", ""), facts.setup_facts(run))]
        for call in run.calls:
            end = "not finished" if call.finished is None else facts.moment(call.finished)
            when = f"{facts.moment(call.started)} to {end}"
            where = f"{call.host}, {call.workers} processes of {call.threads} threads"
            parts.append(f"{_code(call.command)}  \n{when} on {_text(where)}; {_versions(call.versions)}")
    stores = ", ".join(report.origin.stores)
    made = f"{facts.moment(report.origin.created)}; from {_text(stores)}; {_versions(report.origin.versions)}"
    parts += ["### This report", f"{_code(report.origin.command)}  \n{made}"]
    return parts


def _versions(versions: Iterable[tuple[str, str]]) -> str:
    return _text(", ".join(f"{name} {release}" for name, release in versions))


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(titles)
    lines = [head, ("---",) * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    r"""Text that means itself: `<` and `&` as HTML writes them, Markdown's own signs behind a `\`.

    What GitHub would make a link, a mention or a formula is written as code.
    """
    if _READ_BY_GITHUB.search(text):
        return _code(text.replace("|", "\\x7c"))  # it would end a table's cell, even in code
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(printable(text), quote=False))


def _code(text: str) -> str:
    """A command line as code; a backtick in it does not end it."""
    text = printable(text)
    fence = "`" * (max((len(ticks) for ticks in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"
