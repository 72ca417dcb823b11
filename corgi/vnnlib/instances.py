"""Lists of instances, and results as the competition writes them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corgi.data.file import read_text
from corgi.errors import SpecError, naming
from corgi.terms import Answer
from corgi.vnnlib.spec import Spec, Syntax

if TYPE_CHECKING:
    from corgi.vnnlib.attack import Witness

LARGEST_LIST = 2**24
"""Bytes of a list of instances."""


@dataclass(frozen=True)
class Instance:
    """One network with one specification.

    Attributes:
        onnx, vnnlib: the files.
        timeout: seconds.
    """

    onnx: Path
    vnnlib: Path
    timeout: float

    @property
    def name(self) -> str:
        """As the competition names its witness: NETWORK_SPECIFICATION."""
        return f"{self.onnx.stem}_{self.vnnlib.name.removesuffix('.gz').removesuffix('.vnnlib')}"


@dataclass(frozen=True)
class Result:
    """What became of an instance.

    Attributes:
        instance: which.
        answer: the result; reason: why it is neither sat nor unsat.
        witness: in the format of the specification's syntax, with sat only.
        seconds: wall time, reading included.
        notes: how the network was read.
    """

    instance: Instance
    answer: Answer
    reason: str
    witness: str
    seconds: float
    notes: tuple[str, ...] = ()


def read_instances(path: Path) -> list[Instance]:
    """The instances of a list: onnx,vnnlib,timeout in each line, paths relative to the list.

    Raises:
        SpecError: it cannot be read, or a line is something else.
    """
    found = []
    for line, row in _rows(path):
        if len(row) != 3 or not all(row):
            raise SpecError(
                f"{path}: line {line}: expected onnx,vnnlib,timeout, found {','.join(row)[:200]!r}"
            )
        try:
            timeout = float(row[2])
        except ValueError:
            timeout = math.nan
        if not 0 < timeout < math.inf:
            raise SpecError(f"{path}: line {line}: timeout {row[2][:40]!r} is no number of seconds > 0")
        found.append(Instance(path.parent / row[0], path.parent / row[1], timeout))
    if not found:
        raise SpecError(f"{path}: no instances")
    return found


def read_expected(path: Path) -> dict[tuple[Path, Path], Answer]:
    """Known answers: onnx,vnnlib,sat|unsat in each line, paths relative to the file.

    Raises:
        SpecError: it cannot be read, or a line is something else.
    """
    known = {}
    for line, row in _rows(path):
        if len(row) != 3 or row[2] not in (Answer.SAT, Answer.UNSAT):
            raise SpecError(f"{path}: line {line}: expected onnx,vnnlib,sat or unsat")
        known[path.parent / row[0], path.parent / row[1]] = Answer(row[2])
    return known


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a CSV file that are not empty, with their numbers."""
    with naming(path):
        reader = csv.reader(io.StringIO(read_text(path, LARGEST_LIST, SpecError)), strict=True)
        try:
            return [(reader.line_num, [part.strip() for part in row]) for row in reader if row]
        except csv.Error as error:
            raise SpecError(f"cannot be read: {error}") from error


def witness_text(spec: Spec, witness: Witness) -> str:
    """A witness as the competition wants it: ((X_0 v) ... (Y_0 v)), or in 2.0 tensor by tensor.

    Inputs are float32 numbers and written so that any precision reads them as they are.
    """
    values = dict(zip(spec.names, (witness.inputs.tolist(), witness.outputs.tolist()), strict=True))
    if spec.syntax is Syntax.V1:
        pairs = [f"({kind}_{i} {value!r})" for kind, some in values.items() for i, value in enumerate(some)]
        return "(" + "\n".join(pairs) + ")\n"
    lines = []
    for (kind, some), shape in zip(values.items(), (spec.input_shape, spec.output_shape), strict=True):
        lines.append(f"{kind} float32 [{','.join(map(str, shape))}]")
        lines.extend(map(repr, some))
    return "\n".join(lines) + "\n"


def result_text(result: Result) -> str:
    """One instance's result file: the answer, then the witness."""
    return f"{result.answer}\n{result.witness}"


def results_csv(results: list[Result], category: str) -> str:
    """The competition's table: category, network, specification, seconds to prepare, answer, seconds."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for result in results:
        files = result.instance.onnx, result.instance.vnnlib
        writer.writerow([category, *files, "0.0", result.answer.value, f"{result.seconds:.3f}"])
    return table.getvalue()
