"""Where an image may change: what is written, and which pixels of the input that is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corgi.data.where import WantedWhere, where_of
from corgi.data.window import Box, Window
from corgi.errors import UsageError

SHAPE = (3, 4, 4)
WHOLE = Window.whole((4, 4))


def inside(text: str, window: Window = WHOLE, picture: Path | None = None) -> list[list[int]]:
    scale = WantedWhere(text).read(SHAPE, window, picture).scale
    assert scale.dtype is torch.float64
    return scale[0].int().tolist()


def test_a_box_is_the_pixels_with_their_centres_in_it() -> None:
    assert inside("1,0,2,1") == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_places_are_those_of_the_picture_behind_a_crop() -> None:
    """The input shows columns 2 to 5 of a picture of 8 columns, two rows an input row."""
    window = Window((8, 8), Box(Fraction(2), Fraction(0), Fraction(6), Fraction(8)))
    assert inside("0,0,2,7", window) == [[1, 0, 0, 0]] * 4
    assert inside("0,0,7,1", window) == [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_mask_and_an_annotation_and_what_lies_outside(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[3, 0] = 9
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert inside(str(tmp_path / "mask.png")) == [[0] * 4, [0] * 4, [0] * 4, [1, 0, 0, 0]]
    picture = tmp_path / "sign.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    (tmp_path / "GT-final_test.csv").write_text(f"{header}\nsign.png;4;4;1;1;2;3;12\n")
    sign = np.zeros((4, 4), int)
    sign[1:4, 1:3] = 1
    assert inside("annotation", picture=picture) == sign.tolist()
    assert inside("background", picture=picture) == (1 - sign).tolist()
    named = f"background:{tmp_path / 'GT-final_test.csv'}"
    found = WantedWhere(named).read(SHAPE, WHOLE, picture)
    assert found.source == "outside of annotation GT-final_test.csv"
    assert found.in_words == "pixels outside of annotation GT-final_test.csv alone change"
    assert WantedWhere(named).absolute() == WantedWhere(named)


def test_radii_of_every_pixel(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 48).reshape(SHAPE).astype(np.float32)
    np.save(tmp_path / "radii.npy", values)
    wanted = WantedWhere(str(tmp_path / "radii.npy"))
    found = wanted.read(SHAPE, WHOLE)
    assert not found.binary
    assert torch.equal(found.scale, torch.from_numpy(values).double())
    assert "sha256" in wanted.parameters()
    np.save(tmp_path / "radii.npy", values[0] > 0.1)
    flat = wanted.read(SHAPE, WHOLE)
    assert flat.binary
    assert flat.count == int((values[0] > 0.1).sum())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0,0,3,3", "every pixel may change"),
        ("1,1", "four whole numbers"),
        ("0,0,4,4", "lies outside of the picture"),
        ("missing.npy", "no such file"),
        ("mask.png", "no such file"),
        ("somewhere", "none that corgi reads"),
        ("annotation", "no file's"),
        ("background", "no file's"),
    ],
)
def test_what_is_no_place(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        inside(text)


def test_a_box_between_the_centres_holds_none() -> None:
    window = Window((64, 64), Box.whole((64, 64)))
    with pytest.raises(UsageError, match="no pixel may change"):
        inside("0,0,2,2", window)


def test_arrays_that_are_refused(tmp_path: Path) -> None:
    for wrong, why in (
        (np.ones((4, 5)), "of shape"),
        (np.full((4, 4), "a"), "real numbers"),
        (np.ones((4, 4), complex), "real numbers"),
        (np.full((4, 4), np.nan), "expected values"),
        (np.full((4, 4), 0.5), "the largest of them 1"),
    ):
        with pytest.raises(UsageError, match=why):
            where_of(wrong, SHAPE, "them")
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(UsageError, match="cannot be read as NPY"):
        WantedWhere(str(tmp_path / "text.npy")).read(SHAPE, WHOLE)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="cannot be read as NPY"):
        WantedWhere(str(tmp_path / "objects.npy")).read(SHAPE, WHOLE)
