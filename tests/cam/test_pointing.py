from __future__ import annotations

import pytest
import torch

from corgi.cam.pointing import pointing_share
from corgi.data.region import Region
from corgi.errors import UsageError


def test_share_of_the_largest_entries_inside() -> None:
    region = Region(tuple(range(8)), (4, 4), "upper half")
    values = torch.arange(16.0).flip(0).reshape(4, 4)  # largest first
    assert pointing_share(values, 8, region) == 1.0
    assert pointing_share(values, 10, region) == 0.8
    assert pointing_share(-values, 8, region) == 0.0


def test_colours_share_one_region() -> None:
    region = Region((0,), (1, 2), "left")
    values = torch.tensor([[[3.0, 0.0]], [[2.0, 0.0]], [[0.0, 1.0]]])  # three colours of 1 x 2 pixels
    assert pointing_share(values, 3, region) == pytest.approx(2 / 3)


@pytest.mark.parametrize("k", [0, 5])
def test_ranks_a_map_does_not_have(k) -> None:
    with pytest.raises(UsageError, match="4 entries"):
        pointing_share(torch.zeros(2, 2), k, Region((0,), (2, 2), "corner"))


def test_a_region_of_another_map() -> None:
    with pytest.raises(UsageError, match=r"\(2, 2\).*\(2, 3\)"):
        pointing_share(torch.zeros(2, 3), 1, Region((0,), (2, 2), "corner"))
