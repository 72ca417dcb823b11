"""Lines around curved activations, on deviations, with room for all rounding and no slack here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from corgi.engines.patch.backward import BackwardPass, Relaxation
from corgi.engines.patch.curves import Lines, relax
from corgi.engines.patch.intervals import Centre
from corgi.engines.patch.patches import Patches, Places
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.types import Interval
from tests.engines.patch.test_smooth import CURVES

both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
S_SHAPES = {"sigmoid": layers.Sigmoid(), "tanh": layers.Tanh()}
s_shapes = pytest.mark.parametrize("layer", S_SHAPES.values(), ids=S_SHAPES.keys())
ALL = S_SHAPES | {name: CURVES[name] for name in ("silu", "gelu, other constants", "elu with a kink")}
curves = pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
POINTS = 501


def lines_of(layer: nn.Module, centre: Tensor, lower: Tensor, upper: Tensor) -> tuple[Lines, Centre]:
    """Lines of units [N] at a centre, for deviations in the precision of `lower`."""
    before = Centre(centre.reshape(1, -1, 1, 1), torch.zeros(1, len(centre)).double())
    value = layer(before.value)
    after = Centre(value, torch.full((1, len(centre)), 1e-15).double())
    known = Interval(lower.reshape(1, -1, 1, 1), upper.reshape(1, -1, 1, 1))
    return relax(layer, known, before, after), after


def assert_lines_hold(layer: nn.Module, centre: Tensor, lower: Tensor, upper: Tensor) -> Lines:
    lines, after = lines_of(layer, centre, lower, upper)
    share = torch.linspace(0, 1, POINTS, dtype=torch.float64)[:, None]
    low, high = lower.double(), upper.double()
    deviations = (low + share * (high - low)).clamp(low, high)
    target = layer(centre + deviations) - after.value.reshape(-1)
    low_slope, low_shift, up_slope, up_shift = (
        v.double().reshape(-1)
        for v in (lines.lower_slope, lines.lower_shift, lines.upper_slope, lines.upper_shift)
    )
    assert (low_slope * deviations + low_shift <= target).all()
    assert (up_slope * deviations + up_shift >= target).all()
    steepest, rises = getattr(layer, "steepest", 1.0), not isinstance(layer, layers.Curve)
    for slope in (low_slope, up_slope):
        assert (slope.abs() <= steepest * (1 + 1e-6)).all()
        assert (slope >= 0).all() or not rises
    return lines


units = st.lists(
    st.tuples(
        st.floats(-40, 40),
        st.sampled_from([1e-9, 1e-6, 1e-3, 0.1, 1.0, 30.0, 900.0]),
        st.floats(0, 1),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=12,
)


@curves
@both
@given(units)
def test_lines_hold_the_curve(layer, dtype, units) -> None:
    centre, scale, down, up = torch.tensor(units, dtype=torch.float64).unbind(1)
    assert_lines_hold(layer, centre, (-scale * down).to(dtype), (scale * up).to(dtype))


@curves
@both
def test_lines_hold_everywhere(layer, dtype) -> None:
    """Many intervals: on one side of 0, across it, point-like, far out where the curve is flat."""
    generator = torch.Generator().manual_seed(0)
    count = 4000
    centre = torch.randn(count, generator=generator, dtype=torch.float64) * 4
    centre[::7] = 0
    centre[1::7] *= 1000
    width = 10.0 ** (torch.rand(2, count, generator=generator, dtype=torch.float64) * 12 - 9)
    width[:, 2::7] = 0
    assert_lines_hold(layer, centre, -width[0].to(dtype), width[1].to(dtype))


@s_shapes
def test_lines_are_not_looser_than_a_chord_and_tangents_need(layer) -> None:
    """Across 0 both lines touch the curve: somewhere within a thousandth of the interval's rise."""
    centre = torch.tensor([0.0, 0.3, -0.5], dtype=torch.float64)
    width = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    lines = assert_lines_hold(layer, centre, -width, width)
    share = torch.linspace(0, 1, POINTS, dtype=torch.float64)[:, None]
    deviations = -width + share * 2 * width
    target = layer(centre + deviations) - layer(centre)
    rise = target[-1] - target[0]
    over = (lines.upper_slope.reshape(-1) * deviations + lines.upper_shift.reshape(-1) - target).amin(0)
    under = (target - lines.lower_slope.reshape(-1) * deviations - lines.lower_shift.reshape(-1)).amin(0)
    assert (over <= 1e-3 * rise).all()
    assert (under <= 1e-3 * rise).all()


@curves
@both
@pytest.mark.parametrize("ends", [(torch.nan, torch.nan), (torch.nan, 1.0), (-1.0, torch.nan)])
def test_an_unknown_input_makes_rows_vacuous(layer, dtype, ends) -> None:
    """NaN is known of nothing: no row through that unit may come back finite, whatever its sign."""
    lower, upper = (torch.full((1, 1, 1, 1), end, dtype=dtype) for end in ends)
    box = Interval(-torch.ones(1, 1, 1, 1, dtype=dtype), torch.ones(1, 1, 1, 1, dtype=dtype))
    zero = Centre(torch.zeros(1, 1, 1, 1).double(), torch.zeros(1, 1).double())
    after = Centre(layer(zero.value), zero.error)
    graph = TorchGraph((Step("", "", layer, ("x",), "y"),), "x", "y")
    lines = relax(layer, Interval(lower, upper), zero, after)
    sizes = {name: torch.ones(1, 1, dtype=dtype) for name in "xy"}
    relaxation = Relaxation(graph, {"x": zero, "y": after}, {"x": box, "y": box}, sizes, lambda _: lines)
    none = np.zeros(1, np.int64)
    for sign in (1.0, -1.0):
        row = Patches(torch.full((1, 1, 1, 1), sign, dtype=dtype), Places(none, none, none), none)
        start = torch.zeros(1, dtype=torch.float64)
        found = BackwardPass(relaxation, start, start.clone()).run({"y": row})
        assert not torch.isfinite(found).any()


@curves
def test_infinite_inputs_are_vacuous_or_held(layer) -> None:
    infinite = torch.tensor([torch.inf], dtype=torch.float64)
    lines, after = lines_of(layer, torch.zeros(1).double(), -infinite, infinite)
    deviations = torch.linspace(-1000, 1000, 99, dtype=torch.float64)
    target = layer(deviations) - after.value.reshape(-1)
    low = lines.lower_slope.reshape(-1) * deviations + lines.lower_shift.reshape(-1)
    up = lines.upper_slope.reshape(-1) * deviations + lines.upper_shift.reshape(-1)
    assert not (low > target).any()
    assert not (up < target).any()
