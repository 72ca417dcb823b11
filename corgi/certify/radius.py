"""The largest radius a test certifies: a guarded secant on the score (theory 1.6).

The property is monotone, the computed score need not be (relaxation slopes switch). So nothing is inferred
from a failed radius but where to look next, and what is returned is the largest radius actually certified,
with the smallest one tried that was not.

Far above the radius looked for, a score falls faster than any line: of a deep network by many orders of
magnitude. There the secant says nothing, and the search goes by orders of magnitude, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from corgi.budget import Stoppable, check
from corgi.results import Status

_FAR = 1e8
"""A failed score this many times the value at zero below 0 says nothing of where the root is."""

_STEP, _WIDE = 1000, 100
"""After nothing but such failures the radius is `_STEP` times smaller; above a certified radius a bracket
that ends in a failed one is halved by orders of magnitude while it is wider than `_WIDE`."""


_LEAP, _NEAR, _APART = 3.0, 1.1, 1.5
"""How far an extrapolation goes; a root that near to the certified radius is none in a bracket that wide."""


@dataclass(frozen=True)
class SearchLimits:
    """When to stop.

    Attributes:
        tolerance: relative width of the bracket that is narrow enough.
        evaluations: most scores computed.
        smallest: a bracket below this radius is given up (nothing certified).
    """

    tolerance: float = 0.01
    evaluations: int = 30
    smallest: float = 1e-12


@dataclass
class Bracket:
    """Where a search stands, and in the end its result.

    Attributes:
        certified: largest radius with a positive score; uncertified: smallest one without (None: none yet).
        scores: all (radius, score) computed, in order.
        status: CERTIFIED when the search ended with a certified radius (the bracket shows how narrowly),
            TIME_LIMIT, INTERRUPTED, or UNKNOWN when nothing was certified within the limits.
    """

    value_at_zero: float
    certified: float = 0.0
    uncertified: float | None = None
    scores: list[tuple[float, float]] = field(default_factory=list)
    status: Status = Status.UNKNOWN

    @property
    def margin(self) -> float:
        """The largest positive score at the certified radius: each is a bound by itself; -inf without one."""
        proved = (score for at, score in self.scores if at == self.certified and score > 0)
        return max(proved, default=-math.inf)

    def record(self, radius: float, score: float) -> None:
        """Add a computed score; only a positive, non-NaN one certifies."""
        self.scores.append((radius, score))
        if score > 0:
            self.certified = max(self.certified, radius)
        elif self.uncertified is None or radius < self.uncertified:
            self.uncertified = radius


def search_radius(
    score: Callable[[float], float],
    value_at_zero: float,
    *,
    ceiling: float,
    limits: SearchLimits,
    first: Sequence[float] = (),
    on_step: Callable[[Bracket], None] = lambda _: None,
) -> Bracket:
    """Search (0, ceiling) for the largest radius with a positive score.

    Args:
        score: lower bound of the decision margin at a radius; may stop early by `OutOfTime` or Ctrl-C.
        value_at_zero: the decision margin at the image itself, > 0.
        ceiling: a radius known or assumed not to be certifiable (an attack's, or the pixel range).
        limits: when to stop.
        first: good guesses to begin with, ascending; a larger one is tried once the smaller is certified.
        on_step: told after every score.
    """
    bracket = Bracket(value_at_zero)

    def following() -> float | None:
        low, beyond = bracket.certified, bracket.uncertified
        high = ceiling if beyond is None else min(ceiling, beyond)
        narrow = (low > 0 and high <= low * (1 + limits.tolerance)) or high <= limits.smallest
        if narrow or len(bracket.scores) >= limits.evaluations:
            return None
        radius = next_radius(bracket, low, high, limits.tolerance)
        return next((guess for guess in first if low < guess < high), radius) if beyond is None else radius

    def step(radius: float) -> None:
        bracket.record(radius, score(radius))
        on_step(bracket)

    found = search(following, step)
    bracket.status = found or (Status.CERTIFIED if bracket.certified > 0 else Status.UNKNOWN)
    return bracket


def decide_radius(score: Callable[[float], float], value_at_zero: float, radius: float) -> Bracket:
    """The same of one radius, which is decided and not searched: PROVED, or UNKNOWN unless it ended early."""
    bracket = Bracket(value_at_zero)
    asked = iter([radius])
    ended = search(lambda: next(asked, None), lambda radius: bracket.record(radius, score(radius)))
    bracket.status = ended or (Status.PROVED if bracket.certified > 0 else Status.UNKNOWN)
    return bracket


def search(following: Callable[[], float | None], step: Callable[[float], None]) -> Status | None:
    """Take steps at the radii a policy names, until it names none.

    Returns:
        How it ended: TIME_LIMIT or INTERRUPTED; None if by the policy.
    """
    with Stoppable() as end:
        while (radius := following()) is not None:
            check()
            step(radius)
    return end.status


def next_radius(bracket: Bracket, low: float, high: float, tolerance: float) -> float:
    """Where to compute the next score, strictly inside (low, high).

    Aim just below the secant's root while that is above `low`, then just above it: two hits end the search.
    The guard: after two steps that shrank the bracket by less than half, bisect. Scores of deep networks
    bend down: a line through two certified radii is followed for a factor only, one from a failed radius not
    to the certified one.
    """
    if not bracket.scores:
        return 0.75 * high
    far = any(at == bracket.uncertified and _is_far(bracket, score) for at, score in bracket.scores)
    if low > 0 and bracket.uncertified is not None and high > _WIDE * low:
        return math.sqrt(low * high)
    root = _secant_root(bracket)
    if far and low == 0:
        return high / _STEP
    if root is None or _slow(bracket) or not low < root < high:
        return (low * high) ** 0.5 if low > 0 else 0.25 * high
    if low > 0 and bracket.uncertified is None:
        root = min(root, _LEAP * low)
    elif low > 0 and root < _NEAR * low and high > _APART * low:
        # The score falls faster and faster: the failed end, far away, pulled the root to the certified one.
        return math.sqrt(low * high)
    below, above = root * (1 - tolerance / 3), root * (1 + tolerance / 3)
    if low < root * (1 - tolerance / 2) and below < high:
        return below
    return above if low < above < high else (low * high) ** 0.5 if low > 0 else 0.5 * high


def _secant_root(bracket: Bracket) -> float | None:
    """Root of the line through the nearest points on both sides, (0, value_at_zero) among them.

    With no failed radius yet, or no certified one, it extends the line through the two nearest points; failed
    ones that are far off do not count.
    """
    points = [(0.0, bracket.value_at_zero), *bracket.scores]
    finite = [p for p in points if abs(p[1]) < float("inf")]
    passed = sorted(p for p in finite if p[1] > 0)
    failed = sorted(p for p in finite if p[1] <= 0 and not _is_far(bracket, p[1]))
    if failed:
        first, second = passed[-1], failed[0]
    elif len(passed) > 1:
        first, second = passed[-2], passed[-1]
    else:
        return None
    slope = (second[1] - first[1]) / (second[0] - first[0]) if second[0] > first[0] else 0.0
    return first[0] - first[1] / slope if slope < 0 else None


def _is_far(bracket: Bracket, score: float) -> bool:
    return -float("inf") < score < -_FAR * bracket.value_at_zero


def _slow(bracket: Bracket) -> bool:
    """Whether the last two steps together left more than half of the bracket before them."""
    if len(bracket.scores) < 4:
        return False
    return _width(bracket, 0) > 0.5 * _width(bracket, 2)


def _width(bracket: Bracket, back: int) -> float:
    scores = bracket.scores[: len(bracket.scores) - back]
    low = max((r for r, s in scores if s > 0), default=0.0)
    high = min((r for r, s in scores if not s > 0), default=float("inf"))
    return high - low
