"""The answer of `corgi sticker` as document and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt
from rich.console import Group, RenderableType
from rich.text import Text

from corgi.reporting import wording
from corgi.reporting.document import (
    Pixel,
    PropertyDocument,
    SubjectDocument,
    WitnessDocument,
    property_document,
    subject,
    witness_document,
)
from corgi.reporting.layout import figures, head, said
from corgi.reporting.versions import Versions, installed_versions
from corgi.reporting.wording import percent_down, percent_up
from corgi.results import Status

if TYPE_CHECKING:
    from corgi.certify.sticker import StickerMap

_WORDS = {Status.PROVED: "certified", Status.REFUTED: "refuted", Status.UNKNOWN: "open"}


class StickerDocument(SubjectDocument):
    """The answer of `corgi sticker`: of every place whether a sticker there can break the property.

    `rows`, `columns`: first row and column of the sticker, in pixels of the input; `places`: of each row of
    places what is known of each; `margins`: the least that the attack found there, null where it did not
    look, below 0 where it is broken. `worst`: the witness that breaks the property by most, at `worst_place`.
    """

    kind: Literal["sticker"] = "sticker"
    property: PropertyDocument
    size: PositiveInt
    stride: PositiveInt
    eps: FiniteFloat
    eps_255: FiniteFloat
    pixel_scale: str = wording.PIXEL_SCALE
    rows: tuple[NonNegativeInt, ...]
    columns: tuple[NonNegativeInt, ...]
    places: tuple[tuple[Literal["certified", "refuted", "open"], ...], ...]
    margins: tuple[tuple[FiniteFloat | None, ...], ...]
    certified: NonNegativeInt
    refuted: NonNegativeInt
    open: NonNegativeInt
    worst: WitnessDocument | None
    worst_place: Pixel | None
    statement: str
    caveat: str = wording.CAVEAT
    engine: str
    method: str
    seed: int
    reason: str
    interrupted: bool
    seconds: FiniteFloat
    versions: Versions


def sticker_document(found: StickerMap, image_name: str, versions: Versions | None = None) -> StickerDocument:
    """The document of what a sticker can do."""
    explained, options = found.explanation, found.options
    asked, holds = found.asked.statement(explained.top.k), explained.holds(found.asked)
    counts, k2 = found.counts, found.asked.among(explained.top.k)
    margins = [[None if m == float("inf") else m for m in row] for row in found.margins.tolist()]
    return StickerDocument.of(
        found,
        options,
        **subject(explained, image_name),
        property=property_document(asked, explained, holds=holds),
        places=tuple(tuple(_WORDS[status] for status in row) for row in found.statuses),
        margins=margins,
        certified=counts[Status.PROVED],
        refuted=counts[Status.REFUTED],
        open=counts[Status.UNKNOWN],
        worst=witness_document(found.worst, explained, explained.predicted_class, asked, k2),
        statement=statement(found),
        engine=options.engine.name,
        method=options.engine.method,
        versions=versions or installed_versions(),
    )


def statement(found: StickerMap) -> str:
    """What is certified, as one sentence."""
    options, explained, counts = found.options, found.explanation, found.counts
    asked, total = found.asked.statement(explained.top.k), len(found.rows) * len(found.columns)
    if found.reason:
        return f"Nothing is certified: {found.reason}."
    far = wording.round_down(options.eps)
    change = "whatever it shows" if options.eps >= 1 else f"no pixel changed by more than {far}, scale [0, 1]"
    label = wording.class_label(explained.class_id, explained.class_name)
    return (
        f"At {counts[Status.PROVED]} of {total} places, for every sticker of {options.size} x {options.size} "
        f"pixels of the input there ({change}), {asked.subject} of {explained.network.map_kind.in_words} of "
        f"{label}{wording.choice_of(explained.top, asked)} {asked.verb}."
    )


def sticker_text(document: StickerDocument) -> RenderableType:
    """The answer of `corgi sticker`."""
    total = len(document.rows) * len(document.columns)
    shares = (
        (name, f"{count} of {total}", f"{share(count / total)}; {how}")
        for name, count, share, how in (
            ("certified", document.certified, percent_down, f"deterministic: {document.method}"),
            ("refuted", document.refuted, percent_down, "by an image that onnxruntime confirms"),
            ("open", document.open, percent_up, "neither"),
        )
    )
    rows = list(shares)
    if document.worst is not None and document.worst_place is not None:
        row, column = document.worst_place
        rows.append(("worst place", f"row {row}, column {column}", document.worst.shows))
    rows.append(("time", f"{document.seconds:.1f} s", "stopped early" if document.interrupted else ""))
    label = wording.class_label(document.class_id, document.class_name)
    about = wording.subject(document.model, document.image, document.map_kind, document.loaded_as)
    parts = [head("STICKER", "bold", label, about), *said(document.statement), figures(rows)]
    if document.certified:
        parts += [Text(), Text(document.caveat, style="dim")]
    return Group(*parts)
