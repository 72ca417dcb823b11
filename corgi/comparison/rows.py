"""What `corgi compare` answers: one row a method, radii that can be read in l_inf and in l_2.

    ||d||_inf <= ||d||_2 <= sqrt(n) ||d||_inf        for a change d of n = C * H * W values,

so an l_inf ball of radius r contains the l_2 ball of radius r, and an l_2 ball of radius R contains the l_inf
ball of radius R / sqrt(n): what holds on a ball holds on the ball inside it. The other way nothing follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from corgi.certify.explain import Explanation
from corgi.results import Brief, FloatArray
from corgi.types import Norm


class Guarantee(StrEnum):
    """What a row's numbers mean."""

    DETERMINISTIC = "deterministic"
    """Proved for every image of the ball."""
    STATISTICAL = "statistical"
    """Wrong with a stated probability at most, over the noise drawn; about a smoothed map."""
    EMPIRICAL = "empirical"
    """An image was found: an upper bound on every certificate of the same map, never a guarantee."""


@dataclass(frozen=True, repr=False)
class Row(Brief):
    """One method's answer about the k largest pixels of its map, or about a region.

    Of a region `pixels` are all of it, and what is kept is its one largest pixel as the largest of the map.

    Attributes:
        method: who answers.
        about: of which map.
        values, pixels: that map at the image, [h, w], and its k largest pixels, largest first.
        guarantee: what kind of answer.
        norm: of the radii: l_inf or l_2.
        steps: (kept, radius), radii in the pixel scale, ascending while fewer are kept. Of a certificate:
            within the radius at least `kept` of the k stay. Of an attack: an image at that distance keeps
            only so many.
        work: what was computed, as text.
        seconds: wall time.
        failure_probability: of a statistical answer, else 0.
        elsewhere: of an attack, the same image's distance in the other of the two norms.
        reason: why nothing is certified, or not all k; empty otherwise.
    """

    method: str
    about: str
    values: FloatArray
    pixels: tuple[int, ...]
    guarantee: Guarantee
    norm: Norm
    steps: tuple[tuple[int, float], ...]
    work: str
    seconds: float
    failure_probability: float = 0.0
    elsewhere: float | None = None
    reason: str = ""

    @property
    def k(self) -> int:
        """How many pixels the answer is about."""
        return len(self.pixels)

    def radius(self, kept: int, norm: Norm, inputs: int) -> float:
        """Within which at least `kept` stay, for images of `inputs` values: rounded down, 0 if none."""
        best = max((radius for least, radius in self.steps if least >= kept), default=0.0)
        return converted(best, self.norm, norm, inputs)

    def distance(self, norm: Norm) -> float | None:
        """Of an attack: how far the image it found is, never below the truth; None if it found none."""
        if not self.steps:
            return None
        return self.steps[0][1] if norm is self.norm else self.elsewhere


def wanted(share: float, k: int) -> int:
    """A share of k pixels, rounded up."""
    return math.ceil(round(share * k, 9))


def converted(radius: float, norm: Norm, other: Norm, inputs: int) -> float:
    """The radius of the largest ball in another norm inside a ball: l_inf and l_2 only. Rounded down."""
    assert {norm, other} <= {Norm.LINF, Norm.L2}
    if norm is other or norm is Norm.LINF or radius <= 0:
        return radius
    # One rounding of the root and one of the quotient, each at most half an ulp.
    return math.nextafter(math.nextafter(radius / math.sqrt(inputs), 0.0), 0.0)


@dataclass(frozen=True, repr=False)
class Comparison(Brief):
    """The answer of `corgi compare`.

    Attributes:
        explanation: the map and its k largest pixels.
        rows: one a method, in the order computed.
        share: of the k pixels, which the second pair of columns asks for.
        forward_seconds: of one forward pass of the network on one image: the unit of cost.
        interrupted: Ctrl-C ended it; finished rows are there.
        seconds: wall time.
        pointing: the same of a region, where one was asked for: whether the largest pixel stays inside.
    """

    explanation: Explanation
    rows: tuple[Row, ...]
    share: float
    forward_seconds: float
    interrupted: bool
    seconds: float
    pointing: tuple[Row, ...] = ()

    @property
    def region(self) -> tuple[int, ...]:
        """The map pixels of the region; empty where none was asked for, or nothing was finished."""
        return self.pointing[0].pixels if self.pointing else ()
