"""The objects that bounds of balls are made of, one by one: windows, state, plan."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.halfspace import HalfSpace
from corgi.engines.patch.intervals import centres
from corgi.engines.patch.plan import Plan
from corgi.engines.patch.prepare import Maximum, prepare
from corgi.engines.patch.windows import Leads, Windows
from corgi.network.convert import Step
from corgi.types import Interval
from tests.engines.trunks import POOL2, RELU, WEIGHT, chain, network

both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
LAYERS = [
    Maximum(),
    Maximum((2, 2), (2, 2)),
    Maximum((3, 2), (1, 2), (1, 1), (1, 0, 1, 0)),
    Maximum((2, 2), (2, 2), zero=False),
]


def windows_of(layer: Maximum, dtype: torch.dtype) -> tuple[Windows, Tensor, Interval]:
    """Windows over random elements and intervals of them, and both."""
    generator = torch.Generator().manual_seed(3)
    before = torch.randn(1, 3, 6, 6, generator=generator, dtype=torch.float64)
    half = torch.rand(before.shape, generator=generator, dtype=torch.float64).to(dtype)
    found = Windows.begun(Leads.of(layer, before, layer(before), dtype))
    known = Interval(-half, half)
    found.update(layer, known)
    return found, before, known


@both
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_maximum_is_a_live_element_and_in_its_range(layer: Maximum, dtype: torch.dtype) -> None:
    found, before, known = windows_of(layer, dtype)
    generator = torch.Generator().manual_seed(4)
    assert 0 < int(found.undecided.sum()) < found.undecided.numel()
    for _ in range(30):
        share = torch.rand(before.shape, generator=generator, dtype=torch.float64)
        deviation = known.lower + share * (known.upper.double() - known.lower)
        elements = layer.windows(before + deviation)
        zero = (
            torch.zeros_like(elements[..., :1])
            if layer.zero
            else -torch.inf * torch.ones_like(elements[..., :1])
        )
        elements = torch.cat([zero, elements], -1)
        change = elements.amax(-1) - layer(before)
        best = torch.where(found.live, elements, -torch.inf).amax(-1)
        assert torch.equal(best, elements.amax(-1))
        assert (found.range.lower - 1e-12 <= change).all()
        assert (change <= found.range.upper + 1e-12).all()


@both
def test_windows_again_share_nothing_that_rows_change(dtype: torch.dtype) -> None:
    found, _, _ = windows_of(LAYERS[1], dtype)
    found.done[:] = True
    before = {name: getattr(found, name).clone() for name in ("lower", "upper", "live", "place", "done")}
    again = found.again()
    assert not again.done.any()
    again.live[:], again.place[:], again.done[:] = False, 7, True
    again.lower[:], again.upper[:] = 0, 0
    assert all(torch.equal(getattr(found, name), value) for name, value in before.items())


def test_what_a_lower_precision_knows_narrows_windows() -> None:
    wide, _, _ = windows_of(LAYERS[1], torch.float64)
    low, _, _ = windows_of(LAYERS[1], torch.float32)
    low.live[..., 1] = False
    found = wide.learned(low)
    assert found.lower.dtype == torch.float64
    assert not found.live[..., 1].any()
    assert (found.lower >= wide.lower).all()
    assert (found.upper <= wide.upper).all()


@pytest.fixture(scope="module")
def bounds(tmp_path_factory: pytest.TempPathFactory) -> BallBounds:
    """Of a network with three layers of windows, over a large ball."""
    net = network(tmp_path_factory.mktemp("net"), chain(RELU, ("Conv", WEIGHT, {}), RELU, ("MaxPool", POOL2)))
    graph, image = prepare(net), torch.full((1, *net.input_shape), 0.5, dtype=torch.float64)
    box = Interval(torch.full_like(image, -0.2), torch.full_like(image, 0.2))
    return BallBounds.over(graph, centres(graph, image), box, refine=True, budget=2**28)


def undecided(bounds: BallBounds) -> tuple[Step, Tensor]:
    """The last Maximum with undecided windows that rows are spent on, everywhere."""
    state = bounds.state
    for step in reversed(bounds.graph.steps):
        if isinstance(step.layer, Maximum) and not state.needs_none(step):
            windows = state.windows[step.output]
            if bool(windows.undecided.any()):
                return step, torch.ones_like(windows.done)
    raise AssertionError("nothing is undecided")


def test_a_plan_spends_what_it_has_and_says_where_rows_end(bounds: BallBounds) -> None:
    step, todo = undecided(bounds)
    state, name = bounds.state, step.output
    full = Plan(math.inf, True, False)
    need = full.work_of(state, step, todo)
    assert need > 0
    assert full.begin(state, step, todo)
    assert full.until[name] == bounds.graph.input_name
    assert not full.shortened
    enough = Plan(need, True, False)
    assert enough.begin(state, step, todo)
    assert enough.work == 0
    assert not enough.spend(step, 1.0)
    assert enough.shortened == {name: None}
    nothing = Plan(-1.0, True, False)
    assert not nothing.begin(state, step, todo)
    assert nothing.shortened == {name: None}
    assert nothing.work == -1.0
    part = full.again()
    part.until.clear()
    assert full.until


def test_a_part_of_the_balls_changes_nothing_of_the_whole(bounds: BallBounds) -> None:
    image = bounds.graph.input_name
    before = {name: known.lower.clone() for name, known in bounds.relaxation.intervals.items()}
    live = {name: windows.live.clone() for name, windows in bounds.state.windows.items()}
    row = torch.ones_like(bounds.relaxation.centres[image].value)
    part = bounds.within(HalfSpace(row, 0.0, -1.0, 1.0))
    shape = bounds.relaxation.shape(bounds.graph.output_name)
    part.require(bounds.graph.output_name, torch.ones(1, *shape, dtype=torch.bool))
    assert not part.state.whole
    assert bounds.state.whole
    assert all(torch.equal(bounds.relaxation.intervals[name].lower, lower) for name, lower in before.items())
    assert all(torch.equal(bounds.state.windows[name].live, known) for name, known in live.items())


def test_lines_are_drawn_anew_once_more_is_known(bounds: BallBounds) -> None:
    step, _ = undecided(bounds)
    lines = bounds.state.lines_of(step.output)
    assert bounds.state.lines_of(step.output) is lines
    bounds.state.note(step, bounds.relaxation.intervals[step.output])
    assert bounds.state.lines_of(step.output) is not lines
