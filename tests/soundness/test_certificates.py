"""No certificate of any method and form exceeds what an attack, a sample or the construction can refute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corgi import (
    AttackOptions,
    ExactOptions,
    Form,
    LipschitzEngine,
    LipschitzMethod,
    LirpaEngine,
    LirpaMethod,
    PatchEngine,
    PatchMethod,
    Status,
    load,
    verify,
)
from corgi.attacks.margin import MarginAttack
from corgi.attacks.target import Target
from corgi.decide.tree import TreeDecider
from corgi.engines.interface import BoundEngine
from corgi.engines.patch import intervals
from corgi.engines.patch import state as state_module
from corgi.engines.patch.alpha import Alpha
from corgi.engines.patch.windows import Windows
from corgi.network.network import Network
from corgi.properties.topk import stays
from corgi.types import Ball, Interval, Norm
from tests.decide.branch_and_bound import BranchAndBound
from tests.onnx_models import OnnxModel, random_cam_network
from tests.rankings import decision_margin
from tests.soundness.samples import inside

ENGINES = [
    LirpaEngine(LirpaMethod.IBP),
    LirpaEngine(LirpaMethod.CROWN_IBP),
    LirpaEngine(LirpaMethod.CROWN),
    PatchEngine(PatchMethod.CROWN_IBP),
    PatchEngine(PatchMethod.CROWN),
]
FEW_STEPS = Alpha(iterations=4, warm_iterations=2)
SHARP_ENGINES = [
    PatchEngine(PatchMethod.ALPHA_CROWN, FEW_STEPS),
    PatchEngine(PatchMethod.FOCUS, FEW_STEPS, rounds=2),
]
"""Slower: they share all but the last pairs with CROWN, so they get fewer cases, and fewer steps."""


@dataclass(frozen=True)
class Method:
    """Bounds alone, or what they leave open decided exactly."""

    engine: BoundEngine
    exact: ExactOptions | None = None

    @property
    def options(self) -> dict[str, Any]:
        """As `verify` takes them."""
        return {"engine": self.engine, "exact": self.exact}

    @property
    def name(self) -> str:
        """Of a test's parameters."""
        decided = "" if self.exact is None else f"-{self.exact.decider.name}"
        return f"{self.engine.name.split()[0]}-{self.engine.method}{decided}"


BOUNDS = [Method(engine) for engine in ENGINES]
EXACT = [
    Method(PatchEngine(relaxation), ExactOptions(gap=0.03, nodes=30, subsets=4, decider=decider))
    for relaxation, decider in (
        (PatchMethod.CROWN, TreeDecider()),
        (PatchMethod.CROWN, BranchAndBound()),
        (PatchMethod.CROWN_IBP, TreeDecider()),
    )
]
"""With little work: what is certified must hold wherever the search was stopped."""

every_method = pytest.mark.parametrize("method", [*BOUNDS, *EXACT], ids=lambda m: m.name)
SEEDS = (100, *range(102, 113))
"""Of generated networks; that of 101 has a tie at the rank drawn, so that nothing is bounded."""

DECIDED = (102, 103, 105, 106, 111, 123)
"""Of those an exact search is soon done with: what it leaves open is little, or is left at once."""


def case(seed: int, folder: Path) -> tuple[Network, np.ndarray, int, int]:
    """A generated network, an image, and ranks (k, k2); half the cases are relaxed."""
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, folder, curved=seed >= 200))
    k = int(rng.integers(1, network.pixels - 1))
    k2 = k if seed % 2 else int(rng.integers(k, network.pixels))
    return network, rng.random(network.input_shape, dtype=np.float32), k, k2


FORMED = [
    *(
        (method, form, seed)
        for i, (method, form) in enumerate(product(BOUNDS, Form))
        for seed in SEEDS[i % 3 :: 3]
    ),
    *((method, Form.PAIRWISE, seed) for i, method in enumerate(EXACT) for seed in DECIDED[i % 2 :: 2]),
]
"""Each method and form on a few of the networks, each network with a few of them.

Exact decisions are of the pairwise form only.
"""


@pytest.mark.parametrize(("method", "form", "seed"), FORMED, ids=lambda part: getattr(part, "name", None))
def test_nothing_inside_a_certified_ball_breaks_it(seed: int, method: Method, form: Form, tmp_path) -> None:
    assert_nothing_inside_breaks_it(seed, method, form, Norm.LINF, tmp_path)


def assert_nothing_inside_breaks_it(seed: int, method: Method, form: Form, norm: Norm, tmp_path) -> None:
    network, image, k, k2 = case(seed, tmp_path)
    options = {"form": form, "norm": norm, "attack": None, "max_evaluations": 8, **method.options}
    result = verify(network, image, k=k, k2=k2, **options)
    certificate = result.certificate
    # A witness of the exact search is confirmed, and beyond what is certified.
    assert result.attack is None or certificate.radius < result.attack.witness.radius
    if certificate.radius == 0:
        assert certificate.decision is None
        return
    assert certificate.decision is not None
    assert certificate.decision.margin > certificate.decision.rounding_bound >= 0
    assert certificate.decision.rounding_bound > 0 or certificate.method == "exact"
    assert certificate.decision.radius == certificate.radius
    assert certificate.norm is norm
    ball = Ball(torch.from_numpy(image), certificate.radius, norm)
    images = inside(network, ball, result.class_id, 90, seed)
    with torch.no_grad():
        cams = network.head.cam(network.trunk(images), result.class_id).flatten(1)
    assert decision_margin(cams, result.top, k2).min() > 0
    target = Target(network, result.class_id, result.top, stays(result.top, k2, network.pixels))
    attempt = MarginAttack(steps=60, restarts=6).run(
        target, ball, torch.zeros(0, *image.shape), torch.Generator().manual_seed(seed)
    )
    assert attempt.margin > -1e-5 * float(cams.abs().max())


CURVED = [
    *((Method(PatchEngine(PatchMethod.CROWN_IBP)), seed) for seed in range(200, 212, 3)),
    *((Method(PatchEngine()), seed) for seed in range(201, 212, 2)),
    *((EXACT[0], seed) for seed in (203, 208)),  # of a few the map is still piecewise linear
]


@pytest.mark.parametrize(("method", "seed"), CURVED, ids=lambda part: getattr(part, "name", None))
def test_nothing_inside_a_certified_ball_breaks_a_curved_network(seed: int, method: Method, tmp_path) -> None:
    """With activations that the patch engine alone bounds."""
    test_nothing_inside_a_certified_ball_breaks_it(seed, method, Form.PAIRWISE, tmp_path)


OTHER_NORMS = [Norm.L2, Norm.L1]
every_other_norm = pytest.mark.parametrize("norm", OTHER_NORMS, ids=str)


NORM_FORMED = [
    *((method, Form.PAIRWISE) for method in BOUNDS),
    *((BOUNDS[i], form) for i in (0, -1) for form in (Form.FEATURE, Form.FOLDED)),
]


@every_other_norm
@pytest.mark.parametrize(("method", "form"), NORM_FORMED, ids=lambda part: getattr(part, "name", None))
@pytest.mark.parametrize("seed", [102, 105])
def test_nothing_inside_other_certified_balls_breaks_it(
    seed: int, method: Method, form: Form, norm: Norm, tmp_path
) -> None:
    assert_nothing_inside_breaks_it(seed, method, form, norm, tmp_path)


@pytest.mark.parametrize(
    ("method", "seed"),
    [
        *((method, seed) for i, method in enumerate(BOUNDS) for seed in SEEDS[i % 3 :: 3]),
        *((method, seed) for i, method in enumerate(EXACT) for seed in DECIDED[i % 2 :: 2]),
    ],
    ids=lambda part: getattr(part, "name", None),
)
def test_an_absurd_radius_is_not_certified_where_an_attack_changes_the_map(
    seed: int, method: Method, tmp_path
) -> None:
    network, image, k, k2 = case(seed, tmp_path)
    options = AttackOptions(steps=40, restarts=4)
    attacked = verify(
        network, image, k=k, k2=k2, eps=1.0, attack=options, engine=LirpaEngine(LirpaMethod.IBP)
    )
    alone = verify(network, image, k=k, k2=k2, eps=1.0, attack=None, **method.options)
    if attacked.status is Status.REFUTED:
        assert alone.status is Status.UNKNOWN or (method.exact and alone.status is Status.REFUTED)
        assert alone.certificate.radius == 0
        assert (alone.status is Status.REFUTED) == (alone.attack is not None)


@every_other_norm
@pytest.mark.parametrize("method", [*BOUNDS, EXACT[0]], ids=lambda m: m.name)
@pytest.mark.parametrize("seed", [100, 103])
def test_an_absurd_ball_of_another_norm_is_not_certified(
    seed: int, method: Method, norm: Norm, tmp_path
) -> None:
    """At this radius the ball holds all images, those that an attack finds in the l_inf ball, too."""
    network, image, k, k2 = case(seed, tmp_path)
    attack = AttackOptions(steps=40, restarts=4)
    attacked = verify(network, image, k=k, k2=k2, eps=1.0, attack=attack, engine=ENGINES[0], exact=None)
    largest = Ball(torch.from_numpy(image), 0.0, norm).largest
    alone = verify(network, image, k=k, k2=k2, norm=norm, eps=largest, attack=None, **method.options)
    if attacked.status is Status.REFUTED:
        assert alone.status is Status.UNKNOWN or (method.exact and alone.status is Status.REFUTED)
        assert alone.certificate.radius == 0


LIPSCHITZ = [Method(LipschitzEngine(method)) for method in LipschitzMethod]
every_lipschitz = pytest.mark.parametrize("method", LIPSCHITZ, ids=lambda m: m.name)


@every_lipschitz
@pytest.mark.parametrize(
    ("norm", "seed"),
    [(Norm.LINF, 103), (Norm.LINF, 200), (Norm.L2, 106), (Norm.L2, 200), (Norm.L1, 102), (Norm.L1, 106)],
    ids=str,
)
def test_nothing_inside_a_ball_certified_by_lipschitz_constants_breaks_it(
    seed: int, norm: Norm, method: Method, tmp_path
) -> None:
    assert_nothing_inside_breaks_it(seed, method, Form.PAIRWISE, norm, tmp_path)


@every_lipschitz
@pytest.mark.parametrize("seed", [100, 103])
def test_an_absurd_radius_is_not_certified_by_lipschitz_constants(
    seed: int, method: Method, tmp_path
) -> None:
    test_an_absurd_radius_is_not_certified_where_an_attack_changes_the_map(seed, method, tmp_path)


@every_lipschitz
def test_lipschitz_constants_of_unknown_values_are_never_a_proof(
    method: Method, tmp_path, monkeypatch
) -> None:
    test_a_vacuous_bound_is_never_a_proof(method, tmp_path, monkeypatch)


SIGNS = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]], np.float32)
PLANTED = 0.0301


def hidden_violation(folder: Path) -> tuple[Network, np.ndarray]:
    """A network whose map breaks in a corner of the ball that no gradient points to, and an image.

    The map is 0.01 * (mean of 3 x 3 pixels) + 100 relu(SIGNS . x - t). The image rises by 0.16 a row, so by
    the means alone the last row of the 4 x 4 map stays on top up to radius 0.08. For the third row,
    SIGNS . x is the window's centre; t lies 9 * 0.03 above it, so the pattern fires there just beyond
    radius 0.03, where the perturbation is r * SIGNS. Below, its gradient there is zero.
    """
    rows = 0.1 + 0.16 * np.arange(6, dtype=np.float32)
    image = np.broadcast_to(rows[None, :, None], (1, 6, 6)).astype(np.float32)
    threshold = float(rows[3]) + 9 * 0.03
    model = OnnxModel((1, 6, 6))
    bump = model.node("Conv", "image", SIGNS[None, None], np.array([-threshold], np.float32))
    bump = model.node("Relu", bump)
    base = model.node("Conv", "image", np.full((1, 1, 3, 3), 1 / 9, np.float32))
    features = model.node("Concat", bump, base, axis=1)
    return load(model.save(folder, model.head(features, np.array([[100.0, 0.01]])))), image


def test_the_planted_counterexample_exists_and_is_hidden(tmp_path) -> None:
    network, image = hidden_violation(tmp_path)
    result = verify(
        network, image, k=4, eps=PLANTED, attack=AttackOptions(), engine=LirpaEngine(LirpaMethod.IBP)
    )
    assert result.status is Status.UNKNOWN, "the attack should not find it"
    broken = image.copy()
    broken[0, 2:5, 1:4] += np.float32(PLANTED) * SIGNS
    cam = network.cam(broken, 0).reshape(1, -1)
    assert decision_margin(cam, result.top, 4).item() < 0


SHARP = [Method(engine) for engine in SHARP_ENGINES]


@pytest.mark.parametrize("method", SHARP, ids=lambda m: m.name)
@pytest.mark.parametrize("seed", [102, 106])
def test_nothing_inside_a_sharpened_certificate_breaks_it(seed: int, method: Method, tmp_path) -> None:
    test_nothing_inside_a_certified_ball_breaks_it(seed, method, Form.PAIRWISE, tmp_path)


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("method", [*BOUNDS, *SHARP, *LIPSCHITZ], ids=lambda m: m.name)
def test_a_planted_counterexample_is_never_proved(method: Method, form: Form, tmp_path) -> None:
    network, image = hidden_violation(tmp_path)
    result = verify(network, image, k=4, eps=PLANTED, attack=None, form=form, **method.options)
    assert result.status is Status.UNKNOWN
    searched = verify(network, image, k=4, attack=None, form=form, **method.options)
    assert 0 < searched.certificate.radius < PLANTED


PLANTED_IN = {Norm.L2: 3 * PLANTED, Norm.L1: 9 * PLANTED}
"""The same pattern: nine pixels changed by `PLANTED`. In l_1 one pixel changed by all of it does, too."""


@every_other_norm
@pytest.mark.parametrize("method", [*BOUNDS, *SHARP, *LIPSCHITZ, EXACT[0]], ids=lambda m: m.name)
def test_a_planted_counterexample_is_never_proved_in_other_norms(
    method: Method, norm: Norm, tmp_path
) -> None:
    network, image = hidden_violation(tmp_path)
    options = {"k": 4, "norm": norm, "attack": None, "tolerance": 0.1, **method.options}
    result = verify(network, image, eps=PLANTED_IN[norm], **options)
    assert result.status is (Status.REFUTED if method is EXACT[0] else Status.UNKNOWN)
    searched = verify(network, image, **options)
    assert 0 < searched.certificate.radius < PLANTED_IN[norm]


@pytest.mark.parametrize(("seed", "norm"), [(102, Norm.L2), (106, Norm.L1)])
def test_nothing_inside_other_sharpened_certificates_breaks_it(seed: int, norm: Norm, tmp_path) -> None:
    assert_nothing_inside_breaks_it(seed, SHARP[1], Form.PAIRWISE, norm, tmp_path)


CLOSING = [
    *((replace(method, exact=ExactOptions(decider=method.exact.decider)), None) for method in EXACT),
    *((Method(engine, ExactOptions()), None) for engine in SHARP_ENGINES),
    (Method(PatchEngine(), ExactOptions()), AttackOptions()),
    (Method(SHARP_ENGINES[1], ExactOptions()), AttackOptions(steps=30)),
]


@pytest.mark.parametrize(
    ("method", "attack"),
    CLOSING,
    ids=lambda part: getattr(part, "name", "alone" if part is None else "attacked"),
)
def test_a_planted_counterexample_is_found_exactly(method: Method, attack, tmp_path) -> None:
    """What no attack finds: the radius just below it is certified, and onnxruntime confirms a witness."""
    network, image = hidden_violation(tmp_path)
    result = verify(network, image, k=4, eps=PLANTED, attack=attack, **method.options)
    assert result.status is Status.REFUTED
    assert result.certificate.radius == 0
    assert 0.03 < result.attack.witness.radius <= PLANTED
    searched = verify(network, image, k=4, attack=attack, **method.options)
    assert 0.0298 < searched.certificate.radius < searched.attack.witness.radius <= PLANTED
    assert searched.certificate.exact.closed
    below = verify(network, image, k=4, eps=0.0299, attack=attack, **method.options)
    assert below.status is Status.PROVED


def blind_rows(monkeypatch) -> None:
    """Every backward pass returns NaN."""

    def nan_bounds(self, source, ball, form):
        network = self._network
        size = network.pixels if form is None else form.shape[1]
        if source == "features":
            size = network.pixels * network.head.filters
        return torch.full((size,), torch.nan), torch.full((size,), torch.nan)

    def nan_rows(self, value, rows, at_centre, enough=None, until=None):
        return torch.full_like(at_centre, torch.nan)

    monkeypatch.setattr("corgi.engines.lirpa.LirpaBounder._bound", nan_bounds)
    monkeypatch.setattr("corgi.engines.patch.bounds.BallBounds.lower_rows", nan_rows)


def blind_intervals(monkeypatch, ends: tuple[float, float]) -> None:
    """Interval arithmetic of the patch engine says nothing of any value, Maximum included."""

    def unknown(bounds: Interval) -> Interval:
        return Interval(torch.full_like(bounds.lower, ends[0]), torch.full_like(bounds.upper, ends[1]))

    step, maximum = intervals.interval_step, Windows.range.fget
    monkeypatch.setattr(state_module, "interval_step", lambda *args: unknown(step(*args)))
    monkeypatch.setattr(Windows, "range", property(lambda windows: unknown(maximum(windows))))


UNKNOWN = [(torch.nan, torch.nan), (-torch.inf, torch.inf)]
unknown_ends = pytest.mark.parametrize("ends", UNKNOWN, ids=["NaN", "infinite"])


@every_method
def test_a_vacuous_bound_is_never_a_proof(method: Method, tmp_path, monkeypatch) -> None:
    """NaN from all there is to know: unknown, radius 0."""
    network, image, k, k2 = case(105, tmp_path)
    blind_rows(monkeypatch)
    blind_intervals(monkeypatch, UNKNOWN[0])
    for form in Form if method.exact is None else [Form.PAIRWISE]:
        options = {"form": form, "max_evaluations": 6, **method.options}
        result = verify(network, image, k=k, k2=k2, attack=None, **options)
        assert result.certificate.radius == 0
        assert result.status is Status.UNKNOWN


PATCH_ENGINES = [engine for engine in ENGINES if isinstance(engine, PatchEngine)]
every_patch_engine = pytest.mark.parametrize("engine", PATCH_ENGINES, ids=lambda e: e.method)


@pytest.mark.parametrize("method", [*map(Method, PATCH_ENGINES), *EXACT], ids=lambda m: m.name)
@pytest.mark.parametrize("seed", [102, 105])
def test_without_rows_intervals_still_only_prove_what_holds(
    seed: int, method: Method, tmp_path, monkeypatch
) -> None:
    """NaN rows leave interval arithmetic: no larger radius than with them, and nothing that is wrong."""
    network, image, k, k2 = case(seed, tmp_path)
    with_rows = verify(network, image, k=k, k2=k2, attack=None, **method.options)
    blind_rows(monkeypatch)
    result = verify(network, image, k=k, k2=k2, attack=None, **method.options)
    radius = result.certificate.radius
    if method.exact is None:
        assert radius <= 1.02 * with_rows.certificate.radius
    for witness in (found.attack.witness for found in (with_rows, result) if found.attack):
        assert radius < witness.radius
    if radius > 0:
        images = inside(network, Ball(torch.from_numpy(image), radius), result.class_id, 30, seed)
        with torch.no_grad():
            cams = network.head.cam(network.trunk(images), result.class_id).flatten(1)
        assert decision_margin(cams, result.top, k2).min() > 0


@unknown_ends
@every_patch_engine
@pytest.mark.parametrize("seed", range(102, 106))
def test_of_unknown_values_bounds_are_vacuous_or_hold(seed: int, engine, ends, tmp_path, monkeypatch) -> None:
    """Rows do not need intervals to be sound: where they come back finite all the same, they hold."""
    network, image, _, _ = case(seed, tmp_path)
    blind_intervals(monkeypatch, ends)
    ball = Ball(torch.from_numpy(image), 0.05)
    images = inside(network, ball, 0, 30, seed)
    with torch.no_grad():
        features = network.trunk(images)
    cams = network.head.cam(features, 0).flatten(1)
    slack = 1e-11 * float((features.abs().amax((0, 2, 3)) * network.head.weight[0].abs()).sum())
    for dtype in (torch.float32, torch.float64):
        bounder = engine.bind(network, 0, dtype)
        assert (bounder.intervals(ball).lower == -torch.inf).all()
        assert (bounder.intervals(ball).upper == torch.inf).all()
        found = bounder.pixels(ball)
        assert (found.lower <= cams + slack).all()
        assert (cams <= found.upper + slack).all()
        above = torch.arange(network.pixels - 1)
        margins = cams[:, :-1] - cams[:, 1:]
        assert (bounder.differences(ball, above, above + 1) <= margins + slack).all()
