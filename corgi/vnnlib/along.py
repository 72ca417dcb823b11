"""Write a claim along a change as files any verifier can check: the network's input is t.

In front of the network of `export.py` stands the change, so that its input X are the parameters t of

    clip(x + sum_j A_j t_j, 0, 1),

two layers of a linear map and two of a ReLU: clip(v, 0, 1) = 1 - relu(1 - relu(v)). In real arithmetic that
is the family itself and nothing rounded: x are float32 numbers, and each A_j, which is float64, is written as
the sum of up to three float32 arrays, which the first layer gives the same t_j each.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from corgi.ambient import settled
from corgi.changes.family import Family, LinearFamily
from corgi.changes.interface import Change
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.properties.interface import Property
from corgi.results import ImageArray
from corgi.terms import Size
from corgi.types import Interval
from corgi.vnnlib.export import Claim, Export
from corgi.vnnlib.spec import Syntax

_MOST_PIECES = 3
"""float32 numbers of 24 bits that hold one of 53."""


@settled()
def export_change(
    network: Network,
    image: ImageArray,
    change: Change,
    size: float,
    *,
    k: Size = None,
    property: Property | None = None,
    class_id: int | None = None,
    name: str = "image",
    syntax: Syntax = Syntax.V1,
    packed: bool = False,
) -> Export:
    """The instance that says: a property of the map holds along a change of an image, up to a size.

    Args:
        network: a loaded network.
        image: the image, [C, H, W] float32 in [0, 1].
        change: whose family is affine in its parameters.
        size: how far they run, > 0; each end is rounded outwards to a float32 number.
        k: size of the top set.
        property: what is claimed of the map; None for that its top set stays the same.
        class_id: class to explain; None means the predicted one.
        name: of the image, for file names and comments.
        syntax: of the specification.
        packed: whether it is gzipped.

    Raises:
        UsageError: a size that is none, a change that is not affine in its parameters or does not fit the
            image; or see `export_cam`.
        ModelError, GateError: the exported network does not compute corgi's map of changed images.
    """
    if not 0 < size < math.inf:
        raise UsageError(f"--size {size}: expected a finite number > 0", hint="As 0.1, or 10%.")
    claim = Claim.of(network, image, name, k, property, class_id)
    size, written = float(size), str(change)
    family = change.family(torch.from_numpy(claim.explanation.image).to(torch.float64))
    if not isinstance(family, LinearFamily):
        hint = "Such a change is decided by `corgi sweep`."
        raise UsageError(f"change {written}: not affine in its parameters, so not exported", hint=hint)
    box = _box(family, size)
    model = _with_change(claim, family)
    points = _points(box)
    claim.check(model, points.numpy(), family.at(points.to(torch.float64)).numpy())
    digest = hashlib.sha256(f"{written}".encode() + family.directions.numpy().tobytes()).hexdigest()[:8]
    which = ", ".join(f"{one!a} in [{low!r}, {high!r}]" for one, low, high in _ranges(family, box))
    return claim.export(
        model,
        box,
        (
            f"along the change {written!a} of {name!a} up to size {size!r}: {which}",
            "(float32 numbers, rounded outwards). Inputs are t of clip(x + sum_j t_j A_j, 0, 1),",
            "the first layers: their float32 weights add up to x and to A exactly.",
        ),
        own=f"{claim.picture}_along{digest}_",
        which=f"_along{digest}_size{size!r}",
        eps=size,
        change=written,
        syntax=syntax,
        packed=packed,
    )


def _box(family: Family, size: float) -> Interval:
    """The parameters at a size [d], every end rounded outwards to float32."""
    lower, upper = (torch.tensor(end, dtype=torch.float64) for end in family.box(size))
    return Interval(0.0 - _up(-lower), _up(upper))


def _up(values: Tensor) -> Tensor:
    """The nearest float32 numbers that are no smaller."""
    near = values.to(torch.float32)
    above = torch.nextafter(near, torch.tensor(math.inf))
    return torch.where(near.to(torch.float64) < values, above, near)


def _ranges(family: Family, box: Interval) -> Iterator[tuple[str, float, float]]:
    return zip(family.names, box.lower.tolist(), box.upper.tolist(), strict=True)


def _points(box: Interval) -> Tensor:
    """Some of a box: 0, its corners, and two between them, float32 [5, d]."""
    between = torch.rand((2, len(box.lower)), generator=torch.Generator().manual_seed(0))
    inside = box.lower + between * (box.upper - box.lower)
    return torch.cat([torch.zeros_like(box.lower)[None], box.lower[None], box.upper[None], inside])


def pieces(directions: Tensor) -> tuple[Tensor, ...]:
    """float32 arrays whose sum is a float64 array, exactly; one at least.

    What is left of a number when the nearest float32 number is taken off is exact in float64 and at least
    24 bits smaller, so three hold all of its 53 bits.

    Raises:
        UsageError: a number is beyond float32, or has bits below the smallest of it.
    """
    found, left = list[Tensor](), directions
    for _ in range(_MOST_PIECES):
        found.append(left.to(torch.float32))
        left = left - found[-1].to(torch.float64)
        if not bool(left.any()):  # and no NaN, of what was beyond float32
            return tuple(found)
    raise UsageError("a direction of the change is beyond the range of float32", hint="Scale it.")


def _with_change(claim: Claim, family: LinearFamily) -> onnx.ModelProto:
    """The network of a claim with the change in front of it: from t, [1, d]."""
    model, image = claim.model(), family.image
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken.update(value.name for value in graph.initializer)
    # Behind the change is what the network calls its input, so nothing in it has to be touched.
    seen, front = graph.input[0].name, list[onnx.NodeProto]()

    def fresh(name: str) -> str:
        while name in taken:
            name += "'"
        taken.add(name)
        return name

    def layer(op: str, constants: dict[str, NDArray[Any]], output: str = "", **attributes: Any) -> None:
        """A node behind the last one."""
        names = [fresh(f"change_{name}") for name in constants]
        tensors = zip(names, constants.values(), strict=True)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors)
        before = front[-1].output[0] if front else given
        output = output or fresh(f"change_{op}")
        front.append(helper.make_node(op, [before, *names], [output], name=output, **attributes))

    given, parts, d = fresh("t"), pieces(family.directions), family.dimensions
    weight = torch.cat(parts).reshape(len(parts) * d, -1).T.contiguous().numpy()
    if len(parts) > 1:
        layer("Gemm", {"copy": np.tile(np.eye(d, dtype=np.float32), (len(parts), 1))}, transB=1)
    layer("Gemm", {"A": weight, "x": image.to(torch.float32).flatten().numpy()}, transB=1)
    layer("Reshape", {"shape": np.array([1, *image.shape], dtype=np.int64)})
    ones = np.ones(len(image), dtype=np.float32)
    turn = -np.eye(len(image), dtype=np.float32)[:, :, None, None]
    for output in ("", seen):  # twice 1 - relu(v)
        layer("Relu", {})
        layer("Conv", {"turn": turn, "one": ones}, output, kernel_shape=[1, 1])
    nodes = [*front, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, [1, d]))
    return model
