"""Decide a property over a family of images by splitting the box of its parameters.

A part, a box of parameters with its ends, is decided by bounds of the property's margin over it
(`affine.py`): a lower bound > 0 proves the property on all of it, an upper bound < 0 that it is broken on all
of it. What is neither is split into two halves that share the face between them, so the parts always cover
the box. Sizes T_1 < T_2 < ... are nested boxes; the first parts lie between one and the next, so that a size
is proved exactly where all parts up to it are, and refuted by a witness in any of them.

Parts that a size waits for come first: of the smallest size, and of these the worst, or of one parameter the
nearest to 0, so that what time leaves is proved up to somewhere. Then those that only show where else it
holds, the nearest first.

With a small ball around each image (`around.py`) its lower bounds count in place of the family's own. What is
broken for the family is broken for more images than these, so upper bounds and witnesses stay what they are;
others are looked for around images, and parts stay open where smaller ones would gain little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import torch

from corgi.attacks.along import FamilyWitness, confirm_around, confirm_at, exact_margin, margins_at
from corgi.attacks.target import Target
from corgi.budget import check, tell
from corgi.changes.family import Family
from corgi.decide.affine import lower_margins, upper_margins
from corgi.decide.around import Around
from corgi.decide.decider import contradiction
from corgi.engines.parametric import AffineForms, Boxes, FamilyBounder
from corgi.terms import Finding, Status

Point = tuple[float, ...]

_ENTRIES = 2**22
"""Entries of images that are bounded at once, terms of their forms counted."""

_AT_ONCE = 8
"""Parts that are bounded at once at most."""

_SCOUTS = 81
"""Points of a grid where a witness is looked for first, of each size."""

_HOPED = 0.3
"""How much of a remainder narrower forms may leave, or halves: where as much would prove a part, they are
drawn; where it would not, halves of halves are bounded in place of halves."""

_ATTACKED = 4
"""Points of the same grid around which one is looked for, of each size: those with the smallest margins."""

_TRIES = 16
"""Parts that are proved to be broken, the nearest first, whose middles onnxruntime is asked about."""


@dataclass(frozen=True)
class Part:
    """A box of parameters.

    Attributes:
        lower, upper: its ends, which belong to it.
        shell: how many sizes are smaller than the smallest that holds it.
        finding: what is known of it.
        bound: a lower bound of the margin over it, or over the part it is a half of.
    """

    lower: Point
    upper: Point
    shell: int
    finding: Finding = Finding.OPEN
    bound: float = -math.inf

    @property
    def middle(self) -> Point:
        """About the middle, a point of it."""
        return tuple(
            min(max((low + high) / 2, low), high) for low, high in zip(self.lower, self.upper, strict=True)
        )

    @property
    def distance(self) -> float:
        """max_j |t_j| of the point of it that is nearest to 0."""
        return max(max(low, -high, 0.0) for low, high in zip(self.lower, self.upper, strict=True))

    def holds_point(self, point: Point) -> bool:
        """Whether a point is one of it."""
        return all(low <= t <= high for low, t, high in zip(self.lower, point, self.upper, strict=True))

    def halves(self, axis: int) -> tuple[Part, Part]:
        """Cut across an axis; both halves have the face between them."""
        cut = self.middle[axis]
        first, second = list(self.upper), list(self.lower)
        first[axis] = second[axis] = cut
        return replace(self, upper=tuple(first)), replace(self, lower=tuple(second))


@dataclass(frozen=True)
class Fineness:
    """How small parts become before they stay open.

    Attributes:
        relative: shortest side, as a share of the largest |t_j| of the part: where one parameter changes.
        needed: the same as a share of the largest size, of parts that a size waits for.
        shown: of parts that only show where else it holds.
    """

    relative: float = 2.0**-26
    needed: float = 2.0**-40
    shown: float = 2.0**-5

    def allows(self, part: Part, axis: int, largest: float, *, needed: bool) -> bool:
        """Whether a part may still be split along an axis."""
        side = part.upper[axis] - part.lower[axis]
        if not part.lower[axis] < part.middle[axis] < part.upper[axis]:
            return False
        if len(part.lower) == 1:
            farthest = max(abs(part.lower[0]), abs(part.upper[0]))
            return side > max(self.relative * farthest, self.needed * largest)
        return side > (self.needed if needed else self.shown) * largest


def shells(family: Family, sizes: tuple[float, ...]) -> Iterator[Part]:
    """Boxes that cover the largest size, each between one size and the next: 2 d of them or fewer a size."""
    inner_low, inner_high = ((0.0,) * family.dimensions,) * 2
    for shell, size in enumerate(sizes):
        low, high = family.box(size)
        if shell == 0:
            yield Part(low, high, shell)
        else:
            # What lies beyond the inner box along one axis, within it along the axes before.
            for axis in range(family.dimensions):
                before, after = slice(0, axis), slice(axis + 1, None)
                for one in ((low[axis], inner_low[axis]), (inner_high[axis], high[axis])):
                    if one[0] < one[1]:
                        yield Part(
                            (*inner_low[before], one[0], *low[after]),
                            (*inner_high[before], one[1], *high[after]),
                            shell,
                        )
        inner_low, inner_high = low, high


@dataclass
class PartsSearch:
    """The parts of a family, decided one batch after the other.

    Attributes:
        target: the property; family: the set; bounder: how to bound.
        sizes: of the boxes, ascending, > 0.
        fineness: how small parts become.
        around: small balls around all images of the family; None for these alone.
        done: parts that are decided, or too small; queue: those that are not.
        witness: the nearest that was found.
        bounded: how many parts were bounded.
    """

    target: Target
    family: Family
    bounder: FamilyBounder
    sizes: tuple[float, ...]
    fineness: Fineness = field(default_factory=Fineness)
    around: Around | None = None
    done: list[Part] = field(default_factory=list)
    queue: list[Part] = field(default_factory=list)
    witness: FamilyWitness | None = None
    bounded: int = 0

    def __post_init__(self) -> None:
        self.queue = list(shells(self.family, self.sizes))
        entries = (2 + self.family.dimensions) * self.family.image.numel()
        self.at_once = max(1, min(_AT_ONCE, _ENTRIES // entries)) if self.around is None else 1

    @property
    def parts(self) -> list[Part]:
        """All parts, in order of their ends."""
        return sorted(self.done + self.queue, key=lambda part: (part.lower, part.upper))

    def run(self) -> None:
        """Until all parts are decided or too small.

        Raises:
            OutOfTime: time is over; what was decided until then stays.
            EngineError: a proof contradicts what float64 computes.
        """
        self.scout()
        while self.queue:
            check()
            self.queue.sort(key=self._rank)
            batch = self.queue[: self.at_once]
            decided, halves = self._decide(batch)
            # At once, and only now: whatever an exception leaves undone, no part is lost or stands twice.
            self.done, self.queue = self.done + decided, self.queue[len(batch) :] + halves
            self.bounded += len(batch)
            tell(
                "sweep",
                f"{len(self.done)} parts decided, {len(self.queue)} left",
                self.certified,
                self.broken,
            )

    def scout(self) -> None:
        """Look for a witness on a grid of each size, its corners among it, before anything is bounded."""
        self._attack((0.0,) * self.family.dimensions)
        for size in self.sizes:
            points = _grid(*self.family.box(size))
            margins = margins_at(self.target, self.family, points)
            broken = points[margins < 0].tolist()
            for point in sorted(broken, key=lambda point: max(map(abs, point)))[:_TRIES]:
                check()
                self._take(confirm_at(self.target, self.family, tuple(point)))
                if self.witness is not None:
                    return
            for point in points[margins.argsort()[:_ATTACKED]].tolist():
                self._attack(tuple(point))

    def _attack(self, point: Point) -> None:
        """Look for a witness around the image at a point, where a nearer one could be."""
        check()
        nearer = self.witness is None or max(map(abs, point)) < self.witness.size
        if self.around is not None and nearer:
            self._take(confirm_around(self.target, self.family, point, self.around.eps))

    def needed(self, part: Part) -> bool:
        """Whether a size waits for a part: no size that holds it is refuted yet."""
        return self.witness is None or self.sizes[part.shell] < self._first_refuted

    @property
    def _first_refuted(self) -> float:
        size = math.inf if self.witness is None else self.witness.size
        return next((one for one in self.sizes if size <= one), math.inf)

    def _rank(self, part: Part) -> tuple[bool, float, float]:
        if self.needed(part):
            return False, part.shell, part.distance if self.family.dimensions == 1 else part.bound
        return True, part.distance, part.bound

    def _decide(self, batch: list[Part]) -> tuple[list[Part], list[Part]]:
        """What a batch of parts becomes: decided ones (or too small), and halves of the others."""
        maps, lower, hopeless = self._bounded(_boxes(batch))
        upper = torch.full_like(lower, torch.inf)
        # Where it holds in the middle it is not broken everywhere: no upper bound could show it.
        doubtful = (~(self.target.holds.margin(maps.terms[:, 0]) > 0)).nonzero().reshape(-1)
        if len(doubtful):
            upper[doubtful] = upper_margins(self.target.holds, maps.chosen(doubtful))
        margins = margins_at(self.target, self.family, _tensor([part.middle for part in batch]))
        self._compare(batch, margins, lower > 0, upper < 0)
        # Behind the generators of the parameters there may be those of units.
        steepness = maps.steepness[:, : self.family.dimensions].nan_to_num(nan=0.0)
        decided: list[Part] = []
        halves: list[Part] = []
        for i, part in enumerate(batch):
            bounded = replace(part, bound=max(part.bound, float(lower[i])))
            finding = Finding.HOLDS if lower[i] > 0 else Finding.BROKEN if upper[i] < 0 else Finding.OPEN
            if finding is not Finding.HOLDS and margins[i] < 0 and self.needed(part):
                self._take(confirm_at(self.target, self.family, part.middle))
            if finding is not Finding.OPEN:
                decided.append(replace(bounded, finding=finding))
            elif len(pieces := self._cut(bounded, steepness[i], twice=bool(hopeless[i]))) > 1:
                halves += pieces
            else:
                self._attack(part.middle)
                decided.append(bounded)
        return decided, halves

    def _cut(self, part: Part, steepness: torch.Tensor, *, twice: bool) -> list[Part]:
        """Halves of a part along the parameter that moves the map most, or halves of these; else itself.

        Where one half at least will be cut, to cut both bounds no more parts than to bound them before.
        """
        axis = int(steepness.argmax())
        if not self._divisible(part, axis):
            return [part]
        halves = list(part.halves(axis))
        if not twice:
            return halves
        left = steepness.clone()
        left[axis] /= 2
        return [piece for half in halves for piece in self._cut(half, left, twice=False)]

    def _divisible(self, part: Part, axis: int) -> bool:
        """Whether a part may be halved: it is large enough still, and halves may be worth their work."""
        needed = self.needed(part)
        if self.around is not None:
            side = part.upper[axis] - part.lower[axis]
            if not needed and side <= self.fineness.shown * self.sizes[-1]:
                return False
            if not self.around.divisible(self.bounder.images(self.family, _boxes([part]))):
                return False
        return self.fineness.allows(part, axis, self.sizes[-1], needed=needed)

    def _bounded(self, boxes: Boxes) -> tuple[AffineForms, torch.Tensor, torch.Tensor]:
        """Forms of the map, narrowed where that is likely to prove the property; its lower bounds.

        And where halves have no better chance than that, bool [N].
        """
        found = self.bounder.maps(self.family, boxes)
        maps, lower = found.forms, lower_margins(self.target.holds, found.forms)
        hoped = lower_margins(self.target.holds, AffineForms(maps.terms, _HOPED * maps.remainder))
        which = ((lower <= 0) & (hoped > 0)).nonzero().reshape(-1)
        if len(which):
            narrower = found.narrower(which)
            remainder = maps.remainder.index_copy(0, which, narrower.remainder)
            maps = AffineForms(maps.terms, remainder)
            lower[which] = lower_margins(self.target.holds, narrower)
        if self.around is not None:
            lower = self.around.lower(self.bounder.images(self.family, boxes), lower)
        return maps, lower, ~(hoped > 0)

    def _take(self, found: FamilyWitness | None) -> None:
        if found is not None and (self.witness is None or found.size < self.witness.size):
            self.witness = found

    def _compare(
        self, batch: list[Part], margins: torch.Tensor, holds: torch.Tensor, broken: torch.Tensor
    ) -> None:
        """Hold proofs against the network itself at the middles of their parts.

        `margins`: there, by float32. What they doubt is looked at in float64 at the exact point, where only
        an error larger than rounding explains is a contradiction.

        Raises:
            EngineError: there is one.
        """
        error = self.target.holds.sensitivity * self.target.rounding
        for i, part in enumerate(batch):
            if not (bool(holds[i]) and not margins[i] > 0) and not (bool(broken[i]) and not margins[i] < 0):
                continue
            exact = exact_margin(self.target, self.family, part.middle)
            if (holds[i] and exact < -error) or (broken[i] and exact > error):
                claim = "holds" if holds[i] else "is broken"
                raise contradiction(
                    f"{self.bounder.name} proves that the property {claim} for parameters from {part.lower}"
                    f" to {part.upper}, but at {part.middle} its margin is {exact:.6g} in float64"
                )

    def nearest(self) -> None:
        """Look for a nearer witness where it is proved to be broken, from the nearest part outwards.

        Close to where it begins to be broken float32 may not see it yet.
        """
        broken = (part for part in self.done if part.finding is Finding.BROKEN)
        for part in sorted(broken, key=lambda part: part.distance)[:_TRIES]:
            check()
            if self.witness is not None and self.witness.size <= part.distance:
                return
            self._take(confirm_at(self.target, self.family, part.middle))

    def refuse_contradiction(self) -> None:
        """Refuse to answer where parts leave something of the box out, or a proved one holds the witness.

        Parts share no more than faces, so they cover the box if their volumes add up to its own.

        Raises:
            EngineError: they do.
        """
        if sum(map(_volume, self.done + self.queue)) < _volume(Part(*self.family.box(self.sizes[-1]), 0)):
            raise contradiction("the parts do not cover the box of the parameters")
        if self.witness is None:
            return
        for part in self.done:
            if part.finding is Finding.HOLDS and part.holds_point(self.witness.parameters):
                raise contradiction(
                    f"{self.bounder.name} proves the property for parameters from {part.lower} to"
                    f" {part.upper}, but onnxruntime and float64 confirm that it is broken at"
                    f" {self.witness.parameters}"
                )

    @property
    def certified(self) -> float:
        """The largest size up to which all is proved: all t with max_j |t_j| up to it.

        Parts are closed and cover the box: a point nearer than every part that is not proved lies in one
        that is, and so do the limits of such points.
        """
        left = [part.distance for part in self.done + self.queue if part.finding is not Finding.HOLDS]
        return abs(min(left, default=self.sizes[-1]))  # no -0

    @property
    def broken(self) -> float | None:
        """The smallest size at which it is proved to be broken somewhere; None if nowhere."""
        sizes = [part.distance for part in self.done if part.finding is Finding.BROKEN]
        if self.witness is not None:
            sizes.append(self.witness.size)
        return min(sizes, default=None)

    def decided(self) -> tuple[tuple[float, Status], ...]:
        """Each size with PROVED, REFUTED (a witness in it) or UNKNOWN."""
        reach = math.inf if self.witness is None else self.witness.size
        return tuple((size, self._status(shell, reach <= size)) for shell, size in enumerate(self.sizes))

    def _status(self, shell: int, refuted: bool) -> Status:
        if refuted:
            return Status.REFUTED
        inside = [part for part in self.done + self.queue if part.shell <= shell]
        proved = bool(inside) and all(part.finding is Finding.HOLDS for part in inside)
        return Status.PROVED if proved else Status.UNKNOWN


def _grid(low: Point, high: Point) -> torch.Tensor:
    """About `_SCOUTS` points all over a box [N, d]; of a box with more corners two of them."""
    each = int(_SCOUTS ** (1 / len(low)))
    if each < 2:
        return _tensor([low, high])
    axes = [torch.linspace(a, b, each, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    return torch.cartesian_prod(*axes).reshape(-1, len(low))


def _boxes(parts: list[Part]) -> Boxes:
    return Boxes(*(_tensor([getattr(part, end) for part in parts]) for end in ("lower", "upper")))


def _volume(part: Part) -> Fraction:
    """Exactly."""
    ends = zip(part.lower, part.upper, strict=True)
    return math.prod((Fraction(high) - Fraction(low) for low, high in ends), start=Fraction(1))


def _tensor(points: list[Point]) -> torch.Tensor:
    return torch.tensor(points, dtype=torch.float64)
