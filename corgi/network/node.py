"""One operator of a checked graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from corgi.errors import ModelError

Constants = dict[str, np.ndarray]
"""Values that do not depend on the image, by name."""

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


def take_in(constants: Constants, name: str, value: np.ndarray | np.generic) -> str:
    """Add a constant that corgi writes out itself; its name.

    Raises:
        ModelError: the file has another constant of that name.
    """
    if name in constants:
        raise named_twice(name)
    constants[name] = np.asarray(value)
    return name


def named_twice(name: str) -> ModelError:
    """The error for a file that names a value as corgi names one that it writes out."""
    return ModelError(f"value '{name}' is named as one that corgi writes out", hint="Rename it.")
