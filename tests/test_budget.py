"""Time: scopes nest, loops measure their steps, and what a deadline ended is never a proof."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi import budget
from corgi.ambient import settled
from corgi.attacks.search import AttackOptions
from corgi.budget import (
    GRACE,
    OutOfTime,
    Pace,
    Stoppable,
    announce,
    apart,
    cancelled,
    check,
    grace,
    heard,
    left,
    limited,
    tell,
    within,
)
from corgi.certify.certificate import Certification
from corgi.certify.verify import VerifyOptions, verify
from corgi.comparison.compare import compare
from corgi.comparison.options import CompareOptions
from corgi.comparison.rows import Guarantee
from corgi.engines.lirpa import LirpaEngine
from corgi.errors import EngineError
from corgi.network.depth import DEEP
from corgi.network.network import load
from corgi.progress import Progress
from corgi.results import DeterministicCertificate, Status
from corgi.terms import LirpaMethod
from corgi.types import Ball
from tests.engines.trunks import CASES, REFUSED, network
from tests.interrupts import Line, lines_of, traced
from tests.onnx_models import OnnxModel, float32, random_cam_network


def test_the_earliest_deadline_counts_and_scopes_end() -> None:
    assert left() == math.inf
    with limited(time.monotonic() + 100):
        with limited(None):
            assert 90 < left() <= 100
        with limited(time.monotonic() + 1000):
            assert left() <= 100
        with pytest.raises(OutOfTime), limited(time.monotonic() - 1):
            check()
        check()
        with pytest.raises(OutOfTime):
            check(200.0)
        with limited(time.monotonic()), grace():
            assert left() > 0.9 * GRACE
        with pytest.raises(OutOfTime), limited(0.0), grace():
            check()
    check()


def test_ctrl_c_ends_what_is_left_of_a_call_and_no_other() -> None:
    with limited():
        with Stoppable() as inner:
            raise KeyboardInterrupt
        assert inner.status is Status.INTERRUPTED
        assert cancelled()
        assert left() == -math.inf
        with grace():
            check()
        with Stoppable() as later, limited(time.monotonic() + 100):
            check()
        assert later.status is Status.INTERRUPTED
    assert not cancelled()
    check()
    with Stoppable() as alone:
        check()
    assert alone.status is None


def test_how_work_ended_is_told_from_what_went_wrong() -> None:
    with Stoppable() as late, limited(0.0):
        check()
    assert late.status is Status.TIME_LIMIT
    assert left() == math.inf
    with pytest.raises(ValueError, match="a fault"), Stoppable():
        raise ValueError("a fault")


def test_who_listens_hears_where_work_is() -> None:
    told: list[Progress] = []
    tell("nowhere", "nobody listens")
    with heard(told.append), within("one of two", 0.5), limited(1e9), Stoppable(), grace():
        tell("attack", "a step", attacked=0.25)
        tell("certify", "a ball", 0.125)
        announce("bounds", "none")
    assert told == [
        Progress("attack", "one of two: a step", 0.0, 0.25),
        Progress("certify", "one of two: a ball", 0.125, 0.5),
        Progress("bounds", "one of two: none", 0.0, 0.5, lasting=True),
    ]


def test_a_step_is_begun_only_if_one_as_long_as_the_longest_fits(monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr(budget.time, "monotonic", lambda: now)
    with limited(10.0):
        pace = Pace()
        assert pace.goes_on()
        now = 6.0
        assert not pace.goes_on()
        now = 6.5
        assert not pace.goes_on()


@contextmanager
def ends_at(count: int, monkeypatch) -> Iterator[list[int]]:
    """Time is over at the so-many-th look at it, and from then on; yields how often it was looked at."""
    looks = [0]

    def remaining() -> float:
        if budget._BUDGET.get().deadline == math.inf:  # not under a limit
            return math.inf
        looks[0] += 1
        return -1.0 if looks[0] >= count else 1e6

    with monkeypatch.context() as patched:
        patched.setattr(budget, "left", remaining)
        yield looks


@pytest.mark.parametrize("method", LirpaMethod)
def test_lirpa_looks_at_the_time_between_layers(method: LirpaMethod, tmp_path: Path, monkeypatch) -> None:
    net = network(tmp_path, CASES["residual"])
    ball = Ball(torch.full(net.input_shape, 0.5), 0.01)
    bounder = LirpaEngine(method, iterations=2).bind(net, 0, torch.float32)
    with limited(1e9), ends_at(10**9, monkeypatch) as looks:
        bounds = bounder.pixels(ball)
    assert looks[0] >= 5
    for count in {1, 2, looks[0] // 2, looks[0]}:
        bounder = LirpaEngine(method, iterations=2).bind(net, 0, torch.float32)
        with limited(1e9), ends_at(count, monkeypatch), pytest.raises(OutOfTime):
            bounder.pixels(ball)
        with pytest.raises(EngineError, match="interrupted"):
            bounder.pixels(ball)
    again = LirpaEngine(method, iterations=2).bind(net, 0, torch.float32).pixels(ball)
    assert torch.equal(again.lower, bounds.lower)


def test_time_that_ends_anywhere_is_no_proof(tmp_path: Path, monkeypatch) -> None:
    """Whatever was under way: what is certified then is certified in the whole run, too."""
    net = load(random_cam_network(np.random.default_rng(0), tmp_path))
    image = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    attack = AttackOptions(steps=3, rounds=3)
    options = VerifyOptions(k=3, attack=attack, max_evaluations=4, time_limit=1e6, label=True)
    with ends_at(10**9, monkeypatch) as looks:
        whole = verify(net, image, options)
    assert whole.certificate.radius > 0
    assert whole.label is not None
    for count in np.linspace(1, looks[0], 12).astype(int):
        with ends_at(int(count), monkeypatch):
            found = verify(net, image, options)
        attacked = math.inf if whole.attack is None else whole.attack.radius or math.inf
        assert found.certificate.radius < attacked
        assert (found.certificate.radius > 0) == (found.certificate.decision is not None)
        assert found.status is not Status.PROVED
        assert found.label is not None
        assert found.label.radius <= whole.label.radius
        if count == 1:
            assert found.label.status is Status.TIME_LIMIT
            assert found.status is Status.TIME_LIMIT
            assert found.certificate.radius == 0


def test_what_cannot_be_bounded_is_told_first_and_attacked(tmp_path: Path) -> None:
    net = network(tmp_path, REFUSED["softmax"][0])
    image = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    told: list[Progress] = []
    with heard(told.append):
        found = verify(net, image, VerifyOptions(k=3, attack=AttackOptions(steps=3, rounds=2)))
    assert found.status is Status.UNKNOWN
    assert "node 'culprit'" in found.reason
    assert found.attack is not None
    assert told[0].lasting
    assert "corgi cam" in told[0].detail
    found = verify(net, image, VerifyOptions(k=3, attack=AttackOptions(steps=3, rounds=2), label=True))
    assert found.label is not None
    assert "node 'culprit'" in found.label.reason
    with pytest.raises(EngineError, match="culprit"):
        verify(net, image, VerifyOptions(k=3, attack=None))


@pytest.mark.slow
def test_a_comparison_that_time_ends_keeps_its_rows(tmp_path: Path, monkeypatch) -> None:
    """A row may end early, by its share of the time or by all of it; none claims more than the whole one."""
    net = load(random_cam_network(np.random.default_rng(0), tmp_path))
    image = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    options = CompareOptions(k=3, samples=9, time_limit=1e6)
    with ends_at(10**9, monkeypatch) as looks:
        whole = compare(net, image, options)
    attacked = {row.norm: row.steps[0][1] for row in whole.rows if row.method == "attack" and row.steps}
    for count in (1, looks[0] // 2):
        with ends_at(count, monkeypatch):
            found = compare(net, image, options)
        assert len(found.rows) <= len(whole.rows)
        for row in found.rows:
            if row.guarantee is Guarantee.DETERMINISTIC and row.steps:
                assert row.steps[0][1] < attacked[row.norm]


@pytest.mark.parametrize("stop", [OutOfTime, KeyboardInterrupt])
def test_what_is_certified_of_a_deep_network_first_stands(stop, tmp_path: Path, monkeypatch) -> None:
    """Without rows on windows first: what ends the certificate with rows leaves that one."""
    rng = np.random.default_rng(0)
    model = OnnxModel((1, 6, 6))
    layers = [("Conv", [float32(rng, 2, 1, 3, 3)], {"pads": [1, 1, 1, 1]}), ("Relu", [], {})]
    for _ in range(DEEP - 1):
        layers += [("Conv", [float32(rng, 2, 2, 1, 1)], {}), ("LeakyRelu", [], {"alpha": 0.5})]
    net = load(model.save(tmp_path, model.head(model.chain(layers), float32(rng, 2, 2))))
    image = rng.random(net.input_shape, dtype=np.float32)
    attack = AttackOptions(steps=3, rounds=3)
    options = VerifyOptions(k=3, attack=attack, max_evaluations=4)
    whole = verify(net, image, options)
    assert whole.certificate.radius > 0
    assert whole.certificate.method in ("crown", "exact")
    run, calls = Certification.run, []

    def stopped(self: Certification) -> DeterministicCertificate:
        calls.append(self.options.engine.method)
        if len(calls) == 2:
            raise stop
        return run(self)

    monkeypatch.setattr(Certification, "run", stopped)
    found = verify(net, image, options)
    assert calls == ["crown-ibp", "crown"]
    assert 0 < found.certificate.radius <= whole.certificate.radius
    assert found.certificate.method == "crown-ibp"
    assert found.certificate.decision is not None
    assert found.status is (Status.TIME_LIMIT if stop is OutOfTime else Status.INTERRUPTED)
    assert found.reason


@pytest.mark.parametrize("scope", ["ambient", "budget"])
def test_ctrl_c_at_the_end_of_an_outermost_scope_leaves_no_budget(scope: str) -> None:
    """It would be over, or stopped, for all calls that come later."""

    @settled()
    def begun() -> None:
        with heard(lambda _: None), limited(1e9), Stoppable():
            check()

    @apart
    def by_name() -> None:
        with heard(lambda _: None), limited(0.0), Stoppable():
            check()

    for call in (begun, by_name):
        with contextlib.suppress(KeyboardInterrupt), limited(None):
            lines = lines_of(call, scope)
        for at in lines:
            count = itertools.count(1)

            def press(_line: Line, _function: str, count: Iterator[int] = count, at: int = at) -> None:
                if next(count) == at:
                    raise KeyboardInterrupt

            with contextlib.suppress(KeyboardInterrupt), traced(scope, press):
                call()
            assert budget._BUDGET.get() is budget._NONE, (call.__name__, at)


def test_work_that_ctrl_c_ended_is_not_called_late_whatever_scope_it_left() -> None:
    with Stoppable() as end:
        grace().__enter__()
        raise KeyboardInterrupt
    assert end.status is Status.INTERRUPTED
