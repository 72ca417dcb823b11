"""The sentences and numbers people read, in one place, so that text, JSON and picture say the same.

A sentence with a radius in it is a claim, so its number is rounded towards the side on which it stays true:
certified radii down, distances of witnesses up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from corgi.results import ExactSearch, MapKind, Statement, Status, TopK, VerifyResult
from corgi.types import Norm

if TYPE_CHECKING:
    from corgi.reporting.document import (
        AttackDocument,
        CurveDocument,
        ExactDocument,
        RadiiDocument,
        VerifyDocument,
        WitnessDocument,
    )
    from corgi.reporting.sweep import SweepDocument

PIXEL_SCALE = "[0, 1] of the network input, before any normalisation inside the network"
"""What one unit of a radius means."""

_REAL = (
    "The map is bounded in real arithmetic on the weights stored in the file; a run in floating point can "
    "differ by its own rounding."
)
CAVEAT = f"{_REAL} The statement is about the map of this class and says nothing about the label."
"""What a certificate does not say."""


def caveat(result: VerifyResult) -> str:
    """What a certificate does not say, of the label only where that was not certified, too."""
    return (
        CAVEAT
        if result.label is None
        else f"{_REAL} The statements are about this class's map and the label."
    )


_OF_A_SET = frozenset({"topk", "overlap"})
"""Properties of the k largest pixels of the map at the image."""

Rounding = Callable[[float], str]
"""`round_down` or `round_up`."""

DIGITS = 4
"""Significant digits of a radius in a sentence."""


def round_down(value: float, digits: int = DIGITS) -> str:
    """A finite number >= 0 in decimal, never larger than it is."""
    return _rounded(value, digits, ROUND_FLOOR)


def round_up(value: float, digits: int = DIGITS) -> str:
    """A finite number >= 0 in decimal, never smaller than it is."""
    return _rounded(value, digits, ROUND_CEILING)


def _rounded(value: float, digits: int, rounding: str) -> str:
    exact = Decimal(repr(float(value)))
    if exact == 0:
        return "0"
    unit = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    rounded = exact.quantize(unit, rounding=rounding).normalize()
    return f"{rounded:f}" if rounded.adjusted() >= -6 else f"{rounded:e}"


def percent_down(share: float) -> str:
    """A share as per cent, never larger than it is."""
    return f"{math.floor(share * 1000 + 1e-9) / 10:.1f}%"


def percent_up(share: float) -> str:
    """A share as per cent, never smaller than it is."""
    return f"{math.ceil(share * 1000 - 1e-9) / 10:.1f}%"


@dataclass(frozen=True)
class Measure:
    """What many images are certified by: the radii of balls, or the sizes of a change.

    Attributes:
        noun, plural: what it is called; certified, attacked: of a certificate, of the nearest witness.
        unit, suffix: of short numbers: in steps of 8-bit pictures, or in per cent.
        change: the change; None of balls.
    """

    noun: str
    plural: str
    certified: str
    attacked: str
    unit: float
    suffix: str
    change: str | None = None

    def short(self, value: float) -> str:
        """A number that was asked for, as it was: rounded, it would be another one."""
        return f"{value * self.unit:.12g}{self.suffix}"


BALLS = Measure("radius", "radii", "certified radius", "attack radius", 255, "/255")
"""Radii of balls."""


def sizes_of(change: str, unit: str = "") -> Measure:
    """Sizes of a change, of the largest of its parameters: shares, or in a unit, as degrees."""
    short = (1, f" {unit}") if unit else (100, "%")
    return Measure("size", "sizes", "certified size", "size of the witness", *short, change)


class Changing(Protocol):
    """What may change: a `Where`, or its document."""

    @property
    def in_words(self) -> str:
        """As a clause."""


def size_of_change(norm: Norm, where: Changing | None = None) -> str:
    """What a radius measures, in words; `where`: what may change, None for everything."""
    size = {
        Norm.LINF: "largest change of a pixel",
        Norm.L2: "root of the sum of all squared changes of pixels",
        Norm.L1: "sum of all changes of pixels",
    }[norm]
    return size if where is None else f"{size}, {where.in_words}"


def class_label(class_id: int, name: str | None) -> str:
    """A class as people name it: `class 17 (no entry)`."""
    return f"class {class_id}" if name is None else f"class {class_id} ({name})"


def map_title(map_kind: MapKind) -> str:
    """A map as a title names it."""
    return "Grad-CAM, weights fixed here" if map_kind is MapKind.GRADCAM else "Class activation map"


def subject(model: str, image: str, map_kind: MapKind, notes: tuple[str, ...]) -> str:
    """Which model, image and map an answer is about."""
    which = "" if map_kind is MapKind.CAM else f"\nmap: {map_kind.in_words.removeprefix('the ')}"
    return f"model {model}, image {image}" + "".join(f"\nread so: {note}" for note in notes) + which


def guarantee(result: VerifyResult) -> str | None:
    """What is certified, as one sentence that holds for every image it speaks of; None if nothing is."""
    certificate = result.certificate
    if certificate.radius <= 0:
        return None
    what, size = certificate.statement, size_of_change(certificate.norm, certificate.where)
    label = class_label(result.class_id, result.class_name)
    choice = choice_of(result.top, what)
    return (
        f"For every image within {round_down(certificate.radius)} of this one "
        f"({size}, scale [0, 1]), {what.subject} of {result.map_kind.in_words} "
        f"of {label}{choice} {what.verb}."
    )


def choice_of(top: TopK, asked: Statement) -> str:
    """Which pixels are meant where the top set is a tie: only a relaxed property can hold then."""
    chosen = top.tie and not _OF_A_SET.isdisjoint(asked.name.split("+"))
    return " (of equal values, the first)" if chosen else ""


def guarantee_of_many(documents: Sequence[VerifyDocument]) -> str:
    """What is certified of many images at once, as one sentence."""
    (subject, verb, varying), size = asked_of_many(documents), size_of_changes(documents)
    return (
        f"For each image with a certified radius above 0: for every image within that radius of it "
        f"({size}, scale [0, 1]), {subject} of {documents[0].map_kind.in_words} of the class "
        f"explained "
        f"{verb}{varying}."
    )


def asked_of_many(documents: Sequence[VerifyDocument | SweepDocument]) -> tuple[str, str, str]:
    """Subject and verb of what was asked of many images, and how it varies among them."""
    said = {_words(document) for document in documents}
    subject, verb = said.pop()
    varying = ""
    if said and all(document.property is None or document.property.name == "topk" for document in documents):
        subject, verb = "the k largest pixels", "stay among the k2 largest"
        varying = ", with the k and k2 of its own document"
    elif said:
        subject, verb, varying = "what is asked", "holds", ", as its own document says"
    elif any(document.property is not None and document.property.region for document in documents):
        varying = ", each image with its own region"
    return subject, verb, varying


def size_of_changes(documents: Sequence[VerifyDocument]) -> str:
    """What the radii of many images measure, in words."""
    size = size_of_change(Norm(documents[0].norm))
    clauses = {None if document.where is None else document.where.in_words for document in documents}
    if len(clauses) > 1:
        return f"{size}, of each image what its own document says alone changes"
    (only,) = clauses
    return size if only is None else f"{size}, {only}"


def _words(document: VerifyDocument | SweepDocument) -> tuple[str, str]:
    """Subject and verb of what was asked; documents of older releases hold none of their own."""
    asked = document.property
    return stays(document.k, document.k2) if asked is None else (asked.subject, asked.verb)


def stays(k: int, k2: int) -> tuple[str, str]:
    """The property as subject and verb, to go around `of the map`."""
    subject = "the largest pixel" if k == 1 else f"the {k} largest pixels"
    single = k == 1
    if k2 > k:
        return subject, f"{'stays' if single else 'stay'} among the {k2} largest"
    return subject, f"{'stays' if single else 'stay'} the same"


def label_guarantee(result: VerifyResult) -> str | None:
    """What is certified of the label, as one sentence; None if it was not looked at."""
    label = result.label
    if label is None:
        return None
    name = f"class {label.label}"
    if label.radius <= 0:
        return f"Nothing is certified for the label ({name}): {label.reason or 'no radius'}."
    both = result.joint_radius or 0.0
    within = f"{round_down(label.radius)} ({size_of_change(label.norm, label.where)}, scale [0, 1])"
    sentence = f"The network predicts {name} for every image within {within}"
    return f"{sentence}; map and label both stay within {round_down(both)}." if both > 0 else f"{sentence}."


def no_guarantee(document: VerifyDocument) -> str:
    """Why nothing is certified, as one sentence."""
    reason, eps = document.reason or document.certificate_reason, document.eps
    topk = is_topk(document)
    if topk and document.tie and document.k2 == document.k:
        return tie_at(document.k)
    if document.status == Status.REFUTED.value and eps is not None:
        within = round_up(eps)
        if topk:
            return f"The map does not keep its pixels within {within}: an image no farther away changes them."
        words = " ".join(_words(document))
        return f"Not for every image within {within} {words}: one no farther away shows it."
    asked = "any radius" if eps is None else f"the radius {eps:g}"
    return f"Nothing is certified for {asked}" + (f": {reason.rstrip('.')}." if reason else ".")


def is_topk(document: VerifyDocument | AttackDocument) -> bool:
    """Whether it is asked that the set stays, as in all documents of older releases."""
    return document.property is None or document.property.name == "topk"


def of_a_set(document: VerifyDocument | AttackDocument | SweepDocument) -> bool:
    """Whether it is asked of the k largest pixels that they stay: some can be lost."""
    return document.property is None or not _OF_A_SET.isdisjoint(document.property.name.split("+"))


def tie_at(k: int) -> str:
    """Why a tie leaves nothing to certify (theory 1.4)."""
    return (
        f"Tie at rank {k}: the pixels of rank {k} and {k + 1} have the same value, so the set of the {k} "
        "largest is not unique and its radius is 0."
    )


def finding(document: VerifyDocument) -> str:
    """What the attack found, as one sentence. Empirical: an upper bound on the radius, or nothing."""
    attack, norm = document.attack, Norm(document.norm)
    if attack is None:
        return NO_ATTACK
    if attack.witness is None:
        return nothing_found(attack.searched_up_to, norm, document.where)
    return shown_by(document, attack.witness, norm)


def shown_by(document: VerifyDocument | AttackDocument, witness: WitnessDocument, norm: Norm) -> str:
    """What a witness shows, as one sentence."""
    if is_topk(document) or not witness.shows:
        gone = gone_of(len(witness.lost), document.k, document.k2)
    else:
        gone = witness.shows
    far = f"In an image at {norm.label} distance {round_up(witness.radius)}{_only(document.where)}"
    return f"{far}, found by attack and confirmed by onnxruntime on the model file, {gone}."


def _only(where: Changing | None) -> str:
    """What may change, behind a distance."""
    return "" if where is None else f" ({where.in_words})"


def nothing_found(searched_up_to: float, norm: Norm, where: Changing | None) -> str:
    """What it means that an attack found no witness."""
    return (
        f"The attack found no image that changes the map so, up to {norm.label} radius "
        f"{round_down(searched_up_to)}{_only(where)}. "
        "That proves nothing."
    )


def bracket_note(document: VerifyDocument) -> str:
    """Where the exact radius lies, and why the bracket is no narrower where that was asked for."""
    where, why = "the exact radius lies between the two", why_not_closer(document.exact, document.reason)
    return f"{where}; not closer: {why}" if why else where


def why_not_closer(exact: ExactSearch | ExactDocument | None, reason: str) -> str:
    """Why certificate and witness are not as close as asked; empty if they are."""
    return exact.reason if exact is not None and not exact.closed and exact.reason else reason


def rank_of_pixel(document: RadiiDocument) -> str:
    """What radii of pixels claim, as one sentence."""
    k, norm = document.k, Norm(document.norm)
    kept = [found.certified_radius for found in document.searched if found.inside]
    if not kept:
        return "No pixel was searched."
    return (
        f"Each of the {k} largest pixels stays among the {k} largest within the {norm.label} radius "
        f"certified for it, at least {round_down(min(kept))}; each other pixel stays outside them within its "
        "own."
    )


def recommendation(document: CurveDocument) -> str:
    """The k to choose, as one sentence."""
    radii = {point.k: point.certified_radius for point in document.by_k}
    best = document.recommended_k
    if best is None:
        return "No k has a certified radius above 0."
    return (
        f"Recommended: k = {best}, whose certified {Norm(document.norm).label} radius, "
        f"{round_down(radii[best])}, is the largest of the {len(radii)} computed."
    )


def gone_of(lost: int, k: int, k2: int) -> str:
    """What a witness shows that loses some of the k largest pixels."""
    gone = f"{lost} of the {k} pixels {'is' if lost == 1 else 'are'} no longer among the {k2} largest"
    if k == 1:
        gone = f"the largest pixel is no longer {'the largest' if k2 == 1 else f'among the {k2} largest'}"
    return gone


def headline(status: Status) -> str:
    """A status as people read it."""
    return {
        Status.CERTIFIED: "certified",
        Status.PROVED: "proved",
        Status.REFUTED: "refuted",
        Status.UNKNOWN: "unknown",
        Status.TIME_LIMIT: "time limit",
        Status.INTERRUPTED: "interrupted",
    }[status]


def ratio(result: VerifyResult) -> float | None:
    """Attack radius over certified radius, at least 1; None unless both are positive."""
    attacked = None if result.attack is None else result.attack.radius
    if attacked is None or result.certificate.radius <= 0:
        return None
    return attacked / result.certificate.radius


NO_ATTACK = "No attack was run, so there is no upper bound on the radius."

PROOF_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "deterministic": (
            "Certified radii, and certified sizes of a change. The statement holds for every image of the "
            "ball, or of the change, without exception and without sampling, in real arithmetic on the "
            "weights stored in the file. It is decided in float64, every bound rounded outwards."
        ),
        "statistical": (
            "Holds with a stated probability over the sampling that led to it. No figure of this report is "
            "of this kind."
        ),
        "empirical": (
            "Attack radii, and sizes of witnesses along a change. Each is the distance of one image, or its "
            "size, found by search, in which onnxruntime on the model file shows the property broken: the "
            "exact radius or size is not larger. That no such image was found proves nothing."
        ),
    }
)
"""What the kinds of a report's statements mean."""

OF_THESE_IMAGES = (
    "Shares and medians describe the images listed here and no others. An image without an answer counts as "
    "one with certified radius, or size, 0."
)
"""What figures over many images do not say."""


def scale_of(measure: Measure) -> str:
    """What the numbers of many images mean and how they are rounded, in sentences."""
    if measure.change is None:
        scale = f"Radii are on the scale {PIXEL_SCALE}."
        return f"{scale} Certified radii are rounded down, distances of witnesses up."
    return (
        f"Sizes of the change {measure.change} are the largest |t| of its parameters. Certified sizes are "
        "rounded down, those at which it is broken up."
    )


CONTRADICTION = (
    "an image within a certified radius breaks the property certified. One of the two is wrong: do not rely "
    "on this report, and report the fault."
)
"""What it means that certificates and witnesses contradict each other."""


def duration(seconds: float) -> str:
    """A time for people, in the largest unit of which there is one."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
