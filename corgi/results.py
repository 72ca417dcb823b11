"""What corgi answers: one frozen type a kind of proof, so that no renderer can confuse them.

`DeterministicCertificate` holds for every image in the ball. `StatisticalCertificate` does, too, but for its
failure probability. `EmpiricalBound` is what an attack found: an upper bound on the exact radius, or nothing.
"Unknown" is a status with a reason, never an exception.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corgi.terms import Claim as Claim
from corgi.terms import MapKind as MapKind
from corgi.terms import Norm
from corgi.terms import Status as Status
from corgi.types import Where

FloatArray = NDArray[np.float64]
ImageArray = NDArray[np.float32]
Place = tuple[int, int]
"""A pixel of a map: row and column."""

Parameter = int | float | tuple[Place, ...]
"""What a property is asked with."""


def places(flat: Iterable[int], width: int) -> tuple[Place, ...]:
    """Flat (row-major) indices of a map of some width as (row, column)."""
    return tuple((i // width, i % width) for i in flat)


_MOST_SHOWN = 16
"""Entries of a tuple that a repr shows."""


class Brief:
    """Results whose repr is one line: of arrays and long tuples it says how large they are."""

    def __repr__(self) -> str:
        values = ((one.name, getattr(self, one.name)) for one in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{name}={_brief(value)}' for name, value in values)})"


def _brief(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {' x '.join(map(str, value.shape))}>"
    if isinstance(value, tuple) and len(value) > _MOST_SHOWN:
        return f"<{len(value)} entries>"
    if isinstance(value, tuple):
        return f"({', '.join(map(_brief, value))})"
    return repr(value)


@dataclass(frozen=True, repr=False)
class TopK(Brief):
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


class Mapped(Brief):
    """What can be said of a map and its top-k set, whoever holds them."""

    cam: FloatArray
    top: TopK

    @property
    def map_shape(self) -> tuple[int, int]:
        """(h, w) of the map."""
        return int(self.cam.shape[0]), int(self.cam.shape[1])

    @property
    def top_k(self) -> tuple[Place, ...]:
        """The k largest pixels, largest value first."""
        return self.places(self.top.pixels)

    @property
    def tie(self) -> bool:
        """Whether the top-k set is not unique."""
        return self.top.tie

    @property
    def gap(self) -> float:
        """I_[k] - I_[k+1], see `TopK`."""
        return self.top.gap

    def places(self, flat: Iterable[int]) -> tuple[Place, ...]:
        """Flat (row-major) indices of the map as (row, column)."""
        return places(flat, self.cam.shape[1])


@dataclass(frozen=True)
class Decision:
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


@dataclass(frozen=True, repr=False)
class Statement(Brief):
    """A property of a map in words.

    Attributes:
        name: of the property, as on the command line.
        subject, verb: "the 15 largest pixels", "stay the same".
        region: its map pixels, flat indices; None where it has none.
        parameters: what else it was asked with, by name: `keep`, `threshold`; of one of several properties
            `overlap.keep`.
    """

    name: str
    subject: str
    verb: str
    region: tuple[int, ...] | None = None
    parameters: tuple[tuple[str, Parameter], ...] = ()

    def __str__(self) -> str:
        return f"{self.subject} {self.verb}"


@dataclass(frozen=True)
class DeterministicCertificate:
    """A property of the map holds for every image of the ball.

    Attributes:
        radius: largest radius certified, in the pixel scale; 0 if none.
        uncertified_radius: smallest radius tried and not certified; None if none was.
        status: CERTIFIED, PROVED, UNKNOWN, TIME_LIMIT or INTERRUPTED.
        reason: why the status is not CERTIFIED or PROVED; empty otherwise.
        method: relaxation used (ibp, crown-ibp, crown, alpha-crown, focus), exact, or how gradients were
            bounded (lipschitz-norms, lipschitz-intervals, lipschitz-rows).
        form: linear form bounded (feature, folded, pairwise).
        engine: name and version of the engine.
        statement: the property. k, k2: size of the top set, and of that in which it must stay.
        norm: of the ball; where: what may change in it, None for every pixel.
        evaluations: bound evaluations spent.
        decision: the float64 decision behind `radius`; None if and only if `radius` is 0.
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
    statement: Statement
    k: int
    k2: int
    norm: Norm
    evaluations: int
    decision: Decision | None
    seconds: float
    exact: ExactSearch | None = None
    note: str = ""
    where: Where | None = None


@dataclass(frozen=True)
class Sampling:
    """What a statistical certificate rests on.

    Attributes:
        map_name: the base map that was averaged; map_shape: its (h, w).
        noise: its distribution; sigma: its standard deviation a pixel, pixel scale; seed: of its generator.
        samples: how many noisy images were evaluated; inputs: values C * H * W of one.
        confidence: how intervals were found; correction: how they hold for all pixels at once.
        failure_probability: that the claim is wrong, over the noise drawn; of samples that others may join,
            that any claim about them is, now or later.
        failure_share: the part of it that these samples use; all of it, or that of their rung.
        rung: of samples that others may join, which rung of the ladder of sample counts they are; else None.
    """

    map_name: str
    map_shape: tuple[int, int]
    noise: str
    sigma: float
    seed: int
    samples: int
    inputs: int
    confidence: str
    correction: str
    failure_probability: float
    failure_share: float
    rung: int | None = None


@dataclass(frozen=True, repr=False)
class StatisticalCertificate(Brief):
    """A claim about the smoothed map of every image of the ball, wrong with a stated probability at most.

    The EMPIRICAL smoothed map at the image (the mean over the noise drawn) is compared with the POPULATION
    smoothed map (the expectation) at every image of the ball. The ball is not cut to the pixel box.

    Attributes:
        claim: what kind of claim.
        status: CERTIFIED, or UNKNOWN if nothing is claimed; reason: why not, empty otherwise.
        radius: of the ball, pixel scale; 0 if nothing is claimed. order: the d of its l_d norm.
        k: size of the top set; pixels: the k largest of the empirical map, flat indices, largest first.
        overlap: how many of `pixels` stay among the k largest; None if that is not the claim.
        curve: where overlaps are claimed: every (overlap, radius) that the samples show, largest overlap
            first, radii increasing. All of them hold at once, with the probability of the claim.
        ranks: for each of `pixels`, the largest rank it can fall to; None if that is not the claim.
        inside, outside: pixels each of which by itself is in the top set of the base map for more than half
            of all noise, and outside it for more than half; the halves may differ from pixel to pixel. None
            if that is not the claim. All others abstain.
        sampling: what it rests on.
        claimed_radius: what a published form that is NO guarantee claims; None where none was asked for. Then
            nothing is certified. claimed_overlap goes with it.
        note: what else to know, as text.
    """

    claim: Claim
    status: Status
    reason: str
    radius: float
    order: float
    k: int
    pixels: tuple[int, ...]
    sampling: Sampling
    overlap: int | None = None
    curve: tuple[tuple[int, float], ...] = ()
    ranks: tuple[int, ...] | None = None
    inside: tuple[int, ...] | None = None
    outside: tuple[int, ...] | None = None
    claimed_radius: float | None = None
    claimed_overlap: int | None = None
    note: str = ""

    @property
    def norm_label(self) -> str:
        """The norm as people write it: `l_2`, `l_inf`."""
        return "l_inf" if math.isinf(self.order) else f"l_{self.order:g}"


@dataclass(frozen=True, repr=False)
class SmoothResult(Brief):
    """The answer to `corgi smooth`.

    Attributes:
        model, model_sha256: the file; notes: how it was read, where that is not as it stands.
        image_name: where the image came from.
        image: [C, H, W] float32 network input, after pre-processing.
        class_id, class_name, predicted_class: the explained class, its name if the model carries one, and
            the class onnxruntime predicts.
        base: the base map at the image itself, [h, w]; mean: the empirical smoothed map, [h, w].
        certificate: what is claimed of it.
        drawn: samples there are; the certificate rests on all of them, or on those of a complete rung.
        wanted: samples asked for; more than `drawn` if the user interrupted.
        seconds: wall time, loading excluded.
    """

    model: Path
    model_sha256: str
    image_name: str
    image: ImageArray
    class_id: int
    class_name: str | None
    predicted_class: int
    base: FloatArray
    mean: FloatArray
    certificate: StatisticalCertificate
    drawn: int
    wanted: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped the sampling early."""
        return self.drawn < self.wanted


@dataclass(frozen=True)
class LabelCertificate:
    """The predicted class keeps the largest score for every image of the ball (theory 1.9).

    Attributes:
        label: the class.
        radius: largest radius certified, in the pixel scale; 0 if none.
        uncertified_radius: smallest radius tried and not certified; None if none was.
        status, reason: as of a `DeterministicCertificate`.
        norm: of the ball; where: what may change in it, None for every pixel.
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
    where: Where | None = None


@dataclass(frozen=True, repr=False)
class Witness(Brief):
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


@dataclass(frozen=True, repr=False)
class VerifyResult(Mapped):
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
        holds: whether the property holds at the image itself; None if float64 rounding hides it.
        radii: radii that were to be decided, pixel scale, ascending, with PROVED, REFUTED (a confirmed
            witness within it), or UNKNOWN, which is open. Where the property does not hold at the image
            itself all are UNKNOWN: there is nothing to keep.
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
    holds: bool | None = True
    radii: tuple[tuple[float, Status], ...] = ()

    @property
    def where(self) -> Where | None:
        """What may change within the radii, and is changed in the witness; None for every pixel."""
        return self.certificate.where

    @property
    def joint_radius(self) -> float | None:
        """Within which map and label both stay; None if the label was not looked at."""
        return None if self.label is None else min(self.certificate.radius, self.label.radius)


@dataclass(frozen=True, repr=False)
class VerifyResults(Brief):
    """The answers to `corgi verify` about several properties of one map.

    Attributes:
        results: one a property, in the order asked: of the same image, class and map.
        seconds: wall time of all together, loading excluded.
    """

    results: tuple[VerifyResult, ...]
    seconds: float
