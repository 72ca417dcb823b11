"""The smallest radius at which an attack succeeds: grow until it does, then bisect (theory 1.8)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.attacks.ghorbani import GhorbaniAttack
from corgi.attacks.interface import Attack
from corgi.attacks.margin import MarginAttack
from corgi.attacks.pairs import critical_sets, linear_radius
from corgi.attacks.target import Target
from corgi.attacks.witness import confirm, nearer
from corgi.budget import Stoppable, grace, left, tell, within
from corgi.results import EmpiricalBound, Witness
from corgi.terms import AttackKind
from corgi.types import Ball

_DETOURS = (1.1, 1.25, 1.5)
"""Larger balls attacked when the one asked for withstands: their witness, projected, is a good start."""


@dataclass(frozen=True)
class AttackOptions:
    """How to attack.

    Attributes:
        kind: which attack.
        keep_label: a witness must keep the predicted class.
        steps: gradient steps a ball; None takes the attack's own default.
        restarts: random starts; pairs: starts that follow critical pixels each (margin attack only).
        softplus_beta: steepness of the softplus variant.
        tolerance: relative width at which bisection stops.
        rounds: most balls attacked.
        seed: of the random starts.
    """

    kind: AttackKind = AttackKind.MARGIN
    keep_label: bool = False
    steps: int | None = None
    restarts: int = 2
    pairs: int = 8
    softplus_beta: float = 30.0
    tolerance: float = 0.005
    rounds: int = 40
    seed: int = 0

    def build(self) -> Attack:
        """The attack these options describe."""
        if self.kind is AttackKind.MARGIN:
            return MarginAttack(steps=self.steps or 60, restarts=self.restarts)
        beta = self.softplus_beta if self.kind is AttackKind.TOPK_SOFTPLUS else None
        return GhorbaniAttack(steps=self.steps or 300, softplus_beta=beta)


@settled()
def attack_radius(
    target: Target,
    around: Ball,
    options: AttackOptions,
    *,
    up_to: float | None = None,
    only: float | None = None,
) -> EmpiricalBound:
    """The closest witness an attack finds around an image; time and Ctrl-C end it (budget.py).

    Args:
        target: the property.
        around: a ball around the original image, float32 in [0, 1], for its norm and what may change.
        options: how to attack.
        up_to: largest radius tried; None for the one at which the ball holds every image.
        only: stop at the first witness within this radius; larger balls are attacked only to find the way.
    """
    search = _Search(target, around.with_radius(0.0), options)
    with Stoppable():
        search.aim()
        if only is not None:
            search.reach(only)
        elif search.grow(search.ball.largest if up_to is None else up_to):
            search.bisect()
    return search.result(only)


class _Search:
    """State of one search: the best witness, the largest radius that withstood, the work spent."""

    def __init__(self, target: Target, ball: Ball, options: AttackOptions) -> None:
        self.target, self.ball, self.options = target, ball, options
        self.strategy = options.build()
        self.generator = torch.Generator().manual_seed(options.seed)
        self.best: Witness | None = None
        self.withstood, self.largest = 0.0, 0.0
        self.rounds, self.gradients = 0, 0
        self.started = time.monotonic()

    def aim(self) -> None:
        """Find the pixels likely to change places first."""
        tell("attack", "which pixels change places first, by gradients of each")
        found = critical_sets(self.target, self.ball, self.options.pairs)
        self.target = replace(self.target, critical=found)

    @property
    def spent(self) -> bool:
        return left() <= 0 or self.rounds >= self.options.rounds

    def attack(self, radius: float) -> bool:
        """Attack one ball; keep a confirmed witness. True if there is one."""
        self.rounds += 1
        self.largest = max(self.largest, radius)
        ball = self.ball.with_radius(radius)
        found = None if self.best is None else self.best.radius

        where = f"radius {radius:.3g} (ball {self.rounds} of at most {self.options.rounds})"
        with within(where, found):
            attempt = self.strategy.run(self.target, ball, self.starts(), self.generator)
        self.gradients += attempt.gradients
        witness = None
        if attempt.margin < 0:
            with grace():  # found in time
                witness = confirm(self.target, ball, attempt.image)
        if witness is None:
            self.withstood = max(self.withstood, radius)
        elif self.best is None or witness.radius < self.best.radius:
            self.best = witness  # whatever becomes of the way to it
            self.best = nearer(self.target, ball, witness)
        found = None if self.best is None else self.best.radius
        outcome = "withstood" if witness is None else "broken"
        tell("attack", f"radius {radius:.3g} {outcome}", attacked=found)
        return witness is not None

    def starts(self) -> Tensor:
        """The best witness so far: projected onto a smaller ball it is a good start."""
        if self.best is None:
            return torch.zeros(0, *self.ball.center.shape)
        return torch.from_numpy(self.best.image)[None]

    def grow(self, up_to: float) -> bool:
        guess = linear_radius(self.target, self.ball) or 1e-3
        radius = min(max(guess, 1e-7), up_to)
        while not self.attack(radius):
            if radius >= up_to or self.spent:
                return False
            radius = min(radius * (1.5 if radius < 4 * guess else 4), up_to)
        return True

    def reach(self, radius: float) -> bool:
        """Find a witness within a radius. A witness just outside it, walked back, shows where to start."""
        if self.attack(radius):
            return True
        for share in _DETOURS:
            if self.spent or radius * share > self.ball.largest:
                break
            if self.attack(radius * share) and (self.within(radius) or self.attack(radius)):
                break
        return self.within(radius)

    def within(self, radius: float) -> bool:
        return self.best is not None and self.best.radius <= radius

    def bisect(self) -> None:
        assert self.best is not None
        while not self.spent and self.best.radius > self.withstood * (1 + self.options.tolerance):
            lower = max(self.withstood, 0.5 * self.best.radius)
            self.attack((lower * self.best.radius) ** 0.5)
            if self.withstood >= self.best.radius:
                return

    def result(self, within: float | None = None) -> EmpiricalBound:
        found = within is None or self.within(within)
        return EmpiricalBound(
            witness=self.best if found else None,
            attack=self.strategy.name,
            searched_up_to=self.largest if within is None else within,
            keeps_label=self.target.label is not None,
            gradients=self.gradients,
            seconds=time.monotonic() - self.started,
        )
