"""`corgi smooth` in words, as a JSON document and as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt
from rich.console import Group, RenderableType
from rich.text import Text

from corgi.reporting import wording
from corgi.reporting.document import SCHEMA_VERSION, Document, Pixel, named
from corgi.reporting.layout import GOOD, OPEN, figures, head, radius, said
from corgi.reporting.versions import Versions, installed_versions
from corgi.reporting.wording import class_label, round_down
from corgi.results import Claim, SmoothResult, StatisticalCertificate, places

COMPARED = (
    "the empirical smoothed map at the image with the expected (population) smoothed map at every image of "
    "the ball"
)
"""What a statistical certificate compares."""

CAVEAT = (
    "The claim is about the map averaged over noise, not about the map without noise, and says nothing about "
    "the label. The noise counts as drawn exactly from its distribution, and the map as computed in float32. "
    "Image and model must not depend on the noise, that is, on its seed."
)
"""What a statistical certificate does not say."""


AT_ONCE = "All of this curve holds at once, with that probability: it follows from the same intervals"
"""Why one may choose from the curve after seeing it."""

_LINES = 15
"""Points of a curve that a text shows."""


class OverlapRadius(Document):
    """Within this radius so many of the k largest pixels stay among the k largest."""

    overlap: PositiveInt
    certified_radius: FiniteFloat
    certified_radius_255: FiniteFloat


class SmoothDocument(Document):
    """The answer of `corgi smooth`: a statistical certificate, wrong with `failure_probability` at most.

    Of `overlap`, `ranks`, and `inside` with `outside`, those are given that `claim` is about. Each pixel of
    `inside` by itself is in the top set for more than half of all noise, each of `outside` by itself outside:
    no noise need have all of them so at once.
    `curve`, of overlap and renyi: every overlap that the samples show and its radius, the largest overlap
    first. All of them hold at once, with the probability of the claim, which is one of them or at a smaller
    radius. Overlaps up to 2k - n of n map pixels are left out: any two sets of k share so many.
    `interrupted`: Ctrl-C or the time limit ended the sampling early.
    `claimed_radius` and `claimed_overlap` are what a published form claims that is no guarantee; nothing is
    certified then.
    """

    schema_version: Literal["1"] = SCHEMA_VERSION
    kind: Literal["smooth"] = "smooth"
    model: str
    model_sha256: str
    loaded_as: tuple[str, ...]
    image: str
    class_id: NonNegativeInt
    class_name: str | None
    predicted_class: NonNegativeInt
    claim: Claim
    status: Literal["certified", "unknown"]
    reason: str
    guarantee: str | None
    compared: str = COMPARED
    caveat: str = CAVEAT
    note: str
    pixel_scale: str = wording.PIXEL_SCALE
    norm: str
    certified_radius: FiniteFloat
    certified_radius_255: FiniteFloat
    k: PositiveInt
    top_k: tuple[Pixel, ...]
    overlap: PositiveInt | None
    curve: tuple[OverlapRadius, ...]
    ranks: tuple[PositiveInt, ...] | None
    inside: tuple[Pixel, ...] | None
    outside: tuple[Pixel, ...] | None
    claimed_radius: FiniteFloat | None
    claimed_overlap: NonNegativeInt | None
    map_name: str
    map_shape: tuple[PositiveInt, PositiveInt]
    smoothed_map: tuple[tuple[FiniteFloat, ...], ...]
    noise: str
    sigma: FiniteFloat
    seed: NonNegativeInt
    samples: NonNegativeInt
    samples_drawn: NonNegativeInt
    samples_wanted: PositiveInt
    interrupted: bool
    inputs: PositiveInt
    confidence: str
    correction: str
    failure_probability: FiniteFloat
    failure_share: FiniteFloat
    rung: NonNegativeInt | None
    seconds: FiniteFloat
    versions: Versions


def smooth_document(result: SmoothResult, versions: Versions | None = None) -> SmoothDocument:
    """The document of a statistical certificate."""
    certificate, mean = result.certificate, result.mean
    width = mean.shape[1]
    inside, outside = certificate.inside, certificate.outside
    return SmoothDocument.of(
        result,
        certificate,
        certificate.sampling,
        **named(result),
        status=certificate.status,
        reason=certificate.reason,
        guarantee=guarantee(certificate),
        norm=certificate.norm_label.replace("_", ""),
        certified_radius=certificate.radius,
        top_k=places(certificate.pixels, width),
        curve=tuple(OverlapRadius.of(overlap=o, certified_radius=radius) for o, radius in certificate.curve),
        inside=None if inside is None else places(inside, width),
        outside=None if outside is None else places(outside, width),
        smoothed_map=mean.tolist(),
        samples_drawn=result.drawn,
        samples_wanted=result.wanted,
        versions=versions or installed_versions(),
    )


def guarantee(certificate: StatisticalCertificate) -> str | None:
    """What is certified, as one sentence; None if nothing is."""
    if not certificate.radius > 0:
        return None
    sampling = certificate.sampling
    ball = f"within {certificate.norm_label} distance {round_down(certificate.radius)} (scale [0, 1])"
    return (
        f"With probability at least {_confidence(sampling.failure_probability)} over the noise drawn, this "
        f"holds for every image {ball} of this one: {_holds(certificate)}."
    )


def _confidence(failure: float) -> str:
    """1 - failure, rounded down."""
    return round_down(1 - failure, 6)


def _holds(certificate: StatisticalCertificate) -> str:
    k, largest = certificate.k, _largest(certificate.k)
    match certificate.claim:
        case Claim.OVERLAP | Claim.RENYI:
            many = "all" if certificate.overlap == k else f"at least {certificate.overlap}"
            return (
                f"{many} of {largest} of the smoothed map averaged here are among the {k} largest of that "
                "image's expected smoothed map"
            )
        case Claim.RANK:
            ranks = certificate.ranks or ()
            return (
                f"in that image's expected smoothed map, {largest} of the one averaged here have at most the "
                f"ranks {', '.join(map(str, ranks))}"
            )
        case Claim.PIXELS:
            inside, outside = certificate.inside or (), certificate.outside or ()
            height, width = certificate.sampling.map_shape
            rest = height * width - len(inside) - len(outside)
            # The noise that has one pixel inside need not have another one inside.
            return (
                f"each of {len(inside)} pixels by itself is in the top set ({certificate.sampling.map_name}) "
                f"for more than half of all noise; each of {len(outside)} by itself is outside for more than "
                f"half; {rest} pixels abstain"
            )


def _largest(k: int) -> str:
    return f"the {k} largest pixels"


def no_guarantee(document: SmoothDocument) -> str:
    """Why nothing is certified, as one sentence."""
    if document.claimed_radius is not None:
        return (
            f"No guarantee: the published form claims an overlap of {document.claimed_overlap} of "
            f"{document.k} up to {_norm(document)} distance {document.claimed_radius:.4g}."
        )
    return f"Nothing is certified: {document.reason}."


def _norm(document: SmoothDocument) -> str:
    """`l2` as people write it: `l_2`."""
    return f"l_{document.norm.removeprefix('l')}"


def smooth_text(document: SmoothDocument) -> RenderableType:
    """What was asked, what is certified, what it rests on, and what it does not say."""
    stopped = ", stopped early" if document.interrupted else ""
    read_so = "".join(f"\nread so: {note}" for note in document.loaded_as)
    about = f"model {document.model}, image {document.image}{read_so}\nmap: {document.map_name}"
    label = class_label(document.class_id, document.class_name)
    claim, curve = document.guarantee, document.curve
    parts: list[RenderableType] = [
        head(f"{document.status.upper()}{stopped}", GOOD if claim else OPEN, label, about),
        *said(claim or no_guarantee(document)),
        *(figures(_numbers(document)), Text()),
    ]
    if curve:
        parts += [figures(_curve(document)), Text()]
    notes = []
    if document.claimed_radius is not None:
        notes.append(f"Why not: {document.reason}.")
    if document.note:
        notes.append(f"Note: {document.note}.")
    if curve:
        notes.append(f"{AT_ONCE}.")
    if claim or curve:
        notes.append(f"Compared: {document.compared}. {document.caveat}")
    return Group(*parts, *(Text(note, style="dim") for note in notes))


def _curve(document: SmoothDocument) -> Iterator[tuple[str, str]]:
    """Overlaps and their radii: all, or of a long curve some evenly, with both ends."""
    k, curve = document.k, document.curve
    last = len(curve) - 1
    shown = sorted({i * last // (_LINES - 1) for i in range(_LINES)}) if last >= _LINES else range(last + 1)
    for point in (curve[i] for i in shown):
        stay = f"all {k} stay" if point.overlap == k else f"at least {point.overlap} of {k} stay"
        yield stay, f"within {radius(round_down, point.certified_radius)}"


def _numbers(document: SmoothDocument) -> Iterator[tuple[str, str, str]]:
    (height, width), smoothed = document.map_shape, [v for row in document.smoothed_map for v in row]
    share = "" if document.rung is None else f", {document.failure_share:.3g} of it for this many samples"
    samples = f"{document.samples}"
    if document.samples_drawn != document.samples:
        samples = f"the first {samples} of {document.samples_drawn}"
    if document.interrupted:
        samples += f" of {document.samples_wanted}"
    certified = radius(round_down, document.certified_radius)
    yield f"certified {_norm(document)} radius", certified, f"statistical: {document.claim}"
    how = f"{document.confidence}, {document.correction} over {height * width} pixels{share}"
    yield "failure probability", f"{document.failure_probability:.4g}", how
    noise = f"{document.noise} noise, sigma {document.sigma:g}, seed {document.seed}"
    yield "samples", samples, noise
    shape = f"{height} x {width} pixels, k = {document.k}"
    yield "smoothed map", shape, f"values from {min(smoothed):.4g} to {max(smoothed):.4g}"
    yield "time", f"{document.seconds:.1f} s", ""
