"""Rows of linear coefficients on one value, each a dense patch at its own place.

Row r reads value[ball, c, y, x] with coefficient patch[r, c, y - top, x - left]; outside the patch the
coefficient is 0. A patch may reach over the edge of the value: those entries stand on zero padding, and
`window` gives them 0, so they never count. A patch that would cover the whole value becomes the dense row
of it.

Coefficients are on the device. Where patches stand is on the host, as numpy arrays: a pass consists of many
small operations on places, which take numpy a fifth of the time they take torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.network import layers
from corgi.network.rules import spread_dilation

Indices = npt.NDArray[np.int64]


def on_host(indices: Tensor) -> Indices:
    """Indices as numpy has them."""
    found: Indices = indices.cpu().numpy()
    return found


def on_device(indices: Indices, device: torch.device) -> Tensor:
    """Indices as torch has them."""
    found = torch.from_numpy(indices)
    return found if device.type == "cpu" else found.to(device)


@dataclass(frozen=True)
class Places:
    """Where patches stand: int64 [P] each; top and left may be negative."""

    ball: Indices
    top: Indices
    left: Indices

    def __len__(self) -> int:
        return len(self.ball)

    @cached_property
    def rows(self) -> tuple[int, int]:
        """Least and greatest top."""
        return span(self.top)

    @cached_property
    def columns(self) -> tuple[int, int]:
        """Least and greatest left."""
        return span(self.left)

    @cached_property
    def balls(self) -> tuple[int, int]:
        """Least and greatest ball."""
        return span(self.ball)

    def chosen(self, which: Indices) -> Places:
        """Some of the places."""
        return Places(self.ball[which], self.top[which], self.left[which])

    def read(self, stride: tuple[int, int], padding: tuple[int, int]) -> Places:
        """Where the patches of a layer's input stand whose output o reads from o s - p on."""
        (sy, sx), (py, px) = stride, padding
        places = Places(self.ball, self.top * sy - py, self.left * sx - px)
        # Least and greatest stay so; that spares finding them again.
        (first_y, last_y), (first_x, last_x) = self.rows, self.columns
        ends = {
            "rows": (first_y * sy - py, last_y * sy - py),
            "columns": (first_x * sx - px, last_x * sx - px),
        }
        vars(places).update(ends if len(self) else {}, balls=self.balls)
        return places

    def cut(self, field: Tensor, height: int, width: int) -> Tensor:
        """What a field [B, C, H, W] holds under a patch at every place, 0 outside the field: [P, C, h, w]."""
        rows, columns = field.shape[-2:]
        if len(self) == 0:
            return field.new_zeros(0, field.shape[1], height, width)
        (first_y, last_y), (first_x, last_x) = self.rows, self.columns
        if (height, width, first_y, last_y, first_x, last_x) == (rows, columns, 0, 0, 0, 0):
            return field.index_select(0, on_device(self.ball, field.device))
        before_y, before_x = max(-first_y, 0), max(-first_x, 0)
        after_y, after_x = max(last_y + height - rows, 0), max(last_x + width - columns, 0)
        over = before_x, after_x, before_y, after_y
        padded = F.pad(field, over) if any(over) else field
        # All runs of `width` entries that follow each other in memory; those of every patch are copied whole.
        runs = padded.contiguous().view(-1).unfold(0, width, 1)
        channels, (high, wide) = field.shape[1], padded.shape[2:]
        inside = _runs(channels, height, high, wide)
        corner = (self.ball * (channels * high) + self.top + before_y) * wide + self.left + before_x
        starts = (corner[:, None] + inside).reshape(-1)
        taken = runs.index_select(0, on_device(starts, field.device))
        return taken.view(len(self), channels, height, width)


@dataclass(frozen=True)
class Patches:
    """Coefficients of R rows.

    Attributes:
        values: [R, C, h, w].
        places: places, all different; place: which of them each row stands at, int64 [R], on the host.
        clean: whether all coefficients over the edge of the value are 0.
    """

    values: Tensor
    places: Places
    place: Indices
    clean: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every patch."""
        return self.values.shape[2], self.values.shape[3]

    def holding(self, values: Tensor) -> Patches:
        """Other coefficients in the same places."""
        return Patches(values, self.places, self.place, self.clean)

    @property
    def ball(self) -> Tensor:
        """The ball of every row: int64 [R], on the device."""
        return on_device(self.places.ball[self.place], self.values.device)

    @cached_property
    def repeats(self) -> int:
        """How many times over the rows stand at all places in order; 0 if they are not in such an order."""
        rows, places = len(self.place), len(self.places)
        if places == 0 or rows % places:
            return 0
        order = np.arange(rows) % places
        return rows // places if np.array_equal(self.place, order) else 0

    def window(self, field: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """What a field [B, C, H, W] holds under every patch: [R, C, h, w]; [P, ...] where the rows repeat.

        `size`: of another patch at the same places.
        """
        cut = self.places.cut(field, *(size or self.size))
        return cut if self.repeats else cut.index_select(0, on_device(self.place, cut.device))

    def times(self, window: Tensor) -> Patches:
        """The coefficients multiplied by what `window` returned, which is 0 over the edge."""
        if len(window) == len(self.values):
            return Patches(self.values * window, self.places, self.place)
        values = self.values.view(-1, len(window), *self.values.shape[1:]) * window
        return Patches(values.view(self.values.shape), self.places, self.place)

    def absolute(self) -> Patches:
        """The absolute values of all coefficients."""
        return self.holding(self.values.abs())

    def through_conv(self, conv: layers.Conv, shape: tuple[int, int]) -> Patches:
        """The same rows as coefficients on the convolution's input, of height and width `shape`.

        With y[o] = sum_k W[k] x[o s - p + k], a coefficient at o becomes W[k] at o s - p + k: a transposed
        convolution.
        """
        whole = self._through_wide(conv, shape)
        if whole is not None:
            return whole
        spread = transposed_conv(self.values, conv)
        return Patches(spread, self.places.read(conv.stride, conv.padding), self.place, clean=False).on(shape)

    def _through_wide(self, conv: layers.Conv, shape: tuple[int, int]) -> Patches | None:
        """`through_conv` where the padding is wider than the input; None elsewhere.

        Most of the transposed convolution would lie outside the input: with stride 1 the part inside is an
        ordinary convolution with the turned kernel, padded by what the padding leaves of it.
        """
        if conv.stride != (1, 1) or all(p < size for p, size in zip(conv.padding, shape, strict=True)):
            return None
        kernel = _prepared(conv).kernel
        reach = kernel.shape[2] - 1, kernel.shape[3] - 1
        out = tuple(n + 2 * p - r for n, p, r in zip(shape, conv.padding, reach, strict=True))
        left = reach[0] - conv.padding[0], reach[1] - conv.padding[1]
        if min(left) < 0:
            return None
        rows = self.dense((out[0], out[1]))
        values = F.conv2d(rows.values, kernel, padding=left, groups=conv.groups)
        return Patches(values, rows.places, rows.place)

    def on(self, shape: tuple[int, int]) -> Patches:
        """The same rows, dense along every axis on which the patch is no smaller than the value."""
        values, top, left = self.values, self.places.top, self.places.left
        if self.size[0] >= shape[0] and bool((top != 0).any() or self.size[0] > shape[0]):
            values, top = _placed(values, top[self.place], shape[0], 2), np.zeros_like(top)
        if self.size[1] >= shape[1] and bool((left != 0).any() or self.size[1] > shape[1]):
            values, left = _placed(values, left[self.place], shape[1], 3), np.zeros_like(left)
        if values is self.values:
            return self
        places, merged = distinct_places(self.places.ball, top, left)
        return Patches(values, places, merged[self.place], self.clean)

    def plus(self, other: Patches, shape: tuple[int, int]) -> Patches:
        """Both coefficients added, on the smallest patch that holds both (of a value of size `shape`)."""
        mine, theirs = self.places, other.places
        same = len(mine) == len(theirs) and np.array_equal(self.place, other.place)
        down = theirs.top - mine.top if same else None
        right = theirs.left - mine.left if same else None
        if down is None or right is None or bool((down != down[0]).any() or (right != right[0]).any()):
            # Branches that stride differently: no common shift, so both on the whole value.
            whole = self.dense(shape), other.dense(shape)
            return Patches(whole[0].values + whole[1].values, whole[0].places, whole[0].place)
        first = _grown(self, max(-int(down[0]), 0), max(-int(right[0]), 0))
        second = _grown(other, max(int(down[0]), 0), max(int(right[0]), 0))
        size = tuple(max(a, b) for a, b in zip(first.size, second.size, strict=True))
        total = _sized(first.values, size) + _sized(second.values, size)
        return Patches(total, first.places, first.place, self.clean and other.clean).on(shape)

    def dense(self, shape: tuple[int, int]) -> Patches:
        """The same rows as patches that cover the whole value."""
        rows = self.places.chosen(self.place)
        values = _placed(_placed(self.values, rows.top, shape[0], 2), rows.left, shape[1], 3)
        zeros = np.zeros_like(rows.ball)
        return Patches(values, *distinct_places(rows.ball, zeros, zeros))

    def inside(self, shape: tuple[int, int]) -> Patches:
        """Coefficients over the edge of the value set to 0: padding is not a value of the network."""
        if self.clean or len(self.place) == 0:
            return self
        (first_y, last_y), (first_x, last_x) = self.places.rows, self.places.columns
        over_y = first_y < 0 or last_y + self.size[0] > shape[0]
        if not (over_y or first_x < 0 or last_x + self.size[1] > shape[1]):
            return Patches(self.values, self.places, self.place)
        ones = torch.ones(
            self.places.balls[1] + 1, 1, *shape, dtype=self.values.dtype, device=self.values.device
        )
        return self.times(self.window(ones))

    def seen_from(self, top: int, left: int) -> Patches:
        """The same rows on the part of the value that begins at (top, left)."""
        places = Places(self.places.ball, self.places.top - top, self.places.left - left)
        return Patches(self.values, places, self.place, clean=False)

    def parted(self, counts: list[int]) -> list[Patches]:
        """The channels of values side by side, so many each."""
        return [self.holding(part) for part in torch.split(self.values, counts, 1)]

    def chosen(self, rows: Tensor | slice) -> Patches:
        """Some of the rows."""
        which = rows if isinstance(rows, slice) else on_host(rows)
        used, place = _distinct(self.place[which], len(self.places))
        return Patches(self.values[rows], self.places.chosen(used), place, self.clean)

    def negated(self) -> Patches:
        """The opposite rows."""
        return self.holding(-self.values)


def distinct_places(ball: Indices, top: Indices, left: Indices) -> tuple[Places, Indices]:
    """The distinct places of rows, and which one each row stands at."""
    if len(ball) == 0:
        return Places(ball, top, left), ball
    (first_y, last_y), (first_x, last_x) = span(top), span(left)
    high, wide = last_y - first_y + 1, last_x - first_x + 1
    every = (ball * high + top - first_y) * wide + left - first_x
    keys, place = _distinct(every, (int(ball.max()) + 1) * high * wide)
    rest = keys // wide
    return Places(rest // high, rest % high + first_y, keys % wide + first_x), place


def _distinct(numbers: Indices, below: int) -> tuple[Indices, Indices]:
    """The distinct ones of numbers from 0 on, ascending, and which of them each is: few, so not sorted."""
    found = np.zeros(below, bool)
    found[numbers] = True
    return np.flatnonzero(found), (found.cumsum() - 1)[numbers]


@lru_cache(maxsize=256)
def _runs(channels: int, height: int, high: int, wide: int) -> Indices:
    """Where the runs of a patch begin in a field of so many rows and columns, from its corner."""
    found: Indices = (np.arange(channels)[:, None] * high + np.arange(height)).reshape(-1) * wide
    return found


def span(starts: Indices) -> tuple[int, int]:
    """Least and greatest value."""
    return (int(starts.min()), int(starts.max())) if len(starts) else (0, 0)


def _placed(values: Tensor, start: Indices, size: int, axis: int) -> Tensor:
    """Patches [R, C, h, w] cut or filled with zeros to `size` entries along one axis, from place 0."""
    have = values.shape[axis]
    index = torch.arange(size, device=values.device)[None] - on_device(start, values.device)[:, None]
    known = (index >= 0) & (index < have)
    view = (len(start), 1, size, 1) if axis == 2 else (len(start), 1, 1, size)
    shape = list(values.shape)
    shape[axis] = size
    taken = torch.gather(values, axis, index.clamp(0, have - 1).view(view).expand(shape))
    return torch.where(known.view(view), taken, 0)


def _sized(values: Tensor, size: tuple[int, ...]) -> Tensor:
    high, wide = values.shape[2:]
    return values if (high, wide) == size else F.pad(values, (0, size[1] - wide, 0, size[0] - high))


def _grown(patches: Patches, up: int, left: int) -> Patches:
    """The same rows on patches that start `up` and `left` earlier."""
    if up == 0 and left == 0:
        return patches
    places = Places(patches.places.ball, patches.places.top - up, patches.places.left - left)
    return Patches(F.pad(patches.values, (left, 0, up, 0)), places, patches.place, patches.clean)


def kernels_of(conv: layers.Conv, channel: Tensor) -> Tensor:
    """The kernels [R, C, kh, kw] of output channels [R], dilation and the zeros of groups written out."""
    own = _prepared(conv).weight[channel]
    if conv.groups == 1:
        return own
    across = own.shape[1]
    kernels = own.new_zeros(len(own), across * conv.groups, *own.shape[2:])
    first = channel // (len(conv.weight) // conv.groups) * across
    rows = torch.arange(len(own), device=own.device)[:, None]
    kernels[rows, first[:, None] + torch.arange(across, device=own.device)] = own
    return kernels


_DENSE = 2**15
"""Entries up to which a convolution of patches is a product with one matrix: the cache holds it."""


@dataclass(frozen=True)
class _Prepared:
    """What is kept of a convolution: `weight`, dilation written out; `kernel` for ordinary convolutions.

    source: the weight it was made from.
    matrices: by height and width of a patch, the transposed convolution as a matrix.
    """

    source: Tensor
    weight: Tensor
    kernel: Tensor
    matrices: dict[tuple[int, int], Tensor] = field(default_factory=dict)


_PREPARED: WeakKeyDictionary[layers.Conv, _Prepared] = WeakKeyDictionary()


def transposed_conv(values: Tensor, conv: layers.Conv) -> Tensor:
    """The transposed convolution of values [R, O, h, w]: [R, C, (h - 1) s + k, (w - 1) s + k].

    Of small patches as one product of matrices. Of others in float32 as an ordinary convolution, which oneDNN
    runs several times faster on many patches. It prepares itself for every shape anew, which takes longer
    than a small convolution does: so the number of rows is rounded up to one of few. In float64 oneDNN has
    neither.
    """
    known, (rows, out, *size) = _prepared(conv), values.shape
    channels = known.weight.shape[1] * conv.groups
    high, wide = ((size[i] - 1) * conv.stride[i] + known.weight.shape[2 + i] for i in (0, 1))
    if out * size[0] * size[1] * channels * high * wide <= _DENSE:
        matrix = known.matrices.get((size[0], size[1]))
        if matrix is None:
            units = torch.eye(out * size[0] * size[1], dtype=conv.weight.dtype, device=conv.weight.device)
            with torch.inference_mode(False):
                matrix = _transposed(units.view(-1, out, *size), known.weight, conv).flatten(1)
            known.matrices[size[0], size[1]] = matrix
        return (values.flatten(1) @ matrix).view(rows, channels, high, wide)
    if values.dtype != torch.float32 or values.is_cuda:
        return _transposed(values, known.weight, conv)
    kernel, (sy, sx) = known.kernel, conv.stride
    more = -rows % max(64, 2 ** (rows.bit_length() - 4))
    padded = F.pad(values, (0, 0, 0, 0, 0, 0, 0, more)) if more else values
    before = kernel.shape[2] - 1, kernel.shape[3] - 1
    spread = F.conv2d(padded, kernel, padding=before, groups=conv.groups)[:rows]
    height, width = spread.shape[2:]
    if (sy, sx) != (1, 1):
        spread = spread.reshape(rows, channels, sy, sx, height, width).permute(0, 1, 4, 2, 5, 3)
        spread = spread.reshape(rows, channels, height * sy, width * sx)
    return spread[:, :, :high, :wide]


def _prepared(conv: layers.Conv) -> _Prepared:
    known = _PREPARED.get(conv)
    if known is None or known.source is not conv.weight:
        with torch.inference_mode(False):  # gradients may go through it later
            weight = spread_dilation(conv.weight, conv.dilation)
            known = _Prepared(conv.weight, weight, _by_phases(weight, conv.stride, conv.groups))
        _PREPARED[conv] = known
    return known


def _transposed(values: Tensor, weight: Tensor, conv: layers.Conv) -> Tensor:
    return F.conv_transpose2d(values, weight, stride=conv.stride, groups=conv.groups)


def _by_phases(weight: Tensor, stride: tuple[int, int], groups: int) -> Tensor:
    """The kernel of the convolution that gives the transposed one.

    With stride s, output s q + f only meets the kernel entries k = f mod s, so each phase f is a convolution
    by every s-th entry, and the phases are shuffled together afterwards.
    """
    out, channels, kh, kw = weight.shape
    (sy, sx), high, wide = stride, -(-kh // stride[0]), -(-kw // stride[1])
    padded = F.pad(weight, (0, wide * sx - kw, 0, high * sy - kh))
    phases = padded.reshape(groups, out // groups, channels, high, sy, wide, sx).flip(3, 5)
    return phases.permute(0, 2, 4, 6, 1, 3, 5).reshape(-1, out // groups, high, wide)
