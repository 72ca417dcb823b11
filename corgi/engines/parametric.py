"""What an engine knows of a map over boxes of the parameters of a family of images (changes/family.py).

Over a box of parameters with middle m and half-widths h every t is m + h s with s in [-1, 1]^d (products by
element). A value v of the network is known there as an affine form in s and a remainder,

    | v(t) - c - sum_j g_j s_j | <= r,

for every t of the box in real arithmetic: what float64 rounds stands in r.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.changes.family import Family
from corgi.engines.rigour import roundings, smallest
from corgi.network.network import Network
from corgi.types import Interval


@dataclass(frozen=True)
class Boxes:
    """N boxes of parameters with the ends in them, float64 [N, d] each, lower <= upper."""

    lower: Tensor
    upper: Tensor

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def middle(self) -> Tensor:
        """A point of each, about its middle: [N, d]."""
        return torch.minimum(torch.maximum((self.lower + self.upper) / 2, self.lower), self.upper)

    @property
    def half(self) -> Tensor:
        """How far the ends are from that point at most, rounded up: [N, d]; 0 for one point."""
        middle = self.middle
        # A difference is off by half a unit at most, which one step up is more than; one that underflows is
        # lost where the hardware flushes to zero.
        far = torch.maximum(self.upper - middle, middle - self.lower)
        far = far.nextafter(torch.full_like(far, torch.inf)) + smallest(torch.float64)
        return torch.where(self.lower == self.upper, 0.0, far)


@dataclass(frozen=True)
class AffineForms:
    """Values over N boxes as affine forms with remainders.

    Attributes:
        terms: c and then g_1, ..., g_d: float64 [N, 1 + d, ...].
        remainder: r >= 0, float64 [N, ...]; NaN or inf where nothing is known.
    """

    terms: Tensor
    remainder: Tensor

    def chosen(self, which: Tensor) -> AffineForms:
        """Those over some of the boxes, int64."""
        return AffineForms(self.terms[which], self.remainder[which])

    @property
    def size(self) -> Tensor:
        """|c| + sum_j |g_j|: [N, ...], up to rounding."""
        return self.terms.abs().sum(1)

    @property
    def steepness(self) -> Tensor:
        """The largest |g_j| of any value, for each box and parameter: [N, d]."""
        return self.terms[:, 1:].abs().flatten(2).amax(2)

    def interval(self) -> Interval:
        """Bounds of each value over its box, rounded outwards; NaN where nothing is known.

        Sums of d + 3 terms, each operation off by a unit of |c| + sum_j |g_j| + r at most; as much again is
        for terms that were rounded once more before.
        """
        centre, count = self.terms[:, 0], self.terms.shape[1]
        reach = self.terms[:, 1:].abs().sum(1) + self.remainder
        error = roundings(2 * (count + 8)) * (centre.abs() + reach) + count * smallest(torch.float64)
        return Interval(centre - reach - error, centre + reach + error)


@dataclass(frozen=True)
class Maps:
    """The map over N boxes of parameters.

    Attributes:
        forms: terms [N, 1 + d, pixels], remainder [N, pixels].
        narrower: of some of the boxes, int64, the same forms with remainders no larger, for more work.
    """

    forms: AffineForms
    narrower: Callable[[Tensor], AffineForms]


class FamilyBounder(ABC):
    """An engine bound to one network and class, for families of images."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the engine, for results."""

    @abstractmethod
    def images(self, family: Family, boxes: Boxes) -> Interval:
        """Bounds of the family's images over N boxes, [N, C, H, W]; NaN where nothing is known."""

    @abstractmethod
    def maps(self, family: Family, boxes: Boxes) -> Maps:
        """The map over N boxes of parameters."""


class FamilyEngine(ABC):
    """A way to bound maps over families: a frozen value whose fields are its options."""

    @abstractmethod
    def bind(self, network: Network, class_id: int) -> FamilyBounder:
        """Prepare to bound the map of a class.

        Raises:
            EngineError: the network has a layer the engine does not bound, named.
        """
