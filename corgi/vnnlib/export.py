"""Write the claim of a certificate as files any verifier can check.

The network is the trunk with the map's weights as a 1x1 convolution behind it, flattened: Y is the map. The
specification is the negation of the claim (violation.py): of the top-k set, satisfied where any pixel outside
reaches one inside it:

    X in the box    and    (Y_p >= Y_i  for some i in T, p not in T).

For the mass centre of the positive part, Y is that part, by one more ReLU; or the map, then that part.

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
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from corgi.ambient import settled
from corgi.certify.explain import Explanation, explain
from corgi.certify.options import check_radius
from corgi.errors import ModelError, UsageError, first_line
from corgi.network import runtime
from corgi.network.gate import compare
from corgi.network.network import Network
from corgi.properties.interface import Property
from corgi.properties.topk import Topk
from corgi.results import ImageArray, MapKind, Statement
from corgi.terms import Size
from corgi.types import Interval, Norm, Where
from corgi.vnnlib.spec import Case, Spec, Syntax
from corgi.vnnlib.violation import Outputs, violation
from corgi.vnnlib.write import spec_bytes, spec_text

INSTANCES = "instances.csv"


@dataclass(frozen=True)
class Export:
    """One instance, ready to be written.

    Attributes:
        model, model_name: the ONNX file and its path inside the folder.
        spec, spec_name: the VNN-LIB file and its path inside the folder.
        explanation: the map it is about.
        eps: radius, pixel scale; of a change its size.
        statement: what it claims of the map; where: what may change, None for every pixel.
        change: along which it claims it; None for a ball.
        notes: in how far the exported network is not the file's.
    """

    model: bytes
    model_name: str
    spec: bytes
    spec_name: str
    explanation: Explanation
    eps: float
    statement: Statement
    notes: tuple[str, ...]
    where: Where | None = None
    change: str | None = None


@settled()
def export_cam(
    network: Network,
    image: ImageArray,
    eps: float,
    *,
    k: Size = None,
    property: Property | None = None,
    where: Where | None = None,
    class_id: int | None = None,
    name: str = "image",
    syntax: Syntax = Syntax.V1,
    packed: bool = False,
) -> Export:
    """The instance that says: a property of the map holds within eps of an image [C, H, W] in [0, 1].

    Args:
        network: a loaded network.
        image: the image.
        eps: l_inf radius, pixel scale.
        k: size of the top set.
        property: what is claimed of the map; None for that its top set stays the same.
        where: which pixels may change, and how far in radii; None for all.
        class_id: class to explain; None means the predicted one.
        name: of the image, for file names and comments.
        syntax: of the specification.
        packed: whether it is gzipped.

    Raises:
        UsageError: a radius no ball can have; the property does not hold at the image, or only just: a tie;
            or more alternatives break it than can be written.
        ModelError, GateError: the exported network does not compute corgi's map.
    """
    check_radius("--eps", eps, Norm.LINF)
    eps = float(eps)  # of numpy's numbers, too, the name is the number
    claim = Claim.of(network, image, name, k, property, class_id)
    box = claim.explanation.ball(Norm.LINF, where).with_radius(eps).box(torch.float32)
    model, noise = claim.model(), np.random.default_rng(0).random((2, *image.shape), dtype=np.float32)
    images = np.concatenate([image[None], noise])
    claim.check(model, images, images)
    around = f"radius {eps!r} around {name!a}, cut to [0, 1]" + (f"; {where.in_words!a}" if where else "")
    changing = "" if where is None else f"_where{where.sha256[:8]}"
    alone = claim.network.map_kind is MapKind.GRADCAM  # its weights are this image's
    return claim.export(
        model,
        box,
        (f"on the l_inf ball of {around}.",),
        own=f"{claim.picture}_" if alone else "",
        which=f"{changing}_eps{eps!r}",
        eps=eps,
        where=where,
        syntax=syntax,
        packed=packed,
    )


@dataclass(frozen=True)
class Claim:
    """A property of a map that is strictly true at an image, to be written of some set of images.

    Attributes:
        explanation: the map; asked: the property; outputs: what of the map the exported network returns.
        name: of the image.
    """

    explanation: Explanation
    asked: Property
    outputs: Outputs
    name: str

    @staticmethod
    def of(
        network: Network, image: ImageArray, name: str, k: Size, asked: Property | None, class_id: int | None
    ) -> Claim:
        """The claim.

        Raises:
            UsageError: it is not strictly true at the image itself.
        """
        explanation, asked = explain(network, image, k, class_id), asked or Topk()
        outputs = Outputs(explanation.question(asked).holds, explanation.network.pixels)
        _check_holds(explanation, asked, outputs)
        return Claim(explanation, asked, outputs, name)

    @property
    def network(self) -> Network:
        """With the map."""
        return self.explanation.network

    @property
    def picture(self) -> str:
        """The image as a part of a file name: another one has another name."""
        return f"{self.name}_{_digest(self.explanation.image)[:8]}"

    def model(self) -> onnx.ModelProto:
        """From an image to the map."""
        return cam_model(self.network, self.explanation.class_id, self.outputs)

    def check(self, model: onnx.ModelProto, given: ImageArray, images: NDArray[Any]) -> None:
        """Hold a network, given inputs [N, ...], against corgi's map of the images [N, C, H, W] they mean.

        Raises:
            ModelError: onnxruntime does not run it.
            GateError: they differ.
        """
        _check_same_map(self.network, self.explanation.class_id, model, given, images, self.outputs)

    def export(
        self,
        model: onnx.ModelProto,
        box: Interval,
        said: tuple[str, ...],
        *,
        own: str,
        which: str,
        eps: float,
        syntax: Syntax,
        packed: bool,
        notes: tuple[str, ...] = (),
        where: Where | None = None,
        change: str | None = None,
    ) -> Export:
        """The claim over a box of a network's inputs, as files.

        `model`: the network. `box`: of its input without the batch's axis, ends that are float32 numbers;
        `said`: which images that is, lines of a comment. `own`: what the name of the network begins with
        where it is this image's alone; `which`: what the name of the specification has of the set. The others
        are those of `Export` and of `export_cam`.

        Raises:
            UsageError: see `violation`.
        """
        network, outputs, top = self.network, self.outputs, self.explanation.top
        shown = f"{network.map_kind.value}{self.explanation.class_id}"
        weight = network.head.weight[self.explanation.class_id]
        if not torch.equal(weight.to(torch.float32).to(torch.float64), weight):
            rounded = "the map's weights are no float32 numbers: the exported map is that of rounded weights"
            notes = (*notes, rounded)
        text = spec_text(claim_spec(outputs, box, syntax, self.asked.name), _comments(self, said, notes))
        part = "" if outputs.cam and not outputs.positive else f"_{'and_' if outputs.cam else ''}positive"
        stem = _file_name(f"{network.path.stem}_{own}{shown}{part}")
        case = f"{self.picture}_{shown}_k{top.k}{_short(self.asked)}{which}"
        return Export(
            model.SerializeToString(),
            f"onnx/{stem}.onnx",
            spec_bytes(text, packed=packed),
            f"vnnlib/{_file_name(case)}.vnnlib{'.gz' if packed else ''}",
            self.explanation,
            eps,
            self.asked.statement(top.k),
            notes,
            where,
            change,
        )


def _check_holds(explanation: Explanation, asked: Property, outputs: Outputs) -> None:
    """Refuse a claim that is not strictly true at the image itself.

    Raises:
        UsageError: it is not.
    """
    top, formula = explanation.top, outputs.formula
    value = float(formula.margin(torch.from_numpy(explanation.cam).reshape(-1)))
    error = formula.sensitivity * explanation.rounding
    if value > error:
        return
    if asked == Topk():
        raise UsageError(
            f"tie at rank {top.k}: the top set is not unique at the image itself",
            hint="Choose another --k.",
        )
    raise UsageError(
        f"at the image itself it is not strictly true that {asked.statement(top.k)}: off by {-value:.3g}",
        hint="Ask for less.",
    )


def _short(asked: Property) -> str:
    """A property as a part of a file name: another one has another name."""
    if asked == Topk():
        return ""
    return f"_{asked.name}_{hashlib.sha256(repr(asked).encode()).hexdigest()[:8]}"


def _comments(claim: Claim, said: tuple[str, ...], notes: tuple[str, ...]) -> tuple[str, ...]:
    """What a specification says of itself, a line each."""
    explanation, outputs, network = claim.explanation, claim.outputs, claim.network
    what, shown = claim.asked.statement(explanation.top.k), list[str]()
    if what.region is not None:
        shown.append(f"the region: pixels {', '.join(map(str, what.region))} of the map, row by row")
    if outputs.positive:
        first = outputs.first_positive
        shown.append(f"outputs {first} to {outputs.count - 1} are the positive part of the map")
    return (
        f"corgi: {what.subject} of {network.map_kind.in_words} of class {explanation.class_id} {what.verb}",
        *said,
        f"image sha256 {_digest(explanation.image)} (float32, [C, H, W])",
        f"model sha256 {network.sha256}",
        *shown,
        *(f"read so: {note}" for note in network.graph.notes),
        *(f"note: {note}" for note in notes),
        "sat: some input breaks the claim, or leaves it open by a tie. unsat: it holds, of the exported map.",
    )


def cam_model(network: Network, class_id: int, outputs: Outputs) -> onnx.ModelProto:
    """The part of a file that makes the feature map, then the map of a class, flattened: [1, outputs].

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

    value, own = head.feature, len(nodes)
    back = [head.order.index(axis) for axis in range(4)]
    if back != [0, 1, 2, 3]:
        nodes.append(helper.make_node("Transpose", [value], [fresh("features")], perm=back))
        value = nodes[-1].output[0]
    kernel = head.weight[class_id].to(torch.float32).numpy()[None, :, None, None]
    weight = numpy_helper.from_array(kernel, fresh("map_weight"))
    nodes.append(helper.make_node("Conv", [value, weight.name], [fresh("map")], kernel_shape=[1, 1]))
    if outputs.positive:
        nodes.append(helper.make_node("Relu", [nodes[-1].output[0]], [fresh("positive")]))
    if outputs.positive and outputs.cam:
        both = [nodes[-2].output[0], nodes[-1].output[0]]
        nodes.append(helper.make_node("Concat", both, [fresh("both")], axis=1))
    nodes.append(helper.make_node("Flatten", [nodes[-1].output[0]], [fresh("Y")]))
    for node in nodes[own:]:
        node.name = node.output[0]
    made = helper.make_graph(
        nodes,
        f"map_of_class_{class_id}",
        [value for value in graph.input if value.name == network.graph.input_name],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [1, outputs.count])],
        [*(i for i in graph.initializer if i.name in needed), weight],
    )
    model.graph.CopyFrom(made)
    del model.functions[:], model.metadata_props[:]
    helper.set_model_props(model, {"corgi.map_of": f"class {class_id} of model sha256 {network.sha256}"})
    return model


def claim_spec(outputs: Outputs, box: Interval, syntax: Syntax, what: str) -> Spec:
    """The violation of a claim, which `what` names, over a box of inputs.

    Raises:
        UsageError: see `violation`.
    """
    lower, upper = (tuple(Fraction(v) for v in end.flatten().tolist()) for end in (box.lower, box.upper))
    shape, cases = (1, *box.lower.shape), (Case(lower, upper, violation(outputs, what)),)
    if syntax is Syntax.V2:
        return Spec(shape, (1, outputs.count), cases, syntax)
    return Spec((len(lower),), (outputs.count,), cases, syntax)


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


def _check_same_map(
    network: Network,
    class_id: int,
    model: onnx.ModelProto,
    given: ImageArray,
    images: NDArray[Any],
    outputs: Outputs,
) -> None:
    """See `Claim.check`."""
    try:
        onnx.checker.check_model(model, full_check=True)
        session = runtime.start(model, runtime.options())
        name = model.graph.input[0].name
        found = np.concatenate([runtime.run(session, {name: one[None]})[0] for one in given])
    except Exception as error:  # onnx raises its own family
        raise ModelError(f"{network.path}: the exported map cannot be run: {first_line(error)}") from error
    cams = np.stack([network.cam(one, class_id).numpy().reshape(-1) for one in images])
    parts = [cams] * outputs.cam + [np.maximum(cams, 0)] * outputs.positive
    ours = np.concatenate(parts, axis=1)
    compare(network, "map of the exported network", ours, found)
