"""Euclidean norms of layers and of deviations: never below the truth, and close to it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.gains import convolution_norm
from corgi.engines.patch.intervals import centres
from corgi.engines.patch.prepare import cast, prepare
from corgi.network import layers
from corgi.types import Interval
from tests.engines.patch.test_backward import bounds_of
from tests.engines.trunks import CASES, PATCH_CASES, network


def largest_singular_value(conv: layers.Conv, channels: int, side: int) -> float:
    """Of the convolution on images of one size, written out as a matrix."""
    basis = torch.eye(channels * side * side, dtype=torch.float64).reshape(-1, channels, side, side)
    return float(torch.linalg.matrix_norm(conv(basis).flatten(1), 2))


@given(
    seed=st.integers(0, 1000),
    out=st.integers(1, 5),
    groups=st.integers(1, 2),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_norm_of_a_convolution_is_an_upper_bound(seed, out, groups, kernel, stride, dilation) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out * groups, 2, *kernel, generator=generator, dtype=torch.float64)
    bias = torch.zeros(out * groups, dtype=torch.float64)
    conv = layers.Conv(weight, bias, stride, (1, 2), dilation, groups)
    assert convolution_norm(conv) >= largest_singular_value(conv, 2 * groups, 9)


def test_norm_of_a_convolution_is_close() -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    conv = layers.Conv(weight, torch.zeros(6, dtype=torch.float64), (1, 1), (1, 1))
    assert convolution_norm(conv) <= 1.2 * largest_singular_value(conv, 5, 14)


def test_norm_of_groups_is_that_of_the_largest() -> None:
    weight = torch.randn(24, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nothing = torch.zeros(24, dtype=torch.float64)
    whole = convolution_norm(layers.Conv(weight, nothing, (2, 2), (1, 1), groups=12))
    parts = zip(weight.chunk(12), nothing.chunk(12), strict=True)
    alone = max(convolution_norm(layers.Conv(part, zero, (2, 2), (1, 1))) for part, zero in parts)
    assert whole == pytest.approx(alone, rel=1e-6)


def deviations_inside(bounds: BallBounds, graph, images: Tensor, radius: float) -> None:
    """Deviations of samples lie in the intervals, and their norms below the norms."""
    norms = bounds.relaxation.norms
    assert norms is not None
    middle = centres(graph, images.double())
    for seed in range(4):
        signs = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        sampled = centres(
            graph, images.double() + radius * (signs.sign() if seed % 2 else signs.clamp(-1, 1))
        )
        for name, value in sampled.items():
            deviation = value.value - middle[name].value
            known = bounds.relaxation.intervals[name]
            slack = 1e-9 * float(middle[name].value.abs().max())
            assert bool((deviation >= known.lower - slack).all()), name
            assert bool((deviation <= known.upper + slack).all()), name
            length = deviation.square().sum((1, 2, 3)).sqrt()
            assert bool((length <= norms[name] + slack * deviation[0].numel()).all()), name


@pytest.mark.parametrize("work", [0.0, 2e4])
@pytest.mark.parametrize("case", [*list(CASES)[::4], *list(PATCH_CASES)[::4]])
def test_norms_hold_on_every_layer(case: str, work: float, tmp_path) -> None:
    """With next to no work allowed norms join, rows end early or are left out; nothing becomes wrong."""
    net = network(tmp_path, {**CASES, **PATCH_CASES}[case])
    graph = prepare(net)
    images = torch.rand(2, *net.input_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    where = torch.ones(2, *net.head.map_shape, dtype=torch.bool)
    for radius in (0.01, 0.2):
        bounds = bounds_of(graph, images, radius, torch.float64, work=work)
        bounds.state.join_norms()
        bounds.require(graph.output_name, where)
        deviations_inside(bounds, graph, images, radius)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", [case for case in list(CASES)[1::5] if case != "activations"])
def test_whole_layers_from_both_sides(case: str, dtype: torch.dtype, tmp_path, monkeypatch) -> None:
    """Layers bounded everywhere hold samples, and are no wider than by intervals: networks of maxima only."""
    monkeypatch.setattr("corgi.engines.patch.windows._MANY", 0.0)
    net = network(tmp_path, CASES[case])
    graph = prepare(net)
    images = torch.rand(2, *net.input_shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ends = torch.full(images.shape, 0.05).to(dtype)
    box, middle = Interval(-ends, ends), centres(graph, images)
    kept = cast(graph, dtype, "cpu")
    bounds = BallBounds.over(kept, middle, box, refine=True, budget=2**28, thorough=True)
    plain = BallBounds.over(kept, middle, box, refine=False, budget=2**28)
    bounds.require(graph.output_name, torch.ones(2, *net.head.map_shape, dtype=torch.bool))
    bounds.state.join_norms()
    deviations_inside(bounds, graph, images, 0.05)
    for name, known in bounds.relaxation.intervals.items():
        assert bool((known.upper <= plain.relaxation.intervals[name].upper).all())


@pytest.mark.parametrize("scale", [2.0**-90, 1e-22, 1e-10, 1e10, 3e18, 1e25, 1e37])
def test_norms_of_tiny_and_huge_weights_are_scaled(scale: float) -> None:
    """Squares in float32 would overflow or vanish; a norm that is not known is infinite, never 0."""
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ones = torch.ones(16, 32, 1, 1, dtype=torch.float64)
    for kernel, padding in ((weight, (1, 1)), (ones, (0, 0))):
        nothing = kernel.new_zeros(len(kernel))
        plain = convolution_norm(layers.Conv(kernel, nothing, padding=padding))
        scaled = convolution_norm(layers.Conv(kernel * scale, nothing, padding=padding))
        assert scaled == pytest.approx(plain * scale, rel=1e-4)
    assert convolution_norm(layers.Conv(ones * scale, ones.new_zeros(16))) >= scale * (16 * 32) ** 0.5
    assert convolution_norm(layers.Conv(ones * torch.inf, ones.new_zeros(16))) == torch.inf
    assert convolution_norm(layers.Conv(ones * torch.nan, ones.new_zeros(16))) == torch.inf
    assert convolution_norm(layers.Conv(ones * 0, ones.new_zeros(16))) == 0
