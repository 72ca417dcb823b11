"""What the map of a witness shows: which property it breaks, and by how much, in words.

A witness is one because onnxruntime confirms it; this only says how. Where a figure read off the map does not
tell that a property is broken, nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from corgi.results import FloatArray, Mapped, Statement


@dataclass(frozen=True)
class Seen:
    """Two maps, and what was asked of one property.

    Attributes:
        before, after: the maps [h, w]; top: the k largest of the first, k2: among how many they must stay.
        region: map pixels, flat indices; parameters: by name.
    """

    before: FloatArray
    after: FloatArray
    top: tuple[int, ...]
    k2: int
    region: frozenset[int]
    parameters: Mapping[str, Any]

    @property
    def k(self) -> int:
        """Size of the top set."""
        return len(self.top)


def largest(cam: FloatArray, count: int, first: frozenset[int] | tuple[int, ...] = ()) -> tuple[int, ...]:
    """The largest pixels of a map; of equal values those of `first`, then the first."""
    values = cam.reshape(-1)
    behind = np.ones(values.size, dtype=bool)
    behind[list(first)] = False
    return tuple(int(i) for i in np.lexsort((np.arange(values.size), behind, -values))[:count])


def mask_of(cam: FloatArray, threshold: float) -> frozenset[int]:
    """The pixels of at least a share of the maximum."""
    return frozenset(int(i) for i in np.flatnonzero(cam.reshape(-1) >= threshold * cam.max()))


def overlap_of(first: frozenset[int], second: frozenset[int]) -> float:
    """Intersection over union; 1 of two empty masks."""
    return len(first & second) / len(first | second) if first | second else 1.0


def centre_of(cam: FloatArray) -> tuple[float, float] | None:
    """The mass centre of the positive part: row and column; None where there is none."""
    positive = cam.clip(min=0)
    total = float(positive.sum())
    if not total > 0:
        return None
    rows, columns = positive.sum(1) / total, positive.sum(0) / total
    return float(rows @ np.arange(len(rows))), float(columns @ np.arange(len(columns)))


def inside_of(seen: Seen) -> int:
    """How many of the k largest pixels of the second map lie inside the region."""
    return len(seen.region.intersection(largest(seen.after, seen.k, seen.region)))


def stay_of(seen: Seen) -> int:
    """How many of the top set are among the k2 largest of the second map."""
    return len(set(seen.top).intersection(largest(seen.after, seen.k2, seen.top)))


def _topk(seen: Seen) -> str | None:
    lost = seen.k - stay_of(seen)
    if seen.k == 1:
        return "the largest pixel is no longer among them" if lost else None
    verb = "is" if lost == 1 else "are"
    return f"{lost} of the {seen.k} pixels {verb} no longer among the {seen.k2} largest" if lost else None


def _overlap(seen: Seen) -> str | None:
    stay, keep = stay_of(seen), int(seen.parameters["keep"])
    return (
        f"only {stay} of the {seen.k} largest pixels stay among the {seen.k} largest" if stay < keep else None
    )


def _pointing(seen: Seen) -> str | None:
    (place,) = largest(seen.after, 1, seen.region)
    row, column = divmod(place, seen.after.shape[1])
    return None if place in seen.region else f"the largest pixel, [{row}, {column}], lies outside the region"


def _inside(seen: Seen) -> str | None:
    count, keep = inside_of(seen), int(seen.parameters["keep"])
    return f"only {count} of the {seen.k} largest pixels lie inside the region" if count < keep else None


def _iou(seen: Seen) -> str | None:
    threshold, least = float(seen.parameters["threshold"]), float(seen.parameters["iou"])
    found = overlap_of(mask_of(seen.before, threshold), mask_of(seen.after, threshold))
    said = f"the mask has an intersection over union of {found:.3g} with the original one"
    return said if found < least else None


def _order(seen: Seen) -> str | None:
    above, below = (list(seen.parameters[name]) for name in ("above", "below"))
    lowest = min(above, key=lambda place: float(seen.after[place]))
    highest = max(below, key=lambda place: float(seen.after[place]))
    said = f"pixel {list(lowest)} is not above pixel {list(highest)}"
    return None if seen.after[lowest] > seen.after[highest] else said


def _centre(seen: Seen) -> str | None:
    before, after = centre_of(seen.before), centre_of(seen.after)
    if before is None or after is None:
        return "no pixel is above 0, so that there is no mass centre"
    rows, columns = abs(after[0] - before[0]), abs(after[1] - before[1])
    said = f"the mass centre has moved by {rows:.4g} rows and {columns:.4g} columns"
    return said if max(rows, columns) >= float(seen.parameters["within"]) else None


_SHOWS: Mapping[str, Callable[[Seen], str | None]] = MappingProxyType(
    {
        "topk": _topk,
        "overlap": _overlap,
        "pointing": _pointing,
        "inside": _inside,
        "iou": _iou,
        "order": _order,
        "centre": _centre,
    }
)


def broken_parts(asked: Statement, mapped: Mapped, after: FloatArray, k2: int) -> dict[str, str]:
    """Which of the properties asked for a map breaks, and how, by name."""
    found = {}
    for name in asked.name.split("+"):
        told = _SHOWS[name](seen_of(asked, name, mapped, after, k2))
        if told is not None:
            found[name] = told
    return found


def seen_of(asked: Statement, name: str, mapped: Mapped, after: FloatArray, k2: int) -> Seen:
    """Two maps, and what one of the properties asks of them."""
    several = "+" in asked.name
    parameters = {
        key.removeprefix(f"{name}."): value for key, value in asked.parameters if _of(name, key, several)
    }
    if name == "topk":
        k2 = int(parameters.get("k2", k2))  # type: ignore[arg-type]
    elif name == "overlap":
        k2 = mapped.top.k
    return Seen(mapped.cam, after, mapped.top.pixels, k2, frozenset(asked.region or ()), parameters)


def _of(name: str, key: str, several: bool) -> bool:
    return not several or key.startswith(f"{name}.")


def shows(asked: Statement, mapped: Mapped, after: FloatArray, k2: int) -> str:
    """What a witness's map shows, as the end of a sentence."""
    found = broken_parts(asked, mapped, after, k2)
    return ", and ".join(found.values()) or f"it is not true that {asked}"
