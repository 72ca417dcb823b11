"""Labelled pictures of a data set, and their split in two parts that show different things."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corgi.data.window import Box
from corgi.errors import UsageError


@dataclass(frozen=True)
class Sample:
    """One labelled picture.

    Attributes:
        path: the picture file.
        class_id: number of its class, from 0.
        track: number, within its class, of the thing it shows: pictures of one thing look nearly the
            same. None where it is not known.
        box: the thing's box in the picture, where the data set says it.
    """

    path: Path
    class_id: int
    track: int | None
    box: Box | None = None


def split_by_track(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """The samples in two parts that share no thing: frames of one track look nearly the same.

    `fraction` of every class's tracks (rounded, never all) goes to the second part: a class with few
    tracks keeps them all. The choice depends on the tracks and the seed, not on the order.

    Args:
        samples: samples with tracks.
        fraction: of each class's tracks, in (0, 1).
        seed: of the choice.

    Returns:
        The larger and the held-out part, each in the order of `samples`.

    Raises:
        UsageError: the fraction is outside (0, 1), or a sample has no track.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"validation fraction {fraction} is not between 0 and 1")
    tracks: defaultdict[int, set[int]] = defaultdict(set)
    for sample in samples:
        if sample.track is None:
            raise UsageError(f"{sample.path}: has no track, so it cannot be split by track")
        tracks[sample.class_id].add(sample.track)
    generator = np.random.default_rng(seed)
    held: set[tuple[int, int | None]] = set()
    for class_id in sorted(tracks):
        order = generator.permutation(sorted(tracks[class_id]))
        count = min(round(fraction * len(order)), len(order) - 1)
        held.update((class_id, int(track)) for track in order[:count])
    first = tuple(s for s in samples if (s.class_id, s.track) not in held)
    return first, tuple(s for s in samples if (s.class_id, s.track) in held)
