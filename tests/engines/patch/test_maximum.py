"""Planes around windows, by brute force over clouds of points."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.patch.maximum import Planes, chord, planes
from corgi.engines.rigour import unit

POINTS = 200
both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@dataclass(frozen=True)
class Cloud:
    """Values of the elements of U windows at some points, the first of them the middle of the ball.

    points: float64 [P, U, E]; live: bool [U, E], at least all that are the maximum somewhere.
    """

    points: Tensor
    live: Tensor

    @property
    def largest(self) -> Tensor:
        return self.points.masked_fill(~self.live, -torch.inf).amax(-1)

    @property
    def deviations(self) -> Tensor:
        """[P, U, E]."""
        return self.points - self.points[:1]

    @property
    def lead(self) -> Tensor:
        """[U, E]."""
        return (self.points - self.largest[..., None])[0]

    @property
    def above(self) -> Tensor:
        """max x_j - x_i over the points, [U, j, i]."""
        return (self.points[..., :, None] - self.points[..., None, :]).amax(0)

    @property
    def size(self) -> Tensor:
        relative = (self.points - self.largest[:1, :, None]).abs() + self.lead.abs()
        return torch.where(self.live, relative, 0).amax((0, 2))


def cloud(seed: int, elements: int, zero: bool, kind: str, windows: int = 30) -> Cloud:
    """Points in a random parallelepiped (elements depend on few common inputs) or in a box."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scale = 10.0 ** torch.randint(-3, 4, (windows, 1), generator=generator)
    middle = normal(windows, elements) * scale
    inputs = elements if kind == "box" else max(1, elements - 1)
    steps = (
        torch.eye(elements).double()[None] * normal(windows, 1, elements)
        if kind == "box"
        else normal(windows, inputs, elements)
    )
    at = torch.rand(POINTS, windows, inputs, generator=generator, dtype=torch.float64) * 2 - 1
    corners = torch.rand(POINTS, windows, 1, generator=generator) < 0.5
    at = torch.where(corners, at.sign(), at)
    at[0] = 0
    points = middle + torch.einsum("pui,uie->pue", at, steps) * scale
    if zero:
        points[..., 0] = 0
    ever = (points == points.amax(-1, keepdim=True)).any(0)
    kept = torch.rand(windows, elements, generator=generator) < 0.5
    return Cloud(points, ever | kept)


def fitted(
    known: Cloud, dtype: torch.dtype, joint: tuple[Tensor, Tensor] | None = None, loose: float = 0.0
) -> Planes:
    """Planes from what the cloud shows, rounded up to working precision, or looser by a share."""
    units = torch.zeros(len(known.live), 4, dtype=torch.int64)
    above = known.above + loose * known.size[:, None, None]
    above = above.to(dtype)
    above = torch.where(
        above.double() < known.above, above.nextafter(torch.full_like(above, torch.inf)), above
    )
    above = above.masked_fill(torch.eye(known.live.shape[1], dtype=torch.bool), 0)
    nothing = torch.zeros_like(above[:, 0]), torch.full_like(above[:, 0, 0], torch.inf)
    # Dead elements stand in the padding: nothing is known of them.
    dead = ~known.live
    above = above.masked_fill(dead[:, :, None] | dead[:, None, :], torch.inf)
    lead = known.lead.masked_fill(dead, -torch.inf)
    return planes(units, known.live, above, above, lead, known.size, joint or nothing)


def assert_planes_hold(known: Cloud, found: Planes) -> None:
    """On all points, in float64; the planes' own room for rounding is what covers the test's."""
    target = known.largest - known.largest[:1]
    deviations = known.deviations.masked_fill(~known.live, 1e30)  # read by none
    low, up = (torch.where(w == 0, 0, w.double() * deviations).sum(-1) for w in (found.low, found.up))
    assert (low + found.low_shift.double() <= target).all()
    assert (up + found.up_shift.double() >= target).all()
    for weights in (found.low, found.up):
        assert (weights >= 0).all()
        assert ((weights.double().sum(1) - 1).abs() <= 8 * unit(weights.dtype)).all()
        assert (weights.masked_fill(known.live, 0) == 0).all()


ELEMENTS = range(2, 7)


@both
@pytest.mark.parametrize("kind", ["dependent", "box"])
@pytest.mark.parametrize("zero", [True, False], ids=["zero", "no zero"])
@pytest.mark.parametrize("elements", ELEMENTS)
def test_planes_hold_the_maximum(elements: int, zero: bool, kind: str, dtype: torch.dtype) -> None:
    for seed in range(4):
        known = cloud(seed, elements, zero, kind)
        for loose in (0.0, 0.3):
            assert_planes_hold(known, fitted(known, dtype, loose=loose))


@both
@pytest.mark.parametrize("elements", ELEMENTS)
def test_planes_with_joint_bounds_hold(elements: int, dtype: torch.dtype) -> None:
    """Any weights with the largest of x_j - sum_i w_i x_i, counted from the maximum in the middle."""
    used = 0
    for seed in range(6):
        known = cloud(seed, elements, seed % 2 == 0, "dependent")
        generator = torch.Generator().manual_seed(seed)
        weights = torch.rand(known.live.shape, generator=generator).to(dtype) ** 3
        if seed % 3:
            weights = torch.where(known.live, weights, 0)
        weights = weights / weights.sum(1, keepdim=True)
        relative = (known.points - known.largest[:1, :, None]).masked_fill(~known.live, -torch.inf)
        finite = torch.where(known.live, relative, 0)
        most = (relative.amax(-1) - (finite * weights.double()).sum(-1)).amax(0)
        shift = (most + 1e-6 * most.abs()).to(dtype)
        shift = torch.where(torch.arange(len(shift)) % 5 == 0, torch.inf, shift)
        found = fitted(known, dtype, (weights, shift))
        assert_planes_hold(known, found)
        used += int((found.up == weights).all(1).sum())
    assert used > 0, "some joint bound must have been the better one"


def interval_cloud(lower: Tensor, upper: Tensor, zero: bool) -> Cloud:
    """The corners of boxes [U, E] and their middles, zero first if it belongs to the window."""
    ends = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * lower.shape[1]).reshape(-1, lower.shape[1])
    corners = torch.where(ends[:, None, :] > 0, upper, lower)
    points = torch.cat([(lower + upper)[None] / 2, corners])
    if zero:
        points = torch.nn.functional.pad(points, (1, 0))
    return Cloud(points, torch.ones(points.shape[1:], dtype=torch.bool))


@given(st.lists(st.tuples(st.floats(-9, -1e-3), st.floats(1e-3, 9)), min_size=1, max_size=8))
def test_a_relu_gets_its_triangle(ends) -> None:
    """max(0, z), z in [l, u]: y <= u (z - l) / (u - l); below z or 0, whichever leaves less (CROWN)."""
    lower, upper = torch.tensor(ends, dtype=torch.float64)[..., None].unbind(1)
    found = fitted(interval_cloud(lower, upper, True), torch.float64)
    low, high, middle = lower[:, 0], upper[:, 0], (lower + upper)[:, 0] / 2
    slope = high / (high - low)
    at_middle = found.up_shift + middle.clamp(min=0)
    torch.testing.assert_close(found.up[:, 1], slope, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(at_middle, slope * (middle - low), rtol=1e-12, atol=1e-12)
    clear = (high + low).abs() > 1e-9
    assert torch.equal(found.low[clear, 1], (high > -low).double()[clear])


@given(st.integers(0, 999))
def test_two_elements_get_the_chord_of_their_difference(seed) -> None:
    """max(a, b) = b + relu(a - b), a - b in [l, u]: y <= b + u (a - b - l) / (u - l)."""
    known = cloud(seed, 2, False, "dependent")
    known = Cloud(known.points, torch.ones_like(known.live))
    low, high = -known.above[:, 1, 0], known.above[:, 0, 1]
    open_ = (low < 0) & (high > 0)
    a, b = known.points.unbind(-1)
    rewritten = b + high / (high - low) * (a - b - low)
    found = fitted(known, torch.float64)
    ours = known.largest[0] + (known.deviations * found.up).sum(-1) + found.up_shift
    torch.testing.assert_close(ours[:, open_], rewritten[:, open_], rtol=1e-12, atol=1e-10)


def cnn_cert_height(lower: Tensor, upper: Tensor) -> Tensor:
    """CNN-Cert's upper plane of max x_i, x_i in [l_i, u_i] (Boopathy et al. 2019), in the middle of the box.

    y <= sum_i lambda_i (x_i - l_i) + g, lambda_i = (u_i - g) / (u_i - l_i), with
    g = (sum_i u_i / (u_i - l_i) - 1) / sum_i 1 / (u_i - l_i), cut to [max l, min u].
    """
    width = upper - lower
    g = ((upper / width).sum(1) - 1) / (1 / width).sum(1)
    g = torch.minimum(torch.maximum(g, lower.amax(1)), upper.amin(1))[:, None]
    return ((upper - g) / width * width / 2).sum(1) + g[:, 0]


def open_boxes(seed: int, elements: int, windows: int = 400) -> tuple[Tensor, Tensor]:
    """Boxes of which every element can be the maximum: u_i > max l."""
    generator = torch.Generator().manual_seed(seed)
    lower = torch.randn(windows, elements, generator=generator, dtype=torch.float64)
    upper = lower.amax(1, keepdim=True) + torch.rand(windows, elements, generator=generator) ** 2 * 2 + 1e-3
    return lower, upper


@pytest.mark.parametrize("elements", [2, 3, 4, 5])
def test_beside_cnn_cert_on_independent_boxes(elements: int) -> None:
    """Of two elements both are the chord. Of more CNN-Cert can be the lower one in the middle, by up to half.

    Reported: of three elements CNN-Cert's weights are the best there are, and `best_weights` has no candidate
    like them; of more elements the best weights are better than both.
    """
    lower, upper = open_boxes(elements, elements)
    known = interval_cloud(lower, upper, False)
    found = fitted(known, torch.float64)
    assert_planes_hold(known, found)
    least = (lower + upper).amax(1) / 2
    ours = known.largest[0] + found.up_shift - least
    theirs = cnn_cert_height(lower, upper) - least
    if elements == 2:
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert (ours <= 1.5 * theirs + 1e-9).all()
    assert ours.mean() <= 1.06 * theirs.mean()


def test_cnn_cert_is_stated_correctly() -> None:
    lower, upper = open_boxes(0, 4)
    known = interval_cloud(lower, upper, False)
    width = upper - lower
    g = ((upper / width).sum(1) - 1) / (1 / width).sum(1)
    g = torch.minimum(torch.maximum(g, lower.amax(1)), upper.amin(1))[:, None]
    plane = ((upper - g) / width * (known.points - lower)).sum(-1) + g[:, 0]
    assert (plane >= known.largest - 1e-9).all()
    torch.testing.assert_close(plane[0], cnn_cert_height(lower, upper))


def test_one_live_element_is_the_maximum() -> None:
    known = cloud(0, 4, True, "dependent")
    alone = torch.nn.functional.one_hot(known.points[0].argmax(-1), 4) > 0
    points = torch.where(alone, known.points, known.points[0] - known.points.abs().amax() - 1)
    known = Cloud(points, alone)
    found = fitted(known, torch.float64)
    assert torch.equal(found.up, alone.double())
    assert torch.equal(found.low, alone.double())
    assert_planes_hold(known, found)


@both
def test_what_is_unknown_is_vacuous_or_falls_back(dtype: torch.dtype) -> None:
    """NaN or infinite `above`: the upper plane is vacuous, the lower one is still an element."""
    live = torch.ones(3, 3, dtype=torch.bool)
    above = torch.full((3, 3, 3), torch.nan, dtype=dtype)
    above[1] = torch.inf
    above[2, 0, :] = 0.5  # one element is known never to lead by more
    eye = torch.eye(3, dtype=torch.bool)
    above[:, eye] = 0
    lead = torch.tensor([[0.0, -1.0, -2.0]] * 3, dtype=torch.float64)
    size = torch.ones(3, dtype=torch.float64)
    nothing = torch.zeros(3, 3, dtype=dtype), torch.full((3,), torch.inf, dtype=dtype)
    found = planes(torch.zeros(3, 4, dtype=torch.int64), live, above, above, lead, size, nothing)
    assert not torch.isfinite(found.up_shift).any()
    assert ((found.low == 1).sum(1) == 1).all()
    assert (found.low.sum(1) == 1).all()
    # Of an unknown size nothing is left of the lower plane, either.
    found = planes(torch.zeros(3, 4, dtype=torch.int64), live, above, above, lead, size * torch.nan, nothing)
    assert not torch.isfinite(found.low_shift).any()
    assert not torch.isfinite(found.up_shift).any()


def test_one_side_known() -> None:
    """max(a, b) where only b - a <= 0.5 is known: y <= a + 0.5 is the one plane there is."""
    live = torch.ones(1, 2, dtype=torch.bool)
    above = torch.tensor([[[0.0, torch.inf], [0.5, 0.0]]], dtype=torch.float64)
    lead = torch.tensor([[0.0, -1.0]], dtype=torch.float64)
    nothing = torch.zeros(1, 2).double(), torch.full((1,), torch.inf).double()
    size = torch.ones(1, dtype=torch.float64)
    found = planes(torch.zeros(1, 4, dtype=torch.int64), live, above, above, lead, size, nothing)
    assert found.up.tolist() == [[1.0, 0.0]]
    assert 0.5 <= float(found.up_shift) < 0.5 + 1e-12


def test_chord_of_a_tie() -> None:
    """Nothing between the two: any weights do, but they must be numbers."""
    weights = chord(torch.zeros(1, 2, 2), torch.tensor([0]), torch.tensor([1]))
    assert float(weights.sum()) == 1
