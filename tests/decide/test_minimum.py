"""Bounds that grow with the work spent: never above the least value, and in the end that value."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from corgi.budget import limited
from corgi.decide.linear import LinearRelaxation
from corgi.decide.minimum import TreeMinimum
from tests.decide.cases import Case, brute_force, patterns, subjects


def cases(seeds: range, folder: Path) -> list[Case]:
    """With few enough patterns of maxima to try them all."""
    found = []
    for subject, rng in subjects(seeds, folder):
        for share in (0.9, 1.5, 4.0):
            case = subject.case(rng, share)
            if case.radius > 0 and 2 <= patterns(case.cone) <= 300:
                found.append(case)
    return found


def test_bounds_grow_up_to_the_least_value(tmp_path: Path) -> None:
    compared = 0
    for case in cases(range(3000, 3040), tmp_path):
        least, slack = brute_force(case.cone), 1e-7 * max(case.subject.scale, 1)
        minimum, before = TreeMinimum(case.cone), -math.inf
        while not minimum.finished:
            minimum.improve(2, math.inf)
            assert before <= minimum.bound <= least + slack
            assert minimum.seen >= least - slack
            before = minimum.bound
        assert minimum.bound >= least - slack
        compared += minimum.nodes > 1
    assert compared >= 10


def test_work_ends_where_the_bound_is_enough(tmp_path: Path) -> None:
    ended = 0
    for case in cases(range(3000, 3040), tmp_path):
        whole, least = TreeMinimum(case.cone), brute_force(case.cone)
        whole.improve(10**6, math.inf)
        some = TreeMinimum(case.cone)
        some.improve(10**6, least - 0.2 * abs(least) - 1)
        assert some.bound > least - 0.2 * abs(least) - 1
        ended += some.nodes < whole.nodes
    assert ended >= 5


def test_nothing_is_spent_once_time_is_over(tmp_path: Path) -> None:
    case = next(case for case in cases(range(3000, 3040), tmp_path) if patterns(case.cone) > 8)
    with limited(time.monotonic()):
        minimum = TreeMinimum(case.cone)
        minimum.improve(100, math.inf)
    assert minimum.nodes <= 1


@pytest.mark.parametrize("at", range(1, 8))
def test_one_that_was_interrupted_says_no_more(at: int, tmp_path: Path, monkeypatch) -> None:
    """Ctrl-C in any sub-problem: nodes that were to replace their parent are not missing in the bound."""
    solve, calls = LinearRelaxation.solve, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == at:
            raise KeyboardInterrupt
        return solve(self, *args)

    hit = 0
    for case in cases(range(3000, 3010), tmp_path):
        calls.clear()
        minimum = TreeMinimum(case.cone)
        with monkeypatch.context() as patch:
            patch.setattr(LinearRelaxation, "solve", interrupted)
            try:
                minimum.improve(100, math.inf)
            except KeyboardInterrupt:
                hit += 1
                known = minimum.bound
                assert minimum.finished
                minimum.improve(100, math.inf)
                assert minimum.bound == known
        assert minimum.bound <= brute_force(case.cone) + 1e-7 * max(case.subject.scale, 1)
    assert hit >= 1
