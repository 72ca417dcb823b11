"""How deep a network is: every non-linear layer counts, along the longest way."""

from __future__ import annotations

import pytest
import torch

from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.network.depth import DEEP, depth, is_deep

NON_LINEAR = [
    layers.Relu(),
    layers.Clip(0.0, 6.0),
    layers.LeakyRelu(0.1),
    layers.HardSigmoid(0.2, 0.5),
    layers.MaxPool((2, 2), (2, 2), (0, 0, 0, 0), False, (1, 1)),
    layers.Silu(),
    layers.Tanh(),
    layers.Mul(),
    torch.nn.PReLU(),  # of no type corgi knows
]


def chain(*made: torch.nn.Module) -> TorchGraph:
    steps = tuple(Step(f"n{i}", "op", layer, (f"v{i}",), f"v{i + 1}") for i, layer in enumerate(made))
    return TorchGraph(steps, "v0", f"v{len(made)}")


@pytest.mark.parametrize("layer", NON_LINEAR, ids=lambda layer: type(layer).__name__)
def test_a_layer_that_is_not_linear_counts(layer: torch.nn.Module) -> None:
    assert depth(chain(layers.Identity(), layer, layers.Pad((0, 0, 0, 0), (0, 0, 0, 0), 0.0), layer)) == 2


def test_a_network_of_clips_or_pools_is_deep() -> None:
    for layer in NON_LINEAR:
        assert is_deep(chain(*[layer] * DEEP))
        assert not is_deep(chain(*[layer] * (DEEP - 1)))


def test_branches_do_not_add_up() -> None:
    steps = (
        Step("a", "op", layers.Relu(), ("x",), "a"),
        Step("b", "op", layers.Relu(), ("x",), "b"),
        Step("c", "op", layers.Relu(), ("b",), "c"),
        Step("d", "op", layers.Add(), ("a", "c"), "d"),
    )
    assert depth(TorchGraph(steps, "x", "d")) == 2
