"""A certificate by one engine: bounds, then exact decisions until it meets the nearest witness (theory 1)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from corgi.attacks.pairs import linear_radius
from corgi.budget import OutOfTime, left, limited, tell
from corgi.certify.bounders import GATE_SHARE, Bounders
from corgi.certify.exact import ExactRadius
from corgi.certify.explain import Explanation
from corgi.certify.options import VerifyOptions
from corgi.certify.radius import Bracket, decide_radius, search_radius
from corgi.decide.margins import Margins, score
from corgi.engines.gate import check_engine_at_radius_zero
from corgi.engines.interface import Bounder
from corgi.network.depth import is_deep
from corgi.results import Decision, DeterministicCertificate, EmpiricalBound, ExactSearch, Status, Witness
from corgi.terms import EngineName, Form, Norm

_FROM_BELOW = (0.05, 0.15, 0.25, 0.4)
"""Shares of the witness's radius at which bounds begin where it can be far: small balls are little work."""

EVALUATION_SHARE = 0.3
"""Share of the time left that one bound may take once there is something to lose."""


@dataclass
class Session:
    """A question about one image, and what is known of it so far.

    Attributes:
        explained: the map; options: what is asked.
        bounders: engines in use.
        image_name: where the image came from; started: when it was asked, by `time.monotonic()`.
        attack: what the attack found; a nearer witness that exact decisions find takes its place.
        known: a certificate of it from before.
        doing: what is under way, for people.
    """

    explained: Explanation
    options: VerifyOptions
    bounders: Bounders
    image_name: str
    started: float
    attack: EmpiricalBound | None = None
    known: DeterministicCertificate | None = None
    doing: str = ""

    def __post_init__(self) -> None:
        attack, explained = self.options.attack, self.explained
        keep_label = attack is not None and attack.keep_label
        self.question = explained.question(self.options.asked, form=self.options.form, keep_label=keep_label)
        self.network, self.class_id = explained.network, explained.class_id
        self.ball = explained.ball(self.options.norm, self.options.where)
        assert self.question.cam is not None
        self.value = float(self.question.holds.margin(self.question.cam))
        self.deep = is_deep(explained.network.trunk)

    @property
    def single(self) -> bool:
        """Whether one pair of pixels that changes places breaks the property."""
        return self.question.holds.single

    @property
    def fallback(self) -> float:
        """The radius that is certified already."""
        return 0.0 if self.known is None else self.known.radius

    @property
    def witness(self) -> Witness | None:
        """The nearest witness."""
        return None if self.attack is None else self.attack.witness

    @property
    def attacked(self) -> float | None:
        """Its distance."""
        return None if self.witness is None else self.witness.radius

    @property
    def late(self) -> str:
        """That time is over, and how much of it there was."""
        limit = self.options.time_limit
        return "time limit reached" if limit is None else f"time limit of {limit:g} s reached"

    def why(self, ended: Status) -> str:
        """Why work ended, which may have had a share of the time."""
        if ended is Status.INTERRUPTED:
            return "interrupted"
        share = f"the {GATE_SHARE:.0%} of the time left that it may take are over"
        return self.late if left() <= 0 else share

    def linear_radius(self) -> float | None:
        """Where a linear network would break (`linear_radius`)."""
        return linear_radius(self.question, self.ball)

    def guesses(self) -> tuple[float, ...]:
        """Just below what the attack found, or below where a linear network would break.

        Bounds of a deep network end below what an attack finds, and take longest beyond: there first a radius
        in which intervals decide nearly all windows, if none is certified yet, for an answer to fall back on,
        then larger ones.
        """
        found, shares = self.attacked, [0.93]
        if found is None:
            found, shares = self.linear_radius(), [0.85]
        if found is None:
            return ()
        if self.deep:
            shares = [0.001, 0.1] if self.fallback > 0 else [1e-6, 0.001, 0.1]
        elif not self.single:
            shares = list(_FROM_BELOW)
        return tuple(share * found for share in shares if share * found > self.fallback)

    def nothing(
        self, status: Status, reason: str, options: VerifyOptions | None = None
    ) -> DeterministicCertificate:
        """No certificate; `options`: how one was looked for, if not as asked."""
        how = options or self.options
        return DeterministicCertificate(
            radius=0.0,
            uncertified_radius=None,
            status=status,
            reason=reason,
            method=how.engine.method,
            form=how.form.value,
            engine=how.engine.name,
            statement=self.options.asked.statement(self.question.top.k),
            k=self.question.top.k,
            k2=self.options.asked.among(self.question.top.k),
            norm=self.ball.norm,
            where=self.ball.where,
            evaluations=0,
            decision=None,
            seconds=0.0,
        )


class Certification:
    """State of one certificate.

    Args:
        session: what it is of.
        options: how to certify, if not as asked.
    """

    def __init__(self, session: Session, options: VerifyOptions | None = None) -> None:
        self.session, self.options = session, options or session.options
        self.margins: Margins | None = None
        self.rounding = 0.0

    def run(self) -> DeterministicCertificate:
        """The certificate; a nearer witness found on the way goes to the session.

        Raises:
            EngineError: the engine cannot bound this network, or certificate and witness contradict each
                other.
            GateError: network or engine differ from onnxruntime.
            OutOfTime: before any radius was certified.
        """
        started, session, engine = time.monotonic(), self.session, self.options.engine
        session.doing = "the engine was held against onnxruntime"
        tell("certify", session.doing)
        self.bounder = session.bounders.bind(engine, session.network, session.class_id)
        image = session.explained.image[None]
        check_engine_at_radius_zero(session.network, session.class_id, self.bounder, image)
        session.doing = "a first ball was bounded"
        exact = self.exact_search(self.bounder)
        certificate = self.by_bounds(self.bracket(exact))
        if exact is not None:
            exact.decider.bounder = self.bounder
            certificate = self.close_gap(exact, certificate)
        elif self.options.exact is not None and self.options.form is Form.PAIRWISE:
            certificate = replace(certificate, exact=self.no_exact_search())
        return replace(certificate, seconds=time.monotonic() - started)

    def exact_search(self, bounder: Bounder) -> ExactRadius | None:
        """What decides margins that bounds leave open, if that was asked for and the form allows it."""
        options, session = self.options.exact, self.session
        if options is None or self.options.form is not Form.PAIRWISE or not bounder.unfolds:
            return None
        deadline = time.monotonic() + min(options.seconds, left())
        return ExactRadius(
            session.question,
            bounder,
            session.ball,
            options,
            deadline,
            certified=0.0 if session.deep else session.fallback,
            witness=session.witness,
        )

    def no_exact_search(self) -> ExactSearch:
        """Why there was none."""
        assert self.options.exact is not None
        reason = (
            f"engine {self.options.engine.name} bounds this network, but cannot decide its margins exactly"
        )
        return ExactSearch(self.options.exact.decider.name, self.options.exact.gap, False, reason)

    def bracket(self, exact: ExactRadius | None) -> Bracket:
        """What is certified by bounds, or empty where exact decisions alone were enough."""
        session = self.session
        if self.options.eps is not None:
            return decide_radius(self.score, session.value, self.options.eps)
        alone = session.single and not session.deep and session.ball.norm is Norm.LINF
        if exact is not None and exact.witness is not None and alone:
            # Bounds near a far witness would take long to say nothing: so of a deep network, where it takes
            # more than one pair to break the property, and in other norms, whose cones there are large.
            if exact.run(until_failure=True) is None:
                return Bracket(session.value)  # certificate and witness have met already
            if exact.ended is Status.INTERRUPTED:
                return Bracket(session.value, status=Status.INTERRUPTED)
        near = session.attacked is not None and session.fallback >= _FROM_BELOW[0] * session.attacked
        if exact is not None and near and not session.single and not session.deep:
            return Bracket(session.value)  # steps of exact decisions go on from there
        # Anew where exact decisions were ended in the middle of a bound.
        self.bounder = session.bounders.prepared(self.options.engine, session.network, session.class_id)

        def on_step(bracket: Bracket) -> None:
            radius, value = bracket.scores[-1]
            detail = f"radius {radius:.3g} {'certified' if value > 0 else 'not certified'}"
            tell("certify", detail, bracket.certified, session.attacked)

        return search_radius(
            self.score,
            session.value,
            ceiling=self.ceiling(),
            limits=self.options.limits,
            first=session.guesses(),
            on_step=on_step,
        )

    def score(self, radius: float) -> float:
        """The score at a radius; its margins tell where to begin at the next one."""
        session, decides = self.session, self.options.eps is not None
        tell("certify", f"radius {radius:.3g} is bounded", session.fallback, session.attacked)
        ball = session.ball.with_radius(radius)
        seconds = left() if decides or session.single else EVALUATION_SHARE * left()
        try:
            with limited(time.monotonic() + seconds):
                found = score(session.question, self.bounder, ball, self.margins, sign_only=decides)
        except OutOfTime:
            if left() <= 0 or decides or session.single:
                raise
            # The radius counts as one that bounds do not certify; a smaller one may take less.
            self.bounder = session.bounders.prepared(self.options.engine, session.network, session.class_id)
            return -math.inf
        self.margins = found.margins
        self.rounding = max(self.rounding, self.bounder.rounding)
        return found.value

    def ceiling(self) -> float:
        """A radius not to be certified: what the attack found, or all images.

        By Lipschitz constants also where a linear network would break: they are at least the gradient here.
        """
        session = self.session
        ceiling = session.ball.largest if session.attacked is None else session.attacked
        if self.options.engine.name != EngineName.LIPSCHITZ or not session.single:
            return ceiling
        linear = session.linear_radius()
        return ceiling if linear is None else min(ceiling, 1.01 * linear)

    def by_bounds(self, bracket: Bracket) -> DeterministicCertificate:
        """The certificate of a bracket; every bound it was made of is rounded outwards."""
        session, decided = self.session, decision(bracket, self.rounding)
        reason = ""
        if bracket.status is Status.TIME_LIMIT:
            reason = session.late
        elif bracket.status is Status.INTERRUPTED:
            reason = "interrupted"
        elif decided is None:
            asked, method = self.options.eps, self.options.engine.method
            reason = "no radius was certified within the limits of the search"
            if asked is not None:
                attacked = "no attack was run" if session.attack is None else "no attack broke it"
                reason = f"the {method} bounds do not decide radius {asked:g}, and {attacked}"
        radius = 0.0 if decided is None else decided.radius
        asked_last = radius or bracket.uncertified or 0.0
        return replace(
            session.nothing(bracket.status, reason, self.options),
            radius=radius,
            uncertified_radius=bracket.uncertified,
            evaluations=len(bracket.scores),
            decision=decided,
            note=self.bounder.shortfall(session.ball.with_radius(asked_last)),
        )

    def close_gap(
        self, exact: ExactRadius, certificate: DeterministicCertificate
    ) -> DeterministicCertificate:
        """The certificate after margins that bounds leave open were decided; a nearer witness is kept."""
        reason = self.decide_open(exact, certificate)
        self.keep_witness(exact)
        details = exact.details(reason)
        interrupted = exact.ended is Status.INTERRUPTED
        if exact.certified <= max(certificate.radius, self.session.fallback):
            status, why = Status.INTERRUPTED if interrupted else certificate.status, certificate.reason
            if status is Status.INTERRUPTED:
                why = why or reason or ""
            elif status is Status.UNKNOWN and reason:
                why = f"{why}; exactly: {reason}"
            return replace(certificate, status=status, reason=why, exact=details)
        assert exact.least is not None
        status = Status.CERTIFIED
        if self.options.eps is not None:
            status = Status.PROVED
        elif interrupted:
            status = Status.INTERRUPTED
        elif reason and left() <= 0:
            status = Status.TIME_LIMIT
        rounding = exact.decider.bounder.rounding
        return replace(
            certificate,
            radius=exact.certified,
            uncertified_radius=min((r for r, _ in exact.failed if r > exact.certified), default=None),
            status=status,
            reason=(reason or "") if status in (Status.INTERRUPTED, Status.TIME_LIMIT) else "",
            method="exact",
            note="",
            evaluations=certificate.evaluations + exact.decider.balls,
            decision=Decision(exact.certified, exact.least + rounding, rounding),
            exact=details,
        )

    def decide_open(self, exact: ExactRadius, certificate: DeterministicCertificate) -> str | None:
        """Decide what bounds left open; returns why that ended early."""
        if Status.INTERRUPTED in (certificate.status, exact.ended):
            return exact.reason or certificate.reason
        if self.options.eps is None:
            exact.take_over(certificate.radius)
            return exact.run()
        exact.one_radius = True
        return exact.decide_one(self.options.eps) if certificate.radius == 0 else None

    def keep_witness(self, exact: ExactRadius) -> None:
        """Feed a witness the exact search found back as the attack's."""
        witness, attack = exact.witness, self.session.attack
        if witness is None or witness is self.session.witness:
            return
        name = exact.options.decider.name
        if attack is None:
            self.session.attack = EmpiricalBound(witness, name, witness.radius, False, 0, 0.0)
        else:
            self.session.attack = replace(attack, witness=witness, attack=f"{attack.attack}, {name}")


def decision(bracket: Bracket, rounding: float) -> Decision | None:
    """The score that certifies a radius, rounding put back; None without a positive one."""
    if not bracket.margin > 0:
        return None
    return Decision(bracket.certified, bracket.margin + rounding, rounding)
