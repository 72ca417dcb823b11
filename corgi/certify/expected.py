"""What one bound of a network will take, before any is drawn."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from corgi.ambient import settled
from corgi.budget import check, tell
from corgi.certify.methods import default_engine
from corgi.engines.interface import Cost
from corgi.errors import EngineError
from corgi.network.network import Network
from corgi.terms import EngineName
from corgi.types import Ball

RADII = (1 / 255, 1e-5)
"""One level of an 8-bit picture, and a radius that deep networks have bounds for."""


@dataclass(frozen=True)
class Expected:
    """One bound of the whole map by engine patch, with its defaults.

    Attributes:
        radius: of the l_inf ball around an image of noise, pixel scale.
        taken: what it takes; memory with what the process holds already.
    """

    radius: float
    taken: Cost


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
def engine_reports(network: Network, radii: Sequence[float] = RADII) -> tuple[EngineReport, ...]:
    """What every engine makes of a network; for a class whose weights are known."""
    found = []
    for name in ENGINES:
        try:
            engine = default_engine(name)
            engine.check(network)
        except EngineError as error:
            found.append(EngineReport(name, error))
            continue
        taken_by = engine.costs(network) if len(radii) > 0 and _weighted(network) else None
        expected = () if taken_by is None else _expected(network, taken_by, radii)
        found.append(EngineReport(name, None, expected))
    return tuple(found)


ENGINES = (EngineName.PATCH, EngineName.LIPSCHITZ, EngineName.LIRPA)
"""Every engine, in the order of the reports."""


def _weighted(network: Network) -> bool:
    """Grad-CAM has its weights from an image."""
    return bool(torch.isfinite(network.head.weight[0]).all())


def _expected(
    network: Network, taken_by: Callable[[Ball], Cost], radii: Sequence[float]
) -> tuple[Expected, ...]:
    noise = np.random.default_rng(0).random(network.input_shape, dtype=np.float32)
    before, found = _memory(), []
    for radius in sorted(radii, reverse=True):
        check()
        tell("inspect", f"a few rows of a ball of radius {radius:.2g} are timed")
        taken = taken_by(Ball(torch.from_numpy(noise), radius))
        found.append(Expected(radius, replace(taken, bytes=before + taken.bytes)))
    return tuple(found)


def _memory() -> int:
    """The most bytes that this process has held so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
