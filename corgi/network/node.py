"""One operator of a checked graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Attribute = int | float | str | list[int] | list[float] | np.ndarray


@dataclass(frozen=True)
class Node:
    """One operator: names of its inputs ("" for one left out) and outputs, and its attributes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]

    def __str__(self) -> str:
        return f"node '{self.name}' ({self.op})"
