"""The table of docs/models.md: what corgi makes of which exporter's files.

python -m tests.network.exporters.table        # writes it between its two marks
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.network.exporters.cases import CASES, Case

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "models.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

EXPORTERS = {
    "ts": "torch.onnx, TorchScript, opset",
    "dynamo": "torch.onnx, dynamo",
    "keras": "Keras export, TensorFlow",
    "kerastorch": "Keras export, torch",
    "tf2onnx": "tf2onnx, opset",
    "float16": "onnxconverter-common float16",
    "onnxsim": "onnxsim",
    "onnxslim": "onnxslim",
    "ortbasic": "onnxruntime optimiser, basic",
    "ortextended": "onnxruntime optimiser, extended",
    "ortall": "onnxruntime optimiser, all",
    "converter": "onnx version converter to opset",
    "qdq": "onnxruntime quantisation, QDQ",
    "qoperator": "onnxruntime quantisation, QOperator",
}


def table() -> str:
    """One row a head and trunk: which exporters' files are bounded, only loaded, or refused, and why."""
    rows: dict[tuple[str, str], list[list[str]]] = {}
    for case in CASES:
        cells = rows.setdefault((case.head, case.trunk), [[], [], []])
        cells[_column(case)].append(_cell(case))
    lines = [
        "| head | trunk | loads and is bounded | loads, not bounded | refused |",
        "|---|---|---|---|---|",
    ]
    for (head, trunk), cells in sorted(rows.items()):
        shown = ("; ".join(cell) for cell in cells)
        lines.append(f"| {_words(head)} | {_words(trunk)} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def written(document: str) -> str:
    """A document with the table between its marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def _column(case: Case) -> int:
    if case.refused is not None:
        return 2
    return 0 if case.unbounded is None else 1


def _cell(case: Case) -> str:
    name, opset = re.fullmatch(r"([a-z]+[a-z0-9]*?)(\d*)", case.exporter).groups()
    if case.exporter.startswith("tf2onnx"):
        name, opset = "tf2onnx", case.exporter.removeprefix("tf2onnx")
    if case.exporter == "float16":
        name, opset = "float16", ""
    text = f"{EXPORTERS[name]} {opset}".strip()
    reason = case.refused or case.unbounded
    return text if reason is None else f"{text} (`{reason}`)"


def _words(name: str) -> str:
    return name.replace("_", " ")


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
