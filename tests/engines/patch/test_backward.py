"""Backward passes against closed forms, exact values and each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.patch.backward import met
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.halfspace import box_fields, least
from corgi.engines.patch.intervals import centres
from corgi.engines.patch.patches import Patches, Places, distinct_places
from corgi.engines.patch.prepare import Maximum, cast, prepare
from corgi.engines.rigour import unit
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.network.network import load
from corgi.types import Interval
from tests.engines.patch import exact as ex
from tests.engines.patch.test_patches import patches
from tests.engines.trunks import CASES, MULTIPLIED, PATCH_CASES, RESAMPLED, between, network
from tests.onnx_models import random_cam_network

both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def bounds_of(graph: TorchGraph, images: Tensor, radius: float, dtype: torch.dtype, **options) -> BallBounds:
    """Bounds of balls around images [B, C, H, W], without a pixel box."""
    ends = torch.full(images.shape, radius).to(dtype)
    given = {"refine": True, "budget": 2**28, **options}
    return BallBounds.over(
        cast(graph, dtype, "cpu"), centres(graph, images.double()), Interval(-ends, ends), **given
    )


def every_unit(
    graph: TorchGraph, bounds: BallBounds, signs: tuple[float, ...] = (1.0, -1.0)
) -> tuple[Patches, Tensor]:
    """A row for every unit of the feature map and sign, and the rows' values in the middle."""
    value = bounds.relaxation.centres[graph.output_name].value
    ball, channel, y, x = torch.ones_like(value).nonzero().unbind(1)
    dtype = bounds.relaxation.dtype
    rows = torch.nn.functional.one_hot(channel, value.shape[1]).to(dtype)[:, :, None, None]
    places, place = distinct_places(*(index.numpy() for index in (ball, y, x)))
    signed = torch.cat([sign * rows for sign in signs])
    at_centre = torch.cat([sign * value.flatten() for sign in signs])
    return Patches(signed, places, np.tile(place, len(signs))), at_centre


def unit_bounds(graph: TorchGraph, bounds: BallBounds, enough: float | None = None) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of every unit of the feature map, each flat."""
    where = torch.ones_like(bounds.relaxation.centres[graph.output_name].value[:, 0], dtype=torch.bool)
    bounds.require(graph.output_name, where)
    rows, at_centre = every_unit(graph, bounds)
    lower, upper = bounds.lower_rows(graph.output_name, rows, at_centre, enough).chunk(2)
    return lower, -upper


LINEAR = [
    "1 grouped", "1 depthwise widening", "1 dilated grouped asymmetric", "1 even kernel, same",
    "2 affine chain", "5 average", "5 pad then average", "constant map", "strided", "depthwise strided",
    "grouped dilated", "strided beyond the kernel", "kernel larger than the value",
    "padding beyond the kernel", "average, padding not counted", "average, ceil_mode", "twice itself",
    "resize, copies", "resize, linear", "resize, corners", "resize, smaller", "resize, picks",
    "mean of the map", "mean of channels", "sum of columns",
]  # fmt: skip


@both
@pytest.mark.parametrize("case", LINEAR)
def test_linear_networks_are_bounded_exactly(case: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Of a linear network the least value over the ball is value - radius |gradient|."""
    net = network(tmp_path, {**CASES, **PATCH_CASES, **RESAMPLED}[case])
    graph = prepare(net)
    steps = [s for s in graph.steps if type(s.layer).__name__ != "Maximum"]
    if len(steps) != len(graph.steps):  # a Relu at the end: what feeds it
        assert steps == list(graph.steps[:-1])
        graph = TorchGraph(tuple(steps), graph.input_name, steps[-1].output)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, *net.input_shape, generator=generator, dtype=torch.float64)
    radius = 0.125
    lower, upper = unit_bounds(graph, bounds_of(graph, images, radius, dtype))
    jacobians = [torch.autograd.functional.jacobian(lambda x: graph(x)[0].flatten(), i[None]) for i in images]
    reach = radius * torch.stack(jacobians).flatten(2).abs().sum(2).flatten()
    value = graph(images).flatten()
    share = 1e-4 if dtype is torch.float32 else 1e-11
    for found, exact, sign in ((lower, value - reach, 1), (upper, value + reach, -1)):
        slack = share * (1 + exact.abs() + reach)
        assert (sign * found <= sign * exact + 1e-13 * (1 + exact.abs() + reach)).all()
        assert (sign * found >= sign * exact - slack).all()


def generated(seed: int, folder: Path) -> tuple[TorchGraph, Tensor]:
    net = load(random_cam_network(np.random.default_rng(seed), folder))
    generator = torch.Generator().manual_seed(seed)
    return prepare(net), torch.rand(3, *net.input_shape, generator=generator)


@pytest.mark.parametrize("seed", [5, 6, 7, 17, 24, 28, 34])
def test_small_balls_are_bounded_by_the_gradient(seed: int, tmp_path: Path) -> None:
    """Where every window is decided the bound is the linear one. (Within 1e-6, lines of sigmoid are flat.)"""
    graph, images = generated(seed, tmp_path)
    image, radius = images[:1].double(), 1e-7
    lower, upper = unit_bounds(graph, bounds_of(graph, image, radius, torch.float64))
    jacobian = torch.autograd.functional.jacobian(lambda x: graph(x)[0].flatten(), image)
    value, reach = graph(image).flatten(), radius * jacobian.flatten(1).abs().sum(1)
    torch.testing.assert_close(lower, value - reach, rtol=0, atol=1e-3 * float(reach.max()) + 1e-12)
    torch.testing.assert_close(upper, value + reach, rtol=0, atol=1e-3 * float(reach.max()) + 1e-12)


@pytest.mark.parametrize("refine", [True, False], ids=["crown", "crown-ibp"])
@pytest.mark.parametrize("seed", [5, 6, 17, 28, 33])
def test_several_balls_at_once_are_as_each_alone(seed: int, refine: bool, tmp_path: Path) -> None:
    graph, images = generated(seed, tmp_path)
    together = unit_bounds(graph, bounds_of(graph, images, 0.05, torch.float64, refine=refine))
    alone = [
        unit_bounds(graph, bounds_of(graph, image[None], 0.05, torch.float64, refine=refine))
        for image in images
    ]
    for end, found in enumerate(together):
        torch.testing.assert_close(found, torch.cat([a[end] for a in alone]), rtol=1e-9, atol=1e-11)


@both
@pytest.mark.parametrize("seed", [5, 6, 17, 28, 33])
def test_rows_given_up_early_are_large_enough(seed: int, dtype: torch.dtype, tmp_path: Path) -> None:
    """With `enough`, a row is as good as without, or known to be at least that large; and sound."""
    graph, images = generated(seed, tmp_path)
    bounds = bounds_of(graph, images[:1], 0.05, dtype)
    rows, at_centre = every_unit(graph, bounds)
    where = torch.ones_like(bounds.relaxation.centres[graph.output_name].value[:, 0], dtype=torch.bool)
    bounds.require(graph.output_name, where)
    full = bounds.lower_rows(graph.output_name, rows, at_centre)
    for enough in (float(full.median()), 1e30):
        found = bounds.lower_rows(graph.output_name, rows, at_centre, enough)
        assert (found >= torch.minimum(full, torch.tensor(enough)) - 1e-12 * full.abs()).all()
        generator = torch.Generator().manual_seed(seed)
        for _ in range(2):
            deviation = 0.1 * torch.rand(images[0].shape, generator=generator, dtype=torch.float64) - 0.05
            value = graph((images[0].double() + deviation)[None])[0].flatten()
            held = found <= torch.cat([value, -value]) + 1e-11 * (1 + value.abs().max())
            assert held.all()


def case(name: str | int, folder: Path) -> tuple[TorchGraph, Tensor]:
    """A generated network, or a case of products, means and resizes."""
    if isinstance(name, int):
        return generated(name, folder)
    net = network(folder, between({**RESAMPLED, **MULTIPLIED}[name]))
    return prepare(net), torch.rand(3, *net.input_shape, generator=torch.Generator().manual_seed(0))


SPREAD = [
    "resize, added",
    "mean of everything",
    "squeeze, clip",
    "product of two values",
    "normalised by nodes",
]


@both
@pytest.mark.parametrize("refine", [True, False], ids=["crown", "crown-ibp"])
@pytest.mark.parametrize("seed", [5, 6, 17, 18, 28, 34, *SPREAD])
def test_rows_hold_exact_values(seed: int | str, refine: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    """No rounding is forgiven."""
    graph, images = case(seed, tmp_path)
    for radius in (0.003, 0.2):
        lower, upper = unit_bounds(graph, bounds_of(graph, images[:1], radius, dtype, refine=refine))
        generator = torch.Generator().manual_seed(len(str(seed)))
        ends = torch.full((), radius).to(dtype).double()
        for sign in torch.rand(2, *images[0].shape, generator=generator) < 0.5:
            # The sum may round to just outside the ball.
            corner = images[0].double() + torch.where(sign, ends, -ends) * (1 - 1e-12)
            value = ex.values(graph, corner)[graph.output_name]
            flat = ex.Exact(value.numbers.reshape(-1), value.scale)
            assert ex.at_most(lower, flat)
            assert ex.at_least(upper, flat)


@given(patches(largest=4, channels=3), st.integers(0, 30), st.integers(0, 999))
def test_met_finds_every_undecided_window_under_every_patch(rows, count, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 3, 6, 6)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask.view(-1)[torch.randperm(mask.numel(), generator=generator)[:count]] = True
    units = mask.nonzero()
    pool = Maximum((2, 3), (2, 1))
    row, window, at, elements = met(pool, rows, units.numpy().T)
    high, wide = rows.size
    spread = 2 * high, wide + 2
    expected = []
    for r, p in enumerate(rows.place.tolist()):
        for u, (ball, _, y, x) in enumerate(units.tolist()):
            down, right = y - int(rows.places.top[p]), x - int(rows.places.left[p])
            inside = 0 <= down < rows.size[0] and 0 <= right < rows.size[1]
            if inside and ball == int(rows.places.ball[p]):
                channel = int(units[u, 1])
                inside_spread = [
                    ((r * 3 + channel) * spread[0] + 2 * down + i) * spread[1] + right + j
                    for i in range(2)
                    for j in range(3)
                ]
                expected.append([r, u, ((r * 3 + channel) * high + down) * wide + right, *inside_spread])
    found = torch.cat([row[:, None], window[:, None], at[:, None], elements.view(-1, pool.elements)], 1)
    assert sorted(found.tolist()) == sorted(expected)


@both
def test_the_least_over_a_box_is_rounded_down(dtype: torch.dtype) -> None:
    """sum min(a l, a u), exactly, for many rows; entries of very different size, ends of either sign."""
    generator = torch.Generator().manual_seed(0)
    rows, shape = 300, (2, 4, 3)

    def numbers(*size: int) -> Tensor:
        powers = 10.0 ** torch.randint(-4, 5, size, generator=generator)
        return (torch.randn(*size, generator=generator, dtype=torch.float64) * powers).to(dtype)

    coefficients = numbers(rows, *shape)
    ends = torch.stack([numbers(rows, *shape), numbers(rows, *shape)])
    ends[:, ::3] = ends[0, ::3]  # points
    lower, upper = ends.amin(0), ends.amax(0)
    fields = [box_fields(low[None], high[None]) for low, high in zip(lower, upper, strict=True)]
    found = least(coefficients, *torch.cat(fields).chunk(2, 1))
    at = torch.where(coefficients >= 0, lower, upper)
    terms = ex.exact(coefficients) * ex.exact(at)
    exact = ex.Exact(terms.numbers.reshape(rows, -1).sum(1), terms.scale)
    assert ex.at_most(found, exact)
    largest = (coefficients.abs() * torch.maximum(lower.abs(), upper.abs())).double().sum((1, 2, 3))
    assert (exact.float() - found <= 64 * unit(dtype) * largest).all()


def test_coefficients_that_overlapping_windows_lose() -> None:
    """49 windows have one maximum: float32 adds 1 and 48 times 2^-25 up to 1. That must be allowed for."""
    pool = Maximum((7, 7), (1, 1), zero=False)
    graph = TorchGraph((Step("", "", pool, ("x",), "y"),), "x", "y")
    image = torch.zeros(1, 1, 13, 13, dtype=torch.float64)
    image[0, 0, 6, 6] = 1
    radius = 0.125
    bounds = bounds_of(graph, image, radius, torch.float32)
    coefficients = torch.full((1, 1, 7, 7), 2.0**-25)
    coefficients[0, 0, 6, 6] = 1
    none = np.zeros(1, np.int64)
    rows = Patches(coefficients, Places(none, none, none), none)
    at_centre = coefficients.double().sum()[None]
    found = float(bounds.lower_rows("y", rows, at_centre))
    exact = float(at_centre) * (1 - radius)
    assert exact - 1e-5 < found <= exact


@both
@pytest.mark.parametrize("behind", [False, True], ids=["of a convolution", "of a sum"])
def test_differences_of_elements_whose_centres_were_rounded(behind: bool, dtype: torch.dtype) -> None:
    """Biases of 1e9: a difference of two centres is off by 1e-7, which the rows have to know."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 1, 2, 2, generator=generator, dtype=torch.float64)
    weight *= 10.0 ** torch.randint(-2, 4, weight.shape, generator=generator)
    conv = layers.Conv(weight, 1e9 * torch.rand(2, generator=generator, dtype=torch.float64))
    steps = [Step("", "", conv, ("x",), "y")]
    if behind:
        steps.append(Step("", "", layers.Add(), ("y", "y"), "y2"))
    pool = Maximum((2, 2), (1, 1), zero=False)
    graph = TorchGraph((*steps, Step("", "", pool, (steps[-1].output,), "z")), "x", "z")
    image = torch.rand(1, 1, 6, 6, generator=generator, dtype=torch.float64)
    for radius in (0.0, 1e-9, 1e-3):
        bounds = bounds_of(graph, image, radius, dtype)
        # The box as it is in working precision.
        box = bounds.relaxation.intervals["x"]
        units = torch.ones(1, 2, 4, 4).nonzero()
        for first, second in ((1, 2), (1, 4), (3, 1)):
            counts = torch.full((len(units),), first), torch.full((len(units),), second)
            found = bounds.builder.difference_rows(bounds.graph.steps[-1], units, *counts)
            for deviation in (box.lower[0], box.upper[0], torch.zeros_like(box.lower[0])):
                values = {"x": ex.exact(image[0]) + ex.exact(deviation)}
                for step in graph.steps[:-1]:
                    values[step.output] = ex.step_value(step.layer, [values[n] for n in step.inputs])
                last = values[graph.steps[-2].output]
                _, channel, y, x = units.unbind(1)
                one, other = (
                    last[
                        channel.numpy(),
                        (y + pool.offsets[e - 1][0]).numpy(),
                        (x + pool.offsets[e - 1][1]).numpy(),
                    ]
                    for e in (first, second)
                )
                assert ex.at_most(found, one - other)


def test_a_row_on_an_unknown_value_is_vacuous() -> None:
    """NaN in the interval the row ends on: no number comes back."""
    conv = layers.Conv(torch.ones(1, 1, 1, 1).double(), torch.zeros(1).double())
    graph = TorchGraph((Step("", "", conv, ("x",), "y"),), "x", "y")
    ends = torch.full((1, 1, 2, 2), 0.1, dtype=torch.float64)
    for low, high in ((torch.nan, torch.nan), (torch.nan, 0.1), (-torch.inf, torch.inf), (-0.1, torch.inf)):
        lower, upper = -ends, ends.clone()
        lower[0, 0, 0, 0], upper[0, 0, 0, 0] = low, high
        bounds = BallBounds.over(
            graph,
            centres(graph, torch.zeros(1, 1, 2, 2).double()),
            Interval(lower, upper),
            refine=True,
            budget=1,
        )
        none = np.zeros(1, np.int64)
        row = Patches(torch.ones(1, 1, 1, 1).double(), Places(none, none, none), none)
        found = bounds.lower_rows("y", row, torch.zeros(1, dtype=torch.float64))
        assert not torch.isfinite(found).any()
        assert not (found > 0).any()
