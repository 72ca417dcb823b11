"""`corgi compare` as a JSON document and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeInt, PositiveInt
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corgi.compare.rows import Guarantee
from corgi.report import wording
from corgi.report.document import Pixel, SubjectDocument, pixels
from corgi.report.document import subject as subject_fields
from corgi.report.versions import Versions
from corgi.report.wording import class_label, round_down, round_up
from corgi.types import Norm

if TYPE_CHECKING:
    from corgi.compare.rows import Comparison, Row
    from corgi.network.network import Network

CONVERSION = (
    "An l_inf ball of radius r contains the l_2 ball of radius r; an l_2 ball of radius R contains the l_inf ball "
    "of radius R / sqrt(n), n the number of input values. What is certified on a ball holds inside it."
)
"""How radii of one norm become radii of the other."""


class StepDocument(BaseModel):
    """At least `kept` of the row's k pixels stay within the radius; of an attack, only so many at that distance."""

    model_config = ConfigDict(frozen=True)

    kept: NonNegativeInt
    radius: FiniteFloat


class RowDocument(BaseModel):
    """One method.

    Certified radii are 0 where nothing is certified and None for an attack; distances are None for all else.
    """

    model_config = ConfigDict(frozen=True)

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
    network: Network, image_name: str, comparison: Comparison, versions: Versions
) -> CompareDocument:
    """The document of a comparison."""
    explained = comparison.explanation
    height, width = explained.cam.shape
    return CompareDocument(
        **subject_fields(network, image_name, explained),
        inputs=comparison.image.size,
        map_shape=(height, width),
        share=comparison.share,
        rows=tuple(_row(comparison, row) for row in comparison.rows),
        forward_seconds=comparison.forward_seconds,
        interrupted=comparison.interrupted,
        seconds=comparison.seconds,
        versions=versions,
    )


def _row(comparison: Comparison, row: Row) -> RowDocument:
    inputs, found = comparison.image.size, row.guarantee is Guarantee.EMPIRICAL
    kept = row.wanted(comparison.share)
    return RowDocument(
        method=row.method,
        about=row.about,
        guarantee=row.guarantee,
        meaning=meaning(row.guarantee, row.failure_probability),
        failure_probability=row.failure_probability,
        norm="l2" if row.norm is Norm.L2 else "linf",
        k=row.k,
        top_k=pixels(row.pixels, row.values),
        steps=tuple(StepDocument(kept=kept, radius=radius) for kept, radius in row.steps),
        certified_linf=None if found else row.radius(row.k, Norm.LINF, inputs),
        certified_l2=None if found else row.radius(row.k, Norm.L2, inputs),
        share_kept=kept,
        share_certified_linf=None if found else row.radius(kept, Norm.LINF, inputs),
        share_certified_l2=None if found else row.radius(kept, Norm.L2, inputs),
        distance_linf=row.distance(Norm.LINF) if found else None,
        distance_l2=row.distance(Norm.L2) if found else None,
        reason=row.reason,
        work=row.work,
        seconds=row.seconds,
        forward_passes=row.seconds / comparison.forward_seconds,
    )


def meaning(guarantee: Guarantee, failure_probability: float) -> str:
    """What a row's numbers mean, in one line."""
    match guarantee:
        case Guarantee.DETERMINISTIC:
            return "proved: holds for the map of every image of the ball"
        case Guarantee.STATISTICAL:
            return f"wrong with probability <= {failure_probability:g}: mean map here against expected map in the ball"
        case Guarantee.EMPIRICAL:
            return "an image was found where fewer stay: an upper bound for certificates of this map"


def compare_text(document: CompareDocument) -> RenderableType:
    """The answer of `corgi compare`: one table, then what each row means."""
    stopped = ", stopped early" if document.interrupted else ""
    head = Text(f"COMPARISON{stopped}", style="bold yellow" if stopped else "bold green")
    head.append(
        f"  {class_label(document.class_id, document.class_name)}, k = {document.k}\n", "not bold default"
    )
    head.append(
        wording.subject(document.model, document.image, document.map_kind, document.loaded_as),
        style="not bold dim default",
    )
    share = f">= {document.share:.0%}"
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("", justify="right", style="cyan")
    table.add_column("method")
    titles = ("all k: l_inf", "l_2", f"{share}: l_inf", "l_2", "seconds", "forwards")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for number, row in enumerate(document.rows, 1):
        table.add_row(*(Text(cell) for cell in (str(number), row.method, *_cells(row))))
    parts: list[RenderableType] = [head, Text(), table, Text()]
    notes = Table.grid(padding=(0, 1))
    notes.add_column(justify="right", style="cyan", no_wrap=True)
    notes.add_column(overflow="fold")
    for number, row in enumerate(document.rows, 1):
        why = f"; {row.reason}" if row.reason else ""
        norm = Norm(row.norm).label
        line = f"{row.guarantee.value}, {norm}, {row.about}, k = {row.k}: {row.meaning} ({row.work}{why})"
        notes.add_row(Text(str(number)), Text(line))
    caption = (
        f"all k, {share}: within which radius all of the k largest pixels stay among the k largest, or at least so "
        "many. forwards: the time in forward passes of the network on one image. Pixel scale [0, 1]."
    )
    return Group(*parts, notes, Text(), Text(f"{caption} {document.conversion}", style="dim"))


def _cells(row: RowDocument) -> tuple[str, ...]:
    """Certified radii; of an attack `< d`, what no certificate of its map can reach."""
    cost = (f"{row.seconds:.1f}", f"{row.forward_passes:.0f}")
    if row.guarantee is Guarantee.EMPIRICAL:
        found = ["-" if d is None else f"< {round_up(d)}" for d in (row.distance_linf, row.distance_l2)]
        share = ("", "") if not row.steps or row.steps[0].kept >= row.share_kept else tuple(found)
        return (*found, *share, *cost)
    radii = (row.certified_linf, row.certified_l2, row.share_certified_linf, row.share_certified_l2)
    return (*(round_down(radius or 0.0) for radius in radii), *cost)
