"""Which map pixels lie in a box or mask of the picture, against the places one by one."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from corgi.data.gtsrb import read_test
from corgi.data.image import look_at
from corgi.data.preprocess import GTSRB, Recipe
from corgi.data.region import Region, box_region, mask_region, parse_region, read_region
from corgi.data.window import Box, Window
from corgi.errors import DataError, ImageError, UsageError
from tests.test_imports import HEAVY

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
RECIPES = st.sampled_from(
    ["none", "resize", "center-crop", "center-crop,resize", "resize,center-crop", "gtsrb"]
)
WHOLE = Window.whole((8, 8))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """A picture's size and a box in it."""
    height, width = draw(SIZES)
    x1, x2 = sorted(draw(st.tuples(*[st.integers(0, width - 1)] * 2)))
    y1, y2 = sorted(draw(st.tuples(*[st.integers(0, height - 1)] * 2)))
    return (height, width), (x1, y1, x2, y2)


def forward(place: Fraction, axis: int, picture: tuple[int, int], recipe: Recipe, size) -> Fraction:
    """Where a place of the picture is in the network's input, as share of it: step after step."""
    now = list(picture)
    for step in recipe.steps:
        if step == "center-crop":
            half = min(now) // 2
            place -= now[axis] // 2 - half
            now = [max(2 * half, 1)] * 2
        elif step == "resize":
            place *= Fraction(size[axis], now[axis])
            now = list(size)
    return place / now[axis]


@given(boxes(), RECIPES, SIZES, SIZES)
def test_a_box_goes_where_its_picture_goes(drawn, recipe, size, shape) -> None:
    picture, (x1, y1, x2, y2) = drawn
    steps = Recipe.parse(recipe)
    sides = [
        [forward(Fraction(place), axis, picture, steps, size) for place in side]
        for axis, side in enumerate([(y1, y2 + 1), (x1, x2 + 1)])
    ]
    expected = tuple(
        r * shape[1] + c
        for r in range(shape[0])
        for c in range(shape[1])
        if sides[0][0] <= Fraction(2 * r + 1, 2 * shape[0]) < sides[0][1]
        and sides[1][0] <= Fraction(2 * c + 1, 2 * shape[1]) < sides[1][1]
    )
    box, window = Box.of_pixels(x1, y1, x2, y2), steps.window(picture, size)
    mask = np.zeros(picture)
    mask[y1 : y2 + 1, x1 : x2 + 1] = 7
    if 0 < len(expected) < shape[0] * shape[1]:
        for found in (box_region([box], window, shape), mask_region(mask, window, shape)):
            assert found.pixels == expected
            assert found.shape == shape
            assert np.flatnonzero(found.mask).tolist() == list(expected)
    else:
        message = "every pixel of the map" if expected else "no pixel of the map|cut off"
        with pytest.raises(UsageError, match=message):
            box_region([box], window, shape)
        with pytest.raises(UsageError, match=message):
            mask_region(mask, window, shape)


@given(st.data(), RECIPES, SIZES, SIZES, SIZES)
def test_a_mask_is_looked_up_where_the_centres_are(data, recipe, picture, size, shape) -> None:
    seed = data.draw(st.integers(0, 99))
    mask = np.random.default_rng(seed).random(picture) < 0.5
    window = Recipe.parse(recipe).window(picture, size)
    rows, columns = window.centres(shape)
    inside = np.array([[mask[int(y), int(x)] for x in columns] for y in rows])
    if inside.any() and not inside.all():
        assert np.array_equal(mask_region(mask, window, shape).mask, inside)
    else:
        with pytest.raises(UsageError):
            mask_region(mask, window, shape)


def test_a_map_coarser_than_the_input() -> None:
    """Centres of a 2 x 2 map over 8 x 8 are at 2 and 6; a box holds its last pixel."""
    region = read_region("2,6,3,7", WHOLE, (2, 2))
    assert region == Region((2,), (2, 2), "2,6,3,7")
    with pytest.raises(
        UsageError, match=r"no pixel of the map has its centre inside; a pixel of the map is 4 x 4 pixels"
    ):
        read_region("3,0,5,5", WHOLE, (2, 2))


def test_several_boxes_are_one_region() -> None:
    window = Window.whole((2, 4))
    found = box_region([Box.of_pixels(0, 0, 1, 0), Box.of_pixels(1, 0, 1, 1)], window, (2, 4))
    assert found.pixels == (0, 1, 5)
    assert found.source == "x 0 to 2, y 0 to 1; x 1 to 2, y 0 to 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "none that corgi reads"),
        ("box", "none that corgi reads"),
        ("sign.jpg", "JPEG changes values"),
        ("annotation:", "none that corgi reads"),
        ("annotation:mask.png", "none that corgi reads"),
        ("no.png", "region no.png: no such file"),
        ("annotation:no.xml", "no such file"),
        ("no.json", "no such file"),
        ("1,2,3", "four whole numbers"),
        ("1,2,3,4,5", "four whole numbers"),
        ("1,2,3.5,4", "four whole numbers"),
        ("-1,2,3,4", "four whole numbers"),
        ("3,2,1,4", "region 3,2,1,4: expected X1,Y1,X2,Y2"),
        (f"{'9' * 5000},2,1,4", "region 99"),
        ("a" * 5000 + ".png", "region aa"),
        ("annotation:\0", "none that corgi reads"),
    ],
)
def test_what_is_no_region(text, message) -> None:
    with pytest.raises(UsageError, match=message):
        parse_region(text)


def test_a_region_is_read_before_anything_heavy_loads() -> None:
    code = (
        "import sys; from corgi.data.region import parse_region; parse_region('1,2,3,4'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


@pytest.mark.parametrize(
    ("text", "recipe", "message"),
    [
        ("0,0,16,3", "resize", r"outside of the picture, which has 16 x 8 pixels.*\n.*column is 15.* row 7"),
        ("0,8,3,9", "resize", "outside of the picture"),
        ("0,0,15,7", "resize", "every pixel of the map"),
        ("4,0,11,7", "center-crop,resize", "every pixel of the map"),
        ("0,0,3,7", "center-crop,resize", "cut off; the network sees x 4 to 12, y 0 to 8"),
        ("annotation", "resize", "the image is no file's"),
    ],
)
def test_boxes_that_ask_nothing(text, recipe, message) -> None:
    window = Recipe.parse(recipe).window((8, 16), (6, 6))
    with pytest.raises(UsageError, match=message):
        read_region(text, window, (3, 3))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [((), "no pixel"), ((1, 0), "ascending"), ((1, 1), "ascending"), ((-1, 0), "pixels -1 to 0"),
     ((0, 4), "2 x 2"), ((0, 1, 2, 3), "all pixels")],
)  # fmt: skip
def test_regions_a_map_does_not_have(pixels, message) -> None:
    with pytest.raises(UsageError, match=message):
        Region(pixels, (2, 2), "x")


# Masks


@pytest.mark.parametrize(("name", "mode"), [("m.png", "L"), ("m.PNG", "1"), ("m.png", "P"), ("m.ppm", "RGB")])
def test_masks(tmp_path, name, mode) -> None:
    grey = np.zeros((8, 8), np.uint8)
    grey[:4, 2:4] = 1 if mode in ("L", "RGB") else 255
    Image.fromarray(grey).convert(mode).save(tmp_path / name)
    region = read_region(str(tmp_path / name), WHOLE, (4, 4))
    assert region.pixels == (1, 5)
    assert region.source == str(tmp_path / name)


def test_masks_that_do_not_fit(tmp_path) -> None:
    Image.fromarray(np.ones((8, 9), np.uint8)).save(tmp_path / "wide.png")
    with pytest.raises(UsageError, match=r"wide.png: a mask of 9 x 8 pixels, but the picture has 8 x 8"):
        read_region(str(tmp_path / "wide.png"), WHOLE, (4, 4))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(UsageError, match=r"black.png: marks no pixel"):
        read_region(str(tmp_path / "black.png"), WHOLE, (4, 4))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken.png"):
        read_region(str(tmp_path / "broken.png"), WHOLE, (4, 4))


# Annotations; their files are read in test_annotation.py


def test_all_things_of_an_annotation_are_one_region(tmp_path) -> None:
    things = "".join(
        f"<object><bndbox><xmin>{x}</xmin><ymin>1</ymin><xmax>{x + 1}</xmax><ymax>2</ymax></bndbox></object>"
        for x in (1, 5)
    )
    (tmp_path / "cat.xml").write_text(f"<annotation>{things}</annotation>")
    for text in ("annotation", f"annotation:{tmp_path / 'cat.xml'}", f"{tmp_path / 'cat.xml'}",
                 f"annotation:{tmp_path}"):  # fmt: skip
        region = read_region(text, WHOLE, (4, 4), tmp_path / "cat.png")
        assert region.pixels == (0, 2)
        assert region.source == "annotation cat.xml"
        assert region.notes == ("cat.png has 2 things by cat.xml: the region is all of them",)
    with pytest.raises(DataError, match="no annotation"):
        read_region("annotation", WHOLE, (4, 4), tmp_path / "dog.png")


def test_the_box_of_a_sign_covers_the_sign(data_dir) -> None:
    """In GTSRB's pictures the sign fills most of the middle and none of the corners."""
    for sample in read_test(data_dir / "GTSRB")[:40]:
        seen = look_at(sample.path, (3, 48, 48), GTSRB, None)
        for size in (12, 48):
            region = read_region("annotation", seen.window, (size, size), sample.path)
            assert sample.box is not None
            assert region.pixels == box_region([sample.box], seen.window, (size, size)).pixels
            assert region.mask[size * 5 // 12 : size * 7 // 12, size * 5 // 12 : size * 7 // 12].all()
            assert not region.mask[0, 0]
            assert 0.3 < region.mask.mean() < 0.95


def test_the_box_of_a_sign_is_where_its_picture_is_resized_to(data_dir) -> None:
    """Beside the box as a picture that goes through the recipe: the same but at its corners."""
    for sample in read_test(data_dir / "GTSRB")[:200:5]:
        seen = look_at(sample.path, (3, 48, 48), GTSRB, None)
        assert sample.box is not None
        left, top, right, bottom = map(
            int, (sample.box.left, sample.box.top, sample.box.right, sample.box.bottom)
        )
        box = np.zeros((*seen.window.picture, 1))
        box[top:bottom, left:right] = 1
        moved = Recipe.parse("center-crop,resize").apply(box, (48, 48))[:, :, 0]
        inside = box_region([sample.box], seen.window, (48, 48)).mask
        clear = abs(moved - 0.5) > 0.26
        assert clear.mean() > 0.9
        assert np.array_equal(inside[clear], moved[clear] > 0.5)
