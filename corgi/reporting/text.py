"""Results as text for people: rich renderables, which the command line prints."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from corgi.reporting import wording
from corgi.reporting.document import (
    AttackDocument,
    CamDocument,
    CurveDocument,
    EngineDocument,
    ExpectedDocument,
    InspectDocument,
    Pixel,
    RadiiDocument,
    SubjectDocument,
    VerifyDocument,
    WitnessDocument,
)
from corgi.reporting.wording import class_label, round_down, round_up
from corgi.results import Status
from corgi.train.task import TrainingReport
from corgi.types import Norm

_STYLES = {
    Status.CERTIFIED: "bold green",
    Status.PROVED: "bold green",
    Status.REFUTED: "bold red",
    Status.UNKNOWN: "bold yellow",
    Status.TIME_LIMIT: "bold yellow",
    Status.INTERRUPTED: "bold yellow",
}


def verify_text(document: VerifyDocument) -> RenderableType:
    """What was asked, what is certified, what the attack found, the numbers, and what none of it says."""
    certified, status = document.certified_radius > 0, Status(document.status)
    claim = document.guarantee or wording.no_guarantee(document)
    parts: list[RenderableType] = [
        _headline(document, wording.headline(status).upper(), _STYLES[status]),
        Text(),
        Text(claim, style="bold"),
    ]
    if status in (Status.TIME_LIMIT, Status.INTERRUPTED) and certified:
        parts.append(Text(f"The search did not finish, so the radius may be larger: {document.reason}."))
    if document.label is not None:
        parts.append(Text(document.label.guarantee, style="bold"))
    parts.append(Text(wording.finding(document)))
    parts += [Text(), Padding(_numbers(document), (0, 0, 0, 2)), Text()]
    if document.method_note:
        parts.append(Text(f"Less than {document.method}: {document.method_note}.", style="dim"))
    if certified:
        parts.append(Text(document.caveat, style="dim"))
    return Group(*parts)


def _headline(document: VerifyDocument | CamDocument, status: str, style: str) -> Text:
    """How it ended, the class, whether it is the predicted one, and the subject."""
    predicted = "predicted" if document.class_id == document.predicted_class else "not predicted"
    if document.class_id != document.predicted_class:
        predicted += f": onnxruntime says class {document.predicted_class}"
    label = class_label(document.class_id, document.class_name)
    text = Text(f"{status}  " if status else "", style=style)
    text.append(f"{label}, {predicted}\n", style="not bold default" if status else "bold")
    text.append(_subject(document), style="not bold dim default")
    return text


def _numbers(document: VerifyDocument) -> Table:
    table, norm = _table(), Norm(document.norm).label
    how = f"deterministic: {document.method}, {document.form} form, {document.engine}"
    _row(table, f"certified {norm} radius", _radius(round_down, document.certified_radius), how)
    if document.uncertified_radius is not None:
        tried = _radius(round_up, document.uncertified_radius)
        _row(table, "not certified at", tried, "smallest radius tried")
    _attack_rows(table, document)
    label, decision, exact = document.label, document.recheck, document.exact
    if label is not None:
        how = f"deterministic, {label.evaluations} bound evaluations, {label.seconds:.1f} s"
        _row(table, "label radius", _radius(round_down, label.certified_radius), how)
    if decision is not None:
        margin = f"margin {decision.margin:.3g} at {round_down(decision.radius)}"
        explained = f"rounding explains at most {decision.rounding_bound:.2g}"
        _row(table, "float64 decision", margin, explained)
    height, width = document.map_shape
    ranks = f"k = {document.k}" + (f", k2 = {document.k2}" if document.k2 != document.k else "")
    gap = "tie" if document.tie else f"gap {document.gap:.3g} at rank {document.k}"
    _row(table, "map", f"{height} x {width} pixels, {ranks}", gap)
    if exact is not None and exact.decisions:
        work = f"{exact.decisions} margins decided, {exact.nodes} sub-problems"
        _row(table, "exact", work, f"{exact.decider}, {exact.radii} radii, {exact.seconds:.1f} s")
    gradients = 0 if document.attack is None else document.attack.gradients
    bounds = f"{document.evaluations} bound evaluations"
    _row(table, "work", bounds, f"{gradients} gradients of the attack")
    certify = f"{document.certify_seconds:.1f} s of it for the certificate"
    _row(table, "time", f"{document.seconds:.1f} s", certify)
    return table


def _attack_rows(table: Table, document: VerifyDocument) -> None:
    attack, name = document.attack, f"attack {Norm(document.norm).label} radius"
    if attack is None:
        _row(table, name, "-", "no attack was run")
        return
    if attack.witness is None:
        note = f"empirical: {attack.name} found nothing up to {round_down(attack.searched_up_to)}"
        _row(table, name, "-", note)
        return
    note = f"empirical: {attack.name}" + (", label kept on demand" if attack.keeps_label else "")
    _row(table, name, _radius(round_up, attack.witness.radius), note)
    if document.ratio is not None:
        _row(table, "attack / certified", f"{document.ratio:.3f}", wording.bracket_note(document))
    _witness_row(table, attack.witness)


def _witness_row(table: Table, witness: WitnessDocument) -> None:
    kept = "the same" if witness.same_label else "another one than for the image"
    lost = f"{kept}; lost [row, column]: {_pixels(witness.lost)}"
    _row(table, "witness", f"class {witness.class_id}", lost)


def attack_text(document: AttackDocument) -> RenderableType:
    """The answer of `corgi attack`."""
    attack, witness, norm = document.attack, document.attack.witness, Norm(document.norm)
    table = _table()
    if witness is None:
        head = Text("NO WITNESS", style="bold yellow")
        nothing = wording.nothing_found(attack.searched_up_to, norm)
        claim = wording.tie_at(document.k) if document.tie else nothing
    else:
        head = Text("WITNESS FOUND", style="bold red")
        claim = wording.broken(witness.radius, len(witness.lost), document.k, document.k2, norm)
        name = f"attack {norm.label} radius"
        _row(table, name, _radius(round_up, witness.radius), f"empirical: {attack.name}")
        _witness_row(table, witness)
        _row(table, "past the decision by", f"{witness.margin:.3g}", "map values, onnxruntime")
    _row(table, "work", f"{attack.gradients} gradients", f"{attack.seconds:.1f} s")
    head.append(f"  {class_label(document.class_id, document.class_name)}\n", style="not bold default")
    head.append(_subject(document), style="not bold dim default")
    return Group(head, Text(), Text(claim, style="bold"), Text(), Padding(table, (0, 0, 0, 2)))


def cam_text(document: CamDocument) -> RenderableType:
    """The answer of `corgi cam`."""
    height, width = document.map_shape
    values = [value for row in document.map for value in row]
    table = _table()
    _row(table, "map", f"{height} x {width} pixels", f"values from {min(values):.4g} to {max(values):.4g}")
    gap = wording.tie_at(document.k) if document.tie else f"gap to rank {document.k + 1}: {document.gap:.4g}"
    _row(table, "k", str(document.k), gap)
    _row(table, "largest pixels", "[row, column]", _pixels(document.top_k))
    return Group(_headline(document, "", ""), Text(), Padding(table, (0, 0, 0, 2)))


def radii_text(document: RadiiDocument, claim: str) -> RenderableType:
    """The answer of `corgi radii`."""
    table = _series("rank", "[row, column]", "certified", "attack", "ratio")
    for found in document.searched:
        side = "" if found.inside else "(outside) "
        table.add_row(*(Text(cell) for cell in (f"{side}{found.rank}", _pixels((found.pixel,)),
            *_radii_cells(found.certified_radius, found.attack_radius), found.reason)))  # fmt: skip
    return Group(*_series_head(document, "PIXEL RADII", claim), table)


def curve_text(document: CurveDocument, claim: str) -> RenderableType:
    """The answer of `corgi curve`."""
    parts = _series_head(document, "RADII AGAINST RANKS", claim)
    for points in (document.by_k, document.by_k2):
        if not points:
            continue
        table = _series("k", "k2", "gap", "by bounds", "certified", "attack", "ratio")
        for point in points:
            radii = _radii_cells(point.certified_radius, point.attack_radius)
            cells = (
                f"{point.k}",
                f"{point.k2}",
                f"{point.relative_gap:.2%}",
                round_down(point.bounds_radius),
            )
            table.add_row(*(Text(cell) for cell in (*cells, *radii, point.reason)))
        parts += [table, Text()]
    return Group(*parts)


def _subject(document: SubjectDocument) -> str:
    """Which model, image and map a document is about."""
    return wording.subject(document.model, document.image, document.map_kind, document.loaded_as)


def _series(*titles: str) -> Table:
    """A table of numbers; a last column says why certificate and attack are not closer."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", style="dim", overflow="fold", max_width=36)
    return table


def _series_head(document: RadiiDocument | CurveDocument, title: str, claim: str) -> list[RenderableType]:
    stopped = ", stopped early" if document.interrupted else ""
    head = Text(f"{title}{stopped}", style="bold yellow" if stopped else "bold green")
    head.append(
        f"  {class_label(document.class_id, document.class_name)}, k = {document.k}\n", "not bold default"
    )
    head.append(_subject(document), style="not bold dim default")
    return [head, Text(), Text(claim, style="bold"), Text()]


def _radii_cells(certified: float, attacked: float | None) -> tuple[str, str, str]:
    ratio = "-" if attacked is None or certified <= 0 else f"{attacked / certified:.3f}"
    return round_down(certified), "-" if attacked is None else round_up(attacked), ratio


def inspect_text(document: InspectDocument) -> RenderableType:
    """The answer of `corgi inspect`."""
    table = _table(notes=False)
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
    for name, value in rows.items():
        _row(table, name, value)
    return Group(Text(document.model, style="bold"), Text(), Padding(table, (0, 0, 0, 2)))


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
    table = _table(notes=False)
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
    for name, value in rows.items():
        _row(table, name, value)
    return table


def _classes(document: InspectDocument) -> str:
    if document.class_names is None:
        return f"{document.classes}, no names in the file"
    return f"{document.classes}: " + ", ".join(f"{i} {name}" for i, name in enumerate(document.class_names))


def _table(*, notes: bool = True) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    if notes:
        table.add_column(style="dim", overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    """Add cells as they are: a file name or a pixel in brackets is not rich markup."""
    table.add_row(*(Text(cell) for cell in cells))


def _radius(rounded: wording.Rounding, value: float) -> str:
    return f"{rounded(value)} ({rounded(value * 255)}/255)"


def _pixels(places: tuple[Pixel, ...]) -> str:
    return " ".join(f"[{row}, {column}]" for row, column in places)
