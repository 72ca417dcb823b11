"""What decides in the end: by a bounder that passed the gates, total, and sound whatever was scored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.certify.certificate import decision as decision_of
from corgi.certify.radius import Bracket
from corgi.certify.verify import Bounders, VerifyOptions, verify
from corgi.engines.interface import BoundEngine
from corgi.engines.lirpa import LirpaEngine
from corgi.engines.patch.engine import PatchEngine
from corgi.errors import GateError
from corgi.network.network import Network
from corgi.results import ImageArray
from tests.engines.trunks import CASES, network

SCORES = st.sampled_from([1.0, 0.5, -1.0, 0.0, math.nan, math.inf, -math.inf])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return network(tmp_path_factory.mktemp("decision"), CASES["4 relu before"])


@pytest.fixture(scope="module")
def image(net: Network) -> ImageArray:
    return np.random.default_rng(0).random(net.input_shape, dtype=np.float32)


@dataclass(frozen=True)
class Recorded(LirpaEngine):
    """Counts what was bound; its bounds are moved by `shift`."""

    bound: list[int] = field(default_factory=list, compare=False)
    shift: float = 0.0

    def bind(self, network: Network, class_id: int, dtype: torch.dtype = torch.float64) -> Any:
        self.bound.append(class_id)
        bounder = super().bind(network, class_id, dtype)
        if self.shift:
            compute = bounder._compute
            bounder._compute = lambda *asked: tuple(end + self.shift for end in compute(*asked))  # type: ignore[method-assign]
        return bounder


def test_the_bounder_that_decides_passes_the_gates(net: Network, image: ImageArray) -> None:
    options = VerifyOptions(k=3, engine=Recorded(), attack=None, exact=None)
    assert verify(net, image, options).certificate.radius > 0
    with pytest.raises(GateError, match="engine's"):
        verify(net, image, VerifyOptions(k=3, engine=Recorded(shift=1.0), attack=None, exact=None))


def test_it_is_kept_for_a_network(net: Network, image: ImageArray) -> None:
    engine, bounders = Recorded(), Bounders()
    options = VerifyOptions(k=3, class_id=0, engine=engine, attack=None, exact=None)
    radii = {verify(net, image, options, bounders=bounders).certificate.radius for _ in range(2)}
    other = verify(net, 1 - image, options, bounders=bounders)
    assert (len(radii), other.certificate.radius > 0) == (1, True)
    assert engine.bound == [0]


@given(scores=st.lists(st.tuples(st.sampled_from([0.1, 0.2]), SCORES), max_size=6))
def test_a_radius_that_was_scored_twice_is_decided_by_a_score_that_proves_it(scores) -> None:
    bracket = Bracket(1.0)
    for radius, score in scores:
        bracket.record(radius, score)
    positive = [score for radius, score in scores if radius == bracket.certified and score > 0]
    assert (bracket.margin > 0) == (bracket.certified > 0)
    assert bracket.margin == max(positive, default=-math.inf)


def test_nothing_is_confirmed_that_no_score_proves() -> None:
    """Whoever says certified: without a positive score there is no certificate; with several there is."""
    bracket = Bracket(1.0, certified=0.1, scores=[(0.1, math.nan), (0.1, -1.0), (0.2, 1.0)])
    assert decision_of(bracket, 0.25) is None
    bracket.scores += [(0.1, 0.5), (0.1, 0.75)]
    found = decision_of(bracket, 0.25)
    assert found is not None
    assert (found.radius, found.margin, found.rounding_bound) == (0.1, 1.0, 0.25)


@pytest.mark.parametrize("engine", [PatchEngine(), LirpaEngine()])
def test_every_score_was_a_decision(engine: BoundEngine, net: Network, image: ImageArray) -> None:
    found = verify(net, image, VerifyOptions(k=3, engine=engine, attack=None, exact=None))
    decision = found.certificate.decision
    assert decision is not None
    assert decision.radius == found.certificate.radius > 0
    assert decision.margin > decision.rounding_bound > 0
