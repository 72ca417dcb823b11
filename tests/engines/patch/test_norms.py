"""Rows over balls in l_2 and l_1, cut to a box: against exact points, the best split, and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.cone import Cone
from corgi.engines.forms import pairs
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.engine import PatchEngine
from corgi.engines.patch.halfspace import HalfSpace, box_fields, least
from corgi.engines.patch.intervals import centres
from corgi.engines.patch.norms import Reach, _largest_outside, least_in_cap, least_in_reach, reach_of
from corgi.engines.patch.patches import Patches, Places
from corgi.engines.patch.prepare import Maximum, cast, prepare
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.network.network import load
from corgi.types import Ball, Interval, Norm
from tests.engines.patch import exact as ex
from tests.engines.patch.test_backward import LINEAR, unit_bounds
from tests.engines.trunks import CASES, PATCH_CASES, RESAMPLED, network
from tests.onnx_models import random_cam_network

NORMS = [Norm.L2, Norm.L1]
every_norm = pytest.mark.parametrize("norm", NORMS, ids=str)
both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def rows_of(values: Tensor) -> Patches:
    """Rows [R, C, h, w] at the corner of one ball."""
    none = np.zeros(1, np.int64)
    return Patches(values, Places(none, none, none), np.zeros(len(values), np.int64))


def found_least(values: Tensor, lower: Tensor, upper: Tensor, radius: float, norm: Norm) -> Tensor:
    reach = Reach(norm, torch.tensor([radius], dtype=torch.float64))
    return least_in_reach(rows_of(values), box_fields(lower[None], upper[None]), reach)


def numbers(generator: torch.Generator, *size: int) -> Tensor:
    """Of very different sizes, some 0."""
    powers = 10.0 ** torch.randint(-6, 7, size, generator=generator)
    found = torch.randn(*size, generator=generator, dtype=torch.float64) * powers
    return found.masked_fill(torch.rand(size, generator=generator) < 0.1, 0)


def case(seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, float]:
    """Rows, a box around 0 that cuts some entries, others not at all, and a radius."""
    generator = torch.Generator().manual_seed(seed)
    values = numbers(generator, 4, 2, 3, 3)
    if seed % 2:
        values = torch.randn(values.shape, generator=generator, dtype=torch.float64)
    radius = float(torch.rand((), generator=generator, dtype=torch.float64)) * (1e-4 if seed % 3 else 1.0)
    room = radius * torch.rand(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    kinds = torch.rand(room.shape, generator=generator)
    room = torch.where(kinds < 0.3, radius, torch.where(kinds < 0.5, 0.0, room))
    return values.to(dtype), -room[0].to(dtype), room[1].to(dtype), radius


def minimisers(
    values: Tensor, lower: Tensor, upper: Tensor, radius: float, norm: Norm
) -> list[list[Fraction]]:
    """Points of ball and box, exactly, that come close to each row's least value."""
    found = []
    for row in values.double().reshape(len(values), -1).tolist():
        ends = list(zip(lower.double().flatten().tolist(), upper.double().flatten().tolist(), strict=True))
        if norm is Norm.L1:
            left, point = Fraction(radius), [Fraction(0)] * len(row)
            for i in sorted(range(len(row)), key=lambda i: -abs(row[i])):
                room = min(left, abs(Fraction(ends[i][0] if row[i] > 0 else ends[i][1])))
                point[i], left = (-room if row[i] > 0 else room), left - room
        else:
            low, high = 0.0, 1e30
            for _ in range(400):
                lam = math.sqrt(low * high) if low > 0 else high / 1e3
                cut = [min(max(-a / lam, end[0]), end[1]) for a, end in zip(row, ends, strict=True)]
                inside = math.hypot(*cut) <= radius
                low, high = (low, lam) if inside else (lam, high)
                if inside and lam < 1e-30:
                    break
            share = 1 - Fraction(1, 10**12)
            cut = [min(max(-a / high, end[0]), end[1]) for a, end in zip(row, ends, strict=True)]
            point = [share * Fraction(c) for c in cut]
            assert sum(p * p for p in point) <= Fraction(radius) ** 2
        found.append(point)
    return found


@both
@every_norm
@pytest.mark.parametrize("seed", range(24))
def test_the_least_over_ball_and_box(seed: int, norm: Norm, dtype: torch.dtype) -> None:
    """Never above an exact point of both; and, by duality, close to the best one. Nothing is forgiven."""
    values, lower, upper, radius = case(seed, dtype)
    found = found_least(values, lower, upper, radius, norm)
    points = minimisers(values, lower, upper, radius, norm)
    for row, point, bound in zip(values.double().flatten(1).tolist(), points, found.tolist(), strict=True):
        value = sum((Fraction(a) * p for a, p in zip(row, point, strict=True)), Fraction(0))
        assert Fraction(bound) <= value
        size = sum(abs(a) * float(abs(p)) for a, p in zip(row, point, strict=True))
        reach = radius * max(map(abs, row), default=0.0)
        slack = 1e-5 if dtype is torch.float32 else 1e-9
        best = norm is Norm.L1 or seed % 2 == 1  # lam is found in a few steps only
        assert not best or float(value) - bound <= slack * (size + reach) + (
            1e-3 * size if norm is Norm.L2 else 0
        )


@every_norm
@given(st.integers(0, 10**6), st.floats(1e-9, 2))
def test_never_looser_than_the_box_or_the_ball_alone(norm: Norm, seed: int, radius: float) -> None:
    values, lower, upper, _ = case(seed, torch.float64)
    found = found_least(values, lower, upper, radius, norm)
    alone = least(values, *box_fields(lower[None], upper[None]).chunk(2, 1))
    assert (found >= alone).all()
    wide = torch.full_like(lower, 2.0)
    by_ball = -radius * norm.dual.sizes(values)
    assert (found_least(values, -wide, wide, radius, norm) >= by_ball * (1 + 1e-12) - 1e-290).all()


@every_norm
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_squares_that_underflow_or_overflow(norm: Norm, scale: float) -> None:
    values, lower, upper, radius = case(1, torch.float64)
    found = found_least(values * scale, lower, upper, radius, norm)
    for row, point, bound in zip(
        (values * scale).flatten(1).tolist(), minimisers(values, lower, upper, radius, norm), found.tolist(),
        strict=True,
    ):  # fmt: skip
        value = sum((Fraction(a) * p for a, p in zip(row, point, strict=True)), Fraction(0))
        assert Fraction(bound) <= value


@every_norm
def test_entries_over_the_edge_do_not_count(norm: Norm) -> None:
    """A patch half outside the value is the row it is inside."""
    values = torch.full((1, 1, 3, 3), 1e6, dtype=torch.float64)
    values[0, 0, 1:, 1:] = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    corner, none = np.full(1, -1), np.zeros(1, np.int64)
    ends = torch.full((1, 1, 5, 5), 0.25, dtype=torch.float64)
    reach = Reach(norm, torch.tensor([0.25], dtype=torch.float64))
    over = Patches(values, Places(none, corner, corner), none, clean=False)
    found = least_in_reach(over, box_fields(-ends, ends), reach)
    inside = -0.25 * norm.dual.sizes(values[:, :, 1:, 1:])
    torch.testing.assert_close(found, inside, rtol=1e-12, atol=0)


@every_norm
@pytest.mark.parametrize("end", [torch.nan, torch.inf])
def test_an_unknown_end_or_coefficient_is_no_number(norm: Norm, end: float) -> None:
    values, lower, upper, radius = case(1, torch.float64)
    values[0, 0, 0, 0], upper[0, 1, 1] = end, end
    values[:, 0, 1, 1] = -1
    found = found_least(values, lower, upper, radius, norm)
    assert not torch.isfinite(found[0])
    assert not (found > 0).any()


@both
@every_norm
@pytest.mark.parametrize("seed", range(12))
def test_the_least_over_a_cap(seed: int, norm: Norm, dtype: torch.dtype) -> None:
    """Never above an exact point of ball and half-space; in l_2, of two entries, the least there is."""
    generator = torch.Generator().manual_seed(seed)
    size = (1, 1, 2) if seed % 2 else (2, 3, 2)
    rows = torch.randn(5, *size, generator=generator, dtype=torch.float64).to(dtype)
    row = torch.randn(1, *size, generator=generator, dtype=torch.float64).to(dtype)
    rows[0], rows[1] = -row[0], row[0]  # where both sums cancel
    steepest, radius = float(norm.dual.sizes(row)[0]), 0.125
    constant = radius * steepest * (-0.5, 0.0, 0.7, 0.99, 0.9999999, 1.1)[seed // 2 % 6]
    space = HalfSpace(row, constant, -math.inf, math.inf)
    reach = Reach(norm, torch.tensor([radius], dtype=torch.float64))
    found = least_in_cap(rows_of(rows), reach, space)
    points = torch.randn(4000, math.prod(size), generator=generator, dtype=torch.float64)
    towards = 10.0 ** (10 * torch.rand(4000, 1, generator=generator, dtype=torch.float64) - 1)
    flat = row.double().reshape(1, -1)
    if norm is Norm.L1:  # the sphere is steepest along one entry
        flat = torch.where(flat.abs() == flat.abs().amax(), flat, 0)
    points -= towards * flat / flat.square().sum().sqrt()
    sizes = torch.linalg.vector_norm(points, norm.order, dim=1, keepdim=True)
    points = points / sizes * (radius * (1 - 1e-12))
    inside = points[points @ row.double().flatten() + constant <= -1e-13]
    if constant > radius * steepest:
        assert len(inside) == 0
        assert (found > 0).all()
        return
    values = inside @ rows.double().flatten(1).T
    exact_row = [Fraction(a) for a in row.double().flatten().tolist()]
    for r, bound in enumerate(found.tolist()):
        at = int(values[:, r].argmin())
        point = [Fraction(p) for p in inside[at].tolist()]
        power = 2 if norm is Norm.L2 else 1
        assert sum(abs(p) ** power for p in point) <= Fraction(radius) ** power
        assert sum((a * p for a, p in zip(exact_row, point, strict=True)), Fraction(constant)) <= 0
        value = sum(
            (Fraction(b) * p for b, p in zip(rows[r].double().flatten().tolist(), point, strict=True)),
            Fraction(0),
        )
        assert Fraction(bound) <= value
        if math.prod(size) == 2 and constant > 0 and norm is Norm.L2:
            assert float(values[at, r]) - bound <= 0.02 * radius * float(
                rows[r].double().square().sum().sqrt()
            )


def bounds_of(graph: TorchGraph, images: Tensor, radius: float, norm: Norm, dtype: torch.dtype) -> BallBounds:
    """Bounds of balls without a pixel box."""
    ends = torch.full(images.shape, radius, dtype=torch.float64).to(dtype)
    reach = Reach(norm, torch.full((len(images),), radius, dtype=torch.float64))
    middle = centres(graph, images.double())
    return BallBounds.over(
        cast(graph, dtype, "cpu"), middle, Interval(-ends, ends), refine=True, budget=2**28, reach=reach
    )


@every_norm
@pytest.mark.parametrize("case", LINEAR[::2])
def test_linear_networks_are_bounded_exactly(case: str, norm: Norm, tmp_path: Path) -> None:
    """Of a linear network the least value over the ball is value - radius ||gradient||_q."""
    net = network(tmp_path, {**CASES, **PATCH_CASES, **RESAMPLED}[case])
    graph = prepare(net)
    steps = [s for s in graph.steps if type(s.layer).__name__ != "Maximum"]
    graph = TorchGraph(tuple(steps), graph.input_name, steps[-1].output)
    images = torch.rand(1, *net.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lower, upper = unit_bounds(graph, bounds_of(graph, images, 0.125, norm, torch.float64))
    jacobian = torch.autograd.functional.jacobian(lambda x: graph(x)[0].flatten(), images)
    reach = 0.125 * torch.linalg.vector_norm(jacobian.flatten(1), norm.dual.order, dim=1)
    value = graph(images).flatten()
    for found, exact, sign in ((lower, value - reach, 1), (upper, value + reach, -1)):
        scale = 1 + exact.abs() + reach
        assert (sign * found <= sign * exact + 1e-13 * scale).all()
        assert (sign * found >= sign * exact - 1e-11 * scale).all()


@every_norm
def test_intervals_of_the_first_convolution_are_those_of_the_norm(norm: Norm) -> None:
    """Behind an element-wise scale, too; away from the edge nothing is lost."""
    generator = torch.Generator().manual_seed(1)
    conv = layers.Conv(
        torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64),
        torch.randn(3, generator=generator, dtype=torch.float64),
        padding=(1, 1),
    )
    scale = layers.Affine(torch.full((2, 1, 1), -3.0).double(), torch.ones(2, 1, 1).double())
    graph = TorchGraph((Step("", "", scale, ("x",), "s"), Step("", "", conv, ("s",), "y")), "x", "y")
    images = torch.rand(1, 2, 6, 6, generator=generator, dtype=torch.float64)
    known = bounds_of(graph, images, 0.1, norm, torch.float64).relaxation.intervals["y"]
    reach = 0.3 * norm.dual.sizes(conv.weight)
    torch.testing.assert_close(known.upper[0, :, 2, 2], reach, rtol=1e-6, atol=0)
    assert (known.upper[0, :, 2, 2] >= reach).all()
    assert torch.equal(known.lower, -known.upper)


def exact_points(radius: float, shape: torch.Size, seed: int) -> dict[Norm, Tensor]:
    """Deviations whose norm is the radius, a power of two, exactly: over 4^m entries, and over one."""
    generator = torch.Generator().manual_seed(seed)
    count = math.prod(shape)
    spread = 4 ** int(math.log(count, 4))
    found = {}
    for norm, share in ((Norm.L2, spread**-0.5), (Norm.L1, 1 / spread)):
        signs = torch.randint(0, 2, (2, count), generator=generator, dtype=torch.float64) * 2 - 1
        points = torch.zeros(2, count, dtype=torch.float64)
        points[0, torch.randperm(count, generator=generator)[:spread]] = radius * share
        points[1, int(torch.randint(count, (), generator=generator))] = radius
        found[norm] = (points * signs).reshape(2, *shape)
    return found


@both
@every_norm
@pytest.mark.parametrize("seed", [5, 6, 17, 18, 28, 34])
def test_rows_hold_exact_values(seed: int, norm: Norm, dtype: torch.dtype, tmp_path: Path) -> None:
    """No rounding is forgiven: at points of the sphere, evaluated without any."""
    net = load(random_cam_network(np.random.default_rng(seed), tmp_path))
    graph = prepare(net)
    image = torch.rand(1, *net.input_shape, generator=torch.Generator().manual_seed(seed))
    for radius in (2.0**-9, 0.25):
        lower, upper = unit_bounds(graph, bounds_of(graph, image, radius, norm, dtype))
        for point in exact_points(radius, image[0].shape, seed)[norm]:
            moved = image[0].double() + point
            if not torch.equal(moved - image[0].double(), point):  # float32 images: exact but for tiny pixels
                continue
            value = ex.values(graph, moved)[graph.output_name]
            flat = ex.Exact(value.numbers.reshape(-1), value.scale)
            assert ex.at_most(lower, flat)
            assert ex.at_least(upper, flat)


@both
@every_norm
@pytest.mark.parametrize("seed", range(3))
def test_rows_through_weights_of_very_different_size(seed: int, norm: Norm, dtype: torch.dtype) -> None:
    """Exactly again, where almost everything that is added cancels or vanishes beside the rest."""
    generator = torch.Generator().manual_seed(seed)
    first = layers.Conv(numbers(generator, 3, 2, 3, 3), numbers(generator, 3), padding=(1, 1))
    second = layers.Conv(numbers(generator, 2, 3, 2, 2), numbers(generator, 2))
    pool = Maximum((2, 2), (1, 1))
    steps = (("x", first, "y"), ("y", pool, "z"), ("z", second, "f"))
    graph = TorchGraph(tuple(Step("", "", layer, (a,), b) for a, layer, b in steps), "x", "f")
    image = torch.rand(1, 2, 5, 5, generator=generator)
    for radius in (2.0**-20, 0.25):
        lower, upper = unit_bounds(graph, bounds_of(graph, image, radius, norm, dtype))
        for point in exact_points(radius, image[0].shape, seed)[norm]:
            value = ex.values(graph, image[0].double() + point)["f"]
            flat = ex.Exact(value.numbers.reshape(-1), value.scale)
            assert ex.at_most(lower, flat)
            assert ex.at_least(upper, flat)


@every_norm
def test_smaller_norms_are_never_bounded_looser(norm: Norm, tmp_path: Path) -> None:
    """Balls of one radius: l_1 in l_2 in l_inf; and the bounds at radius 0 are the map."""
    net = load(random_cam_network(np.random.default_rng(6), tmp_path))
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(6))
    bounder = PatchEngine().bind(net, 0, torch.float64)

    def width(of: Norm, radius: float) -> float:
        bounds = bounder.pixels(Ball(image, radius, of))
        return float((bounds.upper - bounds.lower).mean())

    wider = {Norm.L2: Norm.LINF, Norm.L1: Norm.L2}[norm]
    assert width(norm, 0.05) < 0.9 * width(wider, 0.05)
    assert width(norm, 0.0) < 1e-9


def test_a_cone_knows_its_ball(tmp_path: Path) -> None:
    net = load(random_cam_network(np.random.default_rng(6), tmp_path))
    image = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(6))
    bounder = PatchEngine().bind(net, 0, torch.float64)
    cone = bounder.unfold(Ball(image, 0.05, Norm.L2), pairs(torch.tensor([0]), torch.tensor([2])))
    assert isinstance(cone, Cone)
    assert (cone.norm, cone.radius) == (Norm.L2, 0.05)
    assert (cone.upper <= 0.05 + 1e-15).all()


@pytest.mark.parametrize("top", [-2, 0, 1, 3])
def test_the_largest_entry_outside_a_patch(top: int) -> None:
    generator = torch.Generator().manual_seed(top)
    row = torch.randn(1, 2, 6, 5, generator=generator)
    none = np.zeros(1, np.int64)
    rows = Patches(torch.ones(1, 2, 4, 3), Places(none, none + top, none + 1), none)
    left = row.clone()
    left[:, :, max(top, 0) : top + 4, 1:4] = 0
    outside, largest = _largest_outside(rows, row)
    assert float(outside) == float(left.abs().max())
    assert float(largest) == float(row.abs().max())


def test_one_pass_bounds_one_norm() -> None:
    image = torch.rand(1, 2, 2)
    with pytest.raises(ValueError, match="l1, l2"):
        reach_of([Ball(image, 0.1, Norm.L2), Ball(image, 0.1, Norm.L1)], "cpu")
    assert reach_of([Ball(image, 0.1)], "cpu") is None
