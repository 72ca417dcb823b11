"""Every figure of a report, computed here and nowhere else; the renderers only write them down.

What is unknown never helps: a failed image and one without a certificate count as radius 0, in shares and in
medians alike.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from corgi.errors import printable
from corgi.reporting import wording
from corgi.reporting.case import Call, Case, Setup
from corgi.reporting.document import VerifyDocument
from corgi.reporting.sweep import SweepDocument, change_of_many, measure_of_many
from corgi.reporting.versions import Versions
from corgi.reporting.wording import BALLS, Measure, sizes_of
from corgi.terms import Norm

Answer = VerifyDocument | SweepDocument

MOST_RADII = 12
"""Radii at which shares are given."""

MOST_CHANGED = 10
"""Images that a comparison names."""


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles (linear interpolation) of `count` numbers."""

    low: float
    median: float
    high: float
    count: int


@dataclass(frozen=True)
class Share:
    """What holds at a radius, of all images of a run.

    Attributes:
        radius: in the pixel scale.
        certified: share certified at this radius: a lower bound on the share that keeps the property.
        unbroken: share without a witness within this radius: an upper bound on the same.
    """

    radius: float
    certified: float
    unbroken: float


@dataclass(frozen=True)
class Decided:
    """What is known of all images of a run at one radius: certified accuracy and what it is made of.

    Attributes:
        radius: in the pixel scale.
        images: how many, failures included.
        correct: those whose predicted class is the one the data says; None where the data says none.
        holds: those at which the property holds at the image itself; of these there are
        certified, refuted, open: so many that are certified within the radius, that a witness within it
            breaks, and that are neither.
        accurate: certified and correct; None where the data says no class.
    """

    radius: float
    images: int
    correct: int | None
    holds: int
    certified: int
    refuted: int
    open: int
    accurate: int | None


@dataclass(frozen=True)
class AccuracyCurve:
    """Certified accuracy against the radius.

    Attributes:
        asked: what is asked of every image, in words.
        norm: of the radii, None of sizes of a change; changing: what they measure, in words.
        measure: radii or sizes.
        decided: what is known at the radii that were asked for, or at usual ones.
        between: the same at many radii from below the smallest to beyond the largest of those.
        far: whether the latter is far more than the former, so that multiples are shown, not differences.
    """

    asked: str
    norm: Norm | None
    changing: str
    decided: tuple[Decided, ...]
    between: tuple[Decided, ...]
    far: bool
    measure: Measure = BALLS


@dataclass(frozen=True)
class Summary:
    """A set of images.

    Attributes:
        images: how many, failures included; failed: those without an answer.
        statuses: how many ended how, most frequent first.
        certified: images with a certified radius above 0; witnesses: images with a witness.
        certified_radius: over all images, 0 where nothing is certified.
        attack_radius: over the images with a witness; None if there is none.
        ratio: attack / certified over the images with both; None if there is none.
        joint_radius: map and label together, over all images; None where the label was not looked at.
        seconds: wall time of an image, over those measured; total_seconds: of all together.
        contradictions: images with a witness inside their certified radius. Anything but 0 is a fault.
    """

    images: int
    failed: int
    statuses: tuple[tuple[str, int], ...]
    certified: int
    witnesses: int
    certified_radius: Quartiles
    attack_radius: Quartiles | None
    ratio: Quartiles | None
    joint_radius: Quartiles | None
    seconds: Quartiles | None
    total_seconds: float
    contradictions: int


@dataclass(frozen=True)
class ClassSummary:
    """The images of a run whose map of one class was explained."""

    class_id: int
    class_name: str | None
    summary: Summary


@dataclass(frozen=True)
class Run:
    """All cases of one setup.

    Attributes:
        setup: what they share; calls: the calls that computed them, oldest first.
        norm: of their radii, as documents spell it; None if no image has an answer, or along a change.
        change: along which they were certified, as documents spell it; None of balls. unit: of its sizes.
        cases: in the order of the store.
        summary: of all; classes: by explained class; shares: by radius.
        decided: what is known of all images at the radii that were asked for, or else at usual ones.
    """

    setup: Setup
    calls: tuple[Call, ...]
    norm: str | None
    cases: tuple[Case, ...]
    summary: Summary
    classes: tuple[ClassSummary, ...]
    shares: tuple[Share, ...]
    decided: tuple[Decided, ...] = ()
    change: str | None = None
    unit: str = ""

    @property
    def measure(self) -> Measure:
        """What its images are certified by."""
        return BALLS if self.change is None else sizes_of(self.change, self.unit)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the images they share.

    Attributes:
        first, second: places of the runs in the report.
        images: how many they share, by hash.
        larger, equal, smaller: images whose certified radius in the second run is so, against the first.
        only_first, only_second: images certified in one of them alone.
        ratio: certified radius, second / first, over the images certified in both.
        seconds: wall time, second / first.
        same_property: images of which both ask the same of the same model, so that radii bound one number.
        contradictions: those of them whose witness in one run lies inside the radius certified in the other.
            Anything but 0 is a fault.
        most_changed: places, in both runs, of the images whose certified radius differs most by factor.
        noun: what is compared: radius, or the size of one change.
    """

    first: int
    second: int
    images: int
    larger: int
    equal: int
    smaller: int
    only_first: int
    only_second: int
    ratio: Quartiles | None
    seconds: Quartiles | None
    same_property: int
    contradictions: int
    most_changed: tuple[tuple[int, int], ...]
    noun: str = BALLS.noun


@dataclass(frozen=True)
class Origin:
    """Where a report comes from.

    Attributes:
        stores: names of the files it was made from.
        command: the command line that made it.
        created: date and time, ISO 8601, UTC.
        versions: releases installed where it was made.
    """

    stores: tuple[str, ...]
    command: str
    created: str
    versions: Versions


@dataclass(frozen=True)
class Report:
    """What the renderers write down: runs, and every two of them compared, but balls with no change."""

    title: str
    origin: Origin
    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]


def make_run(setup: Setup, calls: Iterable[Call], cases: Iterable[Case]) -> Run:
    """The run of at least one case."""
    members = tuple(cases)
    documents = [case.document for case in members if case.document is not None]
    first = documents[0] if documents else None
    swept = [document for document in documents if isinstance(document, SweepDocument)]
    explained = sorted({(d.class_id, d.class_name or "") for d in documents})
    return Run(
        setup,
        tuple(calls),
        first.norm if isinstance(first, VerifyDocument) else None,
        members,
        summarise(members),
        tuple(
            ClassSummary(class_id, name or None, summarise(_of_class(members, class_id)))
            for class_id, name in explained
        ),
        shares(members, max((document.sizes[-1].size for document in swept), default=math.inf)),
        decided(members),
        printable(change_of_many(swept)) if swept else None,
        swept[0].unit if swept else "",
    )


def make_report(title: str, runs: Sequence[Run], origin: Origin) -> Report:
    """The report of some runs, in their order. Names the user gave may be no text; what is shown is."""
    stores = tuple(printable(store) for store in origin.stores)
    origin = replace(origin, stores=stores, command=printable(origin.command))
    pairs = [(i, j) for i, j in itertools.combinations(range(len(runs)), 2) if _comparable(runs[i], runs[j])]
    return Report(printable(title), origin, tuple(runs), tuple(compare(runs, i, j) for i, j in pairs))


def _comparable(first: Run, second: Run) -> bool:
    """Whether both are of balls, or along one change: the same text, and the same files behind it."""
    return first.setup.parameters.get("change") == second.setup.parameters.get("change")


def _of_class(cases: Sequence[Case], class_id: int) -> tuple[Case, ...]:
    return tuple(c for c in cases if c.document is not None and c.document.class_id == class_id)


def summarise(cases: Sequence[Case]) -> Summary:
    """The figures of at least one case."""
    attacked = [case.attacked for case in cases if case.attacked is not None]
    both = [(c.certified, c.attacked) for c in cases if c.certified > 0 and c.attacked is not None]
    joint = [case.joint or 0.0 for case in cases] if any(c.joint is not None for c in cases) else []
    seconds = [case.seconds for case in cases if case.seconds is not None]
    radii = quartiles([case.certified for case in cases])
    assert radii is not None
    return Summary(
        images=len(cases),
        failed=sum(case.document is None for case in cases),
        statuses=tuple(Counter(case.status for case in cases).most_common()),
        certified=sum(case.certified > 0 for case in cases),
        witnesses=len(attacked),
        certified_radius=radii,
        attack_radius=quartiles(attacked),
        ratio=quartiles([attack / certified for certified, attack in both]),
        joint_radius=quartiles(joint),
        seconds=quartiles(seconds),
        total_seconds=math.fsum(seconds),
        contradictions=sum(attack <= certified for certified, attack in both),
    )


def quartiles(numbers: Sequence[float]) -> Quartiles | None:
    """Quartiles of some numbers; None of none."""
    if not numbers:
        return None
    low, median, high = (float(value) for value in np.quantile(numbers, (0.25, 0.5, 0.75)))
    return Quartiles(low, median, high, len(numbers))


def shares(cases: Sequence[Case], most: float = math.inf) -> tuple[Share, ...]:
    """Shares at round radii, `most` at most, that span those of the cases, but for outliers."""
    found = [r for case in cases for r in (case.certified, case.attacked) if r is not None and r > 0]
    if not found:
        return ()
    certified = np.array([case.certified for case in cases])
    attacked = np.array([case.broken_from for case in cases])
    low, high = (float(radius) for radius in np.quantile(found, (0.02, 0.98)))
    return tuple(
        Share(radius, float((certified >= radius).mean()), float((attacked > radius).mean()))
        for radius in round_numbers(low / 2, min(2.5 * high, most))[-MOST_RADII:]
    )


_BEYOND, _BETWEEN, _FAR, _NEAR = 1.25, 200, 50.0, 1e-9
"""A curve of shares: it ends so far beyond the largest radius and has so many others. They are multiples of
each other where the largest is more than so many times the smallest, and else begin so near to 0."""

USUAL_RADII = tuple(steps / 255 for steps in (0.5, 1.0, 2.0, 4.0, 8.0))
"""Radii, l_inf, of which is said what is known where none were asked for."""


def decided(cases: Sequence[Case]) -> tuple[Decided, ...]:
    """What is known at the radii that all answers were asked for; at usual ones where they were for none.

    A radius up to the certified one is certified, one from the witness on is refuted: no answer says less.
    """
    answers = [case.document for case in cases if case.document is not None]
    asked = {_asked_for(document) for document in answers}
    if not answers or len(asked) > 1:
        return ()
    (radii,) = asked
    if not radii and isinstance(answers[0], VerifyDocument) and answers[0].norm != "linf":
        return ()
    return tuple(_decided(cases, radius) for radius in radii or USUAL_RADII)


def _asked_for(document: Answer) -> tuple[float, ...]:
    """The radii, or the sizes, that were to be decided."""
    if isinstance(document, SweepDocument):
        return tuple(one.size for one in document.sizes)
    return tuple(one.radius for one in document.radii)


def accuracy_curve(cases: Sequence[Case]) -> AccuracyCurve | None:
    """What is known of some images at all radii; None where there is no answer, or answers to others."""
    rows = decided(cases)
    if not rows:
        return None
    answers = [case.document for case in cases if case.document is not None]
    asked = {
        "the largest pixels stay" if answer.property is None else answer.property.statement
        for answer in answers
    }
    radii = [row.radius for row in rows]
    swept = [answer for answer in answers if isinstance(answer, SweepDocument)]
    balls = [answer for answer in answers if isinstance(answer, VerifyDocument)]
    # Of a change nothing was asked beyond the largest size.
    least, most = radii[0] / _BEYOND, radii[-1] * (1 if swept else _BEYOND)
    far = most > _FAR * least
    grid = np.geomspace(least, most, _BETWEEN) if far else np.linspace(_NEAR * most, most, _BETWEEN)
    return AccuracyCurve(
        asked.pop() if len(asked) == 1 else "what is asked of each image stays true",
        Norm(balls[0].norm) if balls else None,
        wording.size_of_changes(balls) if balls else f"largest |t| of the change {change_of_many(swept)}",
        rows,
        tuple(_decided(cases, radius) for radius in sorted({*grid.tolist(), *radii})),
        far,
        measure_of_many(swept) if swept else BALLS,
    )


def _decided(cases: Sequence[Case], radius: float) -> Decided:
    certified = [case for case in cases if case.certified >= radius]
    refuted = sum(case.holds and case.broken_from <= radius for case in cases)
    holds = sum(case.holds for case in cases)
    told = any(case.correct is not None for case in cases)
    return Decided(
        radius=radius,
        images=len(cases),
        correct=sum(case.correct is True for case in cases) if told else None,
        holds=holds,
        certified=len(certified),
        refuted=refuted,
        open=holds - len(certified) - refuted,
        accurate=sum(case.correct is True for case in certified) if told else None,
    )


def round_numbers(low: float, high: float) -> list[float]:
    """All of 1, 2 and 5 times a power of ten from `low` > 0 to `high`."""
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    steps = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]


def compare(runs: Sequence[Run], i: int, j: int) -> Comparison:
    """Run j against run i, on the images they share."""
    cases = runs[i].cases, runs[j].cases
    places = {case.image_sha256: place for place, case in enumerate(cases[0])}
    shared = [(places[c.image_sha256], p) for p, c in enumerate(cases[1]) if c.image_sha256 in places]
    pairs = [(cases[0][a], cases[1][b]) for a, b in shared]
    ratios = [b.certified / a.certified for a, b in pairs if a.certified > 0 and b.certified > 0]
    alike = [(a, b) for a, b in pairs if _same_property(a, b)]
    changed = [(a, b) for a, b in shared if cases[0][a].certified != cases[1][b].certified]
    changed.sort(key=lambda p: _factor(cases[0][p[0]].certified, cases[1][p[1]].certified), reverse=True)
    return Comparison(
        first=i,
        second=j,
        images=len(pairs),
        larger=sum(b.certified > a.certified for a, b in pairs),
        equal=sum(b.certified == a.certified for a, b in pairs),
        smaller=sum(b.certified < a.certified for a, b in pairs),
        only_first=sum(a.certified > 0 >= b.certified for a, b in pairs),
        only_second=sum(b.certified > 0 >= a.certified for a, b in pairs),
        ratio=quartiles(ratios),
        seconds=quartiles([b.seconds / a.seconds for a, b in pairs if a.seconds and b.seconds]),
        same_property=len(alike),
        contradictions=sum(_refutes(a, b) or _refutes(b, a) for a, b in alike),
        most_changed=tuple(changed[:MOST_CHANGED]),
        noun=runs[i].measure.noun,
    )


def _factor(a: float, b: float) -> float:
    """How many times the larger of two radii is the smaller; infinite for 0."""
    return max(a, b) / min(a, b) if min(a, b) > 0 else math.inf


def _within(document: Answer) -> tuple[object, ...]:
    """What images are spoken of, but for how far: a ball of which pixels, or the family of a change.

    A change's files are those of the runs, which are compared where they are the same alone.
    """
    if isinstance(document, SweepDocument):
        return document.change, document.set
    return document.k2, document.norm, None if document.where is None else document.where.sha256


def _same_property(a: Case, b: Case) -> bool:
    """Whether two cases of one image file ask the same of the same map, so that their radii bound one number.

    Another pre-processing makes another map of the same file, with another gap after rank k.
    """
    x, y = a.document, b.document
    return (
        x is not None
        and y is not None
        and (x.model_sha256, x.map_kind, x.class_id) == (y.model_sha256, y.map_kind, y.class_id)
        and (x.k, _within(x)) == (y.k, _within(y))
        and math.isclose(x.gap, y.gap, rel_tol=1e-6)
        and set(x.top_k) == set(y.top_k)
        and _asked(x) == _asked(y)
    )


def _asked(document: Answer) -> object:
    """What was asked beside k and k2; documents of older releases ask for nothing else."""
    asked = document.property
    if asked is None or (asked.name == "topk" and isinstance(document, VerifyDocument)):
        return None
    return asked.name, asked.parameters, None if asked.region is None else set(asked.region)


def _refutes(a: Case, b: Case) -> bool:
    """Whether the witness of one case lies inside the radius certified in another."""
    return a.attacked is not None and a.attacked <= b.certified
