"""Affine forms over boxes of parameters hold what the network computes: of every layer, and exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from corgi.changes.family import Family, LinearFamily
from corgi.engines.forward import engine as engine_module
from corgi.engines.forward import tail as tail_module
from corgi.engines.forward.engine import ForwardEngine
from corgi.engines.forward.images import images
from corgi.engines.forward.rules import RULES, conv_remainder, forward_step
from corgi.engines.forward.tail import narrowed, tail_of
from corgi.engines.forward.values import larger, larger_of_zero, own_of_zero
from corgi.engines.lowering import explained_class
from corgi.engines.parametric import AffineForms, Boxes
from corgi.engines.patch.prepare import LAYERS, Maximum, prepare
from corgi.errors import EngineError
from corgi.network import layers
from corgi.network.network import Network, load
from tests.engines.trunks import ALIASES, CASES, network
from tests.onnx_models import IMAGE, OnnxModel, float32
from tests.soundness.networks import NETWORKS

DTYPE = torch.float64


def family_of(loaded: Network, dimensions: int, seed: int = 0) -> Family:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(loaded.input_shape, generator=generator, dtype=DTYPE)
    directions = torch.randn(dimensions, *loaded.input_shape, generator=generator, dtype=DTYPE)
    return LinearFamily(image, tuple("abc"[:dimensions]), (True,) * dimensions, directions)


def boxes_of(dimensions: int, half: float, count: int = 3, seed: int = 0) -> Boxes:
    generator = torch.Generator().manual_seed(seed)
    middle = torch.rand(count, dimensions, generator=generator, dtype=DTYPE) - 0.5
    return Boxes(middle - half, middle + half)


def maps_on(
    loaded: Network, family: Family, boxes: Boxes, samples: int = 60
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Of each box points, its corners among them, their maps by float64, and what these may be off by."""
    generator = torch.Generator().manual_seed(5)
    corners = itertools.product((0.0, 1.0), repeat=family.dimensions)
    shares = torch.cat(
        [
            torch.tensor(list(corners), dtype=DTYPE),
            torch.rand(samples, family.dimensions, generator=generator),
        ]
    )
    for i in range(len(boxes)):
        points = boxes.lower[i] + shares * (boxes.upper[i] - boxes.lower[i])
        with torch.no_grad():
            cams = loaded.head.cam(loaded.trunk(family.at(points)), 0).flatten(1)
        yield points, cams, 1e-11 * float(cams.abs().max())


def check_inside(loaded: Network, family: Family, boxes: Boxes, samples: int = 60) -> AffineForms:
    """Maps at the corners of boxes and at points in them, by the network's own float64, are in the bounds."""
    found = ForwardEngine().bind(loaded, 0).maps(family, boxes)
    maps, narrower = found.forms, found.narrower(torch.arange(len(boxes)))
    assert torch.equal(maps.terms, narrower.terms)
    assert bool((narrower.remainder <= maps.remainder).all())
    known = narrower.interval()
    for i, (points, cams, slack) in enumerate(maps_on(loaded, family, boxes, samples)):
        assert bool((cams >= known.lower[i] - slack).all())
        assert bool((cams <= known.upper[i] + slack).all())
        # Not only the interval: the form at each point, too.
        half = boxes.half[i].clamp(min=1e-300)
        shifts = (points - boxes.middle[i]) / half
        forms = maps.terms[i, 0] + shifts.to(DTYPE) @ maps.terms[i, 1:]
        assert bool(((cams - forms).abs() <= narrower.remainder[i] + slack).all())
    return maps


@pytest.mark.parametrize("name", [*CASES, *ALIASES])
def test_every_layer_holds_what_the_network_computes(name: str, tmp_path: Path) -> None:
    loaded = network(tmp_path, (CASES | ALIASES)[name])
    for dimensions, half in ((1, 0.2), (2, 0.05), (1, 1e-7)):
        check_inside(loaded, family_of(loaded, dimensions), boxes_of(dimensions, half))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_other_kinds(name: str, tmp_path: Path) -> None:
    loaded = load(NETWORKS[name](np.random.default_rng(3), tmp_path))
    for half in (0.05, 1e-5):
        check_inside(loaded, family_of(loaded, 2), boxes_of(2, half))


def test_small_boxes_are_exact_but_for_rounding(tmp_path: Path) -> None:
    """Where no unit changes its sign, nothing but rounding is left in the remainder."""
    loaded = network(tmp_path, CASES["4 relu before"])
    maps = check_inside(loaded, family_of(loaded, 1), boxes_of(1, 1e-9))
    assert float(maps.remainder.max()) < 1e-12
    assert float(maps.terms[:, 1].abs().max()) > 1e-10


def test_every_layer_of_a_prepared_trunk_has_a_rule() -> None:
    assert {*RULES} == {*LAYERS}


def test_a_layer_without_a_rule_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = network(tmp_path, CASES["activations"])
    monkeypatch.setattr(engine_module, "RULES", {layers.Conv: None, Maximum: None, layers.Affine: None})
    with pytest.raises(EngineError, match=r"culprit|tanh|sigmoid|Add") as error:
        ForwardEngine().bind(loaded, 0)
    assert "no rule for" in error.value.message
    with pytest.raises(TypeError, match="no rule"):
        forward_step(nn.Softsign(), [])


NUMBERS = st.floats(-4, 4, allow_nan=False, width=32).map(float)


@st.composite
def forms(draw: st.DrawFn, count: int = 4, dimensions: int = 2) -> AffineForms:
    """`count` values over one box, numbers of every size."""
    terms = draw(st.lists(NUMBERS, min_size=count * (1 + dimensions), max_size=count * (1 + dimensions)))
    scale = draw(st.sampled_from([1.0, 1e-3, 1e-9, 1e-17]))
    remainder = draw(st.lists(NUMBERS.map(abs), min_size=count, max_size=count))
    found = torch.tensor(terms, dtype=DTYPE).reshape(1, 1 + dimensions, count)
    found[:, 1:] *= scale
    return AffineForms(
        found, torch.tensor([remainder], dtype=DTYPE) * draw(st.sampled_from([0.0, 1e-18, scale]))
    )


def exactly(form: AffineForms, at: int, point: tuple[int, ...], side: int) -> Fraction:
    """The value at a corner (or 0) of the box with all of the remainder on one side, as a fraction."""
    value = Fraction(float(form.terms[0, 0, at])) + side * Fraction(float(form.remainder[0, at]))
    return value + sum(Fraction(float(g)) * s for g, s in zip(form.terms[0, 1:, at], point, strict=True))


def holds_exactly(form: AffineForms, at: int, point: tuple[int, ...], value: Fraction) -> bool:
    return exactly(form, at, point, -1) <= value <= exactly(form, at, point, 1)


POINTS = [*itertools.product((-1, 1), repeat=2), (0, 0), (0, 1)]


@given(forms())
def test_the_larger_of_a_value_and_zero_in_fractions(value: AffineForms) -> None:
    found = larger_of_zero(AffineForms(value.terms.clone(), value.remainder)).boxed()
    for at, point, side in itertools.product(range(4), POINTS, (-1, 0, 1)):
        assert holds_exactly(found, at, point, max(exactly(value, at, point, side), Fraction(0)))


@given(forms(), forms())
def test_the_larger_of_two_values_in_fractions(first: AffineForms, second: AffineForms) -> None:
    found = larger(first, second).boxed()
    for at, point, one, other in itertools.product(range(4), POINTS, (-1, 1), (-1, 1)):
        largest = max(exactly(first, at, point, one), exactly(second, at, point, other))
        assert holds_exactly(found, at, point, largest)


@given(forms())
def test_bounds_of_a_form_in_fractions(value: AffineForms) -> None:
    known = value.interval()
    for at, point, side in itertools.product(range(4), POINTS, (-1, 1)):
        exact = exactly(value, at, point, side)
        assert Fraction(float(known.lower[0, at])) <= exact <= Fraction(float(known.upper[0, at]))


@given(forms(count=8), st.integers(0, 2**32 - 1))
def test_linear_layers_in_fractions(value: AffineForms, seed: int) -> None:
    """A convolution of 8 entries, an affine map and a sum, remainders on the side that moves them most."""
    rng = np.random.default_rng(seed)
    weight, bias = (torch.from_numpy(rng.normal(size=size)) for size in ((1, 8, 1, 1), 1))
    conv = layers.Conv(weight, bias)
    shaped = AffineForms(value.terms[..., None, None], value.remainder[..., None, None])
    found = _flat(forward_step(conv, [shaped]))
    scale, shift = (torch.from_numpy(rng.normal(size=(8, 1, 1))) for _ in range(2))
    moved = _flat(forward_step(layers.Affine(scale, shift), [shaped]))
    twice = _flat(forward_step(layers.Sub(), [shaped, forward_step(layers.Affine(scale, shift), [shaped])]))
    for point, side in itertools.product(POINTS, (-1, 1)):
        weights = [Fraction(float(w)) for w in weight.flatten()]
        signs = [side if w >= 0 else -side for w in weights]
        parts = [w * exactly(value, at, point, signs[at]) for at, w in enumerate(weights)]
        assert holds_exactly(found, 0, point, sum(parts) + Fraction(float(bias)))
        for at in range(8):
            a, b = (Fraction(float(v.flatten()[at])) for v in (scale, shift))
            exact = exactly(value, at, point, side)
            assert holds_exactly(moved, at, point, a * exact + b)
            assert holds_exactly(twice, at, point, exact - (a * exact + b))


def _flat(form: AffineForms) -> AffineForms:
    return AffineForms(form.terms.flatten(2), form.remainder.flatten(1))


@given(forms(), forms())
def test_products_in_fractions(first: AffineForms, second: AffineForms) -> None:
    shaped = [AffineForms(v.terms[..., None, None], v.remainder[..., None, None]) for v in (first, second)]
    found = _flat(forward_step(layers.Mul(), shaped))
    for at, point, one, other in itertools.product(range(4), POINTS, (-1, 1), (-1, 1)):
        exact = exactly(first, at, point, one) * exactly(second, at, point, other)
        assert holds_exactly(found, at, point, exact)


@given(st.lists(NUMBERS, min_size=8, max_size=8), NUMBERS, NUMBERS, st.sampled_from([0.0, 1e-9, 0.3]))
def test_images_in_fractions(numbers: list[float], t: float, u: float, width: float) -> None:
    """The clipped image at ends and in the middle of a box of two parameters."""
    image = torch.tensor([0.0, 1.0, 0.5, 0.3], dtype=torch.float32).to(DTYPE).reshape(1, 2, 2)
    directions = torch.tensor(numbers, dtype=DTYPE).reshape(2, 1, 2, 2)
    family = LinearFamily(image, ("t", "u"), (True, True), directions)
    lower = torch.tensor([[t, u]], dtype=DTYPE)
    boxes = Boxes(lower, lower + width)
    found = _flat(images(family, boxes))
    middle, half = ([Fraction(float(v)) for v in value[0]] for value in (boxes.middle, boxes.half))
    ends = [[Fraction(float(v)) for v in end[0]] for end in (boxes.lower, boxes.upper)]
    for chosen in itertools.product((0, 1), repeat=2):
        point = [ends[side][axis] for axis, side in enumerate(chosen)]
        shifts = [(p - m) / h if h else Fraction(0) for p, m, h in zip(point, middle, half, strict=True)]
        assert all(abs(s) <= 1 for s in shifts)
        for at in range(4):
            exact = Fraction(float(image.flatten()[at]))
            exact += sum(p * Fraction(float(a.flatten()[at])) for p, a in zip(point, directions, strict=True))
            exact = min(max(exact, Fraction(0)), Fraction(1))
            assert holds_exactly(found, at, tuple(shifts), exact)  # type: ignore[arg-type]


def test_what_is_not_known_says_nothing(tmp_path: Path) -> None:
    """NaN in a value, or infinity, makes everything it reaches unbounded, and never decides a window."""
    for wrong in (torch.nan, torch.inf, -torch.inf):
        terms = torch.zeros(1, 2, 3, dtype=DTYPE)
        terms[0, 0] = torch.tensor([wrong, 1.0, 2.0])
        value = AffineForms(terms, torch.zeros(1, 3, dtype=DTYPE))
        other = AffineForms(torch.zeros_like(terms), torch.zeros(1, 3, dtype=DTYPE))
        for found in (larger_of_zero(AffineForms(terms.clone(), value.remainder)), larger(other, value)):
            known = found.boxed().interval()
            assert not bool(torch.isfinite(known.lower[0, 0]) & torch.isfinite(known.upper[0, 0]))
    loaded = network(tmp_path, CASES["4 pool"])
    family = family_of(loaded, 1)
    boxes = Boxes(torch.tensor([[torch.nan]], dtype=DTYPE), torch.tensor([[0.5]], dtype=DTYPE))
    known = ForwardEngine().bind(loaded, 0).maps(family, boxes).forms.interval()
    assert bool(known.lower.isnan().any()) or bool(known.lower.isinf().any())


@given(st.integers(0, 10**6))
def test_windows_in_any_layout(seed: int) -> None:
    """Overlapping, dilated and padded windows, with and without 0: points of the input give the output."""
    rng = np.random.default_rng(seed)
    kernel, stride, dilation = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(3))
    pads = tuple(int(rng.integers(0, kernel[i % 2])) for i in range(4))
    layer = Maximum(kernel, stride, dilation, pads, zero=bool(rng.integers(2)))
    reach = [p + q for p, q in zip(layer.reach, (3, 4), strict=True)]
    terms = torch.from_numpy(rng.normal(size=(2, 2, 2, *reach)))
    terms[:, 1] *= 0.3
    remainder = torch.from_numpy(rng.uniform(0, 0.1, size=(2, 2, *reach)))
    inside = Maximum(kernel, stride, dilation, pads, zero=False).windows(torch.zeros(1, 1, *reach))
    if not bool(torch.isfinite(inside).any(-1).all()):
        return  # a window of padding alone, which no prepared trunk has
    found = forward_step(layer, [AffineForms(terms, remainder)])
    for s in (-1.0, -0.3, 0.0, 0.7, 1.0):
        noise = torch.from_numpy(rng.uniform(-1, 1, size=remainder.shape)) * remainder
        value = layer(terms[:, 0] + s * terms[:, 1] + noise)
        form = found.terms[:, 0] + s * found.terms[:, 1]
        assert value.shape == form.shape
        assert bool(((value - form).abs() <= found.remainder + 1e-12).all())


@st.composite
def near(draw: st.DrawFn) -> tuple[AffineForms, AffineForms]:
    """Two values that are large and nearly the same: what is rounded is more than the room of their mix."""
    large = draw(st.floats(1e7, 1e8))
    numbers = draw(st.lists(st.floats(-1e-3, 1e-3), min_size=6, max_size=6))
    terms = torch.tensor(numbers, dtype=DTYPE).reshape(2, 1, 3, 1)
    terms[:, 0, 0] += large
    none = torch.zeros(1, 1, dtype=DTYPE)
    return AffineForms(terms[0], none), AffineForms(terms[1], none)


@given(near())
def test_the_larger_of_large_values_in_fractions(values: tuple[AffineForms, AffineForms]) -> None:
    found = larger(*values).boxed()
    for point in POINTS:
        assert holds_exactly(found, 0, point, max(exactly(value, 0, point, 0) for value in values))


@given(near())
def test_differences_and_sums_in_fractions(values: tuple[AffineForms, AffineForms]) -> None:
    shaped = [AffineForms(v.terms[..., None, None], v.remainder[..., None, None]) for v in values]
    # Terms of very different sizes: their sums are not exact.
    shaped[1].terms[:, 1:] *= 1e9
    values = values[0], _flat(shaped[1])
    difference, total = (_flat(forward_step(layer, shaped)) for layer in (layers.Sub(), layers.Add()))
    for point in POINTS:
        first, second = (exactly(value, 0, point, 0) for value in values)
        assert holds_exactly(difference, 0, point, first - second)
        assert holds_exactly(total, 0, point, first + second)


@given(st.floats(1e-6, 1e-3), st.floats(0.1, 10))
def test_a_large_bias_in_fractions(small: float, bias: float) -> None:
    """What rounding the sum with a bias changes is a share of the bias, however small the value is."""
    terms = torch.tensor([small, small / 3], dtype=DTYPE).reshape(1, 2, 1, 1, 1)
    value = AffineForms(terms, torch.zeros(1, 1, 1, 1, dtype=DTYPE))
    weight = torch.full((1, 1, 1, 1), small, dtype=DTYPE)
    found = _flat(forward_step(layers.Conv(weight, torch.tensor([bias], dtype=DTYPE)), [value]))
    for s in (-1, 1):
        exact = Fraction(small) * (Fraction(small) + s * Fraction(float(terms[0, 1]))) + Fraction(bias)
        assert holds_exactly(found, 0, (s,), exact)


RELU, SAME = ("Relu", {}), ("conv", {"pads": [1, 1, 1, 1]})
TAILS: dict[str, tuple[list[tuple[str, dict]], int]] = {
    "two convolutions": ([("conv", {}), RELU, ("conv", {}), RELU], 5),
    "strides and padding": (
        [("conv", {"strides": [2, 1], "pads": [0, 1, 2, 1]}), RELU, ("conv", {"pads": [1, 2, 1, 0]})],
        3,
    ),
    "no Relu between": ([RELU, SAME, ("conv", {"strides": [1, 2]})], 4),
    "no Relu, padding": ([RELU, SAME, SAME], 4),
    "pool first": ([("MaxPool", {"kernel_shape": [2, 2]}), SAME, RELU], 2),
    "strides twice": ([("conv", {"strides": [2, 2], "pads": [1, 1, 1, 1]}), RELU, SAME, RELU, SAME], 5),
}


def tail_model(name: str, folder: Path) -> Network:
    rng = np.random.default_rng(6)
    model = OnnxModel((2, 11, 10))
    value = model.node("Relu", model.node("Conv", IMAGE, float32(rng, 6, 2, 3, 3), float32(rng, 6)))
    for op, attributes in TAILS[name][0]:
        operands = (float32(rng, 6, 6, 3, 3), float32(rng, 6)) if op == "conv" else ()
        value = model.node("Conv" if op == "conv" else op, value, *operands, **attributes)
    return load(model.save(folder, model.head(value, float32(rng, 3, 6))))


@pytest.mark.parametrize("name", TAILS)
def test_remainders_of_the_last_layers_at_once(name: str, tmp_path: Path) -> None:
    """They hold what samples are, and are narrower where there are several layers whose terms cancel."""
    loaded = tail_model(name, tmp_path)
    assert len(tail_of(prepare(loaded))) >= TAILS[name][1]
    family, boxes = family_of(loaded, 2), boxes_of(2, 0.05)
    found = ForwardEngine().bind(loaded, 0).maps(family, boxes)
    narrower = found.narrower(torch.tensor([2, 0]))
    assert bool((narrower.remainder <= found.forms.remainder[[2, 0]]).all())
    assert float(narrower.remainder.sum()) < 0.9 * float(found.forms.remainder[[2, 0]].sum())
    check_inside(loaded, family, boxes, samples=4000)
    check_inside(loaded, family, boxes_of(2, 1e-7))


@pytest.mark.parametrize("half", [0.05, 1e-12])
@pytest.mark.parametrize("name", TAILS)
def test_rows_of_the_last_layers_are_those_of_the_network(
    name: str, half: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each remainder is |K_v| own_v summed, K_v by automatic differentiation of what the layers do.

    In wide boxes it is made of chords, in narrow ones of rounding.
    """
    monkeypatch.setattr(tail_module, "_WORK", 1e6)
    loaded = tail_model(name, tmp_path)
    graph, head = prepare(loaded), explained_class(loaded, 0)
    tail, found = tail_of(graph), {graph.input_name: images(family_of(loaded, 2), boxes_of(2, half))}
    for step in graph.steps:
        found[step.output] = forward_step(step.layer, [found[name] for name in step.inputs])
    cams = forward_step(head, [found[graph.output_name]])
    narrower = narrowed(head, tail, found, cams)
    reached = 0
    for box in range(3):
        ends = []
        for number in range(1, len(tail) + 1):
            end = found[tail[number - 1].inputs[0]]
            left = end.remainder[box]
            partial = _jacobian(head, tail[:number], found, box, left) @ left.flatten()
            for before, step in enumerate(tail[:number]):
                own = _own(step.layer, found[step.inputs[0]].chosen(torch.tensor([box])))
                rows = _jacobian(head, tail[:before], found, box, found[step.output].remainder[box])
                partial = partial + rows @ own.flatten()
            ends.append(torch.minimum(partial, cams.remainder[box].flatten()))
        mine = narrower.remainder[box].flatten()
        above = [bool((mine >= one * (1 - 1e-12)).all()) for one in ends]
        close = [a and torch.allclose(mine, one, rtol=1e-5) for a, one in zip(above, ends, strict=True)]
        assert any(close)
        reached = max(reached, len(close) - close[::-1].index(True))
    assert reached == len(tail)


def _own(layer: nn.Module, value: AffineForms) -> Tensor:
    if isinstance(layer, layers.Conv):
        return conv_remainder(layer, torch.zeros_like(value.remainder), value)
    return own_of_zero(value)[1]


def _jacobian(head: nn.Module, after: tuple, found: dict, box: int, shape: Tensor) -> Tensor:
    """|K|: what the map has of each entry of a value, by the linear layers and slopes behind it."""

    def map_of(x: Tensor) -> Tensor:
        x = x[None]
        for step in reversed(after):
            if isinstance(step.layer, layers.Conv):
                conv = step.layer
                options = (conv.stride, conv.padding, conv.dilation, conv.groups)
                x = torch.nn.functional.conv2d(x, conv.weight, None, *options)
            else:
                x = x * own_of_zero(found[step.inputs[0]].chosen(torch.tensor([box])))[0]
        return torch.nn.functional.conv2d(x, head.weight).flatten()

    rows = torch.autograd.functional.jacobian(map_of, torch.zeros_like(shape))
    return rows.flatten(1).abs()
