"""One image, end to end: explain, attack, certify (theory 1)."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from corgi.ambient import settled
from corgi.attacks.search import attack_radius
from corgi.budget import OutOfTime, Stoppable, announce, cancelled, left, limited
from corgi.certify.bounders import Bounders as Bounders
from corgi.certify.certificate import Certification, Session
from corgi.certify.explain import Explanation, explain
from corgi.certify.label import certify_label
from corgi.certify.methods import default_engine
from corgi.certify.options import VerifyOptions as VerifyOptions
from corgi.certify.options import check_radius as check_radius
from corgi.decide.ball import refuse_contradiction
from corgi.errors import EngineError, GateError, UsageError
from corgi.network.network import Network
from corgi.properties.topk import Topk
from corgi.results import (
    DeterministicCertificate,
    EmpiricalBound,
    ImageArray,
    LabelCertificate,
    Status,
    VerifyResult,
    Witness,
)
from corgi.terms import EngineName

ATTACK_SHARE = 0.4
"""Share of a time limit the attack may use: a certificate is what the user came for."""

FIRST_SHARE, _FEW = 0.25, 8
"""Share of what is left of a time limit that the first certificate of a deep network may take, and its most
bound evaluations."""

_WIDEST = 10.0
"""Width of intervals of the map, in its ranges, from which on a first certificate is not tried."""

_DEEP_TOLERANCE = 0.05
"""Relative width at which the attack on a deep network stops before a certificate."""


@settled()
def verify(
    network: Network,
    image: ImageArray,
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    bounders: Bounders | None = None,
) -> VerifyResult:
    """Certify the top-k set of the map of an image [C, H, W] float32 in [0, 1].

    `bounders`: share one among calls on the same network, so that nothing is prepared or bounded twice.

    Ctrl-C and the time limit end the search, not the answer: what was certified until then is returned,
    marked as such. A network that the engine cannot bound is attacked all the same.

    Raises:
        ImageError, UsageError: the image or an option does not fit the network.
        GateError: network or engine differ from onnxruntime, and there is no witness to answer with.
        EngineError: the engine cannot bound this network, and no attack was asked for; or a certificate and
            a witness contradict each other.
    """
    options, started = options or VerifyOptions(), time.monotonic()
    explained = explain(network, image, options.k, options.class_id)
    return verify_explained(explained, options, image_name=image_name, bounders=bounders, started=started)


@settled()
def verify_explained(
    explained: Explanation,
    options: VerifyOptions,
    *,
    image_name: str = "array",
    bounders: Bounders | None = None,
    started: float | None = None,
    attacked: EmpiricalBound | None = None,
    certified: DeterministicCertificate | None = None,
) -> VerifyResult:
    """The same of a map that was explained before: k and class are those of the explanation.

    Args:
        explained: the map.
        options: what to verify and how.
        image_name: where the image came from.
        bounders: shared among calls on the same network.
        started: when the time that there is began, by `time.monotonic()`; None for now.
        attacked: what an attack on the same question found before, so that none is run.
        certified: a certificate of the same question, from which the search goes on.

    Raises:
        UsageError: that is of another question, or one radius is to be decided; see `verify` for others.
    """
    if certified is not None:
        sets = (options.norm, options.where), (certified.norm, certified.where)
        asked = (options.asked.statement(explained.top.k), explained.top.k, sets[0], None)
        if asked != (certified.statement, certified.k, sets[1], options.eps):
            raise UsageError("the certificate to go on from is not of the same search")
    if attacked is not None and attacked.witness is not None:
        _check_witness(explained, options, attacked.witness)
    started, bounders = time.monotonic() if started is None else started, bounders or Bounders()
    verification = _Verification(explained, options, bounders, image_name, started, attacked, certified)
    with limited(None if options.time_limit is None else started + options.time_limit):
        return verification.run()


def _check_witness(explained: Explanation, options: VerifyOptions, witness: Witness) -> None:
    """Refuse a witness of another question.

    Raises:
        UsageError: it lies elsewhere in the balls asked about, or keeps the property.
    """
    ball = explained.ball(options.norm, options.where)
    far = ball.distance(torch.from_numpy(witness.image))
    margin = explained.question(options.asked).holds.margin(torch.from_numpy(witness.cam).reshape(-1))
    if not (math.isclose(far, witness.radius, rel_tol=1e-9) and float(margin) < 0):
        raise UsageError("the attack whose witness is known is not of the same question")


class _Verification(Session):
    """One verification, step by step."""

    def run(self) -> VerifyResult:
        tie = self.tie()
        if tie is not None:
            return self.result(self.nothing(Status.UNKNOWN, tie))
        refusal = self.refusal()
        if self.attack is None:
            self.run_attack(alone=refusal is not None)
        if self.options.eps is not None and self.witness is not None:
            return self.result(self.nothing(Status.UNKNOWN, "not attempted: the property is refuted"))
        if cancelled():
            before = "" if self.known else " during the attack, before anything was certified"
            reason = f"interrupted{before}"
            return self.result(self.nothing(Status.INTERRUPTED, reason))
        certificate = self.certificate(refusal)
        refuse_contradiction(certificate.engine, certificate.radius, self.attacked)
        label = None
        if self.options.label and certificate.status is not Status.INTERRUPTED:
            label = self.label()
        return self.result(certificate, label)

    def tie(self) -> str | None:
        """That the property already fails to be strict at the image itself; None if it does not."""
        value, error = self.value, self.question.holds.sensitivity * self.explained.rounding
        if value > error:
            return None
        if not isinstance(self.options.asked, Topk):
            return self.fails(value, error)
        where = f"tie at rank {self.options.asked.among(self.explained.top.k)}"
        if value <= 0:
            return f"{where}: the top-{self.explained.top.k} set is not unique at the image itself"
        return f"{where}: the gap of {value:.3g} is within float64 rounding ({error:.3g})"

    def fails(self, value: float, error: float) -> str:
        """That the property is not there to be kept."""
        what = self.options.asked.statement(self.explained.top.k)
        if value < -error:
            return f"at the image itself it is not true that {what}: off by {-value:.3g}"
        return f"at the image itself float64 rounding ({error:.3g}) hides whether {what} ({value:.3g})"

    def refusal(self) -> str | None:
        """Why there can be no certificate, told before anything else is done; None if there can.

        Raises:
            EngineError: the engine cannot bound this network, and there is nothing else to do.
        """
        try:
            self.bounders.prepared(self.options.engine, self.explained.network, self.explained.class_id)
        except EngineError as error:
            if self.options.attack is None:
                raise
            works = "an attack, corgi cam and corgi smooth need no bounds"
            announce("bounds", f"{error.message}; {works}")
            return f"no bounds: {error.message}"
        return self.explained.doubt

    def run_attack(self, *, alone: bool) -> None:
        options = self.options.attack
        if options is None:
            return
        share = 1.0 if alone else ATTACK_SHARE
        if self.deep and not alone:  # bounds end orders of magnitude below a witness
            options = replace(options, tolerance=max(options.tolerance, _DEEP_TOLERANCE))
        with limited(time.monotonic() + share * left()):
            self.attack = attack_radius(self.question, self.ball, options, only=self.options.eps)

    def certificate(self, refusal: str | None) -> DeterministicCertificate:
        """The certificate, or none and why."""
        if refusal is not None:
            return self.nothing(Status.UNKNOWN, refusal)
        with Stoppable() as end:
            try:
                return self.certificate_in_steps()
            except GateError as error:
                # A witness is what onnxruntime computes: it stands, whatever corgi makes of the network.
                if self.witness is None:
                    raise
                return self.nothing(Status.UNKNOWN, f"no certificate: {error.message}")
        return self.ended(end, "before any radius was certified: ")

    def ended(self, end: Stoppable, before: str = "") -> DeterministicCertificate:
        """No certificate, because work ended early."""
        assert end.status is not None
        reason = f"{self.why(end.status)}, {before}while {self.doing}"
        return self.nothing(end.status, reason)

    def certificate_in_steps(self) -> DeterministicCertificate:
        """The certificate: the one that is known, unless a larger one is found.

        Of a deep network one is looked for without rows on windows first.

        Rows on the windows of a deep network can take all the time there is. What end of time or Ctrl-C leave
        of the second certificate is the first, which is whole by then.
        """
        self.known = first = self.known or self.without_rows()
        if first is None or first.status is Status.INTERRUPTED:
            return first or Certification(self).run()
        with Stoppable() as end:
            found = Certification(self).run()
        if end.status is not None:
            found = self.ended(end)
        evaluations, seconds = first.evaluations + found.evaluations, first.seconds + found.seconds
        if found.radius < first.radius:
            ended = found.status in (Status.TIME_LIMIT, Status.INTERRUPTED)
            failed = [r for r in (first.uncertified_radius, found.uncertified_radius) if r]
            found = replace(
                first,
                status=found.status if ended else first.status,
                reason=found.reason if ended else "",
                exact=found.exact or first.exact,
                uncertified_radius=min((r for r in failed if r > first.radius), default=None),
            )
        return replace(found, evaluations=evaluations, seconds=seconds)

    def without_rows(self) -> DeterministicCertificate | None:
        """What CROWN-IBP certifies of a deep network, in a share of the time; None for nothing.

        It begins with intervals, and is of use where those of the map are not far wider than the map itself.
        """
        engine = self.options.engine.quick
        if engine is None or self.witness is None or self.options.eps is not None or not self.deep:
            return None
        few = min(self.options.max_evaluations, _FEW)
        plain = replace(self.options, engine=engine, exact=None, max_evaluations=few)
        with suppress(OutOfTime), limited(time.monotonic() + FIRST_SHARE * left()):
            bounder = self.bounders.prepared(engine, self.network, self.class_id)
            map_bounds = bounder.intervals(self.ball.with_radius(self.guesses()[0]))
            width = float((map_bounds.upper - map_bounds.lower).max())
            if not width <= _WIDEST * float(np.ptp(self.explained.cam)):
                return None
            first = Certification(self, plain).run()
            return first if first.radius > 0 or first.status is Status.INTERRUPTED else None
        return None

    def label(self) -> LabelCertificate:
        """The label's certificate; always by the patch engine, whose rows can be any linear form."""
        engine = self.options.engine
        engine = engine if engine.name == EngineName.PATCH else default_engine()
        label = self.explained.predicted_class

        def nothing(status: Status, reason: str) -> LabelCertificate:
            return LabelCertificate(label, 0.0, None, status, reason, self.ball.norm, 0, 0.0, self.ball.where)

        try:
            self.bounders.prepared(engine, self.network, self.class_id)
        except EngineError as error:
            return nothing(Status.UNKNOWN, f"no bounds: {error.message}")
        with Stoppable() as end:
            try:
                bounder = self.bounders.bind(engine, self.network, self.class_id)
                limits, eps = self.options.limits, self.options.eps
                return certify_label(bounder, self.network, self.ball, label, limits, eps)
            except GateError as error:
                return nothing(Status.UNKNOWN, f"no certificate: {error.message}")
        assert end.status is not None
        why = "interrupted" if end.status is Status.INTERRUPTED else self.late
        return nothing(end.status, f"{why}, before any radius was certified")

    def result(
        self, certificate: DeterministicCertificate, label: LabelCertificate | None = None
    ) -> VerifyResult:
        """The answer: that of the certificate, unless a witness within the radius asked for refutes it."""
        explained, network, options = self.explained, self.explained.network, self.options
        status, reason, attacked = certificate.status, certificate.reason, self.attacked
        if options.eps is not None and attacked is not None and attacked <= options.eps:
            status, reason = Status.REFUTED, f"a witness at radius {attacked:.6g} breaks the property"
        return VerifyResult(
            model=network.path,
            model_sha256=network.sha256,
            image_name=self.image_name,
            image=explained.image,
            class_id=explained.class_id,
            class_name=explained.class_name,
            predicted_class=explained.predicted_class,
            cam=explained.cam,
            top=explained.top,
            certificate=certificate,
            attack=self.attack,
            status=status,
            reason=reason,
            eps=options.eps,
            seed=0 if options.attack is None else options.attack.seed,
            seconds=time.monotonic() - self.started,
            map_kind=network.map_kind,
            notes=network.graph.notes,
            label=label,
            holds=explained.holds(options.asked),
        )
