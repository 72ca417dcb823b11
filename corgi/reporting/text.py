"""Documents as text for people: rich renderables, which the command line prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from corgi.reporting import wording
from corgi.reporting.document import (
    AttackDocument,
    CamDocument,
    CurveDocument,
    EngineDocument,
    ExpectedDocument,
    InspectDocument,
    PropertiesDocument,
    RadiiDocument,
    SubjectDocument,
    VerifyDocument,
    WitnessDocument,
)
from corgi.reporting.layout import BAD, GOOD, OPEN, figures, grid, head, pixels, radius, said, series
from corgi.reporting.wording import class_label, round_down, round_up
from corgi.results import Status
from corgi.types import Norm

if TYPE_CHECKING:
    from corgi.train.task import TrainingReport

Rows = Iterator[tuple[str, ...]]
"""Name, value and note of figures."""

_STYLES = {Status.CERTIFIED: GOOD, Status.PROVED: GOOD, Status.REFUTED: BAD}


def verify_text(document: VerifyDocument) -> RenderableType:
    """What was asked, what is certified, what the attack found, the numbers, and what none of it says."""
    return Group(_head(document, *_ended(document)), *_answer(document), *_caveat([document]))


def properties_text(document: PropertiesDocument) -> RenderableType:
    """One heading, a block for each property, and the time of all of them."""
    parts: list[RenderableType] = [_head(document.answers[0], "", ""), Text()]
    for answer in document.answers:
        status, style = _ended(answer)
        title = Text(status, style)
        title.append(f"  {'topk' if answer.property is None else answer.property.name}", "bold default")
        parts += [title, *_answer(answer)]
    time = f"All properties together: {document.seconds:.1f} s."
    return Group(*parts, *_caveat(document.answers), Text(time, style="dim"))


def _ended(document: VerifyDocument) -> tuple[str, str]:
    status = Status(document.status)
    return wording.headline(status).upper(), _STYLES.get(status, OPEN)


def _answer(document: VerifyDocument) -> list[RenderableType]:
    """What stands below the head of a verification."""
    certified, status = document.certified_radius > 0, Status(document.status)
    claim = document.guarantee or wording.no_guarantee(document)
    parts: list[RenderableType] = [Text(), Text(claim, style="bold")]
    if status in (Status.TIME_LIMIT, Status.INTERRUPTED) and certified:
        parts.append(Text(f"The search did not finish, so the radius may be larger: {document.reason}."))
    if document.label is not None:
        parts.append(Text(document.label.guarantee, style="bold"))
    parts += [Text(wording.finding(document)), Text(), figures(_verify_rows(document)), Text()]
    if document.method_note:
        parts.append(Text(f"Less than {document.method}: {document.method_note}.", style="dim"))
    return parts


def _caveat(documents: Sequence[VerifyDocument]) -> list[RenderableType]:
    """What none of the certificates says."""
    said = dict.fromkeys(document.caveat for document in documents if document.certified_radius > 0)
    return [Text(caveat, style="dim") for caveat in said]


def _verify_rows(document: VerifyDocument) -> Rows:
    how = f"deterministic: {document.method}, {document.form} form, {document.engine}"
    name = f"certified {Norm(document.norm).label} radius"
    yield name, radius(round_down, document.certified_radius), how
    if document.uncertified_radius is not None:
        yield "not certified at", radius(round_up, document.uncertified_radius), "smallest radius tried"
    yield from _attack_rows(document)
    yield from _where_rows(document)
    yield from _property_rows(document)
    yield from _radii_rows(document)
    label, decision, exact = document.label, document.recheck, document.exact
    if label is not None:
        how = f"deterministic, {label.evaluations} bound evaluations, {label.seconds:.1f} s"
        yield "label radius", radius(round_down, label.certified_radius), how
    if decision is not None:
        margin = f"margin {decision.margin:.3g} at {round_down(decision.radius)}"
        yield "float64 decision", margin, f"rounding explains at most {decision.rounding_bound:.2g}"
    height, width = document.map_shape
    ranks = f"k = {document.k}" + (f", k2 = {document.k2}" if document.k2 != document.k else "")
    gap = "tie" if document.tie else f"gap {document.gap:.3g} at rank {document.k}"
    yield "map", f"{height} x {width} pixels, {ranks}", gap
    if exact is not None and exact.decisions:
        work = f"{exact.decisions} margins decided, {exact.nodes} sub-problems"
        yield "exact", work, f"{exact.decider}, {exact.radii} radii, {exact.seconds:.1f} s"
    gradients = 0 if document.attack is None else document.attack.gradients
    yield "work", f"{document.evaluations} bound evaluations", f"{gradients} gradients of the attack"
    certify = f"{document.certify_seconds:.1f} s of it for the certificate"
    yield "time", f"{document.seconds:.1f} s", certify


def _attack_rows(document: VerifyDocument) -> Rows:
    attack, name = document.attack, f"attack {Norm(document.norm).label} radius"
    if attack is None:
        yield name, "-", "no attack was run"
    elif attack.witness is None:
        yield name, "-", f"empirical: {attack.name} found nothing up to {round_down(attack.searched_up_to)}"
    else:
        note = f"empirical: {attack.name}" + (", label kept on demand" if attack.keeps_label else "")
        yield name, radius(round_up, attack.witness.radius), note
        if document.ratio is not None:
            yield "attack / certified", f"{document.ratio:.3f}", wording.bracket_note(document)
        yield _witness(attack.witness, lost=wording.of_a_set(document))


def _witness(witness: WitnessDocument, *, lost: bool) -> tuple[str, ...]:
    kept = "the same" if witness.same_label else "another one than for the image"
    gone = f"; lost [row, column]: {pixels(witness.lost)}" if lost else ""
    return "witness", f"class {witness.class_id}", f"{kept}{gone}"


def _where_rows(document: VerifyDocument | AttackDocument) -> Rows:
    """What may change, where that is not everything."""
    where = document.where
    if where is not None:
        yield "changes", f"{where.count} of {where.size} pixels", where.in_words


def _property_rows(document: VerifyDocument | AttackDocument) -> Rows:
    """What was asked, where it is not that of the set."""
    asked = document.property
    if asked is None or wording.is_topk(document):
        return
    height, width = document.map_shape
    region = (
        "" if asked.region_count is None else f"region: {asked.region_count} of {height * width} map pixels"
    )
    told = {
        True: region,
        False: "it does not hold at the image itself",
        None: "rounding hides whether it holds",
    }
    values = (f"{name} {_value(value)}" for name, value in asked.parameters.items())
    yield "property", ", ".join([asked.name, *values]), told[asked.holds_at_image]


def _value(value: float | tuple[tuple[int, int], ...]) -> str:
    return pixels(value) if isinstance(value, tuple) else f"{value:g}"


def _radii_rows(document: VerifyDocument) -> Rows:
    """The radii that were to be decided."""
    for one in document.radii:
        yield f"radius {one.radius_255:.4g}/255", one.status, ""


def attack_text(document: AttackDocument) -> RenderableType:
    """The answer of `corgi attack`."""
    attack, witness, norm = document.attack, document.attack.witness, Norm(document.norm)
    rows: list[tuple[str, ...]] = [("work", f"{attack.gradients} gradients", f"{attack.seconds:.1f} s")]
    if witness is None:
        ended = "NO WITNESS", OPEN
        nothing = wording.nothing_found(attack.searched_up_to, norm, document.where)
        claim = wording.tie_at(document.k) if document.tie and wording.is_topk(document) else nothing
    else:
        ended = "WITNESS FOUND", BAD
        claim = wording.shown_by(document, witness, norm)
        name, how = f"attack {norm.label} radius", f"empirical: {attack.name}"
        past = "past the decision by", f"{witness.margin:.3g}", "map values, onnxruntime"
        rows = [
            (name, radius(round_up, witness.radius), how),
            _witness(witness, lost=wording.of_a_set(document)),
            past,
            *rows,
        ]
    label = class_label(document.class_id, document.class_name)
    rows += [*_where_rows(document), *_property_rows(document)]
    return Group(head(*ended, label, _subject(document)), *said(claim), figures(rows))


def cam_text(document: CamDocument) -> RenderableType:
    """The answer of `corgi cam`."""
    height, width = document.map_shape
    values = [value for row in document.map for value in row]
    gap = wording.tie_at(document.k) if document.tie else f"gap to rank {document.k + 1}: {document.gap:.4g}"
    rows = (
        ("map", f"{height} x {width} pixels", f"values from {min(values):.4g} to {max(values):.4g}"),
        ("k", str(document.k), gap),
        ("largest pixels", "[row, column]", pixels(document.top_k)),
    )
    return Group(_head(document, "", ""), Text(), figures(rows))


def radii_text(document: RadiiDocument) -> RenderableType:
    """The answer of `corgi radii`."""
    rows = (
        (
            f"{'' if found.inside else '(outside) '}{found.rank}",
            pixels([found.pixel]),
            *_radii_cells(found.certified_radius, found.attack_radius),
            found.reason,
        )
        for found in document.searched
    )
    table = series(("rank", "[row, column]", "certified", "attack", "ratio"), rows)
    heading = stopped_head(document, "PIXEL RADII", interrupted=document.interrupted)
    return Group(heading, *said(wording.rank_of_pixel(document)), table)


def curve_text(document: CurveDocument) -> RenderableType:
    """The answer of `corgi curve`."""
    parts: list[RenderableType] = [
        stopped_head(document, "RADII AGAINST RANKS", interrupted=document.interrupted),
        *said(wording.recommendation(document)),
    ]
    for points in (document.by_k, document.by_k2):
        rows = [
            (
                *(f"{point.k}", f"{point.k2}", f"{point.relative_gap:.2%}", round_down(point.bounds_radius)),
                *_radii_cells(point.certified_radius, point.attack_radius),
                point.reason,
            )
            for point in points
        ]
        if rows:
            titles = ("k", "k2", "gap", "by bounds", "certified", "attack", "ratio")
            parts += [series(titles, rows), Text()]
    return Group(*parts)


def _radii_cells(certified: float, attacked: float | None) -> tuple[str, str, str]:
    ratio = "-" if attacked is None or certified <= 0 else f"{attacked / certified:.3f}"
    return round_down(certified), "-" if attacked is None else round_up(attacked), ratio


def _subject(document: SubjectDocument) -> str:
    """Which model, image and map a document is about."""
    return wording.subject(document.model, document.image, document.map_kind, document.loaded_as)


def _head(document: SubjectDocument, status: str, style: str) -> Text:
    """The head that says whether the class is the predicted one."""
    predicted = "predicted" if document.class_id == document.predicted_class else "not predicted"
    if document.class_id != document.predicted_class:
        predicted += f": onnxruntime says class {document.predicted_class}"
    label = class_label(document.class_id, document.class_name)
    return head(status, style, f"{label}, {predicted}", _subject(document))


def stopped_head(document: SubjectDocument, title: str, *, interrupted: bool) -> Text:
    """The head of an answer of many parts that keeps what was done."""
    stopped = ", stopped early" if interrupted else ""
    label = f"{class_label(document.class_id, document.class_name)}, k = {document.k}"
    return head(f"{title}{stopped}", OPEN if stopped else GOOD, label, _subject(document))


def inspect_text(document: InspectDocument) -> RenderableType:
    """The answer of `corgi inspect`."""
    operators = ", ".join(f"{count} {name}" for name, count in document.operators.items())
    height, width = document.map_shape
    rows = {
        "input": f"'{document.input_name}' [N, {', '.join(map(str, document.input_shape))}]",
        "nodes": f"{document.nodes} after constant folding, opset {document.opset}: {operators}",
        "feature map": f"'{document.feature_map}', {document.filters} filters of {height} x {width}",
        "made by": document.feature_node,
        "pooling": document.pooling,
        "fully connected": document.dense
        + ("" if document.activation == "none" else f", then {document.activation}"),
        "classes": _classes(document),
        "pre-processing": document.preprocess or "none in the file",
        "equality gate": f"passed: equals onnxruntime within {document.gate_tolerance:g} relative",
        "as loaded": "; ".join(document.loaded_as) or "as the file stands",
        **{f"engine {one.engine}": _can(one) for one in document.engines},
        "sha256": document.model_sha256,
    }
    return Group(Text(document.model, style="bold"), Text(), figures(rows.items()))


def _can(engine: EngineDocument) -> str:
    if not engine.bounds:
        return f"cannot bound it: {engine.reason}"
    return "\n".join(["can bound it", *map(_one_bound, engine.expected)])


def _one_bound(one: ExpectedDocument) -> str:
    """What a bound of one radius may take."""
    share = "about" if one.complete else "at least"
    cut = ", cut short to save work" if one.shortened else ""
    return (
        f"one bound at radius {one.radius:.3g}: {share} {wording.duration(one.seconds)}, {one.rows:.2g} rows,"
        f" {one.multiply_adds:.1g} multiply-adds{cut}; at most {one.bytes / 2**30:.1f} GB"
    )


def training_text(report: TrainingReport) -> RenderableType:
    """What `corgi train` did."""
    things = report.task.words.things
    of_training = "" if things is None else f" of {report.training_tracks} {things}"
    of_validation = "" if things is None else f" of {report.validation_tracks} other {things}"
    rows = {
        "training": f"{report.training_images} images{of_training}",
        "validation": f"{report.validation_images} images{of_validation}",
        "epoch kept": f"{report.epoch} of {report.options.epochs}",
        "validation accuracy": f"{report.validation_accuracy:.2%}",
        "test accuracy": f"{report.test_accuracy:.2%} of {report.test_images} images, by onnxruntime",
        "model": str(report.model),
        "model card": str(report.card),
        "time": f"{report.seconds:.0f} s",
    }
    return grid(rows.items())


def _classes(document: InspectDocument) -> str:
    if document.class_names is None:
        return f"{document.classes}, no names in the file"
    return f"{document.classes}: " + ", ".join(f"{i} {name}" for i, name in enumerate(document.class_names))
