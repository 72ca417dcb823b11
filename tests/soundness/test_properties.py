"""No certificate of any property exceeds what samples, attacks, the construction or brute force refute."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

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
    Norm,
    PatchEngine,
    PatchMethod,
    Status,
    explain,
    load,
    verify,
)
from corgi.decide.ball import BallDecider
from corgi.decide.decider import Proved
from corgi.decide.margins import score
from corgi.engines.interface import BoundEngine
from corgi.network.network import Network
from corgi.properties import Both, Centre, Inside, Iou, Order, Overlap, Pointing, Property, Topk
from corgi.properties.formula import Balance, Formula, Ranking
from corgi.results import ImageArray
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.soundness.exact import least_margin, regions, whole_map
from tests.soundness.properties import KINDS, Checked, Subject, images_of, properties, radius_of, subject
from tests.soundness.samples import PLACES, places
from tests.soundness.test_certificates import FEW_STEPS, PLANTED, PLANTED_IN, SIGNS

ENGINES: list[BoundEngine] = [
    PatchEngine(),
    PatchEngine(PatchMethod.CROWN_IBP),
    PatchEngine(PatchMethod.ALPHA_CROWN, FEW_STEPS),
    LirpaEngine(LirpaMethod.CROWN),
    *map(LipschitzEngine, LipschitzMethod),
]


def name_of(part: object) -> str | None:
    return f"{part.name.split()[0]}-{part.method}" if isinstance(part, BoundEngine) else None


SUBJECTS = {
    Norm.LINF: (305, 328, 323, 302, 331, 320),
    Norm.L2: (305, 328),
    Norm.L1: (323, 331),
}
"""Seeds of networks with small maps."""

CASES = [
    (engine, norm, seed)
    for number, engine in enumerate(ENGINES)
    for norm, seeds in SUBJECTS.items()
    for seed in seeds[number % 3 :: 3]
]


@pytest.mark.parametrize(("engine", "norm", "seed"), CASES, ids=name_of)
def test_no_bound_is_above_the_margin_of_an_image(
    engine: BoundEngine, norm: Norm, seed: int, tmp_path: Path
) -> None:
    """Of every property, in two balls: with pairs, with pixels, with features; odd seeds change in places."""
    of = subject(seed, tmp_path)
    assert of is not None
    if seed % 2:
        kinds = PLACES if norm is Norm.LINF else ("box", "channel", "one")
        of = replace(of, where=places(kinds[seed // 2 % len(kinds)], of.explained.image.shape, seed))
    rng, checked = np.random.default_rng(seed), Checked()
    asked = properties(of, rng)
    assert len(asked) >= len(KINDS) - 2
    bounder = engine.bind(of.network, of.explained.class_id)
    for share in (0.4, 1.2):
        ball = of.ball(radius_of(of, asked["pointing"][0], norm, share), norm)
        images = images_of(of, ball, [formula for _, formula in asked.values()], 30, seed)
        with torch.no_grad():
            cams = of.cams(images)
        for number, (one, _) in enumerate(asked.values()):
            for form in Form if number % 3 == 0 else [Form.PAIRWISE]:
                checked.bound(of, bounder, ball, one, cams, form=form, sign=number % 2 == 0)
    assert not checked.wrong
    assert checked.bounds >= 2 * len(asked)


@pytest.mark.parametrize("seed", [304, 305, 320, 322, 325, 328, 341])
def test_no_image_contradicts_a_decision(seed: int, tmp_path: Path) -> None:
    of = subject(seed, tmp_path)
    assert of is not None
    if seed % 2:
        of = replace(of, where=places(PLACES[seed // 2 % 4], of.explained.image.shape, seed))
    rng, checked = np.random.default_rng(seed), Checked()
    asked = properties(of, rng)
    bounder = PatchEngine().bind(of.network, of.explained.class_id)
    if not bounder.unfolds:
        return
    options = ExactOptions(nodes=60, subsets=8, seconds=1.0)
    for one, formula in asked.values():
        ball = of.ball(radius_of(of, one, Norm.LINF, float(rng.uniform(0.5, 1.2))))
        images = images_of(of, ball, [formula], 30, seed)
        with torch.no_grad():
            cams = of.cams(images)
        if not bounder.whole:  # time was up in the middle of a bound
            bounder = PatchEngine().bind(of.network, of.explained.class_id)
        checked.exact(of, bounder, ball, one, cams, options)
    assert not checked.wrong
    assert checked.proved + checked.refuted > 0


# Networks small enough to enumerate -------------------------------------------------------------------------


def tiny(seed: int, folder: Path) -> Subject | None:
    """Image 1 x 4 x 4, convolution, ReLU, now and then another: a map of 3 x 3."""
    rng, net = np.random.default_rng(seed), OnnxModel((1, 4, 4))
    value = net.node("Relu", net.node("Conv", IMAGE, float32(rng, 3, 1, 2, 2), float32(rng, 3, scale=0.3)))
    if seed % 2:
        value = net.node(
            "Relu", net.node("Conv", value, float32(rng, 2, 3, 1, 1), float32(rng, 2, scale=0.3))
        )
    channels = 2 if seed % 2 else 3
    weight = float32(rng, 2, channels)
    weight[0] = np.abs(weight[0])
    network = load(net.save(folder, net.head(value, weight)))
    found = explain(network, rng.random(network.input_shape, dtype=np.float32), 3, seed % 3 // 2)
    where = None if seed % 3 else places(("box", "shares")[seed % 2], network.input_shape, seed)
    return None if found.top.tie or found.cam.max() <= 0 else Subject(found, seed, where)


def least_over(of: Subject, formula: Formula, radius: float, most: int = 12) -> float | None:
    """By brute force; None where there are too many regions."""
    bounder = PatchEngine().bind(of.network, of.explained.class_id)
    cone = whole_map(bounder, of.ball(radius), of.network.pixels)
    found = None if cone is None else regions(cone, most)
    return None if found is None else least_margin(formula, found)


def quick_to_enumerate(kind: str, of: Subject, rng: np.random.Generator) -> tuple[Property, Formula] | None:
    """Of a kind; sets that could break it are few on nine pixels, but not of every mask."""
    found = properties(of, rng).get(kind)
    if (
        found is None
        or of.explained.question(found[0]).holds.margin(torch.from_numpy(of.explained.cam).flatten()) <= 0
    ):
        return None
    if kind == "iou":  # of a few changes only
        asked = Iou(0.8, 0.75)
        if len(asked.mask(torch.from_numpy(of.explained.cam))) > 3:
            return None
        found = asked, of.explained.question(asked).holds
    counts = (
        math.comb(len(one.above), one.lost_count) * math.comb(len(one.below), one.gained)
        for one in found[1].leaves
        if isinstance(one, Ranking)
    )
    return found if kind == "iou" or max(counts, default=0) <= 40 else None


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_brute_force(kind: str, tmp_path: Path) -> None:
    """Of bounds: never above the least margin. Of decisions: proved and refuted on the right side of 0."""
    compared, proved, refuted, given_up = 0, 0, 0, 0
    undecided = kind in ("centre", "both", "iou")  # balances are not decided, nor which part of some holds
    for seed in range(40):
        if proved >= 2 and compared >= 9 and (refuted >= 2 or undecided):
            break
        rng, of = np.random.default_rng(seed), tiny(seed, tmp_path)
        found = None if of is None else quick_to_enumerate(kind, of, rng)
        if of is None or found is None:
            continue
        asked, formula = found
        question = of.explained.question(asked)
        for share in (0.7, 1.3):
            radius = radius_of(of, asked, Norm.LINF, share)
            least = least_over(of, formula, radius)
            if least is None:
                continue
            slack = 1e-7 * (1 + abs(least))  # of the programs
            for engine in (PatchEngine(), PatchEngine(PatchMethod.CROWN_IBP), LipschitzEngine()):
                bounder = engine.bind(of.network, of.explained.class_id)
                assert score(question, bounder, of.ball(radius)).value <= least + slack
                compared += 1
            bounder = PatchEngine().bind(of.network, of.explained.class_id)
            options = ExactOptions(subsets=500, nodes=2000)
            answer = BallDecider(question, bounder, options, lambda _: None).decide(of.ball(radius))
            if abs(least) <= slack:
                continue
            if isinstance(answer, Proved):
                assert least > 0
                assert answer.least <= least + slack
                proved += 1
            elif hasattr(answer, "image"):
                assert least < 0
                refuted += 1
            else:
                given_up += 1
    assert compared >= 6
    assert proved >= 2
    assert refuted >= 2 or undecided
    assert given_up == 0 or undecided


@pytest.mark.parametrize("kind", KINDS)
def test_certificate_and_witness_enclose_the_exact_radius(kind: str, tmp_path: Path) -> None:
    """A search: what is certified holds by brute force, and just beyond a witness it does not."""
    closed = compared = 0
    for seed in range(100, 130):
        if compared >= 2:
            break
        rng, of = np.random.default_rng(seed), tiny(seed, tmp_path)
        found = None if of is None else quick_to_enumerate(kind, of, rng)
        if of is None or found is None:
            continue
        asked, formula = found
        exact, attack = ExactOptions(seconds=3.0), AttackOptions(steps=20)
        network, image = of.network, of.explained.image
        options = {"k": of.k, "class_id": of.explained.class_id, "property": asked, "where": of.where}
        result = verify(network, image, exact=exact, attack=attack, **options)
        certified = result.certificate.radius
        least = least_over(of, formula, certified) if certified > 0 else None
        if least is None:
            continue
        compared += 1
        assert least > -1e-7
        witness = None if result.attack is None else result.attack.witness
        if witness is not None:
            assert certified < witness.radius
            beyond = least_over(of, formula, witness.radius)
            assert beyond is None or beyond < 1e-7
            closed += witness.radius <= 1.02 * certified
    assert compared >= 2
    assert closed >= 1


# A planted violation that no gradient points to -------------------------------------------------------------

FIRST_ROW = (0, 1, 2, 3)
"""Of a map of 4 x 4: its largest pixels, until the pattern fires for [3, 1]."""

HIDDEN: dict[str, Property] = {
    "topk": Topk(),
    "overlap": Overlap(4),
    "pointing": Pointing(FIRST_ROW),
    "inside": Inside(4, FIRST_ROW),
    "iou": Iou(0.5, 0.5),
    "order": Order(((0, 1),), ((3, 1), (2, 2))),
    "centre": Centre(0.2),
    "both": Both((Pointing(FIRST_ROW), Overlap(3))),
}
every_hidden = pytest.mark.parametrize("kind", list(HIDDEN))


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, ImageArray]:
    """As `hidden_violation`, for all properties: the map is 0.01 (1 - mean) + 100 relu(SIGNS . x - t).

    The image rises by 0.16 a row, so the first row of the map is its largest and the last one, where the
    pattern fires first, just beyond radius 0.03, its smallest.
    """
    rows = 0.1 + 0.16 * np.arange(6, dtype=np.float32)
    image = np.broadcast_to(rows[None, :, None], (1, 6, 6)).astype(np.float32)
    threshold = np.array([-(float(rows[4]) + 9 * 0.03)], np.float32)
    model = OnnxModel((1, 6, 6))
    bump = model.node("Relu", model.node("Conv", IMAGE, SIGNS[None, None], threshold))
    base = model.node("Conv", IMAGE, np.full((1, 1, 3, 3), -1 / 9, np.float32), np.ones(1, np.float32))
    features = model.node("Concat", bump, base, axis=1)
    head = model.head(features, np.array([[100.0, 0.01]]))
    return load(model.save(tmp_path_factory.mktemp("hidden"), head)), image


@every_hidden
def test_the_planted_violation_exists(kind: str, hidden: tuple[Network, ImageArray]) -> None:
    network, image = hidden
    broken = image.copy()
    broken[0, 3:6, 1:4] += np.float32(PLANTED) * SIGNS
    margin = explain(network, image, 4).question(HIDDEN[kind]).holds.margin
    assert float(margin(network.cam(image, 0).flatten())) > 0
    assert float(margin(network.cam(broken, 0).flatten())) < 0


@every_hidden
@pytest.mark.parametrize("engine", ENGINES, ids=name_of)
def test_a_planted_violation_is_never_excluded(
    engine: BoundEngine, kind: str, hidden: tuple[Network, ImageArray]
) -> None:
    network, image = hidden
    options = {"k": 4, "property": HIDDEN[kind], "engine": engine, "attack": None, "exact": None}
    assert verify(network, image, eps=PLANTED, **options).status is Status.UNKNOWN
    norm = Norm.L2 if len(kind) % 2 else Norm.L1
    assert verify(network, image, norm=norm, eps=PLANTED_IN[norm], **options).status is Status.UNKNOWN
    if engine is ENGINES[0]:
        searched = verify(network, image, tolerance=0.1, max_evaluations=6, **options)
        assert 0 < searched.certificate.radius < PLANTED


@every_hidden
def test_a_planted_violation_is_found_exactly(kind: str, hidden: tuple[Network, ImageArray]) -> None:
    """Where rankings are decided: certified just below, refuted at it."""
    network, image = hidden
    options = {"k": 4, "property": HIDDEN[kind], "attack": None, "exact": ExactOptions(seconds=3.0)}
    found = verify(network, image, eps=PLANTED, **options)
    below = verify(network, image, eps=0.0299, **options)
    assert found.status is not Status.PROVED
    assert below.status is not Status.REFUTED
    if kind in ("centre", "iou"):  # balances, and masks beyond one part of each pair, may stay open
        return
    assert found.status is Status.REFUTED
    assert 0.03 < found.attack.witness.radius <= PLANTED
    assert below.status is Status.PROVED


def test_a_balance_over_regions_by_a_grid(tmp_path: Path) -> None:
    """The brute force itself: against points of the box."""
    of = next(one for seed in range(9) if (one := tiny(seed, tmp_path)) is not None)
    formula = of.explained.question(Centre(0.3)).holds
    assert isinstance(formula, Balance)
    least = least_over(of, formula, 0.05)
    assert least is not None
    images = images_of(of, of.ball(0.05), [formula], 300, 0)
    with torch.no_grad():
        seen = float(formula.margin(of.cams(images)).min())
    assert least <= seen + 1e-9
    assert math.isclose(least, seen, rel_tol=0.2)
