"""`corgi compare` as a JSON document and as text."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corgi.comparison.rows import Guarantee, wanted
from corgi.reporting import wording
from corgi.reporting.document import Document, Pixel, SubjectDocument, subject
from corgi.reporting.text import stopped_head
from corgi.reporting.versions import Versions, installed_versions
from corgi.reporting.wording import round_down, round_up
from corgi.results import places
from corgi.types import Norm

if TYPE_CHECKING:
    from corgi.comparison.rows import Comparison, Row

CONVERSION = (
    "An l_inf ball of radius r contains the l_2 ball of radius r; an l_2 ball of radius R contains the l_inf "
    "ball of radius R / sqrt(n), n the number of input values. What is certified on a ball holds inside it."
)
"""How radii of one norm become radii of the other."""

_DIGITS = 3
"""Of radii in the table."""


class StepDocument(Document):
    """At least `kept` of the row's k pixels stay within the radius; of an attack, only so many at it."""

    kept: NonNegativeInt
    radius: FiniteFloat


class RowDocument(Document):
    """One method.

    Certified radii are 0 where nothing is certified and None for an attack; distances are None for all else.
    """

    method: str
    about: str
    guarantee: Guarantee
    meaning: str
    failure_probability: FiniteFloat
    norm: Literal["linf", "l2"]
    k: PositiveInt
    top_k: tuple[Pixel, ...]
    steps: tuple[StepDocument, ...]
    certified_linf: FiniteFloat | None
    certified_l2: FiniteFloat | None
    share_kept: PositiveInt
    share_certified_linf: FiniteFloat | None
    share_certified_l2: FiniteFloat | None
    distance_linf: FiniteFloat | None
    distance_l2: FiniteFloat | None
    reason: str
    work: str
    seconds: FiniteFloat
    forward_passes: FiniteFloat


class PointingDocument(Document):
    """One method's answer to whether the largest pixel stays in the region; radii and distances as above."""

    method: str
    about: str
    guarantee: Guarantee
    meaning: str
    failure_probability: FiniteFloat
    norm: Literal["linf", "l2"]
    certified_linf: FiniteFloat | None
    certified_l2: FiniteFloat | None
    distance_linf: FiniteFloat | None
    distance_l2: FiniteFloat | None
    reason: str
    work: str
    seconds: FiniteFloat
    forward_passes: FiniteFloat


class CompareDocument(SubjectDocument):
    """The answer of `corgi compare`."""

    kind: Literal["compare"] = "compare"
    pixel_scale: str = wording.PIXEL_SCALE
    conversion: str = CONVERSION
    inputs: PositiveInt
    map_shape: tuple[PositiveInt, PositiveInt]
    share: FiniteFloat
    rows: tuple[RowDocument, ...]
    forward_seconds: FiniteFloat
    interrupted: bool
    seconds: FiniteFloat
    region: tuple[Pixel, ...] = ()
    pointing: tuple[PointingDocument, ...] = ()
    versions: Versions


def compare_document(
    comparison: Comparison, image_name: str, versions: Versions | None = None
) -> CompareDocument:
    """The document of a comparison."""
    explained = comparison.explanation
    return CompareDocument.of(
        comparison,
        explained,
        **subject(explained, image_name),
        inputs=explained.image.size,
        rows=tuple(_row(comparison, row) for row in comparison.rows),
        region=explained.places(comparison.region),
        pointing=tuple(_pointing(comparison, row) for row in comparison.pointing),
        versions=versions or installed_versions(),
    )


def _row(comparison: Comparison, row: Row) -> RowDocument:
    kept = wanted(comparison.share, row.k)
    share = _radii(comparison, row, kept)
    return RowDocument.of(
        row,
        **_radii(comparison, row, row.k),
        meaning=meaning(row),
        top_k=places(row.pixels, row.values.shape[1]),
        steps=tuple(StepDocument(kept=kept, radius=radius) for kept, radius in row.steps),
        share_kept=kept,
        share_certified_linf=share["certified_linf"],
        share_certified_l2=share["certified_l2"],
    )


def _pointing(comparison: Comparison, row: Row) -> PointingDocument:
    return PointingDocument.of(row, **_radii(comparison, row, 1), meaning=pointing_meaning(row))


def _radii(comparison: Comparison, row: Row, kept: int) -> dict[str, float | None]:
    """Of a row that so many pixels stay, in both norms; of an attack how far its image is; and its cost."""
    inputs, found = comparison.explanation.image.size, row.guarantee is Guarantee.EMPIRICAL
    return {
        "certified_linf": None if found else row.radius(kept, Norm.LINF, inputs),
        "certified_l2": None if found else row.radius(kept, Norm.L2, inputs),
        "distance_linf": row.distance(Norm.LINF) if found else None,
        "distance_l2": row.distance(Norm.L2) if found else None,
        "forward_passes": row.seconds / comparison.forward_seconds,
    }


def meaning(row: Row) -> str:
    """What a row's numbers mean, in one line."""
    match row.guarantee:
        case Guarantee.DETERMINISTIC:
            return "proved for the map of every image of the ball"
        case Guarantee.STATISTICAL:
            wrong = f"wrong with probability <= {row.failure_probability:g}"
            return f"{wrong}: the mean map here against the expected map of every image of the ball"
        case Guarantee.EMPIRICAL:
            if not row.steps:
                return "no image was found, which proves nothing"
            return "an image that far away keeps fewer, so no certificate of this map reaches it"


def pointing_meaning(row: Row) -> str:
    """What the numbers of a row about a region mean, in one line."""
    match row.guarantee:
        case Guarantee.DETERMINISTIC:
            return "proved: in the map of every image of the ball the largest pixel is inside"
        case Guarantee.STATISTICAL:
            wrong = f"wrong with probability <= {row.failure_probability:g}, as its row above and with it"
            return f"{wrong}: in the expected map of every image of the ball the largest pixel is inside"
        case Guarantee.EMPIRICAL:
            if not row.steps:
                return "no image was found, which proves nothing"
            return "an image that far away has it outside, so no certificate of this map reaches it"


_Shown = tuple[RowDocument | PointingDocument, tuple[str, ...], str]
"""A row, its cells, and what else is said of its map."""


def compare_text(document: CompareDocument) -> RenderableType:
    """The answer of `corgi compare`: one table, then what each row means; and the same of a region."""
    share = f"{document.share:.0%}"
    rows = [(row, _cells(row), f", k = {row.k}") for row in document.rows]
    caption = (
        "Radii, pixel scale [0, 1], within which all of the k largest pixels stay among the k largest, or at "
        f"least {share} of them. passes: the time in forward passes of the network on one image. {CONVERSION}"
    )
    return Group(
        stopped_head(document, "COMPARISON", interrupted=document.interrupted),
        Text(),
        *_tables(("all k\nl_inf", "\nl_2", f"{share}\nl_inf", "\nl_2"), rows, 1),
        *_pointing_tables(document),
        Text(caption, style="dim"),
    )


def _pointing_tables(document: CompareDocument) -> list[RenderableType]:
    if not document.pointing:
        return []
    height, width = document.map_shape
    size = f"{len(document.region)} of {height * width} map pixels"
    title = Text(f"THE LARGEST PIXEL STAYS IN THE REGION, {size}", style="bold")
    rows = [(row, _pointing_cells(row), "") for row in document.pointing]
    return [title, Text(), *_tables(("l_inf", "l_2"), rows, len(document.rows) + 1)]


def _tables(titles: tuple[str, ...], rows: Sequence[_Shown], first: int) -> list[RenderableType]:
    """Rows as a table and as notes, numbered from the first on."""
    lines = max(title.count("\n") for title in titles)
    table = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False, header_style="bold")
    table.add_column("", justify="right", style="cyan", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for title in (*titles, "\n" * lines + "s", "\n" * lines + "passes"):
        table.add_column(title, justify="right", no_wrap=True)
    notes = Table.grid(padding=(0, 1))
    notes.add_column(justify="right", style="cyan", no_wrap=True)
    notes.add_column(overflow="fold")
    for number, (row, cells, about) in enumerate(rows, first):
        norm = Norm(row.norm).label
        cost = (f"{row.seconds:.1f}", f"{row.forward_passes:.0f}")
        table.add_row(*(Text(cell) for cell in (str(number), row.method, norm, *cells, *cost)))
        why = f"; {row.reason}" if row.reason else ""
        line = f"{row.guarantee.value}, {norm}: {row.meaning}. Map: {row.about}{about}."
        notes.add_row(Text(str(number)), Text(f"{line} {row.work}{why}."))
    return [table, Text(), notes, Text()]


def _cells(row: RowDocument) -> tuple[str, ...]:
    """Certified radii; of an attack `< d`: no certificate of its map reaches d."""
    if row.guarantee is Guarantee.EMPIRICAL:
        found = _distances(row)
        fewer = bool(row.steps) and row.steps[0].kept < row.share_kept
        return (*found, *(found if fewer else ("-", "-")))
    radii = (row.certified_linf, row.certified_l2, row.share_certified_linf, row.share_certified_l2)
    return tuple(_short(round_down(radius or 0.0, _DIGITS)) for radius in radii)


def _pointing_cells(row: PointingDocument) -> tuple[str, ...]:
    if row.guarantee is Guarantee.EMPIRICAL:
        return _distances(row)
    radii = (row.certified_linf, row.certified_l2)
    return tuple(_short(round_down(radius or 0.0, _DIGITS)) for radius in radii)


def _distances(row: RowDocument | PointingDocument) -> tuple[str, ...]:
    distances = (row.distance_linf, row.distance_l2)
    return tuple("-" if d is None else f"< {_short(round_up(d, _DIGITS))}" for d in distances)


def _short(number: str) -> str:
    """A rounded number without many zeros: the same value."""
    return number if len(number) <= 8 else f"{Decimal(number):.{_DIGITS - 1}e}"
