"""The JSON documents corgi publishes. Their schemas: docs/schema, `corgi schema`.

A field is never removed or given another meaning within one `schema_version`; new fields may be added. Floats
are finite by type: a NaN or an infinity cannot enter a document. Radii are in the pixel scale [0, 1] of the
network input; `*_255` fields are the same numbers in steps of 8-bit pictures. Pixels of the map
are [row, column], largest value first.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Self

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
from corgi.reporting.broken import shows
from corgi.reporting.versions import Versions, installed_versions
from corgi.results import EmpiricalBound, MapKind, Mapped, SmoothResult, Statement, Status, VerifyResult

if TYPE_CHECKING:
    from corgi.certify.attack import AttackResult
    from corgi.certify.curve import Curve, CurvePoint
    from corgi.certify.expected import EngineReport
    from corgi.certify.explain import Explanation
    from corgi.certify.radii import PixelRadii

SCHEMA_VERSION: Literal["1"] = "1"
"""Of documents that speak of the k largest pixels, or of no property at all."""

NormName = Literal["linf", "l2", "l1"]
"""A `corgi.types.Norm` as documents spell it."""

Pixel = tuple[NonNegativeInt, NonNegativeInt]


class Document(BaseModel):
    """A part of what is published, or all of it."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    @classmethod
    def of(cls, *sources: object, **given: object) -> Self:
        """The fields given; every other is that of its name of the first source that has one.

        `X_255` is computed from X.

        Raises:
            pydantic.ValidationError: no source has it, or a number is not finite.
        """
        found: dict[str, Any] = {}
        for name in cls.model_fields:
            if name in given:
                found[name] = given[name]
            elif (exact := name.removesuffix("_255")) != name:
                found[name] = None if found[exact] is None else found[exact] * 255
            elif (source := next((s for s in sources if hasattr(s, name)), None)) is not None:
                found[name] = getattr(source, name)
        plain = {name: value.value if isinstance(value, Enum) else value for name, value in found.items()}
        return cls.model_validate(plain, from_attributes=True)


class _MapDocument(Document):
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


class PropertyDocument(Document):
    """What was asked of the map, and whether it holds at the image itself (null: rounding hides it).

    `region`: the map pixels of its region, null where it has none; `region_count`: how many. `parameters`:
    what else it was asked with; of one of several properties `overlap.keep`.
    """

    name: str
    subject: str
    verb: str
    statement: str
    holds_at_image: bool | None
    region_count: NonNegativeInt | None
    region: tuple[Pixel, ...] | None
    parameters: dict[str, NonNegativeInt | FiniteFloat | tuple[Pixel, ...]]


class AskingDocument(SubjectDocument):
    """What documents about a property of a map begin with.

    Version 2 has the property. In version 1, which is still read, it was always that the k largest pixels
    stay among the k2 largest; now it is that only where `property.name` is `topk`.
    """

    schema_version: Literal["1", "2"] = "2"  # type: ignore[assignment]
    property: PropertyDocument | None = None


class DecidedDocument(Document):
    """A radius that was to be decided: proved, refuted by a witness within it, or open."""

    radius: FiniteFloat
    radius_255: FiniteFloat
    status: Literal["proved", "refuted", "open"]


class RecheckDocument(Document):
    """The final decision in float64: at `radius`, `margin` exceeds `rounding_bound`."""

    radius: FiniteFloat
    margin: FiniteFloat
    rounding_bound: FiniteFloat


class WitnessDocument(Document):
    """An image that breaks the property, confirmed by onnxruntime on the model file; `shows`: how."""

    radius: FiniteFloat
    class_id: NonNegativeInt
    same_label: bool
    lost: tuple[Pixel, ...]
    margin: FiniteFloat
    shows: str = ""


class AttackDetails(Document):
    """What an attack did. Empirical: never a guarantee."""

    name: str
    keeps_label: bool
    searched_up_to: FiniteFloat
    gradients: NonNegativeInt
    seconds: FiniteFloat
    witness: WitnessDocument | None


class ExactDocument(Document):
    """What deciding margins exactly took, and whether certificate and witness met."""

    decider: str
    gap: FiniteFloat
    closed: bool
    reason: str
    decisions: NonNegativeInt
    nodes: NonNegativeInt
    radii: NonNegativeInt
    seconds: FiniteFloat


class LabelDocument(Document):
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


class VerifyDocument(AskingDocument):
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
    radii: tuple[DecidedDocument, ...] = ()
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


class AttackDocument(AskingDocument):
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


class ExpectedDocument(Document):
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


class EngineDocument(Document):
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


class PixelRadiusDocument(Document):
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


class CurvePointDocument(Document):
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


def verify_document(result: VerifyResult, versions: Versions | None = None) -> VerifyDocument:
    """The document of a verification.

    Raises:
        pydantic.ValidationError: a number of the result is not finite.
    """
    certificate, attack = result.certificate, result.attack
    return VerifyDocument.of(
        result,
        certificate,
        **named(result),
        property=property_document(certificate.statement, result, holds=result.holds),
        radii=tuple(_decided(radius, status) for radius, status in result.radii),
        pixel_scale=wording.PIXEL_SCALE,
        certified_radius=certificate.radius,
        attack_radius=None if attack is None else attack.radius,
        ratio=wording.ratio(result),
        method_note=certificate.note,
        certify_seconds=certificate.seconds,
        certificate_status=certificate.status.value,
        certificate_reason=certificate.reason,
        guarantee=wording.guarantee(result),
        caveat=wording.caveat(result),
        label=_label(result),
        recheck=certificate.decision,
        attack=attack
        and _attack(attack, result, result.predicted_class, certificate.statement, certificate.k2),
        versions=versions or installed_versions(),
    )


def attack_document(
    result: AttackResult, image_name: str, versions: Versions | None = None
) -> AttackDocument:
    """The document of an attack on the top-k set of a map."""
    explained = result.explanation
    asked = result.asked.statement(explained.top.k)
    return AttackDocument.of(
        result,
        explained,
        **subject(explained, image_name),
        property=property_document(asked, explained, holds=explained.holds(result.asked)),
        attack_radius=result.found.radius,
        attack=_attack(result.found, explained, explained.predicted_class, asked, result.k2),
        versions=versions or installed_versions(),
    )


def _engine(report: EngineReport) -> EngineDocument:
    return EngineDocument.of(
        report,
        bounds=report.refusal is None,
        reason=None if report.refusal is None else report.refusal.message,
        expected=tuple(ExpectedDocument.of(one, one.taken) for one in report.expected),
    )


def cam_document(explanation: Explanation, image_name: str, versions: Versions | None = None) -> CamDocument:
    """The document of a map and its top-k set."""
    return CamDocument.of(
        explanation,
        **subject(explanation, image_name),
        map=explanation.cam.tolist(),
        versions=versions or installed_versions(),
    )


def inspect_document(
    network: Network, engines: tuple[EngineReport, ...], versions: Versions | None = None
) -> InspectDocument:
    """The document of a loaded network, and of what the engines make of it."""
    head, graph = network.head, network.graph
    documents = {report.engine: _engine(report) for report in engines}
    producer = {step.output: str(step) for step in network.trunk.steps}
    return InspectDocument.of(
        network,
        head,
        graph,
        model=encodable(str(network.path)),
        model_sha256=network.sha256,
        nodes=len(graph.nodes),
        operators=dict(sorted(Counter(node.op for node in graph.nodes).items())),
        feature_map=head.feature,
        feature_node=producer.get(head.feature, "the network's input"),
        activation=str(head.activation),
        loaded_as=graph.notes,
        gate="passed",  # a network that does not equal onnxruntime cannot be loaded
        gate_tolerance=TOLERANCE,
        lirpa=documents["lirpa"].bounds,
        lirpa_reason=documents["lirpa"].reason,
        engines=tuple(documents.values()),
        versions=versions or installed_versions(),
    )


def radii_document(radii: PixelRadii, image_name: str, versions: Versions | None = None) -> RadiiDocument:
    """The document of the radii of all pixels."""
    explained = radii.explanation
    return RadiiDocument.of(
        radii,
        explained,
        **subject(explained, image_name),
        certified=radii.certified.tolist(),
        searched=tuple(
            PixelRadiusDocument.of(
                found,
                pixel=explained.places([found.pixel])[0],
                inside=found.rank <= explained.top.k,
                certified_radius=found.certified,
                attack_radius=found.attacked,
            )
            for found in radii.searched
        ),
        versions=versions or installed_versions(),
    )


def curve_document(curve: Curve, image_name: str, versions: Versions | None = None) -> CurveDocument:
    """The document of radii against ranks."""
    best = curve.recommended
    return CurveDocument.of(
        curve,
        **subject(curve.explanation, image_name),
        by_k=tuple(map(_point, curve.by_k)),
        by_k2=tuple(map(_point, curve.by_k2)),
        recommended_k=None if best is None else best.k,
        versions=versions or installed_versions(),
    )


def _point(point: CurvePoint) -> CurvePointDocument:
    certificate = point.result.certificate
    return CurvePointDocument.of(
        point,
        point.result,
        relative_gap=point.gap,
        bounds_radius=point.bounds,
        certified_radius=point.certified,
        attack_radius=point.attacked,
        reason=wording.why_not_closer(certificate.exact, point.result.reason),
    )


def to_json(document: BaseModel) -> str:
    """A document as indented JSON with a final newline."""
    return document.model_dump_json(indent=2) + "\n"


def named(result: VerifyResult | SmoothResult) -> dict[str, object]:
    """Names of files, which may be no text, and how the model was read."""
    model, image = encodable(str(result.model)), encodable(result.image_name)
    return {"model": model, "image": image, "loaded_as": result.notes}


def subject(explained: Explanation, image_name: str) -> dict[str, object]:
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


def property_document(asked: Statement, mapped: Mapped, *, holds: bool | None) -> PropertyDocument:
    """What was asked of a map."""
    region = None if asked.region is None else mapped.places(asked.region)
    return PropertyDocument.of(
        asked,
        statement=str(asked),
        holds_at_image=holds,
        region_count=None if region is None else len(region),
        region=region,
        parameters=dict(asked.parameters),
    )


def _decided(radius: float, status: Status) -> DecidedDocument:
    named = "open" if status is Status.UNKNOWN else status.value
    return DecidedDocument.of(radius=radius, status=named)


def _attack(
    attack: EmpiricalBound, attacked: Mapped, predicted_class: int, asked: Statement, k2: int
) -> AttackDetails:
    """What an attack did, for the map it attacked and the class predicted for the original image."""
    witness = attack.witness
    document = witness and WitnessDocument.of(
        witness,
        same_label=witness.class_id == predicted_class,
        lost=attacked.places(witness.lost),
        shows=shows(asked, attacked, witness.cam, k2),
    )
    return AttackDetails.of(attack, name=attack.attack, witness=document)


def _label(result: VerifyResult) -> LabelDocument | None:
    label = result.label
    if label is None:
        return None
    return LabelDocument.of(
        label,
        class_id=label.label,
        certified_radius=label.radius,
        joint_radius=result.joint_radius,
        guarantee=wording.label_guarantee(result) or "",
    )
