"""Where a network's input comes from in its picture, against the pictures themselves."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from corgi.data.image import look_at
from corgi.data.preprocess import STEPS, Recipe
from corgi.data.window import Box, Window
from corgi.errors import UsageError

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))
STILL = {"equalize-value", "grey"}
"""Steps that leave pixels where they are."""


def test_every_step_is_known_to_move_pixels_or_not() -> None:
    assert set(STEPS) == STILL | {"center-crop", "resize"}


def test_the_crop_loses_one_pixel_of_an_odd_side() -> None:
    window = Recipe.parse("center-crop,resize").window((7, 11), (48, 48))
    assert window == Window((7, 11), Box.of_pixels(2, 0, 7, 5))
    rows, columns = window.centres((3, 2))
    assert rows == [1, 3, 5]
    assert columns == [Fraction(7, 2), Fraction(13, 2)]


@given(SIZES, SIZES, st.sampled_from(["center-crop", "resize", "center-crop,resize", "resize,center-crop"]))
def test_pixels_come_from_where_the_window_says(picture, size, recipe) -> None:
    """A picture whose values are the places themselves; a resize keeps them but near the borders."""
    places = np.stack(np.meshgrid(np.arange(picture[0]), np.arange(picture[1]), indexing="ij"), axis=-1) + 0.5
    moved = Recipe.parse(recipe)
    seen = np.stack([moved.apply(places[:, :, [axis]] / 64, size)[:, :, 0] * 64 for axis in (0, 1)])
    cut = Recipe(moved.steps[:1]).window(picture, size).box if recipe == "center-crop,resize" else None
    shown = Box.whole(picture) if cut is None else cut
    for axis, sides in enumerate((shown.rows, shown.columns)):
        centres = moved.window(picture, size).centres(seen.shape[1:])[axis]
        # Smoothing reaches four standard deviations far, of (factor - 1) / 2 pixels.
        border = 1 + 2 * max(0.0, float(sides[1] - sides[0]) / size[axis] - 1)
        values = seen[axis].mean(axis=1 - axis)
        for centre, value in zip(centres, values, strict=True):
            if "resize" not in recipe or sides[0] + border <= centre <= sides[1] - border:
                assert value == pytest.approx(float(centre), abs=1e-6)


@given(SIZES, SIZES, st.lists(st.sampled_from(sorted(STEPS)), max_size=5))
def test_a_window_lies_in_its_picture_and_so_do_the_centres(picture, size, steps) -> None:
    window = Recipe(tuple(steps)).window(picture, size)
    assert window.box.inside(Box.whole(picture))
    rows, columns = window.centres(size)
    assert all(0 < row < picture[0] for row in rows)
    assert all(0 < column < picture[1] for column in columns)


@pytest.mark.parametrize("box", [(3, 0, 2, 5), (0, 6, 5, 5)])
def test_a_box_has_something_in_it(box) -> None:
    with pytest.raises(UsageError, match="empty"):
        Box.of_pixels(*box)


def test_the_window_of_a_turned_picture_is_upright(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = tmp_path / "image.jpg"
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(path, exif=exif)
    seen = look_at(path, (3, 4, 4), Recipe.parse("center-crop,resize"), None)
    assert seen.window == Window((16, 8), Box.of_pixels(0, 4, 7, 11))


@pytest.mark.parametrize(("asked", "box"), [(None, (0, 0, 4, 5)), ("center-crop,resize", (0, 1, 3, 4))])
def test_an_array_that_is_the_input_already_is_all_of_it(tmp_path, asked, box) -> None:
    np.save(tmp_path / "image.npy", np.zeros((3, 6, 5), np.float32))
    recipe = None if asked is None else Recipe.parse(asked)
    seen = look_at(tmp_path / "image.npy", (3, 6, 5), recipe, Recipe.parse("gtsrb"))
    assert seen.window == Window((6, 5), Box.of_pixels(*box))
