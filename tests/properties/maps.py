"""Random maps for tests of properties: few values, so that ties are common, and what brute force says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from hypothesis import strategies as st
from torch import Tensor

from corgi.cam.topk import top_k
from corgi.results import TopK

Map = list[int]
"""Values of a map, in eighths, row by row."""


@st.composite
def changed(draw: st.DrawFn, low: int = -6, least: int = 3, largest: int = 8) -> tuple[Map, Map]:
    """A map, and what a change of the image may make of it."""
    size = draw(st.integers(least, largest))
    values = st.lists(st.integers(low, 12), min_size=size, max_size=size)
    return draw(values), draw(values)


def tensor(cam: Map, *shape: int) -> Tensor:
    """Float64, flat unless a shape is given: eighths are exact."""
    found = torch.tensor(cam, dtype=torch.float64) / 8
    return found.reshape(shape) if shape else found


def at_the_image(cam: Map, k: int) -> tuple[Tensor, TopK]:
    """What a property is told of the map at the image: [1, pixels], and its top set."""
    return tensor(cam, 1, len(cam)), top_k(tensor(cam), k, 0.0)


def top_sets(cam: Map, k: int) -> Iterator[set[int]]:
    """Every set of k pixels that may be called the k largest: several where there are ties."""
    pixels = range(len(cam))
    for chosen in itertools.combinations(pixels, k):
        rest = [cam[p] for p in pixels if p not in chosen]
        if not rest or min(cam[i] for i in chosen) >= max(rest):
            yield set(chosen)


def check_sign(margin: float, holds: list[bool]) -> None:
    """A margin > 0 where it holds however ties are broken, < 0 where it never does, 0 where that decides."""
    assert holds
    assert (margin > 0) == all(holds)
    assert (margin < 0) == (not any(holds))
