"""Forms in many digits hold what a network computes: against exact fractions, and against float64."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from corgi.changes.family import LinearFamily
from corgi.engines.forward import engine as engine_module
from corgi.engines.forward import precise, precision
from corgi.engines.forward.engine import ForwardEngine, PreciseBounder
from corgi.engines.lowering import explained_class
from corgi.engines.parametric import AffineForms, Boxes
from corgi.engines.patch.prepare import Maximum, prepare
from corgi.network import layers
from corgi.network.network import Network, load
from tests.engines.forward.test_rules import boxes_of, family_of, maps_on
from tests.engines.trunks import ALIASES, CASES, network
from tests.onnx_models import IMAGE, OnnxModel

DTYPE = torch.float64
Exact = NDArray[Any]
"""Of fractions, [C, H, W]."""


@pytest.fixture(params=["float64 where it does", "digits throughout"])
def grids(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "digits throughout":
        monkeypatch.setattr(precision, "_GUARD", 200)
    return str(request.param)


def fractions(values: torch.Tensor) -> Exact:
    return np.vectorize(Fraction, otypes=[object])(values.numpy())


def conv_exactly(conv: layers.Conv, x: Exact) -> Exact:
    weight, (pad_y, pad_x) = fractions(conv.weight), conv.padding
    x = np.pad(x, ((0, 0), (pad_y, pad_y), (pad_x, pad_x)), constant_values=Fraction(0))
    outputs, inputs, kernel_y, kernel_x = weight.shape
    height = (x.shape[1] - (kernel_y - 1) * conv.dilation[0] - 1) // conv.stride[0] + 1
    width = (x.shape[2] - (kernel_x - 1) * conv.dilation[1] - 1) // conv.stride[1] + 1
    found = np.full((outputs, height, width), Fraction(0), dtype=object)
    for o, c, a, b in itertools.product(*map(range, weight.shape)):
        top, left = a * conv.dilation[0], b * conv.dilation[1]
        group = o // (outputs // conv.groups)
        rows = slice(top, top + (height - 1) * conv.stride[0] + 1, conv.stride[0])
        columns = slice(left, left + (width - 1) * conv.stride[1] + 1, conv.stride[1])
        found[o] += weight[o, c, a, b] * x[group * inputs + c, rows, columns]
    return found + fractions(conv.bias)[:, None, None]


def step_exactly(layer: nn.Module, *x: Exact) -> Exact:
    match layer:
        case layers.Conv():
            return conv_exactly(layer, x[0])
        case layers.Affine():
            return x[0] * fractions(layer.scale) + fractions(layer.shift)
        case layers.Add():
            return x[0] + x[1]
        case layers.Sub():
            return x[0] - x[1]
        case layers.Concat():
            return np.concatenate(x)
        case Maximum(zero=True) if layer.elementwise:
            return np.maximum(x[0], Fraction(0))
    raise TypeError(type(layer).__name__)


def map_exactly(loaded: Network, family: LinearFamily, t: float) -> list[Fraction]:
    """The map of the image at t."""
    graph = prepare(loaded, folding=False)
    image = fractions(family.image) + Fraction(t) * fractions(family.directions[0])
    found = {graph.input_name: np.minimum(np.maximum(image, Fraction(0)), Fraction(1))}
    for step in graph.steps:
        found[step.output] = step_exactly(step.layer, *(found[name] for name in step.inputs))
    return list(conv_exactly(explained_class(loaded, 0), found[graph.output_name]).flatten())


def known_of(loaded: Network, family: LinearFamily, boxes: Boxes) -> AffineForms:
    bounder = PreciseBounder.of(loaded, 0)
    assert bounder is not None
    return bounder.maps(family, boxes).forms


@pytest.mark.parametrize("name", [name for name in CASES if name != "activations"])
def test_forms_hold_the_exact_map(name: str, tmp_path: Path, grids: str) -> None:
    loaded = network(tmp_path, CASES[name])
    if PreciseBounder.of(loaded, 0) is None:
        pytest.skip("a layer that digits do not serve")
    family = family_of(loaded, 1)
    assert isinstance(family, LinearFamily)
    for t, half in ((0.25, 0.0), (-0.4, 2.0**-12), (0.1, 0.125)):
        boxes = Boxes(torch.tensor([[t - half]], dtype=DTYPE), torch.tensor([[t + half]], dtype=DTYPE))
        forms = known_of(loaded, family, boxes)
        for at in {t - half, t, t + half, t + half / 3}:
            try:
                exact = map_exactly(loaded, family, at)
            except TypeError:
                pytest.skip("a layer that fractions are not written for")
            share = (Fraction(at) - Fraction(t)) / Fraction(float(boxes.half)) if half else Fraction(0)
            for pixel, value in enumerate(exact):
                line = Fraction(float(forms.terms[0, 0, pixel]))
                line += share * Fraction(float(forms.terms[0, 1, pixel]))
                room = Fraction(float(forms.remainder[0, pixel]))
                room += sum(abs(Fraction(float(g))) for g in forms.terms[0, 2:, pixel])
                # Where the box was rounded outwards `at` is within it.
                assert abs(value - line) <= room + Fraction(2) ** -60 * abs(value)


@pytest.mark.parametrize("name", [*CASES, *ALIASES])
def test_forms_hold_what_float64_computes(name: str, tmp_path: Path, grids: str) -> None:
    loaded = network(tmp_path, (CASES | ALIASES)[name])
    if PreciseBounder.of(loaded, 0) is not None:
        for dimensions, half in ((1, 0.2), (2, 0.05), (1, 1e-7)):
            check(loaded, dimensions, boxes_of(dimensions, half))


def check(loaded: Network, dimensions: int, boxes: Boxes) -> None:
    family = family_of(loaded, dimensions)
    assert isinstance(family, LinearFamily)
    known = known_of(loaded, family, boxes).interval()
    for i, (_, cams, slack) in enumerate(maps_on(loaded, family, boxes)):
        assert bool((cams >= known.lower[i] - slack).all())
        assert bool((cams <= known.upper[i] + slack).all())


def test_digits_leave_next_to_nothing_at_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is the rounding of the map's own numbers to float64."""
    monkeypatch.setattr(precision, "_GUARD", 200)
    loaded = network(tmp_path, CASES["4 relu before"])
    family, point = family_of(loaded, 1), torch.tensor([[0.3]], dtype=DTYPE)
    assert isinstance(family, LinearFamily)
    forms = known_of(loaded, family, Boxes(point, point))
    assert float((forms.remainder / forms.size).max()) < 2.0**-48


def test_pixels_alike_share_the_chord_of_their_clipping(tmp_path: Path) -> None:
    loaded = network(tmp_path, CASES["4 relu before"])
    image = torch.full(loaded.input_shape, 0.95, dtype=DTYPE)
    family = LinearFamily(image, ("t",), (False,), torch.ones_like(image)[None])
    box = Boxes(torch.tensor([[0.04]], dtype=DTYPE), torch.tensor([[0.06]], dtype=DTYPE))
    grid = precision.Precision.of(prepare(loaded, folding=False), explained_class(loaded, 0), image)
    one = precise.PrecisePass(prepare(loaded, folding=False), explained_class(loaded, 0), grid, 1000)
    clipped = one.image(family, box)
    assert clipped.count == one.count == 3
    known = clipped.rounded().interval()
    assert bool((known.lower <= 0.99).all())
    assert bool(((known.upper >= 1) & (known.upper < 1.02)).all())


def test_a_pixel_that_touches_white_needs_no_chord(tmp_path: Path) -> None:
    loaded = network(tmp_path, CASES["4 relu before"])
    image = torch.ones(loaded.input_shape, dtype=DTYPE)
    family = LinearFamily(image, ("t",), (False,), torch.ones_like(image)[None])
    box = Boxes(torch.tensor([[0.0]], dtype=DTYPE), torch.tensor([[0.1]], dtype=DTYPE))
    grid = precision.Precision.of(prepare(loaded, folding=False), explained_class(loaded, 0), image)
    one = precise.PrecisePass(prepare(loaded, folding=False), explained_class(loaded, 0), grid, 1000)
    assert one.image(family, box).count == 2
    assert bool((one.image(family, box).rounded().terms[0, 0] == 1).all())


def test_too_many_undecided_units_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_MOST", 1)
    loaded = network(tmp_path, CASES["4 relu before"])
    family = family_of(loaded, 1)
    assert isinstance(family, LinearFamily)
    forms = known_of(loaded, family, boxes_of(1, 0.3))
    assert bool(torch.isinf(forms.remainder).all())


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_known_says_nothing(tmp_path: Path, wrong: float) -> None:
    """A box that is no box gives no bounds."""
    loaded = network(tmp_path, CASES["4 relu before"])
    family = family_of(loaded, 1)
    assert isinstance(family, LinearFamily)
    boxes = Boxes(torch.tensor([[wrong]], dtype=DTYPE), torch.tensor([[wrong]], dtype=DTYPE))
    known = known_of(loaded, family, boxes).interval()
    assert not bool(torch.isfinite(known.lower).any() | torch.isfinite(known.upper).any())


def test_shallow_networks_are_bounded_in_float64(tmp_path: Path) -> None:
    loaded = network(tmp_path, CASES["4 relu before"])
    assert not isinstance(ForwardEngine().bind(loaded, 0), PreciseBounder)


@pytest.mark.parametrize("kind", ["normalised", "averaged"])
def test_constants_that_float64_does_not_hold_are_those_of_the_file(
    kind: str, tmp_path: Path, grids: str
) -> None:
    """65536 (x / 3 - float32(1/3) x) + x, and the same of a mean that does not count its padding."""
    net = OnnxModel((1, 3, 3), 17)
    value = net.node("Conv", IMAGE, np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32))
    share = np.float32(1 / 3 if kind == "normalised" else 1 / 9)
    if kind == "normalised":
        constants = (np.float32([number]) for number in (1, 0, 0, 9))
        made = net.node("BatchNormalization", value, *constants, epsilon=0.0)
        other = net.node("Mul", value, share)
    else:
        made = net.node("AveragePool", value, kernel_shape=[3, 3], pads=[1] * 4)
        kernel = np.full((1, 1, 3, 3), share, np.float32)
        other = net.node("Conv", value, kernel, np.zeros(1, np.float32), pads=[1] * 4)
    both = net.node("Concat", net.node("Sub", made, other), value, axis=1)
    loaded = load(net.save(tmp_path, net.head(both, np.float32([[65536, 1], [2, 1]]))))
    image = torch.full((1, 3, 3), 0.7, dtype=DTYPE)
    family = LinearFamily(image, ("t",), (False,), torch.ones_like(image)[None])
    point = torch.zeros(1, 1, dtype=DTYPE)
    forms = known_of(loaded, family, Boxes(point, point))
    count, centre, x = (1, 0, Fraction(0.7)) if kind == "normalised" else (9, 4, Fraction(0.7))
    true = Fraction(1, 3) if kind == "normalised" else Fraction(1)
    exact = 65536 * x * (true - count * Fraction(float(share))) + x
    off = abs(exact - Fraction(float(forms.terms[0, 0, centre])))
    assert off <= Fraction(float(forms.remainder[0, centre]))


def test_chords_of_equal_pixels_share_a_column_only_if_they_are_the_same_line(tmp_path: Path) -> None:
    """One pixel is seen in the map and one is not, so their forms differ by an ulp behind the first clip."""
    loaded = network(tmp_path, CASES["4 relu before"])
    image = torch.full(loaded.input_shape, 0.5, dtype=DTYPE)
    graph, head = prepare(loaded, folding=False), explained_class(loaded, 0)
    one = precise.PrecisePass(graph, head, precision.Precision.of(graph, head, image), 1000)
    half = torch.tensor([1e-3, 1e-3, 1.1e-3], dtype=DTYPE)
    slope = torch.tensor([0.5, 0.25, 0.25], dtype=DTYPE)
    one.count, where = 2, torch.arange(3)
    one.precision.amplification[graph.input_name].fill_(1.0)
    same = torch.full((2, 3), 0.5, dtype=DTYPE)
    alike = torch.cat([same, slope[None], half[None]])
    assert len({*one.born(half, where, graph.input_name, alike).column.tolist()}) == 3
    assert len({*one.born(half, where, graph.input_name, same).column.tolist()}) == 1


def test_a_division_that_is_exact_leaves_no_rest(tmp_path: Path) -> None:
    """(x - 0.5) / 0.5 is as exact as its constants: a rest would be taken for an error."""
    for divisor, exact in ((0.5, True), (3.0, False)):
        net = OnnxModel((1, 3, 3), 17)
        value = net.node("Div", net.node("Sub", IMAGE, np.float32(0.5)), np.float32(divisor))
        value = net.node("Conv", value, np.ones((2, 1, 1, 1), np.float32), np.zeros(2, np.float32))
        loaded = load(net.save(tmp_path, net.head(value, np.float32([[1, 2], [2, 1]]))))
        made = [step.layer for step in prepare(loaded, folding=False).steps if step.op == "Div"]
        assert [layer.rest is None for layer in made] == [exact]
