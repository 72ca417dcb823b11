"""How deep a network is: what decides which bounds of it say anything."""

from __future__ import annotations

from corgi.network import layers
from corgi.network.convert import TorchGraph

LINEAR = (
    layers.Conv, layers.Affine, layers.Linear, layers.AveragePool, layers.Mean, layers.Sum, layers.Add,
    layers.Sub, layers.Concat, layers.Pad, layers.Slice, layers.Take, layers.Resample, layers.Channels,
    layers.Reshape, layers.Transpose, layers.Identity,
)  # fmt: skip
"""Layers that are affine in their inputs. Every other one counts, also one that is not known here."""

DEEP = 10
"""Non-linear layers from which on intervals of a small ball say next to nothing, and a-priori bounds of
rounding, which multiply all weights, say nothing at all."""


def depth(graph: TorchGraph) -> int:
    """Most non-linear layers on a way from the image to the output."""
    depths = {graph.input_name: 0}
    for step in graph.steps:
        before = max((depths[name] for name in step.inputs), default=0)
        depths[step.output] = before + (not isinstance(step.layer, LINEAR))
    return depths[graph.output_name]


def is_deep(graph: TorchGraph) -> bool:
    """Whether the graph has at least `DEEP` non-linear layers in a row."""
    return depth(graph) >= DEEP
