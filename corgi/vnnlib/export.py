"""Write the claim of a certificate as files any verifier can check.

The network is the trunk with the map's weights as a 1x1 convolution behind it, flattened: Y is the map. The
specification is the negation of the claim, satisfied where any pixel outside the top-k set reaches one inside
it:

    X in the box    and    (Y_p >= Y_i  for some i in T, p not in T).

The box contains the ball cut to the pixel range: its ends are float32 numbers, rounded outwards, so they are
the same numbers for every reader, and "unsat" of the files implies the claim.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from corgi.ambient import settled
from corgi.cam.topk import outside
from corgi.certify.explain import Explanation, explain
from corgi.certify.options import check_radius
from corgi.errors import ModelError, UsageError, first_line
from corgi.network import runtime
from corgi.network.gate import compare
from corgi.network.network import Network
from corgi.results import ImageArray, MapKind
from corgi.terms import Size
from corgi.types import Ball, Norm
from corgi.vnnlib.spec import Case, Constraint, Spec, Syntax
from corgi.vnnlib.write import spec_bytes, spec_text

INSTANCES = "instances.csv"


@dataclass(frozen=True)
class Export:
    """One instance, ready to be written.

    Attributes:
        model, model_name: the ONNX file and its path inside the folder.
        spec, spec_name: the VNN-LIB file and its path inside the folder.
        explanation: the map it is about.
        eps: radius, pixel scale.
        notes: in how far the exported network is not the file's.
    """

    model: bytes
    model_name: str
    spec: bytes
    spec_name: str
    explanation: Explanation
    eps: float
    notes: tuple[str, ...]


@settled()
def export_cam(
    network: Network,
    image: ImageArray,
    eps: float,
    *,
    k: Size = None,
    class_id: int | None = None,
    name: str = "image",
    syntax: Syntax = Syntax.V1,
    packed: bool = False,
) -> Export:
    """The instance that says: the top-k set of the map stays within eps of an image [C, H, W] in [0, 1].

    Args:
        network: a loaded network.
        image: the image.
        eps: l_inf radius, pixel scale.
        k: size of the set.
        class_id: class to explain; None means the predicted one.
        name: of the image, for file names and comments.
        syntax: of the specification.
        packed: whether it is gzipped.

    Raises:
        UsageError: a radius no ball can have, or a tie at rank k: the set is not unique.
        ModelError, GateError: the exported network does not compute corgi's map.
    """
    check_radius("--eps", eps, Norm.LINF)
    eps = float(eps)  # of numpy's numbers, too, the name is the number
    explanation = explain(network, image, k, class_id)
    network, top, shown = explanation.network, explanation.top, explanation.class_id
    if top.tie:
        raise UsageError(
            f"tie at rank {top.k}: the top set is not unique at the image itself",
            hint="Choose another --k.",
        )
    model = cam_model(network, shown)
    _check_same_map(network, shown, model, image)
    weight = network.head.weight[shown]
    notes: tuple[str, ...] = ()
    if not torch.equal(weight.to(torch.float32).to(torch.float64), weight):
        notes = ("the map's weights are no float32 numbers: the exported map is that of rounded weights",)
    spec = spec_text(
        cam_spec(explanation, image, eps, syntax), _comments(explanation, image, eps, name, notes)
    )
    picture = f"{name}_{_digest(image)[:8]}"
    own = f"{picture}_" if network.map_kind is MapKind.GRADCAM else ""  # its weights are this image's
    stem = _file_name(f"{network.path.stem}_{own}{network.map_kind.value}{shown}")
    case = _file_name(f"{picture}_{network.map_kind.value}{shown}_k{top.k}_eps{eps!r}")
    return Export(
        model.SerializeToString(),
        f"onnx/{stem}.onnx",
        spec_bytes(spec, packed=packed),
        f"vnnlib/{case}.vnnlib{'.gz' if packed else ''}",
        explanation,
        eps,
        notes,
    )


def _comments(
    explanation: Explanation, image: ImageArray, eps: float, name: str, notes: tuple[str, ...]
) -> tuple[str, ...]:
    """What a specification says of itself, a line each."""
    network = explanation.network
    return (
        f"corgi: the {explanation.top.k} largest pixels of {network.map_kind.in_words} of class"
        f" {explanation.class_id} stay the same",
        f"on the l_inf ball of radius {eps!r} around {name!a}, cut to [0, 1].",
        f"image sha256 {_digest(image)} (float32, [C, H, W])",
        f"model sha256 {network.sha256}",
        *(f"read so: {note}" for note in network.graph.notes),
        *(f"note: {note}" for note in notes),
        "sat: some pixel outside the set reaches one inside it. unsat: the claim holds, of the exported map.",
    )


def cam_model(network: Network, class_id: int) -> onnx.ModelProto:
    """The part of a file that makes the feature map, then the map of a class, flattened: [1, pixels].

    Normalisation and what else loading put in front of the file is part of it: X are pixels in [0, 1].
    """
    head, model = network.head, onnx.ModelProto()
    model.CopyFrom(network.graph.proto)
    graph, needed = model.graph, {head.feature}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    taken = needed.union(*(node.output for node in nodes))

    def fresh(name: str) -> str:
        while name in taken:
            name += "'"
        taken.add(name)
        return name

    value = head.feature
    back = [head.order.index(axis) for axis in range(4)]
    if back != [0, 1, 2, 3]:
        nodes.append(helper.make_node("Transpose", [value], [fresh("features")], perm=back))
        value = nodes[-1].output[0]
    kernel = head.weight[class_id].to(torch.float32).numpy()[None, :, None, None]
    weight = numpy_helper.from_array(kernel, fresh("map_weight"))
    nodes.append(helper.make_node("Conv", [value, weight.name], [fresh("map")], kernel_shape=[1, 1]))
    nodes.append(helper.make_node("Flatten", [nodes[-1].output[0]], [fresh("Y")]))
    for node in nodes[-3:]:
        node.name = node.name or node.output[0]
    made = helper.make_graph(
        nodes,
        f"map_of_class_{class_id}",
        [value for value in graph.input if value.name == network.graph.input_name],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [1, network.pixels])],
        [*(i for i in graph.initializer if i.name in needed), weight],
    )
    model.graph.CopyFrom(made)
    del model.functions[:], model.metadata_props[:]
    helper.set_model_props(model, {"corgi.map_of": f"class {class_id} of model sha256 {network.sha256}"})
    return model


def cam_spec(explanation: Explanation, image: ImageArray, eps: float, syntax: Syntax) -> Spec:
    """The violation of the claim, over the box around the ball."""
    box = Ball(torch.from_numpy(image), eps).box(torch.float32)
    lower, upper = (tuple(Fraction(v) for v in end.flatten().tolist()) for end in (box.lower, box.upper))
    pixels = explanation.network.pixels
    alternatives = tuple(
        (_reaches(p, i),) for i in explanation.top.pixels for p in outside(explanation.top, pixels).tolist()
    )
    shape, cases = (1, *image.shape), (Case(lower, upper, alternatives),)
    if syntax is Syntax.V2:
        return Spec(shape, (1, pixels), cases, syntax)
    return Spec((image.size,), (pixels,), cases, syntax)


def write_instance(export: Export, folder: Path, timeout: float) -> tuple[Path, Path]:
    """Write an instance into a folder laid out as the competition's, and a line into its instances.csv.

    Raises:
        UsageError: the file system refuses, or one of the files is there and holds something else.
    """
    model, spec, instances = folder / export.model_name, folder / export.spec_name, folder / INSTANCES
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([export.model_name, export.spec_name, f"{timeout:g}"])
    contents = {model: export.model, spec: export.spec}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.read_bytes() != content:
                raise UsageError(f"{path} is there and holds something else", hint="Choose another folder.")
        for path, content in contents.items():
            path.write_bytes(content)
        known = instances.read_text("utf-8", "replace") if instances.exists() else ""
        listed = [row[:2] for row in csv.reader(known.splitlines())]
        if [export.model_name, export.spec_name] not in listed:
            with instances.open("a", encoding="utf-8", newline="") as file:
                file.write(("\n" if known and not known.endswith("\n") else "") + line.getvalue())
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    return model, spec


def _digest(image: ImageArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _file_name(text: str) -> str:
    """Text as a file name that every system and every list can hold."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


def _reaches(p: int, i: int) -> Constraint:
    """Y_p >= Y_i, as Y_i - Y_p <= 0."""
    terms = sorted([(i, Fraction(1)), (p, Fraction(-1))])
    return Constraint((), tuple(terms), Fraction(0))


def _check_same_map(network: Network, class_id: int, model: onnx.ModelProto, image: ImageArray) -> None:
    """Hold the exported network against corgi's map.

    Raises:
        ModelError: onnxruntime does not run it.
        GateError: they differ.
    """
    noise = np.random.default_rng(0).random((2, *image.shape), dtype=np.float32)
    images = np.concatenate([image[None], noise])
    try:
        onnx.checker.check_model(model, full_check=True)
        session = runtime.start(model, runtime.options())
        name = network.graph.input_name
        found = np.concatenate([runtime.run(session, {name: one[None]})[0] for one in images])
    except Exception as error:  # onnx raises its own family
        raise ModelError(f"{network.path}: the exported map cannot be run: {first_line(error)}") from error
    ours = np.stack([network.cam(one, class_id).numpy().reshape(-1) for one in images])
    compare(network, "map of the exported network", ours, found)
