"""Every entry point answers the same in any state a process may be in, and leaves that as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import corgi
from corgi.ambient import settled
from corgi.budget import left, limited
from corgi.certify.curve import radius_curve
from corgi.certify.radii import RadiiOptions, pixel_radii
from corgi.smoothing.smooth import smooth
from corgi.vnnlib.decide import decide
from corgi.vnnlib.network import load_plain
from tests.batch.cases import SHAPE, save_model
from tests.vnnlib.nets import at_least, conv_network, one_case

QUICK = corgi.AttackOptions(steps=3, restarts=1, rounds=6)
EXACT = corgi.ExactOptions(gap=0.3)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def precision() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def flushing() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


STATES: dict[str, tuple[Callable[[], AbstractContextManager[Any]], ...]] = {
    "no gradients": (torch.no_grad, deterministic, flushing),
    "gradients off, on the cpu": (lambda: torch.set_grad_enabled(False), lambda: default_device("cpu")),
    "inference": (torch.inference_mode, precision),
    "float64 on meta": (
        lambda: default_dtype(torch.float64),
        lambda: default_device("meta"),
        lambda: torch.autograd.set_detect_anomaly(True),
        lambda: np.errstate(all="raise"),
    ),
    "bfloat16 under autocast": (
        lambda: default_dtype(torch.bfloat16),
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", torch.bfloat16),
    ),
}


def state() -> tuple[Any, ...]:
    """All that may have changed."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        float(torch.tensor(2.0**-1074, dtype=torch.float64, device="cpu") * 1) > 0,
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        tuple(np.geterr().items()),
    )


class Asked:
    """A small network, an image, and every entry point asked of them."""

    def __init__(self, folder: Path) -> None:
        self.path = save_model(folder)
        self.network = corgi.load(self.path)
        self.image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
        self.file = folder / "image.npy"
        np.save(self.file, self.image)
        plain = conv_network(np.random.default_rng(0), folder)
        self.plain, self.plain_path = load_plain(plain), plain
        corner = np.random.default_rng(1).random(self.plain.inputs).astype(np.float32)
        self.spec = one_case(
            corner, corner + np.float32(0.02), 3, (at_least(0, 50.0),), (at_least(1, -50.0),)
        )

    def options(self, **changes: Any) -> corgi.VerifyOptions:
        return corgi.VerifyOptions(**{"k": 3, "attack": QUICK, "exact": EXACT, "tolerance": 0.2} | changes)

    def bounder(self, engine: Any) -> list[Any]:
        bounder = engine.bind(self.network, 0, torch.float64)
        ball = corgi.Ball(torch.from_numpy(self.image), 0.01)
        pair = torch.tensor([0], device="cpu"), torch.tensor([20], device="cpu")
        bounds = bounder.pixels(ball)
        found = [bounds.lower, bounds.upper, bounder.differences(ball, *pair), bounder.sharpened(ball, *pair)]
        return [
            value.tolist() for value in (*found, bounder.features(ball).lower, bounder.intervals(ball).upper)
        ]

    def load(self) -> Any:
        return corgi.load(self.path).cam(self.image, 0).tolist()

    def read_image(self) -> Any:
        return corgi.read_image(self.file, self.network, "resize").tolist()

    def network_methods(self) -> Any:
        cam, label = self.network.oracle_cam(self.image, 0)
        fixed = self.network.explaining(self.image, 0)
        return self.network.predict(self.image), cam.tolist(), label, fixed.cam(self.image, 0).tolist()

    def gradcam(self) -> Any:
        network = corgi.load(self.path, map_kind=corgi.MapKind.GRADCAM)
        return corgi.explain(network, self.image, 3).cam.tolist()

    def explain(self) -> Any:
        found = corgi.explain(self.network, self.image, 3)
        return found.cam.tolist(), found.rounding

    def verify(self) -> Any:
        found = corgi.verify(self.network, self.image, self.options(label=True))
        assert found.label is not None
        assert found.attack is not None
        return found.certificate.radius, found.attack.radius, found.label.radius, found.status

    def verify_by_others(self) -> Any:
        engines = corgi.PatchEngine(corgi.PatchMethod.FOCUS), corgi.LipschitzEngine(), corgi.LirpaEngine()
        asked = [
            self.options(engine=engine, exact=None, max_evaluations=3, attack=None) for engine in engines
        ]
        return [corgi.verify(self.network, self.image, options).certificate.radius for options in asked]

    def verify_batch(self) -> Any:
        found = corgi.verify_batch(self.network, [self.image], self.options(attack=None), radii=[1e-4, 0.1])
        return [result.status for row in found for result in row]

    def verify_ranks(self) -> Any:
        found = corgi.verify_ranks(self.network, self.image, [(2, 2), (2, 3)], self.options(exact=None))
        return [result.certificate.radius for result in found]

    def verify_properties(self) -> Any:
        found = corgi.verify_properties(
            self.network, self.image, ["topk", "overlap"], self.options(exact=None), keep=1
        )
        return [result.certificate.radius for result in found.results]

    def bounders(self) -> Any:
        engines = (
            corgi.PatchEngine(corgi.PatchMethod.ALPHA_CROWN),
            corgi.LipschitzEngine(),
            corgi.LirpaEngine(),
        )
        return [self.bounder(engine) for engine in engines]

    def smooth(self) -> Any:
        base = corgi.Sparsified(corgi.CamMap(self.network, 0), 3)
        tally, found = smooth(base, self.image, corgi.SmoothOptions(samples=60))
        return tally.mean.tolist(), found.status

    def curve(self) -> Any:
        found = radius_curve(self.network, self.image, [2], (), self.options(exact=None))
        return [point.certified for point in found.by_k]

    def radii(self) -> Any:
        options = RadiiOptions(k=2, outside=0, exact=EXACT, attack=QUICK)
        return pixel_radii(self.network, self.image, options).certified.tolist()

    def sweep(self) -> Any:
        found = corgi.sweep(self.network, self.image, "brightness", sizes=(0.001,), k=2)
        return found.sizes, found.certified, found.broken

    def vnnlib(self) -> Any:
        found = decide(load_plain(self.plain_path), self.spec, float("inf"))
        return found.answer, found.reason

    def refused(self) -> Any:
        with pytest.raises(corgi.CorgiError):
            corgi.verify(self.network, self.image + 2, self.options())


ENTRIES = [
    name
    for name, value in vars(Asked).items()
    if callable(value) and name not in ("__init__", "options", "bounder")
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Asked:
    return Asked(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def answers(asked) -> dict[str, Any]:
    return {name: getattr(asked, name)() for name in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", STATES)
def test_an_entry_point_answers_the_same_in_any_state_and_leaves_it(name, entry, asked, answers) -> None:
    with ExitStack() as stack:
        for begun in STATES[name]:
            stack.enter_context(begun())
        before = state()
        found = getattr(asked, entry)()
        assert state() == before
    assert found == answers[entry]


def test_what_was_left_behind_inside_is_put_back() -> None:
    """Ctrl-C while a `with` of corgi ends leaves what it had set; entry points do not."""
    before, scope = state(), limited(0.0)  # a deadline that is over

    @settled()
    def stopped() -> None:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        scope.__enter__()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert state() == before
    assert left() == math.inf
