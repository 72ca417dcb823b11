"""Products: their intervals and planes, in exact arithmetic, at every point that is tried."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from corgi.engines.patch.intervals import Centre, _centre_error, interval_step
from corgi.engines.patch.product import ProductPlanes, product_norm, product_planes
from corgi.network import layers
from corgi.network.convert import Step
from corgi.types import Interval

both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
numbers = st.floats(-1e3, 1e3) | st.floats(allow_nan=False, allow_infinity=False, width=32)
widths = st.sampled_from([0.0, 1e-300, 1e-40, 1e-12, 1e-3, 1.0, 1e3, 1e30]) | st.floats(0, 10)
operands = st.tuples(numbers, widths, widths)


def field(number: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), number, dtype=torch.float64).to(dtype)


def bounded(
    x: tuple[float, float, float],
    y: tuple[float, float, float],
    dtype: torch.dtype,
    largest: float = math.inf,
) -> tuple[list[Interval], Centre, Interval, ProductPlanes]:
    """Intervals and planes of the product of two operands (centre, how far down, how far up)."""
    layer = layers.Mul(largest)
    known = [Interval(-field(down, dtype), field(up, dtype)) for _, down, up in (x, y)]
    before = [Centre(field(number), torch.zeros(1, 1).double()) for number, _, _ in (x, y)]
    value = layer(*(c.value for c in before))
    after = Centre(value, _centre_error(Step("", "", layer, ("x", "y"), "z"), value, before))
    out = interval_step(layer, known, before, after)
    return known, after, out, product_planes(known, before, after, out)


@both
@given(operands, operands, st.floats(0, 1), st.floats(0, 1))
@example((0.0, 0.0, 0.0), (5e-324, 0.0, 1e-300), 0.5, 0.5)
@example((1e-160, 1e-160, 1e-160), (1e-160, 0.0, 1e-160), 0.5, 0.5)
@example((3.0, 0.0, 0.0), (-7.0, 0.0, 0.0), 0.0, 0.0)
@example((1e30, 1e30, 1e30), (1e30, 1e30, 1e30), 0.3, 0.9)
def test_intervals_and_planes_hold_exactly(dtype, x, y, first, second) -> None:
    known, after, out, planes = bounded(x, y, dtype)
    slopes = [planes.first, planes.second]
    if not all(bool(torch.isfinite(v).all()) for v in (*slopes, after.value)):
        return  # an overflow: rows through it are vacuous
    ends = [(float(k.lower), float(k.upper)) for k in known]
    inner = [
        min(max(low + at * (high - low), low), high)
        for (low, high), at in zip(ends, (first, second), strict=True)
    ]
    for dx, dy in product((*ends[0], inner[0], 0.0), (*ends[1], inner[1], 0.0)):
        exact = (Fraction(x[0]) + Fraction(dx)) * (Fraction(y[0]) + Fraction(dy)) - Fraction(
            float(after.value)
        )
        linear = Fraction(float(slopes[0])) * Fraction(dx) + Fraction(float(slopes[1])) * Fraction(dy)
        for low, up, off in (
            (out.lower, out.upper, exact),
            (planes.low_shift, planes.up_shift, exact - linear),
        ):
            assert not bool(low.isnan().any() | up.isnan().any())
            assert float(low) == -math.inf or Fraction(float(low)) <= off
            assert float(up) == math.inf or Fraction(float(up)) >= off


@both
def test_planes_are_as_tight_as_mccormick_in_the_middle(dtype) -> None:
    """Half-widths 0.5 and 0.25: 0.125 above and below the linear part, and no more than rounding beyond."""
    _, _, _, planes = bounded((2.0, 0.5, 0.5), (-3.0, 0.25, 0.25), dtype)
    assert float(planes.first) == -3.0
    assert float(planes.second) == 2.0
    assert 0.125 <= float(planes.up_shift) <= 0.125 + 1e-4
    assert -0.125 >= float(planes.low_shift) >= -0.125 - 1e-4


@both
def test_where_the_interval_says_more_it_is_the_plane(dtype) -> None:
    """A product that is known to be at most 1 in size, of operands that are hardly known."""
    _, after, out, planes = bounded((0.5, 1e6, 1e6), (0.5, 1e6, 1e6), dtype, largest=1.0)
    assert float(planes.first) == float(planes.second) == 0
    assert float(planes.up_shift) <= 1 - float(after.value) + 1e-4
    assert float(planes.low_shift) >= -1 - float(after.value) - 1e-4
    assert float(out.upper) <= 1 - float(after.value) + 1e-6


@both
@pytest.mark.parametrize(
    "ends", [(math.nan, math.nan), (-math.inf, math.inf), (math.nan, 1.0), (-1.0, math.inf)]
)
@pytest.mark.parametrize("unknown", [0, 1])
@pytest.mark.parametrize("other", [0.0, 2.0])
def test_an_unknown_operand_makes_rows_vacuous(dtype, ends, unknown, other) -> None:
    layer, zero = layers.Mul(), torch.zeros(1, 1).double()
    known = [Interval(-field(0.1, dtype), field(0.1, dtype)) for _ in range(2)]
    known[unknown] = Interval(field(ends[0], dtype), field(ends[1], dtype))
    before = [Centre(field(other), zero) for _ in range(2)]
    after = Centre(layer(*(c.value for c in before)), zero)
    out = interval_step(layer, known, before, after)
    assert not bool(torch.isfinite(out.lower) & torch.isfinite(out.upper))
    planes = product_planes(known, before, after, out)
    for coefficient, shift in ((1.0, planes.low_shift), (-1.0, planes.up_shift)):
        row = coefficient * torch.stack([shift, planes.first, planes.second])
        least = row[0] - (row[1:].abs() * 1e9).sum(0)  # the operand may be anywhere
        assert not bool(torch.isfinite(row).all()) or float(least) < -1e8


@given(st.integers(0, 999))
def test_norms_hold(seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(2, 1, 3, 4, 4, generator=generator, dtype=torch.float64)
    d = 0.3 * torch.randn(2, 1, 3, 4, 4, generator=generator, dtype=torch.float64)
    known = [Interval(-part.abs(), part.abs()) for part in d]
    norms = [part.square().sum().sqrt()[None] for part in d]
    found = product_norm(known, [Centre(c, torch.zeros(1, 3).double()) for c in centre], norms)
    moved = (centre[0] + d[0]) * (centre[1] + d[1]) - centre[0] * centre[1]
    assert float(moved.square().sum().sqrt()) <= float(found)
