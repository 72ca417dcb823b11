"""Linear forms of a network's output: what every question about it comes down to.

form = constant + sum_j b_j Y_j,   Y the elements of the trunk's output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Forms:
    """R linear forms, their coefficients as a sparse matrix.

    Attributes:
        row, element: int64 [entries], which form and which element of the flattened output.
        coefficient: float64 [entries], each rounded at most once.
        constant: float64 [R], rounded down.
    """

    row: Tensor
    element: Tensor
    coefficient: Tensor
    constant: Tensor

    def __len__(self) -> int:
        return len(self.constant)

    def summed(self, values: Tensor) -> Tensor:
        """Sums of values [entries] by form: [R]."""
        return torch.zeros_like(self.constant).index_add(0, self.row, values)

    def chosen(self, which: Tensor) -> Forms:
        """Some of the forms, int64 [some], in that order; each at most once."""
        number = torch.full((len(self),), -1, dtype=torch.int64)
        number[which] = torch.arange(len(which))
        kept = number[self.row] >= 0
        row, element, coefficient = self.row[kept], self.element[kept], self.coefficient[kept]
        return Forms(number[row], element, coefficient, self.constant[which])
