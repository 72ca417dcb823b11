"""What bounds are said to take, beside what they took: rows, and nothing that is bounded for good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from corgi.engines.interface import Cost
from corgi.engines.patch import sampled
from corgi.engines.patch.engine import PatchBounder, PatchEngine
from corgi.engines.patch.sampled import SampledBounder
from corgi.network.network import Network, load
from corgi.types import Ball
from tests.engines.trunks import CASES, MULTIPLIED, PATCH_CASES, RESAMPLED, Build, between, network
from tests.onnx_models import IMAGE, OnnxModel, float32

BUILDS: dict[str, Build] = {
    **{case: CASES[case] for case in ("4 padded, relu before", "activations", "difference")},
    **{case: PATCH_CASES[case] for case in ("pool, ceil_mode", "silu", "constant map")},
    **{case: RESAMPLED[case] for case in ("mean of the map",)},
    **{case: MULTIPLIED[case] for case in ("squeeze, sigmoid", "normalised by nodes")},
}


def ball_of(net: Network, radius: float) -> Ball:
    image: NDArray[np.float32] = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    return Ball(torch.from_numpy(image), radius)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Six convolutions and Relus, and a pool between: 16 x 16, 8 channels."""
    rng = np.random.default_rng(0)
    model = OnnxModel((1, 16, 16))
    value = IMAGE
    for layer in range(6):
        kernel = float32(rng, 8, 8 if layer else 1, 3, 3, scale=0.4)
        value = model.node("Relu", model.node("Conv", value, kernel, float32(rng, 8), pads=[1] * 4))
        if layer == 2:
            value = model.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    return load(model.save(tmp_path_factory.mktemp("deep"), model.head(value, float32(rng, 2, 8))))


def taken(net: Network, radius: float, **options: float) -> Cost:
    return SampledBounder(PatchEngine(**options), net, 0, torch.float64).taken_by(ball_of(net, radius))  # type: ignore[arg-type]


def test_as_many_rows_are_expected_as_are_bounded(deep: Network) -> None:
    radius = 0.003
    found = taken(deep, radius)
    bounder = PatchBounder(PatchEngine(), deep, 0, torch.float64)
    bounder.pixels(ball_of(deep, radius))
    known = bounder._known[-1]
    rows = known.bounds.builder.count + (0 if known.fast is None else known.fast.builder.count)
    assert rows > 500
    assert rows / 2 < found.rows < 2 * rows
    assert found.complete
    assert found.seconds > 0
    assert found.bytes >= known.bytes


def test_every_construct_can_be_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is kept, and where no row is bounded at all."""
    for case, build in BUILDS.items():
        net = network(tmp_path, between(build))
        assert taken(net, 0.01).complete, case
        with monkeypatch.context() as patched:
            patched.setattr(sampled, "_HELD", 8 * 9 * 8 * 40)
            assert taken(net, 0.01).bytes > 0, case


def test_a_network_that_does_not_fit_is_followed_to_its_end(
    deep: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = taken(deep, 0.01)
    monkeypatch.setattr(sampled, "_HELD", whole.bytes // 40)
    forgetful = taken(deep, 0.01)
    assert whole.rows / 4 < forgetful.rows < 4 * whole.rows
    assert forgetful.bytes <= whole.bytes
    monkeypatch.setattr(sampled, "_HELD", 1)
    nothing = taken(deep, 0.01)
    assert (nothing.complete, nothing.rows) == (False, 0)


def test_what_takes_too_long_is_not_followed(deep: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "_LONGEST", 1e-3)
    found = taken(deep, 0.01)
    assert not found.complete
    assert found.seconds > 1e-3


def test_rows_that_are_cut_short_are_said_to_be(deep: Network) -> None:
    assert not taken(deep, 0.01).shortened
    assert taken(deep, 0.01, work=1e6).shortened


def test_an_answer_does_not_depend_on_the_one_before(deep: Network) -> None:
    bounder = SampledBounder(PatchEngine(), deep, 0, torch.float64)
    found = [bounder.taken_by(ball_of(deep, radius)).rows for radius in (0.01, 0.001, 0.01)]
    assert found[0] == found[2] > found[1]
