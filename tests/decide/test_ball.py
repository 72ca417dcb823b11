"""What is said of a ball against all of its maps: a ball of finitely many, which a stand-in decider looks up.

The network returns the image as its map, so that points of the ball are maps, and onnxruntime confirms them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corgi import verify
from corgi.cam.topk import top_k
from corgi.decide.ball import BallDecider, ExactOptions, Finding
from corgi.decide.decider import Counterexample, Proved, Undecided, Verdict
from corgi.decide.margins import Question
from corgi.engines.cone import NotUnfolded
from corgi.engines.forms import Forms
from corgi.errors import CorgiError
from corgi.network.network import Network, load
from corgi.properties import All, Balance, Formula, Iou, Overlap, Ranking
from corgi.properties import Any as AnyOf
from corgi.results import Witness
from corgi.terms import GAP, Norm, Status
from corgi.types import Ball, Interval
from tests.onnx_models import IMAGE, OnnxModel
from tests.properties.test_formula import rankings

SHAPE, PIXELS, UNIT = (1, 2, 4), 8, 64
RADIUS = 0.25


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    net = OnnxModel(SHAPE)
    value = net.node("Relu", net.node("Conv", IMAGE, np.ones((1, 1, 1, 1), np.float32)))
    return load(net.save(tmp_path_factory.mktemp("model"), net.head(value, np.ones((2, 1)))))


@dataclass(frozen=True)
class Lookup:
    """Stands for a cone: the forms, and all points."""

    deviations: Tensor
    values: Tensor
    undecided: int = 0

    @property
    def pixels(self) -> Tensor:
        return torch.arange(PIXELS)


@dataclass
class Points:
    """Bounds of finitely many maps [N, pixels]: what is true, less something.

    `loose`: [pixels, pixels], how much pairs are off; `wrong`: what some of the answers are instead.
    """

    cams: Tensor
    center: Tensor
    loose: Tensor
    wrong: float | None = None
    unfolds: bool = True
    sharpens: bool = False
    bounds_any_form: bool = True
    rounding: float = 0.0

    def intervals(self, ball: Ball) -> Interval:
        """Of some pixels nothing is known."""
        by = torch.where(torch.arange(PIXELS) % 3 == 0, math.inf, self.loose.diagonal())
        return Interval(self.cams.amin(0) - by, self.cams.amax(0) + by)

    def pixels(self, ball: Ball, low: Any = None, high: Any = None) -> Interval:
        by = self.loose.diagonal()
        return Interval(self.cams.amin(0) - by, self.cams.amax(0) + by)

    def differences(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        found = (self.cams[:, above] - self.cams[:, below]).amin(0) - self.loose[above, below]
        return self.spoiled(found)

    def lower(self, ball: Ball, forms: Forms) -> Tensor:
        values = self.values(forms).amin(0)
        return self.spoiled(values - self.loose.flatten()[: len(values)])

    def spoiled(self, found: Tensor) -> Tensor:
        if self.wrong is not None:
            found[::2] = self.wrong
        return found

    def values(self, forms: Forms) -> Tensor:
        return self.cams @ forms.matrix(PIXELS).T + forms.constant

    def unfold(self, ball: Ball, forms: Forms) -> Any:
        if not self.unfolds:
            return NotUnfolded("points are not unfolded here")
        return Lookup(self.cams - self.center, self.values(forms))


@dataclass
class Looks:
    """Looks all points up; gives up now and then if told so."""

    gives_up: float = 0.0
    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    name: str = "lookup"

    def decide(self, cone: Any, nodes: int) -> Verdict:
        if self.generator.random() < self.gives_up:
            return Undecided("gave up", 1)
        largest = cone.values.amax(1)
        place = int(self.generator.choice((largest == largest.min()).nonzero().flatten().numpy()))
        if float(largest[place]) < 0:
            return Counterexample(cone.deviations[place], float(largest[place]), 1)
        least = float(largest.min())
        return Proved(least, 1) if least > 0 else Undecided("a tie", 1)

    def minimum(self, cone: Any) -> Halving:
        return Halving(cone.values[:, 0], self.generator.random() < self.gives_up)


@dataclass
class Halving:
    """The least of some values: bounds come half as near with every sub-problem."""

    values: Tensor
    finished: bool
    bound: float = -math.inf
    nodes: int = 0

    @property
    def seen(self) -> float:
        return float(self.values[: self.nodes + 1].min())

    def improve(self, nodes: int, enough: float) -> None:
        least = float(self.values.min())
        for _ in range(0 if self.finished else nodes):
            if self.bound > enough:
                return
            self.nodes += 1
            self.bound = least - 2.0**-self.nodes
            self.finished = self.nodes == 30


@dataclass(frozen=True)
class Case:
    """A property, the image, and the maps of its ball."""

    formula: Formula
    cams: Tensor
    loose: Tensor

    @property
    def margins(self) -> Tensor:
        return self.formula.margin(self.cams)

    def decide(self, network: Network, decider: Looks, wrong: float | None = None, **options: Any) -> Finding:
        center = self.cams[0]
        top = top_k(center.reshape(2, 4), 1, 0.0)
        question = Question(network, 0, top, self.formula, cam=center)
        bounder = Points(self.cams, center, self.loose, wrong)
        chosen = ExactOptions(decider=decider, **options)
        ball = Ball(center.reshape(SHAPE).to(torch.float32), RADIUS)
        found = BallDecider(question, bounder, chosen, lambda _: None).decide(ball)  # type: ignore[arg-type]
        self.check(found)
        return found

    def check(self, found: Finding) -> None:
        """Never wrong: what is proved holds at every map, by at least as much; a witness breaks it."""
        least = float(self.margins.min())
        if isinstance(found, Proved):
            assert 0 < found.least <= least
        elif isinstance(found, Witness):
            cam = torch.from_numpy(found.image).double().flatten()
            assert float(self.formula.margin(cam)) < 0
            assert found.radius <= RADIUS * (1 + 0.5 * GAP)  # a point may be moved outwards by that
            assert (cam - self.cams).abs().amax(1).min() <= RADIUS * GAP
        else:
            assert found.reason


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[str, ...] = ("ranking", "all", "any", "iou", "both")) -> Case:
    """Rankings with any counts, factors and shared pixels, and what is made of them."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    middle = torch.randint(20, 44, (1, PIXELS), generator=generator)
    spread = draw(st.sampled_from([4, 8, 16]))
    moved = middle + torch.randint(
        -spread, spread + 1, (draw(st.integers(1, 12)), PIXELS), generator=generator
    )
    cams = torch.cat([middle, moved]).to(torch.float64) / UNIT
    loose = torch.randint(0, draw(st.sampled_from([1, 8, 64])), (PIXELS, PIXELS), generator=generator) / UNIT

    def ranking() -> Ranking:
        mixed = draw(st.booleans())
        return draw(rankings(PIXELS, factors=mixed, shared=mixed))

    formula: Formula
    match draw(st.sampled_from(kinds)):
        case "all":
            formula = All((ranking(), ranking()))
        case "any":
            formula = AnyOf((ranking(), ranking()))
        case "iou":
            asked = Iou(draw(st.sampled_from([0.5, 0.75])), draw(st.sampled_from([0.25, 0.5, 0.75])))
            try:
                formula = asked.formula(cams[0].reshape(2, 4), top_k(cams[0], 1, 0.0))
            except CorgiError:  # no map breaks it
                formula = ranking()
        case "both":
            row = torch.randint(-2, 3, (2, PIXELS), generator=generator).tolist()
            formula = All((Balance(tuple(tuple(map(float, r)) for r in row)), ranking()))
        case _:
            formula = ranking()
    return Case(formula, cams, loose.to(torch.float64))


@settings(max_examples=150)
@given(cases())
def test_nothing_that_is_said_is_wrong(network: Network, case: Case) -> None:
    case.decide(network, Looks())


@settings(max_examples=80)
@given(cases(), st.sampled_from([0.2, 0.5]), st.integers(0, 99))
def test_nor_where_deciders_give_up(network: Network, case: Case, share: float, seed: int) -> None:
    case.decide(network, Looks(share, np.random.default_rng(seed)))


@settings(max_examples=80)
@given(cases(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_nor_where_bounds_are_no_numbers(network: Network, case: Case, wrong: float) -> None:
    case.decide(network, Looks(), wrong)


@settings(max_examples=80)
@given(cases(), st.integers(1, 3), st.integers(1, 4))
def test_nor_where_little_may_be_tried(network: Network, case: Case, subsets: int, jointly: int) -> None:
    case.decide(network, Looks(), subsets=subsets, jointly=jointly)


@settings(max_examples=150)
@given(cases(("ranking", "all")))
def test_rankings_are_decided_where_nothing_ends_the_search(network: Network, case: Case) -> None:
    """With time, and without a tie among pairs, the tree of sets is complete."""
    leaves = [one for one in case.formula.leaves if isinstance(one, Ranking)]
    tied = any(bool((one.pairs(cam) == 0).any()) for one in leaves for cam in case.cams)
    found = case.decide(network, Looks(), subsets=10**6, jointly=10**6)
    if not tied:
        least = float(case.margins.min())
        assert isinstance(found, Proved if least > 0 else Witness), (found, least)


def test_a_part_that_bounds_prove_is_proved(network: Network) -> None:
    """A balance is not decided exactly, but bounds may prove it while a ranking beside it is decided."""
    cams = torch.tensor([[40, 8, 8, 8, 8, 8, 8, 36], [40, 8, 8, 8, 8, 8, 8, 39]], dtype=torch.float64) / UNIT
    balance, ranking = Balance(((1.0, *([0.0] * 7)),)), Ranking((0,), (7,), 1, 1)
    for parts in ((balance, ranking), (ranking, balance)):
        case = Case(All(parts), cams, torch.full((PIXELS, PIXELS), 2 / UNIT, dtype=torch.float64))
        assert isinstance(case.decide(network, Looks()), Proved)


def test_the_first_of_some_that_bounds_prove_is_enough(network: Network) -> None:
    """Nothing is decided of the others, which are open, and some of which were never bounded."""
    cams = torch.tensor([[40, 8, 8, 8, 8, 8, 8, 36], [40, 8, 8, 8, 8, 8, 8, 39]], dtype=torch.float64) / UNIT
    sure, close, broken = Ranking((0,), (1,), 1, 1), Ranking((0,), (7,), 1, 1), Ranking((1,), (0,), 1, 1)
    looks = Looks()
    formula = All((AnyOf((broken, sure, Ranking((2,), (0,), 1, 1))), close))
    case = Case(formula, cams, torch.full((PIXELS, PIXELS), 2 / UNIT, dtype=torch.float64))
    assert isinstance(case.decide(network, looks), Proved)


def test_witnesses_may_be_farther_than_1(network: Network) -> None:
    """In l_1 it takes 4 changes of 0.4 to bring 2 pixels of 0.9 down to 2 of 0.1."""
    image = np.array([[[0.9, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1]]], np.float32)
    asked = {"k": 4, "property": Overlap(3), "norm": Norm.L1, "attack": None}
    assert verify(network, image, eps=1.7, **asked).status is Status.REFUTED
    assert verify(network, image, eps=1.5, **asked).status is Status.PROVED
