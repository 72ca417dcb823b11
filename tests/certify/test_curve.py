from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from corgi import VerifyOptions, load, verify
from corgi.certify import curve as curve_module
from corgi.certify.curve import radius_curve
from corgi.certify.verify import verify_explained
from corgi.errors import EngineError, UsageError
from tests.onnx_models import random_cam_network


@pytest.fixture(name="case")
def _case(tmp_path):
    rng = np.random.default_rng(3)
    network = load(random_cam_network(rng, tmp_path))
    return network, rng.random(network.input_shape, dtype=np.float32)


def test_points_are_what_verify_says(case) -> None:
    network, image = case
    found = radius_curve(network, image, [1, 2], [2, 3], VerifyOptions(k=2))
    assert [(point.k, point.k2) for point in found.by_k] == [(1, 1), (2, 2)]
    assert [(point.k, point.k2) for point in found.by_k2] == [(2, 2), (2, 3)]
    assert found.by_k2[0] == found.by_k[1]
    for point in (*found.by_k, found.by_k2[1]):
        alone = verify(network, image, k=point.k, k2=point.k2)
        assert point.certified == pytest.approx(alone.certificate.radius, rel=0.02)
        assert 0 <= point.gap <= 1
        assert point.bounds <= point.certified
        assert point.attacked is None or point.certified < point.attacked


def test_the_recommended_k_has_the_largest_radius(case) -> None:
    network, image = case
    found = radius_curve(network, image, [1, 2, 3])
    assert found.recommended is not None
    assert found.recommended.certified == max(point.certified for point in found.by_k)


def test_wrong_ranks_are_refused_before_any_work(case, monkeypatch) -> None:
    network, image = case
    monkeypatch.setattr(curve_module, "verify_explained", None)
    with pytest.raises(UsageError, match="k = 600"):
        radius_curve(network, image, [1, 600])


def test_bounds_that_reach_a_witness_are_a_fault_that_is_told(case, monkeypatch) -> None:
    """They are asked for without the attack, whose witness they are held against all the same."""
    network, image = case

    def too_far(explained, options, **others):
        found = verify_explained(explained, options, **others)
        wrong = replace(found.certificate, radius=1.0) if options.attack is None else found.certificate
        return replace(found, certificate=wrong)

    monkeypatch.setattr(curve_module, "verify_explained", too_far)
    with pytest.raises(EngineError, match="contradiction"):
        radius_curve(network, image, [1])


def test_ctrl_c_keeps_what_is_done(case, monkeypatch) -> None:
    network, image = case
    done = []

    def interrupted(*args, **kwargs):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        return verify_explained(args[0], args[1])

    monkeypatch.setattr(curve_module, "verify_explained", interrupted)
    found = radius_curve(network, image, [1, 2], options=VerifyOptions(exact=None))
    assert found.interrupted
    assert len(found.by_k) == 1
