"""Write specs/: a benchmark in VNN-COMP's layout whose answers are known by construction.

    python bench/specs.py [FOLDER]          writes FOLDER (default: specs/), from nothing but the repository

Maps: pictures drawn by models/demo/draw_sign.py, on the bundled networks. `corgi.verify` brackets the exact
radius between a certified radius and a witness confirmed by onnxruntime; instances lie at 0.5, 0.9 and 0.99
times the certified radius (unsat) and 1.01 and 1.1 times the witness's (sat). Pixels are multiples of 1/64
and radii of 2^-24, rounded away from the bracket, so that every end of the box is a short decimal; the box,
whose ends are rounded outwards, is held against the certified ball and the witness as it is.

Planted: networks with a spike, relu(1 - s |x - p|_1), at a point p of the box and nothing elsewhere, so
gradients lead nowhere. Y_0 = spike >= 0.999 is satisfied at p (sat), Y_0 >= 1.001 nowhere (unsat).

Questions: of the map of a picture, pointing and the mass centre, at 0.5 times the certified radius and 1.1
times the witness's; and of drawn maps of 3 x 3 every kind of property, broken at the point of a spike. The
spike moves the map along a line, 1% beyond where the property breaks. One box holds the point (sat); in the
other the spike ends at 31/32, before that (unsat).

Plain: small networks with integer weights whose range over the box is worked out beside them.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import math
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import corgi
from corgi.cam.topk import top_k
from corgi.properties import Both, Centre, Inside, Iou, Order, Overlap, Pointing, Property, Topk
from corgi.results import ImageArray
from corgi.vnnlib.export import INSTANCES, export_cam, write_instance
from corgi.vnnlib.read import read_spec
from corgi.vnnlib.spec import Case, Constraint, Spec, Syntax
from corgi.vnnlib.violation import Outputs, violation
from corgi.vnnlib.write import spec_bytes, spec_text

REPOSITORY = Path(__file__).resolve().parents[1]
TIMEOUT = 120.0
GRID = 2**24
BELOW, ABOVE = (0.5, 0.9, 0.99), (1.01, 1.1)

MAPS = (
    ("gtsrb", 17, 15),
    ("gtsrb", 17, 5),
    ("gtsrb", 18, 15),
    ("gtsrb", 19, 15),
    ("gtsrb", 20, 10),
    ("gtsrb", 21, 10),
    ("gtsrb", 22, 3),
)
"""Network, seed of the picture, k."""

SPIKES = ((4, 8.0), (16, 8.0), (48, 4.0), (144, 4.0))
"""Inputs and steepness."""


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "specs")
    folder = parser.parse_args().folder
    if folder.exists():
        shutil.rmtree(folder)
    known = [*maps(folder), *planted(folder), *plain(folder), *pictured(folder), *questions(folder)]
    with (folder / "expected.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(known)
    print(f"{len(known)} instances in {folder}")


def maps(folder: Path) -> list[tuple[str, str, str]]:
    """Instances around the exact radii of maps."""
    known = []
    for model, seed, k in MAPS:
        network = corgi.load(REPOSITORY / "models" / f"{model}.onnx")
        image = picture(seed, network)
        result = corgi.verify(network, image, k=k)
        assert result.attack is not None
        certified, witness = result.certificate.radius, result.attack.witness
        assert witness is not None
        broken = witness.radius
        assert 0 < certified < broken
        print(f"{model}, seed {seed}, k {k}: exact radius in [{certified:.6g}, {broken:.6g}]", flush=True)
        radii = [(share, math.floor(share * certified * GRID) / GRID, "unsat") for share in BELOW]
        radii += [(share, math.ceil(share * broken * GRID) / GRID, "sat") for share in ABOVE]
        for number, (share, eps, answer) in enumerate(radii):
            syntax = Syntax.V2 if number % 2 else Syntax.V1
            name = f"sign{seed}_{share:g}x"
            export = export_cam(network, image, eps, k=k, name=name, syntax=syntax, packed=True)
            _, spec_file = write_instance(export, folder, TIMEOUT)
            (case,) = read_spec(spec_file).cases
            known_by = in_ball(case, image, certified) if answer == "unsat" else holds(case, witness.image)
            assert known_by, spec_file
            known.append((export.model_name, export.spec_name, answer))
    return known


def pictured(folder: Path) -> list[tuple[str, str, str]]:
    """Instances well inside and beyond what is known of other questions about a map."""
    known, network = [], corgi.load(REPOSITORY / "models" / "gtsrb.onnx")
    image, (height, width) = picture(17, network), network.head.map_shape
    middle = np.zeros((height, width), dtype=bool)
    middle[height // 4 : -(height // 4), width // 4 : -(width // 4)] = True
    region = tuple(map(int, middle.flatten().nonzero()[0]))
    for asked in (Pointing(region), Centre(1.0)):
        result = corgi.verify(network, image, k=15, property=asked, time_limit=60)
        assert result.attack is not None
        certified, witness = result.certificate.radius, result.attack.witness
        assert witness is not None
        assert 0 < certified < witness.radius
        for share, answer in ((0.5, "unsat"), (1.1, "sat")):
            whole = share * GRID * (certified if answer == "unsat" else witness.radius)
            eps = (math.floor(whole) if answer == "unsat" else math.ceil(whole)) / GRID
            syntax = Syntax.V1 if answer == "unsat" else Syntax.V2
            export = export_cam(
                network,
                image,
                eps,
                k=15,
                property=asked,
                name=f"sign17_{share:g}x",
                syntax=syntax,
                packed=True,
            )
            _, spec_file = write_instance(export, folder, TIMEOUT)
            (case,) = read_spec(spec_file).cases
            known_by = in_ball(case, image, certified) if answer == "unsat" else holds(case, witness.image)
            assert known_by, spec_file
            known.append((export.model_name, export.spec_name, answer))
    return known


DRAWN = np.array([[9, 8, 7], [3, 2.5, 2], [1, 0.5, 0.25]]) / 8
"""A map, of which the first row is the top set of 3."""

QUESTIONS: dict[str, tuple[Property, dict[int, float]]] = {
    "topk": (Topk(), {3: 1}),
    "spare": (Topk(4), {3: 1, 4: 1}),
    "overlap": (Overlap(2), {3: 1, 4: 1}),
    "pointing": (Pointing((0, 1, 2)), {8: 1}),
    "inside": (Inside(2, (0, 1, 2, 8)), {3: 1, 4: 1}),
    "iou": (Iou(0.5, 0.75), {0: 1}),
    "order": (Order(((0, 0), (0, 1)), ((2, 2),)), {8: 1, 1: -0.5}),
    "centre": (Centre(0.5), {8: 1}),
    "both": (Both((Pointing((0, 1, 2)), Centre(0.5))), {8: 1}),
}
"""A property of it, and along which line of maps it breaks."""

POINT, STEEP = np.array([0.25, 0.75, 0.5, 0.625]), 8.0
"""Of the spike. Where an input is 1/256 or more away from the point's it is at most 1 - 8/256."""


def questions(folder: Path) -> list[tuple[str, str, str]]:
    """Every kind of property, broken by a spike."""
    known = []
    cam = torch.from_numpy(DRAWN)
    top = top_k(cam, 3, 0.0)
    for number, (kind, (asked, line)) in enumerate(QUESTIONS.items()):
        direction = torch.zeros(9, dtype=torch.float64)
        direction[list(line)] = torch.tensor(list(line.values()), dtype=torch.float64)
        outputs = Outputs(asked.formula(cam, top), 9)
        path = cam.flatten() + torch.linspace(0, 4, 2**16 + 1, dtype=torch.float64)[:, None] * direction
        broken = outputs.formula.margin(path) <= 0
        height = 1.01 * 4 * int(broken.nonzero()[0]) / 2**16
        # Without the point the line ends at 31/32 of that: nothing is broken up to the next grid point.
        assert not bool(broken[: math.ceil(31 / 32 * height / 4 * 2**16) + 1].any())
        name = f"onnx/asked_{kind}.onnx"
        _write(folder / name, spiked(height * direction.numpy(), outputs).SerializeToString())
        syntax = Syntax.V2 if number % 2 else Syntax.V1
        shapes = ((1, 4), (1, outputs.count)) if syntax is Syntax.V2 else ((4,), (outputs.count,))
        zeros, ones = (Fraction(0),) * 4, (Fraction(1),) * 4
        before = (Fraction(float(POINT[0])) - Fraction(1, 256), *ones[1:])
        for upper, answer in ((ones, "sat"), (before, "unsat")):
            case = Case(zeros, upper, violation(outputs, kind))
            known.append(
                _instance(folder, name, f"asked_{kind}_{answer}", Spec(*shapes, (case,), syntax), answer)
            )
    return known


def spiked(direction: np.ndarray, outputs: Outputs) -> onnx.ModelProto:
    """`DRAWN` + spike * direction; or its positive part; or both."""
    eye, ones = np.eye(4, dtype=np.float32), np.ones((8, 1), dtype=np.float32)
    weights = {
        "sides": np.concatenate([eye, -eye], 1),
        "minus_point": np.concatenate([-POINT, POINT]).astype(np.float32),
        "steep": (-STEEP * ones).astype(np.float32),
        "one": np.ones(1, dtype=np.float32),
        "direction": direction[None].astype(np.float32),
        "drawn": DRAWN.flatten().astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["X", "sides", "minus_point"], ["beside"]),
        helper.make_node("Relu", ["beside"], ["distances"]),
        helper.make_node("Gemm", ["distances", "steep", "one"], ["below"]),
        helper.make_node("Relu", ["below"], ["spike"]),
        helper.make_node("Gemm", ["spike", "direction", "drawn"], ["map" if outputs.positive else "Y"]),
    ]
    if outputs.positive:
        nodes.append(helper.make_node("Relu", ["map"], ["positive" if outputs.cam else "Y"]))
    if outputs.positive and outputs.cam:
        nodes.append(helper.make_node("Concat", ["map", "positive"], ["Y"], axis=1))
    return _model(nodes, weights, (1, 4), (1, outputs.count))


def in_ball(case: Case, image: ImageArray, radius: float) -> bool:
    """Whether a box is part of the certified ball, exactly: what makes its answer "unsat"."""
    middle, limit = _numbers(image), Fraction(radius)
    return all(
        max(c - limit, 0) <= low <= high <= min(c + limit, 1)
        for low, high, c in zip(case.lower, case.upper, middle, strict=True)
    )


def holds(case: Case, image: ImageArray) -> bool:
    """Whether a witness is in a box, exactly: what makes its answer "sat"."""
    return all(low <= x <= high for low, x, high in zip(case.lower, _numbers(image), case.upper, strict=True))


def _numbers(image: ImageArray) -> list[Fraction]:
    return [Fraction(value) for value in image.flatten().tolist()]


def picture(seed: int, network: corgi.Network) -> ImageArray:
    """A drawn sign, through the model's own recipe: input [C, H, W], pixels multiples of 1/64."""
    spec = importlib.util.spec_from_file_location("draw_sign", REPOSITORY / "models/demo/draw_sign.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sign.png"
        Image.fromarray(module.draw(seed)).save(target)
        drawn = corgi.read_image(target, network)
    return np.asarray(np.round(drawn * 64) / 64, dtype=np.float32)


def planted(folder: Path) -> list[tuple[str, str, str]]:
    """Spikes that gradients do not find."""
    known = []
    for number, (inputs, steepness) in enumerate(SPIKES):
        rng = np.random.default_rng(number)
        point = rng.integers(1, 256, inputs) / np.float32(256)
        side = math.isqrt(inputs)
        shape = (1, 1, side, side) if side * side == inputs and number % 2 else (1, inputs)
        model = spike(point.astype(np.float32), steepness, shape)
        name = f"onnx/spike{inputs}.onnx"
        _write(folder / name, model.SerializeToString())
        for level, answer in ((Fraction(999, 1000), "sat"), (Fraction(1001, 1000), "unsat")):
            syntax = Syntax.V2 if number % 2 else Syntax.V1
            case = Case((Fraction(0),) * inputs, (Fraction(1),) * inputs, ((at_least(0, level),),))
            shapes = (shape, (1, 2)) if syntax is Syntax.V2 else ((inputs,), (2,))
            spec = Spec(*shapes, (case,), syntax)
            known.append(_instance(folder, name, f"spike{inputs}_{float(level)}", spec, answer))
    return known


def spike(point: np.ndarray, steepness: float, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Y_0 = relu(1 - s sum_i |x_i - p_i|), |.| as two relus; Y_1 = sum_i x_i."""
    inputs = len(point)
    eye, ones = np.eye(inputs, dtype=np.float32), np.ones((2 * inputs, 1), dtype=np.float32)
    weights = {
        "sides": np.concatenate([eye, -eye], 1),
        "minus_point": np.concatenate([-point, point]),
        "steep": -steepness * ones,
        "one": np.ones(1, dtype=np.float32),
        "total": np.ones((inputs, 1), dtype=np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["X"], ["x"]),
        helper.make_node("Gemm", ["x", "sides", "minus_point"], ["beside"]),
        helper.make_node("Relu", ["beside"], ["distances"]),
        helper.make_node("Gemm", ["distances", "steep", "one"], ["below"]),
        helper.make_node("Relu", ["below"], ["spike"]),
        helper.make_node("Gemm", ["x", "total"], ["sum"]),
        helper.make_node("Concat", ["spike", "sum"], ["Y"], axis=1),
    ]
    return _model(nodes, weights, shape, (1, 2))


def plain(folder: Path) -> list[tuple[str, str, str]]:
    """Y = (relu(x_0) - relu(x_1), relu(x_0 + x_1 - 1), -x_0) over boxes in [-1, 1]^2."""
    weights = {
        "first": np.array([[1, 0, 1, 1, -1], [0, 1, 1, 0, 0]], dtype=np.float32),
        "bias": np.array([0, 0, -1, 0, 0], dtype=np.float32),
        "second": np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], dtype=np.float32),
        "none": np.zeros(3, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["X", "first", "bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "second", "none"], ["Y"]),
    ]
    name = "onnx/plain.onnx"
    _write(folder / name, _model(nodes, weights, (1, 2), (1, 3)).SerializeToString())
    one, half = Fraction(1), Fraction(1, 2)
    square = ((-one, -one), (one, one))
    corner = ((half, half), (one, one))
    beyond = (corner, (at_least(0, Fraction(6, 10)),))  # there Y_0 = x_0 - x_1 is at most 0.5
    y0_minus_y1 = Constraint((), ((0, -one), (1, one)), Fraction(1, 10))  # Y_0 >= Y_1 + 0.1
    specs = {
        # Y_0 is at most 1, at (1, x_1 <= 0).
        "most_1": (((square, (at_least(0, Fraction(11, 10)),)),), "unsat"),
        "reaches_1": (((square, (at_least(0, Fraction(9, 10)),)),), "sat"),
        # Y_0 >= 0.5 needs x_0 >= x_1 + 0.5 or x_1 <= 0, Y_1 >= 0.6 needs x_0 + x_1 >= 1.6: then x_1 >= 0.6.
        "both_no": (((square, (at_least(0, half), at_least(1, Fraction(6, 10)))),), "unsat"),
        "both_yes": (((square, (at_least(0, half), at_least(1, Fraction(4, 10)))),), "sat"),
        # Y_1 is at most 1, at (1, 1); Y_0 - Y_1 is 1 at (1, 0).
        "boxes_no": ((beyond, (square, (at_least(1, Fraction(11, 10)),))), "unsat"),
        "boxes_yes": ((beyond, (square, (y0_minus_y1,))), "sat"),
        # Y_2 = -x_0 exactly: inputs and outputs in one constraint.
        "mixed_no": (((square, (Constraint(((0, one),), ((2, one),), Fraction(1, 10)),)),), "unsat"),
        "mixed_yes": (((square, (Constraint(((0, one),), ((2, one),), Fraction(-1, 10)),)),), "sat"),
    }  # fmt: skip
    known = []
    for number, (label, (parts, answer)) in enumerate(specs.items()):
        syntax = Syntax.V2 if number % 2 else Syntax.V1
        cases = tuple(Case(*box, (alternative,)) for box, alternative in parts)
        shapes = ((1, 2), (1, 3)) if syntax is Syntax.V2 else ((2,), (3,))
        known.append(_instance(folder, name, f"plain_{label}", Spec(*shapes, cases, syntax), answer))
    return known


def at_least(output: int, level: Fraction) -> Constraint:
    """Y_output >= level."""
    return Constraint((), ((output, Fraction(-1)),), level)


def _model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in weights.items()],
    )
    for node in graph.node:
        node.name = node.output[0]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _instance(folder: Path, model: str, name: str, spec: Spec, answer: str) -> tuple[str, str, str]:
    path = f"vnnlib/{name}.vnnlib"
    _write(folder / path, spec_bytes(spec_text(spec, (f"expected: {answer}",)), packed=False))
    with (folder / INSTANCES).open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([model, path, f"{TIMEOUT:g}"])
    return model, path, answer


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    main()
