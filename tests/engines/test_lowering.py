"""The lowered trunk is the trunk, in plain layers only; what cannot be lowered is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.engines.lowering import PLAIN_LAYERS, explained_class, lower_trunk
from corgi.engines.patch.prepare import prepare
from corgi.engines.rigour import FOLDING
from corgi.errors import EngineError
from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.network import Network, load
from tests.engines.trunks import (
    ALIASES,
    BN,
    C4,
    CASES,
    POOL2,
    REFUSED,
    RELU,
    RNG,
    chain,
    network,
    node,
)
from tests.onnx_models import OnnxModel, float32, random_cam_network


def lowered(network: Network) -> TorchGraph:
    """The lowered trunk, held equal to the trunk inside and far outside the pixel box."""
    plain = lower_trunk(network)
    for step in plain.steps:
        assert isinstance(step.layer, PLAIN_LAYERS)
        if isinstance(step.layer, layers.Conv):
            assert (step.layer.dilation, step.layer.groups) == ((1, 1), 1)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, *network.input_shape, generator=generator, dtype=torch.float64)
    for images in (x, 6 * x - 3, torch.zeros_like(x), -torch.ones_like(x)):
        expected = network.trunk(images)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(plain(images), expected, rtol=0, atol=1e-12 * scale)
    return plain


def ops(plain: TorchGraph) -> list[str]:
    return [type(step.layer).__name__ for step in plain.steps]


@pytest.mark.parametrize("case", CASES)
def test_lowered_equals_trunk(case: str, tmp_path: Path) -> None:
    lowered(network(tmp_path, CASES[case]))


def test_concat_along_channels(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        other = model.node("Conv", value, float32(RNG, 3, 4, 1, 1))
        value = model.node("Concat", value, other, value, axis=1)
        return model.node("MaxPool", model.node("Mul", value, float32(RNG, 11, 1, 1)), **POOL2)

    lowered(network(tmp_path, build, filters=11))


def test_batch_norm_vanishes_into_the_convolution(tmp_path: Path) -> None:
    plain = lowered(network(tmp_path, CASES["2 affine chain"]))
    assert len(plain.steps) <= 4
    assert ops(plain)[0] == "Conv"


def test_weights_are_not_folded_more_often_than_is_accounted_for(tmp_path: Path) -> None:
    """Each fold rounds the weights again; a long chain of constants is several convolutions."""
    norm = ("BatchNormalization", *BN, {})
    build = chain(norm, ("Mul", np.float32(3), {}), ("Div", np.float32(3), {}), norm, norm)
    net = network(
        tmp_path, lambda model, value: build(model, model.node("Conv", value, float32(RNG, 4, 4, 3, 3)))
    )
    for plain in (lowered(net), prepare(net)):
        convolutions = [s.layer for s in plain.steps if isinstance(s.layer, layers.Conv)]
        assert max(c.roundings for c in convolutions) <= FOLDING - 2
        assert len(plain.steps) > 2


def test_relu_comes_behind_the_pool(tmp_path: Path) -> None:
    """Of a 2 x 2 window 3 comparisons and one relu are left, not 4 relus of inputs more."""
    plain = lowered(network(tmp_path, CASES["4 relu before"]))
    assert ops(plain).count("Relu") == 4
    assert ops(plain)[-1] == "Relu"
    assert not isinstance(plain.steps[1].layer, layers.Relu)


@pytest.mark.parametrize("case", ALIASES)
def test_folding_leaves_other_readers_alone(case: str, tmp_path: Path) -> None:
    lowered(network(tmp_path, ALIASES[case]))


def test_lowering_leaves_the_trunk_alone(tmp_path: Path) -> None:
    net = network(tmp_path, CASES["2 affine chain"])
    before = {name: value.clone() for name, value in net.trunk.named_buffers()}
    lower_trunk(net)
    assert all(torch.equal(before[name], value) for name, value in net.trunk.named_buffers())


@pytest.mark.parametrize("seed", range(60))
def test_generated_networks(seed: int, tmp_path: Path) -> None:
    net = load(random_cam_network(np.random.default_rng(seed), tmp_path))
    lowered(net)
    assert min(net.head.map_shape) >= 3
    assert 2 <= net.head.classes <= 4


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    data=st.data(),
)
def test_padded_pools(
    tmp_path_factory: pytest.TempPathFactory,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    data: st.DataObject,
) -> None:
    pads = [data.draw(st.integers(0, k - 1)) for k in kernel * 2]
    before = data.draw(st.booleans())
    pool = ("MaxPool", {"kernel_shape": list(kernel), "strides": list(stride), "pads": pads})
    build = chain(RELU, pool) if before else chain(pool, RELU)
    lowered(network(tmp_path_factory.mktemp("pool"), build))


def test_explained_class_is_the_cam(tmp_path: Path) -> None:
    net = network(tmp_path, node("Relu"))
    image = torch.rand(*net.input_shape, dtype=torch.float64)
    plain = lower_trunk(net)
    for class_id in range(3):
        cam = explained_class(net, class_id)(plain(image[None]))[0, 0]
        torch.testing.assert_close(cam, net.cam(image, class_id), rtol=1e-12, atol=1e-12)


def refused(net: Network, *parts: str) -> None:
    with pytest.raises(EngineError) as caught:
        lower_trunk(net)
    for part in (str(net.path), "node 'culprit'", *parts):
        assert part in str(caught.value)
    assert caught.value.hint


def test_max_pool_with_ceil_mode_is_refused(tmp_path: Path) -> None:
    net = network(tmp_path, node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1))
    refused(net, "(MaxPool)", "ceil_mode=1", "ceil_mode=0")


def test_average_pool_with_ceil_mode_is_refused(tmp_path: Path) -> None:
    net = network(tmp_path, node("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1))
    refused(net, "(AveragePool)", "ceil_mode=1", "ceil_mode=0")


def test_average_pool_that_does_not_count_its_padding_is_refused(tmp_path: Path) -> None:
    net = network(tmp_path, node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    refused(net, "(AveragePool)", "count_include_pad=0", "count_include_pad=1")


def test_max_pool_with_dilations_is_refused(tmp_path: Path) -> None:
    net = network(tmp_path, node("MaxPool", kernel_shape=[2, 2], dilations=[1, 2]))
    refused(net, "(MaxPool)", "dilations=[1, 2]", "dilations=[1, 1]")


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    build, parts = REFUSED[case]
    refused(network(tmp_path, build), *parts)


def test_one_channel_spread_over_many_is_refused(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        value = model.node("Conv", value, float32(RNG, 1, 4, 1, 1))
        return model.node("Mul", value, C4, name="culprit")

    refused(network(tmp_path, build), "(Mul)", "constants that enlarge [1, 1, 9, 8] to [1, 4, 9, 8]")


def test_an_unknown_layer_is_refused(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    net = network(tmp_path, node("Relu"))
    steps = (*net.trunk.steps[:-1], dataclasses.replace(net.trunk.steps[-1], layer=Odd()))
    trunk = TorchGraph(steps, net.trunk.input_name, net.trunk.output_name)
    refused(dataclasses.replace(net, trunk=trunk), "this operator inside the trunk")


def test_paper_model(paper_model: Network) -> None:
    lowered(paper_model)
