"""Lines and ranges of activations by pieces: every fact against mpmath, every line against dense samples."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.patch.smooth import _shape, function_error, relax_curve, value_range
from corgi.network import layers
from tests.engines.patch.exact import curve

CURVES: dict[str, layers.Curve] = {
    "silu": layers.Silu(),
    "quick gelu": layers.Silu(1.702),
    "silu that falls": layers.Silu(-0.4, 1.5),
    "steep silu": layers.Silu(50.0, -0.2),
    "gelu": layers.Gelu(),
    "gelu, other constants": layers.Gelu(-2.5, 3.0),
    "tanh gelu": layers.TanhGelu(0.7978845834732056, 0.0356774069368839),
    "tanh gelu, other constants": layers.TanhGelu(3.0, 0.001, -2.0),
    "hard swish": layers.HardSwish(1 / 6, 0.5),
    "hard swish, high gate": layers.HardSwish(0.7, 1.4, -2.0),
    "hard swish, low gate": layers.HardSwish(3.0, -0.8),
    "elu": layers.Elu(),
    "elu with a kink": layers.Elu(0.3),
    "selu": layers.Elu(1.6732632, scale=1.050701),
    "celu": layers.Elu(0.2, 5.0),
    "flat elu": layers.Elu(0.0),
    "softplus": layers.Softplus(),
}
every_curve = pytest.mark.parametrize("layer", CURVES.values(), ids=CURVES.keys())
POINTS = 301


def samples(lower: Tensor, upper: Tensor) -> Tensor:
    """Points of intervals [N], many of them near the ends and around 0: [POINTS, N]."""
    share = torch.linspace(0, 1, POINTS, dtype=torch.float64)[:, None]
    even = lower + share * (upper - lower)
    dense = torch.sinh(torch.asinh(lower) + share * (torch.asinh(upper) - torch.asinh(lower)))
    return torch.cat([even, dense]).clamp(lower, upper)


def assert_held(layer: layers.Curve, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Lines and range hold all samples; how far the lines are from them, [N] each."""
    low, low_shift, up, up_shift = relax_curve(layer, lower, upper)
    points = samples(lower, upper)
    values = layer(points)
    # The lines themselves are rounded where they are put to use: here, in the product.
    slack = 4 * 2.0**-53 * (1 + layer.steepest) * (1 + torch.maximum(lower.abs(), upper.abs()))
    below, above = values - (low * points + low_shift), up * points + up_shift - values
    assert (below >= -slack).all()
    assert (above >= -slack).all()
    least, most = value_range(layer, lower, upper)
    error = function_error(layer, torch.maximum(lower.abs(), upper.abs()))
    assert (least - error <= values).all()
    assert (values <= most + error).all()
    return below.amin(0), above.amin(0)


ends = st.one_of(
    st.floats(-8, 8),
    st.floats(-1e30, 1e30),
    st.sampled_from([0.0, -3.0, 3.0, -2.0, -4 / 7, 0.6, 0.6 + 1e-12, -1.2784645427610738, 50.0, -50.0]),
)
widths = st.one_of(st.floats(0, 10), st.sampled_from([0.0, 1e-300, 1e-15, 1e-9, 1e-3, 100.0, 1e6, 1e30]))


@every_curve
@given(st.lists(st.tuples(ends, widths), min_size=1, max_size=10))
def test_lines_and_ranges_hold_the_curve(layer, intervals) -> None:
    lower, width = torch.tensor(intervals, dtype=torch.float64).unbind(1)
    assert_held(layer, lower, lower + width)


@every_curve
def test_many_intervals(layer) -> None:
    generator = torch.Generator().manual_seed(0)
    width = 10.0 ** (torch.rand(2, 2000, generator=generator, dtype=torch.float64) * 14 - 10)
    centre = torch.randn(2000, generator=generator, dtype=torch.float64) * 5
    assert_held(layer, centre - width[0], centre + width[1])


def lowest(points: Tensor, heights: Tensor) -> Tensor:
    """How high the lowest line above points is in the middle: the least over slopes, by brute force."""
    middle = (points[0] + points[-1]) / 2
    least, most = -20 * torch.ones_like(middle), 20 * torch.ones_like(middle)
    for _ in range(60):
        thirds = [least + (most - least) * share for share in (1 / 3, 2 / 3)]
        first, second = ((heights - slope * (points - middle)).amax(0) for slope in thirds)
        least, most = (
            torch.where(first > second, thirds[0], least),
            torch.where(first > second, most, thirds[1]),
        )
    return (heights - least * (points - middle)).amax(0)


@every_curve
@pytest.mark.parametrize("width", [1e-6, 0.01, 1.0, 4.0, 20.0, 100.0, 1e4])
def test_lines_are_as_low_as_lines_can_be(layer, width) -> None:
    """Up to one part in a hundred of what the curve bends at most; of the interval, where that is wide."""
    shape = _shape(layer)
    scale = 1 / shape.length
    centre = torch.linspace(-6, 6, 25, dtype=torch.float64) / scale
    lower, upper = centre - width / scale / 2, centre + width / scale / 2
    low, low_shift, up, up_shift = relax_curve(layer, lower, upper)
    points = samples(lower, upper)
    points, values = points.sort(0).values, layer(points.sort(0).values)
    middle = (lower + upper) / 2
    kinked = math.isfinite(shape.first) or math.isfinite(shape.last)
    bent = min(width if kinked else width**2, 1 + width / 10) * layer.steepest / scale
    over = up * middle + up_shift - lowest(points, values)
    under = -lowest(points, -values) - low * middle - low_shift
    slack = 0.01 * bent + 3 * function_error(layer, torch.maximum(lower.abs(), upper.abs()))
    assert (over <= slack).all()
    assert (under <= slack).all()


@every_curve
@given(st.floats(-60, 60), st.floats(0, 3), st.floats(0, 1))
def test_bend_bounds_the_second_derivative(layer, start, width, share) -> None:
    shape = _shape(layer)
    first, last = max(start * shape.length, shape.first), min((start + width) * shape.length, shape.last)
    if not first < last:
        return
    bend = float(shape.bend(*(torch.tensor([v], dtype=torch.float64) for v in (first, last))))
    with mpmath.workdps(60):
        z = mpmath.mpf(first) + share * (mpmath.mpf(last) - first)
        step = mpmath.mpf(10) ** -20 * shape.length
        z = max(first + step, min(last - step, z))
        if not first + step <= z <= last - step:
            return
        second = (curve(layer, z - step) - 2 * curve(layer, z) + curve(layer, z + step)) / step**2
    assert abs(second) <= bend * (1 + 1e-9) + 1e-15


@every_curve
@given(st.floats(-60, 60))
def test_no_slope_is_steeper(layer, place) -> None:
    z = torch.tensor(place * _shape(layer).length, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(z), z)
    assert abs(float(slope)) <= layer.steepest * (1 + 1e-12)


@every_curve
@given(st.one_of(st.floats(-60, 60), st.floats(-1e30, 1e30)))
def test_values_are_right_up_to_the_error(layer, place) -> None:
    """A quarter of it, because constants that were rounded before need the rest."""
    z = torch.tensor([place], dtype=torch.float64)
    with mpmath.workdps(80):
        off = abs(mpmath.mpf(float(layer(z))) - curve(layer, mpmath.mpf(place)))
    assert off <= 0.25 * float(function_error(layer, z.abs()))


@every_curve
@given(st.floats(-20, 20), st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3))
def test_values_forgive_rounded_constants(layer, place, signs) -> None:
    """All constants 12 roundings away."""
    share, z = 12 * 2.0**-53, torch.tensor(place, dtype=torch.float64)
    names = [n for n in ("beta", "factor", "scale", "alpha", "rate", "linear", "cubic") if n in vars(layer)]
    with mpmath.workdps(60):
        moved = layers.Curve()
        moved.__class__ = type(layer)
        for name, sign in zip(names, signs, strict=False):
            setattr(moved, name, mpmath.mpf(getattr(layer, name)) * (1 + sign * mpmath.mpf(share)))
        off = abs(curve(moved, mpmath.mpf(place)) - mpmath.mpf(float(layer(z))))
    assert off <= float(function_error(layer, z.abs()))


@every_curve
def test_turns_are_where_the_slope_changes_sign(layer) -> None:
    """Between neighbouring turns the curve is monotone."""
    shape = _shape(layer)
    stops = [-60 * shape.length, *sorted(shape.turns), 60 * shape.length]
    for start, end in itertools.pairwise(stops):
        values = layer(torch.linspace(start, end, 2001, dtype=torch.float64))
        steps = values.diff()
        error = 2 * float(function_error(layer, torch.tensor(60 * shape.length).double()))
        assert (steps >= -error).all() or (steps <= error).all()


@every_curve
@pytest.mark.parametrize(
    "interval",
    [(math.nan, math.nan), (math.nan, 1.0), (-1.0, math.nan), (-math.inf, math.inf), (-1.0, math.inf)],
)
def test_nothing_is_known_of_unknown_intervals(layer, interval) -> None:
    lower, upper = (torch.tensor([end], dtype=torch.float64) for end in interval)
    low, low_shift, up, up_shift = relax_curve(layer, lower, upper)
    point = torch.tensor([0.5], dtype=torch.float64)
    assert not torch.isfinite(low * point + low_shift).any()
    assert not torch.isfinite(up * point + up_shift).any()
    least, most = value_range(layer, lower, upper)
    values = layer(torch.linspace(-1, 1000, 99, dtype=torch.float64))
    assert not (least - 1e-12 > values).any()
    assert not (most + 1e-12 < values).any()
    assert not (torch.isfinite(least) & torch.isfinite(most)).any()


def test_units_in_chunks_are_units(monkeypatch) -> None:
    lower = torch.linspace(-5, 5, 60, dtype=torch.float64).reshape(1, 3, 4, 5)
    whole = relax_curve(layers.Gelu(), lower, lower + 1)
    monkeypatch.setattr("corgi.engines.patch.smooth._CHUNK", 7)
    for one, many in zip(whole, relax_curve(layers.Gelu(), lower, lower + 1), strict=True):
        torch.testing.assert_close(one, many, rtol=1e-12, atol=1e-12)


def test_a_curve_without_a_rule_is_an_error() -> None:
    with pytest.raises(TypeError, match="Curve"):
        value_range(layers.Curve(), torch.zeros(1), torch.ones(1))
