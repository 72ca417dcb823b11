"""The closest image an attack finds whose map has other largest pixels: an upper bound, no guarantee."""

from __future__ import annotations

import time
from dataclasses import dataclass

from corgi.ambient import settled
from corgi.attacks.search import AttackOptions, attack_radius
from corgi.budget import cancelled, check_limit, limited
from corgi.certify.explain import Explanation, explain
from corgi.certify.options import check_alone, check_radius
from corgi.network.network import Network
from corgi.properties.interface import Property
from corgi.properties.topk import Topk
from corgi.results import Brief, EmpiricalBound, ImageArray
from corgi.terms import Size
from corgi.types import Norm, Where


@dataclass(frozen=True, repr=False)
class AttackResult(Brief):
    """The answer to `corgi attack`.

    Attributes:
        explanation: the map and its top-k set.
        found: the closest witness, or that there is none.
        asked: the property. norm: of the distance; where: what may change, None for every pixel.
        eps: the only radius attacked, pixel scale; None for a search.
        seed: of the random starts.
        interrupted: Ctrl-C ended it early.
    """

    explanation: Explanation
    found: EmpiricalBound
    asked: Property
    norm: Norm
    eps: float | None
    seed: int
    interrupted: bool
    where: Where | None = None

    @property
    def k2(self) -> int:
        """Among how many of the largest pixels the set must stay (`Property.among`)."""
        return self.asked.among(self.explanation.top.k)


@settled()
def attack(
    network: Network,
    image: ImageArray,
    options: AttackOptions | None = None,
    *,
    k: Size = None,
    k2: int | None = None,
    property: Property | None = None,
    class_id: int | None = None,
    norm: Norm = Norm.LINF,
    where: Where | None = None,
    eps: float | None = None,
    time_limit: float | None = None,
) -> AttackResult:
    """Look for the closest image to one [C, H, W] float32 in [0, 1] whose map has other largest pixels.

    Args:
        network: the network.
        image: its input.
        options: how to attack.
        k: size of the set.
        k2: the set must stay among the k2 largest, None for k.
        property: what is asked of the map, None for that of the set.
        class_id: class to explain, None for the predicted one.
        norm: of the distance.
        where: which pixels may change, and how far in radii; None for all.
        eps: attack this radius only, pixel scale.
        time_limit: seconds after which the best until then is the answer.

    Raises:
        ImageError, UsageError, GateError: as `explain`; or a radius, ranks or a time that cannot be.
    """
    check_alone(k2, property)
    check_radius("--eps", eps, norm)
    check_limit(time_limit)
    deadline = None if time_limit is None else time.monotonic() + time_limit
    options = options or AttackOptions()
    explained = explain(network, image, k, class_id)
    asked = property or Topk(k2)
    target = explained.question(asked, keep_label=options.keep_label)
    around = explained.ball(norm, where)
    with limited(deadline):
        found = attack_radius(target, around, options, only=eps)
    return AttackResult(explained, found, asked, norm, eps, options.seed, cancelled(), where)
