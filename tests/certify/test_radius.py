"""The radius search: what it returns was certified, whatever the score does."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from corgi.budget import limited
from corgi.certify.radius import SearchLimits, search_radius
from corgi.results import Status


@given(
    root=st.floats(1e-6, 0.9),
    power=st.floats(0.3, 3),
    noise=st.floats(0, 0.2),
    ceiling=st.floats(1.01, 50),
)
def test_the_bracket_holds_the_root_of_a_smooth_score(root, power, noise, ceiling) -> None:
    def score(radius: float) -> float:
        return 1 - (radius / root) ** power

    bracket = search_radius(score, 1.0, ceiling=min(root * ceiling, 1.0), limits=SearchLimits(evaluations=60))
    assert 0 < bracket.certified <= root
    assert bracket.status is Status.CERTIFIED
    upper = bracket.uncertified if bracket.uncertified is not None else min(root * ceiling, 1.0)
    assert upper <= bracket.certified * 1.011


@given(scores=st.lists(st.sampled_from([1.0, -1.0, math.nan, math.inf, -math.inf, 0.0]), min_size=1))
def test_only_a_positive_score_certifies(scores) -> None:
    """Arbitrary, even non-monotone and undefined scores: the result is a radius that scored > 0, or 0."""
    seen = {}

    def score(radius: float) -> float:
        seen[radius] = scores[len(seen) % len(scores)]
        return seen[radius]

    bracket = search_radius(score, 1.0, ceiling=1.0, limits=SearchLimits(evaluations=12))
    assert bracket.certified == 0 or seen[bracket.certified] > 0
    assert len(bracket.scores) <= 12
    assert (bracket.status is Status.CERTIFIED) == (bracket.certified > 0)


def test_a_nearly_linear_score_needs_few_evaluations() -> None:
    def score(radius: float) -> float:
        return 1 - radius / 0.0013 - (radius / 0.01) ** 2

    bracket = search_radius(score, 1.0, ceiling=0.0016, limits=SearchLimits())
    assert bracket.certified > 0
    assert len(bracket.scores) <= 6


def test_a_far_ceiling_that_nothing_failed_at_does_not_slow_a_search() -> None:
    """The second certified radius may lie just below the root: no reason to look far above it.

    The ceiling stands for no attack; scores of the paper's network (00035.ppm, k = 15).
    """

    def score(radius: float) -> float:
        return 1.2706616956 - radius / 2.8342390699883827e-05 * 1.0455506419

    limits = SearchLimits()
    bracket = search_radius(score, 1.2706616956, ceiling=1.0, first=(2.8342390699883827e-05,), limits=limits)
    assert bracket.certified > 0.99 * 1.2706616956 / 1.0455506419 * 2.8342390699883827e-05
    assert len(bracket.scores) <= 4


def test_a_score_that_bends_far_below_its_first_failure_is_searched_by_orders_of_magnitude() -> None:
    """A line from the failed radius puts the root nine orders too low, and each next one a little higher."""

    def score(radius: float) -> float:
        return max(1 - (radius / 1e-9) ** 2, -1e7)

    bracket = search_radius(
        score, 1.0, ceiling=1e-5, first=(1e-6,), limits=SearchLimits(tolerance=0.1, evaluations=5)
    )
    assert bracket.certified > 0.85e-9


def test_interrupt_keeps_what_was_certified() -> None:
    calls = []

    def score(radius: float) -> float:
        calls.append(radius)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 1 - radius / 0.5

    bracket = search_radius(score, 1.0, ceiling=1.0, limits=SearchLimits())
    assert bracket.status is Status.INTERRUPTED
    assert bracket.certified == max((r for r in calls[:2] if r < 0.5), default=0.0)


def test_deadline_stops_before_the_next_evaluation() -> None:
    with limited(0.0):
        bracket = search_radius(lambda r: 1.0, 1.0, ceiling=1.0, limits=SearchLimits())
    assert bracket.status is Status.TIME_LIMIT
    assert bracket.scores == []
    assert bracket.certified == 0


def test_a_score_that_explodes_is_searched_by_orders_of_magnitude() -> None:
    """As of a deep network: linear up to its radius, beyond it anything."""

    def score(radius: float) -> float:
        return 1 - radius / 3e-9 if radius < 4e-9 else -1e20 * radius

    bracket = search_radius(score, 1.0, ceiling=1e-3, limits=SearchLimits(tolerance=0.1), first=(9e-4,))
    assert 2.7e-9 < bracket.certified < 3e-9
    assert len(bracket.scores) <= 12
