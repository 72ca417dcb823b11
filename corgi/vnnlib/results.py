"""Results of a list of instances as files: the competition's table, and witnesses in a folder beside it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from corgi.data.file import write
from corgi.errors import UsageError
from corgi.terms import Answer
from corgi.vnnlib.instances import Instance, Result, read_expected, results_csv


class ResultFiles:
    """The files of one run; witnesses of another run are removed first.

    Raises:
        UsageError: a category that is no plain name, two witnesses that would be one file, or a file that
            cannot be removed or written.
    """

    def __init__(self, table: Path, category: str, instances: Sequence[Instance]) -> None:
        if not category or "/" in category or "," in category:
            raise UsageError(f"--category {category}: expected a plain name")
        self.table, self.category = table, category
        self.witnesses = _witness_files(table.parent / category, instances)
        self.found: dict[int, Result] = {}
        for path in self.witnesses:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UsageError(f"{path}: cannot be removed: {error.strerror}") from error

    def keep(self, number: int, result: Result) -> None:
        """Write the result of an instance."""
        self.found[number] = result
        done = [self.found[i] for i in sorted(self.found)]
        write("--results", self.table, results_csv(done, self.category).encode())
        if result.answer is Answer.SAT:
            path = self.witnesses[number]
            try:
                path.parent.mkdir(exist_ok=True)
            except OSError as error:
                raise UsageError(f"{path.parent}: cannot be made: {error.strerror}") from error
            write("--results", path, gzip.compress(result.witness.encode(), mtime=0))


def known_answers(path: Path | None, instances: Sequence[Instance], listed: Path) -> dict[int, Answer]:
    """Known answers (`read_expected`) by the number of the instance in its list.

    Raises:
        SpecError: the file cannot be read.
        UsageError: it names what is not in the list.
    """
    known = {} if path is None else read_expected(path)
    pairs = [(instance.onnx, instance.vnnlib) for instance in instances]
    missing = [spec for network, spec in known if (network, spec) not in pairs]
    if missing:
        raise UsageError(f"--expected {path}: {missing[0]} is not in {listed}")
    return {number: known[pair] for number, pair in enumerate(pairs) if pair in known}


def _witness_files(folder: Path, instances: Sequence[Instance]) -> list[Path]:
    """Where the competition looks for the witness of each instance.

    Raises:
        UsageError: two would be one file.
    """
    number: dict[str, int] = {}
    for at, instance in enumerate(instances):
        first = number.setdefault(instance.name, at)
        if first != at:
            raise UsageError(
                f"instances {first + 1} and {at + 1} of the list have one name, {instance.name}",
                hint="Their witnesses would be one file. Split the list, or run it without --results.",
            )
    return [folder / f"{name}.counterexample.gz" for name in number]
