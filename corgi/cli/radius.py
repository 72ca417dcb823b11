"""Radii on the command line: `1/255`, `0.5/255`, `0.004` or `1e-3`; one, or several with commas between.

Sizes of changes are written so, too, or as `5%`.

A fraction is divided as floats are, so `--eps 1/255` asks what `eps=1/255` asks in Python. Which numbers can
be a radius depends on the norm (`check_radius`); here they need only be numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import typer

from corgi.errors import UsageError

_Read = Callable[[str], float | None]
"""The number that is written; None if it is none."""

_SIZES = "as 5%, 0.05 or 1e-3"
_EXPECTED = "as 1/255, 0.5/255, 0.004 or 1e-3"


def radius_option(*names: str, help: str, show_default: bool | str = True) -> Any:
    """An option of type float whose value may be written as a fraction."""
    return typer.Option(*names, metavar="R", parser=_radius, help=help, show_default=show_default)


def radii_of(option: str, text: str) -> tuple[float, ...]:
    """Radii as a user writes them, with commas between: each once, ascending.

    Raises:
        UsageError: one of them is no number.
    """
    return _numbers(option, text, _number, _EXPECTED)


def sizes_of(option: str, text: str) -> tuple[float, ...]:
    """The same of sizes of changes."""
    return _numbers(option, text, _share, _SIZES)


def _numbers(option: str, text: str, read: _Read, expected: str) -> tuple[float, ...]:
    found = {read(part) for part in text.split(",")}
    if None in found:
        raise UsageError(f"{option} {text}: expected numbers with commas between, {expected}")
    return tuple(sorted(number for number in found if number is not None))


def _radius(text: str | float) -> float:
    """What gives the value of an option; a default, which is a number already, stays as it is."""
    found = _number(str(text))
    if found is None:
        raise typer.BadParameter(f"{text}: expected a number, {_EXPECTED}")
    return found


def _share(text: str) -> float | None:
    """The number that is written, `%` for hundredths: the float nearest to it; None if it is none."""
    before, percent, after = text.strip().partition("%")
    if not percent:
        return _number(text)
    try:
        value = float(Decimal(before) / 100)
    except (ArithmeticError, ValueError):
        return None
    return value if not after and math.isfinite(value) else None


def _number(text: str) -> float | None:
    """The number that is written; None if it is none, or not finite."""
    over, slash, under = text.partition("/")
    try:
        value = float(over) / float(under) if slash else float(over)
    except (ArithmeticError, ValueError):
        return None
    return value if math.isfinite(value) else None
