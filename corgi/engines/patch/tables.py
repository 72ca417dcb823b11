"""Tensors that belong together, entry by entry."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor


class Table:
    """A frozen dataclass of tensors that share their first axis, or of other such tables."""

    def chosen(self, entries: Tensor) -> Self:
        """Some of the entries, int64 or bool."""
        return self._each(lambda part: part.chosen(entries) if isinstance(part, Table) else part[entries])

    def joined(self, other: Self) -> Self:
        """These entries, then others."""
        return self._each(lambda a, b: a.joined(b) if isinstance(a, Table) else torch.cat([a, b]), other)

    def put(self, entries: Tensor, other: Self) -> None:
        """Replace some of the entries, in place."""
        for f in fields(self):  # type: ignore[arg-type]
            getattr(self, f.name)[entries] = getattr(other, f.name)

    def _each(self, made: Any, *others: Self) -> Self:
        tables = (self, *others)
        return type(self)(*(made(*(getattr(t, f.name) for t in tables)) for f in fields(self)))  # type: ignore[arg-type]
