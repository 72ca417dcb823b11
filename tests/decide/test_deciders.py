"""Deciders against each other, against brute force, and against everything a sample or attack can find."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corgi import load
from corgi.budget import limited
from corgi.decide.decider import Counterexample, Decider, Proved, Undecided, Verdict, all_of, decided
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import Cone
from corgi.engines.patch.engine import PatchEngine
from corgi.terms import Norm
from tests.decide.branch_and_bound import BranchAndBound
from tests.decide.cases import Case, Subject, Useless, brute_force, patterns, raised, subjects
from tests.onnx_models import IMAGE, OnnxModel
from tests.soundness.samples import inside
from tests.soundness.test_certificates import PLANTED, hidden_violation

DECIDERS: list[Decider] = [TreeDecider(), BranchAndBound()]
every_decider = pytest.mark.parametrize("decider", DECIDERS, ids=lambda d: d.name)
SHARES = (0.8, 0.95, 1.1, 1.5)
"""Of the radius a linear network would have: some margins are provable, some are not."""

TIE = 1e-7
"""A least margin this close to 0, relative to the map's terms, may stay undecided or be called negative."""


def check(case: Case, verdict: Verdict, least: float | None = None) -> None:
    """What a verdict says holds; `least` is the least value of the largest margin, if known."""
    slack = 1e-9 * case.subject.scale
    if isinstance(verdict, Proved):
        assert verdict.least > 0
        assert verdict.nodes >= 1
        if least is not None:
            # The linear programs behind `least` are solved to 1e-7.
            assert verdict.least <= least + 1e-7 * max(case.subject.scale, 1)
    elif isinstance(verdict, Counterexample):
        cone = case.cone
        assert verdict.deviations.shape == cone.pixels.shape
        assert verdict.deviations.dtype == torch.float64
        assert (cone.lower - 1e-15 <= verdict.deviations).all()
        assert (verdict.deviations <= cone.upper + 1e-15).all()
        image = case.images(verdict.deviations[None])
        box = case.ball.box(torch.float64)
        assert (box.lower - 1e-15 <= image).all()
        assert (image <= box.upper + 1e-15).all()
        size = float(case.norm.sizes(image - case.ball.center.double())[0])
        assert size <= case.radius * (1 + 1e-12) + 1e-15
        largest = float(case.margins(image).max())
        assert verdict.margin < 0
        assert largest == pytest.approx(verdict.margin, abs=slack)
        assert largest < 0 or verdict.margin > -slack
        if least is not None:
            assert least <= slack
    else:
        assert verdict.reason
        assert verdict.nodes >= 0


def tied(case: Case) -> bool:
    """Whether the least margin is 0 within `TIE`: > 0 if margins grow by that much, < 0 if they fall."""
    cone, by = case.cone, TIE * case.subject.scale
    more, less = raised(cone, by), raised(cone, -by)
    tree = TreeDecider()
    above, below = tree.decide(more, 5000), tree.decide(less, 5000)
    return isinstance(above, Proved) and isinstance(below, Counterexample)


AGREED = 64
"""Margins a chunk has to decide: 4 chunks, so 256."""


@pytest.mark.parametrize("chunk", range(4))
def test_both_agree(chunk: int, tmp_path: Path) -> None:
    """On 256 margins in all. Only branch and bound may give up, seldom, and none contradicts the other."""
    counts, given_up = Counter(), 0
    for subject, rng in subjects(range(1000 + 50 * chunk, 1050 + 50 * chunk), tmp_path):
        for share in SHARES:
            case = subject.case(rng, share)
            if case.radius == 0 or case.cone.undecided > 20:
                continue
            tree, other = (decider.decide(case.cone, 250) for decider in DECIDERS)
            check(case, tree)
            check(case, other)
            if isinstance(other, Undecided) and not isinstance(tree, Undecided):
                given_up += 1
            elif type(tree) is not type(other):
                assert tied(case), (tree, other)
            else:
                counts[type(tree)] += 1
        if counts[Proved] + counts[Counterexample] >= AGREED:
            break
    assert counts[Proved] + counts[Counterexample] >= AGREED, counts
    assert min(counts[Proved], counts[Counterexample]) >= AGREED // 3, counts
    assert counts[Undecided] <= 3, "generated networks seldom have a least margin of 0"
    assert given_up <= AGREED // 16


@pytest.mark.parametrize(
    ("margins", "norm"),
    [(1, Norm.LINF), (2, Norm.LINF), (3, Norm.LINF), (1, Norm.L2), (2, Norm.L2), (1, Norm.L1)],
)
def test_margins_against_all_choices_of_maxima(margins: int, norm: Norm, tmp_path: Path) -> None:
    against_brute_force(range(2000, 2060), tmp_path, margins=margins, norm=norm)


def against_brute_force(seeds: range, folder: Path, *, margins: int, norm: Norm = Norm.LINF) -> None:
    """Verdicts are those of brute force, and either is met many times."""
    counts, given_up = {Proved: 0, Counterexample: 0}, 0
    for subject, rng in subjects(seeds, folder):
        if min(counts.values()) >= 10:
            break
        for share in SHARES:
            if subject.network.pixels <= margins:
                continue
            case = subject.case(rng, share, margins, norm)
            # Without a window, or with one, there is little to enumerate.
            if case.radius == 0 or not 2 <= case.cone.undecided <= 8 or patterns(case.cone) > 40:
                continue
            least = brute_force(case.cone)
            # Small batches: most sub-problems wait for their turn.
            deciders = (TreeDecider(), BranchAndBound(batch=2)) if norm is Norm.LINF else (TreeDecider(),)
            for decider in deciders:
                verdict = decider.decide(case.cone, 200)
                check(case, verdict, least)
                if abs(least) <= TIE * subject.scale:
                    continue
                if isinstance(verdict, Undecided):
                    assert isinstance(decider, BranchAndBound) or abs(least) < 1e-4 * subject.scale, verdict
                    given_up += 1
                    continue
                assert isinstance(verdict, Proved if least > 0 else Counterexample)
                counts[type(verdict)] += 1
                # Close to 0, where no bound and no point comes by luck: on both sides of it.
                near = 1e-4 * subject.scale
                above, below = (decider.decide(raised(case.cone, by - least), 200) for by in (near, -near))
                assert not isinstance(above, Counterexample)
                assert not isinstance(below, Proved)
                assert not isinstance(above, Proved) or above.least <= near + 1e-7 * max(subject.scale, 1)
                if isinstance(decider, TreeDecider):
                    assert isinstance(above, Proved)
                    assert isinstance(below, Counterexample)
    assert min(counts.values()) >= 6, counts
    assert given_up <= sum(counts.values()) // 16, (given_up, counts)


def rivals(folder: Path) -> tuple[Subject, float]:
    """Two pixels that cannot overtake a third one at once, and the gap to it.

    I_j = relu(x_j - x_{j+1}), so I_2 and I_3 rise with x_3 in opposite directions: by r, I_0 falls by 2 r and
    I_2 or I_3 rises by 2 r, but both only by r. Each alone overtakes I_0 beyond gap / 4, both beyond gap / 3.
    """
    model = OnnxModel((1, 1, 7))
    step = model.node("Conv", IMAGE, np.array([1, -1], np.float32).reshape(1, 1, 1, 2))
    network = load(model.save(folder, model.head(model.node("Relu", step), np.ones((2, 1)))))
    x = torch.tensor([0.9, 0.65, 0.55, 0.54, 0.53, 0.6, 0.7])
    bounder = PatchEngine().bind(network, 0, torch.float64)
    return Subject(network, bounder, x.reshape(1, 1, 7)), 0.24


@pytest.mark.parametrize("share", [1 / 3 - 0.06, 1 / 3 - 0.01, 1 / 3 + 0.01, 0.55])
@every_decider
def test_rivals_are_told_apart(decider: Decider, share: float, tmp_path: Path) -> None:
    """A counterexample to each of two margins, but only beyond a third of the gap one to both."""
    subject, gap = rivals(tmp_path)
    top, below = torch.tensor([0, 0]), torch.tensor([2, 3])
    jointly = Case(subject, top, below, share * gap)
    assert jointly.cone.undecided >= 2
    for one in (0, 1):
        alone = Case(subject, top[:1], below[one, None], share * gap)
        assert isinstance(decider.decide(alone.cone, 20_000), Counterexample)
    verdict = decider.decide(jointly.cone, 20_000)
    check(jointly, verdict, gap * (1 - 3 * share))
    if share < 1 / 3:
        assert isinstance(verdict, Proved)
    elif isinstance(decider, TreeDecider) or share > 0.5:
        assert isinstance(verdict, Counterexample)
    else:  # branch and bound only tries corners, and there is one only beyond half the gap
        assert not isinstance(verdict, Proved)


@every_decider
def test_no_image_of_the_ball_is_below_what_is_proved(decider: Decider, tmp_path: Path) -> None:
    """Random images, corners, and gradient attacks on the map and on the margins themselves."""
    proved, close = 0, 0
    for subject, rng in subjects(range(3000, 3050), tmp_path):
        if proved >= 20 and close >= 8:
            break
        for share, margins in ((0.9, 1), (1.05, 1), (1.05, 2)):
            case = subject.case(rng, share, margins)
            if case.cone.undecided > 40:
                continue
            verdict = decider.decide(case.cone, 300)
            if not isinstance(verdict, Proved):
                continue
            proved += 1
            random = inside(subject.network, case.ball, 0, 30, proved)
            images = torch.cat([random, case.descended(4, proved)])
            with torch.no_grad():
                least = float(case.margins(images).amax(1).min())
            assert least >= verdict.least - 1e-12 * subject.scale
            at_centre = float(case.margins(subject.image[None].double()).max())
            close += least < 0.1 * at_centre
    assert proved >= 10
    assert close >= 5, "samples have to come close to the bound for the test to mean anything"


@every_decider
def test_an_absurd_radius_is_not_proved_where_an_image_breaks_it(decider: Decider, tmp_path: Path) -> None:
    broken = 0
    for subject, rng in subjects(range(3100, 3120), tmp_path):
        for margins in (1, 2):
            drawn = subject.case(rng, 1.0, margins)
            case = Case(subject, drawn.above, drawn.below, 1.0)
            if case.cone.undecided > 150:
                continue
            images = torch.cat([inside(subject.network, case.ball, 0, 30, broken), case.descended()])
            with torch.no_grad():
                least = float(case.margins(images).amax(1).min())
            verdict = decider.decide(case.cone, 50)
            check(case, verdict)
            if least < -TIE * subject.scale:
                broken += 1
                assert not isinstance(verdict, Proved)
    assert broken >= 10


@every_decider
def test_the_hidden_counterexample_is_found(decider: Decider, tmp_path: Path) -> None:
    """In a corner no gradient points to: by deciding exactly, not by luck."""
    network, image = hidden_violation(tmp_path)
    bounder = PatchEngine().bind(network, 0, torch.float64)
    subject = Subject(network, bounder, torch.from_numpy(image))
    below = torch.tensor([9])  # the pixel in the third row that the pattern of PLANTED raises
    for above in (torch.tensor([i]) for i in range(12, 16)):
        beyond = Case(subject, above, below, PLANTED)
        verdict = decider.decide(beyond.cone, 20_000)
        assert isinstance(verdict, Counterexample)
        check(beyond, verdict)
        within = Case(subject, above, below, 0.0299)
        verdict = decider.decide(within.cone, 20_000)
        assert isinstance(verdict, Proved)
        check(within, verdict)


@pytest.mark.parametrize("margins", [1, 2])
@every_decider
def test_a_spent_budget_is_undecided(decider: Decider, margins: int, tmp_path: Path) -> None:
    """Nothing is claimed of what was not looked at, however easy it is."""
    for subject, rng in subjects(range(3200, 3206), tmp_path):
        for share in (0.5, 2.0):
            cone = subject.case(rng, share, margins).cone
            for nodes, seconds in ((0, 100.0), (20_000, 0.0)):
                with limited(time.monotonic() + seconds):
                    verdict = decider.decide(cone, nodes)
                assert isinstance(verdict, Undecided)
                assert verdict.nodes == 0
                assert verdict.reason


@every_decider
def test_a_small_budget_is_kept(decider: Decider, tmp_path: Path) -> None:
    """What was decided within it is what a large budget says."""
    spent = 0
    for subject, rng in subjects(range(3300, 3330), tmp_path):
        case = subject.case(rng, 1.05)
        if case.cone.undecided > 40:
            continue
        small, large = (decider.decide(case.cone, nodes) for nodes in (1, 300))
        assert small.nodes == 1
        if isinstance(small, Undecided):
            spent += 1
        else:
            assert type(small) is type(large)
    assert spent >= 2


@every_decider
def test_the_same_question_has_the_same_answer(decider: Decider, tmp_path: Path) -> None:
    for subject, rng in subjects(range(3400, 3410), tmp_path):
        cone = subject.case(rng, 1.05).cone
        first, second = (decider.decide(cone, 100) for _ in range(2))
        assert type(first) is type(second)
        assert first.nodes == second.nodes


@every_decider
def test_a_margin_that_is_zero_everywhere_is_not_proved(decider: Decider, tmp_path: Path) -> None:
    """A pixel against itself."""
    for subject, _ in subjects(range(3500, 3510), tmp_path):
        same = torch.tensor([1])
        case = Case(subject, same, same, 0.05)
        assert not isinstance(decider.decide(case.cone, 50), Proved)


@pytest.mark.parametrize("decider", DECIDERS)
def test_a_tie_is_only_claimed_of_a_tie(decider: Decider, tmp_path: Path) -> None:
    """Least margins of -0.0009, 0.0013 and -0.0005: decided, or the budget is spent."""
    for seed in (1065, 1164, 1365):
        for subject, rng in subjects(range(seed, seed + 1), tmp_path):
            for share in SHARES:
                verdict = decider.decide(subject.case(rng, share).cone, 500)
                assert not isinstance(verdict, Undecided) or "within rounding" not in verdict.reason


class Answers:
    """A decider that always says the same."""

    name = "answers"

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict

    def decide(self, cone: Cone, nodes: int) -> Verdict:
        return self.verdict

    def minimum(self, cone: Cone) -> Useless:
        return Useless()


@pytest.mark.parametrize("least", [math.nan, math.inf, 0.0, -1.0])
def test_only_a_finite_bound_above_0_is_a_proof(least: float) -> None:
    cone: Any = None  # is not looked at
    found = decided(Answers(Proved(least, 3)), cone, 10)
    assert isinstance(found, Undecided)
    assert found.nodes == 3
    assert found.reason
    assert decided(Answers(Proved(1.0, 3)), cone, 10) == Proved(1.0, 3)
    silent = decided(Answers(Undecided("", 2)), cone, 10)
    assert isinstance(silent, Undecided)
    assert silent.reason


def test_of_several_things_all_must_be_proved() -> None:
    proved, open_one = Proved(1.0, 2), Undecided("too hard", 1)
    assert all_of([proved, Proved(0.5, 3)]) == Proved(0.5, 5)
    assert all_of([proved, open_one, proved]) is open_one
    assert all_of([open_one, "a witness", proved]) == "a witness"
    assert isinstance(all_of([]), Undecided)
