"""What every bounding engine offers, and what it promises.

The promise: for every image of the ball, the map lies inside the bounds returned. Bounds come as
`Interval.from_engine` makes them, so NaN is vacuous and a crossing is an error. tests/soundness holds every
engine, method and form to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.ambient import settled
from corgi.engines.cone import Cone, NotUnfolded
from corgi.engines.forms import ClassMargins, Forms, pairs, signed
from corgi.engines.layered import Layered, NotLayered
from corgi.engines.lowering import Lowerable
from corgi.engines.whole import Whole
from corgi.errors import EngineError
from corgi.network.network import Network
from corgi.types import Ball, Interval


class Bounder(Whole, ABC):
    """An engine bound to one network, class and precision."""

    _engine: BoundEngine
    _network: Network

    @property
    def method(self) -> str:
        """The relaxation, as the user names it."""
        return self._engine.method

    @property
    @abstractmethod
    def rounding(self) -> float:
        """The most that was set aside for rounding in a margin returned so far: it is in the bounds."""

    @abstractmethod
    def middle(self, ball: Ball) -> Tensor:
        """The map in the middle of a ball as the engine's own steps compute it, float64 [pixels]."""

    @abstractmethod
    def intervals(self, ball: Ball) -> Interval:
        """Bounds of every map pixel that cost next to nothing, each [pixels]; they may say nothing."""

    @abstractmethod
    def pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        """Folded intervals (theory 1.2): bounds of every map pixel, each [pixels].

        `low` and `high`: pixels whose lower and upper ends are wanted, None for all. The other ends may be
        infinite.
        """

    @abstractmethod
    def lower(self, ball: Ball, forms: Forms | ClassMargins, *, sharply: bool = False) -> Tensor:
        """Lower bounds of linear forms over a ball, float64 [forms].

        `sharply`: with more effort, for a few forms of the map. Such a bound is > 0 only if the form is on
        the whole ball, but need not bound it.

        Raises:
            EngineError: the engine does not bound forms of that kind.
        """

    def unfold(self, ball: Ball, forms: Forms) -> Cone | NotUnfolded:
        """Forms, exactly, for a decider; or why that cannot be."""
        return NotUnfolded("the engine does not unfold margins")

    @property
    def unfolds(self) -> bool:
        """Whether `unfold` has an answer."""
        return False

    @property
    def bounds_any_form(self) -> bool:
        """Whether `lower` takes forms of the feature map with any coefficients."""
        return False

    @property
    def sharpens(self) -> bool:
        """Whether bounds drawn sharply can be better than others."""
        return False

    def shortfall(self, ball: Ball) -> str:
        """What was bounded by less than the engine's method on a ball, to save work; empty if nothing was."""
        return ""

    def remember(self, ball: Ball, pixels: Interval) -> None:
        """Take over folded intervals that `BoundEngine.maps` gave for this network and class."""

    @settled()
    def differences(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """Pairwise margins (theory 1.3): lower bounds of I_above - I_below, int64 [rows] each -> [rows]."""
        return self.lower(ball, pairs(above, below))

    @settled()
    def sharpened(self, ball: Ball, above: Tensor, below: Tensor) -> Tensor:
        """The same as `differences`, with more effort, for a few pairs."""
        return self.lower(ball, pairs(above, below), sharply=True)

    @settled()
    def features(self, ball: Ball) -> Interval:
        """Feature-wise intervals (theory 1.1): bounds of the feature map, each [F, pixels]."""
        filters, pixels = self._network.head.filters, self._network.pixels
        elements = torch.arange(filters * pixels).reshape(filters, 1, pixels).expand(-1, 2, -1)
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None].expand(filters, 2, pixels)
        found = self.lower(ball, signed(elements.flatten(), signs.flatten())).reshape(filters, 2, pixels)
        return Interval.from_engine(found[:, 0], -found[:, 1], slack=0.0, engine=self._engine.name)


class BoxBounds(Whole, ABC):
    """What is known of the output of a network over one box of inputs."""

    @abstractmethod
    def by_intervals(self, forms: Forms) -> Tensor:
        """Lower bounds by the intervals of the output that are known so far, float64 [R]."""

    @abstractmethod
    def learn(self, forms: Forms) -> None:
        """Bound each output that forms read by a row of its own, from the side they need."""

    @abstractmethod
    def by_rows(self, forms: Forms) -> Tensor:
        """Lower bounds by one row a form, float64 [R]."""

    @abstractmethod
    def unfold(self, forms: Forms) -> Cone | NotUnfolded:
        """Forms as piecewise linear functions of their cone, if that fits the budget."""

    @abstractmethod
    def layered(self, forms: Forms) -> Layered | NotLayered:
        """Forms with the whole network in front of them, as a problem to branch on."""


@dataclass(frozen=True)
class Cost:
    """What bounds of the whole map over one ball take.

    Attributes:
        rows: to bound; multiply_adds: of the convolutions on their way.
        seconds: of a machine that does nothing else.
        complete: whether nothing was left to find out; if not, all these are at least that.
        shortened: whether rows end early, or are left out, to save work.
        bytes: kept, and held by a pass, at most.
    """

    rows: int
    multiply_adds: float
    seconds: float
    complete: bool
    shortened: bool
    bytes: int


class BoundEngine(ABC):
    """A way to bound networks: a frozen value whose fields are its options."""

    device: str

    @property
    @abstractmethod
    def name(self) -> str:
        """Name and version, for results."""

    @property
    @abstractmethod
    def method(self) -> str:
        """The relaxation it uses."""

    @abstractmethod
    def check(self, network: Network) -> None:
        """Refuse a network that `bind` would refuse, for whichever class.

        Raises:
            EngineError: the network has a layer the engine does not bound exactly as it is defined.
        """

    @abstractmethod
    def bind(self, network: Network, class_id: int, dtype: torch.dtype = torch.float64) -> Bounder:
        """Prepare to bound the map of a class.

        Raises:
            EngineError: the network has a layer the engine does not bound exactly as it is defined.
        """

    @property
    def quick(self) -> BoundEngine | None:
        """The same engine with a method of far less work, to ask of a deep network first."""
        return None

    def maps(self, network: Network, balls: list[Ball], class_ids: list[int]) -> Interval | None:
        """Folded intervals of the maps of N balls in one pass, float64 [N, pixels]; None if it has none."""
        return None

    def costs(self, network: Network) -> Callable[[Ball], Cost] | None:
        """What bounds of the whole map of the first class over a ball take; None where it is not counted."""
        return None

    def boxes(self, network: Lowerable) -> Callable[[Tensor, Interval], BoxBounds]:
        """What bounds a network without a head over a box: around a point, float64 [C, H, W], and how far.

        Raises:
            EngineError: the engine has no such bounds, or a layer that it does not bound.
        """
        raise EngineError(
            f"engine {self.name} bounds maps only", hint="Specifications are decided with engine patch."
        )
