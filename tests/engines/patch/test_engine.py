"""The patch engine as a whole: sound on all layers and under adversarial weights, the same by every route."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.certify.verify import VerifyOptions, verify
from corgi.engines.cone import NotUnfolded
from corgi.engines.forms import ClassMargins, pairs
from corgi.engines.lirpa import LirpaEngine
from corgi.engines.patch import engine as engine_module
from corgi.engines.patch.cones import map_reach
from corgi.engines.patch.engine import PatchBounder, PatchEngine, deviations
from corgi.engines.patch.pools import PoolPlanes
from corgi.engines.patch.prepare import prepare
from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.network import Network, load
from corgi.terms import LirpaMethod, PatchMethod
from corgi.types import Ball, Interval
from tests.engines.patch import exact as ex
from tests.engines.trunks import (
    ALIASES,
    CASES,
    CURVES,
    MULTIPLIED,
    PATCH_CASES,
    RESAMPLED,
    Build,
    between,
    chain,
    network,
)
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network
from tests.soundness.samples import inside

EVALUATION = 1e-11
"""What float64 may get wrong in a sampled image's map, relative to the sum of its absolute terms. The bounds
themselves are given nothing."""

both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def generated(seed: int, folder: Path) -> tuple[Network, Tensor]:
    rng = np.random.default_rng(seed)
    net = load(random_cam_network(rng, folder))
    return net, torch.from_numpy(rng.random(net.input_shape, dtype=np.float32))


def bound(net: Network, dtype: torch.dtype = torch.float64, **options) -> PatchBounder:
    return PatchEngine(**options).bind(net, 0, dtype)


def close(found: Interval, expected: Interval, share: float) -> None:
    """Equal up to a share of the widest bounds."""
    scale = float((expected.upper - expected.lower).max())
    for a, b in ((found.lower, expected.lower), (found.upper, expected.upper)):
        torch.testing.assert_close(a, b, rtol=0, atol=share * scale + 1e-12)


ONLY_HERE = {**PATCH_CASES, **RESAMPLED, **MULTIPLIED}
EVERY_CASE = {**CASES, **ALIASES, **ONLY_HERE}


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(case, torch.float32) for case in EVERY_CASE] + [(case, torch.float64) for case in ONLY_HERE],
    ids=str,
)
def test_bounds_hold_every_layer(case: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Each behind and in front of a 3 x 3 convolution, so that patches stand over its edges; no slack."""
    net = network(tmp_path, between(EVERY_CASE[case]))
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(net.input_shape, generator=generator)
    bounder = bound(net, dtype)
    above, below = (torch.randint(net.pixels, (12,), generator=generator) for _ in range(2))
    for radius in (0.2, 0.01):
        ball = Ball(image, radius)
        images = inside(net, ball, 0, 24, 1)
        with torch.no_grad():
            features = net.trunk(images)
        cams = net.head.cam(features, 0).flatten(1)
        terms = (features.abs().amax(0) * net.head.weight[0].abs()[:, None, None]).sum(0)
        slack = EVALUATION * float(terms.max())
        for bounds in (bounder.pixels(ball), bounder.intervals(ball)):
            assert torch.isfinite(bounds.lower).all()
            assert torch.isfinite(bounds.upper).all()
            assert (bounds.lower <= cams + slack).all()
            assert (cams <= bounds.upper + slack).all()
        margins = cams[:, above] - cams[:, below]
        assert (bounder.differences(ball, above, below) <= margins + slack).all()


@pytest.mark.parametrize(
    "case", ["pool, padding", "residual, other strides", "constant map", "1 dilated grouped asymmetric"]
)
def test_feature_bounds_hold(case: str, tmp_path: Path) -> None:
    net = network(tmp_path, between(EVERY_CASE[case]))
    ball = Ball(torch.full(net.input_shape, 0.4), 0.1)
    bounds = bound(net, torch.float32).features(ball)
    images = inside(net, ball, 0, 24, 1)
    with torch.no_grad():
        features = net.trunk(images).flatten(2)
    slack = EVALUATION * float(features.abs().max())
    assert (bounds.lower <= features + slack).all()
    assert (features <= bounds.upper + slack).all()


def rescaled(layer: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """Channels from 2^-26 to 2^26 times as large, unlike one another."""
    if not isinstance(layer, layers.Conv):
        return layer
    out, inputs = layer.weight.shape[:2]
    rows, columns = (2.0 ** torch.randint(-26, 27, (n,), generator=generator).double() for n in (out, inputs))
    return conv_like(
        layer, layer.weight * rows[:, None, None, None] * columns[:, None, None], layer.bias * rows
    )


def cancelling(layer: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """Every channel a multiple of the first, 1e6 times as large as what tells them apart."""
    if not isinstance(layer, layers.Conv):
        return layer
    signs = torch.randn(len(layer.weight), 1, 1, 1, generator=generator).sign().double()
    return conv_like(layer, layer.weight + 1e6 * signs * layer.weight[:1], layer.bias)


def offset(layer: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """Biases of 1e9."""
    if not isinstance(layer, layers.Conv):
        return layer
    return conv_like(
        layer, layer.weight, layer.bias + 1e9 * torch.randn(len(layer.bias), generator=generator)
    )


def conv_like(layer: layers.Conv, weight: Tensor, bias: Tensor) -> layers.Conv:
    return layers.Conv(weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


Change = Callable[[torch.nn.Module, torch.Generator], torch.nn.Module]


def with_prepared(monkeypatch, graph: TorchGraph) -> None:
    """What engines prepare from now on; the network itself would not pass its gate in float32."""
    monkeypatch.setattr(engine_module, "prepare", lambda network: graph)


def assert_exactly_held(
    bounder: PatchBounder, graph: TorchGraph, weight: Tensor, ball: Ball, images: Tensor
) -> None:
    """Pixels, intervals and margins against exact maps of images in the ball. Nothing is forgiven."""
    pixels = len(bounder.intervals(ball).lower)
    generator = torch.Generator().manual_seed(pixels)
    above, below = (torch.randint(pixels, (10,), generator=generator) for _ in range(2))
    found, cheap, margins = (
        bounder.pixels(ball),
        bounder.intervals(ball),
        bounder.differences(ball, above, below),
    )
    for image in images:
        cam = ex.cam(graph, weight, image)
        for bounds in (found, cheap):
            assert ex.at_most(bounds.lower, cam)
            assert ex.at_least(bounds.upper, cam)
        assert ex.at_most(margins, cam[above.numpy()] - cam[below.numpy()])


@both
@pytest.mark.parametrize(
    "change", [None, rescaled, cancelling, offset], ids=lambda c: c.__name__ if c else "as is"
)
@pytest.mark.parametrize("seed", [5, 6, 17, 18, 28, 34])
def test_bounds_hold_exact_maps_of_adversarial_weights(
    seed: int, change: Change | None, dtype: torch.dtype, tmp_path: Path, monkeypatch
) -> None:
    net, image = generated(seed, tmp_path)
    graph, generator = prepare(net), torch.Generator().manual_seed(seed)
    if change is not None:
        graph = graph.with_layers(lambda layer: change(layer, generator))
    with_prepared(monkeypatch, graph)
    bounder = bound(net, dtype)
    for radius in (0.1, 1e-3, 0.0):
        ball = Ball(image, radius)
        images = inside(net, ball, 0, 9, seed)[::4] if radius else image[None].double()
        assert_exactly_held(bounder, graph, net.head.weight[0], ball, images)


def hidden_pattern(folder: Path, large: float) -> tuple[Network, Tensor]:
    """A map of 0.3 x, written as 0.3 x + sum_j w_j x with weights w_j of size `large` that cancel.

    No sum over the features keeps the pattern unless they happen to be added up in the right order, and the
    features themselves are rounded by more than it. The second class is only there so that the scores are as
    large as the features: the gate compares with the largest of them.
    """
    shares = np.array([5.0, -3.0, -2.0, 0.0, 7.0, -4.0, -3.0], np.float32)
    weight = (large * shares)[:, None, None, None].astype(np.float32)
    weight[3] = 0.3
    model = OnnxModel((1, 4, 4))
    value = model.node("Conv", IMAGE, weight)
    image = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64) * 0.4 + 0.3
    classes = np.array([[1.0] * 7, [1.0] + [0.0] * 6])
    return load(model.save(folder, model.head(value, classes))), image


@pytest.mark.parametrize("large", [2.0**24, 2.0**60], ids=["float32 fails", "float64 fails"])
def test_what_rounding_hides_is_not_certified(large: float, tmp_path: Path) -> None:
    """Plain evaluation orders two map pixels wrongly; the bounds of either precision do not."""
    net, image = hidden_pattern(tmp_path, large)
    plain = torch.float32 if large < 2.0**30 else torch.float64
    image = image.to(plain)
    weight, graph = net.head.weight[0], prepare(net)
    with torch.no_grad():
        features = copy.deepcopy(net.trunk).to(plain)(image[None])[0]
        rounded = (weight.to(plain)[:, None, None] * features).sum(0).flatten()
    cam = ex.cam(graph, weight, image)
    above, below = torch.cartesian_prod(torch.arange(16), torch.arange(16)).unbind(1)
    margins = cam[above.numpy()] - cam[below.numpy()]
    wrong = (rounded[above] > rounded[below]) & (margins.float() < 0)
    assert wrong.any(), "the case is only worth something where plain evaluation fails"
    for dtype in (torch.float32, torch.float64):
        bounder = bound(net, dtype)
        for radius in (0.0, 1e-6, 0.01):
            ball = Ball(image, radius)
            found = bounder.differences(ball, above, below)
            assert ex.at_most(found, margins)
            assert not (found[wrong] > 0).any()
            assert_exactly_held(bounder, graph, weight, ball, image[None])


def test_a_margin_that_turns_is_not_certified(tmp_path: Path) -> None:
    """The gap closes within the ball, through the pattern that float32 coefficients of the map lose."""
    net, image = hidden_pattern(tmp_path, 2.0**24)
    flat = image.flatten()
    above, below = flat.argmax()[None], flat.argmin()[None]
    gap = float(flat.max() - flat.min())
    for dtype in (torch.float32, torch.float64):
        bounder = bound(net, dtype)
        for share in (0.4, 0.6, 0.9):
            radius = share * gap
            least = 0.3 * (gap - 2 * radius)
            found = float(bounder.differences(Ball(image, radius), above, below))
            assert found <= least + 1e-7  # 0.3 as a float32
            assert not (share > 0.5 and found > 0)


@both
def test_cancelling_constants_are_seen(dtype: torch.dtype, tmp_path: Path) -> None:
    """Folding 1e12 - 1e12 into a bias leaves an error of 1e-4: the map of the unfolded trunk is held."""
    rng = np.random.default_rng(1)
    model = OnnxModel((1, 5, 5))
    value = model.node("Conv", IMAGE, float32(rng, 3, 1, 3, 3), float32(rng, 3))
    value = model.node("Relu", model.node("Mul", value, float32(rng, 3, 1, 1)))
    net = load(model.save(tmp_path, model.head(value, np.ones((2, 3)))))

    def cancelling(layer: torch.nn.Module) -> torch.nn.Module:
        match layer:
            case layers.Conv():
                return conv_like(layer, layer.weight, layer.bias + 1e12 / 3)
            case layers.Affine():
                return layers.Affine(layer.scale, layer.shift - layer.scale * 1e12 / 3)
        return layer

    net = replace(net, trunk=net.trunk.with_layers(cancelling))
    image = torch.from_numpy(rng.random(net.input_shape, dtype=np.float32))
    assert len(prepare(net).steps) == 2, "folded"
    bounder = bound(net, dtype)
    for radius in (0.0, 0.1):
        ball = Ball(image, radius)
        images = inside(net, ball, 0, 6, 1) if radius else image[None].double()
        assert_exactly_held(bounder, net.trunk, net.head.weight[0], ball, images)


SEEDS = (5, 6, 17, 28, 33, 34)
"""Generated networks whose maps move, several layers deep, among them windows of 4 and 9 elements."""


@pytest.mark.parametrize("seed", SEEDS[::2])
def test_chunks_change_nothing(seed: int, tmp_path: Path) -> None:
    net, image = generated(seed, tmp_path)
    ball = Ball(image, 0.05)
    whole, pieces = bound(net), bound(net, budget=1)
    close(pieces.pixels(ball), whole.pixels(ball), 1e-9)
    above, below = torch.arange(net.pixels - 1), torch.arange(1, net.pixels)
    torch.testing.assert_close(
        pieces.differences(ball, above, below), whole.differences(ball, above, below), rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_ends_asked_for_alone_are_those_of_the_full_call(seed: int, tmp_path: Path) -> None:
    net, image = generated(seed, tmp_path)
    ball = Ball(image, 0.05)
    full, generator = bound(net).pixels(ball), torch.Generator().manual_seed(seed)
    low, high = (torch.randperm(net.pixels, generator=generator)[:n] for n in (3, 4))
    bounder = bound(net)
    some = bounder.pixels(ball, low, high)
    asked = Interval(some.lower[low], some.upper[high])
    scale = 1e-9 * float((full.upper - full.lower).max()) + 1e-12
    torch.testing.assert_close(asked.lower, full.lower[low], rtol=0, atol=scale)
    torch.testing.assert_close(asked.upper, full.upper[high], rtol=0, atol=scale)
    others = torch.ones(net.pixels, dtype=torch.bool)
    others[low] = False
    assert (some.lower[others] == -torch.inf).all()
    close(bounder.pixels(ball), full, 1e-9)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert len(bound(net).pixels(ball, nothing, nothing).lower) == net.pixels
    assert len(bounder.differences(ball, nothing, nothing)) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_smaller_ball_after_a_larger_one(seed: int, tmp_path: Path) -> None:
    """What the larger ball decided is reused: sound, and on average as tight as afresh.

    A single pixel can come out looser by about a hundredth: what is not bounded again can leave another
    choice of planes.
    """
    net, image = generated(seed, tmp_path)
    bounder = bound(net)
    for radius in (0.2, 0.05, 0.1, 0.01):  # also one between two known ones
        ball = Ball(image, radius)
        found, fresh = bounder.pixels(ball), bound(net).pixels(ball)
        width = fresh.upper - fresh.lower
        assert float((found.upper - found.lower).mean()) <= 1.002 * float(width.mean()) + 1e-12
        assert (fresh.lower - found.lower <= 0.03 * width + 1e-12).all()
        assert (found.upper - fresh.upper <= 0.03 * width + 1e-12).all()
        images = inside(net, ball, 0, 30, seed)
        with torch.no_grad():
            features = net.trunk(images)
        cams = net.head.cam(features, 0).flatten(1)
        slack = EVALUATION * float((features.abs().amax((0, 2, 3)) * net.head.weight[0].abs()).sum())
        assert (found.lower <= cams + slack).all()
        assert (cams <= found.upper + slack).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_float32_and_float64_agree(seed: int, tmp_path: Path) -> None:
    net, image = generated(seed, tmp_path)
    for radius in (0.0, 0.02):
        ball = Ball(image, radius)
        narrow, wide = bound(net, torch.float32).pixels(ball), bound(net).pixels(ball)
        with torch.no_grad():
            terms = (net.trunk(image[None].double()).abs()[0] * net.head.weight[0].abs()[:, None, None]).sum()
        for a, b in ((narrow.lower, wide.lower), (narrow.upper, wide.upper)):
            # At radius 0 float32 has no say at all: centres are float64.
            torch.testing.assert_close(a, b, rtol=0, atol=(1e-4 * radius + 1e-12) * (1 + float(terms)))


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_are_no_looser_than_intervals_of_them(seed: int, tmp_path: Path) -> None:
    """CROWN refines what CROWN-IBP leaves to intervals; both are mean widths."""
    net, image = generated(seed, tmp_path)
    for radius in (0.01, 0.05):
        widths = [
            float((b.upper - b.lower).mean())
            for b in (
                bound(net, relaxation=m).pixels(Ball(image, radius))
                for m in (PatchMethod.CROWN, PatchMethod.CROWN_IBP)
            )
        ]
        assert widths[0] <= 1.01 * widths[1]


@pytest.mark.parametrize("seed", SEEDS[:5])
def test_far_pixels_are_bounded_apart(seed: int, tmp_path: Path) -> None:
    """A pair whose cones share nothing gets L_i - U_p, and a row of its own would say the same."""
    net, image = generated(seed, tmp_path)
    bounder, ball = bound(net), Ball(image, 0.05)
    width, reach = net.head.map_shape[1], map_reach(prepare(net))
    above, below = torch.cartesian_prod(torch.arange(net.pixels), torch.arange(net.pixels)).unbind(1)
    down, right = (above // width - below // width).abs(), (above % width - below % width).abs()
    far = (down >= reach[0]) | (right >= reach[1])
    assert far.any()
    above, below = above[far][:40], below[far][:40]
    alone = bounder.pixels(ball)
    found = bounder.differences(ball, above, below)
    torch.testing.assert_close(found, alone.lower[above] - alone.upper[below], rtol=1e-12, atol=1e-12)
    bounder._reach = (2**31, 2**31)
    scale = float((alone.upper - alone.lower).max())
    torch.testing.assert_close(
        bounder.differences(ball, above, below), found, rtol=0, atol=1e-9 * scale + 1e-12
    )


def test_bounds_of_another_ball_are_not_reused(tmp_path: Path) -> None:
    """Another image, another pixel box: what is known of the first is no bound of it."""
    net, image = generated(6, tmp_path)
    high = (image * 0.2 + 0.8).clamp(max=1)
    balls = [
        Ball(high, 0.15),
        Ball(high, 0.15, pixel_box=(0.0, 2.0)),
        Ball(image, 0.15),
        Ball(high.clone(), 0.1),
        Ball(high, 0.2),
    ]
    widest = [bound(net).pixels(ball).upper.max() for ball in balls]
    assert widest[1] > widest[0] + 0.01
    bounder = bound(net)
    for ball in balls:
        close(bounder.pixels(ball), bound(net).pixels(ball), 0.03)
        images = inside(net, ball, 0, 30, 0)
        cams = net.head.cam(net.trunk(images), 0).flatten(1).detach()
        assert (bounder.pixels(ball).lower <= cams + 1e-9).all()
        assert (cams <= bounder.pixels(ball).upper + 1e-9).all()


def critical_pairs(net: Network, ball: Ball, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs whose least margins over sampled images are smallest in size; and those margins."""
    generator = torch.Generator().manual_seed(seed)
    images = inside(net, ball, 0, 60, seed)
    with torch.no_grad():
        cams = net.head.cam(net.trunk(images), 0).flatten(1)
    above, below = (torch.randint(net.pixels, (40,), generator=generator) for _ in range(2))
    different = above != below
    above, below = above[different], below[different]
    margins = (cams[:, above] - cams[:, below]).amin(0)
    order = margins.abs().argsort()[:count]
    return above[order], below[order], margins[order]


@both
@pytest.mark.parametrize("seed", SEEDS[:4])
def test_alpha_crown_holds_and_is_no_looser(seed: int, dtype: torch.dtype, tmp_path: Path) -> None:
    net, image = generated(seed, tmp_path)
    bounder = bound(net, dtype, relaxation=PatchMethod.ALPHA_CROWN)
    for radius in (0.05, 0.005):
        ball = Ball(image, radius)
        above, below, margins = critical_pairs(net, ball, 6, seed)
        plain, sharp = bounder.differences(ball, above, below), bounder.sharpened(ball, above, below)
        assert (sharp <= margins + EVALUATION * (1 + margins.abs())).all()
        assert (sharp >= plain - (1e-5 if dtype is torch.float32 else 1e-9)).all()


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_focus_is_positive_only_where_the_margin_is(seed: int, tmp_path: Path) -> None:
    net, image = generated(seed, tmp_path)
    bounder = bound(net, relaxation=PatchMethod.FOCUS)
    ball = Ball(image, 0.03)
    above, below, margins = critical_pairs(net, ball, 2, seed)
    sharp = bounder.sharpened(ball, above, below)
    assert ((sharp > 0) <= (margins > -EVALUATION)).all()


@pytest.mark.parametrize("method", [PatchMethod.ALPHA_CROWN, PatchMethod.FOCUS])
def test_nothing_to_optimise(method: PatchMethod, tmp_path: Path) -> None:
    """A ball in which all is decided, and a margin < 0 in its middle: once a RuntimeError."""
    net, image = generated(2, tmp_path)
    ball = Ball(image, 1e-6)
    above, below = net.cam(image, 0).argmin()[None], net.cam(image, 0).argmax()[None]
    bounder = bound(net, relaxation=method)
    found = bounder.sharpened(ball, above, below)
    assert float(found) <= 0
    torch.testing.assert_close(found, bounder.differences(ball, above, below), rtol=1e-6, atol=1e-9)


PIECEWISE = (1, 5, 6, 7, 8, 10, 11, 12, 14, 17, 22, 24, 25, 26, 27, 28, 29, 30, 31, 32, 34, 36, 38, 39)
"""Of networks without sigmoid and tanh, around which the libraries draw different lines."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", PIECEWISE)
def test_as_tight_as_auto_lirpa(seed: int, tmp_path: Path) -> None:
    """CROWN on the lowered graph, networks of piecewise linear layers: no wider on average, nor any pixel."""
    net, image = generated(seed, tmp_path)
    above, below = torch.arange(net.pixels - 1), torch.arange(1, net.pixels)
    for radius in (0.002, 0.05):
        ball = Ball(image, radius)
        ours, theirs = bound(net), LirpaEngine(LirpaMethod.CROWN).bind(net, 0, torch.float64)
        mine, other = ours.pixels(ball), theirs.pixels(ball)
        width = other.upper - other.lower
        assert (mine.upper - mine.lower).mean() <= 1.05 * width.mean() + 1e-9
        pairs = ours.differences(ball, above, below) - theirs.differences(ball, above, below)
        assert pairs.mean() >= -0.05 * width.mean() - 1e-9
        allowed = 1e-5 * (width + 1e-4 * width.max()) + 1e-9
        assert (mine.lower >= other.lower - allowed).all()
        assert (mine.upper <= other.upper + allowed).all()


@both
@pytest.mark.parametrize("seed", [6, 50, 53])
def test_rivals_only_help(seed: int, dtype: torch.dtype, tmp_path: Path, monkeypatch) -> None:
    """With tournaments no bound is looser, some are tighter, and all hold the images of the ball."""
    net, image = generated(seed, tmp_path)
    ball = Ball(image, 0.05)
    above, below, margins = critical_pairs(net, ball, 12, seed)

    def found() -> tuple[Interval, Interval, Tensor, Tensor]:
        bounder = bound(net, dtype)
        pixels, features = bounder.pixels(ball), bounder.features(ball)
        return (
            pixels,
            features,
            bounder.differences(ball, above, below),
            bounder.lower(ball, ClassMargins(net.head, 0)),
        )

    mine = found()
    monkeypatch.setattr(PoolPlanes, "_plays", lambda *_: False)
    monkeypatch.setattr(PoolPlanes, "_note_dispute", lambda *_: None)
    plain = found()
    little = 1e-5 if dtype is torch.float32 else 1e-10
    for better, other in zip(mine[:2], plain[:2], strict=True):
        assert (better.lower >= other.lower - little).all()
        assert (better.upper <= other.upper + little).all()
    assert float((mine[0].upper - plain[0].upper).min()) < -1e-6
    for better, other in zip(mine[2:], plain[2:], strict=True):
        assert (better >= other - little).all()
    assert (mine[2] <= margins + EVALUATION * (1 + margins.abs())).all()
    images = inside(net, ball, 0, 60, seed)
    with torch.no_grad():
        cams = net.head.cam(net.trunk(images), 0).flatten(1)
    assert (mine[0].lower <= cams + 1e-9).all()
    assert (cams <= mine[0].upper + 1e-9).all()


@both
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6), st.floats(0, 1))
def test_deviations_hold_the_whole_ball(dtype, pixels, radius) -> None:
    """The real ends of the ball and the pixel box, exactly."""
    centre = torch.tensor(pixels)[None, None]
    found = deviations([Ball(centre, radius)], dtype, "cpu")
    numbers = ex.exact(centre.double())
    reach = ex.exact(torch.full_like(centre.double(), radius))
    zero = ex.exact(torch.zeros_like(centre).double())
    one = ex.exact(torch.ones_like(centre).double())
    scale = max(numbers.scale, reach.scale, one.scale)
    down = np.minimum(reach.to(scale), (numbers - zero).to(scale))
    up = np.minimum(reach.to(scale), (one - numbers).to(scale))
    assert ex.at_most(found.lower[0], ex.Exact(-down, scale))
    assert ex.at_least(found.upper[0], ex.Exact(up, scale))
    if radius == 0:
        assert not found.lower.any()
        assert not found.upper.any()


def deep(folder: Path, activation: Build) -> Network:
    """Four convolutions with an activation behind each."""
    rng, model, value = np.random.default_rng(1), OnnxModel((2, 14, 14)), IMAGE
    for inputs in (2, 6, 6, 6):
        value = model.node(
            "Conv", value, float32(rng, 6, inputs, 3, 3, scale=0.3), float32(rng, 6, scale=0.1)
        )
        value = activation(model, value)
    return load(model.save(folder, model.head(value, float32(rng, 3, 6))))


@both
@pytest.mark.parametrize("case", ["silu", "gelu", "hard swish", "elu", "softplus", "sigmoid"])
def test_rows_for_inputs_of_curves_narrow_bounds(case: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Intervals alone are several times as wide behind four layers; and both hold."""
    net = deep(tmp_path, {**CURVES, "sigmoid": chain(("Sigmoid", {}))}[case])
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(0))
    ball = Ball(image, 0.02)
    crown, plain = bound(net, dtype), bound(net, dtype, relaxation=PatchMethod.CROWN_IBP)
    narrow, wide = crown.pixels(ball), plain.pixels(ball)
    assert ((narrow.upper - narrow.lower) < 0.5 * (wide.upper - wide.lower)).all()
    images = inside(net, ball, 0, 60, 1)
    with torch.no_grad():
        cams = net.head.cam(net.trunk(images), 0).flatten(1)
    assert (narrow.lower <= cams + 1e-12).all()
    assert (cams <= narrow.upper + 1e-12).all()
    # What the larger ball has shown is kept.
    close(crown.pixels(Ball(image, 0.01)), bound(net, dtype).pixels(Ball(image, 0.01)), 0.05)


def test_no_rows_where_lines_lie_together(tmp_path: Path) -> None:
    net = deep(tmp_path, CURVES["silu"])
    image, every = torch.rand(net.input_shape), 2 * net.pixels
    for radius, more in ((0.0, False), (1e-9, False), (0.02, True)):
        bounder = bound(net)
        bounder.pixels(Ball(image, radius))
        assert (sum(known.bounds.builder.count for known in bounder._known) > every) == more


def test_focus_holds_with_curves(tmp_path: Path) -> None:
    """Where CROWN is just short of a proof."""
    net = deep(tmp_path, CURVES["silu"])
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(3))
    above, below = net.cam(image, 0).argmax()[None], net.cam(image, 0).argmin()[None]
    radius = 0.01
    while float(bound(net).differences(Ball(image, radius), above, below)) > 0:
        radius *= 1.15
    ball = Ball(image, radius)
    images = inside(net, ball, 0, 60, 1)
    with torch.no_grad():
        cams = net.head.cam(net.trunk(images), 0).flatten(1)
    margin = float((cams[:, above] - cams[:, below]).amin())
    for method in (PatchMethod.ALPHA_CROWN, PatchMethod.FOCUS):
        bounder = bound(net, relaxation=method, rounds=2)
        assert float(bounder.sharpened(ball, above, below)) <= margin or margin > 0
        assert isinstance(bounder.unfold(ball, pairs(above, below)), NotUnfolded)


def test_the_engine_is_a_value() -> None:
    assert PatchEngine() == PatchEngine()
    assert replace(PatchEngine(), budget=1) != PatchEngine()


def assert_holds(bounder: PatchBounder, net: Network, image: Tensor, seed: int) -> None:
    """Bounds of pixels and of pairs hold sampled images."""
    for radius in (0.003, 0.05):
        ball = Ball(image, radius)
        images = inside(net, ball, 0, 30, seed)
        with torch.no_grad():
            features = net.trunk(images)
        cams = net.head.cam(features, 0).flatten(1)
        slack = EVALUATION * float((net.head.weight[0].abs()[:, None, None] * features.abs()).sum(1).max())
        found = bounder.pixels(ball)
        assert bool((cams >= found.lower - slack).all())
        assert bool((cams <= found.upper + slack).all())
        above = torch.arange(net.pixels)
        lower = bounder.differences(ball, above, above.flip(0))
        assert bool((cams[:, above] - cams[:, above.flip(0)] >= lower - 2 * slack).all())


@pytest.mark.parametrize("work", [0.0, 1e5, 1e30])
@pytest.mark.parametrize("seed", range(100, 106))
def test_rows_that_are_much_work_are_sound_in_float32_and_cut_short(
    seed: int, work: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_PRECISE", -1.0)
    net, image = generated(seed, tmp_path)
    bounder = bound(net, work=work)
    assert_holds(bounder, net, image, seed)
    assert all(known.fast is not None for known in bounder._known)
    if work == 1e30:
        assert bounder.shortfall(Ball(image, 0.05)) == ""


def test_work_that_is_not_done_is_told(tmp_path: Path) -> None:
    net = network(tmp_path, CASES["4 padded, relu behind"])
    image = torch.full(net.input_shape, 0.5)
    ball = Ball(image, 0.1)
    cut, full = bound(net, work=0.0), bound(net)
    assert cut.shortfall(ball) == ""  # nothing was asked yet
    cut.pixels(ball)
    full.pixels(ball)
    assert "CROWN-IBP" in cut.shortfall(ball)
    assert full.shortfall(ball) == ""
    options = VerifyOptions(k=None, eps=0.1, engine=PatchEngine(work=0.0), attack=None, exact=None)
    noise = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    certificate = verify(net, noise, options).certificate
    assert "CROWN-IBP" in certificate.note
    assert verify(net, noise, replace(options, engine=PatchEngine())).certificate.note == ""
