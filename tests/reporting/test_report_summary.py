from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corgi.reporting.summary import Run, make_report, make_run, quartiles, round_numbers, shares, summarise
from tests.reporting.example_cases import ORIGIN, make_case, make_failure, make_setup, small_report
from tests.reporting.example_results import make_result, make_tie, make_unknown

RADII = st.lists(
    st.tuples(st.floats(0, 1), st.none() | st.floats(1.001, 10)), min_size=1, max_size=8
)  # certified, and attack / certified


def make_cases(radii: list[tuple[float, float | None]]) -> list:
    return [
        make_case(
            key,
            make_result(),
            certified_radius=certified,
            attack_radius=None if factor is None else max(certified * factor, 1e-9),
        )
        for key, (certified, factor) in enumerate(radii)
    ]


@given(RADII)
def test_shares_bound_each_other_and_fall(radii: list[tuple[float, float | None]]) -> None:
    found = shares(make_cases(radii))
    for share in found:
        assert 0 <= share.certified <= share.unbroken <= 1
        assert share.certified == sum(certified >= share.radius for certified, _ in radii) / len(radii)
    assert list(found) == sorted(found, key=lambda share: share.radius)
    assert [share.certified for share in found] == sorted((s.certified for s in found), reverse=True)


def test_what_has_no_answer_counts_as_nothing_certified() -> None:
    cases = [
        make_case(0, make_result()),
        make_case(1, make_unknown()),
        make_failure(2),
        make_case(3, make_tie()),
    ]
    found = summarise(cases)
    assert (found.images, found.failed, found.certified, found.witnesses) == (4, 1, 1, 1)
    assert found.certified_radius.count == 4
    assert found.certified_radius.median == 0
    assert found.attack_radius is not None
    assert found.attack_radius.count == 1
    assert found.statuses == (("unknown", 2), ("certified", 1), ("failed", 1))
    assert sum(count for _, count in found.statuses) == found.images
    assert all(share.certified <= 0.25 for share in shares(cases))


def test_quartiles_are_numpys() -> None:
    assert quartiles([]) is None
    found = quartiles([1.0, 2.0, 3.0, 4.0])
    assert found is not None
    assert (found.low, found.median, found.high, found.count) == (1.75, 2.5, 3.25, 4)


def test_a_witness_inside_its_certified_radius_is_counted() -> None:
    fine, wrong = make_case(0, make_result()), make_case(1, make_result(), certified_radius=0.0015625)
    assert summarise([fine]).contradictions == 0
    assert summarise([fine, wrong]).contradictions == 1


def one_case_run(seed: int, **changes: object) -> Run:
    return make_run(make_setup(seed=seed), [], [make_case(0, make_result(), **changes)])


@pytest.mark.parametrize(
    ("changes", "contradictions"),
    [
        ({"certified_radius": 0.001}, 0),
        ({"certified_radius": 0.0016}, 1),
        ({"certified_radius": 0.0016, "k2": 16}, 0),
        ({"certified_radius": 0.0016, "model_sha256": "11" * 32}, 0),
        ({"certified_radius": 0.0016, "gap": 0.2}, 0),
    ],
)
def test_runs_that_contradict_each_other_are_counted(changes: dict, contradictions: int) -> None:
    runs = [one_case_run(0), one_case_run(1, attack_radius=None, **changes)]
    for order in (runs, runs[::-1]):
        (pair,) = make_report("", order, ORIGIN).comparisons
        assert pair.contradictions == contradictions
        assert pair.same_property == (len(changes) == 1)


def test_comparison_is_by_image_and_names_what_changed_most() -> None:
    pair = small_report().comparisons[0]
    assert (pair.images, pair.larger, pair.equal, pair.smaller) == (2, 0, 1, 1)
    assert pair.most_changed == ((0, 0),)
    assert pair.ratio is not None
    assert pair.ratio.median == pytest.approx((0.0008 / 0.00113456 + 1) / 2)


def test_every_two_runs_are_compared() -> None:
    runs = [one_case_run(seed) for seed in range(4)]
    pairs = [(pair.first, pair.second) for pair in make_report("", runs, ORIGIN).comparisons]
    assert pairs == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_a_run_without_any_answer() -> None:
    run = make_run(make_setup(), [], [make_failure(0)])
    assert (run.norm, run.classes, run.shares, run.summary.ratio) == (None, (), (), None)


def test_classes_are_those_explained() -> None:
    case = make_case(0, replace(make_result(), class_id=3, class_name="stop"))
    run = make_run(make_setup(), [], [case, make_case(1, make_result()), make_case(2, make_result())])
    assert [(c.class_id, c.class_name, c.summary.images) for c in run.classes] == [
        (3, "stop", 1),
        (17, "no entry", 2),
    ]


@given(st.floats(1e-12, 1e3), st.floats(10, 1e6))
def test_round_numbers_lie_between_and_a_decade_has_some(low: float, factor: float) -> None:
    found = round_numbers(low, low * factor)
    assert all(low <= number <= low * factor for number in found)
    assert found == sorted(found)
    assert {f"{number:.0e}"[0] for number in found} <= {"1", "2", "5"}
    assert len(found) >= 3 * math.floor(math.log10(factor) - 1e-9)
