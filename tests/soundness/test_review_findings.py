"""Unsound scenarios that a review constructed against earlier versions. None may ever come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi import (
    AttackOptions,
    Form,
    LirpaEngine,
    LirpaMethod,
    PatchEngine,
    PatchMethod,
    Status,
    load,
    verify,
)
from corgi.engines.gate import check_engine_at_radius_zero, check_engine_on_a_ball
from corgi.engines.patch import state as state_module
from corgi.engines.rounding import rounding
from corgi.errors import EngineError, GateError
from corgi.types import Ball, Interval
from tests.onnx_models import IMAGE, OnnxModel, float32, random_cam_network
from tests.rankings import decision_margin
from tests.soundness.samples import inside

LINEAR_METHODS = [LirpaMethod.CROWN_IBP, LirpaMethod.CROWN]
LINEAR_ENGINES = [
    *(LirpaEngine(m) for m in LINEAR_METHODS),
    PatchEngine(PatchMethod.CROWN_IBP),
    PatchEngine(PatchMethod.CROWN),
]


@pytest.mark.parametrize("form", [Form.FOLDED, Form.PAIRWISE, Form.FEATURE])
@pytest.mark.parametrize("engine", LINEAR_ENGINES, ids=lambda e: f"{e.name.split()[0]}-{e.method}")
@pytest.mark.parametrize(("activation", "against"), [("Sigmoid", -100.0), ("Tanh", -200.0)])
def test_saturated_s_shapes_are_not_proved(activation, against, engine, form, tmp_path) -> None:
    """auto_LiRPA 0.3 relaxes beyond |x| = 500 with a wrong line: 20.5 for a sigmoid of at most 1."""
    model = OnnxModel((1, 4, 4))
    steep = model.node("Conv", "image", np.full((1, 1, 1, 1), 1e5, np.float32), np.array([-5e4], np.float32))
    steep = model.node(activation, steep)
    same = model.node("Conv", "image", np.ones((1, 1, 1, 1), np.float32))
    features = model.node("Concat", steep, same, axis=1)
    network = load(model.save(tmp_path, model.head(features, np.array([[1.0, against]]))))
    image = np.full((1, 4, 4), 0.62, np.float32)
    image[0, 0, 0] = 0.6
    result = verify(network, image, k=1, eps=0.1, attack=None, engine=engine, form=form)
    broken = np.full((1, 4, 4), 0.53, np.float32)
    broken[0, 0, 0] = 0.69
    assert np.abs(broken - image).max() < 0.1
    assert decision_margin(network.cam(broken, 0).reshape(1, -1), result.top, 1).item() < 0
    assert result.status is Status.UNKNOWN


@pytest.mark.parametrize("method", [LirpaMethod.IBP, *LINEAR_METHODS])
def test_inner_bounds_of_another_ball_are_not_reused(method, tmp_path) -> None:
    rng = np.random.default_rng(9)
    network = load(random_cam_network(rng, tmp_path))
    image = torch.from_numpy(rng.random(network.input_shape, dtype=np.float32))
    above, below = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    large, small = Ball(image, 0.1), Ball(image, 0.001)
    expected = LirpaEngine(method).bind(network, 0, torch.float64).differences(large, above, below)
    bounder = LirpaEngine(method).bind(network, 0, torch.float64)
    bounder.pixels(large)
    bounder.differences(small, above, below)
    torch.testing.assert_close(bounder.differences(large, above, below), expected)


def test_an_interrupted_bound_is_not_reused(tmp_path, monkeypatch) -> None:
    rng = np.random.default_rng(9)
    network = load(random_cam_network(rng, tmp_path))
    image = torch.from_numpy(rng.random(network.input_shape, dtype=np.float32))
    large, small = Ball(image, 0.1), Ball(image, 0.001)
    above, below = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    bounder = LirpaEngine().bind(network, 0, torch.float64)
    bounder.pixels(large)
    bounder.differences(large, above, below)
    module = bounder._built["map", True]
    original = type(module).compute_bounds

    def stops_late(self, *args, **options):
        original(self, *args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(module), "compute_bounds", stops_late)
    with pytest.raises(KeyboardInterrupt):
        bounder.pixels(small)
    monkeypatch.setattr(type(module), "compute_bounds", original)
    with pytest.raises(EngineError, match="interrupted in the middle of a bound"):
        bounder.differences(large, above, below)


def test_the_rounding_bound_sees_cancellation_in_batch_norm(tmp_path) -> None:
    """A bias of 1e12 against a mean of 1e12: what is left was computed with an error of 1e-4."""
    errors = []
    for offset in (0.0, 1e12):
        model = OnnxModel((1, 5, 5))
        value = model.node(
            "Conv", "image", np.full((2, 1, 3, 3), 1e-3, np.float32), np.full(2, offset, np.float32)
        )
        ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
        mean = np.full(2, offset, np.float32)
        value = model.node("BatchNormalization", value, ones, zeros - 1, mean, ones, epsilon=1e-5)
        value = model.node("Relu", value)
        same = model.node("Conv", "image", np.ones((1, 1, 3, 3), np.float32))
        features = model.node("Concat", value, same, axis=1)
        network = load(model.save(tmp_path, model.head(features, np.ones((2, 3)))))
        errors.append(rounding(network, 0).value)
    assert errors[0] < 1e-10
    assert errors[1] > 1e-5


def test_a_deadline_in_the_past_decides_nothing(tmp_path) -> None:
    rng = np.random.default_rng(11)
    network = load(random_cam_network(rng, tmp_path))
    image = rng.random(network.input_shape, dtype=np.float32)
    result = verify(network, image, k=5, eps=1e-6, attack=None, time_limit=1e-9)
    assert result.status is Status.TIME_LIMIT
    assert result.certificate.radius == 0


@pytest.mark.parametrize("method", list(PatchMethod))
def test_a_relu_of_the_image_itself(method, tmp_path) -> None:
    """Once a KeyError: the pattern of a maximum looked for the layer that makes the image."""
    rng = np.random.default_rng(2)
    model = OnnxModel((2, 6, 6))
    value = model.node("Conv", "image", float32(rng, 2, 2, 3, 3), pads=[1, 1, 1, 1])
    value = model.node("Add", value, model.node("Relu", "image"))
    network = load(model.save(tmp_path, model.head(value, np.ones((2, 2)))))
    ball = Ball(torch.from_numpy(rng.random(network.input_shape, dtype=np.float32)), 0.1)
    bounds = PatchEngine(method).bind(network, 0, torch.float64).pixels(ball)
    images = inside(network, ball, 0, 60, 0)
    with torch.no_grad():
        cams = network.head.cam(network.trunk(images), 0).flatten(1)
    assert (bounds.lower <= cams + 1e-9).all()
    assert (cams <= bounds.upper + 1e-9).all()


@pytest.mark.parametrize("ends", [(np.nan, np.nan), (-np.inf, np.inf)], ids=str)
@pytest.mark.parametrize("method", [PatchMethod.CROWN_IBP, PatchMethod.CROWN])
def test_an_unknown_relu_input_is_not_dead(method, ends, tmp_path, monkeypatch) -> None:
    """Every comparison with NaN is false; that must not read as "has one sign".

    With intervals blind, CROWN-IBP knows nothing of the relus and every row must be vacuous; CROWN bounds
    them by rows on the image, and is no tighter than it is otherwise.
    """
    rng = np.random.default_rng(3)
    model = OnnxModel((2, 6, 6))
    value = model.node("Conv", "image", float32(rng, 3, 2, 3, 3))
    value = model.node("Conv", model.node("Relu", value), float32(rng, 3, 3, 2, 2))
    network = load(model.save(tmp_path, model.head(model.node("Relu", value), np.ones((2, 3)))))
    ball = Ball(torch.from_numpy(rng.random(network.input_shape, dtype=np.float32)), 0.1)
    seeing = PatchEngine(method).bind(network, 0, torch.float64).pixels(ball)
    step = state_module.interval_step

    def blind(*arguments):
        found = step(*arguments)
        return Interval(torch.full_like(found.lower, ends[0]), torch.full_like(found.upper, ends[1]))

    monkeypatch.setattr(state_module, "interval_step", blind)
    bounder = PatchEngine(method).bind(network, 0, torch.float64)
    bounds = bounder.pixels(ball)
    images = inside(network, ball, 0, 60, 0)
    with torch.no_grad():
        cams = network.head.cam(network.trunk(images), 0).flatten(1)
    assert (bounds.lower <= cams + 1e-9).all()
    assert (cams <= bounds.upper + 1e-9).all()
    if method is PatchMethod.CROWN_IBP:
        assert all(windows.live.all() for windows in bounder._bounds(ball).state.windows.values())
        assert not torch.isfinite(bounds.lower).any()
        assert not torch.isfinite(bounds.upper).any()
    else:
        assert (bounds.upper - bounds.lower >= seeing.upper - seeing.lower - 1e-9).all()


def test_a_bounder_whose_library_failed_is_not_used_again(tmp_path, monkeypatch) -> None:
    rng = np.random.default_rng(9)
    network = load(random_cam_network(rng, tmp_path))
    ball = Ball(torch.from_numpy(rng.random(network.input_shape, dtype=np.float32)), 0.1)
    above, below = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    for fails_on in ("map", "features"):
        bounder = LirpaEngine().bind(network, 0, torch.float64)
        bounder.pixels(ball)

        def fails(*_, **__):
            raise AssertionError

        with monkeypatch.context() as patched:
            patched.setattr(type(bounder._built["map", True]), "compute_bounds", fails)
            with pytest.raises(EngineError, match="cannot bound this network"):
                bounder.features(ball) if fails_on == "features" else bounder.differences(ball, above, below)
        with pytest.raises(EngineError, match="in the middle of a bound"):
            bounder.differences(ball, above, below)


def test_a_pool_of_41_elements_a_side(tmp_path) -> None:
    """Upsampling by a float scale factor repeats wrongly for sides 41, 47, 55: certified 0.040 once."""
    model = OnnxModel((1, 82, 41))
    value = model.node("Conv", "image", np.ones((1, 1, 1, 1), np.float32))
    value = model.node("MaxPool", value, kernel_shape=[41, 41], strides=[41, 41])
    network = load(model.save(tmp_path, model.head(value, np.ones((2, 1), np.float32))))
    rng = np.random.default_rng(0)
    image = rng.random(network.input_shape, dtype=np.float32) * 0.1
    image[0, 40, 40], image[0, 81, 40] = 0.6, 0.4
    ball = Ball(torch.from_numpy(image), 0.05)
    for dtype in (torch.float32, torch.float64):
        bounds = PatchEngine().bind(network, 0, dtype).pixels(ball)
        assert bounds.lower[0] <= 0.55 + 1e-6
        assert bounds.upper[0] >= 0.65 - 1e-6
        assert bounds.upper[1] >= 0.45 - 1e-6


def test_an_engine_that_bounds_another_function_is_refused(tmp_path) -> None:
    """At radius 0 rows have nothing to do: the gate must also look at a ball."""

    class Flattened:
        """Bounds as narrow as a point, whatever the radius."""

        def __init__(self, inner):
            self.inner = inner

        def pixels(self, ball, low=None, high=None):
            return self.inner.pixels(ball.with_radius(0.0))

    rng = np.random.default_rng(9)
    network = load(random_cam_network(rng, tmp_path))
    image = rng.random(network.input_shape, dtype=np.float32)
    bounder = PatchEngine().bind(network, 0, torch.float64)
    check_engine_on_a_ball(network, 0, bounder, image)
    with pytest.raises(GateError, match="outside the engine's bounds"):
        check_engine_on_a_ball(network, 0, Flattened(bounder), image)


def test_bounds_at_radius_zero_may_be_loose_but_not_wrong(tmp_path) -> None:
    """A deep network's rounding makes them wide; only bounds that do not hold tell of another function."""

    class Moved:
        """Bounds moved down and widened, in shares of their largest value."""

        def __init__(self, inner, down, wider):
            self.inner, self.down, self.wider = inner, down, wider
            self.middle = inner.middle

        def intervals(self, ball):
            found = self.inner.intervals(ball)
            size = float(found.upper.abs().max())
            low, high = (-self.down - self.wider) * size, (-self.down + self.wider) * size
            return replace(found, lower=found.lower + low, upper=found.upper + high)

        pixels = intervals

    rng = np.random.default_rng(9)
    network = load(random_cam_network(rng, tmp_path))
    images = rng.random((1, *network.input_shape), dtype=np.float32)
    bounder = PatchEngine().bind(network, 0, torch.float64)
    check_engine_at_radius_zero(network, 0, Moved(bounder, 0.0, 0.01), images)
    check_engine_at_radius_zero(network, 0, Moved(bounder, 0.01, 0.02), images)
    with pytest.raises(GateError, match="bound of the map at radius 0 differs"):
        check_engine_at_radius_zero(network, 0, Moved(bounder, 0.01, 0.0), images)


def test_the_ball_of_a_deep_network_shows_bounds_five_percent_too_narrow(tmp_path) -> None:
    """It is tiny, so that rows have few undecided windows, and is looked at in float64."""

    class Narrowed:
        def __init__(self, inner, share):
            self.inner, self.share = inner, share

        def pixels(self, ball, low=None, high=None):
            found = self.inner.pixels(ball, low, high)
            middle, half = (found.upper + found.lower) / 2, self.share * (found.upper - found.lower) / 2
            return Interval(middle - half, middle + half)

    rng = np.random.default_rng(3)
    network = load(deep_network(rng, tmp_path, 12))
    image = rng.random(network.input_shape, dtype=np.float32)
    bounder = PatchEngine().bind(network, 0, torch.float64)
    check_engine_on_a_ball(network, 0, Narrowed(bounder, 1.0), image)
    with pytest.raises(GateError, match="outside the engine's bounds"):
        check_engine_on_a_ball(network, 0, Narrowed(bounder, 0.95), image)


def deep_network(rng: np.random.Generator, folder: Path, depth: int) -> Path:
    """A chain of 3 x 3 convolutions of 8 channels, each with its Relu, on 12 x 12 pixels."""
    model, value, channels = OnnxModel((3, 12, 12)), "image", 3
    for _ in range(depth):
        weight = float32(rng, 8, channels, 3, 3) * np.float32(np.sqrt(2 / (9 * channels)))
        value = model.node("Relu", model.node("Conv", value, weight, pads=[1, 1, 1, 1]))
        channels = 8
    return model.save(folder, model.head(value, float32(rng, 3, 8)))


def test_a_deep_network_does_not_end_as_a_tie_within_rounding(tmp_path) -> None:
    """The product of all absolute weights of 16 layers dwarfs the map; the rounding of each step does not."""
    rng = np.random.default_rng(0)
    network = load(deep_network(rng, tmp_path, 16))
    image = rng.random(network.input_shape, dtype=np.float32)
    result = verify(network, image, k=5, attack=None, exact=None, eps=1e-6)
    assert rounding(network, result.class_id).value > 1e6 * result.top.gap
    assert result.status is Status.PROVED


@pytest.mark.parametrize("seed", range(3))
def test_huge_weights_do_not_make_norms_vanish(seed: int, tmp_path) -> None:
    """Their squares overflowed float32, the norm became 0, and a whole layer counted as decided."""
    rng, model, value = np.random.default_rng(seed), OnnxModel((2, 8, 8)), IMAGE
    for inputs, scale in ((2, 1e25), (4, 1e-25), (4, 1.0)):
        weight = float32(rng, 4, inputs, 3, 3, scale=0.4) * np.float32(scale)
        bias = float32(rng, 4, scale=0.1) * np.float32(scale if scale > 1 else 1)
        value = model.node("Relu", model.node("Conv", value, weight, bias))
    network = load(model.save(tmp_path, model.head(value, float32(rng, 2, 4))))
    image = rng.random(network.input_shape, dtype=np.float32)
    bounds = {"k": 3, "exact": None, "engine": PatchEngine(work=0), "max_evaluations": 8}
    attacked = verify(network, image, attack=AttackOptions(steps=30, rounds=20), **bounds).attack
    alone = verify(network, image, attack=None, **bounds).certificate
    if attacked is None:  # a tie: nothing is attacked, and nothing may be certified
        assert alone.radius == 0
    else:
        assert attacked.radius is None or alone.radius < attacked.radius
