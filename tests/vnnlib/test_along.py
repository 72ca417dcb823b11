"""Exported changes: the network of t is corgi's map of changed images; its answers are those of `sweep`."""

from __future__ import annotations

import io
import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import numpy_helper
from rich.console import Console

import corgi
from corgi.changes.gamma import Gamma
from corgi.changes.geometry import Rotation
from corgi.changes.given import Basis
from corgi.changes.interface import Change
from corgi.changes.lens import Blur
from corgi.changes.light import Brightness, Contrast
from corgi.changes.weather import Fog
from corgi.cli.exits import Exit
from corgi.errors import UsageError
from corgi.network.wrap import Normalisation
from corgi.properties import Overlap
from corgi.reporting.vnn_text import export_text
from corgi.terms import Answer, Status
from corgi.vnnlib.along import export_change, pieces
from corgi.vnnlib.decide import decide_files
from corgi.vnnlib.export import Export, write_instance
from corgi.vnnlib.network import load_plain
from corgi.vnnlib.read import read_spec
from corgi.vnnlib.spec import Syntax
from tests.cli.test_cli import corgi as run
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.soundness.test_families import spike

Image = NDArray[np.float32]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> corgi.Network:
    """A convolution, a pool, a 5 x 5 map of a 2 x 12 x 12 image; pixels are normalised on loading."""
    rng = np.random.default_rng(3)
    net = OnnxModel((2, 12, 12))
    value = net.node("Relu", net.node("Conv", IMAGE, float32(rng, 4, 2, 3, 3, scale=0.5), float32(rng, 4)))
    value = net.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    path = net.save(tmp_path_factory.mktemp("model"), net.head(value, float32(rng, 3, 4)))
    return corgi.load(path, normalisation=Normalisation((0.4, 0.5), (0.25,), 1.0))


@pytest.fixture(scope="module")
def image() -> Image:
    return np.random.default_rng(4).random((2, 12, 12), dtype=np.float32)


def written(export: Export, folder: Path) -> tuple[Path, Path]:
    return write_instance(export, folder, 60)


def answer(export: Export, folder: Path) -> Answer:
    return decide_files(*written(export, folder), time.monotonic() + 60).answer


@pytest.mark.parametrize("change", [Fog(), Blur(), Brightness(), Contrast()])
@pytest.mark.parametrize("syntax", list(Syntax))
def test_the_network_of_t_is_the_map_of_changed_images(
    change: Change, syntax: Syntax, network: corgi.Network, image: Image, tmp_path: Path
) -> None:
    export = export_change(network, image, change, 0.3, k=4, syntax=syntax)
    model, spec = written(export, tmp_path)
    plain, asked = load_plain(model), read_spec(spec)
    family = change.family(torch.from_numpy(image).to(torch.float64))
    ends = asked.cases[0].lower + asked.cases[0].upper
    assert [float(end) for end in ends] == pytest.approx([-0.3 if change.two_sided else 0.0, 0.3], rel=1e-7)
    assert ends[0] <= Fraction(-0.3 if change.two_sided else 0.0)
    assert ends[1] >= Fraction(0.3)
    points = torch.linspace(*map(float, ends), 7, dtype=torch.float64)[:, None]
    found = plain.forward(plain.trunk, points)
    for one, values in zip(family.at(points), found, strict=True):
        expected = network.cam(one, export.explanation.class_id).reshape(-1)
        assert torch.allclose(values, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize(("size", "expected"), [(0.02, Answer.UNSAT), (0.2, Answer.SAT)])
def test_answers_are_those_of_sweep(size: float, expected: Answer, tmp_path: Path) -> None:
    network, image = spike(tmp_path, 0.56, 0.01)
    known = corgi.sweep(network, image, "brightness", sizes=(size,), k=1).status
    assert known is {Answer.UNSAT: Status.PROVED, Answer.SAT: Status.REFUTED}[expected]
    assert answer(export_change(network, image, Brightness(), size, k=1), tmp_path / "out") is expected


@pytest.mark.parametrize("seed", range(4))
def test_several_parameters_and_properties_agree_with_sweep(
    seed: int, network: corgi.Network, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((2, 12, 12), dtype=np.float32)
    change = Basis(torch.from_numpy(rng.normal(size=(2, 2, 12, 12))))
    found = corgi.sweep(network, image, change, sizes=(1e-3, 0.3), k=4, property=Overlap(3), time_limit=20)
    for size, status in found.sizes:
        export = export_change(network, image, change, size, k=4, property=Overlap(3))
        said = answer(export, tmp_path / f"{size}")
        assert (status, said) not in ((Status.PROVED, Answer.SAT), (Status.REFUTED, Answer.UNSAT))
        if size == 1e-3:
            assert (status, said) == (Status.PROVED, Answer.UNSAT)
        else:
            assert (status, said) == (Status.REFUTED, Answer.SAT)


finite = st.floats(-1e3, 1e3, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 1e-20)


@given(arrays(np.float64, (1, 1, 2, 3), elements=finite))
@settings(deadline=None)
def test_directions_are_sums_of_float32_exactly(values: NDArray[np.float64]) -> None:
    found = pieces(torch.from_numpy(values))
    assert all(piece.dtype is torch.float32 for piece in found)
    for place in np.ndindex(values.shape):
        assert sum(Fraction(float(piece[place])) for piece in found) == Fraction(values[place])


@pytest.mark.parametrize("value", [1e39, -1e39, 1e-50, math.nan])
def test_directions_that_float32_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="beyond the range of float32"):
        pieces(torch.full((1, 1, 1, 1), value, dtype=torch.float64))


def test_weights_of_the_file_are_image_and_directions(network: corgi.Network, image: Image) -> None:
    family = Contrast().family(torch.from_numpy(image).to(torch.float64))
    export = export_change(network, image, Contrast(), 0.1, k=4)
    initial = onnx.load_from_string(export.model).graph.initializer
    arrays_ = {one.name: numpy_helper.to_array(one) for one in initial}
    rows = arrays_["change_A"].astype(object)
    for pixel, (got, want) in enumerate(zip(rows, family.directions.flatten().tolist(), strict=True)):
        assert sum(Fraction(float(one)) for one in got) == Fraction(want), pixel
    assert np.array_equal(arrays_["change_x"], image.reshape(-1))


def test_what_is_no_box_of_directions_is_refused(network: corgi.Network, image: Image) -> None:
    for change in (Gamma(), Rotation()):
        with pytest.raises(UsageError, match=f"change {change}: not affine in its parameters"):
            export_change(network, image, change, 0.1, k=4)
    for size in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="expected a finite number > 0"):
            export_change(network, image, Fog(), size, k=4)
    with pytest.raises(UsageError, match="tie at rank"):
        export_change(network, np.full_like(image, 0.5), Fog(), 0.1, k=4)


def test_files_of_other_questions_have_other_names(network: corgi.Network, image: Image) -> None:
    exports = [
        export_change(network, image, Fog(), 0.1, k=4),
        export_change(network, image, Fog(), 0.2, k=4),
        export_change(network, image, Blur(), 0.1, k=4),
        export_change(network, image, Fog(), 0.1, k=3),
        export_change(network, image[:, ::-1].copy(), Fog(), 0.1, k=4),
    ]
    assert len({one.spec_name for one in exports}) == len(exports)
    assert len({one.model_name for one in exports}) == 3
    assert exports[0].model == exports[1].model


def test_text_and_comments_say_which_images(network: corgi.Network, image: Image) -> None:
    export = export_change(network, image, Fog(), 0.1, k=4, name="sign")
    console = Console(width=10_000, file=io.StringIO())
    console.print(export_text(export, "m.onnx", "s.vnnlib"))
    said = console.file.getvalue()
    assert "unsat: for every image of the change fog up to size 0.1, the 4 largest pixels" in said
    comments = export.spec.decode().partition("(")[0] + export.spec.decode()[:2000]
    assert "along the change 'fog' of 'sign' up to size 0.1: 'fog' in [0.0, 0.1" in comments


def test_from_the_command_line(tmp_path: Path) -> None:
    network, image = spike(tmp_path, 0.56, 0.01)
    np.save(tmp_path / "image.npy", image)
    files, out = (network.path, tmp_path / "image.npy"), tmp_path / "out"
    for size in ("2%", "20%"):
        found = run("export", *files, out, "--change", "brightness", "--size", size, "--k", 1)
        assert found.exit_code == Exit.OK, found.output
    decided = run("vnn", "run", out / "instances.csv")
    assert "1 sat, 1 unsat" in decided.stdout, decided.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "either --eps, of a ball, or --change and --size"),
        (("--eps", "0.1", "--change", "fog"), "either --eps, of a ball, or --change and --size"),
        (("--change", "fog"), "--change and --size: the one needs the other"),
        (("--eps", "0.1", "--size", "0.1"), "--change and --size: the one needs the other"),
        (("--change", "fog", "--size", "0.1", "--where", "0,0,1,1"), "--where: of a ball"),
        (("--change", "mist", "--size", "0.1"), "no change 'mist'"),
        (("--change", "fog", "--size", "0"), "expected a finite number > 0"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    network, image = spike(tmp_path, 0.56, 0.01)
    np.save(tmp_path / "image.npy", image)
    found = run("export", network.path, tmp_path / "image.npy", tmp_path / "out", *options)
    assert found.exit_code == Exit.ERROR
    assert said in " ".join(found.output.split())
