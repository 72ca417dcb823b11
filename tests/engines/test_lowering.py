"""The lowered trunk is the trunk, in plain layers only; what cannot be lowered is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.engines.lowering import PLAIN_LAYERS, explained_class, lower_trunk
from corgi.errors import EngineError
from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.network import Network, load
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network

Build = Callable[[OnnxModel, str], str]


def network(folder: Path, build: Build, filters: int = 4, opset: int = 17) -> Network:
    """The part under test behind a convolution whose values have both signs."""
    rng = np.random.default_rng(4)
    model = OnnxModel((2, 9, 8), opset)
    value = model.node("Conv", IMAGE, float32(rng, 4, 2, 1, 1), float32(rng, 4))
    value = build(model, value)
    return load(model.save(folder, model.head(value, float32(rng, 3, filters))))


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


def node(op: str, *operands: Any, **attributes: Any) -> Build:
    return lambda model, value: model.node(op, value, *operands, name="culprit", **attributes)


def chain(*steps: tuple[Any, ...]) -> Build:
    """(operator, operands..., attributes) one after the other."""
    return lambda model, value: model.chain([(s[0], s[1:-1], s[-1]) for s in steps], value)


RNG = np.random.default_rng(9)
C4 = float32(RNG, 4, 1, 1)
BN = [float32(RNG, 4), float32(RNG, 4), float32(RNG, 4), np.float32([0.5, 1, 2, 3])]
WEIGHT = float32(RNG, 4, 4, 3, 3)
POOL2 = {"kernel_shape": [2, 2], "strides": [2, 2]}
POOL3 = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 2, 1]}
RELU = ("Relu", {})

CASES: dict[str, Build] = {
    "1 grouped": node("Conv", float32(RNG, 4, 2, 3, 2), BN[0], group=2, pads=[1, 0, 0, 2]),
    "1 depthwise widening": chain(
        ("Conv", float32(RNG, 8, 1, 3, 3), {"group": 4}), ("Conv", float32(RNG, 4, 8, 1, 1), {})
    ),
    "1 dilated": node("Conv", WEIGHT, dilations=[2, 3], pads=[2, 3, 2, 3]),
    "1 dilated grouped asymmetric": node(
        "Conv", float32(RNG, 4, 2, 2, 3), group=2, dilations=[3, 2], pads=[3, 0, 1, 4], strides=[2, 1]
    ),
    "1 even kernel, same": node("Conv", float32(RNG, 4, 4, 2, 4), auto_pad="SAME_UPPER", strides=[2, 2]),
    "2 batch norm folded": node("BatchNormalization", *BN),
    "2 affine chain": chain(("BatchNormalization", *BN, {}), ("Mul", C4, {}), ("Add", C4, {}), RELU),
    "2 behind an activation": chain(RELU, ("Mul", C4, {}), ("Sub", np.float32(0.5), {})),
    "2 constant first": lambda m, v: m.node("Sub", C4[None], m.node("Relu", v)),
    "2 behind a pool": chain(("AveragePool", POOL2), ("Div", C4, {})),
    "2 behind a clip": lambda m, v: m.node("Mul", m.clip(v, -0.5, 0.5), C4),
    "2 behind a pad": lambda m, v: m.node("Add", m.pad(v, [1, 0, 2, 0]), C4),
    "2 behind an add": lambda m, v: m.node("Mul", m.node("Add", v, m.node("Tanh", v)), C4),
    "3 both limits": lambda m, v: m.clip(v, -0.25, 0.75),
    "3 relu6": lambda m, v: m.clip(v, 0.0, 6.0),
    "3 negative": lambda m, v: m.clip(v, -1.0, -0.5),
    "3 low": lambda m, v: m.clip(v, 0.3, None),
    "3 high": lambda m, v: m.clip(v, None, 0.0),
    "3 none": lambda m, v: m.clip(v, None, None),
    "3 float32 range": lambda m, v: m.clip(v, -3.4028234663852886e38, 0.5),
    "4 pool": node("MaxPool", **POOL2),
    "4 relu before": chain(RELU, ("MaxPool", POOL2)),
    "4 relu behind": chain(("MaxPool", POOL2), RELU),
    "4 relu on both sides": chain(RELU, ("MaxPool", POOL3), RELU),
    "4 padded, relu before": chain(RELU, ("MaxPool", POOL3)),
    "4 padded, relu behind": chain(("MaxPool", POOL3), RELU),
    "4 padded twice": chain(RELU, ("MaxPool", POOL3), ("MaxPool", {"kernel_shape": [3, 2]})),
    "4 pool, relu, pool": chain(("MaxPool", POOL3), RELU, ("MaxPool", POOL3)),
    "4 odd": node("MaxPool", kernel_shape=[3, 1]),
    "4 overlapping": chain(RELU, ("MaxPool", {"kernel_shape": [3, 3]})),
    "4 of one": chain(RELU, ("MaxPool", {"kernel_shape": [1, 1], "strides": [2, 2]})),
    "4 large": node("MaxPool", kernel_shape=[4, 5], strides=[3, 2]),
    "4 same padding": chain(RELU, ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"})),
    "4 of the image": lambda m, v: m.node(
        "Conv", m.node("MaxPool", IMAGE, **POOL2), float32(RNG, 4, 2, 1, 1)
    ),
    "5 average": node("AveragePool", kernel_shape=[3, 2], strides=[2, 1]),
    "5 average, counted padding": node(
        "AveragePool", kernel_shape=[3, 2], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "5 pad": lambda m, v: m.pad(v, [2, 0, 1, 3]),
    "5 pad of a relu, pool": lambda m, v: m.node("MaxPool", m.pad(m.node("Relu", v), [0, 0, 1, 1]), **POOL2),
    "5 pad then average": lambda m, v: m.node("AveragePool", m.pad(v, [1, 1, 1, 1]), **POOL2),
    "6 identity": chain(("Identity", {}), RELU, ("Identity", {}), ("Identity", {})),
    "6 dropout": lambda m, v: m.node("Tanh", m.dropout(v)),
    "activations": chain(("LeakyRelu", {"alpha": 0.3}), ("Sigmoid", {}), ("Tanh", {})),
    "residual": lambda m, v: m.node("Add", v, m.node("Relu", v)),
    "twice itself": lambda m, v: m.node("Add", v, v),
    "difference": lambda m, v: m.node("Sub", m.node("Tanh", v), v),
}


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


def test_relu_comes_behind_the_pool(tmp_path: Path) -> None:
    """Of a 2 x 2 window 3 comparisons and one relu are left, not 4 relus of inputs more."""
    plain = lowered(network(tmp_path, CASES["4 relu before"]))
    assert ops(plain).count("Relu") == 4
    assert ops(plain)[-1] == "Relu"
    assert not isinstance(plain.steps[1].layer, layers.Relu)


# Folding an Affine rewrites the value before it: every other reader of that value must see the old one.
ALIASES: dict[str, Build] = {
    "conv read by two": lambda m, v: m.node("Add", m.node("Mul", v, C4), v),
    "conv read by two, late": lambda m, v: m.node("Add", v, m.node("Mul", v, C4)),
    "identity before the affine": lambda m, v: m.node("Mul", m.node("Identity", v), C4),
    "identity read beside the affine": lambda m, v: m.node(
        "Add", m.node("Mul", m.node("Identity", v), C4), v
    ),
    "affine beside an identity": lambda m, v: m.node("Add", m.node("Mul", v, C4), m.node("Identity", v)),
    "two identities": lambda m, v: m.node(
        "Add", m.node("Mul", m.node("Identity", v), C4), m.node("Identity", v)
    ),
    "identity of an identity": lambda m, v: m.node(
        "Sub", m.node("Mul", m.node("Identity", m.node("Identity", v)), C4), v
    ),
    "two affines of one value": lambda m, v: m.node("Sub", m.node("Mul", v, C4), m.node("Add", v, C4)),
    "affine of an affine read twice": lambda m, v: (lambda a: m.node("Sub", m.node("Mul", a, C4), a))(
        m.node("Add", v, C4)
    ),
    "affine read, then scaled": lambda m, v: (
        lambda a: m.node("Add", a, m.node("Mul", m.node("Identity", a), C4))
    )(m.node("Mul", v, C4)),
    "relu moved behind pools, conv read too": lambda m, v: m.node(
        "Add",
        m.node("MaxPool", m.node("Relu", v), kernel_shape=[1, 1]),
        m.node("Mul", v, C4),
    ),
    "relu with two pools": lambda m, v: (
        lambda r: m.node("Sub", m.node("MaxPool", r, **POOL2), m.node("MaxPool", r, **POOL2))
    )(m.node("Relu", v)),
    "relu with a pool and another reader": lambda m, v: (
        lambda r: m.node("Sub", m.node("MaxPool", r, kernel_shape=[1, 1]), r)
    )(m.node("Relu", v)),
    "relu, identity, pool": lambda m, v: (
        lambda r: m.node("Sub", m.node("MaxPool", m.node("Identity", r), kernel_shape=[1, 1]), r)
    )(m.node("Relu", v)),
    "clip without limits before the affine": lambda m, v: m.node(
        "Add", m.node("Mul", m.clip(v, None, None), C4), v
    ),
    "dropout before the affine": lambda m, v: m.node("Add", m.node("Mul", m.dropout(v), C4), v),
    "pool of one beside the affine": lambda m, v: m.node(
        "Add", m.node("Mul", m.node("MaxPool", v, kernel_shape=[1, 1]), C4), v
    ),
    "pool read by a relu and another": lambda m, v: (
        lambda p: m.node("Sub", m.node("Relu", p), m.node("Mul", p, C4))
    )(m.node("MaxPool", v, **POOL2)),
    "affine of the image": lambda m, v: m.node(
        "Add", v, m.node("Conv", m.node("Mul", IMAGE, np.float32(2)), float32(RNG, 4, 2, 1, 1))
    ),
}


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


REFUSED: dict[str, tuple[Build, tuple[str, ...]]] = {
    "padded pool of a leaky relu": (
        lambda m, v: m.node("MaxPool", m.node("LeakyRelu", v), name="culprit", **POOL3),
        ("(MaxPool)", "padding without a Relu"),
    ),
    "padded pool of a convolution": (node("MaxPool", **POOL3), ("(MaxPool)", "padding without a Relu")),
    "padded pool, relu not the only reader": (
        lambda m, v: (lambda p: m.node("Add", m.node("Relu", p), p))(
            m.node("MaxPool", v, name="culprit", **POOL3)
        ),
        ("(MaxPool)", "padding without a Relu"),
    ),
    "padded pool of a relu and something": (
        lambda m, v: m.node(
            "MaxPool", m.node("Sub", m.node("Relu", v), np.float32(3)), name="culprit", **POOL3
        ),
        ("(MaxPool)",),
    ),
    "padding with ones": (
        lambda m, v: m.node("Pad", v, np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(1), name="culprit"),
        ("(Pad)", "padding with 1.0", "padding with 0"),
    ),
    "softmax": (node("Softmax", axis=3), ("(Softmax)",)),
    "product": (lambda m, v: m.node("Mul", v, m.node("Sigmoid", v), name="culprit"), ("(Mul)",)),
    "quotient": (
        lambda m, v: m.node("Div", v, m.node("Add", m.node("Sigmoid", v), np.float32(1)), name="culprit"),
        ("(Div)",),
    ),
    "mean": (node("ReduceMean", axes=[3]), ("(ReduceMean)",)),
    "linear": (node("MatMul", float32(RNG, 8, 8)), ("(MatMul)",)),
    "transpose": (node("Transpose", perm=[0, 1, 3, 2]), ("(Transpose)",)),
    "reshape": (node("Reshape", np.array([0, 4, 8, 9])), ("(Reshape)",)),
    "concat in height": (
        lambda m, v: m.node("Concat", v, v, axis=2, name="culprit"),
        ("(Concat)", "axis=2", "axis=1"),
    ),
    "broadcast add": (
        lambda m, v: m.node("Add", v, m.node("GlobalAveragePool", v, name="culprit")),
        ("(GlobalAveragePool)",),
    ),
    "broadcast channel": (
        lambda m, v: m.node("Add", v, m.node("Conv", v, float32(RNG, 1, 4, 1, 1)), name="culprit"),
        ("(Add)", "different shapes"),
    ),
    "constant map": (
        node("Mul", float32(RNG, 1, 9, 8)),
        ("(Mul)", "constants that vary over the map", "one constant a channel"),
    ),
    "constant row": (node("Add", float32(RNG, 8)), ("(Add)", "constants that vary over the map")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    build, parts = REFUSED[case]
    refused(network(tmp_path, build), *parts)


def test_one_channel_spread_over_many_is_refused(tmp_path: Path) -> None:
    def build(model: OnnxModel, value: str) -> str:
        value = model.node("Conv", value, float32(RNG, 1, 4, 1, 1))
        return model.node("Mul", value, C4, name="culprit")

    refused(network(tmp_path, build), "(Mul)", "constants that vary")


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
