"""`corgi vnn`: decide VNN-LIB instances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.app import CorgiGroup
from corgi.cli.exits import Exit
from corgi.data.file import write
from corgi.errors import UsageError
from corgi.terms import Answer
from corgi.vnnlib.instances import Instance, read_instances, result_text

if TYPE_CHECKING:
    from corgi.vnnlib.instances import Result

app = typer.Typer(cls=CorgiGroup, rich_markup_mode=None, help="Decide VNN-LIB specifications of networks.")

_EXITS = {
    Answer.UNSAT: Exit.OK,
    Answer.SAT: Exit.REFUTED,
    Answer.UNKNOWN: Exit.UNKNOWN,
    Answer.TIMEOUT: Exit.TIME_LIMIT,
    Answer.ERROR: Exit.ERROR,
}


@app.callback()
def _group() -> None:
    """Decide VNN-LIB specifications of networks."""


@app.command("run")
def run(
    instances: Annotated[
        Path, typer.Argument(metavar="INSTANCES.csv", help="Lines onnx,vnnlib,timeout; paths relative to it.")
    ],
    parallel: Annotated[int, typer.Option(min=1, help="Instances at once.")] = 1,
    results: Annotated[
        Path | None,
        typer.Option(help="Table to write; witnesses go into a folder beside it.", metavar="FILE.csv"),
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Its first column.", show_default="the folder of the list")
    ] = None,
    expected: Annotated[
        Path | None, typer.Option(help="Known answers: lines onnx,vnnlib,sat or unsat.", metavar="FILE.csv")
    ] = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Decide all instances of a list: sat, unsat, timeout, unknown or error.

    Exit code: 0 done, 1 an answer contradicts a known one, 2 a known one was not found, 4 error.
    """
    listed = read_instances(instances)
    common.check_ending("--results", results, ("csv",))
    common.check_outputs((instances, *(() if expected is None else (expected,))), {"--results": results})
    from corgi.reporting.vnn_text import results_text, wrong_answers
    from corgi.vnnlib.results import ResultFiles, known_answers
    from corgi.vnnlib.run import run_instances

    known = known_answers(expected, listed, instances)
    name = category or instances.absolute().parent.name
    files = None if results is None else ResultFiles(results, name, listed)
    with common.working("starting", quiet=quiet):
        done = None if files is None else files.keep
        answers = run_instances(listed, parallel=parallel, done=done)
    if not quiet:
        common.show(results_text(answers, known))
    _tell_notes(answers, quiet=quiet)
    if wrong_answers(answers, known):
        return Exit.REFUTED
    return Exit.OK if all(answers[i].answer == answer for i, answer in known.items()) else Exit.UNKNOWN


@app.command("solve")
def solve(
    onnx: Annotated[Path, typer.Argument(metavar="ONNX", help="The network.")],
    vnnlib: Annotated[Path, typer.Argument(metavar="VNNLIB", help="Its .vnnlib or .vnnlib.gz.")],
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 300.0,
    results: Annotated[
        Path | None, typer.Option(help="File for the answer and the witness.", metavar="FILE")
    ] = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Decide one instance.

    Exit code: 0 unsat, 1 sat, 2 unknown, 3 timeout, 4 error.
    """
    if not timeout > 0:
        raise UsageError(f"--timeout {timeout:g}: expected seconds > 0")
    common.check_outputs((onnx, vnnlib), {"--results": results})
    from corgi.vnnlib.run import run_instances

    with common.working("starting", quiet=quiet):
        (found,) = run_instances([Instance(onnx, vnnlib, timeout)])
    if results is not None:
        write("--results", results, result_text(found).encode())
    if not quiet:
        typer.echo(found.answer.value)
    _tell_notes([found], quiet=quiet)
    if found.reason:
        common.note(found.reason, quiet=quiet)
    return _EXITS[found.answer]


def _tell_notes(results: list[Result], *, quiet: bool) -> None:
    """How each network was read, once; on stderr, for stdout carries answers alone."""
    for name, text in dict.fromkeys((r.instance.onnx.name, note) for r in results for note in r.notes):
        common.note(f"{name} read so: {text}", quiet=quiet)
