"""Linear forms as rows on the feature map: entries on patches of a few sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.engines.forms import Forms
from corgi.engines.patch.patches import Patches, distinct_places, on_host
from corgi.engines.rigour import roundings

_SIZES = (1, 3, 6, 11, 2**31)
"""Sides of patches that rows of similar extent share."""


@dataclass(frozen=True)
class Layout:
    """Where forms read a feature map.

    Attributes:
        forms: R forms.
        shape: of the feature map, [C, H, W].
        weight: of the class that is explained, [C]; of forms of its map.
    """

    forms: Forms
    shape: tuple[int, int, int]
    weight: Tensor | None = None

    @property
    def y(self) -> Tensor:
        """The row of every entry."""
        return self.forms.element % (self.shape[1] * self.shape[2]) // self.shape[2]

    @property
    def x(self) -> Tensor:
        """The column of every entry."""
        return self.forms.element % self.shape[2]

    @property
    def read(self) -> Tensor:
        """The places that some form reads: bool [1, H, W]."""
        mask = torch.zeros(1, *self.shape[1:], dtype=torch.bool)
        mask[0, self.y, self.x] = True
        return mask

    def _ends(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """The first and the last place of each form along an axis; 0 for a form without entries."""
        nothing, row = torch.zeros(len(self.forms), dtype=torch.int64), self.forms.row
        first, last = (
            nothing.scatter_reduce(0, row, at, reduction, include_self=False)
            for reduction in ("amin", "amax")
        )
        return first, last

    @property
    def spans(self) -> tuple[Tensor, Tensor]:
        """Height and width of the patch that each form needs, [R] each."""
        (top, bottom), (left, right) = self._ends(self.y), self._ends(self.x)
        return bottom - top + 1, right - left + 1

    def groups(self, wanted: Tensor, most: int) -> Iterator[Tensor]:
        """The forms that are wanted, bool [R], by size of patch and at most so many at once: int64."""
        extent = torch.maximum(*self.spans).masked_fill(~wanted, 0)
        for small, large in itertools.pairwise((0, *_SIZES)):
            of_size = ((extent > small) & (extent <= large)).nonzero().reshape(-1)
            yield from torch.split(of_size, most) if len(of_size) else ()

    def chosen(self, which: Tensor) -> Layout:
        """Some of the forms."""
        return Layout(self.forms.chosen(which), self.shape, self.weight)

    def patches(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Patches:
        """The forms as rows, on patches of one size."""
        (top, bottom), (left, right) = self._ends(self.y), self._ends(self.x)
        high, wide = int((bottom - top).max()) + 1, int((right - left).max()) + 1
        row, entry = self.forms.row, self.forms.coefficient
        channel = self.forms.element // (self.shape[1] * self.shape[2])
        at = [row, channel, self.y - top[row], self.x - left[row]]
        if self.weight is not None:
            at, entry = [index[:, None] for index in at], entry[:, None] * self.weight
            at[1] = torch.arange(self.shape[0])[None]
        values = torch.zeros(len(self.forms), self.shape[0], high, wide, dtype=torch.float64)
        values.index_put_(tuple(at), entry, accumulate=True)
        places = distinct_places(*map(on_host, (torch.zeros_like(top), top, left)))
        return Patches(values.to(dtype).to(device), *places)


def map_values(weight: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """The map of a feature map [F, H, W], and what its sum may be off by: float64 [pixels] each."""
    terms = weight[:, None, None] * centre
    off = roundings(2 * (len(terms) + 4)) * terms.abs().sum(0)
    return terms.sum(0).reshape(-1), off.reshape(-1)
