"""Interval arithmetic against exact values: no rounding is forgiven."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from corgi.engines.patch import intervals
from corgi.engines.patch.intervals import (
    Centre,
    cast_out,
    cast_up,
    centres,
    interval_step,
    magnitude,
    weighted,
)
from corgi.engines.patch.prepare import Maximum, cast
from corgi.engines.rigour import fan_in, fan_out, gamma, unit
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Interval
from tests.engines.patch import exact as ex

SHAPE = (4, 5, 4)

CURVES = {
    "silu": layers.Silu(),
    "silu that falls": layers.Silu(-1.5, 0.7),
    "gelu": layers.Gelu(),
    "hard swish": layers.HardSwish(1 / 6, 0.5),
    "hard swish, other constants": layers.HardSwish(0.7, 1.2, -2.0),
    "elu": layers.Elu(1.3, 0.8, 1.1),
    "softplus": layers.Softplus(),
}


def weights(generator: torch.Generator, scale: str, *shape: int) -> Tensor:
    """Float64 weights: of one size, from 1e-8 to 1e8, or such that large ones all but cancel."""
    plain = torch.randn(*shape, generator=generator, dtype=torch.float64)
    if scale == "plain":
        return plain
    powers = torch.randint(-8, 9, shape, generator=generator)
    if scale == "mixed":
        return plain * 10.0**powers
    # Along the first axis w, -w (1 + small), ...: 1e8 beside what is left of 1e8 - 1e8.
    large = 1e8 * plain[:1] * (-1.0) ** torch.arange(shape[0]).reshape(-1, *(1 for _ in shape[1:]))
    return large + plain


def cancelling_inputs(weight: Tensor, scale: str) -> Tensor:
    """The same along the input channels, so that sums cancel, too."""
    if scale != "cancelling" or weight.shape[1] < 2:
        return weight
    weight = weight.clone()
    weight[:, 1::2] = -weight[:, 0 : 2 * (weight.shape[1] // 2) : 2] * (1 + 1e-7)
    return weight


def conv(
    generator: torch.Generator, scale: str, out: int, inputs: int, *kernel: int, **options
) -> layers.Conv:
    weight = cancelling_inputs(
        weights(generator, scale, out, inputs // options.get("groups", 1), *kernel), scale
    )
    return layers.Conv(weight, weights(generator, scale, out), **options)


def graphs(generator: torch.Generator, scale: str) -> dict[str, TorchGraph]:
    """Every layer but Maximum behind a convolution, whose rounding it inherits."""

    def first() -> layers.Conv:
        return conv(generator, scale, 4, 4, 2, 2, padding=(1, 1))

    def chain(*made: nn.Module) -> TorchGraph:
        steps = [Step(f"{i}", "", layer, (f"{i}",), f"{i + 1}") for i, layer in enumerate(made)]
        return TorchGraph(tuple(steps), "0", f"{len(steps)}")

    def branches(layer: nn.Module) -> TorchGraph:
        options = {"kernel": (3, 3), "padding": (1, 1)}
        two = [conv(generator, scale, 4, 4, *options["kernel"], padding=options["padding"]) for _ in range(2)]
        steps = [Step("", "", c, ("0",), name) for c, name in zip(two, "ab", strict=True)]
        return TorchGraph((*steps, Step("", "", layer, ("a", "b"), "1")), "0", "1")

    channel, field = (4, 1, 1), (4, 6, 5)
    return {
        "conv": chain(
            first(), conv(generator, scale, 3, 4, 2, 3, stride=(2, 1), dilation=(1, 2), padding=(2, 0))
        ),
        "conv of many channels": chain(  # 13 blocks of channels
            conv(generator, scale, 37, 4, 1, 1), conv(generator, scale, 2, 37, 3, 3, padding=(1, 1))
        ),
        "grouped": chain(first(), conv(generator, scale, 4, 4, 3, 1, groups=2, padding=(0, 1))),
        "affine by channel": chain(
            first(), layers.Affine(weights(generator, scale, *channel), weights(generator, scale, *channel))
        ),
        "affine by place": chain(
            first(), layers.Affine(weights(generator, scale, *field), weights(generator, scale, *field))
        ),
        "add": branches(layers.Add()),
        "sub": branches(layers.Sub()),
        "concat": branches(layers.Concat(1)),
        "mul": branches(layers.Mul()),
        "square": chain(first(), layers.Power(2)),
        "inverse root": chain(
            first(),
            layers.Sigmoid(),
            layers.Affine(torch.ones(1).double(), torch.full((1,), 0.1).double()),
            layers.Power(-0.5),
        ),
        "resample": chain(
            first(),
            layers.Resample(weights(generator, scale, 3, 6), weights(generator, scale, 7, 5)),
        ),
        "sigmoid": chain(first(), layers.Sigmoid()),
        "tanh": chain(first(), layers.Tanh()),
        **{name: chain(first(), layer) for name, layer in CURVES.items()},
        "sigmoid of a convolution of tanh": chain(first(), layers.Tanh(), first(), layers.Sigmoid()),
    }


NAMES = list(graphs(torch.Generator(), "plain"))
every_layer = pytest.mark.parametrize("name", NAMES)
every_scale = pytest.mark.parametrize("scale", ["plain", "mixed", "cancelling"])
both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def propagated(
    graph: TorchGraph, image: Tensor, box: Interval
) -> tuple[dict[str, Centre], dict[str, Interval]]:
    """Centres and deviations of all values; the box is of deviations and says the precision."""
    middle = centres(graph, image[None])
    narrow = cast(graph, box.lower.dtype, "cpu")
    known = {graph.input_name: Interval(box.lower[None], box.upper[None])}
    for step in narrow.steps:
        before = [middle[name] for name in step.inputs]
        inputs = [known[name] for name in step.inputs]
        known[step.output] = interval_step(step.layer, inputs, before, middle[step.output])
    return middle, known


def samples(generator: torch.Generator, box: Interval) -> list[Tensor]:
    """Deviations of every kind: corners, the middle, the ends, random ones."""
    signs = torch.rand(3, *SHAPE, generator=generator) < 0.5
    share = torch.rand(2, *SHAPE, generator=generator, dtype=torch.float64)
    lower, upper = box.lower.double(), box.upper.double()
    inner = lower + share * (upper - lower)
    return [
        lower,
        upper,
        torch.zeros(SHAPE).double(),
        *torch.where(signs, lower, upper),
        *inner.clamp(lower, upper),
    ]


@both
@every_scale
@every_layer
def test_intervals_hold_exact_values(name: str, scale: str, dtype: torch.dtype) -> None:
    for seed, radius in enumerate((1e-6, 0.3)):
        generator = torch.Generator().manual_seed(seed)
        graph = graphs(generator, scale)[name]
        image = torch.rand(*SHAPE, generator=generator, dtype=torch.float64)
        ends = (torch.rand(2, *SHAPE, generator=generator) * radius).to(dtype)
        box = Interval(-ends[0], ends[1])
        middle, known = propagated(graph, image, box)
        for deviation in samples(generator, box):
            # The image itself, exactly: a sum of two floats is none in general.
            found = {graph.input_name: ex.exact(image) + ex.exact(deviation)}
            for step in graph.steps:
                found[step.output] = ex.step_value(step.layer, [found[n] for n in step.inputs])
                off = found[step.output] - ex.exact(middle[step.output].value[0])
                interval = known[step.output]
                assert interval.lower.dtype is dtype
                assert ex.at_most(interval.lower[0], off)
                assert ex.at_least(interval.upper[0], off)


@both
@pytest.mark.parametrize("layer", [layers.Add(), layers.Sub()], ids=["add", "sub"])
def test_sums_of_intervals_are_rounded_outwards(layer: nn.Module, dtype: torch.dtype) -> None:
    """Two points of very different size: a sum that is rounded to nearest is wrong half of the time."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, 20, 20)
    powers = 10.0 ** torch.randint(-6, 7, (2, *shape), generator=generator)
    a, b = (torch.randn(2, *shape, generator=generator, dtype=torch.float64) * powers).to(dtype)
    zero = Centre(torch.zeros(shape, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
    found = interval_step(layer, [Interval(a, a), Interval(b, b)], [zero, zero], zero)
    exact = ex.step_value(layer, [ex.exact(a), ex.exact(b)])
    assert ex.at_most(found.lower, exact)
    assert ex.at_least(found.upper, exact)


@every_scale
@every_layer
def test_centre_errors_hold(name: str, scale: str) -> None:
    """|step(its centres) - what float64 computes| <= error, exactly."""
    generator = torch.Generator().manual_seed(5)
    graph = graphs(generator, scale)[name]
    image = torch.rand(*SHAPE, generator=generator, dtype=torch.float64)
    found = centres(graph, image[None])
    for step in graph.steps:
        value = ex.step_value(step.layer, [ex.exact(found[n].value[0]) for n in step.inputs])
        off = value - ex.exact(found[step.output].value[0])
        error = found[step.output].error[0, :, None, None].expand(*off.numbers.shape)
        assert ex.at_least(error, off)
        assert ex.at_most(-error, off)


def test_centres_of_many_channels_are_surer_than_a_running_sum() -> None:
    """The error set aside does not grow with the number of terms, but with that of a block."""
    generator = torch.Generator().manual_seed(6)
    deep = conv(generator, "plain", 2, 512, 3, 3)
    image = torch.rand(512, 3, 3, generator=generator, dtype=torch.float64)
    found = centres(TorchGraph((Step("", "", deep, ("0",), "1"),), "0", "1"), image[None])["1"]
    absolute = nn.functional.conv2d(image[None], deep.weight.abs()).amax((2, 3))
    running = gamma(fan_in(deep), torch.float64) * absolute
    assert bool((found.error < running / 50).all())


@both
def test_intervals_are_not_much_wider_than_they_need_to_be(dtype: torch.dtype) -> None:
    """Rounding may cost a millionth in float32, not more; else rigour would hide looseness."""
    generator = torch.Generator().manual_seed(1)
    layer = conv(generator, "plain", 4, 4, 3, 3)
    image = torch.rand(*SHAPE, generator=generator, dtype=torch.float64)
    ends = torch.rand(2, *SHAPE, generator=generator).to(dtype)
    graph = TorchGraph((Step("", "", layer, ("0",), "1"),), "0", "1")
    _, known = propagated(graph, image, Interval(-ends[0], ends[1]))
    positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    low, high = (e[None].double() for e in (-ends[0], ends[1]))
    exact_upper = nn.functional.conv2d(high, positive) + nn.functional.conv2d(low, negative)
    over = float((known["1"].upper.double() - exact_upper).max())
    assert 0 <= over <= 400 * unit(dtype) * float(exact_upper.max())


@every_layer
def test_an_unknown_input_is_an_unknown_output(name: str) -> None:
    """NaN and infinite ends never become finite ones where they are read."""
    generator = torch.Generator().manual_seed(2)
    graph = graphs(generator, "plain")[name]
    image = torch.rand(*SHAPE, generator=generator, dtype=torch.float64)
    ends = torch.full(SHAPE, 0.1, dtype=torch.float64)
    for low, high in ((torch.nan, torch.nan), (-torch.inf, torch.inf), (torch.nan, 0.1), (-0.1, torch.inf)):
        middle = centres(graph, image[None])
        box = Interval(-ends[None], ends[None].clone())
        known = {graph.input_name: box}
        step = graph.steps[-1]
        for earlier in graph.steps[:-1]:
            inputs = [known[n] for n in earlier.inputs]
            before = [middle[n] for n in earlier.inputs]
            known[earlier.output] = interval_step(earlier.layer, inputs, before, middle[earlier.output])
        for name_in in step.inputs:
            shape = known[name_in].lower.shape
            known[name_in] = Interval(torch.full(shape, low).double(), torch.full(shape, high).double())
        before = [middle[n] for n in step.inputs]
        found = interval_step(step.layer, [known[n] for n in step.inputs], before, middle[step.output])
        if isinstance(step.layer, layers.Sigmoid | layers.Tanh):
            # An infinite end is a value of these: their own range.
            flat = (0.0, 1.0) if isinstance(step.layer, layers.Sigmoid) else (-1.0, 1.0)
            value = middle[step.output].value
            assert not (found.lower > flat[0] - value).any() or math.isfinite(low)
            assert not (found.upper < flat[1] - value).any() or math.isfinite(high)
            continue
        if isinstance(step.layer, layers.Power) and step.layer.exponent < 0 and math.isfinite(low):
            # Of numbers above a positive one, without limit, the inverse lies above 0.
            assert (found.lower <= -middle[step.output].value).all() or math.isfinite(high)
            continue
        held = torch.isfinite(found.lower) & torch.isfinite(found.upper)
        if isinstance(step.layer, layers.Conv):  # a window that lies in the padding reads nothing
            ones = torch.ones_like(known[step.inputs[0]].lower)
            plain = layers.Conv(
                torch.ones_like(step.layer.weight), step.layer.bias * 0, *geometry(step.layer)
            )
            held &= plain(ones) > 0
        assert not held.any()


def geometry(layer: layers.Conv) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
    return layer.stride, layer.padding, layer.dilation, layer.groups


def test_maximum_has_no_interval_of_its_own() -> None:
    """Its windows live in bounds.py; a missing rule is an error, not a bound."""
    known = Interval(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    centre = Centre(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1))
    with pytest.raises(TypeError, match="Maximum"):
        interval_step(Maximum(), [known], [centre], centre)


@given(st.lists(st.floats(width=64, allow_nan=False), min_size=1, max_size=8))
def test_casts_round_outwards(numbers) -> None:
    values = torch.tensor(numbers, dtype=torch.float64)
    up = cast_up(values, torch.float32)
    assert up.dtype is torch.float32
    assert (up.double() >= values).all()
    below = up.nextafter(torch.full_like(up, -torch.inf)).double()
    assert ((below < values) | (up.double() == values)).all(), "and not further than they have to"
    wide = cast_out(Interval(values, values), torch.float32)
    assert (wide.lower.double() <= values).all()
    assert (wide.upper.double() >= values).all()


def test_cast_keeps_the_unknown() -> None:
    values = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=torch.float64)
    up = cast_up(values, torch.float32)
    assert up[0].isnan()
    assert up[1] == torch.inf
    assert (up[2].double() >= values[2]).all()


@given(st.integers(0, 99), st.sampled_from([1, 2]), st.sampled_from(["plain", "mixed"]))
def test_weighted_bounds_absolute_sums(seed, groups, scale) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = conv(generator, scale, 4, 4, 2, 3, groups=groups)
    value = torch.randn(2, 4, 5, 5, generator=generator, dtype=torch.float64)
    absolute = nn.functional.conv2d(value.abs(), layer.weight.abs(), groups=groups)
    size = value.abs().amax((2, 3))
    assert (weighted(layer, size)[:, :, None, None] >= absolute).all()


@given(st.integers(1, 40), st.integers(0, 99))
def test_gamma_bounds_float32_sums(terms, seed) -> None:
    """Random sums of products in float32, summed up one by one, against exact ones."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, terms, generator=generator) * 10.0 ** torch.randint(
        -6, 6, (2, terms), generator=generator
    )
    total = torch.zeros(())
    for x, y in zip(a, b, strict=True):
        total = total + x * y
    products = ex.exact(a) * ex.exact(b)
    off = ex.Exact(products.numbers.sum(keepdims=True), products.scale) - ex.exact(total[None])
    allowed = gamma(terms, torch.float32) * float((a.double() * b.double()).abs().sum())
    assert ex.at_least(torch.tensor([allowed]).double(), off)
    assert ex.at_most(-torch.tensor([allowed]).double(), off)


def test_gamma_gives_up_where_nothing_is_known() -> None:
    assert gamma(2**23, torch.float32) == math.inf
    assert gamma(10, torch.float64) < 1e-14


@given(st.integers(0, 999))
def test_fans_count_terms(seed) -> None:
    """fan_in: terms of an output; fan_out: terms of a coefficient on the input, for patches of a size."""
    generator = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    groups, height, width = integer(1, 2), integer(1, 4), integer(1, 4)
    kernel = (integer(1, 3), integer(1, 3))
    options = {"stride": (integer(1, 2), integer(1, 2)), "dilation": (integer(1, 2), integer(1, 2))}
    layer = layers.Conv(torch.ones(4, 4 // groups, *kernel), torch.ones(4), groups=groups, **options)
    x = torch.zeros(1, 4, 20, 20, requires_grad=True)
    out = layer(x)
    (counts,) = torch.autograd.grad(out[:, :, :height, :width].sum(), x, retain_graph=True)
    assert counts.max() <= fan_out(layer, (height, width))
    (counts,) = torch.autograd.grad(out[0, 0, 0, 0], x)
    assert counts.sum() + 1 == fan_in(layer)


def test_magnitude() -> None:
    known = Interval(torch.tensor([-3.0, 1.0, torch.nan]), torch.tensor([2.0, 4.0, 1.0]))
    found = magnitude(known)
    assert found[:2].tolist() == [3.0, 4.0]
    assert found[2].isnan()
    assert intervals.by_channel(Interval(-torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3))).tolist() == [
        [1.0, 1.0]
    ]
