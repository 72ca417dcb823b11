"""Rows of a store as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from corgi.batch.store import Answer, Store
from corgi.errors import UsageError

_ROWS_AT_ONCE = 1000
"""Rows of a Parquet row group."""

_TEXT = ("model", "model_sha256", "code", "parameters", "image", "image_sha256", "true_class")
_ANSWER: dict[str, Any] = {
    field: hint for field, hint in get_type_hints(Answer).items() if field != "document"
}

COLUMNS = (*_TEXT, *_ANSWER, "started", "finished", "host", "command")
"""The columns, in order; JSON lines have the document besides."""


def records(store: Store) -> Iterator[dict[str, Any]]:
    """One dictionary a row: `COLUMNS`, and `document` as JSON text; the store as it is at one moment."""
    with store.snapshot():
        yield from _records(store)


def _records(store: Store) -> Iterator[dict[str, Any]]:
    settings = {setting.id: setting for setting in store.settings()}
    runs = {run.id: run for run in store.runs()}
    for row in store.rows():
        setting, run = settings[row.setting], runs[row.run]
        yield {
            "model": setting.model,
            "model_sha256": setting.model_sha256,
            "code": setting.code,
            "parameters": setting.parameters,
            "image": row.item.name,
            "image_sha256": row.item.sha256,
            "true_class": row.item.true_class,
            **{field.name: getattr(row.answer, field.name) for field in fields(Answer)},
            "started": row.started,
            "finished": row.finished,
            "host": run.host,
            "command": run.command,
        }


def write_csv(store: Store, target: Path) -> None:
    """RFC 4180, UTF-8, a header; what is not known is empty. Numbers are exact: they read back equal."""
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(records(store))


def write_jsonl(store: Store, target: Path) -> None:
    """One JSON object a line, parameters and document as objects."""
    with target.open("w", encoding="utf-8") as file:
        for record in records(store):
            for name in ("parameters", "document"):
                record[name] = None if record[name] is None else json.loads(record[name])
            file.write(json.dumps(record, allow_nan=False) + "\n")


def write_parquet(store: Store, target: Path) -> None:
    """Columns by type; parameters and document as JSON text.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError("--parquet: pyarrow is not installed", hint="pip install 'corgi[parquet]'") from None
    types: dict[Any, Any] = {int | None: arrow.int64(), float | None: arrow.float64()}
    names = (*COLUMNS, "document")
    schema = arrow.schema([(name, types.get(_ANSWER.get(name), arrow.string())) for name in names])
    with parquet.ParquetWriter(target, schema) as writer:
        rows = records(store)
        while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(arrow.Table.from_pylist(some, schema))
