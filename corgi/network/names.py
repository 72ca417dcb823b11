"""Names of the classes: of a file the user gives, or of the model's metadata.

A list of names is any of: JSON ["cat", "dog"]; an object of names by number, {"0": "cat", "1": "dog"}, whose
values may be lists that end in the name (Keras: {"0": ["n02123045", "tabby"]}); an object that holds one of
these as "id2label" or "names" (Hugging Face); one name a line. In metadata also Python's way to write such an
object ({0: 'cat', 1: 'dog'}, Ultralytics), and names with commas between them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from corgi.data.file import read_text
from corgi.errors import ModelError, UsageError, printable
from corgi.network.graph import Graph

CLASS_NAMES_KEY = "corgi.class_names"
"""Corgi's own key in the ONNX metadata, a JSON list."""

USUAL_KEYS = ("names", "class_names", "classes", "labels", "id2label")
"""Keys of others: names where they are as many as there are classes, and something else where not."""

LARGEST_FILE = 2**22
"""Bytes of a file of names."""


def class_names(graph: Graph, classes: int, file: str | Path | None) -> tuple[str, ...] | None:
    """One name a class, or None if neither the file nor the model has names.

    Raises:
        UsageError: the file cannot be read, or holds other than one name a class.
        ModelError: the names under corgi's own key do not fit.
    """
    if file is not None:
        return _of_file(Path(file), classes)
    own = graph.metadata.get(CLASS_NAMES_KEY)
    if own:
        found = _listed(_json(own))
        if found is None or len(found) != classes:
            raise ModelError(f"metadata '{CLASS_NAMES_KEY}' must be a JSON list of {classes} names")
        return found
    for key in USUAL_KEYS:
        text = graph.metadata.get(key, "")[:LARGEST_FILE]
        for part in (
            _listed(_json(text)),
            _listed(_python(text)),
            _lines(text),
            _lines(text.replace(",", "\n")),
        ):
            if part is not None and len(part) == classes > 1:
                return part
    return None


def _of_file(file: Path, classes: int) -> tuple[str, ...]:
    def refusal(reason: str) -> UsageError:
        return UsageError(f"--class-names {file}: {reason}")

    text = read_text(file, LARGEST_FILE, refusal)
    json = _json(text)
    found = _lines(text) if json is None else _listed(json)
    if found is None:
        raise refusal("expected a list of names, or an object of names by number from 0 on")
    if len(found) != classes:
        raise refusal(f"{len(found)} names, the network has {classes} classes")
    return found


def _json(text: str) -> Any:
    """What JSON of a list or object says; None of anything else."""
    return _said(text, from_json)  # unlike the standard library's, bounded in depth


def _python(text: str) -> Any:
    """What a literal of a list or dictionary says; None of anything else."""
    return _said(text, ast.literal_eval)


def _said(text: str, read: Callable[[str], Any]) -> Any:
    if not text.strip().startswith(("[", "{")):
        return None
    try:
        return read(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _listed(value: Any) -> tuple[str, ...] | None:
    """The names of a list, or of an object that numbers them from 0 on."""
    if isinstance(value, dict):
        for key in ("id2label", "names"):
            if isinstance(value.get(key), dict | list):
                return _listed(value[key])
        numbered = {str(key): name for key, name in value.items()}
        value = [numbered.get(str(number)) for number in range(len(numbered))]
    if not isinstance(value, list):
        return None
    last = [name[-1] if isinstance(name, list | tuple) and name else name for name in value]
    return tuple(map(printable, last)) if all(isinstance(name, str) for name in last) else None


def _lines(text: str) -> tuple[str, ...]:
    """The lines of a text, without empty ones at its end."""
    return tuple(printable(line.strip()) for line in text.strip().splitlines())
