"""`corgi compare` as a JSON document and as text."""

from __future__ import annotations

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
        versions=versions or installed_versions(),
    )


def _row(comparison: Comparison, row: Row) -> RowDocument:
    inputs, found = comparison.explanation.image.size, row.guarantee is Guarantee.EMPIRICAL
    kept = wanted(comparison.share, row.k)
    return RowDocument.of(
        row,
        meaning=meaning(row),
        top_k=places(row.pixels, row.values.shape[1]),
        steps=tuple(StepDocument(kept=kept, radius=radius) for kept, radius in row.steps),
        certified_linf=None if found else row.radius(row.k, Norm.LINF, inputs),
        certified_l2=None if found else row.radius(row.k, Norm.L2, inputs),
        share_kept=kept,
        share_certified_linf=None if found else row.radius(kept, Norm.LINF, inputs),
        share_certified_l2=None if found else row.radius(kept, Norm.L2, inputs),
        distance_linf=row.distance(Norm.LINF) if found else None,
        distance_l2=row.distance(Norm.L2) if found else None,
        forward_passes=row.seconds / comparison.forward_seconds,
    )


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


def compare_text(document: CompareDocument) -> RenderableType:
    """The answer of `corgi compare`: one table, then what each row means."""
    share = f"{document.share:.0%}"
    table = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False, header_style="bold")
    table.add_column("", justify="right", style="cyan", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for title in ("all k\nl_inf", "\nl_2", f"{share}\nl_inf", "\nl_2", "\ns", "\npasses"):
        table.add_column(title, justify="right", no_wrap=True)
    notes = Table.grid(padding=(0, 1))
    notes.add_column(justify="right", style="cyan", no_wrap=True)
    notes.add_column(overflow="fold")
    for number, row in enumerate(document.rows, 1):
        norm = Norm(row.norm).label
        table.add_row(*(Text(cell) for cell in (str(number), row.method, norm, *_cells(row))))
        why = f"; {row.reason}" if row.reason else ""
        line = f"{row.guarantee.value}, {norm}: {row.meaning}. Map: {row.about}, k = {row.k}."
        notes.add_row(Text(str(number)), Text(f"{line} {row.work}{why}."))
    caption = (
        "Radii, pixel scale [0, 1], within which all of the k largest pixels stay among the k largest, or at "
        f"least {share} of them. passes: the time in forward passes of the network on one image. {CONVERSION}"
    )
    return Group(
        stopped_head(document, "COMPARISON", interrupted=document.interrupted),
        Text(),
        table,
        Text(),
        notes,
        Text(),
        Text(caption, style="dim"),
    )


def _cells(row: RowDocument) -> tuple[str, ...]:
    """Certified radii; of an attack `< d`: no certificate of its map reaches d."""
    cost = (f"{row.seconds:.1f}", f"{row.forward_passes:.0f}")
    if row.guarantee is Guarantee.EMPIRICAL:
        distances = (row.distance_linf, row.distance_l2)
        found = tuple("-" if d is None else f"< {_short(round_up(d, _DIGITS))}" for d in distances)
        fewer = bool(row.steps) and row.steps[0].kept < row.share_kept
        return (*found, *(found if fewer else ("-", "-")), *cost)
    radii = (row.certified_linf, row.certified_l2, row.share_certified_linf, row.share_certified_l2)
    return (*(_short(round_down(radius or 0.0, _DIGITS)) for radius in radii), *cost)


def _short(number: str) -> str:
    """A rounded number without many zeros: the same value."""
    return number if len(number) <= 8 else f"{Decimal(number):.{_DIGITS - 1}e}"
