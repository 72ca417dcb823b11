from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corgi.reporting import facts, wording
from corgi.reporting.document import verify_document
from corgi.reporting.summary import make_report, make_run
from corgi.results import VerifyResult
from tests.reporting.example_cases import ORIGIN, make_case, make_failure, make_setup, small_report
from tests.reporting.example_results import make_result


def test_a_case_says_what_its_result_says(result: VerifyResult) -> None:
    document = verify_document(result)
    claim = wording.guarantee(result) or wording.no_guarantee(document)
    assert facts.claim(make_case(0, result)) == claim


def test_a_failure_claims_nothing() -> None:
    assert facts.claim(make_failure(0, "x.png")) == "No answer: x.png: not a picture"


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_shares_are_rounded_to_the_true_side(share: tuple[int, int]) -> None:
    exact = 100 * share[0] / share[1]
    down, up = (float(f(share[0] / share[1])[:-1]) for f in (facts.percent_down, facts.percent_up))
    assert down <= exact + 1e-6
    assert exact <= up + 1e-6
    assert up - down < 0.11


def test_every_figure_names_its_kind_of_proof() -> None:
    shown = {fact.name: fact.note for fact in facts.headline(small_report().runs[0].summary)}
    assert "deterministic" in shown["certified"]
    assert "deterministic" in shown["median certified radius"]
    assert "empirical" in shown["median attack radius"]


def test_what_a_run_claims() -> None:
    exact, mixed = (
        [make_case(0, make_result())],
        [make_case(0, make_result()), make_case(1, make_result(k2=25))],
    )
    said = facts.run_claim(make_run(make_setup(), [], exact))
    assert said.startswith("For each image with a certified radius above 0: for every image within that")
    assert "the 15 largest pixels of the map of the class explained stay the same" in said
    assert "k2 of its own document" in facts.run_claim(make_run(make_setup(), [], mixed))
    assert "nothing is claimed" in facts.run_claim(make_run(make_setup(), [], [make_failure(0)]))


def test_names_of_runs_say_where_they_differ() -> None:
    assert facts.run_names(small_report()) == ("run 1: method exact", "run 2: method crown")
    alone = make_report("", [make_run(make_setup(), [], [make_failure(0)])], ORIGIN)
    assert facts.run_names(alone) == ("run 1: sign.onnx",)


def test_how_a_model_was_read_is_said_once_a_run() -> None:
    cases = [make_case(key, make_result(), loaded_as=("float16 taken as float32", "a\x1b")) for key in (0, 1)]
    run = make_run(make_setup(), [], cases)
    assert facts.read_so(run) == ("read so: float16 taken as float32", "read so: a\\x1b")
    assert facts.read_so(make_run(make_setup(), [], [make_failure(0)])) == ()


def test_images_without_an_answer_have_their_row_among_the_classes() -> None:
    cases = [
        *(make_case(key, make_result()) for key in range(5)),
        *(make_failure(key) for key in range(5, 10)),
    ]
    run = make_run(make_setup(), [], cases)
    _, rows = facts.class_table(run)
    assert [row[:4] for row in rows] == [
        ("class 17 (no entry)", "5", "100.0%", "0.001134"),
        (
            "no answer",
            "5",
            "0.0%",
            "0",
        ),
    ]
    assert facts.headline(run.summary)[1].value == "50.0%"
    assert "5 images without an answer" in facts.unanswered(run)
    assert facts.unanswered(make_run(make_setup(), [], cases[:5])) == ""


def test_contradictions_come_first() -> None:
    assert facts.alarms(small_report()) == ()
    wrong = make_run(make_setup(), [], [make_case(0, make_result(), certified_radius=0.01)])
    (alarm,) = facts.alarms(make_report("", [wrong], ORIGIN))
    assert "do not rely on this report" in alarm


def test_nested_parameters_one_by_one() -> None:
    found = facts.parameters({"a": {"b": None, "c": {}}, "d": "x\x1b", "e": [1, 2]})
    assert found == (("a.b", "none"), ("a.c", "{}"), ("d", "x\\x1b"), ("e", "[1, 2]"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.51, "0.51 s"), (119.0, "119 s"), (600.0, "10 min"), (36_000.0, "10 h 0 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert facts.duration(seconds) == text
