"""Rows of linear coefficients on one value, each a dense patch at its own place.

Row r reads value[c, y, x] with coefficient patch[r, c, y - top[r], x - left[r]]; outside the patch the
coefficient is 0. A patch may reach over the edge of the value: those entries stand on zero padding, and
`window` gives them 0, so they never count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.errors import EngineError
from corgi.network import layers


@dataclass(frozen=True)
class Patches:
    """Coefficients of R rows.

    Attributes:
        values: [R, C, h, w].
        top, left: int64 [R], may be negative.
    """

    values: Tensor
    top: Tensor
    left: Tensor

    def window(self, field: Tensor) -> Tensor:
        """What a field [C, H, W] holds under every patch, 0 outside the field: [R, C, h, w]."""
        height, width = self.values.shape[-2:]
        rows, columns = field.shape[-2:]
        if len(self.top) == 0:
            return field.new_zeros(0, field.shape[0], height, width)
        before_y, before_x = max(-int(self.top.min()), 0), max(-int(self.left.min()), 0)
        after_y = max(int(self.top.max()) + height - rows, 0)
        after_x = max(int(self.left.max()) + width - columns, 0)
        padded = F.pad(field, (before_x, after_x, before_y, after_y))
        windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)
        # Rows of different channels stand at the same places: cut each place out once, then copy it whole.
        places = (self.top + before_y) * windows.shape[1] + self.left + before_x
        distinct, row_of = torch.unique(places, return_inverse=True)
        cut = windows[distinct // windows.shape[1], distinct % windows.shape[1]]
        return cut if len(distinct) == len(places) and bool((row_of[1:] > row_of[:-1]).all()) else cut[row_of]

    def aligned(self, other: Patches) -> bool:
        """Whether two patches of the same rows cover the same places."""
        same = self.values.shape[2:] == other.values.shape[2:]
        return same and torch.equal(self.top, other.top) and torch.equal(self.left, other.left)

    def through_conv(self, conv: layers.Conv) -> Patches:
        """The same rows as coefficients on the convolution's input.

        With y[o] = sum_k W[k] x[o s - p + k], a coefficient at o becomes W[k] at o s - p + k: a transposed
        convolution, its patch starting at top * s - p.
        """
        spread = transposed_conv(self.values, conv.weight, conv.stride)
        top = self.top * conv.stride[0] - conv.padding[0]
        left = self.left * conv.stride[1] - conv.padding[1]
        return Patches(spread, top, left)

    def plus(self, other: Patches) -> Patches:
        """Both coefficients added, on the smallest patch that holds both.

        Raises:
            EngineError: the two are not shifted by the same amount in every row.
        """
        down, right = other.top - self.top, other.left - self.left
        if bool((down != down[0]).any()) or bool((right != right[0]).any()):
            raise EngineError(
                "the patch engine cannot add branches of different strides",
                hint="Use --engine lirpa for this network.",
            )
        first = _grown(self, int(-down[0].clamp(max=0)), int(-right[0].clamp(max=0)))
        second = _grown(other, int(down[0].clamp(min=0)), int(right[0].clamp(min=0)))
        height = max(first.values.shape[2], second.values.shape[2])
        width = max(first.values.shape[3], second.values.shape[3])
        return Patches(_sized(first, height, width) + _sized(second, height, width), first.top, first.left)

    def channels(self, start: int, count: int) -> Patches:
        """The coefficients on a range of channels."""
        return Patches(self.values[:, start : start + count], self.top, self.left)

    def chosen(self, rows: Tensor | slice) -> Patches:
        """Some of the rows."""
        return Patches(self.values[rows], self.top[rows], self.left[rows])

    def negated(self) -> Patches:
        """The opposite rows."""
        return Patches(-self.values, self.top, self.left)


def _sized(patches: Patches, height: int, width: int) -> Tensor:
    """The coefficients on a patch of at least this size."""
    high, wide = patches.values.shape[2:]
    if (high, wide) == (height, width):
        return patches.values
    return F.pad(patches.values, (0, width - wide, 0, height - high))


def transposed_conv(values: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """The transposed convolution of values [R, O, h, w] by a weight [O, C, kh, kw].

    In float32 as an ordinary convolution, which oneDNN runs several times faster on many small patches: with
    stride s, output s q + f only meets the kernel entries k = f mod s, so each phase f is a convolution
    by every s-th entry, and the phases are shuffled together. In float64 oneDNN has neither.
    """
    if values.dtype != torch.float32 or values.is_cuda:
        return F.conv_transpose2d(values, weight, stride=stride)
    out, channels, kh, kw = weight.shape
    (sy, sx), high, wide = stride, -(-kh // stride[0]), -(-kw // stride[1])
    padded = F.pad(weight, (0, wide * sx - kw, 0, high * sy - kh))
    phases = padded.reshape(out, channels, high, sy, wide, sx).flip(2, 4)
    kernel = phases.permute(1, 3, 5, 0, 2, 4).reshape(channels * sy * sx, out, high, wide)
    spread = F.conv2d(values, kernel, padding=(high - 1, wide - 1))
    rows, _, height, width = spread.shape
    if stride != (1, 1):
        spread = spread.reshape(rows, channels, sy, sx, height, width).permute(0, 1, 4, 2, 5, 3)
        spread = spread.reshape(rows, channels, height * sy, width * sx)
    full = ((values.shape[2] - 1) * sy + kh, (values.shape[3] - 1) * sx + kw)
    return spread[:, :, : full[0], : full[1]]


def _grown(patches: Patches, up: int, left: int) -> Patches:
    """The same rows on patches that start `up` and `left` earlier."""
    if up == 0 and left == 0:
        return patches
    return Patches(F.pad(patches.values, (left, 0, up, 0)), patches.top - up, patches.left - left)


def unit_rows(units: Tensor, channels: int, dtype: torch.dtype, sign: float | Tensor) -> Patches:
    """One row a unit: sign * value[c, y, x], units int64 [R, 3] as (c, y, x), one sign or one a row."""
    values = torch.zeros(len(units), channels, 1, 1, dtype=dtype, device=units.device)
    signs = torch.as_tensor(sign, dtype=dtype, device=units.device).expand(len(units))
    values[torch.arange(len(units)), units[:, 0], 0, 0] = signs
    return Patches(values, units[:, 1], units[:, 2])
