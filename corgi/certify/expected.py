"""What one bound of a network will take, before any is drawn: counted from intervals, timed on a few rows.

Rows on undecided windows are nearly all of the work. How many there are intervals say, which are far wider
than the bounds of the windows before will be: the count is what rows can take at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from corgi.ambient import settled
from corgi.budget import check
from corgi.engines.interface import BoundEngine
from corgi.engines.patch.engine import PatchBounder, PatchEngine
from corgi.errors import EngineError
from corgi.lipschitz.engine import LipschitzEngine
from corgi.network.network import Network
from corgi.progress import Listener, Progress, silent
from corgi.types import Ball

RADII = (1 / 255, 1e-5)
"""One level of an 8-bit picture, and a radius that deep networks have bounds for."""


@dataclass(frozen=True)
class Expected:
    """One bound of the whole map by engine patch, with its defaults.

    Attributes:
        radius: of the l_inf ball around an image of noise, pixel scale.
        multiply_adds: that rows on undecided windows can take.
        most: that the engine spends; where they would take more, bounds are cut short and looser.
        seconds: at most, on this machine; bytes: about, in memory.
    """

    radius: float
    multiply_adds: float
    most: float
    seconds: float
    bytes: int


@dataclass(frozen=True)
class EngineReport:
    """Whether an engine can bound a network.

    Attributes:
        engine: its name.
        refusal: its own refusal; None if it can.
        expected: what bounds of some radii take; empty where that is not counted.
    """

    engine: str
    refusal: EngineError | None
    expected: tuple[Expected, ...] = ()


@settled()
def engine_reports(
    network: Network, radii: Sequence[float] = RADII, listener: Listener = silent
) -> tuple[EngineReport, ...]:
    """What every engine makes of a network; for a class whose weights are known."""
    found = []
    for name, engine in ENGINES.items():
        try:
            engine().check(network)
        except EngineError as error:
            found.append(EngineReport(name, error))
            continue
        counted = name == "patch" and len(radii) > 0 and _weighted(network)
        found.append(EngineReport(name, None, _expected(network, radii, listener) if counted else ()))
    return tuple(found)


def _lirpa() -> BoundEngine:
    """Its module refuses to load where auto_LiRPA is not installed."""
    from corgi.engines.lirpa import LirpaEngine

    return LirpaEngine()


ENGINES: dict[str, Callable[[], BoundEngine]] = {
    "patch": PatchEngine,
    "lipschitz": LipschitzEngine,
    "lirpa": _lirpa,
}
"""Every engine with its defaults, by the name a user gives it."""


def _weighted(network: Network) -> bool:
    """Grad-CAM has its weights from an image."""
    return bool(torch.isfinite(network.head.weight[0]).all())


def _expected(network: Network, radii: Sequence[float], listener: Listener) -> tuple[Expected, ...]:
    engine = PatchEngine()
    noise = np.random.default_rng(0).random(network.input_shape, dtype=np.float32)
    found = []
    for radius in sorted(radii, reverse=True):
        check()
        listener(Progress("inspect", f"intervals of a ball of radius {radius:.2g}; about as long for each"))
        bounder = engine.bind(network, 0, torch.float64)  # anew: one keeps the balls it has bounded
        work, kept = bounder.undecided_work(Ball(torch.from_numpy(noise), radius))
        # In float64, again in float32, and what passes hold at a time.
        found.append((radius, work, int(1.5 * kept) + 2 * engine.budget))
    listener(Progress("inspect", "a few rows are timed"))
    rate = _rate(bounder, network, Ball(torch.from_numpy(noise), min(radii)))
    return tuple(
        Expected(radius, work, engine.work, min(work, engine.work) / rate, kept)
        for radius, work, kept in found
    )


_ROWS, _SAMPLE = 64, 0.5
"""Rows that are timed at most, and the seconds of a sample that is long enough."""


def _rate(bounder: PatchBounder, network: Network, ball: Ball) -> float:
    """Multiply-adds a second of rows from the map to the image, as they run in float32."""
    count, most = 1, min(_ROWS, network.pixels)
    bounder.begin_rows(ball)  # what is made once, for all rows
    while True:
        started = time.perf_counter()
        work = bounder.sample_rows(ball, torch.arange(count))
        seconds = max(time.perf_counter() - started, 1e-9)
        if count == most or seconds > _SAMPLE:
            return max(work / seconds, 1.0)
        count = min(most, 8 * count)
