"""The prepared trunk is the trunk, in the layers the patch engine bounds; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from corgi.engines.lowering import lower_trunk
from corgi.engines.patch.prepare import LAYERS, Maximum, cast, prepare
from corgi.errors import EngineError
from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.network import Network, load
from tests.engines.trunks import (
    ALIASES,
    C4,
    CASES,
    MULTIPLIED,
    PATCH_CASES,
    POOL2,
    POOL3,
    REFUSED,
    RELU,
    RESAMPLED,
    Build,
    between,
    chain,
    network,
    node,
)
from tests.onnx_models import OnnxModel, float32, random_cam_network

EVERY_CASE = {**CASES, **ALIASES, **PATCH_CASES, **RESAMPLED, **MULTIPLIED}


def prepared(network: Network) -> TorchGraph:
    """The prepared trunk, held equal to the trunk inside and far outside the pixel box."""
    graph = prepare(network)
    assert all(isinstance(step.layer, LAYERS) for step in graph.steps)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, *network.input_shape, generator=generator, dtype=torch.float64)
    for images in (x, 6 * x - 3, torch.zeros_like(x), -torch.ones_like(x)):
        expected = network.trunk(images)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(graph(images), expected, rtol=0, atol=1e-12 * scale)
    return graph


@pytest.mark.parametrize("case", EVERY_CASE)
def test_prepared_equals_trunk(case: str, tmp_path: Path) -> None:
    prepared(network(tmp_path, EVERY_CASE[case]))
    prepared(network(tmp_path, between(EVERY_CASE[case])))


@pytest.mark.parametrize("seed", range(60))
def test_generated_networks(seed: int, tmp_path: Path) -> None:
    prepared(load(random_cam_network(np.random.default_rng(seed), tmp_path)))


def test_paper_model(paper_model: Network) -> None:
    prepared(paper_model)


@pytest.mark.parametrize(
    ("case", "zeros"),
    [
        ("4 pool", [False]),
        ("4 relu before", [True]),
        ("4 relu behind", [True]),
        ("4 relu on both sides", [True]),
        ("pool, padding", [False]),
        ("pool, ceil_mode, relu around", [True]),
        ("4 pool, relu, pool", [True, True]),
        ("pool read by a relu and another", [False, True]),
    ],
)
def test_a_relu_around_a_pool_is_merged(case: str, zeros: list[bool], tmp_path: Path) -> None:
    """One joint Maximum, where nobody else reads what is in between."""
    graph = prepared(network(tmp_path, EVERY_CASE[case]))
    assert [s.layer.zero for s in graph.steps if isinstance(s.layer, Maximum)] == zeros


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        ("5 average", [layers.Conv, layers.Conv]),
        ("5 average, counted padding", [layers.Conv, layers.Conv]),
        ("average, padding not counted", [layers.Conv, layers.Conv, layers.Affine]),
        ("2 batch norm folded", [layers.Conv]),
        ("1 dilated grouped asymmetric", [layers.Conv, layers.Conv]),
        ("constant map", [layers.Conv, layers.Affine]),
    ],
)
def test_no_more_layers_than_needed(case: str, kinds: list[type], tmp_path: Path) -> None:
    graph = prepared(network(tmp_path, EVERY_CASE[case]))
    assert [type(step.layer) for step in graph.steps] == kinds


def test_groups_and_dilation_are_kept(tmp_path: Path) -> None:
    conv = prepared(network(tmp_path, PATCH_CASES["grouped dilated"])).steps[-1].layer
    assert isinstance(conv, layers.Conv)
    assert conv.groups == 2


def test_preparing_leaves_the_trunk_alone(tmp_path: Path) -> None:
    net = network(tmp_path, CASES["2 affine chain"])
    before = {name: value.clone() for name, value in net.trunk.named_buffers()}
    prepare(net)
    assert all(torch.equal(before[name], value) for name, value in net.trunk.named_buffers())


def tensors(graph: TorchGraph) -> list[Tensor]:
    """Every tensor a layer holds, buffer or not."""
    return [
        v
        for step in graph.steps
        for v in (*vars(step.layer).values(), *step.layer.buffers())
        if isinstance(v, Tensor)
    ]


@pytest.mark.parametrize(
    "case",
    ["constant map", "average, padding not counted", "1 dilated grouped asymmetric", "resize, linear"],
)
def test_cast_is_the_same_function(case: str, tmp_path: Path) -> None:
    graph = prepared(network(tmp_path, EVERY_CASE[case]))
    narrow = cast(graph, torch.float32, "cpu")
    assert all(v.dtype is torch.float64 for v in tensors(graph))
    assert all(v.dtype is torch.float32 for v in tensors(narrow))
    x = torch.rand(2, 2, 9, 8)
    torch.testing.assert_close(narrow(x), graph(x.double()).float(), rtol=1e-4, atol=1e-5)


def refused(net: Network, *parts: str) -> None:
    with pytest.raises(EngineError) as caught:
        prepare(net)
    for part in (str(net.path), "node 'culprit'", *parts):
        assert part in str(caught.value)


NOW_BOUNDED = ("padded pool", "constant", "mean", "broadcast", "product", "square", "quotient")


@pytest.mark.parametrize("case", [c for c in REFUSED if not c.startswith(NOW_BOUNDED)])
def test_refusals(case: str, tmp_path: Path) -> None:
    build, parts = REFUSED[case]
    refused(network(tmp_path, build), *parts)


@pytest.mark.parametrize("case", [c for c in REFUSED if c.startswith(NOW_BOUNDED)])
def test_what_lowering_refuses_is_bounded_here(case: str, tmp_path: Path) -> None:
    net = network(tmp_path, REFUSED[case][0])
    with pytest.raises(EngineError):
        lower_trunk(net)
    prepared(net)


ONE = np.random.default_rng(3)
WIDENING: dict[str, Build] = {
    "one channel to many": lambda m, v: m.node(
        "Mul", m.node("Conv", v, float32(ONE, 1, 4, 1, 1)), C4, name="culprit"
    ),
    "one value to a map": lambda m, v: m.node(
        "Mul", m.node("Conv", v, float32(ONE, 4, 4, 9, 8)), float32(ONE, 4, 5, 6), name="culprit"
    ),
    "one row to a map": lambda m, v: m.node(
        "Add", m.node("MaxPool", v, kernel_shape=[9, 1]), float32(ONE, 1, 9, 1), name="culprit"
    ),
}


@pytest.mark.parametrize("case", WIDENING)
def test_a_constant_that_widens_its_operand_is_refused(case: str, tmp_path: Path) -> None:
    """A patch on the output is no patch on the input: once, such bounds were wrong."""
    refused(network(tmp_path, WIDENING[case]), "constants that enlarge")


@pytest.mark.parametrize("case", ["pool, dilations", "pool, padding", "pool, overlap", "pool, ceil_mode"])
def test_windows_are_what_the_maximum_is_taken_of(case: str, tmp_path: Path) -> None:
    """`elements`, `offsets`, `reach` and `pads` describe one geometry: element by element, by hand."""
    net = network(tmp_path, PATCH_CASES[case])
    step = prepare(net).steps[-1]
    layer = step.layer
    assert isinstance(layer, Maximum)
    value = torch.rand(1, 4, 9, 8, dtype=torch.float64) - 0.5
    windows = layer.windows(value)
    assert torch.equal(windows.amax(-1), layer(value))
    assert windows.shape[-1] == layer.elements == len(layer.offsets)
    for y in range(windows.shape[2]):
        for x in range(windows.shape[3]):
            for e, (down, right) in enumerate(layer.offsets):
                at_y, at_x = (
                    y * layer.stride[0] - layer.pads[0] + down,
                    x * layer.stride[1] - layer.pads[1] + right,
                )
                inside = 0 <= at_y < 9 and 0 <= at_x < 8
                expected = value[0, :, at_y, at_x] if inside else torch.full((4,), -torch.inf)
                assert torch.equal(windows[0, :, y, x, e], expected.to(torch.float64))
    assert torch.isfinite(windows.amax(-1)).all(), "no window lies in the padding alone"


def test_maximum_that_tiles_and_that_overlaps() -> None:
    assert Maximum((2, 2), (2, 2), zero=False).tiles
    assert not Maximum((2, 2), (2, 2), pads=(0, 0, 1, 0), zero=False).tiles
    assert not Maximum((2, 2), (2, 2), (2, 1), zero=False).tiles
    assert Maximum((2, 1), (2, 1), (2, 1), zero=False).overlaps
    assert not Maximum((2, 1), (3, 1), (2, 1), zero=False).overlaps
    assert Maximum().tiles
    assert not Maximum().overlaps


def test_no_pool_behind_a_relu_that_others_read(tmp_path: Path) -> None:
    """The relu must stay where it is, and its pool is of what it returns."""

    def build(model: OnnxModel, value: str) -> str:
        relu = model.node("Relu", value)
        pooled = model.node("MaxPool", relu, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        return model.node("Sub", pooled, relu)

    graph = prepared(network(tmp_path, build))
    maxima = [s.layer for s in graph.steps if isinstance(s.layer, Maximum)]
    assert [(m.elements, m.zero) for m in maxima] == [(1, True), (9, False)]


def test_a_pool_of_the_feature_map_keeps_no_zero(tmp_path: Path) -> None:
    """Where the pool itself is the feature map, no Relu behind it counts."""
    graph = prepared(network(tmp_path, chain(("MaxPool", POOL3))))
    assert not graph.steps[-1].layer.zero
    graph = prepared(network(tmp_path, chain(RELU, ("MaxPool", POOL2))))
    assert graph.steps[-1].layer.zero
    graph = prepared(network(tmp_path, node("Relu")))
    assert graph.steps[-1].layer.elements == 1
