"""Limits of Clip: those that images can reach are kept to the number, wherever they are."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi import LirpaEngine, verify
from corgi.engines.lowering import lower_trunk
from corgi.engines.patch.engine import PatchEngine
from corgi.engines.patch.prepare import prepare
from corgi.errors import ModelError, UnsupportedOperator
from corgi.network import layers
from corgi.network.network import Network, load
from corgi.network.passes.limits import LARGEST_PIXEL
from corgi.results import Status
from corgi.types import Ball
from corgi.vnnlib.decide import Answer, decide
from corgi.vnnlib.network import load_plain
from corgi.vnnlib.spec import Constraint
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.vnnlib.nets import one_case

LARGEST = float(np.finfo(np.float32).max)


def clips(network: Network) -> list[tuple[float, float]]:
    return [(s.layer.low, s.layer.high) for s in network.trunk.steps if isinstance(s.layer, layers.Clip)]


def clipped(
    folder: Path, low: float | None, high: float | None, *, gain: float = 1.0, opset: int = 17
) -> Path:
    """Two 1x1 filters of a 1 x 2 x 2 image, cut to limits: gain x, and gain x times 1.5."""
    model = OnnxModel((1, 2, 2), opset)
    kernel = (np.float64([1.0, 1.5]) * gain).astype(np.float32)
    value = model.node("Conv", IMAGE, kernel.reshape(2, 1, 1, 1))
    value = model.clip(value, low, high)
    value = model.node("Conv", value, (np.eye(2) / gain).astype(np.float32).reshape(2, 2, 1, 1))
    return model.save(folder, model.head(value, np.eye(2)))


@pytest.mark.parametrize("opset", [9, 17])
def test_limits_no_image_reaches_are_none(opset: int, tmp_path: Path) -> None:
    assert clips(load(clipped(tmp_path, 0.0, LARGEST, opset=opset))) == [(0, math.inf)]
    assert clips(load(clipped(tmp_path, 0.0, None, opset=opset))) == [(0, math.inf)]
    assert clips(load(clipped(tmp_path, None, 0.5, opset=opset))) == [(-math.inf, 0.5)]
    assert clips(load(clipped(tmp_path, -6.0, 6.0, opset=opset))) == [(-6, 6)]
    if opset > 10:
        assert clips(load(clipped(tmp_path, 0.0, math.inf, opset=opset))) == [(0, math.inf)]


@pytest.mark.parametrize("high", [LARGEST, 3.0e38, None])
def test_limits_an_image_reaches_stay(high: float | None, tmp_path: Path) -> None:
    stays = LARGEST if high is None else float(np.float32(high))
    assert clips(load(clipped(tmp_path, 0.0, high, gain=2.2e38))) == [(0, stays)]
    assert clips(load(clipped(tmp_path, -1e30, 1e30, gain=1.1e30 / LARGEST_PIXEL))) == [
        (float(np.float32(-1e30)), float(np.float32(1e30)))
    ]
    # All values are cut to a lower limit that none reaches from below: it is all there is.
    assert clips(load(clipped(tmp_path, 1e30, 2e30))) == [(float(np.float32(1e30)), math.inf)]


def test_every_operand_counts(tmp_path: Path) -> None:
    model = OnnxModel((1, 2, 2))
    small, large = (model.node("Conv", IMAGE, np.full((2, 1, 1, 1), gain, np.float32)) for gain in (1, 2**30))
    value = model.clip(model.node("Sum", small, small, large), 0.0, 2.0**25)
    value = model.node("Conv", value, np.full((2, 2, 1, 1), 2.0**-25, np.float32))
    assert clips(load(model.save(tmp_path, model.head(value, np.eye(2))))) == [(0, 2.0**25)]


def test_what_is_no_limit(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperator, match="limits"):
        load(clipped(tmp_path, 2.0, 1.0))
    with pytest.raises(UnsupportedOperator):
        load(clipped(tmp_path, 0.0, math.nan))
    model = OnnxModel((1, 2, 2))
    value = model.node("Conv", IMAGE, np.float32([1, math.inf]).reshape(2, 1, 1, 1))
    with pytest.raises(ModelError, match="NaN or infinite"):
        load(model.save(tmp_path, model.head(value, np.eye(2))))


def overtaken(folder: Path, high: float | None) -> Path:
    """A map that falls once its first filter is cut at the end of the float32 range.

    With u = 2e38 (x_0 + x_1) of both channels, a pixel of the map is 5e-38 min(2 u, high) - 9e-38 u: it grows
    with u below the limit and falls above it. Weights are written as in the report of this fault.
    """
    model = OnnxModel((2, 1, 2), 17)
    kernel = np.float32([[2e38, 2e38], [1e38, 1e38]]).reshape(2, 2, 1, 1)
    value = model.clip(model.node("Conv", IMAGE, kernel), 0.0, high)
    value = model.node("Conv", value, np.float32([[1e-38, 0], [0, 1e-38]]).reshape(2, 2, 1, 1))
    return model.save(folder, model.head(value, np.float32([[5, -9], [0, 1]])))


CENTRE = np.float32([0.84, 0.80, 0.84, 0.80]).reshape(2, 1, 2)
BEYOND = np.float32([0.857, 0.815, 0.857, 0.815]).reshape(2, 1, 2)
"""Within 0.018 of the centre; above the limit, where pixel 1 overtakes."""


@pytest.mark.parametrize("high", [LARGEST, None])
@pytest.mark.parametrize("engine", [PatchEngine(), LirpaEngine()], ids=["patch", "lirpa"])
def test_a_limit_at_the_end_of_float32_is_a_limit(
    high: float | None, engine: PatchEngine | LirpaEngine, tmp_path: Path
) -> None:
    """Read as no limit, this was certified although onnxruntime refutes it."""
    network = load(overtaken(tmp_path, high))
    maps, _ = zip(*(network.oracle_cam(image, 0) for image in (CENTRE, BEYOND)), strict=True)
    assert maps[0][0, 0] > maps[0][0, 1]
    assert maps[1][0, 0] < maps[1][0, 1]
    answer = verify(network, CENTRE, k=1, class_id=0, eps=0.018, engine=engine, attack=None)
    assert answer.status is not Status.PROVED
    found = verify(network, CENTRE, k=1, class_id=0, engine=engine)
    assert found.certificate.radius < 0.018


@pytest.mark.parametrize("high", [LARGEST, None])
def test_a_specification_meets_the_limit(high: float | None, tmp_path: Path) -> None:
    """Y = 5 min(2 u, high) - 9 u, u = x_0 + x_1: at most 1.6 only beyond the limit, where onnxruntime is."""
    model = OnnxModel((1, 1, 2), 17)
    kernel = np.float32([[2e38, 2e38], [1e38, 1e38]]).reshape(2, 1, 1, 2)
    value = model.clip(model.node("Conv", IMAGE, kernel), 0.0, high)
    value = model.node("Conv", value, np.float32([[1e-38, 0], [0, 1e-38]]).reshape(2, 2, 1, 1))
    value = model.node("Flatten", model.node("Conv", value, np.float32([5, -9]).reshape(1, 2, 1, 1)))
    network = load_plain(model.save(tmp_path, value))
    centre = np.float32([0.84, 0.84])
    spec = one_case(
        centre - np.float32(0.018),
        centre + np.float32(0.018),
        1,
        (Constraint((), ((0, Fraction(1)),), Fraction(-1.6)),),
    )
    assert decide(network, spec, time.monotonic() + 60).answer is not Answer.UNSAT


@pytest.mark.parametrize("high", [LARGEST, 1e9])
def test_lowered_limits_are_the_same_function(high: float, tmp_path: Path) -> None:
    """Both forms of a lowered Clip, and the bounds of either engine: they hold what the trunk computes."""
    rng = np.random.default_rng(3)
    for limits in ((None, high), (-high, None), (-high, high), (-0.1, high), (-high, 0.1)):
        model = OnnxModel((2, 4, 4), 17)
        value = model.node("Conv", IMAGE, float32(rng, 3, 2, 1, 1, scale=high / 4096))
        value = model.clip(value, *limits)
        value = model.node("Conv", value, float32(rng, 3, 3, 1, 1, scale=4096 / high))
        network = load(model.save(tmp_path, model.head(value, float32(rng, 2, 3))))
        assert len(clips(network)) == 1
        # Images 4096 times as large meet the limits.
        x = torch.from_numpy(4096 * (2 * rng.random((4, 2, 4, 4)) - 1))
        values = network.trunk(x)
        for lowered in (lower_trunk(network), prepare(network)):
            torch.testing.assert_close(lowered(x), values, rtol=1e-9, atol=1e-9)
        image = torch.from_numpy(rng.random((2, 4, 4), dtype=np.float32))
        bounds = PatchEngine().bind(network, 0, torch.float64).pixels(Ball(image, 0.01))
        inside = (image + 0.01 * (2 * torch.rand(64, 2, 4, 4) - 1)).clamp(0, 1).double()
        found = network.head.cam(network.trunk(inside), 0).flatten(1)
        assert bool(((bounds.lower <= found) & (found <= bounds.upper)).all())
        assert float((bounds.upper - bounds.lower).max()) < 10 * float(found.abs().max())
