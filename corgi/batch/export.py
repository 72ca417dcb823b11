"""Rows of a store as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corgi.batch.store import ALONG, FOUND, RECORD, Store
from corgi.errors import UsageError

_ROWS_AT_ONCE = 1000
"""Rows of a Parquet row group."""


def records(store: Store) -> Iterator[dict[str, Any]]:
    """One dictionary a row (`Store.records`); the store as it is at one moment."""
    with store.snapshot():
        yield from store.records()


def write_csv(store: Store, target: Path) -> None:
    """RFC 4180, UTF-8, a header; what is not known is empty. Numbers are exact: they read back equal."""
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, RECORD, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(records(store))


def write_jsonl(store: Store, target: Path) -> None:
    """One JSON object a line; parameters, sizes and document as objects."""
    with target.open("w", encoding="utf-8") as file:
        for record in records(store):
            for name in ("parameters", "sizes", "document"):
                record[name] = None if record[name] is None else json.loads(record[name])
            file.write(json.dumps(record, allow_nan=False) + "\n")


def write_parquet(store: Store, target: Path) -> None:
    """Columns by type; parameters, sizes and document as JSON text.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError("--parquet: pyarrow is not installed", hint="pip install 'corgi[parquet]'") from None
    types: dict[Any, Any] = {None: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, types[(FOUND | ALONG).get(name)]) for name in (*RECORD, "document")])
    with parquet.ParquetWriter(target, schema) as writer:
        rows = records(store)
        while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(arrow.Table.from_pylist(some, schema))
