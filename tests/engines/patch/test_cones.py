"""Cones against what a map pixel really depends on, by automatic differentiation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from corgi.engines.patch.cones import cone_masks, cone_sizes, map_reach, readers
from corgi.engines.patch.prepare import Maximum, prepare
from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.network import load
from tests.engines.trunks import MULTIPLIED, PATCH_CASES, RESAMPLED, between, network
from tests.onnx_models import random_cam_network


class Windows(torch.nn.Module):
    """In place of a Maximum: the sum of its windows, which depends on all elements, not on the largest."""

    def __init__(self, layer: Maximum) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        windows = self.layer.windows(x)
        return torch.where(windows == -torch.inf, 0, windows).sum(-1)


def dependent(graph: TorchGraph) -> TorchGraph:
    """The same reads everywhere: positive weights, and no activation that can be flat."""

    def replaced(layer: torch.nn.Module) -> torch.nn.Module:
        match layer:
            case layers.Conv():
                ones = torch.ones_like(layer.weight)
                return layers.Conv(
                    ones, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
                )
            case layers.Affine():
                return layers.Affine(torch.ones_like(layer.scale), layer.shift)
            case layers.Resample():
                return layers.Resample(*((m != 0).double() for m in (layer.rows, layer.columns)))
            case Maximum():
                return Windows(layer)
            case layers.Sub() | layers.Mul():
                return layers.Add()
            case layers.Sigmoid() | layers.Tanh() | layers.Curve() | layers.Power():
                return layers.Identity()
        return layer

    return graph.with_layers(replaced)


def reads(graph: TorchGraph, shape: tuple[int, ...], pixels: list[tuple[int, int]]) -> dict[str, Tensor]:
    """By value, where the map pixels depend on it: bool [H, W]."""
    values = dependent(graph).values(torch.ones(1, *shape, dtype=torch.float64, requires_grad=True))
    total = sum(values[graph.output_name][0, :, y, x].sum() for y, x in pixels)
    names = list(values)
    found = torch.autograd.grad(total, [values[n] for n in names], allow_unused=True)
    return {n: (g[0] != 0).any(0) for n, g in zip(names, found, strict=True) if g is not None}


def shapes(graph: TorchGraph, shape: tuple[int, ...]):
    values = graph.values(torch.zeros(1, *shape, dtype=torch.float64))
    return lambda name: tuple(values[name].shape[2:])


SPREAD = {**RESAMPLED, **MULTIPLIED}
KINDS = [*range(20), *list(SPREAD)[::3]]


def generated(seed: int | str, folder: Path):
    if isinstance(seed, str):
        net = network(folder, between(SPREAD[seed]))
        return net, prepare(net)
    net = load(random_cam_network(np.random.default_rng(seed), folder))
    return net, prepare(net)


@pytest.mark.parametrize("seed", KINDS)
def test_masks_hold_all_that_is_read(seed: int | str, tmp_path: Path) -> None:
    net, graph = generated(seed, tmp_path)
    height, width = net.head.map_shape
    rng = np.random.default_rng(len(str(seed)))
    for _ in range(2):
        pixels = [(int(rng.integers(height)), int(rng.integers(width))) for _ in range(2)]
        where = torch.zeros(1, height, width, dtype=torch.bool)
        for y, x in pixels:
            where[0, y, x] = True
        masks = cone_masks(graph, {graph.output_name: where}, shapes(graph, net.input_shape))
        exact = reads(graph, net.input_shape, pixels)
        assert exact.keys() == masks.keys()
        for name, mask in masks.items():
            assert mask.shape[1:] == exact[name].shape
            assert (mask[0] | ~exact[name]).all(), name
        # A mask says no more than a convolution of kernels without holes reads.
        if not any(max(getattr(s.layer, "dilation", (1, 1))) > 1 for s in graph.steps):
            assert all(torch.equal(masks[n][0], exact[n]) for n in masks)


@pytest.mark.parametrize("seed", KINDS)
def test_patches_fit_the_sizes_they_are_given_room_for(seed: int | str, tmp_path: Path) -> None:
    net, graph = generated(seed, tmp_path)
    height, width = net.head.map_shape
    sizes = cone_sizes(graph, graph.output_name, (1, 1), shapes(graph, net.input_shape))
    for y, x in ((0, 0), (height // 2, width // 2), (height - 1, width - 1)):
        for name, exact in reads(graph, net.input_shape, [(y, x)]).items():
            for axis in (0, 1):
                where = exact.any(1 - axis).nonzero()
                assert int(where.max() - where.min()) + 1 <= sizes[name][axis]


@pytest.mark.parametrize("seed", KINDS)
def test_far_pixels_share_no_image_pixel(seed: int | str, tmp_path: Path) -> None:
    net, graph = generated(seed, tmp_path)
    reach = map_reach(graph)
    height, width = net.head.map_shape
    whole = {(y, x): reads(graph, net.input_shape, [(y, x)]) for y in range(height) for x in range(width)}
    image = {at: found[graph.input_name] for at, found in whole.items() if graph.input_name in found}
    for (y, x), first in image.items():
        for (v, u), second in image.items():
            if abs(y - v) >= reach[0] or abs(x - u) >= reach[1]:
                assert not (first & second).any()


def test_reach_is_no_larger_than_it_has_to_be(tmp_path: Path) -> None:
    """One 3 x 3 convolution of stride 1: from three pixels on, two of them share nothing."""
    net = network(tmp_path, lambda m, v: m.node("Conv", v, np.ones((4, 4, 3, 3), np.float32)))
    assert map_reach(prepare(net)) == (3, 3)
    net = network(tmp_path, lambda m, v: m.node("MaxPool", v, kernel_shape=[2, 3], strides=[2, 1]))
    assert map_reach(prepare(net)) == (1, 3)


def test_nothing_is_far_where_branches_stride_differently(tmp_path: Path) -> None:
    net = network(tmp_path, PATCH_CASES["residual, other strides"])
    assert min(map_reach(prepare(net))) >= 2**31
    net = network(tmp_path, between(PATCH_CASES["residual, other kernels"]))
    assert max(map_reach(prepare(net))) < 20


@pytest.mark.parametrize("seed", range(12))
def test_readers_of_a_place_are_those_whose_cone_holds_it(seed: int | str, tmp_path) -> None:
    rng = np.random.default_rng(len(str(seed)))
    network = load(random_cam_network(rng, tmp_path))
    graph = prepare(network)
    with torch.no_grad():
        values = graph.values(torch.zeros(1, *network.input_shape, dtype=torch.float64))

    def shape(name: str) -> tuple[int, int]:
        height, width = values[name].shape[2:]
        return height, width

    name = rng.choice([step.output for step in graph.steps])
    marked = torch.zeros(1, *shape(name), dtype=torch.bool)
    marked[0, rng.integers(shape(name)[0]), rng.integers(shape(name)[1])] = True
    found = readers(graph, {name: marked}, shape)[graph.output_name]
    height, width = shape(graph.output_name)
    for y in range(height):
        for x in range(width):
            unit = torch.zeros(1, height, width, dtype=torch.bool)
            unit[0, y, x] = True
            cone = cone_masks(graph, {graph.output_name: unit}, shape)
            assert bool((cone[name] & marked).any() if name in cone else False) == bool(found[0, y, x])
