"""Results of VNN-LIB instances as text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corgi.reporting import wording
from corgi.terms import Answer
from corgi.types import Norm
from corgi.vnnlib.export import Export
from corgi.vnnlib.instances import Result

_STYLES = {
    Answer.UNSAT: "green",
    Answer.SAT: "red",
    Answer.TIMEOUT: "yellow",
    Answer.UNKNOWN: "yellow",
    Answer.ERROR: "bold red",
}


def results_text(results: Sequence[Result], expected: Mapping[int, Answer]) -> RenderableType:
    """A line an instance, then the counts. `expected`: known answers, by number of the result."""
    table = Table(box=None, pad_edge=False)
    for title in ("answer", "seconds", "network", "specification", "reason"):
        table.add_column(title, justify="right" if title == "seconds" else "left", overflow="fold")
    for number, result in enumerate(results):
        known = expected.get(number)
        wrong = "" if known in (None, result.answer) else f"known to be {known}; "
        table.add_row(
            Text(result.answer, style=_STYLES[result.answer]),
            f"{result.seconds:.1f}",
            result.instance.onnx.name,
            result.instance.vnnlib.name,
            wrong + result.reason,
        )
    counts = Counter(result.answer for result in results)
    total = ", ".join(f"{counts[answer]} {answer}" for answer in Answer if counts[answer])
    parts: list[RenderableType] = [table, Text(), Text(f"{len(results)} instances: {total}", style="bold")]
    if expected:
        right = sum(results[number].answer == known for number, known in expected.items())
        wrong_ones = len(wrong_answers(results, expected))
        parts.append(Text(f"{right} of {len(expected)} known answers found, {wrong_ones} wrong"))
    return Group(*parts)


def wrong_answers(results: Sequence[Result], expected: Mapping[int, Answer]) -> list[Result]:
    """Results that say the opposite of a known answer."""
    decided = (Answer.SAT, Answer.UNSAT)
    return [
        results[number]
        for number, known in expected.items()
        if results[number].answer in decided and results[number].answer != known
    ]


def export_text(export: Export, model: str, spec: str) -> RenderableType:
    """What was written, and what its answers mean."""
    explanation, what = export.explanation, export.statement
    network = explanation.network
    if export.change is None:
        size = wording.size_of_change(Norm.LINF, export.where)
        which = f"for every image within {wording.round_down(export.eps)} of this one ({size}, scale [0, 1])"
    else:
        which = f"for every image of the change {export.change} up to size {wording.round_down(export.eps)}"
    claim = (
        f"unsat: {which}, {what.subject} of"
        f" {network.map_kind.in_words} of class {explanation.class_id} {what.verb}."
    )
    of = "box" if export.change is None else "change"
    other = f"sat: some image of the {of} breaks that, or leaves it open by a tie."
    read_so = [Text(f"read so: {note}") for note in network.graph.notes]
    notes = [Text(note, style="yellow") for note in export.notes]
    return Group(Text(f"{model}\n{spec}"), Text(claim), Text(other), *read_so, *notes)
