"""The exact radius: it closes the gap where it can, whatever else a decider answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import corgi
from corgi import (
    AttackOptions,
    ExactOptions,
    Form,
    LirpaEngine,
    LirpaMethod,
    PatchEngine,
    Status,
    VerifyResult,
)
from corgi.attacks.margin import MarginAttack
from corgi.attacks.target import Target
from corgi.budget import left
from corgi.decide.decider import Counterexample, Decider, Proved, Undecided, Verdict
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import Cone
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.properties.topk import stays
from corgi.types import Ball
from tests.decide.branch_and_bound import BranchAndBound
from tests.decide.cases import Useless
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network
from tests.rankings import decision_margin
from tests.soundness.samples import inside

SEEDS = (102, 103, 104, 105, 106, 110, 112, 113, 116, 118, 119, 121, 127, 135, 136)
"""Of piecewise linear networks on which bounds certify a radius, and an exact search is soon done."""

GAP = 0.01
QUICK = AttackOptions(steps=30)
DECIDERS: list[Decider] = [TreeDecider(), BranchAndBound()]


@dataclass(frozen=True)
class Question:
    """A generated network, an image, ranks, and what bounds alone say of them."""

    network: Network
    image: np.ndarray
    k: int
    k2: int
    by_bounds: VerifyResult

    def verify(self, **options) -> VerifyResult:
        """Exactly to `GAP`, unless told otherwise; ranks as they are."""
        chosen = {"k": self.k, "k2": self.k2, "exact": ExactOptions(gap=GAP, seconds=60.0), "attack": QUICK}
        chosen |= options
        return corgi.verify(self.network, self.image, **chosen)

    def cams(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.network.head.cam(self.network.trunk(images), self.by_bounds.class_id).flatten(1)

    def check_ball(self, radius: float, seed: int) -> None:
        """No sample and no attack in a ball breaks the property, in float64."""
        ball, found = Ball(torch.from_numpy(self.image), radius), self.by_bounds
        holds = stays(found.top, self.k2, self.network.pixels)
        target = Target(self.network, found.class_id, found.top, holds)
        generator = torch.Generator().manual_seed(seed)
        nothing = torch.zeros(0, *self.image.shape)
        attack = MarginAttack(steps=40, restarts=4).run(target, ball, nothing, generator)
        box = ball.inner_box(torch.float64)
        attacked = attack.image.detach().double().clamp(box.lower, box.upper)[None]
        images = torch.cat([inside(self.network, ball, found.class_id, 60, seed), attacked])
        assert float(decision_margin(self.cams(images), found.top, self.k2).min()) > 0


def asked(seed: int, folder: Path) -> Question | None:
    """Of a generated network, if it is piecewise linear and bounds certify a radius."""
    rng = np.random.default_rng(seed)
    network = corgi.load(random_cam_network(rng, folder))
    k = int(rng.integers(1, network.pixels - 1))
    k2 = k if seed % 2 else min(network.pixels - 1, k + 1 + seed // 2 % 2)
    image = rng.random(network.input_shape, dtype=np.float32)
    if not PatchEngine().bind(network, 0, torch.float64).unfolds:
        return None
    by_bounds = corgi.verify(network, image, k=k, k2=k2, exact=None, attack=None)
    return Question(network, image, k, k2, by_bounds) if by_bounds.certificate.radius > 0 else None


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    """Half of them relaxed by one or two ranks."""
    folder = tmp_path_factory.mktemp("networks")
    found = [question for seed in SEEDS if (question := asked(seed, folder)) is not None]
    assert len(found) == len(SEEDS)
    return found


@pytest.fixture(scope="module")
def answers(questions) -> list[tuple[Question, VerifyResult]]:
    return [(question, question.verify()) for question in questions]


def test_certificate_and_witness_meet(answers) -> None:
    """`closed` means what it says, and nearly all of these small networks are closed."""
    closed = beyond = 0
    for question, result in answers:
        certificate, attack = result.certificate, result.attack
        exact = certificate.exact
        assert result.status is Status.CERTIFIED
        assert certificate.decision is not None
        assert certificate.decision.radius == certificate.radius > 0
        assert certificate.decision.margin > certificate.decision.rounding_bound >= 0
        assert attack.radius is None or certificate.radius < attack.radius
        assert exact.closed == (attack.radius is not None and attack.radius <= certificate.radius * (1 + GAP))
        assert exact.closed == (exact.reason == "")
        assert exact.gap == GAP
        assert exact.decider == TreeDecider().name
        assert exact.nodes >= exact.decisions >= 0
        # Bounds alone may have met the witness.
        assert certificate.method == "exact" or not exact.closed or exact.radii == 0
        # Never much less than by bounds: closing the gap may end just below what they would find.
        assert certificate.radius >= question.by_bounds.certificate.radius / (1 + GAP) ** 2
        closed += exact.closed
        beyond += certificate.radius > 1.005 * question.by_bounds.certificate.radius
        if not exact.closed:
            assert certificate.radius >= question.by_bounds.certificate.radius * (1 - 1e-12)
    assert closed >= len(answers) - 4
    assert beyond >= 4, "some gaps have to be closed by decisions for the test to mean anything"


def test_nothing_inside_breaks_it(answers) -> None:
    """Relaxed ranks (k2 > k) among them."""
    relaxed = 0
    for seed, (question, result) in enumerate(answers):
        question.check_ball(result.certificate.radius, seed)
        relaxed += question.k2 > question.k and result.certificate.exact.decisions > 0
    assert relaxed >= 4


def test_witnesses_break_it(answers) -> None:
    """By onnxruntime and in float64; at the distance they say, in the pixel box."""
    for question, result in answers:
        witness = result.attack.witness
        if witness is None:
            continue
        assert witness.image.min() >= 0
        assert witness.image.max() <= 1
        centre = question.image.astype(np.float64)
        assert np.abs(witness.image.astype(np.float64) - centre).max() == pytest.approx(witness.radius)
        cam, _ = question.network.oracle_cam(witness.image, result.class_id)
        for values in (torch.from_numpy(cam), question.network.cam(witness.image, result.class_id)):
            assert float(decision_margin(values.reshape(-1), result.top, question.k2)) < 0


def test_radii_around_the_gap_are_decided(answers) -> None:
    """Just below the certified radius: proved. At the witness and above: refuted, also without an attack."""
    decided = 0
    for question, result in answers[::2]:
        certificate, witness = result.certificate, result.attack.witness
        if not certificate.exact.closed:
            continue
        below = question.verify(eps=0.9999 * certificate.radius, attack=None)
        assert below.status is Status.PROVED
        assert below.certificate.radius == 0.9999 * certificate.radius
        assert below.certificate.decision is not None
        for share in (1.0, 1.03):
            for attack in (None, QUICK):
                above = question.verify(eps=share * witness.radius, attack=attack)
                assert above.status is Status.REFUTED
                assert above.certificate.radius == 0
                assert above.attack.witness.radius <= share * witness.radius
        decided += 1
    assert decided >= 6


@pytest.mark.parametrize("decider", DECIDERS, ids=lambda d: d.name)
def test_without_an_attack_a_witness_is_found_all_the_same(decider: Decider, answers) -> None:
    """The same radius, from the other side."""
    found = 0
    for question, result in answers[:8]:
        options = ExactOptions(gap=GAP, seconds=2.0, nodes=300, decider=decider)
        alone = question.verify(attack=None, exact=options)
        exact = alone.certificate.exact
        assert exact.decider == decider.name
        if alone.attack is not None:
            assert alone.attack.attack == decider.name
            assert alone.attack.witness.radius > max(alone.certificate.radius, result.certificate.radius)
        if exact.closed:
            assert alone.attack.radius <= alone.certificate.radius * (1 + GAP)
        if exact.closed and result.certificate.exact.closed:
            found += 1
            assert alone.certificate.radius == pytest.approx(result.certificate.radius, rel=2 * GAP)
    assert found >= 4


@pytest.mark.parametrize("gap", [0.1, 0.002])
def test_the_gap_is_an_option(gap: float, answers) -> None:
    for question, result in answers[:8]:
        found = question.verify(exact=ExactOptions(gap=gap, seconds=60.0))
        exact = found.certificate.exact
        assert exact.gap == gap
        if exact.closed:
            assert found.certificate.radius < found.attack.radius <= found.certificate.radius * (1 + gap)
        # Two answers to one question do not exclude each other.
        assert found.certificate.radius < result.attack.radius
        assert result.certificate.radius < found.attack.radius


# Deciders that fail -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fake:
    """Answers every question in one way."""

    answer: Callable[[Cone, int], Verdict]

    @property
    def name(self) -> str:
        return "fake"

    def decide(self, cone: Cone, nodes: int) -> Verdict:
        return self.answer(cone, nodes)

    def minimum(self, cone: Cone) -> Useless:
        return Useless()


def exactly(answer: Callable[[Cone, int], Verdict], **options) -> ExactOptions:
    return ExactOptions(gap=GAP, decider=Fake(answer), **options)


def bogus(cone: Cone, nodes: int) -> Verdict:
    """A counterexample that is none."""
    return Counterexample(torch.zeros(len(cone.pixels), dtype=torch.float64), -1.0, 1)


def far_away(cone: Cone, nodes: int) -> Verdict:
    """A counterexample outside the ball."""
    return Counterexample(torch.full((len(cone.pixels),), 1e3, dtype=torch.float64), -1.0, 1)


def undefined(cone: Cone, nodes: int) -> Verdict:
    return Counterexample(torch.full((len(cone.pixels),), math.nan, dtype=torch.float64), -1.0, 1)


def gives_up(cone: Cone, nodes: int) -> Verdict:
    return Undecided("too hard for a fake", 1)


def gives_up_silently(cone: Cone, nodes: int) -> Verdict:
    return Undecided("", 1)


def nothing_proved(cone: Cone, nodes: int) -> Verdict:
    return Proved(0.0, 1)


def negative_proof(cone: Cone, nodes: int) -> Verdict:
    return Proved(-1.0, 1)


def infinite_proof(cone: Cone, nodes: int) -> Verdict:
    return Proved(math.inf, 1)


def undefined_proof(cone: Cone, nodes: int) -> Verdict:
    return Proved(math.nan, 1)


USELESS = [
    gives_up, gives_up_silently, bogus, far_away, undefined,
    nothing_proved, negative_proof, infinite_proof, undefined_proof,
]  # fmt: skip
useless = pytest.mark.parametrize("answer", USELESS, ids=lambda answer: answer.__name__)


@useless
def test_of_a_useless_decider_bounds_remain(answer, answers) -> None:
    """The certificate is the one by bounds, and no witness comes of it."""
    asked = 0
    for question, result in wide(answers):
        found = question.verify(attack=None, exact=exactly(answer))
        certificate, bounds = found.certificate, question.by_bounds.certificate
        assert certificate.radius <= result.attack.radius
        assert certificate.radius == pytest.approx(bounds.radius, rel=GAP)
        assert certificate.radius >= bounds.radius
        assert certificate.exact.reason
        assert not certificate.exact.closed
        assert found.attack is None or found.attack.witness is None or answer is far_away
        assert found.status is Status.CERTIFIED
        asked += certificate.exact.decisions
        if found.attack is not None:  # clamped to the ball it may be a witness, but never an unconfirmed one
            assert found.attack.witness.radius > certificate.radius
    assert asked >= 2


def wide(answers: list[tuple[Question, VerifyResult]]) -> list[tuple[Question, VerifyResult]]:
    """Where bounds leave a wide gap, so that there is something to decide."""
    found = []
    for question, result in answers:
        if result.certificate.radius > 1.03 * question.by_bounds.certificate.radius:
            found.append((question, result))
    assert len(found) >= 4
    return found[1:3]


@useless
def test_of_a_useless_decider_no_radius_is_proved_or_refuted(answer, answers) -> None:
    """Between what bounds prove and the witness: unknown. Beyond the witness an attack may still refute."""
    for question, result in wide(answers):
        middle = 0.5 * (1.02 * question.by_bounds.certificate.radius + result.certificate.radius)
        for eps in (middle, 1.05 * result.attack.radius):
            found = question.verify(eps=eps, attack=None, exact=exactly(answer))
            assert found.status is Status.UNKNOWN or (answer is far_away and eps > middle)
            assert found.certificate.radius == 0
            assert found.certificate.decision is None
            assert found.certificate.exact.reason or found.status is Status.REFUTED
            assert "exactly: " in found.reason or found.status is Status.REFUTED
        attacked = question.verify(eps=1.5 * result.attack.radius, exact=exactly(answer))
        assert attacked.status is Status.REFUTED


def test_an_interrupted_decision_keeps_what_bounds_certified(answers) -> None:
    def interrupt(cone: Cone, nodes: int) -> Verdict:
        raise KeyboardInterrupt

    for question, result in wide(answers):
        found = question.verify(attack=None, exact=exactly(interrupt))
        assert found.status is found.certificate.status is Status.INTERRUPTED
        assert found.certificate.radius == pytest.approx(question.by_bounds.certificate.radius, rel=GAP)
        assert found.certificate.decision is not None
        assert found.certificate.exact.reason == "interrupted"
        attacked = question.verify(exact=exactly(interrupt))
        assert attacked.status is attacked.certificate.status is Status.INTERRUPTED
        assert attacked.certificate.radius < attacked.attack.radius
        decided = question.verify(eps=result.certificate.radius, attack=None, exact=exactly(interrupt))
        assert decided.status is Status.INTERRUPTED
        assert decided.certificate.radius == 0


def test_an_interrupted_certificate_says_so(answers) -> None:
    def interrupt(cone: Cone, nodes: int) -> Verdict:
        raise KeyboardInterrupt

    question, _ = wide(answers)[0]
    found = question.verify(attack=None, exact=exactly(interrupt))
    assert found.status is found.certificate.status is Status.INTERRUPTED
    assert found.certificate.radius > 0
    assert found.reason == found.certificate.reason != ""


def test_a_radius_that_bounds_decide_is_closed(answers) -> None:
    question, _ = answers[0]
    found = question.verify(attack=None, eps=0.5 * question.by_bounds.certificate.radius)
    assert found.status is Status.PROVED
    exact = found.certificate.exact
    assert exact is None or exact.closed == (exact.reason == "")


def test_what_intervals_certify_has_a_rounding_bound(tmp_path: Path) -> None:
    question = asked(133, tmp_path)
    assert question is not None
    decision = question.verify().certificate.decision
    assert decision.margin > decision.rounding_bound > 0


def test_an_interrupt_keeps_what_was_decided_before(answers) -> None:
    """The third decision is interrupted; radii certified by then count."""
    for question, result in wide(answers):
        tree, calls = TreeDecider(), []

        def third(cone: Cone, nodes: int, calls=calls, tree=tree) -> Verdict:
            calls.append(cone)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return tree.decide(cone, nodes)

        found = question.verify(attack=None, exact=exactly(third))
        assert found.certificate.radius < result.attack.radius
        assert found.certificate.radius >= question.by_bounds.certificate.radius
        if len(calls) >= 3:
            assert found.status is Status.INTERRUPTED


def test_deciders_are_told_the_budget(answers) -> None:
    """Nodes as asked, and a deadline no later than the time an exact search may take."""
    seen: list[tuple[int, float]] = []

    def note(cone: Cone, nodes: int) -> Verdict:
        seen.append((nodes, left()))
        return gives_up(cone, nodes)

    question, _ = wide(answers)[0]
    question.verify(attack=None, exact=exactly(note, nodes=77, seconds=1000.0))
    assert seen
    assert {nodes for nodes, _ in seen} == {77}
    assert all(seconds <= 1000 for _, seconds in seen)


@pytest.mark.parametrize("seconds", [1e-9, 0.05])
def test_time_runs_out(seconds: float, answers) -> None:
    """Bounds remain; what was decided until then is kept."""
    for question, result in wide(answers):
        found = question.verify(attack=None, exact=ExactOptions(gap=1e-3, seconds=seconds))
        assert found.certificate.radius < result.attack.radius
        assert found.certificate.radius >= question.by_bounds.certificate.radius
        assert found.certificate.exact.reason or found.certificate.exact.closed


# Where nothing is decided -----------------------------------------------------------------------------------


def test_bounds_alone_are_as_ever(answers) -> None:
    """exact=None: no exact search, and radii only bounds reach."""
    for question, result in answers[:6]:
        for attack in (None, QUICK):
            found = question.verify(exact=None, attack=attack)
            assert found.certificate.exact is None
            assert found.certificate.method == "crown"
            assert found.certificate.radius == pytest.approx(question.by_bounds.certificate.radius, rel=0.02)
            assert found.certificate.radius < result.attack.radius
            if attack is None:
                assert found.attack is None
            else:
                assert found.attack.attack == "margin-pgd"
    question, result = wide(answers)[0]
    unknown = question.verify(exact=None, attack=None, eps=result.certificate.radius)
    assert unknown.status is Status.UNKNOWN
    assert unknown.certificate.exact is None


@pytest.mark.parametrize("form", [Form.FOLDED, Form.FEATURE])
def test_other_forms_decide_nothing(form: Form, answers) -> None:
    def never(cone: Cone, nodes: int) -> Verdict:
        raise AssertionError("not asked for")

    for question, _ in answers[:4]:
        found = question.verify(form=form, exact=exactly(never), attack=None)
        assert found.certificate.exact is None
        assert found.certificate.form == form.value


def test_auto_lirpa_says_that_it_cannot(answers) -> None:
    for question, _ in answers[:2]:
        found = question.verify(engine=LirpaEngine(LirpaMethod.CROWN), attack=None)
        exact = found.certificate.exact
        assert exact is None or (exact.reason and not exact.closed and exact.decisions == 0)
        assert found.certificate.method == "crown"


def test_curves_cannot_be_decided(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(0), OnnxModel()
    value = model.node("Sigmoid", model.node("Conv", IMAGE, float32(rng, 2, 2, 3, 3)))
    network = corgi.load(model.save(tmp_path, model.head(value, float32(rng, 2, 2))))
    image = rng.random(network.input_shape, dtype=np.float32)
    found = corgi.verify(network, image, k=3, attack=None)
    assert found.certificate.radius > 0
    assert found.certificate.method == "crown"
    exact = found.certificate.exact
    assert exact is None or (exact.reason and not exact.closed and exact.decisions == 0)


@pytest.mark.parametrize("options", [{"gap": 0.0}, {"gap": -1.0}, {"gap": math.nan}, {"seconds": 0.0}])
def test_options_are_checked(options) -> None:
    with pytest.raises(UsageError):
        ExactOptions(**options)


# The real thing ---------------------------------------------------------------------------------------------


def test_the_paper_image_is_closed(paper_model, paper_image) -> None:
    result = corgi.verify(paper_model, paper_image, k=15)
    certificate, witness = result.certificate, result.attack.witness
    assert certificate.radius >= 0.00123
    assert certificate.radius < witness.radius <= 1.01 * certificate.radius
    assert certificate.exact.closed
    assert certificate.exact.reason == ""
    assert certificate.method == "exact"
    assert result.status is Status.CERTIFIED
    distance = np.abs(witness.image.astype(np.float64) - paper_image.astype(np.float64)).max()
    assert distance == pytest.approx(witness.radius)
    cam, _ = paper_model.oracle_cam(witness.image, result.class_id)
    assert float(decision_margin(torch.from_numpy(cam).reshape(-1), result.top, 15)) < 0
    images = inside(
        paper_model, Ball(torch.from_numpy(paper_image), certificate.radius), result.class_id, 30, 0
    )
    with torch.no_grad():
        cams = paper_model.head.cam(paper_model.trunk(images), result.class_id).flatten(1)
    assert float(decision_margin(cams, result.top, 15).min()) > 0
