"""A trained network without its batch normalisations: what is exported."""

from __future__ import annotations

import copy

from torch import Tensor, fx, nn


def fold_batch_norms(network: nn.Module) -> fx.GraphModule:
    """The same function in evaluation mode without batch normalisation and dropout.

    With s = gamma / sqrt(variance + epsilon) and t = beta - s mean, a normalisation is x -> s x + t:

    Case 1: behind a convolution.    s (w * x + b) + t = (s w) * x + (s b + t)
    Case 2: before a dense layer.    W (s x + t) + b = (W s) x + (W t + b)

    Computed in float64 and rounded once. The other layer must have no other use: its result would change.

    Args:
        network: with layers in a row, branches, or both: whatever `torch.fx` can trace.

    Raises:
        TypeError: a normalisation stands elsewhere.
    """
    traced = fx.symbolic_trace(copy.deepcopy(network).eval())
    for node in list(traced.graph.nodes):
        match _layer(traced, node):
            case nn.BatchNorm2d() as norm:
                (source,) = node.all_input_nodes
                conv = _layer(traced, source)
                if not isinstance(conv, nn.Conv2d) or len(source.users) > 1:
                    found = _named(traced, source)
                    raise TypeError(f"batch normalisation behind {found}, expected its own Conv2d")
                _into_convolution(conv, norm)
                _drop(traced, node)
            case nn.BatchNorm1d() as norm:
                users = list(node.users)
                dense = _layer(traced, users[0]) if len(users) == 1 else None
                if not isinstance(dense, nn.Linear):
                    found = ", ".join(_named(traced, user) for user in users)
                    raise TypeError(f"batch normalisation before {found}, expected one Linear")
                _into_dense(norm, dense)
                _drop(traced, node)
            case nn.Dropout():
                _drop(traced, node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _layer(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The layer that a node calls; None for an operation without one."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _named(traced: fx.GraphModule, node: fx.Node) -> str:
    layer = _layer(traced, node)
    return node.name if layer is None else type(layer).__name__


def _drop(traced: fx.GraphModule, node: fx.Node) -> None:
    (source,) = node.all_input_nodes
    node.replace_all_uses_with(source)
    traced.graph.erase_node(node)


def _scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor s and offset t of a normalisation with running statistics, float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("expected a batch normalisation with running statistics")
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - scale * norm.running_mean.double()


def _into_convolution(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    scale, shift = _scale_and_shift(norm)
    bias = shift if conv.bias is None else scale * conv.bias.detach().double() + shift
    weight = conv.weight.detach().double() * scale[:, None, None, None]
    conv.weight, conv.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())


def _into_dense(norm: nn.BatchNorm1d, dense: nn.Linear) -> None:
    scale, shift = _scale_and_shift(norm)
    weight = dense.weight.detach().double()
    dense.weight = nn.Parameter((weight * scale).float())
    dense.bias = nn.Parameter((weight @ shift + dense.bias.detach().double()).float())
