"""Padding with copies: bounded as it is, or the padding of the MaxPool behind it where that is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from corgi.engines.interface import Ball, BoundEngine
from corgi.engines.lipschitz.engine import LipschitzEngine
from corgi.engines.lirpa import LirpaEngine
from corgi.engines.patch.engine import PatchEngine
from corgi.errors import EngineError, ModelError
from corgi.network import layers
from corgi.network.network import Network, load
from tests.onnx_models import IMAGE, OnnxModel, float32, run_onnxruntime


def network(folder: Path, mode: str, border: list[int], *, last: bool = False, **window: object) -> Network:
    """Conv -> Pad -> MaxPool -> head; `last`: the channels are padded as [N, H, W, C]."""
    rng = np.random.default_rng(3)
    model = OnnxModel((2, 6, 7))
    value = model.node("Conv", IMAGE, float32(rng, 3, 2, 1, 1), float32(rng, 3))
    if last:
        value = model.node("Transpose", value, perm=[0, 2, 3, 1])
        top, left, bottom, right = border
        value = model.node("Pad", value, np.array([0, top, left, 0, 0, bottom, right, 0]), mode=mode)
        value = model.node("Transpose", value, perm=[0, 3, 1, 2])
    else:
        value = model.pad(value, border, mode=mode)
    value = model.node("MaxPool", value, **window)
    return load(model.save(folder, model.head(value, float32(rng, 3, 3))))


def merged(found: Network) -> bool:
    return not any(isinstance(step.layer, layers.Border) for step in found.module.steps)


@pytest.mark.parametrize(
    ("mode", "pads", "window", "same"),
    [
        ("edge", [0, 0, 1, 1], {"kernel_shape": [3, 3], "strides": [2, 2]}, True),
        ("edge", [1, 1, 1, 1], {"kernel_shape": [3, 3]}, True),
        ("edge", [2, 2, 2, 2], {"kernel_shape": [3, 3]}, True),
        ("edge", [1, 1, 1, 1], {"kernel_shape": [2, 2], "strides": [2, 2]}, True),
        (
            "edge",
            [0, 0, 2, 0],
            {"kernel_shape": [2, 2], "strides": [2, 1]},
            False,
        ),  # copies alone
        ("edge", [1, 0, 0, 0], {"kernel_shape": [2, 1], "dilations": [2, 1]}, False),  # -1 and 1, not 0
        ("edge", [1, 1, 0, 0], {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}, False),
        ("edge", [1, 1, 0, 0], {"kernel_shape": [3, 3], "pads": [1, 1, 0, 0]}, True),
        ("reflect", [1, 1, 1, 1], {"kernel_shape": [3, 3]}, True),
        ("reflect", [1, 1, 1, 1], {"kernel_shape": [2, 2]}, False),
        ("reflect", [2, 0, 0, 0], {"kernel_shape": [3, 3], "strides": [3, 3]}, False),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_padding_in_front_of_a_max_pool(
    mode: str, pads: list[int], window: dict[str, list[int]], same: bool, last: bool, tmp_path: Path
) -> None:
    assert merged(network(tmp_path, mode, pads, last=last, **window)) is same


@given(
    mode=st.sampled_from(["edge", "reflect"]),
    pads=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    kernel=st.lists(st.integers(1, 4), min_size=2, max_size=2),
    strides=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    dilations=st.lists(st.integers(1, 2), min_size=2, max_size=2),
)
def test_any_padding_and_window_equals_onnxruntime(
    tmp_path_factory: pytest.TempPathFactory,
    mode: str,
    pads: list[int],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
) -> None:
    if any((k - 1) * d + 1 > 6 for k, d in zip(kernel, dilations, strict=True)):
        return
    window = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    found = network(tmp_path_factory.mktemp("pool"), mode, pads, **window)
    images = np.random.default_rng(0).random((2, 2, 6, 7), dtype=np.float32)
    pooled = next(step.output for step in found.module.steps if step.op == "MaxPool")
    ours = found.module.up_to(pooled)(torch.from_numpy(images).double())
    assert_allclose(ours, run_onnxruntime(found.path, images, pooled)[1], atol=1e-6)


@pytest.mark.parametrize("mode", ["edge", "reflect"])
@pytest.mark.parametrize("merges", [False, True])
def test_bounds_hold(mode: str, merges: bool, tmp_path: Path) -> None:
    window = {"kernel_shape": [3, 3] if merges else [2, 2]}
    found = network(tmp_path, mode, [1, 1, 1, 1], **window)
    assert merged(found) is (merges or mode == "edge")
    image = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(1))
    ball = Ball(image, 0.05)
    bounds = PatchEngine().bind(found, 0, torch.float64).pixels(ball)
    noise = torch.rand(500, 2, 6, 7, generator=torch.Generator().manual_seed(2)).round()
    images = (image.double() + 0.05 * (2 * noise.double() - 1)).clamp(0, 1)
    maps = found.head.cam(found.trunk(images), 0).flatten(1)
    assert bool((maps >= bounds.lower - 1e-9).all())
    assert bool((maps <= bounds.upper + 1e-9).all())


@pytest.mark.parametrize("last", [False, True])
def test_minus_infinity_is_the_padding_of_a_pool(last: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    model = OnnxModel((2, 6, 7), 10 if last else 13)
    value = model.node("Conv", IMAGE, float32(rng, 3, 2, 1, 1), float32(rng, 3))
    value = model.pad(value, [0, 1, 2, 0], -np.inf)
    value = model.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1])
    path = model.save(tmp_path, model.head(value, float32(rng, 3, 3)))
    found = load(path)
    assert not any(isinstance(step.layer, layers.Pad) for step in found.module.steps)
    images = float32(rng, 3, 2, 6, 7)
    expected, features = run_onnxruntime(path, images, found.head.feature)
    x = torch.from_numpy(images).double()
    assert_allclose(found.trunk(x), features, atol=1e-5)
    assert_allclose(found.module(x), expected, atol=1e-5)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_padding_by_no_number(value: float, tmp_path: Path) -> None:
    model = OnnxModel((2, 6, 7))
    padded = model.pad(model.node("Conv", IMAGE, np.ones((3, 2, 1, 1), np.float32)), [1, 1, 1, 1], value)
    pooled = model.node("MaxPool", padded, kernel_shape=[2, 2])
    with pytest.raises(ModelError, match=r"node '.*' \(Pad\)"):
        load(model.save(tmp_path, model.head(pooled, np.ones((3, 3)))))


@pytest.mark.parametrize("engine", [PatchEngine(), LirpaEngine(), LipschitzEngine()])
@pytest.mark.parametrize("own", [False, True])
def test_the_maximum_of_padding_alone_has_no_bounds(engine: BoundEngine, own: bool, tmp_path: Path) -> None:
    """It is -infinity, and a Relu in front that is taken behind the pool would make it 0."""
    rng = np.random.default_rng(4)
    model = OnnxModel((1, 4, 4))
    value = model.node("Relu", model.node("Conv", IMAGE, float32(rng, 3, 1, 4 if own else 1, 1)))
    if own:
        window = {"kernel_shape": [2, 2], "dilations": [2, 1], "pads": [1, 0, 1, 0]}
    else:
        value, window = model.pad(value, [0, 0, 2, 0], -np.inf), {"kernel_shape": [2, 2]}
    value = model.node("Sigmoid", model.node("MaxPool", value, **window))
    path = model.save(tmp_path, model.head(value, float32(rng, 3, 3)))
    with pytest.raises(EngineError, match=r"padding alone|dilations"):
        engine.bind(load(path), 0)
