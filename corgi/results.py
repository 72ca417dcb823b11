"""What corgi answers: one frozen type a kind of proof, so that no renderer can confuse them.

`DeterministicCertificate` holds for every image in the ball. `EmpiricalBound` is what an attack found: an
upper bound on the exact radius, or nothing. "Unknown" is a status with a reason, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from corgi.types import Norm  # corgi.types loads torch, which results do not need

FloatArray = NDArray[np.float64]
ImageArray = NDArray[np.float32]


class Status(StrEnum):
    """How a question ended."""

    CERTIFIED = "certified"
    """A search found a positive certified radius."""
    PROVED = "proved"
    """The property holds on the whole ball of the radius asked for."""
    REFUTED = "refuted"
    """A witness within the radius asked for breaks the property."""
    UNKNOWN = "unknown"
    """Neither a proof nor a witness; or a certified radius of 0. The reason says why."""
    TIME_LIMIT = "time_limit"
    """Time ran out; the certified radius is the best one until then."""
    INTERRUPTED = "interrupted"
    """The user stopped the search; the certified radius is the best one until then."""


class MapKind(StrEnum):
    """Which map of a network is explained."""

    CAM = "cam"
    """The class activation map: the head's own weights."""
    GRADCAM = "gradcam"
    """Grad-CAM with its weights fixed at the image (`gradcam.py`)."""


@dataclass(frozen=True)
class TopK:
    """The k largest pixels of a map.

    Attributes:
        k: how many.
        pixels: their flat (row-major) indices, largest value first.
        gap: I_[k] - I_[k+1] at the image itself, float64.
        tie: the gap is not larger than float64 rounding can explain, so the set is not unique
            (theory 1.4) and its radius is 0.
    """

    k: int
    pixels: tuple[int, ...]
    gap: float
    tie: bool


@dataclass(frozen=True)
class Recheck:
    """The final decision in float64 (theory 5).

    Attributes:
        radius: the radius that was decided.
        margin: smallest margin lower bound, float64 arithmetic.
        rounding_bound: bound on the rounding error of that margin; the margin exceeds it.
    """

    radius: float
    margin: float
    rounding_bound: float


@dataclass(frozen=True)
class ExactSearch:
    """How margins that bounds leave open were decided.

    Attributes:
        decider: who decided.
        gap: witness radius / certified radius - 1 that was aimed at; closed: whether it was reached.
        reason: why it was not, empty if it was.
        decisions: margins decided; nodes: sub-problems that took; radii: balls decided.
        seconds: wall time.
    """

    decider: str
    gap: float
    closed: bool
    reason: str
    decisions: int = 0
    nodes: int = 0
    radii: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class DeterministicCertificate:
    """The top-k set stays inside the top-k2 for every image of the ball.

    Attributes:
        radius: largest radius certified, in the pixel scale; 0 if none.
        uncertified_radius: smallest radius tried and not certified; None if none was.
        status: CERTIFIED, PROVED, UNKNOWN, TIME_LIMIT or INTERRUPTED.
        reason: why the status is not CERTIFIED or PROVED; empty otherwise.
        method: relaxation used (ibp, crown-ibp, crown, alpha-crown, focus), exact, or how gradients were
            bounded (lipschitz-norms, lipschitz-intervals, lipschitz-rows).
        form: linear form bounded (feature, folded, pairwise).
        engine: name and version of the engine.
        k, k2, norm: the property.
        evaluations: bound evaluations spent, a recheck included.
        recheck: the float64 decision behind `radius`; None if and only if `radius` is 0.
        seconds: wall time.
        exact: what deciding margins exactly took, None if it was not asked for.
        note: what was bounded by less than `method` to save work, empty if nothing was.
    """

    radius: float
    uncertified_radius: float | None
    status: Status
    reason: str
    method: str
    form: str
    engine: str
    k: int
    k2: int
    norm: Norm
    evaluations: int
    recheck: Recheck | None
    seconds: float
    exact: ExactSearch | None = None
    note: str = ""


@dataclass(frozen=True)
class LabelCertificate:
    """The predicted class keeps the largest score for every image of the ball (theory 1.9).

    Attributes:
        label: the class.
        radius: largest radius certified, in the pixel scale; 0 if none.
        uncertified_radius: smallest radius tried and not certified; None if none was.
        status, reason: as of a `DeterministicCertificate`.
        norm: of the ball.
        evaluations: bound evaluations spent; seconds: wall time.
    """

    label: int
    radius: float
    uncertified_radius: float | None
    status: Status
    reason: str
    norm: Norm
    evaluations: int
    seconds: float


@dataclass(frozen=True)
class Witness:
    """An image inside the ball whose map breaks the property, confirmed by onnxruntime.

    Attributes:
        image: [C, H, W] float32 network input.
        radius: its distance from the original image, float64.
        cam: its map [h, w], features by onnxruntime from the original file.
        lost: pixels of the original top-k that are not in its top-k2.
        class_id: class onnxruntime predicts for it.
        margin: how far the map is past the decision, onnxruntime: (k2-k+1)-th largest outside pixel minus
            smallest top-k pixel; > 0.
    """

    image: ImageArray
    radius: float
    cam: FloatArray
    lost: tuple[int, ...]
    class_id: int
    margin: float


@dataclass(frozen=True)
class EmpiricalBound:
    """What an attack found: an upper bound on the exact radius, or nothing. Never a guarantee.

    Attributes:
        witness: the closest witness, or None.
        attack: name of the attack that found it (or of all that ran).
        searched_up_to: largest radius attacked.
        keeps_label: the attack was asked to keep the predicted class.
        gradients: gradient evaluations spent.
        seconds: wall time.
    """

    witness: Witness | None
    attack: str
    searched_up_to: float
    keeps_label: bool
    gradients: int
    seconds: float

    @property
    def radius(self) -> float | None:
        """Distance of the witness; None if there is none."""
        return None if self.witness is None else self.witness.radius


@dataclass(frozen=True)
class VerifyResult:
    """The answer to `corgi verify`.

    Attributes:
        model, model_sha256: the file verified; notes: how it was read, where that is not as it stands.
        map_kind: which map it is.
        image_name: where the image came from.
        image: [C, H, W] float32 network input, after pre-processing.
        class_id, class_name, predicted_class: the explained class, its name if the model carries one, and
            the class onnxruntime predicts.
        cam: the map [h, w], float64.
        top: its top-k set.
        certificate: the proof side; attack: the empirical side, None with --no-attack.
        status, reason: the answer as a whole.
        label: the predicted class's own certificate; None if it was not asked for.
        eps: the radius asked for, None for a search.
        seed: of the attack's random starts.
        seconds: wall time, loading excluded.
    """

    model: Path
    model_sha256: str
    image_name: str
    image: ImageArray
    class_id: int
    class_name: str | None
    predicted_class: int
    cam: FloatArray
    top: TopK
    certificate: DeterministicCertificate
    attack: EmpiricalBound | None
    status: Status
    reason: str
    eps: float | None
    seed: int
    seconds: float
    map_kind: MapKind = MapKind.CAM
    notes: tuple[str, ...] = ()
    label: LabelCertificate | None = None

    @property
    def joint_radius(self) -> float | None:
        """Within which map and label both stay; None if the label was not looked at."""
        return None if self.label is None else min(self.certificate.radius, self.label.radius)
