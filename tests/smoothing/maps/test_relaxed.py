from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.smoothing.maps.relaxed import Relaxed


@dataclass(frozen=True)
class Given:
    """A base map that returns what it is given: images [B, 1, 1, n]."""

    n: int = 8
    name = "given"
    model = ""
    live = 8
    binary = False

    @property
    def shape(self) -> tuple[int, int]:
        return 1, self.n

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_values_between_are_scaled_by_the_edge() -> None:
    values = torch.tensor([[1.0, 0.8, 0.4, 0.2, 0.1, 0.05, 0.0, 0.6]])
    expected = torch.tensor([[1.0, 1.0, 0.5, 0.25, 0.0, 0.0, 0.0, 0.75]])
    assert torch.allclose(Relaxed(Given(), clipped=2, kept=5)(values), expected)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=8, max_size=8), st.data())
def test_ones_and_zeros_are_as_many_as_asked(values, data) -> None:
    """Also where values are equal, so that rank alone decides."""
    kept = data.draw(st.integers(1, 8))
    clipped = data.draw(st.integers(1, kept))
    base = torch.tensor([values])
    found = Relaxed(Given(), clipped, kept)(base)[0]
    order = base[0].argsort(descending=True, stable=True)
    assert (found[order[:clipped]] == 1).all()
    assert (found[order[kept:]] == 0).all()
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert (found[order].diff() <= 0).all()


def test_without_clipping_beyond_the_first_it_is_the_map_cut() -> None:
    values = torch.rand(4, 8)
    values = values / values.amax(1, keepdim=True)
    assert torch.allclose(Relaxed(Given(), 1, 8)(values), values)


def test_what_is_not_finite_says_nothing() -> None:
    values = torch.rand(2, 8)
    values[1, 3] = torch.nan
    found = Relaxed(Given(), 2, 4)(values)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()


@pytest.mark.parametrize(("clipped", "kept"), [(0, 3), (4, 3), (2, 9)])
def test_counts_that_do_not_fit_are_refused(clipped, kept) -> None:
    with pytest.raises(UsageError, match="8 values"):
        Relaxed(Given(), clipped, kept)
