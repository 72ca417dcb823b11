"""Tables of rules, one a kind of layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import nn

R = TypeVar("R")


def rule_of(table: Mapping[type[nn.Module], R], layer: nn.Module) -> R:
    """The rule of a layer's class, or of the nearest that it derives from.

    Raises:
        TypeError: there is none: what is not known is never taken for something else.
    """
    for kind in type(layer).__mro__:
        if kind in table:
            return table[kind]
    raise TypeError(f"no rule for {type(layer).__name__}")
