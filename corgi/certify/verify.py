"""One image, end to end: explain, attack, certify (theory 1)."""

from __future__ import annotations

import copy
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from corgi.ambient import settled
from corgi.attacks.pairs import linear_radius
from corgi.attacks.search import AttackOptions, attack_radius
from corgi.attacks.target import Target
from corgi.budget import OutOfTime, Stoppable, cancelled, left, limited
from corgi.cam.topk import check_ranks, decision_margin
from corgi.certify.decide import Question, score
from corgi.certify.exact import ExactOptions, ExactRadius, refuse_contradiction
from corgi.certify.explain import check_image, explain
from corgi.certify.label import certify_label
from corgi.certify.methods import default_engine
from corgi.certify.radius import Bracket, SearchLimits, decide_radius, search_radius
from corgi.engines.gate import check_engine_at_radius_zero, check_engine_on_a_ball
from corgi.engines.interface import BoundEngine, Bounder
from corgi.errors import EngineError, GateError, UsageError
from corgi.network.depth import is_deep
from corgi.network.network import Network
from corgi.network.probes import check_at_probes
from corgi.progress import Listener, Progress, silent
from corgi.results import (
    Decision,
    DeterministicCertificate,
    EmpiricalBound,
    ExactSearch,
    ImageArray,
    LabelCertificate,
    Status,
    VerifyResult,
)
from corgi.terms import EngineName, Form, Size
from corgi.types import Ball, Norm

ATTACK_SHARE = 0.4
"""Share of a time limit the attack may use: a certificate is what the user came for."""

GATE_SHARE = 0.3
"""Share of what is left of a time limit that holding the engine against onnxruntime may use."""

FIRST_SHARE, _FEW = 0.25, 8
"""Share of what is left of a time limit that the first certificate of a deep network may take, and its most
bound evaluations."""

_WIDEST = 10.0
"""Width of intervals of the map, in its ranges, from which on a first certificate is not tried."""

_DEEP_TOLERANCE = 0.05
"""Relative width at which the attack on a deep network stops before a certificate."""


@dataclass(frozen=True)
class VerifyOptions:
    """What to verify and how.

    Attributes:
        k: size of the set.
        k2: the set must stay among the k2 largest; None means k.
        class_id: class to explain; None means the predicted one.
        norm: of the ball.
        eps: decide this radius (pixel scale) instead of searching.
        engine, form: how to bound.
        attack: how to attack; None for no attack.
        exact: how to decide what bounds leave open; None for bounds alone. Form pairwise and l_inf only.
        tolerance: relative width of the final bracket.
        max_evaluations: most bound evaluations of a search.
        time_limit: seconds after which the best certificate so far is returned.
        label: certify the predicted class, too.
    """

    k: Size = None
    k2: int | None = None
    class_id: int | None = None
    norm: Norm = Norm.LINF
    eps: float | None = None
    engine: BoundEngine = field(default_factory=default_engine)
    form: Form = Form.PAIRWISE
    attack: AttackOptions | None = field(default_factory=AttackOptions)
    exact: ExactOptions | None = field(default_factory=ExactOptions)
    tolerance: float = 0.01
    max_evaluations: int = 30
    time_limit: float | None = None
    label: bool = False

    def __post_init__(self) -> None:
        check_radius("eps =", self.eps, self.norm)
        if self.time_limit is not None and not self.time_limit > 0:
            raise UsageError(f"time limit = {self.time_limit}: expected seconds > 0")
        if not 0 < self.tolerance < 1:
            raise UsageError(f"tolerance = {self.tolerance}: expected a share in (0, 1)")
        if self.max_evaluations < 1:
            raise UsageError(f"max evaluations = {self.max_evaluations}: expected at least 1")


def check_radius(option: str, radius: float | None, norm: Norm) -> None:
    """Refuse a radius that no ball can have; None is none.

    Raises:
        UsageError: not a finite number > 0, or in l_inf beyond the pixel scale.
    """
    if radius is None or (math.isfinite(radius) and 0 < radius <= (1 if norm is Norm.LINF else math.inf)):
        return
    expected = "a radius in (0, 1]" if norm is Norm.LINF else f"an {norm.label} radius > 0"
    raise UsageError(f"{option} {radius}: expected {expected}, pixel scale [0, 1]")


@settled()
def verify(
    network: Network,
    image: ImageArray,
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    listener: Listener = silent,
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
    options = options or VerifyOptions()
    deadline = None if options.time_limit is None else time.monotonic() + options.time_limit
    verification = _Verification(network, image, options, image_name, listener, bounders)
    with limited(deadline):
        return verification.run()


_Key = tuple[BoundEngine, int, int]
"""Engine, network (by id) and class."""


class Bounders:
    """Engines bound to networks, kept for the next question about the same class."""

    def __init__(self) -> None:
        self._bound: dict[_Key, tuple[Network, Bounder]] = {}
        self._held: set[_Key] = set()
        self._probed: set[tuple[int, int]] = set()

    def prepared(self, engine: BoundEngine, network: Network, class_id: int) -> Bounder:
        """The engine bound to a class, not yet held against onnxruntime.

        One that was interrupted is not used again: the engine is bound anew.

        Raises:
            EngineError: it cannot bound this network.
        """
        key = (engine, id(network), class_id)
        known = self._bound.get(key)
        if known is None or not known[1].whole:
            # The network is kept, too: its id may not be given to another one.
            self._bound[key] = network, engine.bind(network, class_id)
        return self._bound[key][1]

    @settled()
    def bind(self, engine: BoundEngine, network: Network, class_id: int) -> Bounder:
        """The same, network and engine held against onnxruntime, once.

        The network is on images driven to its kinks (network/probes.py). The engine's gate may take a share
        of the time there is: an engine that takes longer has no bound of a larger ball in the rest of it.

        Raises:
            EngineError: the engine cannot bound this network.
            GateError: the network differs from onnxruntime; or the engine's bounds of a random image, or of a
                small ball around it, do not hold there.
            OutOfTime: the gate was not passed in its time.
        """
        key = (engine, id(network), class_id)
        if key not in self._held:
            bounder = self.prepared(engine, network, class_id)
            noise = np.random.default_rng(0).random((1, *network.input_shape), dtype=np.float32)
            # By its trunk: other weights of the map alone, as those of it upside down, are no other network.
            trunk = (id(network.trunk), class_id)
            if trunk not in self._probed:
                check_at_probes(network, class_id, noise[0])
                self._probed.add(trunk)
            with limited(time.monotonic() + GATE_SHARE * left()):
                check_engine_at_radius_zero(network, class_id, bounder, noise)
                check_engine_on_a_ball(network, class_id, bounder, noise[0])
            self._held.add(key)
        return self.prepared(engine, network, class_id)


class _Verification:
    """State of one verification."""

    def __init__(
        self,
        network: Network,
        image: ImageArray,
        options: VerifyOptions,
        image_name: str,
        listener: Listener,
        bounders: Bounders | None,
    ) -> None:
        self.started = time.monotonic()
        self.network, self.options, self.listener = network, options, listener
        self.bounders = bounders or Bounders()
        self.image, self.image_name = check_image(network, image), image_name
        self.explanation = explain(network, self.image, options.k, options.class_id)
        self.network = self.explanation.network
        self.top = self.explanation.top
        self.k2 = self.top.k if options.k2 is None else options.k2
        check_ranks(self.top.k, self.k2, network.pixels)
        self.ball = Ball(torch.from_numpy(self.image), 0.0, options.norm)
        self.attack: EmpiricalBound | None = None
        self.label: LabelCertificate | None = None
        self.margins: torch.Tensor | None = None
        self.doing, self.fallback = "", 0.0
        values = torch.from_numpy(self.explanation.cam).reshape(-1)
        self.question = Question(
            self.network, self.explanation.class_id, self.top, self.k2, options.form, values
        )
        self.value = float(decision_margin(values, self.top, self.k2))

    @property
    def tied(self) -> bool:
        """Whether the property already fails to be strict at the image itself."""
        return not self.value > 2 * self.explanation.rounding

    def tie_reason(self) -> str:
        where = f"tie at rank {self.k2}"
        if self.value <= 0:
            return f"{where}: the top-{self.top.k} set is not unique at the image itself"
        error = 2 * self.explanation.rounding
        return f"{where}: the gap of {self.value:.3g} is within float64 rounding ({error:.3g})"

    def run(self) -> VerifyResult:
        if self.tied:
            reason = self.tie_reason()
            return self.result(self.no_certificate(Status.UNKNOWN, reason), Status.UNKNOWN, reason)
        refusal = self.refusal()
        self.run_attack(refused=refusal is not None)
        if self.options.eps is not None and self.attack is not None and self.attack.witness is not None:
            reason = f"a witness at radius {self.attack.witness.radius:.6g} breaks the property"
            none = self.no_certificate(Status.UNKNOWN, "not attempted: the property is refuted")
            return self.result(none, Status.REFUTED, reason)
        if cancelled():
            reason = "interrupted during the attack, before anything was certified"
            return self.result(self.no_certificate(Status.INTERRUPTED, reason), Status.INTERRUPTED, reason)
        certificate = self.certificate_or_why(refusal)
        self.check_consistent(certificate)
        if self.options.label and certificate.status is not Status.INTERRUPTED:
            self.label = self.certify_label()
        found = None if self.attack is None else self.attack.witness
        if self.options.eps is not None and found is not None and found.radius <= self.options.eps:
            reason = f"a witness at radius {found.radius:.6g} breaks the property"
            return self.result(certificate, Status.REFUTED, reason)
        return self.result(certificate, certificate.status, certificate.reason)

    def certificate_or_why(self, refusal: str | None) -> DeterministicCertificate:
        if refusal is not None:
            return self.no_certificate(Status.UNKNOWN, refusal)
        with Stoppable() as end:
            try:
                return self.certify_in_steps()
            except GateError as error:
                # A witness is what onnxruntime computes: it stands, whatever corgi makes of the network.
                if self.attack is None or self.attack.witness is None:
                    raise
                return self.no_certificate(Status.UNKNOWN, f"no certificate: {error.message}")
        return self.ended(end, f", before any radius was certified: while {self.doing}")

    def ended(self, end: Stoppable, while_doing: str) -> DeterministicCertificate:
        """No certificate, because work ended early."""
        assert end.status is not None
        why = "interrupted" if end.status is Status.INTERRUPTED else self.late_while
        return self.no_certificate(end.status, f"{why}{while_doing}")

    def refusal(self) -> str | None:
        """Why there can be no certificate, told before anything else is done; None if there can.

        Raises:
            EngineError: the engine cannot bound this network, and there is nothing else to do.
        """
        try:
            self.bounders.prepared(self.options.engine, self.network, self.explanation.class_id)
        except EngineError as error:
            if self.options.attack is None:
                raise
            works = "an attack, corgi cam and corgi smooth need no bounds"
            self.listener(Progress("bounds", f"{error.message}; {works}", lasting=True))
            return f"no bounds: {error.message}"
        return self.explanation.doubt

    @property
    def late_reason(self) -> str:
        """That time is over, and how much of it there was."""
        limit = self.options.time_limit
        return "time limit reached" if limit is None else f"time limit of {limit:g} s reached"

    @property
    def late_while(self) -> str:
        """The same of work that had a share of the time."""
        share = f"the {GATE_SHARE:.0%} of the time left that it may take are over"
        return self.late_reason if left() <= 0 else share

    def run_attack(self, *, refused: bool) -> None:
        options = self.options.attack
        if options is None:
            return
        share = 1.0 if refused else ATTACK_SHARE
        if is_deep(self.network.trunk) and not refused:  # bounds end orders of magnitude below a witness
            options = replace(options, tolerance=max(options.tolerance, _DEEP_TOLERANCE))
        with limited(time.monotonic() + share * left()):
            self.attack = attack_radius(
                self.target(options.keep_label),
                self.ball.center,
                options,
                rounding=self.explanation.rounding,
                norm=self.ball.norm,
                only=self.options.eps,
                listener=self.listener,
            )

    def target(self, keep_label: bool) -> Target:
        explained = self.explanation
        return Target(
            self.network.trunk32,
            self.network,
            explained.class_id,
            self.top,
            self.k2,
            keep_label,
            explained.predicted_class,
        )

    def certify_in_steps(self) -> DeterministicCertificate:
        """The certificate; of a deep network the larger of two, the first of them without rows on windows.

        Rows on the windows of a deep network can take all the time there is. What end of time or Ctrl-C leave
        of the second certificate is the first, which is whole by then.
        """
        first = self.without_rows()
        if first is None or first.status is Status.INTERRUPTED:
            return first or self.certify()
        self.fallback = first.radius
        with Stoppable() as end:
            found = self.certify()
        if end.status is not None:
            found = self.ended(end, f", while {self.doing}")
        evaluations, seconds = first.evaluations + found.evaluations, first.seconds + found.seconds
        if found.radius < first.radius:
            ended = found.status in (Status.TIME_LIMIT, Status.INTERRUPTED)
            failed = [r for r in (first.uncertified_radius, found.uncertified_radius) if r]
            found = replace(
                first,
                status=found.status if ended else first.status,
                reason=found.reason if ended else "",
                exact=found.exact,
                uncertified_radius=min((r for r in failed if r > first.radius), default=None),
            )
        return replace(found, evaluations=evaluations, seconds=seconds)

    def without_rows(self) -> DeterministicCertificate | None:
        """What CROWN-IBP certifies of a deep network, in a share of the time; None for nothing.

        It begins with intervals, and is of use where those of the map are not far wider than the map itself.
        """
        engine, found = self.options.engine.quick, None if self.attack is None else self.attack.radius
        if engine is None or found is None:
            return None
        if self.options.eps is not None or not is_deep(self.network.trunk):
            return None
        plain = copy.copy(self)
        plain.options = replace(
            self.options,
            engine=engine,
            exact=None,
            max_evaluations=min(self.options.max_evaluations, _FEW),
        )
        with suppress(OutOfTime), limited(time.monotonic() + FIRST_SHARE * left()):
            bounder = self.bounders.prepared(engine, self.network, self.explanation.class_id)
            map_bounds = bounder.intervals(self.ball.with_radius(self.guesses(found)[0]))
            width = float((map_bounds.upper - map_bounds.lower).max())
            if not width <= _WIDEST * float(np.ptp(self.explanation.cam)):
                return None
            first = plain.certify()
            return first if first.radius > 0 or first.status is Status.INTERRUPTED else None
        return None

    def certify(self) -> DeterministicCertificate:
        started = time.monotonic()
        engine = self.options.engine
        self.doing = "the engine was held against onnxruntime"
        self.listener(Progress("certify", self.doing))
        bounder = self.bounders.bind(engine, self.network, self.explanation.class_id)
        check_engine_at_radius_zero(self.network, self.explanation.class_id, bounder, self.image[None])
        self.doing = "a first ball was bounded"
        exact = self.exact_search(bounder)
        if self.options.eps is not None:
            bracket = decide_radius(partial(self.score, bounder), self.value, self.options.eps)
        elif (
            exact is not None
            and exact.witness is not None
            and not is_deep(self.network.trunk)  # bounds near a witness would take long to say nothing
            and exact.run(until_failure=True) is None
        ):
            bracket = Bracket(self.value)  # certificate and witness have met already
        elif exact is not None and exact.stopped:
            bracket = Bracket(self.value, status=Status.INTERRUPTED)
        else:
            bounder = self.bounders.prepared(engine, self.network, self.explanation.class_id)
            bracket = self.search(bounder)
        certificate = self.certificate(bracket, self.decision(bracket, bounder))
        asked = certificate.radius or certificate.uncertified_radius or 0.0
        certificate = replace(certificate, note=bounder.shortfall(self.ball.with_radius(asked)))
        if exact is None and self.options.exact is not None and self.options.form is Form.PAIRWISE:
            reason = f"engine {engine.name} bounds this network, but cannot decide its margins exactly"
            if self.ball.norm is not Norm.LINF:
                reason = f"margins are decided exactly over {Norm.LINF.label} balls only: bounds alone"
            details = ExactSearch(self.options.exact.decider.name, self.options.exact.gap, False, reason)
            certificate = replace(certificate, exact=details)
        if exact is not None:
            certificate = self.close_gap(exact, certificate)
        return replace(certificate, seconds=time.monotonic() - started)

    def certify_label(self) -> LabelCertificate:
        """The label's certificate; always by the patch engine, whose rows can be any linear form."""
        engine = self.options.engine
        engine = engine if engine.name == EngineName.PATCH else default_engine()
        limits = SearchLimits(self.options.tolerance, self.options.max_evaluations)
        label, eps = self.explanation.predicted_class, self.options.eps
        try:
            self.bounders.prepared(engine, self.network, self.explanation.class_id)
        except EngineError as error:
            return self.no_label(Status.UNKNOWN, f"no bounds: {error.message}")
        with Stoppable() as end:
            try:
                bounder = self.bounders.bind(engine, self.network, self.explanation.class_id)
                return certify_label(bounder, self.network, self.ball, label, limits, eps, self.listener)
            except GateError as error:
                return self.no_label(Status.UNKNOWN, f"no certificate: {error.message}")
        assert end.status is not None
        why = "interrupted" if end.status is Status.INTERRUPTED else self.late_reason
        return self.no_label(end.status, f"{why}, before any radius was certified")

    def no_label(self, status: Status, reason: str) -> LabelCertificate:
        label = self.explanation.predicted_class
        return LabelCertificate(label, 0.0, None, status, reason, self.ball.norm, 0, 0.0)

    def exact_search(self, bounder: Bounder) -> ExactRadius | None:
        """What decides margins that bounds leave open, if that was asked for and the form allows it."""
        options = self.options.exact
        if options is None or self.options.form is not Form.PAIRWISE or not bounder.unfolds:
            return None
        if self.ball.norm is not Norm.LINF:
            return None  # a cone is a function over a box
        attack = self.options.attack
        return ExactRadius(
            self.question,
            bounder,
            self.ball,
            self.target(attack is not None and attack.keep_label),
            self.explanation.rounding,
            options,
            time.monotonic() + min(options.seconds, left()),
            self.listener,
            witness=None if self.attack is None else self.attack.witness,
        )

    def close_gap(
        self, exact: ExactRadius, certificate: DeterministicCertificate
    ) -> DeterministicCertificate:
        """The certificate after margins that bounds leave open were decided; a nearer witness is kept."""
        reason: str | None
        if certificate.status is Status.INTERRUPTED or exact.stopped:
            reason = exact.reason or certificate.reason
        elif self.options.eps is None:
            exact.take_over(certificate.radius)
            reason = exact.run()
        else:
            reason = exact.decide_one(self.options.eps) if certificate.radius == 0 else None
            exact.one_radius = True
        self.keep_witness(exact)
        details = exact.details(reason)
        if exact.certified <= certificate.radius:
            stopped = exact.stopped and certificate.status is not Status.INTERRUPTED
            status = Status.INTERRUPTED if stopped else certificate.status
            if status is Status.INTERRUPTED:
                certificate = replace(certificate, reason=certificate.reason or reason or "")
            if status is Status.UNKNOWN and reason:
                certificate = replace(certificate, reason=f"{certificate.reason}; exactly: {reason}")
            return replace(certificate, status=status, exact=details)
        assert exact.least is not None
        failed = [radius for radius, _ in exact.failed if radius > exact.certified]
        status = Status.CERTIFIED
        if self.options.eps is not None:
            status = Status.PROVED
        elif exact.stopped:
            status = Status.INTERRUPTED
        elif reason and left() <= 0:
            status = Status.TIME_LIMIT
        rounding = exact.bounder.rounding
        return replace(
            certificate,
            radius=exact.certified,
            uncertified_radius=min(failed, default=None),
            status=status,
            reason=(reason or "") if status in (Status.INTERRUPTED, Status.TIME_LIMIT) else "",
            method="exact",
            note="",
            evaluations=certificate.evaluations + exact.evaluations,
            decision=Decision(exact.certified, exact.least + rounding, rounding),
            exact=details,
        )

    def keep_witness(self, exact: ExactRadius) -> None:
        """Feed a witness the exact search found back as the attack's."""
        witness, attack = exact.witness, self.attack
        if witness is None or (attack is not None and attack.witness is witness):
            return
        name = exact.options.decider.name
        if attack is None:
            self.attack = EmpiricalBound(witness, name, witness.radius, False, 0, 0.0)
        else:
            self.attack = replace(attack, witness=witness, attack=f"{attack.attack}, {name}")

    def search(self, bounder: Bounder) -> Bracket:
        found = None if self.attack is None else self.attack.radius
        limits = SearchLimits(self.options.tolerance, self.options.max_evaluations)

        def on_step(bracket: Bracket) -> None:
            radius, value = bracket.scores[-1]
            detail = f"radius {radius:.3g} {'certified' if value > 0 else 'not certified'}"
            self.listener(Progress("certify", detail, bracket.certified, found))

        return search_radius(
            partial(self.score, bounder),
            self.value,
            ceiling=self.ceiling(found),
            limits=limits,
            first=self.guesses(found),
            on_step=on_step,
        )

    def score(self, bounder: Bounder, radius: float) -> float:
        """The score at a radius; its margins tell where to begin at the next one."""
        ball, decides = self.ball.with_radius(radius), self.options.eps is not None
        attacked = None if self.attack is None else self.attack.radius
        self.listener(Progress("certify", f"radius {radius:.3g} is bounded", self.fallback, attacked))
        found = score(self.question, bounder, ball, self.margins, sign_only=decides)
        self.margins = found.margins
        return found.value

    def ceiling(self, found: float | None) -> float:
        """A radius not to be certified: what the attack found, or all images.

        By Lipschitz constants also where a linear network would break: they are at least the gradient here.
        """
        ceiling = self.ball.largest if found is None else found
        if self.options.engine.name != EngineName.LIPSCHITZ or self.k2 > self.top.k:
            return ceiling
        linear = linear_radius(self.target(keep_label=False), self.ball.center, self.ball.norm)
        return ceiling if linear is None else min(ceiling, 1.01 * linear)

    def guesses(self, found: float | None) -> tuple[float, ...]:
        """Just below what the attack found, or below where a linear network would break.

        Bounds of a deep network end below what an attack finds, and take longest beyond: there first a radius
        in which intervals decide nearly all windows, if none is certified yet, for an answer to fall back on,
        then larger ones.
        """
        shares: tuple[float, ...] = (0.93,)
        if found is None:
            found = linear_radius(self.target(keep_label=False), self.ball.center, self.ball.norm)
            shares = (0.85,)
        if found is None:
            return ()
        if is_deep(self.network.trunk):
            shares = (0.001, 0.1) if self.fallback > 0 else (1e-6, 0.001, 0.1)
        return tuple(share * found for share in shares if share * found > self.fallback)

    @staticmethod
    def decision(bracket: Bracket, bounder: Bounder) -> Decision | None:
        """The score that certifies a radius; every bound it was made of is rounded outwards."""
        if not bracket.margin > 0:
            return None
        return Decision(bracket.certified, bracket.margin + bounder.rounding, bounder.rounding)

    def certificate(self, bracket: Bracket, decision: Decision | None) -> DeterministicCertificate:
        status, reason = bracket.status, ""
        if status is Status.TIME_LIMIT:
            reason = self.late_reason
        elif status is Status.INTERRUPTED:
            reason = "interrupted"
        elif decision is None:
            asked, method = self.options.eps, self.options.engine.method
            reason = "no radius was certified within the limits of the search"
            if asked is not None:
                attacked = "no attack was run" if self.attack is None else "no attack broke it"
                reason = f"the {method} bounds do not decide radius {asked:g}, and {attacked}"
        return replace(
            self.no_certificate(status, reason),
            radius=0.0 if decision is None else decision.radius,
            uncertified_radius=bracket.uncertified,
            evaluations=len(bracket.scores),
            decision=decision,
        )

    def no_certificate(self, status: Status, reason: str) -> DeterministicCertificate:
        return DeterministicCertificate(
            radius=0.0,
            uncertified_radius=None,
            status=status,
            reason=reason,
            method=self.options.engine.method,
            form=self.options.form.value,
            engine=self.options.engine.name,
            k=self.top.k,
            k2=self.k2,
            norm=self.ball.norm,
            evaluations=0,
            decision=None,
            seconds=0.0,
        )

    def check_consistent(self, certificate: DeterministicCertificate) -> None:
        """A certificate at or beyond a confirmed witness is a fault of corgi: refuse to answer."""
        attacked = None if self.attack is None else self.attack.radius
        refuse_contradiction(certificate.engine, certificate.radius, attacked)

    def result(self, certificate: DeterministicCertificate, status: Status, reason: str) -> VerifyResult:
        return VerifyResult(
            model=self.network.path,
            model_sha256=self.network.sha256,
            image_name=self.image_name,
            image=self.image,
            class_id=self.explanation.class_id,
            class_name=self.network.class_name(self.explanation.class_id),
            predicted_class=self.explanation.predicted_class,
            cam=self.explanation.cam,
            top=self.top,
            certificate=certificate,
            attack=self.attack,
            status=status,
            reason=reason,
            eps=self.options.eps,
            seed=0 if self.options.attack is None else self.options.attack.seed,
            seconds=time.monotonic() - self.started,
            map_kind=self.network.map_kind,
            notes=self.network.graph.notes,
            label=self.label,
        )
