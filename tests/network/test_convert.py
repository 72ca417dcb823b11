from __future__ import annotations

import weakref

import torch
from torch import Tensor, nn

from corgi.network.convert import Step, TorchGraph

made: list[weakref.ref[Tensor]] = []
alive: list[int] = []


class Watched(nn.Module):
    """Adds its operands up and one, and counts the results of such layers that are still there."""

    def forward(self, *operands: Tensor) -> Tensor:
        alive.append(sum(one() is not None for one in made))
        total = torch.stack(operands).sum(0) + 1
        made.append(weakref.ref(total))
        return total


def graph(*steps: tuple[str, ...]) -> TorchGraph:
    """Each step: what it writes, then what it reads."""
    return TorchGraph(tuple(Step(out, "Add", Watched(), tuple(read), out) for out, *read in steps), "x", "y")


def test_a_forward_pass_lets_values_go() -> None:
    network = graph(
        ("a", "x"), ("b", "a"), ("unread", "b"), ("c", "b", "b"), ("d", "c", "a"), ("y", "d"), ("late", "y")
    )
    made.clear()
    alive.clear()
    x = torch.rand(2, 3)
    found = network(x)
    # Before each step: a; a and b; the same; a and c; d; y.
    assert alive == [0, 1, 2, 2, 2, 1, 1]
    assert torch.equal(found, network.values(x)["y"])
    assert torch.equal(TorchGraph((), "x", "x")(x), x)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(x).sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 3.0))
