"""What every bounding engine offers, and what it promises.

The promise: for every image of the ball, the map lies inside the bounds returned. Bounds come as
`Interval.from_engine` makes them, so NaN is vacuous and a crossing is an error. tests/soundness holds every
engine, method and form to it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from corgi.engines.cone import Cone, NotUnfolded
from corgi.network.network import Network
from corgi.types import Ball, Interval


class Bounder(Protocol):
    """An engine bound to one network, class and precision."""

    @property
    def whole(self) -> bool:
        """Whether every computation so far came to its end; if not, no further one is begun (whole.py)."""

    @property
    def rounding(self) -> float:
        """The most that was set aside for rounding in a margin returned so far: it is in the bounds."""

    def middle(self, ball: Ball) -> Tensor:
        """The map in the middle of a ball as the engine's own steps compute it, float64 [pixels]."""

    def cheap(self, ball: Ball) -> Interval:
        """Bounds of every map pixel that cost next to nothing, each [pixels]; they may say nothing."""

    def pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        """Folded intervals (theory 1.2): bounds of every map pixel, each [pixels].

        `low` and `high`: pixels whose lower and upper ends are wanted, None for all. The other ends may be
        infinite.
        """

    def differences(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """Pairwise margins (theory 1.3): lower bounds of I_above - I_below, int64 [rows] each -> [rows]."""

    @property
    def sharpens(self) -> bool:
        """Whether `sharpened` can be better than `differences`."""

    def sharpened(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """The same as `differences`, with more effort, for a few pairs."""

    @property
    def unfolds(self) -> bool:
        """Whether `unfolded` has an answer."""

    def unfolded(self, ball: Ball, above: Tensor, below: Tensor) -> Cone | NotUnfolded:
        """Margins I_above - I_below, exactly, for a decider; or why that cannot be."""

    def shortfall(self, ball: Ball) -> str:
        """What was bounded by less than the engine's method on a ball, to save work; empty if nothing was."""

    def features(self, ball: Ball) -> Interval:
        """Feature-wise intervals (theory 1.1): bounds of the feature map, each [F, pixels]."""


class BoundEngine(Protocol):
    """A way to bound networks: a frozen value whose fields are its options."""

    @property
    def name(self) -> str:
        """Name and version, for results."""

    @property
    def method(self) -> str:
        """The relaxation it uses."""

    def check(self, network: Network) -> None:
        """Refuse a network that `bind` would refuse, for whichever class.

        Raises:
            EngineError: the network has a layer the engine does not bound exactly as it is defined.
        """

    def bind(self, network: Network, class_id: int, dtype: torch.dtype = torch.float64) -> Bounder:
        """Prepare to bound the map of a class.

        Raises:
            EngineError: the network has a layer the engine does not bound exactly as it is defined.
        """
