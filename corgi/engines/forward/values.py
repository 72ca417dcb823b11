"""Affine forms at the kinks of a network: max(v, 0), max(v, w) and the pixel box.

Where the sign of D = v - w is known on the box, the larger one is v or w itself, exactly. Else, with D in
[l, u], l < 0 < u, and any slope 0 <= s <= 1, relu(D) - s D is convex in D and 0 at 0, so it lies between 0
and max(-s l, (1 - s) u) on [l, u], and

    max(v, w) = w + relu(D)  lies in  s v + (1 - s) w + [0, max(-s l, (1 - s) u)].

s = u / (u - l) makes both ends equal and the width least (DeepZ, Singh et al. 2018, Theorem 3.1). The
remainder of s v + (1 - s) w is s r_v + (1 - s) r_w: v and w themselves are mixed, not v and the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.engines.parametric import AffineForms
from corgi.engines.rigour import RAISED, roundings, smallest
from corgi.types import Interval


@dataclass(frozen=True)
class _Chord:
    """Slope s, exact as it is, and half of max(-s l, (1 - s) u), rounded up, of relu on [l, u].

    Where the sign is known they are 1 or 0, and 0, and nothing is rounded: `undecided` is 0, else 1.
    """

    slope: Tensor
    half: Tensor
    undecided: Tensor

    @staticmethod
    def of(known: Interval) -> _Chord:
        """Comparisons with NaN are false: what nothing is known of is undecided, and stays NaN."""
        positive, negative = known.lower >= 0, known.upper <= 0
        slope = (known.upper / (known.upper - known.lower)).clamp(0, 1)
        slope = torch.where(positive, 1.0, torch.where(negative, 0.0, slope))
        height = torch.maximum(-slope * known.lower, (1 - slope) * known.upper) * RAISED
        undecided = ~(positive | negative)
        half = torch.where(undecided, height / 2 + smallest(torch.float64), 0.0)
        return _Chord(slope, half, undecided.to(slope.dtype))

    def where_both(self, first: Tensor, second: Tensor) -> _Chord:
        """The same where both values exist; where one is missing, the other one."""
        alone = ~(first & second)
        slope = torch.where(alone, first.to(self.slope.dtype), self.slope)
        return _Chord(slope, self.half.masked_fill(alone, 0), self.undecided.masked_fill(alone, 0))


@dataclass(frozen=True)
class Chorded:
    """A maximum as v' + half e with |e| <= 1, v' the affine forms and `half` >= 0, [N, ...]."""

    forms: AffineForms
    half: Tensor

    def boxed(self) -> AffineForms:
        """With `half` in the remainder."""
        return AffineForms(self.forms.terms, (self.forms.remainder + self.half) * RAISED)


def larger_of_zero(value: AffineForms) -> Chorded:
    """max(v, 0)."""
    chord = _Chord.of(value.interval())
    return _mixed(value.terms * chord.slope[:, None], chord.slope * value.remainder, chord)


def own_of_zero(value: AffineForms) -> tuple[Tensor, Tensor]:
    """Of max(v, 0) the slope, and what its remainder has beside slope * r."""
    chord = _Chord.of(value.interval())
    own = _mixed(value.terms * chord.slope[:, None], torch.zeros_like(value.remainder), chord)
    return chord.slope, own.boxed().remainder


def larger(first: AffineForms, second: AffineForms, present: tuple[Tensor, Tensor] | None = None) -> Chorded:
    """max(v, w); `present`: where each of the two exists (at least one does), broadcastable to [N, ...].

    Of the difference of two forms the generators subtract and the remainders add up.
    """
    remainder = (first.remainder + second.remainder) * RAISED
    chord = _Chord.of(AffineForms(first.terms - second.terms, remainder).interval())
    if present is not None:
        chord = chord.where_both(*present)
    slope, other = chord.slope, 1 - chord.slope
    terms = slope[:, None] * first.terms + other[:, None] * second.terms
    size = slope * first.size + other * second.size
    return _mixed(terms, slope * first.remainder + other * second.remainder, chord, size)


def _mixed(terms: Tensor, remainder: Tensor, chord: _Chord, size: Tensor | None = None) -> Chorded:
    """Mixed terms [N, 1 + d, ...] and remainders, with what the chord adds and what was rounded.

    Where it was undecided, 1 - s, two products, their sum and that with `half`: no more than 5 roundings of
    what `size` adds up (None: of the terms). Else the terms are copies. The remainder's own roundings are of
    non-negative numbers.
    """
    size = terms.abs().sum(1) if size is None else size
    error = roundings(12) * chord.undecided * (size + chord.half)
    terms[:, 0] += chord.half
    lost = 2 * terms.shape[1] * smallest(torch.float64)
    return Chorded(AffineForms(terms, (remainder + error) * RAISED + lost), chord.half)
