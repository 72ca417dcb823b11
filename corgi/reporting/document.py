"""The JSON documents corgi publishes. Their schemas: docs/schema, `corgi schema`.

A field is never removed or given another meaning within one `schema_version`; new fields may be added. Floats
are finite by type: a NaN or an infinity cannot enter a document. Radii are in the pixel scale [0, 1] of the
network input; `*_255` fields are the same numbers in steps of 8-bit pictures. Pixels of the map
are [row, column], largest value first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from corgi.errors import encodable
from corgi.network.gate import TOLERANCE
from corgi.network.network import Network
from corgi.reporting import wording
from corgi.reporting.versions import Versions
from corgi.results import Decision, EmpiricalBound, FloatArray, MapKind, VerifyResult, Witness

if TYPE_CHECKING:
    from corgi.certify.attack import AttackResult
    from corgi.certify.curve import Curve, CurvePoint
    from corgi.certify.expected import EngineReport
    from corgi.certify.explain import Explanation
    from corgi.certify.radii import PixelRadii

SCHEMA_VERSION: Literal["1"] = "1"

NormName = Literal["linf", "l2", "l1"]
"""A `corgi.types.Norm` as documents spell it."""

Pixel = tuple[NonNegativeInt, NonNegativeInt]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class _MapDocument(_Document):
    """What documents about a map begin with: which map, and how the file was read where not as it stands."""

    map_kind: MapKind = MapKind.CAM
    loaded_as: tuple[str, ...] = ()


class SubjectDocument(_MapDocument):
    """What documents about the map of one image begin with."""

    schema_version: Literal["1"] = SCHEMA_VERSION
    kind: str
    model: str
    model_sha256: str
    image: str
    class_id: NonNegativeInt
    class_name: str | None
    predicted_class: NonNegativeInt
    k: PositiveInt


class RecheckDocument(_Document):
    """The final decision in float64: at `radius`, `margin` exceeds `rounding_bound`."""

    radius: FiniteFloat
    margin: FiniteFloat
    rounding_bound: FiniteFloat


class WitnessDocument(_Document):
    """An image that breaks the property, confirmed by onnxruntime on the model file."""

    radius: FiniteFloat
    class_id: NonNegativeInt
    same_label: bool
    lost: tuple[Pixel, ...]
    margin: FiniteFloat


class AttackDetails(_Document):
    """What an attack did. Empirical: never a guarantee."""

    name: str
    keeps_label: bool
    searched_up_to: FiniteFloat
    gradients: NonNegativeInt
    seconds: FiniteFloat
    witness: WitnessDocument | None


class ExactDocument(_Document):
    """What deciding margins exactly took, and whether certificate and witness met."""

    decider: str
    gap: FiniteFloat
    closed: bool
    reason: str
    decisions: NonNegativeInt
    nodes: NonNegativeInt
    radii: NonNegativeInt
    seconds: FiniteFloat


class LabelDocument(_Document):
    """The predicted class's own certificate, and the radius within which map and label both stay."""

    class_id: NonNegativeInt
    certified_radius: FiniteFloat
    certified_radius_255: FiniteFloat
    uncertified_radius: FiniteFloat | None
    joint_radius: FiniteFloat
    joint_radius_255: FiniteFloat
    status: Literal["certified", "proved", "unknown", "time_limit", "interrupted"]
    reason: str
    guarantee: str
    evaluations: NonNegativeInt
    seconds: FiniteFloat


class VerifyDocument(SubjectDocument):
    """The answer of `corgi verify`."""

    kind: Literal["verify"] = "verify"
    k2: PositiveInt
    norm: NormName
    eps: FiniteFloat | None
    pixel_scale: str
    certified_radius: FiniteFloat
    certified_radius_255: FiniteFloat
    uncertified_radius: FiniteFloat | None
    uncertified_radius_255: FiniteFloat | None
    attack_radius: FiniteFloat | None
    attack_radius_255: FiniteFloat | None
    ratio: FiniteFloat | None
    method: str
    method_note: str
    form: str
    engine: str
    evaluations: NonNegativeInt
    seconds: FiniteFloat
    certify_seconds: FiniteFloat
    seed: int
    status: Literal["certified", "proved", "refuted", "unknown", "time_limit", "interrupted"]
    reason: str
    certificate_status: Literal["certified", "proved", "unknown", "time_limit", "interrupted"]
    certificate_reason: str
    tie: bool
    gap: FiniteFloat
    map_shape: tuple[PositiveInt, PositiveInt]
    top_k: tuple[Pixel, ...]
    guarantee: str | None
    caveat: str
    recheck: RecheckDocument | None
    exact: ExactDocument | None
    label: LabelDocument | None = None
    attack: AttackDetails | None
    versions: Versions


class CamDocument(SubjectDocument):
    """The answer of `corgi cam`."""

    kind: Literal["cam"] = "cam"
    tie: bool
    gap: FiniteFloat
    map_shape: tuple[PositiveInt, PositiveInt]
    top_k: tuple[Pixel, ...]
    map: tuple[tuple[FiniteFloat, ...], ...]
    versions: Versions


class AttackDocument(SubjectDocument):
    """The answer of `corgi attack`: an upper bound on the exact radius, or nothing."""

    kind: Literal["attack"] = "attack"
    k2: PositiveInt
    norm: NormName
    eps: FiniteFloat | None
    pixel_scale: str = wording.PIXEL_SCALE
    attack_radius: FiniteFloat | None
    attack_radius_255: FiniteFloat | None
    tie: bool
    map_shape: tuple[PositiveInt, PositiveInt]
    top_k: tuple[Pixel, ...]
    seed: int
    attack: AttackDetails
    versions: Versions


class ExpectedDocument(_Document):
    """What one bound of the whole map will take, about; at least, where it was not found out to the end.

    `bytes`: of the whole process, at most.
    """

    radius: PositiveFloat
    rows: NonNegativeInt
    multiply_adds: NonNegativeFloat
    seconds: NonNegativeFloat
    complete: bool
    shortened: bool
    bytes: PositiveInt


class EngineDocument(_Document):
    """Whether an engine can bound the network; if not, `reason` says why, else it is null."""

    engine: str
    bounds: bool
    reason: str | None
    expected: tuple[ExpectedDocument, ...]


class InspectDocument(_MapDocument):
    """The answer of `corgi inspect`: what corgi recognised in a model file."""

    schema_version: Literal["1"] = SCHEMA_VERSION
    kind: Literal["inspect"] = "inspect"
    model: str
    model_sha256: str
    opset: PositiveInt
    nodes: PositiveInt
    operators: dict[str, PositiveInt]
    input_name: str
    input_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    feature_map: str
    feature_node: str
    filters: PositiveInt
    map_shape: tuple[PositiveInt, PositiveInt]
    pooling: str
    dense: str
    activation: str
    classes: PositiveInt
    class_names: tuple[str, ...] | None
    preprocess: str | None
    gate: Literal["passed"]
    gate_tolerance: FiniteFloat
    lirpa: bool
    lirpa_reason: str | None
    engines: tuple[EngineDocument, ...]
    versions: Versions


class _SeriesDocument(SubjectDocument):
    """What documents of many radii of one map begin with."""

    norm: NormName
    pixel_scale: str = wording.PIXEL_SCALE


class PixelRadiusDocument(_Document):
    """One pixel that was searched by itself."""

    pixel: Pixel
    rank: PositiveInt
    inside: bool
    certified_radius: FiniteFloat
    attack_radius: FiniteFloat | None
    reason: str


class RadiiDocument(_SeriesDocument):
    """The answer of `corgi radii`: within which radius every pixel stays on its side of rank k."""

    kind: Literal["radii"] = "radii"
    map_shape: tuple[PositiveInt, PositiveInt]
    top_k: tuple[Pixel, ...]
    certified: tuple[tuple[FiniteFloat, ...], ...]
    searched: tuple[PixelRadiusDocument, ...]
    interrupted: bool
    caveat: str = wording.CAVEAT
    seconds: FiniteFloat
    versions: Versions


class CurvePointDocument(_Document):
    """One pair of ranks."""

    k: PositiveInt
    k2: PositiveInt
    relative_gap: FiniteFloat
    bounds_radius: FiniteFloat
    certified_radius: FiniteFloat
    attack_radius: FiniteFloat | None
    status: str
    reason: str
    seconds: FiniteFloat


class CurveDocument(_SeriesDocument):
    """The answer of `corgi curve`: radii against k and against k2."""

    kind: Literal["curve"] = "curve"
    by_k: tuple[CurvePointDocument, ...]
    by_k2: tuple[CurvePointDocument, ...]
    recommended_k: PositiveInt | None
    interrupted: bool
    caveat: str = wording.CAVEAT
    seconds: FiniteFloat
    versions: Versions


def verify_document(result: VerifyResult, versions: Versions) -> VerifyDocument:
    """The document of a verification.

    Raises:
        pydantic.ValidationError: a number of the result is not finite.
    """
    certificate = result.certificate
    attacked = None if result.attack is None else result.attack.radius
    return VerifyDocument(
        map_kind=result.map_kind,
        loaded_as=result.notes,
        model=encodable(str(result.model)),
        model_sha256=result.model_sha256,
        image=encodable(result.image_name),
        class_id=result.class_id,
        class_name=result.class_name,
        predicted_class=result.predicted_class,
        k=certificate.k,
        k2=certificate.k2,
        norm=certificate.norm.value,
        eps=result.eps,
        pixel_scale=wording.PIXEL_SCALE,
        certified_radius=certificate.radius,
        certified_radius_255=certificate.radius * 255,
        uncertified_radius=certificate.uncertified_radius,
        uncertified_radius_255=_in_255(certificate.uncertified_radius),
        attack_radius=attacked,
        attack_radius_255=_in_255(attacked),
        ratio=wording.ratio(result),
        method=certificate.method,
        method_note=certificate.note,
        form=certificate.form,
        engine=certificate.engine,
        evaluations=certificate.evaluations,
        seconds=result.seconds,
        certify_seconds=certificate.seconds,
        seed=result.seed,
        status=result.status.value,
        reason=result.reason,
        certificate_status=certificate.status.value,  # type: ignore[arg-type]  # never REFUTED, see its type
        certificate_reason=certificate.reason,
        tie=result.top.tie,
        gap=result.top.gap,
        map_shape=_shape(result.cam),
        top_k=pixels(result.top.pixels, result.cam),
        guarantee=wording.guarantee(result),
        caveat=wording.caveat(result),
        label=_label(result),
        recheck=_recheck(certificate.decision),
        exact=None if certificate.exact is None else ExactDocument(**asdict(certificate.exact)),
        attack=None
        if result.attack is None
        else attack_details(result.attack, result.cam, result.predicted_class),
        versions=versions,
    )


def attack_details(attack: EmpiricalBound, cam: FloatArray, predicted_class: int) -> AttackDetails:
    """What an attack did, for the map [h, w] it attacked and the class predicted for the original image."""
    witness = attack.witness
    return AttackDetails(
        name=attack.attack,
        keeps_label=attack.keeps_label,
        searched_up_to=attack.searched_up_to,
        gradients=attack.gradients,
        seconds=attack.seconds,
        witness=None if witness is None else _witness(witness, cam, predicted_class),
    )


def attack_document(result: AttackResult, image_name: str, versions: Versions) -> AttackDocument:
    """The document of an attack on the top-k set of a map."""
    explained, attack = result.explanation, result.found
    top, cam = explained.top, explained.cam
    return AttackDocument(
        **subject(explained, image_name),
        k2=result.k2,
        norm=result.norm.value,
        eps=result.eps,
        attack_radius=attack.radius,
        attack_radius_255=_in_255(attack.radius),
        tie=top.tie,
        map_shape=_shape(cam),
        top_k=pixels(top.pixels, cam),
        seed=result.seed,
        attack=attack_details(attack, cam, explained.predicted_class),
        versions=versions,
    )


def _engine(report: EngineReport) -> EngineDocument:
    return EngineDocument(
        engine=report.engine,
        bounds=report.refusal is None,
        reason=None if report.refusal is None else report.refusal.message,
        expected=tuple(
            ExpectedDocument(
                radius=one.radius,
                rows=one.taken.rows,
                multiply_adds=one.taken.multiply_adds,
                seconds=one.taken.seconds,
                complete=one.taken.complete,
                shortened=one.taken.shortened,
                bytes=one.taken.bytes,
            )
            for one in report.expected
        ),
    )


def cam_document(explanation: Explanation, image_name: str, versions: Versions) -> CamDocument:
    """The document of a map and its top-k set."""
    top, cam = explanation.top, explanation.cam
    return CamDocument(
        **subject(explanation, image_name),
        tie=top.tie,
        gap=top.gap,
        map_shape=_shape(cam),
        top_k=pixels(top.pixels, cam),
        map=tuple(tuple(float(value) for value in row) for row in cam),
        versions=versions,
    )


def inspect_document(
    network: Network, engines: tuple[EngineReport, ...], versions: Versions
) -> InspectDocument:
    """The document of a loaded network, and of what the engines make of it."""
    head = network.head
    documents = {report.engine: _engine(report) for report in engines}
    operators: dict[str, int] = {}
    for node in network.graph.nodes:
        operators[node.op] = operators.get(node.op, 0) + 1
    producer = {step.output: str(step) for step in network.trunk.steps}
    return InspectDocument(
        model=encodable(str(network.path)),
        model_sha256=network.sha256,
        opset=network.graph.opset,
        nodes=len(network.graph.nodes),
        operators=dict(sorted(operators.items())),
        input_name=network.graph.input_name,
        input_shape=network.input_shape,
        feature_map=head.feature,
        feature_node=producer.get(head.feature, "the network's input"),
        filters=head.filters,
        map_shape=head.map_shape,
        pooling=head.pooling,
        dense=head.dense,
        activation=str(head.activation),
        map_kind=network.map_kind,
        loaded_as=network.graph.notes,
        classes=head.classes,
        class_names=network.class_names,
        preprocess=network.preprocess,
        gate="passed",  # a network that does not equal onnxruntime cannot be loaded
        gate_tolerance=TOLERANCE,
        lirpa=documents["lirpa"].bounds,
        lirpa_reason=documents["lirpa"].reason,
        engines=tuple(documents.values()),
        versions=versions,
    )


def radii_document(radii: PixelRadii, image_name: str, versions: Versions) -> RadiiDocument:
    """The document of the radii of all pixels."""
    explained = radii.explanation
    return RadiiDocument(
        **subject(explained, image_name),
        norm=radii.norm.value,
        map_shape=_shape(explained.cam),
        top_k=pixels(explained.top.pixels, explained.cam),
        certified=tuple(tuple(float(value) for value in row) for row in radii.certified),
        searched=tuple(
            PixelRadiusDocument(
                pixel=pixels([found.pixel], explained.cam)[0],
                rank=found.rank,
                inside=found.rank <= explained.top.k,
                certified_radius=found.certified,
                attack_radius=found.attacked,
                reason=found.reason,
            )
            for found in radii.searched
        ),
        interrupted=radii.interrupted,
        seconds=radii.seconds,
        versions=versions,
    )


def curve_document(curve: Curve, image_name: str, versions: Versions) -> CurveDocument:
    """The document of radii against ranks."""
    explained = curve.explanation

    def points(found: Sequence[CurvePoint]) -> tuple[CurvePointDocument, ...]:
        return tuple(
            CurvePointDocument(
                k=point.k,
                k2=point.k2,
                relative_gap=point.gap,
                bounds_radius=point.bounds,
                certified_radius=point.certified,
                attack_radius=point.attacked,
                status=point.result.status.value,
                reason=wording.why_not_closer(point.result),
                seconds=point.result.seconds,
            )
            for point in found
        )

    return CurveDocument(
        **subject(explained, image_name),
        norm=curve.norm.value,
        by_k=points(curve.by_k),
        by_k2=points(curve.by_k2),
        recommended_k=None if curve.recommended is None else curve.recommended.k,
        interrupted=curve.interrupted,
        seconds=curve.seconds,
        versions=versions,
    )


def to_json(document: BaseModel) -> str:
    """A document as indented JSON with a final newline."""
    return document.model_dump_json(indent=2) + "\n"


def pixels(flat: Sequence[int], cam: FloatArray) -> tuple[Pixel, ...]:
    """Flat (row-major) indices of a map [h, w] as [row, column]."""
    width = cam.shape[1]
    return tuple((i // width, i % width) for i in flat)


def subject(explained: Explanation, image_name: str) -> dict[str, Any]:
    """What a document about one map says of the model, the image and the class."""
    network = explained.network
    return {
        "model": encodable(str(network.path)),
        "model_sha256": network.sha256,
        "image": encodable(image_name),
        "class_id": explained.class_id,
        "class_name": explained.class_name,
        "predicted_class": explained.predicted_class,
        "k": explained.top.k,
        "map_kind": network.map_kind,
        "loaded_as": network.graph.notes,
    }


def _witness(witness: Witness, cam: FloatArray, predicted_class: int) -> WitnessDocument:
    return WitnessDocument(
        radius=witness.radius,
        class_id=witness.class_id,
        same_label=witness.class_id == predicted_class,
        lost=pixels(witness.lost, cam),
        margin=witness.margin,
    )


def _label(result: VerifyResult) -> LabelDocument | None:
    label, joint = result.label, result.joint_radius
    if label is None or joint is None:
        return None
    return LabelDocument(
        class_id=label.label,
        certified_radius=label.radius,
        certified_radius_255=label.radius * 255,
        uncertified_radius=label.uncertified_radius,
        joint_radius=joint,
        joint_radius_255=joint * 255,
        status=label.status.value,  # type: ignore[arg-type]  # never REFUTED, see its type
        reason=label.reason,
        guarantee=wording.label_guarantee(result) or "",
        evaluations=label.evaluations,
        seconds=label.seconds,
    )


def _recheck(decision: Decision | None) -> RecheckDocument | None:
    if decision is None:
        return None
    return RecheckDocument(
        radius=decision.radius, margin=decision.margin, rounding_bound=decision.rounding_bound
    )


def _shape(cam: FloatArray) -> tuple[int, int]:
    return int(cam.shape[0]), int(cam.shape[1])


def _in_255(radius: float | None) -> float | None:
    return None if radius is None else radius * 255
