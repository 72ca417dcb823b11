"""Jacobian rows over a ball: every sampled gradient lies in them, entry by entry and by its norm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.engines.forms import pairs
from corgi.engines.lipschitz.combine import combined_norms
from corgi.engines.lipschitz.engine import LipschitzBounder, LipschitzEngine
from corgi.engines.lipschitz.jacobian import JacobianPass, Rows, interval_norms
from corgi.network.network import Network, load
from corgi.terms import LipschitzMethod
from corgi.types import Ball, Norm
from tests.engines.lipschitz.sampled import gradients, images_of
from tests.engines.trunks import CASES, PATCH_CASES, between, network
from tests.onnx_models import random_cam_network

EVERY_CASE = {name: CASES[name] for name in ("activations", "residual", "twice itself", "difference")}
EVERY_CASE |= PATCH_CASES
SAMPLED = 1 + 1e-10
"""What automatic differentiation in float64 may be off by."""


def bound(net: Network, method: LipschitzMethod, dtype: torch.dtype = torch.float64) -> LipschitzBounder:
    return LipschitzEngine(method).bind(net, 0, dtype)


def assert_holds(net: Network, ball: Ball, dtype: torch.dtype, seed: int) -> None:
    """Intervals hold the entries, every method the norms of sampled gradients; rows are the tightest."""
    generator = torch.Generator().manual_seed(seed)
    above, below = (torch.randint(net.pixels, (6,), generator=generator) for _ in range(2))
    images = images_of(net, ball, 9, seed)
    found = gradients(net, images, above, below)
    size = float(found.abs().max()) + 1e-30
    constants = []
    for method in LipschitzMethod:
        bounder = bound(net, method, dtype)
        known = bounder._required(ball, bounder._where_all())
        rows = bounder._layout(pairs(above, below)).patches(bounder._dtype)
        if method is not LipschitzMethod.NORMS:
            passed = JacobianPass(known).run({known.graph.output_name: Rows.around(rows)})
            assert passed is not None
            span = passed.dense(known.relaxation.shape(known.graph.input_name))
            assert (span.lower.double() <= found + 1e-10 * size).all()
            assert (found <= span.upper.double() + 1e-10 * size).all()
        constants.append(bounder.constants(ball, rows))
        sampled = torch.stack([ball.norm.dual.sizes(of_image) for of_image in found]).amax(0)
        assert (sampled <= constants[-1] * SAMPLED + 1e-12 * size).all(), method
    # Nested windows can be a little worse off forward than backward.
    assert (constants[2] <= 1.05 * constants[1] + 1e-9 * size).all()


@pytest.mark.parametrize("case", EVERY_CASE, ids=str)
def test_rows_hold_every_layer(case: str, tmp_path: Path) -> None:
    net = network(tmp_path, between(EVERY_CASE[case]))
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(0))
    number = list(EVERY_CASE).index(case)
    assert_holds(net, Ball(image, (0.05, 0.01)[number % 2], list(Norm)[number % 3]), torch.float64, number)


@pytest.mark.parametrize("seed", range(300, 312))
def test_rows_hold_generated_networks(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    net = load(random_cam_network(rng, tmp_path, curved=seed % 4 == 0))
    image = torch.from_numpy(rng.random(net.input_shape, dtype=np.float32))
    ball = Ball(image, (0.003, 0.05, 0.3)[seed % 3], list(Norm)[seed // 3 % 3])
    assert_holds(net, ball, (torch.float64, torch.float32)[seed % 2], seed)


def test_where_nothing_is_undecided_rows_are_the_gradient(tmp_path: Path) -> None:
    net = network(tmp_path, between(PATCH_CASES["pool, overlap, relu before"]))
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(0))
    above, below = torch.tensor([3, 7]), torch.tensor([20, 8])
    found = gradients(net, image.double()[None], above, below)[0]
    for norm in Norm:
        for method in list(LipschitzMethod)[1:]:
            bounder, ball = bound(net, method), Ball(image, 1e-12, norm)
            constants = bounder.constants(ball, bounder._layout(pairs(above, below)).patches(bounder._dtype))
            torch.testing.assert_close(constants, norm.dual.sizes(found), rtol=1e-9, atol=0)


def test_coefficients_that_are_0_stay_exactly_0(tmp_path: Path) -> None:
    """Beyond the cones of two pixels nothing is met, however far apart they are."""
    net = network(tmp_path, between(PATCH_CASES["depthwise strided"]))
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(1))
    bounder, ball = bound(net, LipschitzMethod.INTERVALS), Ball(image, 0.05)
    known = bounder._required(ball, bounder._where_all())
    above, below = torch.tensor([0]), torch.tensor([net.pixels - 1])
    rows = bounder._layout(pairs(above, below)).patches(bounder._dtype)
    passed = JacobianPass(known).run({known.graph.output_name: Rows.around(rows)})
    assert passed is not None
    span = passed.dense(known.relaxation.shape(known.graph.input_name))
    nothing = (span.lower == 0) & (span.upper == 0)
    alone = [
        JacobianPass(known).run({known.graph.output_name: Rows.around(layout.patches(bounder._dtype))})
        for layout in map(bounder._pixel_layout, (above, below))
    ]
    reached = [rows.dense(known.relaxation.shape(known.graph.input_name)) for rows in alone if rows]
    assert torch.equal(~nothing, (reached[0].upper != 0) | (reached[1].upper != 0))
    assert nothing.any()


def test_what_does_not_fit_the_budget_is_bounded_by_intervals(tmp_path: Path) -> None:
    net = network(tmp_path, between(PATCH_CASES["pool, overlap"]))
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(2))
    bounder, ball = bound(net, LipschitzMethod.ROWS), Ball(image, 0.1)
    known = bounder._required(ball, bounder._where_all())
    rows = bounder._layout(pairs(torch.tensor([1, 2, 3]), torch.tensor([9, 12, 17]))).patches(bounder._dtype)
    by_intervals = interval_norms(known, known.graph.output_name, rows, Norm.LINF)
    fitting = combined_norms(known, known.graph.output_name, rows, Norm.LINF)
    known.budget = 1000
    assert torch.equal(combined_norms(known, known.graph.output_name, rows, Norm.LINF), by_intervals)
    assert (fitting < by_intervals).all()
