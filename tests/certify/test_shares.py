"""Fixed radii of one image, decided by one search and what it leaves open; shares of many images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import corgi
from corgi.certify import shares as module
from corgi.certify.bounders import Bounders
from corgi.certify.verify import VerifyOptions, verify_explained
from corgi.errors import EngineError, GateError, UsageError
from corgi.properties import Overlap, Pointing, Topk
from corgi.reporting.document import verify_document
from corgi.terms import Status
from corgi.types import Norm
from tests.onnx_models import random_cam_network


@pytest.fixture
def network(tmp_path):
    return corgi.load(random_cam_network(np.random.default_rng(9), tmp_path))


@pytest.fixture
def image(network):
    return np.random.default_rng(1).random(network.input_shape, dtype=np.float32)


@pytest.mark.parametrize("asked", [Topk(), Overlap(2)])
def test_every_radius_is_decided_as_by_itself(asked, network, image) -> None:
    options = VerifyOptions(k=3, property=asked)
    found = corgi.verify(network, image, options)
    radius, witness = found.certificate.radius, found.attack.radius
    asked_for = [2 * witness, radius / 2, witness, 0.999 * radius]
    decided = corgi.decide_radii(network, image, asked_for, options)
    assert decided.radii == tuple(sorted(asked_for))
    assert decided.holds is True
    for one, status in zip(decided.radii, decided.statuses, strict=True):
        assert status is corgi.verify(network, image, replace(options, eps=one)).status
    assert decided.statuses[0] is Status.PROVED
    assert decided.statuses[-1] is Status.REFUTED


def test_radii_are_decided_before_the_search_and_the_best_is_kept(network, image, monkeypatch) -> None:
    """A search that says nothing, as one that time ended: what was decided before it stands."""
    options = VerifyOptions(k=3)
    found = corgi.verify(network, image, options)
    radii = [0.5 * found.certificate.radius, 2 * found.attack.radius]
    whole = module.verify_explained
    asked = []

    def verify(explained, options, *, attacked=None, **others):
        asked.append(options.eps)
        if options.eps is not None:
            return whole(explained, options, **others)
        assert attacked.radius <= radii[1]  # it need not be attacked again
        nothing = replace(found.certificate, radius=0.0, decision=None, status=Status.TIME_LIMIT)
        return replace(found, certificate=nothing, attack=attacked, status=Status.TIME_LIMIT)

    monkeypatch.setattr(module, "verify_explained", verify)
    decided = module.decide_radii(network, image, options, radii)
    assert asked == [radii[0], None]
    assert decided.statuses == (Status.PROVED, Status.REFUTED)
    assert decided.certified == radii[0]
    assert decided.result.status is Status.TIME_LIMIT
    assert decided.open == ()


def test_a_tiny_radius_that_is_decided_first_costs_nothing(network, image) -> None:
    """The search does not climb from it in small steps."""
    asked = VerifyOptions(k=3, property=Overlap(2))
    whole = corgi.verify(network, image, asked)
    decided = corgi.decide_radii(network, image, [1e-9, 0.9 * whole.attack.radius], asked)
    assert decided.certified >= 0.9 * whole.certificate.radius
    assert decided.result.certificate.status is Status.CERTIFIED
    assert decided.result.certificate.exact is not None


def test_the_search_goes_on_from_what_is_certified(network, image, monkeypatch) -> None:
    """Only from a certificate, and only one of the same question."""
    asked = VerifyOptions(k=3, property=Overlap(2))
    explained = corgi.explain(network, image, 3)
    found = corgi.verify(network, image, asked)
    known = replace(found.certificate, radius=0.5 * found.certificate.radius)
    again = verify_explained(explained, asked, attacked=found.attack, certified=known)
    assert again.certificate.radius >= 0.98 * found.certificate.radius
    for options in (replace(asked, property=Topk()), replace(asked, eps=1e-4), replace(asked, norm=Norm.L2)):
        with pytest.raises(UsageError, match="not of the same search"):
            verify_explained(explained, options, certified=known)
    handed = []

    def verify(explained, options, *, certified=None, **others):
        handed.append(certified)
        return verify_explained(explained, options, certified=certified, **others)

    monkeypatch.setattr(module, "verify_explained", verify)
    module.decide_radii(network, image, replace(asked, exact=None), [0.99 * found.attack.radius])
    assert handed[-1] is None or handed[-1].radius > 0


def test_without_an_attack_radii_are_proved_all_the_same(network, image) -> None:
    radius = corgi.verify(network, image, k=3).certificate.radius
    decided = corgi.decide_radii(network, image, [radius / 4, radius / 2], k=3, attack=None)
    assert set(decided.statuses) == {Status.PROVED}


def test_answers_that_contradict_each_other_are_refused(network, image, monkeypatch) -> None:
    found = corgi.verify(network, image, k=3)
    near, far = 0.5 * found.attack.radius, 0.9 * found.attack.radius

    def verify(explained, options, **others):
        return replace(found, certificate=replace(found.certificate, radius=2 * found.attack.radius))

    monkeypatch.setattr(module, "verify_explained", verify)
    with pytest.raises(EngineError, match="contradiction"):
        module.decide_radii(network, image, VerifyOptions(k=3), [near, far])


def test_a_property_that_fails_at_the_image_has_no_radius(network, image) -> None:
    largest = int(corgi.explain(network, image, 1).top.pixels[0])
    elsewhere = Pointing(((largest + 1) % network.pixels,))
    decided = corgi.decide_radii(network, image, [1e-5, 0.1], VerifyOptions(k=1, property=elsewhere))
    assert decided.holds is False
    assert set(decided.statuses) == {Status.UNKNOWN}
    assert decided.certified == 0


def test_no_time_leaves_radii_open(network, image) -> None:
    decided = corgi.decide_radii(network, image, [1e-5, 1e-4], k=3, time_limit=1e-9)
    assert decided.holds is True
    assert set(decided.statuses) <= {Status.UNKNOWN, Status.REFUTED}


@pytest.mark.parametrize(
    ("radii", "changes", "message"),
    [
        ([], {}, "expected at least one"),
        ([0.1, 2.0], {}, "radii: 2.0"),
        ([0.1], {"eps": 0.1}, "beside radii"),
        ([float("nan")], {}, "radii: nan"),
    ],
)
def test_radii_that_cannot_be(radii, changes, message, network, image) -> None:
    with pytest.raises(UsageError, match=message):
        corgi.decide_radii(network, image, radii, k=3, **changes)


def test_shares_count_what_holds(network, image) -> None:
    options = VerifyOptions(k=3)
    found = corgi.verify(network, image, options)
    radii = (0.5 * found.certificate.radius, 2 * found.attack.radius)
    decided = corgi.decide_radii(network, image, radii, options)
    unknown = tuple((radius, Status.UNKNOWN) for radius in radii)
    fails = replace(decided, result=replace(decided.result, holds=False, radii=unknown))
    left = replace(decided, result=replace(decided.result, radii=unknown))
    small, large = corgi.shares([decided, fails, left])
    assert (small.images, small.holds, small.certified, small.refuted, small.open) == (3, 2, 1, 0, 1)
    assert (large.images, large.holds, large.certified, large.refuted, large.open) == (3, 2, 0, 1, 1)
    assert corgi.shares([]) == ()
    with pytest.raises(UsageError, match="different radii"):
        corgi.shares([decided, corgi.RadiiDecided(replace(decided.result, radii=unknown[:1]))])


def test_a_gate_that_the_last_search_does_not_pass_is_said(network, image, monkeypatch) -> None:
    """Radii are proved and refuted before it; of those that stay open the answer says why."""
    options = VerifyOptions(k=3, property=Overlap(2))
    found = corgi.verify(network, image, options)
    proved, broken = 0.5 * found.certificate.radius, 2 * found.attack.radius
    between = 0.5 * (found.certificate.radius + found.attack.radius)
    whole = module.verify_explained

    def verify(explained, options, *, certified=None, **others):
        if options.eps is None:
            monkeypatch.setattr(Bounders, "bind", fails)
        elif options.eps > proved:
            return replace(whole(explained, replace(options, time_limit=1e-9), **others), attack=None)
        return whole(explained, options, certified=certified, **others)

    def fails(*given, **named):
        raise GateError("the engine's bounds do not hold")

    monkeypatch.setattr(module, "verify_explained", verify)
    decided = module.decide_radii(network, image, options, [proved, between, broken])
    assert decided.statuses == (Status.PROVED, Status.UNKNOWN, Status.REFUTED)
    assert decided.result.status is Status.CERTIFIED
    reason = "the last search: no certificate: the engine's bounds do not hold"
    assert decided.result.reason == reason
    assert verify_document(decided.result).reason == reason
    monkeypatch.undo()
    assert corgi.decide_radii(network, image, [proved, broken], options).result.reason == ""
