from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from corgi.cam.topk import top_k
from corgi.errors import UsageError
from corgi.properties import Centre

MAP = st.lists(st.integers(-6, 12), min_size=12, max_size=12)


def centre(cam: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row and column of the mass centre of the positive part."""
    mass = np.maximum(cam, 0)
    return np.array([(axis * mass).sum() for axis in np.indices(cam.shape)]) / mass.sum()


@given(MAP, MAP, st.sampled_from([0.1, 0.3, 1.0, 2.5]))
def test_by_numpy(before: list[int], after: list[int], within: float) -> None:
    """On a map of 3 x 4."""
    first, second = (np.array(cam, dtype=np.float64).reshape(3, 4) for cam in (before, after))
    assume(first.max() > 0)
    cam = torch.from_numpy(first)
    formula = Centre(within).formula(cam, top_k(cam, 1, 0.0))
    assert float(formula.margin(cam.flatten())) > 0
    margin = float(formula.margin(torch.from_numpy(second).flatten()))
    if second.max() <= 0:
        assert margin == 0  # there is no centre: not proved, not broken
        return
    moved = np.abs(centre(second) - centre(first)).max()
    # Each form is the distance that is left, times the mass.
    assert margin == pytest.approx((within - moved) * np.maximum(second, 0).sum(), abs=1e-9)


def test_what_cannot_be_asked() -> None:
    for within in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="within"):
            Centre(within)
    cam = torch.tensor([[0.0, -1.0]], dtype=torch.float64)
    with pytest.raises(UsageError, match="no mass centre"):
        Centre().formula(cam, top_k(cam, 1, 0.0))


def test_words() -> None:
    assert "stays within 1.5 map pixels" in str(Centre(1.5).statement(15))
