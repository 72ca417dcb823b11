"""Several properties of one map in one call: an answer each, the same as each alone has."""

from __future__ import annotations

import numpy as np
import pytest

import corgi
from corgi.attacks.search import attack_radius
from corgi.budget import Stoppable, left
from corgi.certify import bounders
from corgi.certify import several as module
from corgi.errors import UsageError
from corgi.properties import Inside, Overlap, Pointing, Topk
from corgi.terms import Status
from tests.onnx_models import random_cam_network


@pytest.fixture
def network(tmp_path):
    return corgi.load(random_cam_network(np.random.default_rng(9), tmp_path))


@pytest.fixture
def image(network):
    return np.random.default_rng(1).random(network.input_shape, dtype=np.float32)


@pytest.fixture
def asked(network, image):
    largest = corgi.explain(network, image, 3).top.pixels
    return [Topk(), Pointing(largest[:2]), Overlap(2), Inside(2, largest)]


def test_each_is_answered_as_by_itself(asked, network, image) -> None:
    found = corgi.verify_properties(network, image, asked, k=3)
    for one, result in zip(asked, found.results, strict=True):
        alone = corgi.verify(network, image, k=3, property=one)
        assert result.certificate.statement == one.statement(3) == alone.certificate.statement
        assert result.holds is alone.holds is True
        assert 0 < result.certificate.radius < result.attack.radius
        # Both end within half a per cent of their witnesses, wherever their searches began.
        assert result.certificate.radius == pytest.approx(alone.certificate.radius, rel=0.02)
        assert result.certificate.radius < alone.attack.radius


def test_one_radius_of_each_is_decided_as_by_itself(asked, network, image) -> None:
    radius = corgi.verify(network, image, k=3).certificate.radius
    for eps in (radius / 2, 2 * radius, 20 * radius):
        found = corgi.verify_properties(network, image, asked, k=3, eps=eps)
        alone = [corgi.verify(network, image, k=3, eps=eps, property=one).status for one in asked]
        assert [result.status for result in found.results] == alone


def test_what_does_not_depend_on_the_property_is_done_once(asked, network, image, monkeypatch) -> None:
    counts = {"explain": 0, "engines": 0, "probes": 0}

    def counted(name, whole):
        def call(*given, **named):
            counts[name] += 1
            return whole(*given, **named)

        return call

    for name, where, call in (
        ("explain", module, "explain"),
        ("engines", bounders, "check_engine_on_a_ball"),
        ("probes", bounders, "check_at_probes"),
    ):
        monkeypatch.setattr(where, call, counted(name, getattr(where, call)))
    found = corgi.verify_properties(network, image, asked, k=3, label=True, exact=None)
    assert counts == {"explain": 1, "engines": 1, "probes": 1}
    assert len({id(result.label) for result in found.results}) == 1
    assert all(result.joint_radius <= result.certificate.radius for result in found.results)


def test_time_is_shared_and_what_one_leaves_the_next_ones_have(asked, network, image, monkeypatch) -> None:
    shares = []
    whole = module.verify_explained

    def verify(explained, options, **others):
        shares.append(left())
        assert options.time_limit is None
        return whole(explained, options, **others)

    monkeypatch.setattr(module, "verify_explained", verify)
    corgi.verify_properties(network, image, asked[:3], k=3, exact=None, attack=None, time_limit=3e6)
    assert shares == pytest.approx([1e6, 1.5e6, 3e6], rel=0.01)
    shares.clear()
    corgi.verify_properties(network, image, asked[:1], k=3, exact=None, attack=None)
    assert shares == [np.inf]


def test_no_time_is_no_answer_to_any(asked, network, image) -> None:
    found = corgi.verify_properties(network, image, asked, k=3, time_limit=1e-9)
    assert [result.certificate.radius for result in found.results] == [0.0] * len(asked)
    assert {result.status for result in found.results} == {Status.TIME_LIMIT}


def test_after_ctrl_c_the_others_say_so(asked, network, image, monkeypatch) -> None:
    """What was answered before it stands."""
    whole, calls = module.verify_explained, []

    def verify(explained, options, **others):
        calls.append(options.property)
        if len(calls) == 2:
            monkeypatch.setattr("corgi.certify.verify.attack_radius", stop)
        return whole(explained, options, **others)

    def stop(*given, **named):
        with Stoppable():
            raise KeyboardInterrupt
        return attack_radius(*given, **named)

    monkeypatch.setattr(module, "verify_explained", verify)
    found = corgi.verify_properties(network, image, asked, k=3)
    assert found.results[0].certificate.radius > 0
    assert [result.status for result in found.results[1:]] == [Status.INTERRUPTED] * 3
    assert [result.certificate.radius for result in found.results[1:]] == [0.0] * 3


def test_a_property_that_fails_at_the_image_leaves_the_others(asked, network, image) -> None:
    largest = int(corgi.explain(network, image, 1).top.pixels[0])
    elsewhere = Pointing(((largest + 1) % network.pixels,))
    found = corgi.verify_properties(network, image, [elsewhere, asked[0]], k=3, label=True)
    assert [result.holds for result in found.results] == [False, True]
    assert found.results[0].certificate.radius == 0 < found.results[1].certificate.radius


def test_names_take_the_options_they_have(network, image) -> None:
    height, width = network.input_shape[1:]
    box = f"0,0,{width - 1},{height // 2}"
    found = corgi.verify_properties(
        network, image, ["pointing", Topk(), "overlap"], k=3, region=box, keep=2, exact=None
    )
    said = [(r.certificate.statement.name, dict(r.certificate.statement.parameters)) for r in found.results]
    assert said == [("pointing", {}), ("topk", {}), ("overlap", {"keep": 2})]


@pytest.mark.parametrize(
    ("properties", "changes", "message"),
    [
        ([], {}, "expected at least one"),
        ([Topk(), Topk()], {}, "stands twice"),
        (["overlap", "overlap"], {"keep": 2}, "asked twice"),
        ([Topk()], {"property": Overlap(2)}, "beside properties"),
        ([Topk()], {"keep": 2}, "--keep: not an option"),
        ([Overlap(2)], {"options": corgi.VerifyOptions(k2=5)}, "k2 = 5"),
        ([Overlap(2)], {"options": corgi.VerifyOptions(property=Topk())}, "beside properties"),
        ([Topk(), Overlap(99)], {}, "99"),
    ],
)
def test_what_does_not_go_together(properties, changes, message, network, image) -> None:
    with pytest.raises(UsageError, match=message):
        corgi.verify_properties(network, image, properties, **changes)
