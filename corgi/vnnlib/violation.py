"""What breaks a property, as VNN-LIB says it: alternatives, each a conjunction of linear constraints.

    ranking    lost pixels of A at or below gained pixels of B: an alternative for each choice of both
    balance    sum_p c_p max(I_p, 0) <= 0 for one of its forms: linear in the positive part of the map, which
               the exported network returns, too (`Outputs`)
    all        an alternative of any part
    any        one alternative of every part at once

VNN-LIB cannot count, so a ranking with many pixels to spare on both sides has more alternatives than anyone
can write. They are counted before any is made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from corgi.errors import UsageError
from corgi.properties.formula import All, Any, Balance, Formula, Ranking
from corgi.vnnlib.spec import Constraint

MOST = 500_000
"""Most constraints of one specification, counted in every alternative."""

Alternative = tuple[Constraint, ...]


@dataclass(frozen=True)
class Outputs:
    """What the exported network returns: the map, its positive part, or one behind the other.

    Attributes:
        formula: what is asked of the map.
        pixels: of the map.
    """

    formula: Formula
    pixels: int

    @cached_property
    def cam(self) -> bool:
        """Whether Y holds the map: what rankings compare."""
        return any(isinstance(part, Ranking) for part in self.formula.leaves)

    @cached_property
    def positive(self) -> bool:
        """Whether Y holds the positive part of the map: what balances sum up."""
        return any(isinstance(part, Balance) for part in self.formula.leaves)

    @property
    def count(self) -> int:
        """Number of outputs."""
        return self.pixels * (self.cam + self.positive)

    @property
    def first_positive(self) -> int:
        """The output that is the positive part of pixel 0."""
        return self.pixels if self.cam else 0


def violation(outputs: Outputs, what: str = "the property") -> tuple[Alternative, ...]:
    """The alternatives that break a property: satisfied by a map exactly where its margin is <= 0.

    Raises:
        UsageError: they are too many to be written; `what` names the property.
    """
    count, constraints = size_of(outputs.formula)
    if constraints > MOST:
        raise UsageError(
            f"{what}: what breaks it are {count:,} alternatives with {constraints:,} constraints, of which"
            f" at most {MOST:,} can be written",
            hint="VNN-LIB cannot count. Ask for a property that fewer sets of pixels break: pointing, topk"
            " with k2 = k, or overlap and inside with a keep near 1 or k and a small region.",
        )
    return tuple(_Written(outputs).alternatives(outputs.formula))


def size_of(formula: Formula) -> tuple[int, int]:
    """How many alternatives there are, and constraints in all of them."""
    match formula:
        case Ranking(lost_count=lost, gained=gained):
            sets = math.comb(len(formula.above), lost) * math.comb(len(formula.below), gained)
            return sets, sets * lost * gained
        case Balance():
            return len(formula.coefficients), len(formula.coefficients)
        case All(parts=parts):
            alternatives, constraints = zip(*map(size_of, parts), strict=True)
            return sum(alternatives), sum(constraints)
        case Any(parts=parts):
            sizes = [size_of(part) for part in _independent(parts)]
            product = math.prod(count for count, _ in sizes)
            return product, sum(product // count * each for count, each in sizes)
    raise TypeError(f"no constraints for a formula of kind {type(formula).__name__}")


def _independent(parts: Sequence[Formula]) -> list[Formula]:
    """Parts without those that are broken wherever two others are.

    With t the largest of some values: I_(u) of A <= t and t <= I^(v) of B, so I_(u) of A <= I^(v) of B.
    """
    kept = list(parts)
    for part in parts:
        others = [other for other in kept if other != part]
        rankings = [other for other in others if isinstance(other, Ranking)]
        if any(_joined(first, second) == part for first, second in itertools.permutations(rankings, 2)):
            kept = others
    return kept


def _joined(first: Ranking, second: Ranking) -> Ranking | None:
    """What is broken where both are: the first stays above the largest of some, which stays above others."""
    largest = first.gained == 1 and second.lost_count == len(second.above)
    if not (largest and set(first.below) == set(second.above) and first.down == second.up):
        return None
    keep = first.keep
    return Ranking(first.above, second.below, keep, keep + second.gained - 1, first.up, second.down)


class _Written:
    """The constraints of one specification, each made once."""

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs
        self.made: dict[tuple[int, int, float, float], Constraint | None] = {}

    def alternatives(self, formula: Formula) -> Iterator[Alternative]:
        match formula:
            case Ranking():
                yield from self.of_ranking(formula)
            case Balance():
                yield from self.of_balance(formula)
            case All(parts=parts):
                for part in parts:
                    yield from self.alternatives(part)
            case Any(parts=parts):
                found = [list(self.alternatives(part)) for part in _independent(parts)]
                for chosen in itertools.product(*found):
                    yield tuple(dict.fromkeys(itertools.chain.from_iterable(chosen)))

    def of_ranking(self, ranking: Ranking) -> Iterator[Alternative]:
        gained = list(itertools.combinations(ranking.below, ranking.gained))
        for lost in itertools.combinations(ranking.above, ranking.lost_count):
            for others in gained:
                pairs = (self.reaches(p, i, ranking.up, ranking.down) for i in lost for p in others)
                yield tuple(one for one in pairs if one is not None)

    def reaches(self, p: int, i: int, up: float, down: float) -> Constraint | None:
        """The constraint down Y_p >= up Y_i, as up Y_i - down Y_p <= 0; None where all maps satisfy it."""
        key = (p, i, up, down)
        if key not in self.made:
            terms = {i: Fraction(up)}
            terms[p] = terms.get(p, Fraction(0)) - Fraction(down)
            found = tuple(sorted((pixel, value) for pixel, value in terms.items() if value))
            self.made[key] = Constraint((), found, Fraction(0)) if found else None
        return self.made[key]

    def of_balance(self, balance: Balance) -> Iterator[Alternative]:
        first = self.outputs.first_positive
        for row in balance.coefficients:
            terms = tuple((first + p, Fraction(c)) for p, c in enumerate(row) if c)
            yield (Constraint((), terms, Fraction(0)),)
