"""`corgi sweep` as a JSON document and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt
from rich.console import Group, RenderableType
from rich.text import Text

from corgi.errors import encodable
from corgi.reporting import wording
from corgi.reporting.broken import shows
from corgi.reporting.document import (
    Document,
    Pixel,
    PropertyDocument,
    SubjectDocument,
    WitnessDocument,
    property_document,
    subject,
)
from corgi.reporting.layout import BAD, GOOD, OPEN, figures, head
from corgi.reporting.versions import Versions, installed_versions
from corgi.reporting.wording import (
    Measure,
    asked_of_many,
    class_label,
    percent_down,
    percent_up,
    round_down,
    round_up,
    sizes_of,
)
from corgi.terms import Finding, Status

if TYPE_CHECKING:
    from corgi.certify.sweep import SweepResult

SET = "clip(x + sum_j t_j A_j, 0, 1)"
"""The images of most families: x is the image, A_j are the directions of the change, t_j its parameters."""

CAVEAT = (
    "A change is the set of images that its formula says, clipping to [0, 1] included: a model of what it is "
    "named after. It is decided for these images in real arithmetic on the weights stored in the file; "
    "pixels rounded to float32, or to 8 bits, lie beside them, and a run in floating point differs by its "
    "own rounding. Nothing is said about the label."
)
"""What an answer does not say."""

_DIGITS = 7
"""Of parameters: where it first breaks is known to one part in a million."""

_LISTED = 24
"""Intervals in the text; the document has them all."""

_FindingName = Literal["holds", "broken", "open"]


class SizeDocument(Document):
    """A size that was to be decided: proved, refuted by a witness in it, or open."""

    size: PositiveFloat
    status: Literal["proved", "refuted", "open"]


class IntervalDocument(Document):
    """An interval of the one parameter, ends included, and what is known of all of it."""

    lower: FiniteFloat
    upper: FiniteFloat
    finding: _FindingName


class PartDocument(Document):
    """A box of parameters, ends included, and what is known of all of it."""

    lower: tuple[FiniteFloat, ...]
    upper: tuple[FiniteFloat, ...]
    finding: _FindingName


class SweepWitnessDocument(WitnessDocument):
    """The image at `parameters`, rounded to float32 pixels, in which onnxruntime breaks the property.

    `size`: max_j |t_j|. `radius`: the largest change of a pixel. `beside`: of an image that is another one in
    the ball around the image at `parameters`, how far it is from that in l_inf; else 0.
    """

    parameters: tuple[FiniteFloat, ...]
    size: FiniteFloat
    beside: FiniteFloat = 0.0


class SweepDocument(SubjectDocument):
    """The answer of `corgi sweep`.

    `certified_size`: the property is proved for all parameters with max_j |t_j| up to it. `broken_size`: the
    smallest at which it is proved or confirmed to be broken. `status` is that of the largest size. `unit`: of
    parameters and sizes, as degrees; empty where they are shares. `eps`: l_inf radius of the ball around each
    image, all of whose images count; an interval is broken where it is for the image itself.
    """

    kind: Literal["sweep"] = "sweep"
    k2: PositiveInt
    tie: bool
    gap: FiniteFloat
    map_shape: tuple[PositiveInt, PositiveInt]
    top_k: tuple[Pixel, ...]
    property: PropertyDocument
    change: str
    set: str = SET
    parameters: tuple[str, ...]
    unit: str = ""
    two_sided: tuple[bool, ...]
    sizes: tuple[SizeDocument, ...]
    certified_size: FiniteFloat
    broken_size: FiniteFloat | None
    witness: SweepWitnessDocument | None
    intervals: tuple[IntervalDocument, ...]
    shares: dict[_FindingName, FiniteFloat]
    parts: tuple[PartDocument, ...]
    bounded: NonNegativeInt
    status: Literal["proved", "refuted", "unknown", "time_limit", "interrupted"]
    reason: str
    guarantee: str | None
    finding: str
    caveat: str = CAVEAT
    engine: str
    interrupted: bool
    seconds: FiniteFloat
    versions: Versions
    eps: FiniteFloat = 0.0


def sweep_document(result: SweepResult, image_name: str, versions: Versions | None = None) -> SweepDocument:
    """The document of a sweep."""
    explained, family = result.explanation, result.family
    return SweepDocument.of(
        result,
        explained,
        **subject(explained, image_name),
        k2=_among(result),
        property=property_document(result.statement, explained, holds=result.holds),
        change=encodable(result.change),
        set=_set_of(result),
        parameters=family.names,
        unit=family.unit,
        two_sided=family.two_sided,
        sizes=tuple(
            SizeDocument.of(size=size, status="open" if status is Status.UNKNOWN else status.value)
            for size, status in result.sizes
        ),
        certified_size=result.certified,
        broken_size=result.broken,
        witness=_witness(result),
        intervals=tuple(
            IntervalDocument.of(lower=lower, upper=upper, finding=finding.value)
            for lower, upper, finding in result.intervals
        ),
        shares={finding.value: result.share(finding) for finding in Finding},
        parts=tuple(PartDocument.of(part, finding=part.finding.value) for part in result.parts),
        guarantee=guarantee(result),
        finding=finding_of(result),
        versions=versions or installed_versions(),
    )


def _set_of(result: SweepResult) -> str:
    """Its images, in words."""
    if not result.eps:
        return result.family.formula
    return f"clip(y + delta, 0, 1), |delta_i| <= {result.eps!r}, y = {result.family.formula}"


def around_each(eps: float) -> str:
    """That a ball around each image counts as well; empty where none does."""
    return f" and {round_down(eps, _DIGITS)} around each" if eps else ""


def _witness(result: SweepResult) -> SweepWitnessDocument | None:
    found, explained = result.witness, result.explanation
    if found is None:
        return None
    return SweepWitnessDocument.of(
        found,
        found.witness,
        same_label=found.witness.class_id == explained.predicted_class,
        lost=explained.places(found.witness.lost),
        shows=shows(result.statement, explained, found.witness.cam, _among(result)),
    )


def _among(result: SweepResult) -> int:
    """Among how many of the largest pixels the k largest must stay; k where that is not the question."""
    said = dict(result.statement.parameters)
    found = next((value for name, value in said.items() if name.rpartition(".")[2] == "k2"), None)
    return result.explanation.top.k if found is None else int(str(found))


def guarantee(result: SweepResult) -> str | None:
    """What is proved of the family, as one sentence; None if nothing is."""
    if result.certified <= 0:
        return None
    explained, end = result.explanation, round_down(result.certified, _DIGITS)
    label = class_label(explained.class_id, explained.class_name)
    what = f"{result.statement.subject} of {explained.network.map_kind.in_words} of {label}"
    lower = f"-{end}" if any(result.family.two_sided) else "0"
    if result.family.dimensions == 1:
        which = f"t from {lower} to {end}"
    elif any(result.family.two_sided) and not all(result.family.two_sided):
        which = f"all its parameters from -{end} or 0 to {end}"
    else:
        which = f"all its {result.family.dimensions} parameters from {lower} to {end}"
    if result.family.unit:
        which = f"{which} {result.family.unit}"
    if result.eps:
        which = f"{which}, and every image within {round_down(result.eps, _DIGITS)} of one of these in l_inf"
    return f"For every image of the change {result.change}, {which}, {what} {result.statement.verb}."


def guarantee_of_sweeps(documents: Sequence[SweepDocument]) -> str:
    """What is proved of many images along one change, as one sentence."""
    one, (subject, verb, varying) = documents[0], asked_of_many(documents)
    change = change_of_many(documents)
    return (
        f"For each image with a certified size T above 0: for every image of the change {change}, "
        f"{_ranges(one)}, {subject} of {one.map_kind.in_words} of the class explained {verb}{varying}."
    )


def change_of_many(documents: Sequence[SweepDocument]) -> str:
    """The change of many images; by its parameters where each image has its own region or file."""
    found = {document.change for document in documents}
    return found.pop() if len(found) == 1 else "+".join(documents[0].parameters)


def measure_of_many(documents: Sequence[SweepDocument]) -> Measure:
    """What many images are certified by along one change."""
    return sizes_of(change_of_many(documents), documents[0].unit)


def nothing_proved(document: SweepDocument) -> str:
    """That nothing is, and why, as one sentence."""
    return "Nothing is proved" + (f": {document.reason.rstrip('.')}." if document.reason else ".")


def _ranges(document: SweepDocument) -> str:
    """Where the parameters run at a size T."""
    return ", ".join(
        f"{name} in [{'-T' if both else '0'}, T]"
        for name, both in zip(document.parameters, document.two_sided, strict=True)
    )


def finding_of(result: SweepResult) -> str:
    """What is known of where it is broken, as one sentence or two."""
    found = []
    if result.broken is not None:
        found.append(f"It is broken at size {round_up(result.broken, _DIGITS)}.")
    if result.witness is None:
        found.append("No witness was confirmed, which proves nothing.")
    else:
        at, beside = ", ".join(map(repr, result.witness.parameters)), result.witness.beside
        if beside:
            found.append(
                f"A witness is an image of float32 pixels within {round_up(beside, _DIGITS)} of the image at "
                f"t = {at}: onnxruntime's map of it breaks the property, and so does float64's."
            )
        else:
            found.append(
                f"A witness is the image at t = {at}, rounded to float32 pixels: onnxruntime's map of it "
                "breaks the property, and so does float64's at t itself."
            )
    return " ".join(found)


_STYLES = {Status.PROVED: GOOD, Status.REFUTED: BAD}


def sweep_text(document: SweepDocument) -> RenderableType:
    """What was asked, what is proved, where it is broken, the intervals, and what none of it says."""
    status = Status(document.status)
    label = class_label(document.class_id, document.class_name)
    about = f"{label}, change {document.change} up to {_in_unit(document, document.sizes[-1].size)}"
    about += around_each(document.eps)
    which = wording.subject(document.model, document.image, document.map_kind, document.loaded_as)
    stopped = ", stopped early" if document.interrupted else ""
    ended = f"{wording.headline(status).upper()}{stopped}", _STYLES.get(status, OPEN)
    parts: list[RenderableType] = [
        head(*ended, about, which),
        Text(),
        Text(document.guarantee or nothing_proved(document), style="bold"),
        Text(document.finding),
    ]
    if document.guarantee and document.reason:
        parts.append(Text(f"The rest is open: {document.reason}."))
    parts += [Text(), figures(_rows(document)), Text(), Text(document.caveat, style="dim")]
    return Group(*parts)


def _rows(document: SweepDocument) -> Iterator[tuple[str, ...]]:
    asked = document.property
    values = ", ".join([asked.name, *(f"{name} {value}" for name, value in asked.parameters.items())])
    yield "property", values, f"{asked.statement}; k = {document.k}"
    yield "change", document.change, f"{document.set}; at size T: {_ranges(document)}"
    for one in document.sizes:
        yield f"size {_in_unit(document, one.size)}", one.status, ""
    certified = _in_unit(document, round_down(document.certified_size, _DIGITS))
    yield "certified up to", certified, "largest |t_j|; proved"
    if document.broken_size is not None:
        broken = _in_unit(document, round_up(document.broken_size, _DIGITS))
        yield "broken at", broken, "the nearest; proved or confirmed"
    if document.witness is not None:
        at = ", ".join(map(repr, document.witness.parameters))
        yield "witness", f"t = {at}", f"onnxruntime, float32 pixels: {document.witness.shows}"
    for part in document.intervals[:_LISTED]:
        known = part.finding != Finding.OPEN.value
        yield f"t in [{_end(part.lower, up=known)}, {_end(part.upper, up=not known)}]", part.finding, ""
    if len(document.intervals) > _LISTED:
        yield "...", f"{len(document.intervals) - _LISTED} more intervals", "see --json"
    shares = (
        f"{(percent_up if name == Finding.OPEN.value else percent_down)(share)} {name}"
        for name, share in document.shares.items()
    )
    yield "shares", ", ".join(shares), "of the parameters, by volume"
    yield "work", f"{document.bounded} parts bounded", f"{len(document.parts)} kept, {document.engine}"
    yield "time", f"{document.seconds:.1f} s", ""


def _in_unit(document: SweepDocument, size: float | str) -> str:
    """A size with its unit, where sizes have one."""
    return f"{size} {document.unit}".rstrip()


def _end(value: float, *, up: bool) -> str:
    """An end of an interval, rounded so that what is said of the interval stays true."""
    digits = _DIGITS + 2
    if value < 0:
        return f"-{round_down(-value, digits) if up else round_up(-value, digits)}"
    return round_up(value, digits) if up else round_down(value, digits)
