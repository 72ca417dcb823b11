"""A Lipschitz constant of the whole network: operator norms, multiplied layer by layer.

With |.|_p -> p norms of the layers and q dual to p, a row w on the feature map f obeys, for all images,

    |w . f(x + d) - w . f(x)|  <=  ||w||_q  ||f(x + d) - f(x)||_p  <=  ||w||_q  prod_layers |W|_p  ||d||_p.

Branches that meet add up. The norm of the ball need not be the one to multiply in: over n pixels
||d||_2 <= sqrt(n) ||d||_inf, and ||d||_2 <= ||d||_1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from corgi.engines.patch.gains import LIPSCHITZ, Gains
from corgi.engines.patch.prepare import Maximum
from corgi.engines.rigour import FOLDING, RAISED, gamma
from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.rules import spread_dilation
from corgi.types import Norm


def network_gains(graph: TorchGraph, gains: Gains) -> dict[Norm, float]:
    """Upper bounds of ||f(x + d) - f(x)||_p / ||d||_p for the graph's output f, by the norm p.

    Args:
        graph: prepared steps.
        gains: largest singular values of its layers.
    """
    found = {}
    for norm in Norm:
        values = {graph.input_name: 1.0}
        for step in graph.steps:
            inputs = [values[name] for name in step.inputs]
            match step.layer:
                case layers.Add() | layers.Sub():
                    values[step.output] = sum(inputs) * RAISED
                case layers.Concat():
                    values[step.output] = _joined(inputs, norm) * RAISED
                case _:
                    own = gains.of(step.output) if norm is Norm.L2 else operator_norm(step.layer, norm)
                    # 0 times an infinite gain is NaN: nothing is known of it.
                    values[step.output] = own * inputs[0] * RAISED
        found[norm] = values[graph.output_name]
    return found


def _joined(sizes: list[float], norm: Norm) -> float:
    """The norm of values side by side."""
    return float(torch.linalg.vector_norm(torch.tensor(sizes, dtype=torch.float64), norm.order))


def operator_norm(layer: nn.Module, norm: Norm) -> float:
    """Upper bound of ||d_out||_p / ||d_in||_p of a layer of one input, l_inf or l_1; inf if unknown."""
    match layer:
        case layers.Conv():
            kernel = spread_dilation(layer.weight, layer.dilation).to(torch.float64).abs()
            share = RAISED + gamma(kernel[0].numel() + len(kernel) + FOLDING, torch.float64)
            if norm is Norm.LINF:
                return float(kernel.sum((1, 2, 3)).max()) * share
            # With a stride, an input unit is read by every s-th entry of a kernel only.
            (sy, sx), columns = layer.stride, kernel.reshape(layer.groups, -1, *kernel.shape[1:])
            columns = columns.sum(1).flatten(0, 1)
            phases = [columns[:, y::sy, x::sx].sum((1, 2)) for y in range(sy) for x in range(sx)]
            return max(float(phase.max()) for phase in phases) * share
        case layers.Affine():
            return float(layer.scale.abs().max()) * RAISED
        case Maximum():
            if norm is Norm.LINF:
                return 1.0
            return float(layer.readers)
        case layers.Curve():
            return layer.steepest * RAISED
    return LIPSCHITZ.get(type(layer), math.inf)


def row_constants(sizes: dict[Norm, Tensor], known: dict[Norm, float], pixels: Tensor, norm: Norm) -> Tensor:
    """Lipschitz constants of rows on the feature map, changes of the image measured in a norm: float64 [R].

    Args:
        sizes: upper bounds of the rows' own norms, [R] each.
        known: `network_gains`.
        pixels: how many entries of the image each row can depend on, [R].
        norm: of the changes.
    """
    by_norm = {p: sizes[p.dual] * known[p] * RAISED for p in Norm}
    match norm:
        case Norm.LINF:
            return torch.fmin(by_norm[Norm.LINF], pixels.to(torch.float64).sqrt() * by_norm[Norm.L2] * RAISED)
        case Norm.L1:
            return torch.fmin(by_norm[Norm.L1], by_norm[Norm.L2])
    return by_norm[Norm.L2]
