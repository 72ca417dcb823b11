"""Separable linear maps (`layers.Resample`): means over height and width, copies along them, interpolation.

With A the rows and B the columns, y = A x B^T in every channel. A row of coefficients a on y is the row
A^T a B on x. A window of a reads the inputs between the first and the last one that its entries use: where
that is a few, the new row is a window, too; behind a mean it is all of them.

Rounding. Both products are sums, of at most as many terms as one output (backwards: as one window) has along
both axes; each weight was rounded a few times before. So computed values are within gamma_n of |A| |x| |B|^T,
which is at most `amplification` times the largest |x|.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from corgi.engines.patch.patches import Indices, Patches, distinct_places, on_device, on_host
from corgi.engines.rigour import FAR_RAISED, FOLDING, SPARE
from corgi.network import layers
from corgi.types import Interval


def terms_of(layer: layers.Resample) -> int:
    """What stands for n in gamma_n of one output: terms along both axes, and the rounding of the weights."""
    used = (int((matrix != 0).sum(1).max()) for matrix in (layer.rows, layer.columns))
    return sum(used) + 2 * FOLDING + 2


def amplification(layer: layers.Resample) -> float:
    """Upper bound of |y| / max |x|, and not below 1."""
    sums = (float(matrix.abs().sum(1).max()) for matrix in (layer.rows, layer.columns))
    return SPARE * math.prod(max(1.0, total) for total in sums)


def resample_norm(layer: layers.Resample) -> float:
    """Upper bound of the largest singular value: |A|_2 |B|_2, each at most sqrt(|A|_1 |A|_inf)."""
    squares = (
        float(matrix.abs().sum(0).max()) * float(matrix.abs().sum(1).max())
        for matrix in (layer.rows, layer.columns)
    )
    return math.sqrt(math.prod(squares)) * FAR_RAISED


def absolute(layer: layers.Resample) -> layers.Resample:
    """|A| and |B|."""
    return layers.Resample(layer.rows.abs(), layer.columns.abs())


def through_resample(patches: Patches, layer: layers.Resample) -> Patches:
    """Rows on the output, 0 over its edge, as rows on the input."""
    height, width = patches.size
    top, down, at_y = _along(layer.rows, patches.places.top, height)
    left, right, at_x = _along(layer.columns, patches.places.left, width)
    values = torch.matmul(_of_rows(down, at_y, patches).mT, patches.values)
    values = torch.matmul(values, _of_rows(right, at_x, patches))
    places, merged = distinct_places(patches.places.ball, top, left)
    return Patches(values, places, merged[patches.place])


def _of_rows(weights: Tensor, which: Indices, patches: Patches) -> Tensor:
    """Weights [S, length, size] of each row, [R, 1, length, size]; [1, ...] where all rows have the same."""
    if len(weights) == 1:
        return weights[:, None]
    return weights[on_device(which[patches.place], weights.device)][:, None]


def _along(matrix: Tensor, start: Indices, length: int) -> tuple[Indices, Tensor, Indices]:
    """What windows of outputs [start, start + length) read along one axis.

    Returns where the inputs of each window begin, [P]; weights [S, length, size] of S different windows; and
    which of them each window has, [P].
    """
    outputs, inputs = matrix.shape
    starts, which = np.unique(start, return_inverse=True)
    at = starts[:, None] + np.arange(length)
    inside, at = (at >= 0) & (at < outputs), at.clip(0, outputs - 1)
    first, last = _ends(matrix)
    begin = np.where(inside, first[at], inputs).min(1)
    end = np.where(inside, last[at], -1).max(1)
    size = max(int((end - begin).max(initial=0)) + 1, 1)
    begin = begin.clip(0, inputs - size)
    weights = matrix[on_device(at, matrix.device)]
    read = on_device(begin[:, None] + np.arange(size), matrix.device)
    weights = weights.gather(2, read[:, None].expand(-1, length, -1))
    weights = torch.where(torch.from_numpy(inside).to(matrix.device)[:, :, None], weights, 0)
    return begin[which], weights, which


def _ends(matrix: Tensor) -> tuple[Indices, Indices]:
    """The first and the last input that each output reads; (inputs, -1) for one that reads none."""
    used, numbers = on_host(matrix != 0), np.arange(matrix.shape[1])
    return np.where(used, numbers, matrix.shape[1]).min(1), np.where(used, numbers, -1).max(1)


def most_read(matrix: Tensor, length: int) -> int:
    """How many inputs, the first to the last, any window of outputs can read along one axis."""
    starts = np.arange(1 - length, matrix.shape[0])
    return _along(matrix, starts, length)[1].shape[2]


def read_by(layer: layers.Resample, mask: Tensor) -> Tensor:
    """The inputs that outputs at marked places [B, H', W'] read: bool [B, H, W]."""
    rows, columns = ((matrix != 0).float() for matrix in (layer.rows, layer.columns))
    return rows.T @ mask.float() @ columns > 0


def readers_of(layer: layers.Resample, mask: Tensor) -> Tensor:
    """The outputs that read marked places [B, H, W] of the input: bool [B, H', W']."""
    rows, columns = ((matrix != 0).float() for matrix in (layer.rows, layer.columns))
    return rows @ mask.float() @ columns.T > 0


def middle_and_reach(layer: layers.Resample, known: Interval, share: float, lost: float) -> Interval:
    """The interval of the output without the rounding of its centre; `share`: gamma_n, `lost`: underflow."""
    centre, half = (known.upper + known.lower) / 2, (known.upper - known.lower) / 2
    size = torch.maximum(known.lower.abs(), known.upper.abs())
    middle = layer(centre)
    reach = absolute(layer)(half + share * size + lost) * (1 + share)
    return Interval(middle - reach, middle + reach)
