"""Operator norms: never below the truth, and those of one layer equal to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.engines.lipschitz.product import network_gains, operator_norm, row_constants
from corgi.engines.patch.gains import Gains
from corgi.engines.patch.prepare import Maximum, prepare
from corgi.network import layers
from corgi.network.network import load
from corgi.types import Ball, Norm
from tests.engines.lipschitz.sampled import gradients, images_of
from tests.onnx_models import random_cam_network


@given(
    seed=st.integers(0, 1000),
    groups=st.integers(1, 2),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_norms_of_a_convolution(seed, groups, kernel, stride, dilation) -> None:
    """Against the convolution written out as a matrix, on an image in which kernels lie wholly inside."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3 * groups, 2, *kernel, generator=generator, dtype=torch.float64)
    conv = layers.Conv(weight, weight.new_zeros(len(weight)), stride, (1, 2), dilation, groups)
    side = 16
    basis = torch.eye(2 * groups * side * side, dtype=torch.float64).reshape(-1, 2 * groups, side, side)
    matrix = conv(basis).flatten(1).T
    for norm, order in ((Norm.LINF, torch.inf), (Norm.L1, 1)):
        exact = float(torch.linalg.matrix_norm(matrix, order))
        assert exact <= operator_norm(conv, norm) <= exact * (1 + 1e-9)


@pytest.mark.parametrize("norm", list(Norm), ids=str)
@given(
    seed=st.integers(0, 500), kernel=st.integers(1, 3), stride=st.integers(1, 3), dilation=st.integers(1, 2)
)
def test_gain_of_a_maximum(norm: Norm, seed, kernel, stride, dilation) -> None:
    layer = Maximum((kernel, 2), (stride, 1), (dilation, 1))
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(1, 2, 7, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    graph_gain = operator_norm(layer, norm) if norm is not Norm.L2 else operator_norm(layer, Norm.L1) ** 0.5
    assert norm.sizes(layer(a) - layer(b)) <= graph_gain * norm.sizes(a - b) * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_gradients_obey_the_product(seed: int, tmp_path) -> None:
    rng = np.random.default_rng(seed)
    network = load(random_cam_network(rng, tmp_path, curved=seed > 5))
    graph = prepare(network)
    known = network_gains(graph, Gains(graph))
    weight = network.head.weight[0][None, :, None, None]
    sizes = {norm: norm.sizes(weight) for norm in Norm}
    everywhere = torch.tensor([float(np.prod(network.input_shape))])
    image = torch.from_numpy(rng.random(network.input_shape, dtype=np.float32))
    found = gradients(network, images_of(network, Ball(image, 0.5), 6), torch.arange(3)).flatten(0, 1)
    for norm in Norm:
        bound = row_constants(sizes, known, everywhere, norm)
        assert float(norm.dual.sizes(found).max()) <= float(bound) * (1 + 1e-9)


def test_of_unknown_layers_nothing_is_known() -> None:
    assert operator_norm(layers.Erf(), Norm.LINF) == torch.inf
