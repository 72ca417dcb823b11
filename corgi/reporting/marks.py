"""Which pixels of a map a picture marks for a property, at the image and at a witness, and under which title.

Of several properties at once one is marked: at a witness the first that it breaks, at the image the first
with a region, or the first of all.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np

from corgi.reporting.broken import (
    Seen,
    broken_parts,
    centre_of,
    largest,
    mask_of,
    overlap_of,
    seen_of,
    stay_of,
)
from corgi.results import Mapped, Statement, TopK, Witness

KEPT, LOST, GAINED = "#0072B2", "#D55E00", "#F0E442"
"""Colours of Okabe and Ito."""

_WIDTH = 36
"""Characters of a title's line."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Group:
    """Pixels of one kind: flat indices, colour, mark (empty for none), and what they are."""

    pixels: tuple[int, ...]
    colour: str
    mark: str
    name: str


@dataclass(frozen=True)
class Shown:
    """What a panel marks.

    Attributes:
        title: of the panel; groups: pixels.
        points: places (row, column, of pixels' middles) with a mark each; box: a place and a distance.
    """

    title: str
    groups: tuple[Group, ...] = ()
    points: tuple[tuple[Point, str], ...] = ()
    box: tuple[Point, float] | None = None


def wrapped(title: str) -> str:
    """A title in lines as wide as a panel."""
    return textwrap.fill(title, _WIDTH)


def before(asked: Statement, mapped: Mapped) -> Shown:
    """What is marked at the image itself."""
    names = asked.name.split("+")
    name = next((name for name in names if name in ("pointing", "inside")), names[0])
    k = mapped.top.k
    seen = seen_of(asked, name, mapped, mapped.cam, k)
    match name:
        case "topk" | "overlap":
            title = f"its {k} largest pixels" if k > 1 else "its largest pixel"
            return Shown(title, (Group(mapped.top.pixels, KEPT, "", "kept"),))
        case "iou":
            pixels = tuple(sorted(mask_of(seen.after, float(seen.parameters["threshold"]))))
            return Shown(f"its mask: {len(pixels)} pixels", (Group(pixels, KEPT, "", "mask"),))
        case "centre":
            return _centre(seen, "its mass centre")
        case _:
            return _of_one_map(name, seen, "blue is to stay above yellow")


def after(asked: Statement, mapped: Mapped, witness: Witness, k2: int) -> Shown:
    """What is marked at a witness: what broke."""
    names = asked.name.split("+")
    broken = broken_parts(asked, mapped, witness.cam, k2)
    name = next(iter(broken), names[0])
    seen = seen_of(asked, name, mapped, witness.cam, k2)
    match name:
        case "topk":
            lost = len(changes(mapped.top, witness, seen.k2)[1])
            return _changed(mapped.top, witness, seen, f"its {seen.k2} largest pixels: {lost} lost")
        case "overlap":
            title = (
                f"only {stay_of(seen)} of the {seen.k} largest pixels stay; {seen.parameters['keep']} were to"
            )
            return _changed(mapped.top, witness, seen, wrapped(title))
        case "iou":
            return _masks(seen)
        case "centre":
            return _centre(seen, broken.get(name, "mass centres"))
        case _:
            return _of_one_map(name, seen, broken.get(name, "what was to stay"))


def changes(top: TopK, witness: Witness, k2: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Pixels of the set that stay among the k2 largest, those that do not, and the others that now are."""
    kept = tuple(i for i in top.pixels if i not in witness.lost)
    order = np.argsort(-witness.cam.reshape(-1), kind="stable")
    gained = tuple(int(i) for i in order[:k2] if int(i) not in top.pixels)
    return kept, witness.lost, gained


def _changed(top: TopK, witness: Witness, seen: Seen, title: str) -> Shown:
    kept, lost, gained = changes(top, witness, seen.k2)
    others = "gained" if seen.k2 == top.k else f"others of the {seen.k2}"
    groups = (
        Group(kept, KEPT, "", "kept"),
        Group(lost, LOST, "x", "lost"),
        Group(gained, GAINED, "+", others),
    )
    return Shown(title, groups)


def _masks(seen: Seen) -> Shown:
    threshold = float(seen.parameters["threshold"])
    old, new = mask_of(seen.before, threshold), mask_of(seen.after, threshold)
    groups = (
        Group(tuple(sorted(old & new)), KEPT, "", "in both masks"),
        Group(tuple(sorted(old - new)), LOST, "x", "lost"),
        Group(tuple(sorted(new - old)), GAINED, "+", "gained"),
    )
    title = f"masks: intersection over union {overlap_of(old, new):.3g}"
    return Shown(wrapped(title), groups)


def _centre(seen: Seen, title: str) -> Shown:
    old, new = centre_of(seen.before), centre_of(seen.after)
    points = () if new is None else ((new, "+"),)
    box = None if old is None else (old, float(seen.parameters["within"]))
    return Shown(wrapped(title), points=points, box=box)


def _of_one_map(name: str, seen: Seen, title: str) -> Shown:
    """Pixels of a map by what is asked of them, whatever they were before; `title`: of `order`."""
    if name == "order":
        above, below = (_flat(seen, side) for side in ("above", "below"))
        groups = (Group(above, KEPT, "", "to stay above"), Group(below, GAINED, "+", "others"))
        return Shown(wrapped(title), groups)
    found = largest(seen.after, seen.k, seen.region)
    inside = tuple(i for i in found if i in seen.region)
    outside = tuple(i for i in found if i not in seen.region)
    groups = (Group(inside, KEPT, "", "inside"), Group(outside, LOST, "x", "outside"))
    counted = f"{len(inside)} of its {seen.k} largest inside"
    if name == "inside":
        return Shown(counted, groups)
    row, column = divmod(found[0], seen.after.shape[1])
    where = "inside" if found[0] in seen.region else "outside"
    star = (((float(row), float(column)), "*"),)
    return Shown(f"largest pixel (star) lies {where};\n{counted}", groups, star)


def _flat(seen: Seen, side: str) -> tuple[int, ...]:
    width = seen.after.shape[1]
    return tuple(row * width + column for row, column in seen.parameters[side])
