"""A network as a specification sees it: numbered inputs, numbered outputs, no head."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from corgi.ambient import settled
from corgi.errors import GateError, ModelError, SpecError, naming
from corgi.network import runtime
from corgi.network.convert import TorchGraph, convert
from corgi.network.gate import TOLERANCE
from corgi.network.graph import Graph, read_graph
from corgi.network.passes import simplified
from corgi.network.source import read_model
from corgi.network.spatial import as_convolutions
from corgi.network.wrap import TAKEN_AS_FLOAT32
from corgi.vnnlib.spec import Spec, Syntax

Points = NDArray[np.float32]
"""Inputs or outputs of several runs: [N, inputs] or [N, outputs], row-major as the file has them."""


@dataclass(frozen=True)
class PlainNetwork:
    """A checked network from X to Y.

    Attributes:
        path: the file.
        input_shape: [C, H, W] of what the trunk is given.
        order: which X each element of it is, int64 [inputs].
        trunk: the steps in float64, every value [N, C, H, W]; shapes: of its values.
        outputs: which element of the flattened trunk output each Y is, int64 [outputs].
        session: onnxruntime on the file as it is.
        notes: what a reader must know of how the file was read.
    """

    path: Path
    input_shape: tuple[int, int, int]
    order: Tensor
    trunk: TorchGraph
    shapes: Mapping[str, tuple[int, ...]]
    outputs: Tensor
    session: ort.InferenceSession
    notes: tuple[str, ...]

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return math.prod(self.input_shape)

    @cached_property
    def trunk32(self) -> TorchGraph:
        """The trunk in float32, for attacks."""
        return copy.deepcopy(self.trunk).to(torch.float32)

    def given(self, points: Tensor) -> Tensor:
        """Inputs [N, inputs] as the trunk takes them: [N, C, H, W]."""
        return points[:, self.order].reshape(-1, *self.input_shape)

    def forward(self, trunk: TorchGraph, points: Tensor) -> Tensor:
        """Outputs [N, outputs] of inputs [N, inputs] in the precision of `trunk`."""
        values: Tensor = trunk(self.given(points)).flatten(1)
        return values[:, self.outputs]

    def run(self, point: Points) -> Points:
        """What onnxruntime makes of one input [inputs]: [outputs].

        Raises:
            ModelError: onnxruntime fails.
        """
        entry = self.session.get_inputs()[0]
        with naming(self.path):
            (found,) = runtime.run(self.session, {entry.name: point.reshape(_size(entry))})
        return np.asarray(found, dtype=np.float32).reshape(-1)


@settled()
def load_plain(path: Path) -> PlainNetwork:
    """Load any network of layers the patch engine bounds.

    Raises:
        ModelError: the file cannot be read or is not served, or its arithmetic is not float32.
        UnsupportedOperator: a node, attribute or operand outside the supported set.
    """
    graph = read_graph(path, any_rank=True)
    with naming(path):
        return _plain(graph)


def _plain(graph: Graph) -> PlainNetwork:
    if any(TAKEN_AS_FLOAT32 in note for note in graph.notes):
        raise ModelError("float16 arithmetic is not what corgi decides", hint="Export as float32.")
    spatial = as_convolutions(simplified(convert(graph)))
    channels, height, width = graph.input_shape
    order = torch.arange(channels * height * width)
    if graph.channels_last:
        order = order.reshape(height, width, channels).permute(2, 0, 1).flatten()
    original, _ = read_model(graph.path)  # its external data with it, wherever that lies
    session = runtime.start(original, runtime.options())
    if len(session.get_outputs()) != 1:
        raise ModelError(f"{len(session.get_outputs())} outputs, expected one")
    return PlainNetwork(
        graph.path,
        graph.input_shape,
        order,
        spatial.trunk,
        spatial.shapes,
        spatial.outputs,
        session,
        graph.notes,
    )


def check_fits(network: PlainNetwork, spec: Spec) -> None:
    """Refuse a specification of another network.

    Version 2.0 numbers elements by the shapes it declares; shapes that are not the file's could mean others.

    Raises:
        SpecError: it has another number of inputs or outputs, or in version 2.0 another shape.
    """
    for what, mine, theirs in (
        ("inputs", network.inputs, spec.inputs),
        ("outputs", len(network.outputs), spec.outputs),
    ):
        if mine != theirs:
            raise SpecError(f"{network.path} has {mine} {what}, the specification declares {theirs}")
    if spec.syntax is Syntax.V1:
        return
    (entry,), (exit_,) = network.session.get_inputs(), network.session.get_outputs()
    for what, size, declared in (
        ("X", _size(entry), spec.input_shape),
        ("Y", _size(exit_), spec.output_shape),
    ):
        if size != declared:
            raise SpecError(
                f"{network.path}: the shape of {what} is {list(size)}, the specification declares"
                f" {list(declared)}",
                hint="An open size of the file, as the batch's, is 1.",
            )


def _size(value: ort.NodeArg) -> tuple[int, ...]:
    """The shape of an input or output of a file; open sizes, as the batch's, are 1."""
    return tuple(size if isinstance(size, int) else 1 for size in value.shape)


def check_equal(network: PlainNetwork, points: Points) -> Points:
    """Hold the converted network against onnxruntime at inputs [N, inputs]; what that says, [N, outputs].

    Raises:
        GateError: they differ, or a value is not finite.
    """
    reference = np.stack([network.run(point) for point in points])
    with torch.no_grad():
        ours = network.forward(network.trunk, torch.from_numpy(points).to(torch.float64)).numpy()
    if ours.shape != reference.shape:
        raise GateError(f"{network.path}: {ours.shape[1]} outputs, onnxruntime says {reference.shape[1]}")
    if not (np.isfinite(ours).all() and np.isfinite(reference).all()):
        raise GateError(f"{network.path}: an output is not finite at an input of the box")
    scale = float(np.abs(reference).max()) or 1.0
    worst = float(np.abs(ours - reference).max()) / scale
    if worst > TOLERANCE:
        raise GateError(
            f"{network.path}: outputs differ from onnxruntime by {worst:.3g} of the largest one"
            f" ({scale:.3g}); allowed is {TOLERANCE:.3g}",
            hint="Nothing proved of the converted network would be true of the file.",
        )
    return reference
