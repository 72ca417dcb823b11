"""What texts for people are built from. Cells stand as they are: a file name in brackets is no markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from corgi.reporting.wording import Rounding
from corgi.results import Place

GOOD, OPEN, BAD = "bold green", "bold yellow", "bold red"


def head(status: str, style: str, about: str, subject: str) -> Text:
    """How it ended, of which class, and below what it is about."""
    text = Text(status, style)
    text.append(f"  {about}\n" if status else f"{about}\n", "not bold default" if status else "bold")
    text.append(subject, "not bold dim default")
    return text


def said(sentence: str) -> list[RenderableType]:
    """The sentence of an answer, below its head."""
    return [Text(), Text(sentence, style="bold"), Text()]


def grid(rows: Iterable[Sequence[str]]) -> Table:
    """Names, values and, where a third cell is, notes."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    return _filled(table, rows)


def figures(rows: Iterable[Sequence[str]]) -> Padding:
    """The same, indented."""
    return Padding(grid(rows), (0, 0, 0, 2))


def series(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of numbers; a last column says why certificate and attack are not closer."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", style="dim", overflow="fold", max_width=36)
    return _filled(table, rows)


def _filled(table: Table, rows: Iterable[Sequence[str]]) -> Table:
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def radius(rounded: Rounding, value: float) -> str:
    """A radius, and what it is in steps of 8-bit pictures."""
    return f"{rounded(value)} ({rounded(value * 255)}/255)"


def pixels(places: Iterable[Place]) -> str:
    """Pixels of the map as [row, column]."""
    return " ".join(f"[{row}, {column}]" for row, column in places)
