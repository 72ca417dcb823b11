from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.api import read_image
from corgi.budget import check, limited
from corgi.budget import heard as listened
from corgi.cli.common import npy_bytes
from corgi.errors import EngineError, UsageError
from corgi.network.network import load
from corgi.network.wrap import Normalisation
from corgi.progress import Progress
from corgi.results import MapKind
from corgi.smoothing.cam_map import CamMap
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.maps.integrated import IntegratedGradientsMap
from corgi.smoothing.maps.quadratic import Quadratic
from corgi.smoothing.maps.relaxed import Relaxed
from corgi.smoothing.maps.saliency import SaliencyMap
from corgi.smoothing.noise import Noise
from corgi.smoothing.rank_scores import RankScores
from corgi.smoothing.sparsified import Sparsified
from corgi.smoothing.state import read_state, state_bytes
from corgi.smoothing.tally import (
    LARGEST_BATCH,
    MEMORY,
    Tally,
    batch_of,
    check_continues,
    empty,
    sample,
)
from tests.interrupts import interrupted, lines_of, some
from tests.smoothing.synthetic import Halfspaces, Spread, tally_of

IMAGE = np.full((1, 1, 4), 0.5, dtype=np.float32)
HALVES = Halfspaces(((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, -1.0, 0)), (0.4, 0.6, -0.5))
NOISE = Noise(0.3, seed=5)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("base", [HALVES, Spread(), RankScores(Spread(), 2)])
def test_more_samples_give_what_one_run_gives(base: BaseMap) -> None:
    for batch in (None, 1, 7, 64):  # the last digit depends on the batch, even in these maps
        whole = sample(empty(base, IMAGE, NOISE, batch), base, IMAGE, 257)
        parts = empty(base, IMAGE, NOISE, batch)
        for samples in (10, 10, 200, 257):
            parts = sample(parts, base, IMAGE, samples)
        assert whole.samples == parts.samples == 257
        assert np.array_equal(whole.sums, parts.sums)
        assert np.array_equal(whole.squares, parts.squares)


def test_a_sample_has_its_place_in_its_batch_wherever_runs_end() -> None:
    """A map may depend on the batch: here very much so, and the sums do not show where runs ended."""

    class Placed(Spread):
        def __call__(self, images: Tensor) -> Tensor:
            assert len(images) == 7
            return (super().__call__(images) + torch.arange(7.0)[:, None] + images.mean()) / 20

    base = Placed()
    whole = sample(empty(base, IMAGE, NOISE, 7), base, IMAGE, 41)
    parts = empty(base, IMAGE, NOISE, 7)
    for samples in (1, 6, 7, 8, 22, 41):
        parts = sample(parts, base, IMAGE, samples)
    assert np.array_equal(whole.sums, parts.sums)


def test_batches_fit_into_memory() -> None:
    assert batch_of(Spread(), 4) == LARGEST_BATCH
    assert batch_of(Spread(live=2**22), 4) == MEMORY // 2**24 - 1
    assert batch_of(Spread(), MEMORY) == batch_of(Spread(live=MEMORY), 4) == 1
    network = load(ROOT / "models" / "gtsrb.onnx")
    cam = CamMap(network, 17)
    sizes = [math.prod(shape) for shape in network.shapes.values()]
    assert max(sizes) <= cam.live < SaliencyMap(network, 17).live
    assert cam.live < Sparsified(cam, 3).live


def in_time(limit: float, seconds: list[float], base: BaseMap = HALVES) -> tuple[Tally, list[Progress]]:
    """What is sampled of 100 in a time, in batches of 8 that take so long, each checked in its middle."""
    now, heard, rest = 0.0, list[Progress](), iter(seconds)

    class Timed:
        def __getattr__(self, name: str) -> object:
            return getattr(base, name)

        def __call__(self, images: Tensor) -> Tensor:
            nonlocal now
            half = next(rest) / 2
            now += half
            check()
            now += half
            return base(images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corgi.budget.time.monotonic", lambda: now)
        with limited(limit), listened(heard.append):
            tally = sample(empty(Timed(), IMAGE, NOISE, 8), Timed(), IMAGE, 100)
    return tally, heard


def test_when_time_is_up_what_there_is_counts() -> None:
    tally, heard = in_time(4.0, [1.0] * 9)
    assert tally.samples == 24  # a fourth batch would take what is left
    assert [p.detail for p in heard][:2] == [
        "8 of 100 noisy images, about 12 s to go", "16 of 100 noisy images, about 10 s to go"
    ]  # fmt: skip
    assert np.array_equal(tally.sums, sample(empty(HALVES, IMAGE, NOISE), HALVES, IMAGE, 24).sums)
    assert in_time(0.0, [1.0])[0].samples == 0


def test_a_batch_that_time_ends_is_dropped_whole() -> None:
    tally, heard = in_time(4.5, [1.0, 1.0, 9.0])
    assert (tally.samples, len(heard)) == (16, 2)
    assert np.array_equal(tally.sums, sample(empty(HALVES, IMAGE, NOISE, 8), HALVES, IMAGE, 16).sums)
    assert in_time(4.5, [9.5])[0].samples == 0
    assert in_time(4.5, [5.0])[0].samples == 8  # it ended late, and counts


@given(st.floats(0, 20), st.lists(st.floats(0.01, 9), min_size=13, max_size=13))
def test_how_many_samples_there_are_follows_from_the_clock_alone(limit: float, seconds: list[float]) -> None:
    assert in_time(limit, seconds)[0].samples == in_time(limit, seconds, Spread())[0].samples


def test_means_are_those_of_the_population() -> None:
    tally = sample(empty(HALVES, IMAGE, NOISE), HALVES, IMAGE, 4000)
    assert tally.mean == pytest.approx(HALVES.population(IMAGE, 0.3), abs=0.04)
    assert np.array_equal(tally.sums, tally.squares)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    half = replace(sample(empty(HALVES, IMAGE, NOISE), HALVES, IMAGE, 130), spent="a way")
    path.write_bytes(state_bytes(half))
    read = read_state(path)
    check_continues(read, empty(HALVES, IMAGE, NOISE), "state")
    assert (read.samples, read.spent, read.noise, read.map_shape) == (130, "a way", NOISE, (1, 3))
    assert (read.at_rung().samples, read.at_rung().rung) == (100, 0)
    whole = sample(empty(HALVES, IMAGE, NOISE), HALVES, IMAGE, 257)
    resumed = sample(read, HALVES, IMAGE, 257)
    for name in ("sums", "squares", "rung_sums", "rung_squares"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name))
    assert np.array_equal(whole.rung_sums, sample(empty(HALVES, IMAGE, NOISE), HALVES, IMAGE, 200).sums)


def test_sums_of_something_else_are_not_continued() -> None:
    saved = empty(HALVES, IMAGE, NOISE)
    other: dict[str, Tally] = {
        "model or image": empty(replace(HALVES, model="another"), IMAGE, NOISE),
        "another model or image": empty(HALVES, IMAGE + np.float32(0.1), NOISE),
        "batch": empty(HALVES, IMAGE, NOISE, 3),
        "seed": empty(HALVES, IMAGE, replace(NOISE, seed=6)),
        "sigma": empty(HALVES, IMAGE, replace(NOISE, sigma=0.2)),
        "noise": empty(HALVES, IMAGE, replace(NOISE, shape=1.0)),
        "map": empty(replace(HALVES, name="others"), IMAGE, NOISE),
    }
    for what, asked in other.items():
        with pytest.raises(UsageError, match=what):
            check_continues(saved, asked, "state")


def test_damaged_states_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    whole = state_bytes(sample(empty(HALVES, IMAGE, NOISE), HALVES, IMAGE, 10))
    damaged = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "text": b"no file of counts",
        "an array": npy_bytes(np.zeros(3)),
        "too many": state_bytes(tally_of(np.array([11.0, 1, 1]), 10)),
        "not a number": state_bytes(tally_of(np.array([np.nan, 1, 1]), 10)),
        "negative": state_bytes(tally_of(np.array([-1.0, 1, 1]), 10)),
        "half a count": state_bytes(tally_of(np.array([0.5, 1, 1]), 10)),
        "size": state_bytes(replace(tally_of(np.array([1.0, 1, 1]), 10), map_shape=(2, 2))),
        "samples": state_bytes(tally_of(np.array([0.0]), -1)),
        "a rung of none": state_bytes(replace(tally_of(np.array([9.0]), 10), rung_sums=np.ones(1))),
        "a rung above all": state_bytes(
            replace(tally_of(np.array([9.0]), 100), rung_sums=np.array([10.0]), rung_squares=np.array([10.0]))
        ),
    }
    for content in damaged.values():
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"state\.npz"):
            read_state(path)
    with pytest.raises(UsageError):
        read_state(tmp_path / "missing.npz")


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with np.load(_written(path)) as file:
        changed = {name: file[name] for name in file.files}
    changed["described"] = np.array(str(changed["described"]).replace('"version":3', '"version":1'))
    np.savez(path, **changed)
    with pytest.raises(UsageError, match="version 1, expected 3"):
        read_state(path)


def _written(path: Path) -> Path:
    path.write_bytes(state_bytes(empty(HALVES, IMAGE, NOISE)))
    return path


def test_an_interrupt_at_any_line_keeps_whole_batches() -> None:
    network = load(ROOT / "models" / "gtsrb.onnx")
    base = Sparsified(CamMap(network, 17), 15)
    image = np.full(network.input_shape, 0.4, dtype=np.float32)
    sums = {8 * i: sample(empty(base, image, NOISE, 8), base, image, 8 * i).sums for i in range(4)}
    found: list[Tally] = []

    def run() -> None:
        found.append(sample(empty(base, image, NOISE, 8), base, image, 24))

    moments = some(lines_of(run, ""), 60)
    out = sum(interrupted(run, "", at) for at in moments)
    assert len(found) == 1 + len(moments) - out  # those that come out are before or behind the sampling
    assert out < 20
    for tally in found:
        assert np.array_equal(tally.sums, sums[tally.samples])
    assert len({tally.samples for tally in found}) == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.5])
@pytest.mark.parametrize("wrapped", [False, True])
def test_values_outside_the_contract_are_never_counted(value: float, wrapped: bool) -> None:
    class Wrong(Spread):
        def __call__(self, images: Tensor) -> Tensor:
            values = super().__call__(images)
            values[0, 2] = value
            return values

    base: BaseMap = Wrong()
    if wrapped:  # ranks of values that are not finite would hide it
        if np.isfinite(value):
            return
        for outer in (Sparsified(base, 2), RankScores(base, 2)):
            with pytest.raises(EngineError, match="nan"):
                sample(empty(outer, IMAGE, NOISE), outer, IMAGE, 4)
        return
    with pytest.raises(EngineError, match="expected values in"):
        sample(empty(base, IMAGE, NOISE), base, IMAGE, 4)


def test_a_binary_map_has_0_and_1_only() -> None:
    base = Spread(binary=True)
    with pytest.raises(EngineError, match="expected 0 or 1"):
        sample(empty(base, IMAGE, NOISE), base, IMAGE, 4)


def test_shape_of_the_answer_is_checked() -> None:
    class Long(Spread):
        def __call__(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), self.n + 1)

    with pytest.raises(EngineError, match="shape"):
        sample(empty(Long(), IMAGE, NOISE), Long(), IMAGE, 4)


def test_smoothed_gradcam_says_where_its_weights_are_from() -> None:
    network = load(ROOT / "models" / "gtsrb.onnx", map_kind=MapKind.GRADCAM)
    image = read_image(ROOT / "models" / "demo" / "no_entry.png", network)
    cam = CamMap(network.explaining(image, 17), 17)
    assert Sparsified(cam, 3).name == (
        "gradcam of class 17, weights fixed at the explained image, its 3 largest"
    )
    assert CamMap(load(ROOT / "models" / "gtsrb.onnx"), 17).name == "cam of class 17"


def test_the_model_of_a_map_is_all_that_its_values_depend_on() -> None:
    path = ROOT / "models" / "gtsrb.onnx"
    network, again = load(path), load(path)
    scaled = load(path, normalisation=Normalisation((0.0,), (1.0,), 2.0))
    gradcam = load(path, map_kind=MapKind.GRADCAM)
    image = read_image(ROOT / "models" / "demo" / "no_entry.png", network)
    fixed = gradcam.explaining(image, 17)
    elsewhere = replace(fixed, head=replace(fixed.head, weight=fixed.head.weight * 2))
    models = [CamMap(n, 17).model for n in (network, scaled, gradcam, fixed, elsewhere)]
    assert len(set(models)) == len(models)
    base: BaseMap = CamMap(again, 17)
    for outer in (Sparsified(base, 2), RankScores(base, 2), Quadratic(base), Relaxed(base, 1, 2)):
        assert outer.model == base.model == models[0]
    assert SaliencyMap(again, 17).model == IntegratedGradientsMap(again, 17).model == models[0]


def test_the_class_activation_map() -> None:
    network = load(ROOT / "models" / "gtsrb.onnx")
    image = read_image(ROOT / "models" / "demo" / "no_entry.png", network)
    cam = CamMap(network, 17)
    values = cam(torch.from_numpy(image)[None])[0].double().numpy()
    exact = network.cam(image, 17).numpy().ravel()
    assert values.min() == 0
    assert values.max() == 1
    assert values == pytest.approx((exact - exact.min()) / (exact.max() - exact.min()), abs=1e-5)
    top = Sparsified(cam, 15)
    ones = np.flatnonzero(top(torch.from_numpy(image)[None])[0].numpy())
    assert set(ones) == set(np.argsort(-exact, kind="stable")[:15])
    tally = sample(empty(top, image, Noise(0.1)), top, image, 20)
    assert tally.sums.sum() == 20 * 15
    parts = sample(sample(empty(top, image, Noise(0.1)), top, image, 13), top, image, 20)
    assert np.array_equal(tally.sums, parts.sums)
    flat = cam(torch.zeros((1, *network.input_shape)))
    assert bool(((flat >= 0) & (flat <= 1)).all())
