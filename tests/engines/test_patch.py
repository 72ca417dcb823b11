"""The patch engine against auto_LiRPA, against the network, and its parts against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from corgi.engines.lirpa import LirpaEngine, LirpaMethod
from corgi.engines.lowering import lower_trunk
from corgi.engines.patch.bounds import map_reach
from corgi.engines.patch.compose import compose
from corgi.engines.patch.engine import PatchEngine, PatchMethod
from corgi.engines.patch.patches import Patches, transposed_conv
from corgi.engines.patch.relax import relax
from corgi.network import layers
from corgi.network.network import load
from corgi.types import Ball
from tests.onnx_models import random_cam_network


def generated(seed, folder):
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, folder))
    return network, torch.from_numpy(rng.random(network.input_shape, dtype=np.float32))


@pytest.mark.parametrize("seed", range(60))
def test_as_tight_as_auto_lirpa(seed, tmp_path) -> None:
    """CROWN on the same lowered graph, networks of piecewise linear layers: no wider on average.

    Single pixels can be looser: our inner bounds are the tighter ones (intersected with intervals), and a
    tighter inner bound may switch the slope a relu is given below, which helps one row and hurts another.
    """
    network, image = generated(seed, tmp_path)
    if any(isinstance(s.layer, layers.Sigmoid | layers.Tanh) for s in network.trunk.steps):
        pytest.skip("the libraries draw different lines around sigmoid and tanh")
    above, below = torch.arange(network.pixels - 1), torch.arange(1, network.pixels)
    for radius in (0.002, 0.05):
        ball = Ball(image, radius)
        ours, theirs = (
            engine.bind(network, 0, torch.float64)
            for engine in (PatchEngine(PatchMethod.CROWN), LirpaEngine(LirpaMethod.CROWN))
        )
        mine, other = ours.pixels(ball), theirs.pixels(ball)
        assert (mine.upper - mine.lower).mean() <= 1.05 * (other.upper - other.lower).mean() + 1e-9
        pairs = ours.differences(ball, above, below) - theirs.differences(ball, above, below)
        assert pairs.mean() >= -0.05 * (other.upper - other.lower).mean() - 1e-9


@pytest.mark.parametrize("seed", range(30))
def test_composed_graph_is_the_same_function(seed, tmp_path) -> None:
    network, _ = generated(seed, tmp_path)
    graph = compose(lower_trunk(network))
    images = torch.rand(3, *network.input_shape, dtype=torch.float64)
    torch.testing.assert_close(graph(images), network.trunk(images))


def test_chunks_change_nothing(tmp_path) -> None:
    network, image = generated(7, tmp_path)
    ball = Ball(image, 0.05)
    whole = PatchEngine().bind(network, 0, torch.float64).pixels(ball)
    pieces = PatchEngine(budget=1).bind(network, 0, torch.float64).pixels(ball)
    torch.testing.assert_close(whole.lower, pieces.lower)
    torch.testing.assert_close(whole.upper, pieces.upper)


@given(st.data())
def test_float32_transposed_convolution(data) -> None:
    integers = st.integers(1, 4)
    kh, kw, sy, sx, high, wide = (data.draw(integers) for _ in range(6))
    values = torch.randn(3, 2, high, wide)
    weight = torch.randn(2, 5, kh, kw)
    expected = F.conv_transpose2d(values, weight, stride=(sy, sx))
    torch.testing.assert_close(transposed_conv(values, weight, (sy, sx)), expected, rtol=1e-4, atol=1e-5)


@given(st.data())
def test_windows_and_sums_of_patches(data) -> None:
    """Against the dense coefficients a patch stands for."""

    def dense(patches: Patches, size: int, border: int) -> torch.Tensor:
        rows = []
        for r in range(len(patches.top)):
            canvas = torch.zeros(patches.values.shape[1], size + 2 * border, size + 2 * border)
            top, left = int(patches.top[r]) + border, int(patches.left[r]) + border
            high, wide = patches.values.shape[2:]
            canvas[:, top : top + high, left : left + wide] = patches.values[r]
            rows.append(canvas)
        return torch.stack(rows)

    rows, size, border = data.draw(st.integers(1, 6)), 5, 8
    place = st.lists(st.integers(-2, 5), min_size=rows, max_size=rows)
    shift = st.integers(-2, 2)
    top, left = torch.tensor(data.draw(place)), torch.tensor(data.draw(place))
    a = Patches(torch.randn(rows, 2, 3, 2), top, left)
    b = Patches(torch.randn(rows, 2, 2, 4), top + data.draw(shift), left + data.draw(shift))
    torch.testing.assert_close(
        dense(a.plus(b), size, border), dense(a, size, border) + dense(b, size, border)
    )
    field = torch.randn(2, size, size)
    padded = F.pad(field, (border,) * 4)
    expected = (dense(a, size, border) * padded).sum((1, 2, 3))
    torch.testing.assert_close((a.values * a.window(field)).sum((1, 2, 3)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [layers.Relu(), layers.Sigmoid(), layers.Tanh()])
@given(
    ends=st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    scale=st.sampled_from([1e-9, 1e-3, 0.1, 1.0, 50.0]),
)
def test_lines_hold_the_activation(layer, ends, scale) -> None:
    low, high = (scale * end for end in sorted(ends))
    lower, upper = (torch.full((1, 1, 1), end, dtype=torch.float64) for end in (low, high))
    lines = relax(layer, lower, upper)
    points = torch.linspace(0, 1, 501, dtype=torch.float64) * (upper - lower) + lower
    points = points.clamp(lower, upper)
    exact = layer(points)
    error = 1e-14 * (1 + max(abs(low), abs(high)))
    assert (lines.lower_slope * points + lines.lower_shift <= exact + error).all()
    assert (lines.upper_slope * points + lines.upper_shift >= exact - error).all()
    for slope in (lines.lower_slope, lines.upper_slope):
        assert 0 <= float(slope) <= 1 + 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_far_pixels_share_no_image_pixel(seed, tmp_path) -> None:
    """Gradients of two map pixels at least `map_reach` apart do not overlap."""
    network, image = generated(seed, tmp_path)
    reach = map_reach(compose(lower_trunk(network)))
    width = network.head.map_shape[1]
    x = image.to(torch.float64)[None].requires_grad_(True)
    cam = network.head.cam(network.trunk(x), 0)[0]
    for other in range(network.pixels):
        down, right = abs(other // width), abs(other % width)
        if down < reach[0] and right < reach[1]:
            continue
        first = torch.autograd.grad(cam[0, 0], x, retain_graph=True, allow_unused=True)[0]
        second = torch.autograd.grad(cam[other // width, other % width], x, retain_graph=True)[0]
        if first is not None:
            assert not ((first != 0) & (second != 0)).any()
