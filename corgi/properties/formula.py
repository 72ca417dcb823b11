"""What every property of a map comes down to: a monotone formula of rankings and balances.

Most questions that people ask of a map compare ranks between two sets of pixels. They are one statement,

    at least `keep` of the pixels A are among the `among` largest of A and B together,

and it is broken exactly where `lost` = |A| - keep + 1 pixels of A stand at or below `gained` = among - keep
+ 1 pixels of B, each of the ones at or below each of the others. For that the smallest of A and the largest
of B are the first to ask, so with I_(n) the n-th smallest value of A and I^(n) the n-th largest of B

    it holds  iff  I_(lost) > I^(gained).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from corgi.errors import UsageError


class Formula(ABC):
    """A monotone formula of linear forms of a map being > 0."""

    @abstractmethod
    def margin(self, cams: Tensor) -> Tensor:
        """How far maps [..., pixels] are from breaking it, [...]: > 0 where it holds, < 0 where not.

        Differentiable almost everywhere.
        """

    @property
    @abstractmethod
    def sensitivity(self) -> float:
        """The most that the margin changes where no value of the map changes by more than 1."""

    @abstractmethod
    def lost(self, cam: Tensor, before: Tensor | None = None) -> tuple[int, ...]:
        """Pixels that show that a map [pixels] breaks it; empty where it does not.

        `before`: the map in which it held.
        """

    @property
    @abstractmethod
    def opposite(self) -> Formula:
        """The formula whose margin is the negative of this one's: it holds where this one is broken."""

    @property
    def leaves(self) -> Iterator[Formula]:
        """The rankings and balances in it."""
        return iter((self,))

    @property
    def single(self) -> bool:
        """Whether one pair of pixels that changes places is enough to break it."""
        return False


@dataclass(frozen=True)
class Ranking(Formula):
    """At least `keep` of the pixels `above` are among the `among` largest of both sets together.

    Attributes:
        above, below: flat indices of the two sets, A and B.
        keep, among: how many of A, among how many.
        up, down: factors > 0 on the values of A and of B, for thresholds relative to another pixel.

    Raises:
        UsageError: nothing can break it, or nothing can fulfil it.
    """

    above: tuple[int, ...]
    below: tuple[int, ...]
    keep: int
    among: int
    up: float = 1.0
    down: float = 1.0

    def __post_init__(self) -> None:
        if not (1 <= self.keep <= len(self.above) and self.keep <= self.among):
            raise UsageError(f"{self._written}: nothing can fulfil it", hint="Ask for fewer pixels.")
        if not self.gained <= len(self.below):
            raise UsageError(f"{self._written}: nothing can break it", hint="Ask for more pixels.")

    @property
    def _written(self) -> str:
        return (
            f"at least {self.keep} of {len(self.above)} pixels among the {self.among} largest"
            f" of {len(self.above) + len(self.below)}"
        )

    @property
    def lost_count(self) -> int:
        """How many of A it takes to break it."""
        return len(self.above) - self.keep + 1

    @property
    def gained(self) -> int:
        """How many of B it takes to break it."""
        return self.among - self.keep + 1

    @property
    def single(self) -> bool:
        """See `Formula.single`."""
        return self.lost_count == 1 and self.gained == 1

    @property
    def plain(self) -> bool:
        """Whether values are compared as they are."""
        return self.up == 1 and self.down == 1

    @property
    def sides(self) -> tuple[tuple[int, ...], tuple[int, ...], float, float]:
        """What its pairs are: bounds of them serve all rankings with the same."""
        return self.above, self.below, self.up, self.down

    @cached_property
    def inside(self) -> Tensor:
        """A, int64."""
        return torch.tensor(self.above)

    @cached_property
    def others(self) -> Tensor:
        """B, int64."""
        return torch.tensor(self.below)

    @property
    def sensitivity(self) -> float:
        """Both values that are compared may change."""
        return self.up + self.down

    @property
    def opposite(self) -> Ranking:
        """I^(gained) of B is the (|B| - gained + 1)-th smallest, I_(lost) of A the keep-th largest."""
        return Ranking(self.below, self.above, self.gained, self.among, self.down, self.up)

    def margin(self, cams: Tensor) -> Tensor:
        """I_(lost) - I^(gained), each with its factor."""
        inside = cams[..., self.inside.to(cams.device)]
        if self.lost_count == 1:
            least = inside.amin(-1)
        else:
            least = inside.topk(self.lost_count, dim=-1, largest=False).values[..., -1]
        most = cams[..., self.others.to(cams.device)].topk(self.gained, dim=-1).values[..., -1]
        return (least if self.up == 1 else self.up * least) - (most if self.down == 1 else self.down * most)

    def pairs(self, cam: Tensor) -> Tensor:
        """The differences of all pairs of a map [pixels]: [A, B]."""
        inside, others = cam[self.inside], cam[self.others]
        inside = inside if self.up == 1 else self.up * inside
        return inside[:, None] - (others if self.down == 1 else self.down * others)[None, :]

    def lost(self, cam: Tensor, before: Tensor | None = None) -> tuple[int, ...]:
        """Pixels of A that were among the `among` largest and are not; A stands first among equals."""
        if not bool(self.margin(cam) < 0):
            return ()
        gone = self._beyond(cam) - (set[int]() if before is None else self._beyond(before))
        return tuple(i for i in self.above if i in gone)

    def _beyond(self, cam: Tensor) -> set[int]:
        values, others = self.up * cam[self.inside], self.down * cam[self.others]
        higher = (others[None, :] > values[:, None]).sum(1)
        rank = torch.empty_like(higher)
        rank[values.argsort(descending=True, stable=True)] = torch.arange(len(values))
        return {
            i for i, place in zip(self.above, (rank + higher).tolist(), strict=True) if place >= self.among
        }


@dataclass(frozen=True)
class Balance(Formula):
    """Each of some linear forms of the positive part of a map is > 0: sum_p c_p max(I_p, 0) > 0.

    Attributes:
        coefficients: c, one row a form, each [pixels].
    """

    coefficients: tuple[tuple[float, ...], ...]

    @cached_property
    def rows(self) -> Tensor:
        """c, float64 [forms, pixels]."""
        return torch.tensor(self.coefficients, dtype=torch.float64)

    @property
    def sensitivity(self) -> float:
        """Every value may change."""
        return float(self.rows.abs().sum(1).max())

    @property
    def opposite(self) -> Formula:
        """The negative of the smallest form is the largest of the negatives."""
        rows = [Balance((tuple(-c for c in row),)) for row in self.coefficients]
        return together(list[Formula](rows), Any)

    def margin(self, cams: Tensor) -> Tensor:
        """The smallest form."""
        return (cams.clamp(min=0) @ self.rows.to(cams).T).amin(-1)

    def lost(self, cam: Tensor, before: Tensor | None = None) -> tuple[int, ...]:
        """No pixel shows it by itself."""
        return ()


@dataclass(frozen=True)
class _Combined(Formula):
    """Several formulas as one."""

    parts: tuple[Formula, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise UsageError("a property of no parts")

    def _margins(self, cams: Tensor) -> Tensor:
        return torch.stack([part.margin(cams) for part in self.parts])

    @property
    def sensitivity(self) -> float:
        """That of the part which changes most."""
        return max(part.sensitivity for part in self.parts)

    def lost(self, cam: Tensor, before: Tensor | None = None) -> tuple[int, ...]:
        """Those of the parts that are broken."""
        if not bool(self.margin(cam) < 0):
            return ()
        found = [part.lost(cam, before) for part in self.parts if bool(part.margin(cam) < 0)]
        return tuple(dict.fromkeys(pixel for pixels in found for pixel in pixels))

    @property
    def leaves(self) -> Iterator[Formula]:
        """Those of all parts."""
        return (leaf for part in self.parts for leaf in part.leaves)


class All(_Combined):
    """Every part holds."""

    @property
    def opposite(self) -> Formula:
        """At least one part is broken."""
        return Any(tuple(part.opposite for part in self.parts))

    def margin(self, cams: Tensor) -> Tensor:
        """The smallest of the parts'."""
        return self._margins(cams).amin(0)


class Any(_Combined):
    """At least one part holds, on each map another one, perhaps."""

    @property
    def opposite(self) -> Formula:
        """Every part is broken."""
        return All(tuple(part.opposite for part in self.parts))

    def margin(self, cams: Tensor) -> Tensor:
        """The largest of the parts'."""
        return self._margins(cams).amax(0)


def together(parts: list[Formula], join: Callable[[tuple[Formula, ...]], Formula]) -> Formula:
    """One formula of several; the only one as it is."""
    return parts[0] if len(parts) == 1 else join(tuple(parts))
