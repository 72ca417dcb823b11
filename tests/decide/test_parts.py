"""Splitting the parameters of a family: covers, findings, and what never counts as a proof."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi import explain
from corgi.attacks.along import confirm_at
from corgi.budget import OutOfTime
from corgi.certify.explain import Explanation
from corgi.changes.family import Family, LinearFamily
from corgi.changes.light import Brightness
from corgi.decide import parts as parts_module
from corgi.decide.parts import Fineness, Part, PartsSearch, shells
from corgi.engines.forward.engine import ForwardEngine
from corgi.engines.parametric import AffineForms, Boxes, FamilyBounder, Maps
from corgi.errors import EngineError
from corgi.properties import Pointing
from corgi.terms import Finding, Status
from corgi.types import Interval
from tests.soundness.test_families import spike

ZERO = torch.zeros(1, 2, 2, dtype=torch.float64)


def family(*two_sided: bool) -> Family:
    count = len(two_sided)
    return LinearFamily(ZERO, ("t",) * count, two_sided, torch.ones(count, 1, 2, 2, dtype=torch.float64))


def volume(part: Part) -> Fraction:
    sides = (Fraction(b) - Fraction(a) for a, b in zip(part.lower, part.upper, strict=True))
    return Fraction(np.prod(list(sides)))


@given(
    st.lists(st.booleans(), min_size=1, max_size=4),
    st.lists(st.floats(0.01, 2), min_size=1, max_size=3, unique=True),
)
def test_the_first_parts_cover_each_size_once(two_sided: list[bool], sizes: list[float]) -> None:
    sizes = sorted(sizes)
    found = list(shells(family(*two_sided), tuple(sizes)))
    for shell, size in enumerate(sizes):
        inside = [part for part in found if part.shell <= shell]
        box = Part(*family(*two_sided).box(size), 0)
        assert sum(map(volume, inside)) == volume(box)
        for part in inside:
            assert box.holds_point(part.lower)
            assert box.holds_point(part.upper)
    for first, second in itertools.combinations(found, 2):
        lower = [max(a, b) for a, b in zip(first.lower, second.lower, strict=True)]
        upper = [min(a, b) for a, b in zip(first.upper, second.upper, strict=True)]
        assert any(a >= b for a, b in zip(lower, upper, strict=True)), "they share more than a face"
        if first.shell < second.shell:
            assert second.distance >= sizes[first.shell] or len(two_sided) > 1


@given(st.floats(-1, 1), st.floats(0, 1), st.integers(0, 1))
def test_halves_share_a_face_and_nothing_is_lost(low: float, side: float, axis: int) -> None:
    part = Part((low, -0.5), (low + side, 0.25), 0)
    first, second = part.halves(axis)
    assert first.upper[axis] == second.lower[axis]
    assert volume(first) + volume(second) == volume(part)
    assert part.holds_point(part.middle)
    assert part.distance == min(first.distance, second.distance)


@dataclass
class Told(FamilyBounder):
    """Says what it is told of every box, in turn; the last one again and again."""

    answers: list[AffineForms]
    asked: list[Boxes] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "told"

    def images(self, family: Family, boxes: Boxes) -> Interval:
        pytest.fail("no ball is asked for")

    def maps(self, family: Family, boxes: Boxes) -> Maps:
        self.asked.append(boxes)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        forms = AffineForms(
            answer.terms.expand(len(boxes), *answer.terms.shape[1:]).clone(),
            answer.remainder.expand(len(boxes), -1).clone(),
        )
        return Maps(forms, forms.chosen)


def told(values: Tensor, remainder: float = 0.0) -> AffineForms:
    terms = torch.stack([values, torch.zeros_like(values)])[None]
    return AffineForms(terms, torch.full((1, len(values)), remainder, dtype=torch.float64))


def test_a_hopeless_part_is_cut_into_quarters(explained: Explanation) -> None:
    """Of which each has the faces of its neighbours; one whose remainder could shrink enough into halves."""
    values = torch.from_numpy(explained.cam).reshape(-1)
    for remainder, count in ((1e6, 4), (1.0, 2)):
        search = search_of(explained, Told([told(values)]))
        part = search.queue[0]
        margin = float(search.target.holds.margin(values))
        search.bounder = Told([told(values, remainder * margin)])
        _, pieces = search._decide([part])
        assert len(pieces) == count
        assert pieces[0].lower == part.lower
        assert pieces[-1].upper == part.upper
        assert all(one.upper == other.lower for one, other in itertools.pairwise(pieces))


@pytest.fixture
def explained(tmp_path: Path) -> Explanation:
    network, image = spike(tmp_path, 0.56, 0.01)
    return explain(network, image, 1)


def search_of(explained: Explanation, bounder: FamilyBounder | None = None) -> PartsSearch:
    set_of = Brightness().family(torch.from_numpy(explained.image).to(torch.float64))
    question = explained.question(Pointing((6,)))
    bounder = bounder or ForwardEngine().bind(explained.network, explained.class_id)
    return PartsSearch(question, set_of, bounder, (0.02, 0.2), Fineness(relative=2.0**-8))


def test_findings_of_a_spike(explained: Explanation) -> None:
    search = search_of(explained)
    search.run()
    search.nearest()
    search.refuse_contradiction()
    assert search.decided() == ((0.02, Status.PROVED), (0.2, Status.REFUTED))
    assert not search.queue
    assert search.witness is not None
    assert search.broken is not None
    assert 0.045 < search.certified <= search.broken <= search.witness.size < 0.065
    image = search.family.at(torch.tensor([search.witness.parameters], dtype=torch.float64))
    assert np.array_equal(search.witness.witness.image, image[0].to(torch.float32).numpy())
    inside = [
        p for p in search.done if p.finding is Finding.HOLDS and p.holds_point(search.witness.parameters)
    ]
    assert not inside


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_bounds_that_say_nothing_prove_nothing(explained: Explanation, wrong: float) -> None:
    for values, remainder in (
        (torch.full((16,), wrong, dtype=torch.float64), 0.0),
        (torch.eye(16, dtype=torch.float64)[6], wrong),
    ):
        if remainder == -torch.inf:
            continue  # no engine returns a negative remainder
        search = search_of(explained, Told([told(values, remainder)]))
        search.fineness = Fineness(relative=0.2)
        search.run()
        assert all(part.finding is Finding.OPEN for part in search.parts)
        assert search.certified == 0
        assert search.decided()[0] == (0.02, Status.UNKNOWN)


def test_a_wrong_proof_is_a_contradiction(explained: Explanation) -> None:
    """Of a part whose middle breaks the property: float64 says so."""
    search = search_of(explained, Told([told(torch.eye(16, dtype=torch.float64)[6])]))
    search.queue = [Part((0.05,), (0.07,), 1)]
    with pytest.raises(EngineError, match=r"contradiction: told proves that the property holds.*margin is -"):
        search.run()
    broken = search_of(explained, Told([told(-torch.eye(16, dtype=torch.float64)[6])]))
    with pytest.raises(EngineError, match="contradiction: told proves that the property is broken"):
        broken.run()


def test_a_proved_part_with_a_witness_is_a_contradiction(explained: Explanation) -> None:
    search = search_of(explained)
    search.witness = confirm_at(search.target, search.family, (0.06,))
    assert search.witness is not None
    search.refuse_contradiction()
    search.done = [replace(part, finding=Finding.HOLDS) for part in search.queue]
    search.queue = []
    with pytest.raises(EngineError, match="onnxruntime and float64 confirm"):
        search.refuse_contradiction()
    search.done.pop()
    with pytest.raises(EngineError, match="do not cover"):
        search.refuse_contradiction()


def test_points_where_it_holds_are_no_witness(explained: Explanation) -> None:
    search = search_of(explained)
    assert confirm_at(search.target, search.family, (0.0,)) is None
    assert confirm_at(search.target, search.family, (0.02,)) is None


def test_what_time_leaves_undone_stays_open(explained: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of batches, cut off before, inside or after a bound: the parts still cover the box."""
    for stop in range(1, 8):
        search, left = search_of(explained), [stop]

        def check(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OutOfTime

        monkeypatch.setattr(parts_module, "check", check)
        search.at_once = 2
        with pytest.raises(OutOfTime):
            search.run()
        search.refuse_contradiction()
        assert sum(map(volume, search.parts)) == Fraction(0.2) * 2
        assert search.decided()[1][1] is not Status.PROVED
        nearest = min(part.distance for part in search.parts if part.finding is not Finding.HOLDS)
        assert search.certified == nearest
