"""Exported files say what corgi certifies, to every reader."""

from __future__ import annotations

import io
import os
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import vnnlib
import vnnlib.compat
from numpy.typing import NDArray
from rich.console import Console

import corgi
from corgi.errors import UsageError
from corgi.network.wrap import Normalisation
from corgi.reporting.vnn_text import export_text
from corgi.terms import Answer
from corgi.types import Ball, Where
from corgi.vnnlib.decide import decide_files
from corgi.vnnlib.export import Export, export_cam, write_instance
from corgi.vnnlib.instances import read_instances
from corgi.vnnlib.read import parse_spec, read_spec
from corgi.vnnlib.spec import Syntax
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network

Image = NDArray[np.float32]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> corgi.Network:
    """Two convolutions and a pool, a 5 x 5 map of a 2 x 12 x 12 image; pixels are normalised on loading."""
    rng = np.random.default_rng(3)
    net = OnnxModel((2, 12, 12))
    value = net.node("Relu", net.node("Conv", IMAGE, float32(rng, 4, 2, 3, 3, scale=0.5), float32(rng, 4)))
    value = net.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = net.node("Relu", net.node("Conv", value, float32(rng, 5, 4, 1, 1), 1 + float32(rng, 5)))
    path = net.save(tmp_path_factory.mktemp("model"), net.head(value, float32(rng, 3, 5)))
    return corgi.load(path, normalisation=Normalisation((0.4, 0.5), (0.25,), 1.0))


@pytest.fixture(scope="module")
def image() -> Image:
    return np.random.default_rng(4).random((2, 12, 12), dtype=np.float32)


def exported_map(export: Export, images: Image) -> Image:
    session = ort.InferenceSession(export.model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in images])


def test_the_exported_network_is_the_map(network: corgi.Network, image: Image) -> None:
    export = export_cam(network, image, 0.01, k=4)
    images = np.stack([image, np.random.default_rng(0).random(image.shape, dtype=np.float32)])
    found = exported_map(export, images)
    for mine, theirs in zip(images, found, strict=True):
        expected = network.cam(mine, export.explanation.class_id).numpy().reshape(-1)
        assert theirs == pytest.approx(expected, abs=1e-4 * np.abs(expected).max())
    assert export.notes == ()
    onnx.checker.check_model(onnx.load_from_string(export.model), full_check=True)


@pytest.mark.parametrize("seed", range(4))
def test_all_kinds_of_networks_are_exported(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    network = corgi.load(random_cam_network(rng, tmp_path))
    image = rng.random(network.input_shape, dtype=np.float32)
    if corgi.explain(network, image, 3).top.tie:
        with pytest.raises(UsageError, match="tie"):
            export_cam(network, image, 0.001, k=3)
        return
    export = export_cam(network, image, 0.001, k=3)
    found = exported_map(export, image[None])[0]
    assert set(np.argsort(-found)[:3].tolist()) == set(export.explanation.top.pixels)


@pytest.mark.parametrize("syntax", Syntax)
@pytest.mark.parametrize("eps", [1e-6, 0.01, 1 / 3])
def test_the_box_holds_the_ball_and_is_float32(
    network: corgi.Network, image: Image, syntax: Syntax, eps: float
) -> None:
    edge = image.copy()
    edge[0, 0, :2] = 0, 1
    export = export_cam(network, edge, eps, k=4, syntax=syntax)
    (case,) = parse_spec(export.spec.decode()).cases
    radius, centre = Fraction(eps), [Fraction(v) for v in edge.flatten().tolist()]
    for low, high, c in zip(case.lower, case.upper, centre, strict=True):
        assert low <= max(c - radius, 0) <= min(c + radius, 1) <= high
        assert 0 <= low <= high <= 1
        assert Fraction(float(np.float32(float(low)))) == low
        assert Fraction(float(np.float32(float(high)))) == high
    box = Ball(torch.from_numpy(edge), eps).box(torch.float32)
    assert [float(v) for v in case.lower] == box.lower.flatten().tolist()
    assert [float(v) for v in case.upper] == box.upper.flatten().tolist()


def test_the_independent_parser_reads_the_export(network: corgi.Network, image: Image) -> None:
    export = export_cam(network, image, 0.01, k=4, syntax=Syntax.V2)
    (case,) = vnnlib.compat.transform(vnnlib.parse_query_string(export.spec.decode()))
    box = Ball(torch.from_numpy(image), 0.01).box(torch.float32)
    assert [low for low, _ in case.input_box] == box.lower.flatten().tolist()
    assert [high for _, high in case.input_box] == box.upper.flatten().tolist()
    top, found = set(export.explanation.top.pixels), set()
    for polytope in case.output_constraints:
        ((row,), (side,)) = polytope.coeff_matrix, polytope.rhs
        assert side == 0
        found.add((row.index(1.0), row.index(-1.0)))
        assert sum(map(abs, row)) == 2
    # Satisfied where an outside pixel is at least an inside one: Y_in - Y_out <= 0.
    assert found == {(i, p) for i in top for p in range(network.pixels) if p not in top}


def test_the_independent_parser_of_the_first_syntax_reads_the_export(
    network: corgi.Network, image: Image, tmp_path: Path
) -> None:
    """Release 0.0.1 of `vnnlib`, which reads VNN-LIB 1.0; $VNNLIB_1 is the folder it was unpacked in."""
    folder = os.environ.get("VNNLIB_1")
    if folder is None:
        pytest.skip("set VNNLIB_1 to a folder with release 0.0.1 of vnnlib: pip install --target")
    export = export_cam(network, image, 0.01, k=4, packed=True)
    write_instance(export, tmp_path, 60)
    mine = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "vnnlib"}
    sys.path.insert(0, folder)
    try:
        from vnnlib.compat import read_vnnlib_simple  # type: ignore[attr-defined]

        ((box, rows),) = read_vnnlib_simple(str(tmp_path / export.spec_name), image.size, network.pixels)
    finally:
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "vnnlib"]:
            del sys.modules[name]
        sys.modules.update(mine)
    (case,) = read_spec(tmp_path / export.spec_name).cases
    assert [low for low, _ in box] == [float(v) for v in case.lower]
    assert [high for _, high in box] == [float(v) for v in case.upper]
    assert len(rows) == len(case.alternatives)
    for (matrix, side), (constraint,) in zip(rows, case.alternatives, strict=True):
        assert {j: v for j, v in enumerate(matrix[0]) if v} == {j: float(v) for j, v in constraint.outputs}
        assert side.reshape(-1)[0] == 0


@pytest.mark.parametrize("syntax", Syntax)
def test_answers_agree_with_the_bracket_of_the_exact_radius(
    network: corgi.Network, image: Image, syntax: Syntax, tmp_path: Path
) -> None:
    result = corgi.verify(network, image, k=4)
    assert result.attack is not None
    assert result.attack.radius is not None
    certified, broken = result.certificate.radius, result.attack.radius
    for eps, answer in ((0.98 * certified, Answer.UNSAT), (1.02 * broken, Answer.SAT)):
        export = export_cam(network, image, eps, k=4, syntax=syntax, packed=True)
        model, spec = write_instance(export, tmp_path, 60)
        outcome = decide_files(model, spec, time.monotonic() + 60)
        assert outcome.answer is answer
        if outcome.witness is not None:
            point = outcome.witness.inputs.reshape(image.shape)
            assert np.abs(point.astype(np.float64) - image).max() <= eps + 1e-7
            cam = network.cam(point, export.explanation.class_id).reshape(-1)
            inside = list(export.explanation.top.pixels)
            assert float(cam[inside].min()) <= float(np.delete(cam.numpy(), inside).max())


def test_ties_bad_radii_and_other_networks_are_refused(
    network: corgi.Network, image: Image, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="tie at rank"):
        export_cam(network, np.full_like(image, 0.5), 0.01, k=4)
    for eps in (0.0, -1.0, 2.0, float("nan")):
        with pytest.raises(UsageError, match="--eps"):
            export_cam(network, image, eps, k=4)
    export = export_cam(network, image, 0.01, k=4)
    for _ in range(2):
        write_instance(export, tmp_path, 60)
    assert len((tmp_path / "instances.csv").read_text().splitlines()) == 1
    for other in (replace(export, model=b"other"), replace(export, spec=b"other")):
        with pytest.raises(UsageError, match="holds something else"):
            write_instance(other, tmp_path, 60)
    assert (tmp_path / export.spec_name).read_bytes() == export.spec


def test_instances_are_told_apart(network: corgi.Network, image: Image, tmp_path: Path) -> None:
    """Radii that agree in six digits, and another image of the same name; a list without a final newline."""
    exports = [export_cam(network, image, eps, k=4, name="one") for eps in (0.010000012, 0.010000049)]
    mirrored = np.ascontiguousarray(image[:, ::-1])
    exports.append(export_cam(network, mirrored, 0.010000012, k=4, name="one"))
    names = [export.spec_name for export in exports]
    assert len(set(names)) == 3
    assert all(f"_eps{export.eps!r}." in export.spec_name for export in exports)
    for export in exports:
        write_instance(export, tmp_path, 60)
        path = tmp_path / "instances.csv"
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert [instance.vnnlib for instance in read_instances(tmp_path / "instances.csv")] == [
        tmp_path / name for name in names
    ]


@pytest.mark.parametrize("name", ["stra\u00dfe", "a,b c", "x\n(assert (>= Y_0 1e9))\r;", "../up"])
def test_names_of_images_change_nothing(
    network: corgi.Network, image: Image, name: str, tmp_path: Path
) -> None:
    plain, other = (export_cam(network, image, 0.01, k=4, name=n) for n in ("plain", name))
    assert parse_spec(other.spec.decode("ascii")) == parse_spec(plain.spec.decode("ascii"))
    assert ascii(name) in other.spec.decode("ascii")
    model, spec = write_instance(other, tmp_path, 60)
    assert [(i.onnx, i.vnnlib) for i in read_instances(tmp_path / "instances.csv")] == [(model, spec)]
    assert {path.parent.parent for path in (model, spec)} == {tmp_path}
    assert spec.name.isascii()


def test_gradcam_weights_are_the_images_own(network: corgi.Network, image: Image) -> None:
    other = corgi.load(network.path, map_kind=corgi.MapKind.GRADCAM)
    export = export_cam(other, image, 0.001, k=4, name="mine")
    assert "mine" in export.model_name
    assert any("rounded weights" in note for note in export.notes)
    shown = printed(export)
    for text in (export.spec.decode(), shown):
        assert "(Grad-CAM, its weights fixed at this image)" in text
        assert "rounded weights" in text


def test_what_is_said_is_true_of_the_files(network: corgi.Network, image: Image) -> None:
    export = export_cam(network, image, 0.13387199, k=4)
    comments = export.spec.decode()
    assert "the l_inf ball of radius 0.13387199 around" in comments
    shown = printed(export)
    assert "unsat: for every image within 0.1338 of this one" in shown
    assert "the 4 largest pixels of the map of class" in shown
    (note,) = network.graph.notes
    for text in (comments, shown):
        assert f"read so: {note}" in text


def printed(export: Export) -> str:
    console = Console(width=10_000, record=True, file=io.StringIO())
    console.print(export_text(export, "m", "s"))
    return console.export_text()


def test_only_what_may_change_has_room_in_the_box(
    network: corgi.Network, image: Image, tmp_path: Path
) -> None:
    """And the solver decides it as `verify` does."""
    scale = torch.zeros(1, *image.shape[1:], dtype=torch.float64)
    scale[0, :2, :3] = 1
    where = Where(scale, "inside of 0,0,2,1")
    export = export_cam(network, image, 0.01, k=4, where=where)
    whole = export_cam(network, image, 0.01, k=4)
    assert export.spec_name != whole.spec_name
    assert b"pixels inside of 0,0,2,1 alone change" in export.spec
    (found,) = parse_spec(export.spec.decode()).cases
    free = np.array([low < high for low, high in zip(found.lower, found.upper, strict=True)])
    assert np.array_equal(free.reshape(image.shape), np.broadcast_to(scale.numpy() == 1, image.shape))
    model, spec = write_instance(export, tmp_path, 30)
    result = decide_files(model, spec, time.monotonic() + 30)
    verified = corgi.verify(network, image, k=4, where=where, eps=0.01)
    answers = {corgi.Status.PROVED: Answer.UNSAT, corgi.Status.REFUTED: Answer.SAT}
    assert result.answer is answers[verified.status]
