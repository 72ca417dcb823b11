"""Engines bound to networks, held against onnxruntime before their bounds count."""

from __future__ import annotations

import time

import numpy as np

from corgi.ambient import settled
from corgi.budget import left, limited
from corgi.engines.gate import check_engine_at_radius_zero, check_engine_on_a_ball
from corgi.engines.interface import BoundEngine, Bounder
from corgi.network.network import Network
from corgi.network.probes import check_at_probes

GATE_SHARE = 0.3
"""Share of what is left of a time limit that holding the engine against onnxruntime may use."""

_Key = tuple[BoundEngine, int, int]
"""Engine, network (by id) and class."""


class Bounders:
    """Engines bound to networks, kept for the next question about the same class."""

    def __init__(self) -> None:
        self._bound: dict[_Key, tuple[Network, Bounder]] = {}
        self._held: set[_Key] = set()
        self._probed: set[tuple[int, int]] = set()

    def prepared(self, engine: BoundEngine, network: Network, class_id: int) -> Bounder:
        """The engine bound to a class, not yet held against onnxruntime.

        One that was interrupted is not used again: the engine is bound anew.

        Raises:
            EngineError: it cannot bound this network.
        """
        key = (engine, id(network), class_id)
        known = self._bound.get(key)
        if known is None or not known[1].whole:
            # The network is kept, too: its id may not be given to another one.
            self._bound[key] = network, engine.bind(network, class_id)
        return self._bound[key][1]

    @settled()
    def bind(self, engine: BoundEngine, network: Network, class_id: int) -> Bounder:
        """The same, network and engine held against onnxruntime, once.

        The network is on images driven to its kinks (network/probes.py). The engine's gate may take a share
        of the time there is: an engine that takes longer has no bound of a larger ball in the rest of it.

        Raises:
            EngineError: the engine cannot bound this network.
            GateError: the network differs from onnxruntime; or the engine's bounds of a random image, or of a
                small ball around it, do not hold there.
            OutOfTime: the gate was not passed in its time.
        """
        key = (engine, id(network), class_id)
        if key not in self._held:
            bounder = self.prepared(engine, network, class_id)
            noise = np.random.default_rng(0).random((1, *network.input_shape), dtype=np.float32)
            # By its trunk: other weights of the map alone, as those of it upside down, are no other network.
            trunk = (id(network.trunk), class_id)
            if trunk not in self._probed:
                check_at_probes(network, class_id, noise[0])
                self._probed.add(trunk)
            with limited(time.monotonic() + GATE_SHARE * left()):
                check_engine_at_radius_zero(network, class_id, bounder, noise)
                check_engine_on_a_ball(network, class_id, bounder, noise[0])
            self._held.add(key)
        return self.prepared(engine, network, class_id)
