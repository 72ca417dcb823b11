"""Fixed radii of one image decided, and shares of many: certified accuracy, as robust learning reports it.

A property that holds within a radius holds within every smaller one, and a witness within a radius refutes
every larger one. So there is one bracket for all radii: those up to the certified radius are proved, those
from the witness on are refuted, and every answer moves one end of it. First an attack finds the nearest
witness it can. Then radii below it are decided from the smallest on, which are the quickest to bound. What
stays open is attacked by itself. The time that is left goes to the search for the largest certified radius.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from corgi.ambient import settled
from corgi.attacks.search import attack_radius
from corgi.budget import left, limited
from corgi.certify.bounders import Bounders
from corgi.certify.explain import Explanation, explain
from corgi.certify.options import VerifyOptions, check_radius
from corgi.certify.verify import verify_explained
from corgi.decide.ball import refuse_contradiction
from corgi.errors import EngineError, GateError, UsageError
from corgi.network.network import Network
from corgi.results import DeterministicCertificate, EmpiricalBound, ImageArray, VerifyResult
from corgi.terms import Status

_ATTACK_SHARE, _BOUND_SHARE, _OPEN_SHARE = 0.25, 0.7, 0.3
"""Shares, each of what is left of a time limit: of the first attack, of deciding radii from the smallest on,
and of attacks on those that stay open, all together. The search has the rest."""


@dataclass(frozen=True)
class RadiiDecided:
    """What is known of some radii around one image.

    Attributes:
        result: the search, with the largest certificate and the nearest witness of all that was decided, and
            the radii (`VerifyResult.radii`).
    """

    result: VerifyResult

    @property
    def radii(self) -> tuple[float, ...]:
        """Asked for, pixel scale, ascending."""
        return tuple(radius for radius, _ in self.result.radii)

    @property
    def statuses(self) -> tuple[Status, ...]:
        """Of each radius PROVED, REFUTED (a confirmed witness within it) or UNKNOWN, which is open."""
        return tuple(status for _, status in self.result.radii)

    @property
    def holds(self) -> bool | None:
        """Whether the property holds at the image itself; None if float64 rounding hides it.

        Where it does not, every radius is UNKNOWN: there is nothing to keep.
        """
        return self.result.holds

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self.result.seconds

    @property
    def certified(self) -> float:
        """The certified radius, pixel scale; 0 if none."""
        return self.result.certificate.radius

    @property
    def attacked(self) -> float | None:
        """The distance of the nearest witness; None without one."""
        return None if self.result.attack is None else self.result.attack.radius

    @property
    def open(self) -> tuple[float, ...]:
        """The radii that are neither proved nor refuted."""
        return tuple(radius for radius, status in self.result.radii if status is Status.UNKNOWN)


@dataclass(frozen=True)
class Share:
    """How many of some images are certified within a radius.

    Attributes:
        radius: pixel scale.
        images: all of them; holds: those at which the property holds at the image itself.
        certified, refuted, open: how those are divided.
    """

    radius: float
    images: int
    holds: int
    certified: int
    refuted: int
    open: int


@settled()
def decide_radii(
    network: Network,
    image: ImageArray,
    options: VerifyOptions | None = None,
    radii: Sequence[float] = (),
    bounders: Bounders | None = None,
    *,
    image_name: str = "array",
) -> RadiiDecided:
    """Decide radii around an image [C, H, W] float32 in [0, 1].

    Args:
        network: with the map.
        image: its input.
        options: what to verify and how, without `eps`; its time limit is that of all radii together.
        radii: pixel scale, in any order.
        bounders: shared among calls on the same network, so that nothing is prepared twice.
        image_name: where the image came from.

    Raises:
        UsageError: no radius, one that no ball can have, or options that decide one already; see `verify`
            for others.
        ImageError, GateError, EngineError: see `verify`.
    """
    options, started = options or VerifyOptions(), time.monotonic()
    check_radii(radii, options)
    explained = explain(network, image, options.k, options.class_id)
    return decide_explained(explained, options, radii, bounders, image_name=image_name, started=started)


@settled()
def decide_explained(
    explained: Explanation,
    options: VerifyOptions,
    radii: Sequence[float],
    bounders: Bounders | None = None,
    *,
    image_name: str = "array",
    started: float | None = None,
) -> RadiiDecided:
    """The same of a map that was explained before: k and class are those of the explanation.

    `started`: when the time that there is began, by `time.monotonic()`; None for now.
    """
    started, chosen = time.monotonic() if started is None else started, check_radii(radii, options)
    with limited(None if options.time_limit is None else started + options.time_limit):
        deciding = _Deciding(explained, options, bounders or Bounders(), image_name)
        return deciding.run(chosen, started)


def check_radii(radii: Iterable[float], options: VerifyOptions) -> tuple[float, ...]:
    """The radii, each once, ascending.

    Raises:
        UsageError: none, one that no ball of the norm can have, or options that decide one already.
    """
    chosen = tuple(sorted(set(radii)))
    if not chosen:
        raise UsageError("radii: expected at least one")
    if options.eps is not None:
        raise UsageError(f"eps = {options.eps:g} beside radii", hint="Name all radii to decide in `radii`.")
    for radius in chosen:
        check_radius("radii:", radius, options.norm)
    return chosen


class _Deciding:
    """State of one computation: the best that is known."""

    def __init__(
        self, explained: Explanation, options: VerifyOptions, bounders: Bounders, image_name: str
    ) -> None:
        # The time limit is that of the scope around all of it.
        self.explained, self.options = explained, replace(options, time_limit=None)
        self.bounders, self.image_name = bounders, image_name
        self.attack: EmpiricalBound | None = None
        self.certificate: DeterministicCertificate | None = None
        self.stopped = ""
        """Why the last search found no certificate at all, where one was known before."""

    def run(self, radii: tuple[float, ...], started: float) -> RadiiDecided:
        holds = self.explained.holds(self.options.asked)
        if holds:
            self.look(_ATTACK_SHARE)
            with limited(time.monotonic() + _BOUND_SHARE * left()):
                self.bound(radii)
            for number, radius in enumerate(opened := self.opened(radii)):
                if radius in self.opened(radii):
                    self.look(_OPEN_SHARE / (len(opened) - number), radius)
        known = self.certificate if self.certified > 0 else None
        result = self.better(self.verify(attacked=self.attack, certified=known))
        decided = tuple((radius, self.status(radius) if holds else Status.UNKNOWN) for radius in radii)
        if holds and result.status is Status.CERTIFIED and self.opened(radii) and not result.reason:
            result = replace(result, reason=self.stopped)
        seconds = time.monotonic() - started
        return RadiiDecided(replace(result, radii=decided, holds=holds, seconds=seconds))

    def verify(
        self,
        *,
        attacked: EmpiricalBound | None = None,
        certified: DeterministicCertificate | None = None,
        **changes: Any,
    ) -> VerifyResult:
        """A search, or one radius decided."""
        options = replace(self.options, **changes)
        name, bounders = self.image_name, self.bounders
        return verify_explained(
            self.explained,
            options,
            image_name=name,
            bounders=bounders,
            attacked=attacked,
            certified=certified,
        )

    def look(self, share: float, only: float | None = None) -> None:
        """Attack, one radius or all of them, in a share of the time left."""
        options = self.options.attack
        if options is None or left() <= 0:
            return
        keeps, ball = options.keep_label, self.explained.ball(self.options.norm, self.options.where)
        target = self.explained.question(self.options.asked, form=self.options.form, keep_label=keeps)
        with limited(time.monotonic() + share * left()):
            self.learn(None, attack_radius(target, ball, options, only=only))

    def bound(self, radii: tuple[float, ...]) -> None:
        """Decide radii below the witness from the smallest on, until one stays open."""
        engine, explained = self.options.engine, self.explained
        try:
            self.bounders.prepared(engine, explained.network, explained.class_id)
        except EngineError:  # the search says so
            return
        for radius in self.opened(radii):
            if left() <= 0 or radius not in self.opened(radii):
                return
            with suppress(GateError):  # the search says so, or has a witness to answer with
                found = self.verify(attack=None, eps=radius, label=False)
                self.learn(found.certificate, found.attack)
                if found.status is not Status.PROVED:
                    return

    @property
    def attacked(self) -> float | None:
        return None if self.attack is None else self.attack.radius

    @property
    def certified(self) -> float:
        return 0.0 if self.certificate is None else self.certificate.radius

    def status(self, radius: float) -> Status:
        """What the bracket says of a radius."""
        if radius <= self.certified:
            return Status.PROVED
        return Status.REFUTED if self.attacked is not None and radius >= self.attacked else Status.UNKNOWN

    def opened(self, radii: tuple[float, ...]) -> list[float]:
        """The radii inside the bracket, ascending."""
        return [radius for radius in radii if self.status(radius) is Status.UNKNOWN]

    def learn(self, certificate: DeterministicCertificate | None, attack: EmpiricalBound | None) -> None:
        """Keep what is better: a larger certificate, a nearer witness.

        Raises:
            EngineError: the two contradict each other.
        """
        certified, attacked = self.certified, self.attacked
        if certificate is not None and certificate.status is Status.PROVED:
            certificate = replace(certificate, status=Status.CERTIFIED)  # of the search for the largest one
        if certificate is not None and (self.certificate is None or certificate.radius > certified):
            self.certificate = certificate
        nearest = None if attack is None else attack.radius
        if self.attack is None or (nearest is not None and (attacked is None or nearest < attacked)):
            self.attack = attack
        assert self.certificate is not None or certificate is None
        if self.certificate is not None:
            refuse_contradiction(self.certificate.engine, self.certified, self.attacked)

    def better(self, result: VerifyResult) -> VerifyResult:
        """The search with the best that is known.

        Raises:
            EngineError: a certificate and a witness contradict each other.
        """
        # Of equals those of the search, which say how it ended.
        before = self.certificate
        self.certificate = result.certificate
        self.learn(before, result.attack)
        assert self.certificate is not None
        status, reason = result.status, result.reason
        if status is Status.UNKNOWN and self.certified > 0:
            self.stopped = f"the last search: {reason}" if reason else ""
            status, reason = Status.CERTIFIED, ""
        return replace(result, certificate=self.certificate, attack=self.attack, status=status, reason=reason)


def shares(decided: Sequence[RadiiDecided]) -> tuple[Share, ...]:
    """For every radius how many of some images are certified within it, all asked of the same radii.

    Raises:
        UsageError: of different radii.
    """
    if len({one.radii for one in decided}) > 1:
        raise UsageError("shares: the images were asked for different radii")
    return tuple(
        share(radius, [(one.holds, one.statuses[place]) for one in decided])
        for place, radius in enumerate(decided[0].radii if decided else ())
    )


def share(radius: float, decided: Sequence[tuple[bool | None, Status]]) -> Share:
    """The share at one radius; of each image whether the property holds there, and the radius' status."""
    holding = [status for holds, status in decided if holds]
    certified, refuted = holding.count(Status.PROVED), holding.count(Status.REFUTED)
    opened = len(holding) - certified - refuted
    return Share(radius, len(decided), len(holding), certified, refuted, opened)
