"""What can be asked of `verify`."""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass, field

from corgi.attacks.search import AttackOptions
from corgi.budget import check_limit
from corgi.certify.methods import default_engine
from corgi.certify.radius import SearchLimits
from corgi.decide.ball import ExactOptions
from corgi.engines.interface import BoundEngine
from corgi.errors import UsageError
from corgi.properties.interface import Property
from corgi.properties.topk import Topk
from corgi.terms import Form, Size
from corgi.types import Norm, Where


@dataclass(frozen=True)
class VerifyOptions:
    """What to verify and how.

    Attributes:
        k: size of the set.
        k2: the set must stay among the k2 largest; None means k.
        property: what is asked of the map; None for that of the set.
        class_id: class to explain; None means the predicted one.
        norm: of the ball.
        where: which pixels may change, and how far in radii; None for all.
        eps: decide this radius (pixel scale) instead of searching.
        engine, form: how to bound.
        attack: how to attack; None for no attack.
        exact: how to decide what bounds leave open; None for bounds alone. Form pairwise only.
        tolerance: relative width of the final bracket.
        max_evaluations: most bound evaluations of a search.
        time_limit: seconds after which the best certificate so far is returned.
        label: certify the predicted class, too.
    """

    k: Size = None
    k2: int | None = None
    property: Property | None = None
    class_id: int | None = None
    norm: Norm = Norm.LINF
    where: Where | None = None
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
        check_limit(self.time_limit)
        check_alone(self.k2, self.property)
        if not 0 < self.tolerance < 1:
            raise UsageError(f"tolerance = {self.tolerance}: expected a share in (0, 1)")
        if self.max_evaluations < 1:
            raise UsageError(f"max evaluations = {self.max_evaluations}: expected at least 1")

    @builtins.property
    def asked(self) -> Property:
        """What is asked of the map."""
        return self.property or Topk(self.k2)

    @builtins.property
    def limits(self) -> SearchLimits:
        """Of a search."""
        return SearchLimits(self.tolerance, self.max_evaluations)


def check_alone(k2: int | None, property: Property | None) -> None:
    """Refuse a k2 that a property stands beside: its own, or none, would count instead.

    Raises:
        UsageError: both are given.
    """
    if k2 is not None and property is not None:
        raise UsageError(
            f"k2 = {k2} beside property {property.name}", hint="It is an option of topk: `Topk(k2)`."
        )


def check_radius(option: str, radius: float | None, norm: Norm) -> None:
    """Refuse a radius that no ball can have; None is none.

    Raises:
        UsageError: not a finite number > 0, or in l_inf beyond the pixel scale.
    """
    if radius is None or (math.isfinite(radius) and 0 < radius <= (1 if norm is Norm.LINF else math.inf)):
        return
    expected = "a radius in (0, 1]" if norm is Norm.LINF else f"an {norm.label} radius > 0"
    raise UsageError(f"{option} {radius}: expected {expected}, pixel scale [0, 1]")
