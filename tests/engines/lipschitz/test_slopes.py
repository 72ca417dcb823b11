"""Intervals of derivatives: they hold the derivative everywhere, and both sides of its jumps."""

from __future__ import annotations

import mpmath
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from corgi.engines.lipschitz.slopes import slope_range
from corgi.network import layers
from tests.engines.patch.exact import curve

CURVES = {
    "sigmoid": layers.Sigmoid(),
    "tanh": layers.Tanh(),
    "silu": layers.Silu(),
    "silu that falls": layers.Silu(beta=-2.5, factor=0.7),
    "silu below": layers.Silu(beta=1.7, factor=-1.0),
    "gelu": layers.Gelu(),
    "gelu, other constants": layers.Gelu(scale=-1.3, factor=-0.8),
    "hard swish": layers.HardSwish(1 / 6, 0.5),
    "hard swish, other constants": layers.HardSwish(alpha=0.7, beta=0.9, factor=-2.0),
    "elu": layers.Elu(alpha=0.6),
    "selu": layers.Elu(alpha=1.6732632, scale=1.0507010),
    "celu": layers.Elu(alpha=0.4, rate=2.5),
    "softplus": layers.Softplus(),
}
every_curve = pytest.mark.parametrize("name", CURVES)


def derivative(name: str, at: float) -> float:
    with mpmath.workdps(60):
        return float(mpmath.diff(lambda z: curve(CURVES[name], z), mpmath.mpf(at), h=mpmath.mpf(10) ** -30))


@every_curve
@given(middle=st.floats(-8, 8), half=st.floats(0, 6), share=st.floats(0, 1))
def test_derivatives_lie_in_their_interval(name: str, middle: float, half: float, share: float) -> None:
    ends = torch.tensor([middle - half, middle + half], dtype=torch.float64)
    least, most = slope_range(CURVES[name], ends[:1], ends[1:])
    at = float(ends[0] + share * (ends[1] - ends[0]))
    assume(at == 0 or abs(at) > 1e-20)  # else the difference quotient reaches over the kink
    assert float(least) <= derivative(name, at) <= float(most)


@every_curve
def test_intervals_are_tight(name: str) -> None:
    """No wider than sampled derivatives show, turns and jumps included."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ends = (6 * torch.randn(2, generator=generator, dtype=torch.float64)).sort().values
        points = torch.linspace(*ends.tolist(), 4001, dtype=torch.float64).requires_grad_(True)
        (found,) = torch.autograd.grad(CURVES[name](points).sum(), points)
        least, most = slope_range(CURVES[name], ends[:1], ends[1:])
        assert float(found.min()) - 0.02 <= float(least) <= float(found.min()) + 1e-9
        assert float(found.max()) - 1e-9 <= float(most) <= float(found.max()) + 0.02


@pytest.mark.parametrize(
    ("name", "kink", "sides"),
    [
        ("selu", 0.0, (1.0507010, 1.7580993)),
        ("hard swish", -3.0, (-0.5, 0.0)),
        ("hard swish", 3.0, (1.0, 1.5)),
    ],
)
def test_a_point_at_a_kink_has_both_sides(name: str, kink: float, sides: tuple[float, float]) -> None:
    at = torch.tensor([kink], dtype=torch.float64)
    least, most = slope_range(CURVES[name], at, at)
    assert float(least) == pytest.approx(sides[0], abs=1e-6)
    assert float(most) == pytest.approx(sides[1], abs=1e-6)
    assert float(least) <= sides[0] + 1e-6
    assert sides[1] - 1e-6 <= float(most)


@every_curve
def test_nothing_is_known_of_nan_and_all_of_the_line_is_covered(name: str) -> None:
    nan, inf = torch.tensor([torch.nan], dtype=torch.float64), torch.tensor([torch.inf], dtype=torch.float64)
    assert all(end.isnan() for end in slope_range(CURVES[name], nan, inf))
    assert all(end.isnan() for end in slope_range(CURVES[name], -inf, nan))
    least, most = slope_range(CURVES[name], -inf, inf)
    for at in (-30.0, -1.3, -0.2, 0.4, 2.0, 30.0):
        assert float(least) <= derivative(name, at) <= float(most)
