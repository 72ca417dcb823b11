"""Linear forms: what every question about a network comes down to.

form = constant + sum_j b_j Y_j,   Y the elements of the trunk's output, or the pixels of its map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.engines.rigour import roundings
from corgi.network.head import CamHead


@dataclass(frozen=True)
class Forms:
    """R linear forms, their coefficients as a sparse matrix.

    Attributes:
        row, element: int64 [entries], which form and which element of the flattened output.
        coefficient: float64 [entries], each rounded at most once.
        constant: float64 [R], rounded down.
        of_map: whether elements are those of the map of the class that is explained: pixels and pairs, with
            coefficients 1 and -1 and without constants, because what engines set aside is for those.
    """

    row: Tensor
    element: Tensor
    coefficient: Tensor
    constant: Tensor
    of_map: bool = False

    def __post_init__(self) -> None:
        if self.of_map and not (self._plain and bool((self._entries <= 2).all())):
            raise ValueError("forms of a map are pixels and pairs of them")

    def __len__(self) -> int:
        return len(self.constant)

    @property
    def _plain(self) -> bool:
        return bool((self.coefficient.abs() == 1).all()) and not bool(self.constant.any())

    @property
    def _entries(self) -> Tensor:
        """How many elements each form reads: [R]."""
        return self.summed(torch.ones_like(self.coefficient))

    @property
    def single(self) -> bool:
        """Whether each form is one element or its negative, which nothing rounds."""
        return self._plain and bool((self._entries == 1).all())

    def in_the_middle(self, centre: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """The forms at the middle of a region, and what rounding may change: float64 [R] each.

        That is of coefficients on the whole output, of products and their sum.

        Args:
            centre: the output in the middle, flat.
            size: its largest absolute values, flat.
        """
        value = self.summed(self.coefficient * centre[self.element]) + self.constant
        amounts = self.summed(self.coefficient.abs() * size[self.element]) + self.constant.abs()
        return value, roundings(2) * (self._entries + 16) * amounts

    def summed(self, values: Tensor) -> Tensor:
        """Sums of values [entries] by form: [R]."""
        return torch.zeros_like(self.constant).index_add(0, self.row, values)

    @property
    def distinct(self) -> int:
        """How many elements they read, each from below or from above."""
        return len(torch.unique(2 * self.element + (self.coefficient > 0)))

    def matrix(self, elements: int) -> Tensor:
        """All coefficients, float64 [R, elements]."""
        dense = torch.zeros(len(self), elements, dtype=torch.float64)
        return dense.index_put_((self.row, self.element), self.coefficient, accumulate=True)

    def chosen(self, which: Tensor) -> Forms:
        """Some of the forms, int64 [some], in that order; each at most once."""
        number = torch.full((len(self),), -1, dtype=torch.int64)
        number[which] = torch.arange(len(which))
        kept = number[self.row] >= 0
        row, element, coefficient = self.row[kept], self.element[kept], self.coefficient[kept]
        return Forms(number[row], element, coefficient, self.constant[which], self.of_map)


def signed(elements: Tensor, signs: Tensor, *, of_map: bool = False) -> Forms:
    """One form an element, int64 [R], with a coefficient of 1 or -1."""
    return Forms(torch.arange(len(elements)), elements, signs, torch.zeros_like(signs), of_map)


def pairs(above: Tensor, below: Tensor) -> Forms:
    """Pairwise margins (theory 1.3): I_above - I_below, int64 [R] each."""
    row, ones = torch.arange(len(above)), torch.ones(len(above), dtype=torch.float64)
    coefficient = torch.cat([ones, -ones])
    return Forms(torch.cat([row, row]), torch.cat([above, below]), coefficient, 0 * ones, of_map=True)


@dataclass(frozen=True)
class ClassMargins:
    """score_label - score_j for every other class j (theory 1.9): affine in what the feature map pools to."""

    head: CamHead
    label: int

    @property
    def others(self) -> Tensor:
        """The other classes, ascending: int64."""
        classes = torch.arange(self.head.classes)
        return classes[classes != self.label]
