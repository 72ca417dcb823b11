"""Powers: ranges and lines, without slack, where f is known; nothing is known elsewhere."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from corgi.engines.patch.curves import relax
from corgi.engines.patch.intervals import Centre, _centre_error, interval_step
from corgi.engines.patch.power import steepest
from corgi.engines.patch.prepare import Maximum, least_value
from corgi.network import layers
from corgi.network.convert import Step
from corgi.types import Interval

both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
WITH_A_DOMAIN = [0.5, -1, -0.5, 3, 1 / 3, 1.5, -2]
exponents = pytest.mark.parametrize("exponent", [2, *WITH_A_DOMAIN])
centres = st.floats(1e-3, 1e3) | st.sampled_from([1e-30, 1e-12, 1.0, 1e12, 1e30])
shares = st.sampled_from([0.0, 1e-16, 1e-12, 1e-6, 0.01, 0.9]) | st.floats(0, 0.999)


def field(number: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), number, dtype=torch.float64).to(dtype)


def assert_held(
    exponent: float, centre: float, down: float, up: float, dtype: torch.dtype, least: float = -math.inf
) -> bool:
    """Interval and lines around f at a centre, exactly; whether they are finite."""
    layer = layers.Power(exponent, least)
    before = Centre(field(centre), torch.zeros(1, 1).double())
    value = layer(before.value)
    after = Centre(value, _centre_error(Step("", "", layer, ("x",), "y"), value, [before]))
    known = Interval(-field(down, dtype), field(up, dtype))
    out, lines = interval_step(layer, [known], [before], after), relax(layer, known, before, after)
    low_slope, low_shift, up_slope, up_shift = (
        float(v) for v in (lines.lower_slope, lines.lower_shift, lines.upper_slope, lines.upper_shift)
    )
    finite = all(map(math.isfinite, (low_slope, low_shift, up_slope, up_shift)))
    ends = float(known.lower), float(known.upper)
    with mpmath.workdps(120):
        for share in (0, 1e-9, 0.1, 0.3, 0.5, 0.77, 1):
            deviation = min(max(ends[0] + share * (ends[1] - ends[0]), ends[0]), ends[1])
            z = mpmath.mpf(centre) + mpmath.mpf(deviation)
            if exponent != 2 and z <= 0:
                assert not finite
                continue
            off = z ** mpmath.mpf(exponent) - mpmath.mpf(float(value))
            assert not float(out.lower) > off
            assert not float(out.upper) < off
            if finite:  # else rows through the lines are vacuous
                assert low_shift <= off - low_slope * mpmath.mpf(deviation)
                assert up_shift >= off - up_slope * mpmath.mpf(deviation)
    return finite


@exponents
@both
@given(centres, shares, shares)
@example(1.0, 0.0, 0.0)
@example(1e-30, 0.5, 0.999)
def test_ranges_and_lines_hold_exactly(exponent, dtype, centre, down, up) -> None:
    finite = assert_held(exponent, centre, centre * down, centre * up * 3, dtype)
    assert finite or dtype is torch.float32 or centre < 1e-9 or down > 0.99


@both
@given(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(0, 1e3))
@example(0.0, 0.0, 0.0)
@example(1e-200, 1e-200, 0.0)
@example(0.0, 1e-160, 1e-160)
def test_squares_of_any_number(dtype, centre, down, up) -> None:
    assert assert_held(2, centre, down, up, dtype)


@both
@given(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(0, 1e3))
@example(-1.0, 7.0, 0.0)
def test_what_is_known_from_below_cuts_nothing_off(dtype, centre, down, up) -> None:
    least = math.nextafter(centre - float(field(down, dtype)), -math.inf)
    assert assert_held(2, centre, down, up, dtype, least)


@given(
    st.lists(
        st.tuples(st.sampled_from(["Relu", "Add", "Mul", "Concat", "Shift"]), st.floats(-2, 2)), max_size=40
    )
)
def test_a_least_value_is_one(written: list[tuple[str, float]]) -> None:
    """Of steps that read the last value twice: what is known of it takes one look at each."""
    images = 10 * torch.rand(50, 1, 1, 1, generator=torch.Generator().manual_seed(0)).double() - 5
    values, known = {"0": images}, dict[str, float]()
    for i, (kind, number) in enumerate(written):
        shift = layers.Affine(torch.tensor([[[abs(number)]]]), torch.tensor([[[number]]]))
        made = {
            "Relu": Maximum(),
            "Add": layers.Add(),
            "Mul": layers.Mul(),
            "Concat": layers.Concat(2),
            "Shift": shift,
        }
        layer, count = made[kind], 1 if kind in ("Relu", "Shift") else 2
        step = Step("", kind, layer, (str(i),) * count, str(i + 1))
        values[step.output] = layer(*(values[name] for name in step.inputs))[:, :, :2].clamp(-1e9, 1e9)
        known[step.output] = least_value(step, known)
        assert float(values[step.output].min()) >= known[step.output] - 1e-9 * abs(known[step.output])


@pytest.mark.parametrize("exponent", WITH_A_DOMAIN)
@both
def test_nothing_is_known_beyond_the_domain(exponent, dtype) -> None:
    layer, zero = layers.Power(exponent), torch.zeros(1, 1).double()
    before = Centre(field(1.0), zero)
    after = Centre(layer(before.value), zero)
    for low, high in ((-1.5, 0.5), (math.nan, 0.5), (-math.inf, 0.5), (-0.5, math.nan)):
        known = Interval(field(low, dtype), field(high, dtype))
        out = interval_step(layer, [known], [before], after)
        assert not bool(torch.isfinite(out.lower) | torch.isfinite(out.upper))
        lines = relax(layer, known, before, after)
        assert not bool(torch.isfinite(lines.lower_shift) | torch.isfinite(lines.upper_shift))
        ends = (field(1.0) + end for end in (known.lower, known.upper))
        assert not bool(torch.isfinite(steepest(layer, *ends))) or math.isnan(high)


@exponents
def test_a_narrow_interval_has_tight_lines(exponent) -> None:
    """The chord of an interval that rounding fills would be any number; its slope is held by the ends'."""
    layer, zero = layers.Power(exponent), torch.zeros(1, 1).double()
    before = Centre(field(0.7), zero)
    after = Centre(layer(before.value), zero)
    known = Interval(-field(1e-15), field(2e-15))
    lines = relax(layer, known, before, after)
    for slope in (lines.lower_slope, lines.upper_slope):
        assert abs(float(slope) - exponent * 0.7 ** (exponent - 1)) < 1e-9
    assert float(lines.upper_shift - lines.lower_shift) < 1e-12
