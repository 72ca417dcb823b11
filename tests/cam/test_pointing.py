from __future__ import annotations

import numpy as np
import pytest
import torch

from corgi.cam.pointing import pointing_share
from corgi.data.image import read_image
from corgi.data.preprocess import GTSRB, Recipe
from corgi.data.samples import Roi
from corgi.errors import UsageError


def test_share_of_the_largest_entries_inside() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[:2] = True
    values = torch.arange(16.0).flip(0).reshape(4, 4)  # largest first
    assert pointing_share(values, 8, mask) == 1.0
    assert pointing_share(values, 10, mask) == 0.8
    assert pointing_share(-values, 8, mask) == 0.0


def test_a_coarse_map_is_looked_up_at_the_centre_of_its_pixels() -> None:
    mask = np.zeros((6, 6), dtype=bool)
    mask[3:, :] = True
    assert pointing_share(torch.tensor([[0.0, 1.0], [3.0, 2.0]]), 2, mask) == 1.0
    assert pointing_share(torch.tensor([[0.0, 1.0], [3.0, 2.0]]), 3, mask) == pytest.approx(2 / 3)


def test_colours_share_one_mask() -> None:
    mask = np.array([[True, False]])
    values = torch.tensor([[[3.0, 0.0]], [[2.0, 0.0]], [[0.0, 1.0]]])  # three colours of 1 x 2 pixels
    assert pointing_share(values, 3, mask) == pytest.approx(2 / 3)


@pytest.mark.parametrize("k", [0, 5])
def test_ranks_a_map_does_not_have(k) -> None:
    with pytest.raises(UsageError, match="4 entries"):
        pointing_share(torch.zeros(2, 2), k, np.ones((2, 2), dtype=bool))


def test_a_box_goes_where_its_picture_goes() -> None:
    """10 x 6 picture: the crop takes rows 2-7, the resize doubles them."""
    mask = Roi(1, 3, 2, 4).mask((10, 6), Recipe.parse("equalize-value,center-crop,resize"), (12, 12))
    assert mask.shape == (12, 12)
    assert mask[2:6, 2:6].all()
    assert mask.sum() == 16


def test_the_box_of_a_sign_covers_the_sign(data_dir) -> None:
    """In GTSRB's pictures the sign fills most of the middle and none of the corners."""
    from corgi.data.gtsrb import read_test

    sample = read_test(data_dir / "GTSRB")[0]
    assert sample.roi is not None
    height, width, _ = read_image(sample.path).shape
    mask = sample.roi.mask((height, width), GTSRB, (48, 48))
    assert mask[20:28, 20:28].all()
    assert not mask[0, 0]
    assert 0.4 < mask.mean() < 0.95
