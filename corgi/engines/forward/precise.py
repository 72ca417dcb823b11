"""Affine forms of one box of parameters in as many digits as a deep network needs.

In float64 what is rounded in an early layer is multiplied by |W| of every later one: 2^50 to 2^140 in
networks of fifty layers, so that nothing is known of the map even at one point. Here c and g_j stand on grids
that are so fine that this does not matter (digits.py; how fine: precision.py), and what is dropped is counted
in r. From where float64 is fine enough they are float64's.

The chord that a unit needs whose sign is not known becomes a generator of its own, g = half of its height, in
place of a remainder: in later layers it then cancels as it does in the network. A value holds the first of
the generators that there are, in the order in which they were made, those of the parameters before others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corgi.budget import check
from corgi.changes.family import LinearFamily
from corgi.engines.forward.digits import BITS, Digits, added, carried, grid, multiplied
from corgi.engines.forward.precision import Precision
from corgi.engines.forward.rules import forward_step, present, taken
from corgi.engines.forward.values import Chorded, larger, larger_of_zero
from corgi.engines.parametric import AffineForms, Boxes
from corgi.engines.patch.prepare import Maximum
from corgi.engines.rigour import FAR_RAISED, RAISED, fan_in, roundings, smallest
from corgi.engines.rules import rule_of
from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.expansion import QUOTIENT_ERROR
from corgi.types import Interval

_UNSEEN = 2.0**-40
"""A chord that moves the map by less, as a share of its spread and if nothing cancels, is no generator."""

_FLOATS = 3
"""Digits behind the point up to which float64 is as good."""

_SLOPES = 2.0 ** (BITS - 1)
"""Slopes of chords are multiples of its inverse: a digit each."""


class TooMany(Exception):
    """More units are undecided than there may be generators for: nothing is known of the map."""


@dataclass(frozen=True)
class Forms:
    """A value over one box: | v - c - sum_j g_j s_j | <= r for |s_j| <= 1.

    Attributes:
        terms: c and g_j, [1 + g, C, H, W] on a grid; remainder: r, float64 [C, H, W].
    """

    terms: Digits
    remainder: Tensor

    @property
    def count(self) -> int:
        """1 + g."""
        return self.terms.digits.shape[1]

    def padded(self, count: int) -> Forms:
        """With further generators that are 0."""
        return Forms(self.terms.map(lambda d: _padded(d, count)), self.remainder)

    def rounded(self) -> AffineForms:
        """In float64, [1, 1 + g, C, H, W]; `digits.py` has it that terms are off by 4 units of themselves."""
        terms = self.terms.rounded()
        error = roundings(8) * terms.abs().sum(0) + smallest(torch.float64)
        return AffineForms(terms[None], ((self.remainder + error) * RAISED)[None])

    def entries(self, which: Tensor) -> Forms:
        """Some of the entries, in a row: [1 + g, n]."""
        return Forms(self.terms.map(lambda d: d.flatten(2)[:, :, which]), self.remainder.flatten()[which])


Value = Forms | AffineForms


@dataclass(frozen=True)
class _Born:
    """Which of some chords become generators: `which` of them, and the column of each."""

    which: Tensor
    column: Tensor


class PrecisePass:
    """One pass through a network over one box.

    Attributes:
        graph: the trunk, prepared, no constants folded; head: the convolution that makes the map of it.
        precision: of its values; most: terms that forms may have; count: terms so far.
    """

    def __init__(self, graph: TorchGraph, head: layers.Conv, precision: Precision, most: int) -> None:
        self.graph, self.head, self.precision, self.most = graph, head, precision, most
        self.count = 0

    def run(self, family: LinearFamily, box: Boxes) -> AffineForms:
        """The map: terms [1, 1 + g, 1, h, w], the parameters' first.

        Raises:
            TooMany: more units are undecided than there may be generators for.
        """
        found: dict[str, Value] = {self.graph.input_name: self.image(family, box)}
        for step, done in zip(self.graph.steps, self.graph.read_last, strict=True):
            check()
            found[step.output] = self.step(step.layer, step.output, [found[name] for name in step.inputs])
            for name in done:
                del found[name]
        return _floats(self.step(self.head, "", [found[self.graph.output_name]]))

    def step(self, layer: nn.Module, name: str, inputs: list[Value]) -> Value:
        """One step, on grids as long as its inputs and its output need them."""
        if isinstance(layer, Maximum):
            return self.maximum(layer, name, inputs[0])
        exact = [value for value in inputs if isinstance(value, Forms)]
        if len(exact) < len(inputs):
            return forward_step(layer, _alike([_floats(value) for value in inputs]))
        fraction = self.precision.fraction.get(name, 1)
        found = rule_of(RULES, layer)(layer, max(fraction, _FLOATS), exact)
        return _floats(found) if fraction <= _FLOATS else found

    def image(self, family: LinearFamily, box: Boxes) -> Forms:
        """clip(x + A t). Pixels that have x and A in common share the chord of their clipping, too."""
        name = self.graph.input_name
        fraction = max(self.precision.fraction[name], _FLOATS)
        (x, off), (directions, off_a) = Digits.of(family.image[None], fraction), Digits.of(family.directions)
        shifts, error = _times(directions, box.middle[0], fraction)
        generators, error_h = _times(directions, box.half[0], fraction)
        centre = reduce(added, (shifts[j : j + 1] for j in range(family.dimensions)), x.aligned(fraction)[0])
        count = max(len(centre.digits), len(generators.digits))
        terms = torch.cat([centre.widened(count).digits, generators.widened(count).digits], 1)
        reach = float((box.middle.abs() + box.half).sum())
        error = (off + family.dimensions * (error + error_h) + off_a * reach) * FAR_RAISED
        value = Forms(Digits(terms, fraction), torch.full_like(family.image, error))
        self.count = 1 + family.dimensions
        same = torch.cat([family.image[None], family.directions]).flatten(1)
        value = self.of_zero(value, name, same)
        return _mirrored(self.of_zero(_mirrored(value), name, same))

    def of_zero(self, value: Forms, name: str, same: Tensor) -> Forms:
        """max(v, 0) with signs as they exactly are; equal columns of `same` [., n] mean equal values."""
        return self.chosen(value, None, _exact_interval(value), name, same=same)

    def maximum(self, layer: Maximum, name: str, value: Value) -> Value:
        """Of the elements of each window one after the other, then of 0."""
        elements = [value]
        if not layer.elementwise:
            elements = [_element(layer, value, number) for number in range(layer.elements)]
        found, *others = elements
        for other, both in zip(others, present(layer, value.remainder), strict=True):
            check()
            found = self.larger(found, other, name, both)
        return self.larger(found, None, name) if layer.zero else found

    def larger(
        self, first: Value, second: Value | None, name: str, both: tuple[Tensor, Tensor] | None = None
    ) -> Value:
        """max(v, w), w = 0 where it is None; `both`: where each exists, None for all over."""
        if isinstance(first, AffineForms):
            assert not isinstance(second, Forms)
            if second is None:
                return self.in_floats(larger_of_zero(first), name)
            one, other = _alike([first, second])
            return self.in_floats(larger(one, other, both), name)
        assert not isinstance(second, AffineForms)
        if second is not None:
            count = max(first.count, second.count)
            first, second = first.padded(count), second.padded(count)
        known = _over(first, second).rounded().interval()
        return self.chosen(first, second, Interval(known.lower[0], known.upper[0]), name, both)

    def in_floats(self, found: Chorded, name: str) -> AffineForms:
        """A maximum in float64, its chords in columns of their own."""
        half = found.half[0].flatten()
        where = (~(half == 0)).nonzero().reshape(-1)
        born = self.born(half[where], where, name)
        seen = where[born.which]
        terms = _padded(found.forms.terms, self.count).flatten(2)
        terms[0, born.column, seen] = half[seen]
        boxed = half.index_fill(0, seen, 0).reshape(found.half.shape)
        terms = terms.reshape(1, self.count, *found.half.shape[1:])
        return AffineForms(terms, (found.forms.remainder + boxed) * RAISED)

    def chosen(
        self,
        first: Forms,
        second: Forms | None,
        known: Interval,
        name: str,
        both: tuple[Tensor, Tensor] | None = None,
        same: Tensor | None = None,
    ) -> Forms:
        """The same of forms on a grid, `known` being bounds of v - w. Where the sign is known it is exact."""
        on, off = known.lower >= 0, known.upper <= 0
        if both is not None:
            on, off = (on | ~both[1]) & both[0], (off | ~both[0]) & both[1]
        off = off & ~on
        kept = on.to(torch.float64)
        terms, remainder = first.terms.map(lambda d: d * kept), first.remainder * kept
        if second is not None:
            rest = off.to(torch.float64)
            terms = added(terms, second.terms.map(lambda d: d * rest))
            remainder = remainder + second.remainder * rest
        where = (~(on | off)).flatten().nonzero().reshape(-1)
        found = Forms(terms, remainder)
        return self.chorded(found, first, second, known, where, name, same) if len(where) else found

    def chorded(
        self,
        found: Forms,
        first: Forms,
        second: Forms | None,
        known: Interval,
        where: Tensor,
        name: str,
        same: Tensor | None,
    ) -> Forms:
        """Entries whose sign is not known: w + s (v - w) + half (1 + e), |e| <= 1 (values.py).

        Any slope s between 0 and 1 does, and this one is exactly what it is rounded to; so is `half`, which
        is rounded up to the grid.
        """
        fraction = found.terms.fraction
        low, high = known.lower.flatten()[where], known.upper.flatten()[where]
        slope = (torch.round(high / (high - low) * _SLOPES) / _SLOPES).clamp(0, 1)
        half = torch.maximum(-slope * low, (1 - slope) * high) / 2 * RAISED + smallest(torch.float64)
        half = torch.ceil(half * RAISED * 2.0 ** (BITS * fraction)) * grid(fraction)
        # Alike are chords of equal values, if slope and height are the same, too: then so is e.
        alike = None if same is None else torch.cat([same[:, where], slope[None], half[None]])
        born = self.born(half, where, name, alike)
        v = first.entries(where)
        w = None if second is None else second.entries(where)
        factor, _ = Digits.of(slope)
        mixed, error = multiplied(_over(v, w).terms, factor, torch.mul, 1, fraction)
        rest = v.remainder * slope + v.count * error
        if w is not None:
            mixed, rest = added(mixed, w.terms), rest + w.remainder * (1 - slope)
        exact, off = Digits.of(half)
        height, lost = exact.aligned(fraction)
        rest = rest + 2 * (off + lost)
        mixed = added(mixed, height.map(lambda d: F.pad(d[:, None], (0, 0, 0, v.count - 1))))
        count = max(len(found.terms.digits), len(mixed.digits), len(height.digits))
        terms = found.padded(self.count).terms.widened(count).digits.flatten(2)
        terms[:, : v.count, where] = mixed.widened(count).digits
        terms[:, born.column, where[born.which]] = height.widened(count).digits[:, born.which]
        boxed = half.index_fill(0, born.which, 0)
        remainder = found.remainder.flatten().index_copy(0, where, (rest + boxed) * RAISED * RAISED)
        shape = found.remainder.shape
        return Forms(Digits(terms.reshape(*terms.shape[:2], *shape), fraction), remainder.reshape(shape))

    def born(self, half: Tensor, where: Tensor, name: str, alike: Tensor | None = None) -> _Born:
        """Columns for chords at entries `where` of a value: of all that the map could show.

        `alike` [., n]: chords in which it is equal are the same function of t, and have one column.

        Raises:
            TooMany: there are not so many, or nothing is known of an entry.
        """
        if not bool(torch.isfinite(half).all()):
            raise TooMany
        shown = half * self.precision.amplification[name].flatten()[where] > _UNSEEN
        which = shown.nonzero().reshape(-1)
        column = torch.arange(len(which))
        if alike is not None and len(which):
            column = torch.unique(alike[:, which], dim=1, return_inverse=True)[1]
        column = self.count + column
        count = int(column.max()) + 1 if len(which) else self.count
        if count > self.most:
            raise TooMany
        self.count = count
        return _Born(which, column)


def _floats(value: Value) -> AffineForms:
    return value.rounded() if isinstance(value, Forms) else value


def _alike(values: list[AffineForms]) -> list[AffineForms]:
    """With as many terms each."""
    count = max(value.terms.shape[1] for value in values)
    return [AffineForms(_padded(value.terms, count), value.remainder) for value in values]


def _padded(terms: Tensor, count: int) -> Tensor:
    """Terms [., n, C, H, W] with further ones that are 0, up to so many; themselves if they are as many."""
    more = count - terms.shape[1]
    return F.pad(terms, (0, 0) * 3 + (0, more)) if more else terms


def _element(layer: Maximum, value: Value, number: int) -> Value:
    remainder = taken(layer, value.remainder, number)
    if isinstance(value, Forms):
        return Forms(value.terms.map(lambda d: taken(layer, d, number)), remainder)
    return AffineForms(taken(layer, value.terms, number), remainder)


def _over(first: Forms, second: Forms | None) -> Forms:
    """The difference v - w."""
    if second is None:
        return first
    terms = added(first.terms, second.terms, -1)
    return Forms(terms, (first.remainder + second.remainder) * RAISED)


def _exact_interval(value: Forms) -> Interval:
    """Ends with exactly their sign where r is 0: a pixel may touch 0 or 1 at an end of its box."""
    generators = value.terms[1:]
    sign = torch.sign(generators.rounded())
    reach = carried((generators.digits * sign).sum(1, keepdim=True), value.terms.fraction)
    ends = []
    for side in (-1, 1):
        end = added(value.terms[:1], reach, side).rounded()[0]
        ends.append(end + side * (end.abs() * roundings(16) + value.remainder * RAISED))
    return Interval(ends[0], ends[1])


def _mirrored(value: Forms) -> Forms:
    """1 - v, exactly."""
    one = torch.zeros_like(value.terms.digits[:1])
    one[:, 0] = 1
    terms = added(Digits(one, 0).aligned(value.terms.fraction)[0], value.terms, -1)
    return Forms(terms, value.remainder)


def _times(value: Digits, factors: Tensor, fraction: int) -> tuple[Digits, float]:
    """[d, ...] times float64 [d], and what entries are off by."""
    factor, off = Digits.of(factors[:, None, None, None])
    found, error = multiplied(value, factor, torch.mul, 1, fraction)
    return found, error + off * float(value.rounded().abs().max()) * FAR_RAISED


def _conv(conv: layers.Conv, fraction: int, inputs: list[Forms]) -> Forms:
    """W v + b: exact, but for what the grid drops of each term, and for what W and b have beyond it."""
    value = inputs[0]
    (weight, off), (bias, off_b) = Digits.of(conv.weight, fraction + 4), Digits.of(conv.bias, fraction + 4)
    plus = bias.digits.new_zeros(len(bias.digits), value.count, len(conv.bias), 1, 1)
    plus[:, 0, :, 0, 0] = bias.digits
    constant = Digits(plus, bias.fraction)
    terms, error = multiplied(value.terms, weight, _convolution(conv), fan_in(conv), fraction, constant)
    off += roundings(2 * conv.roundings) * float(conv.weight.abs().max())
    own = value.count * error + off_b
    if off:
        own += off * fan_in(conv) * float(value.rounded().size.max())
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    reach = F.conv2d(value.remainder[None], conv.weight.abs(), None, *options)[0] * FAR_RAISED
    lost = fan_in(conv) * smallest(torch.float64)
    share = roundings(2 * conv.roundings) * conv.bias_magnitude[:, None, None]
    return Forms(terms, (reach + own * FAR_RAISED + lost + share) * RAISED)


def _convolution(conv: layers.Conv) -> Callable[[Tensor, Tensor], Tensor]:
    """Of a digit of the value and one of the weights; channel by channel it is faster as a sum of taps."""
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if not (conv.groups == conv.weight.shape[0] and conv.weight.shape[1] == 1 and conv.groups > 1):
        return lambda x, w: F.conv2d(x, w, None, *options)
    (kernel_y, kernel_x), (step_y, step_x), (by_y, by_x) = conv.weight.shape[2:], conv.stride, conv.dilation

    def taps(x: Tensor, w: Tensor) -> Tensor:
        pad_y, pad_x = conv.padding
        x = F.pad(x, (pad_x, pad_x, pad_y, pad_y)) if pad_x or pad_y else x
        height, width = x.shape[2] - (kernel_y - 1) * by_y, x.shape[3] - (kernel_x - 1) * by_x
        total = None
        for a in range(kernel_y):
            for b in range(kernel_x):
                top, left = a * by_y, b * by_x
                seen = x[:, :, top : top + height : step_y, left : left + width : step_x]
                tap = w[:, 0, a, b, None, None]
                total = seen * tap if total is None else total.addcmul_(seen, tap)
        assert total is not None
        return total

    return taps


def _affine(layer: layers.Affine, fraction: int, inputs: list[Forms]) -> Forms:
    """A scale and a shift; of constants that float64 does not hold `rest` has the next 53 bits."""
    value, relative = inputs[0], 0.0 if layer.rest is None else 4 * QUOTIENT_ERROR
    rest = (
        (torch.zeros_like(layer.scale), torch.zeros_like(layer.shift)) if layer.rest is None else layer.rest
    )
    (factor, off), (constant, off_b) = (
        _sum_of(Digits.of(main, fraction + 4), Digits.of(more, fraction + 4))
        for main, more in zip((layer.scale, layer.shift), rest, strict=True)
    )
    shape, scale = value.remainder.shape, layer.scale.abs()
    plus = constant.digits.new_zeros(len(constant.digits), *value.terms.digits.shape[1:])
    plus[:, 0] = constant.digits.expand(len(constant.digits), *shape)
    terms, error = multiplied(value.terms, factor, torch.mul, 1, fraction, Digits(plus, constant.fraction))
    own = value.count * error + off_b + relative * layer.shift_magnitude
    if off or relative:
        own = own + (off + relative * scale) * value.rounded().size[0] * FAR_RAISED
    remainder = (value.remainder * scale * FAR_RAISED + own + smallest(torch.float64)) * RAISED
    return Forms(terms, remainder.expand(shape))


def _sum_of(first: tuple[Digits, float], second: tuple[Digits, float]) -> tuple[Digits, float]:
    fraction = max(first[0].fraction, second[0].fraction)
    total = added(first[0].aligned(fraction)[0], second[0].aligned(fraction)[0])
    return total, (first[1] + second[1]) * RAISED


def _added(layer: nn.Module, fraction: int, inputs: list[Forms]) -> Forms:
    """Sums and differences, on the coarsest of the grids."""
    sign = -1 if isinstance(layer, layers.Sub) else 1
    aligned = _aligned(inputs)
    remainder = sum(value.remainder for value in aligned)
    terms = reduce(lambda one, other: added(one, other, sign), (value.terms for value in aligned))
    return Forms(terms, torch.as_tensor(remainder) * FAR_RAISED)


def _concat(layer: layers.Concat, fraction: int, inputs: list[Forms]) -> Forms:
    """Side by side."""
    aligned = _aligned(inputs)
    count = max(len(value.terms.digits) for value in aligned)
    terms = torch.cat([value.terms.widened(count).digits for value in aligned], 2)
    return Forms(Digits(terms, aligned[0].terms.fraction), torch.cat([v.remainder for v in aligned]))


def _aligned(values: list[Forms]) -> list[Forms]:
    """With as many terms each, on the coarsest of their grids."""
    count, fraction = max(v.count for v in values), min(v.terms.fraction for v in values)
    found = []
    for value in values:
        terms, off = value.padded(count).terms.aligned(fraction)
        found.append(Forms(terms, (value.remainder + count * off) * RAISED))
    return found


RULES: dict[type[nn.Module], Callable[..., Forms]] = {
    layers.Conv: _conv,
    layers.Affine: _affine,
    layers.Add: _added,
    layers.Sub: _added,
    layers.Concat: _concat,
}
"""What a step other than a maximum makes of forms on grids."""

SERVED = (*RULES, Maximum)
"""Layers for which digits make sense."""
