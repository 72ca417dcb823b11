"""A property as it is written: which options go with which names, and what becomes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corgi.data.window import Window
from corgi.errors import DataError, UsageError
from corgi.properties import Both, Centre, Inside, Iou, Order, Overlap, Pointing, Topk
from corgi.wanted import WantedProperty, plain_region, read_places

SHAPE, WINDOW = (4, 4), Window.whole((8, 8))
BOX = "0,0,3,3"
"""The upper left quarter of the picture: the map's pixels 0, 1, 4 and 5."""
QUARTER = (0, 1, 4, 5)


def built(text: str, **given):
    return WantedProperty.read(text, **given).property(SHAPE, WINDOW)


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("topk", {}, Topk()),
        ("topk", {"k2": 5}, Topk(5)),
        ("overlap", {"keep": 2}, Overlap(2)),
        ("pointing", {"region": BOX}, Pointing(QUARTER)),
        ("pointing", {"region": (3, 7)}, Pointing((3, 7))),
        ("inside", {"keep": 1, "region": BOX}, Inside(1, QUARTER)),
        ("iou", {}, Iou(0.5, 0.5)),
        ("iou", {"threshold": 0.25, "iou": 0.75}, Iou(0.25, 0.75)),
        ("order", {"above": ((0, 1),), "below": ((2, 3), (3, 3))}, Order(((0, 1),), ((2, 3), (3, 3)))),
        ("centre", {}, Centre(1.0)),
        ("centre", {"within": 2.5}, Centre(2.5)),
        ("pointing + overlap", {"region": BOX, "keep": 2}, Both((Pointing(QUARTER), Overlap(2)))),
        ("topk+iou", {"k2": 6}, Both((Topk(6), Iou()))),
    ],
)
def test_names_and_options_are_a_property(text, given, expected) -> None:
    assert built(text, **given) == expected


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("largest", {}, "--property largest: expected one of topk, overlap"),
        ("", {}, "expected one of"),
        ("iou+iou", {}, "the same twice"),
        ("topk", {"keep": 3}, "--keep: not an option of --property topk"),
        ("pointing", {"region": BOX, "k2": 20}, "--k2: not an option of --property pointing"),
        ("iou", {"within": 1.0}, "--within: not an option"),
        ("overlap", {}, "--property overlap: expected --keep, too"),
        ("inside", {}, "--property inside: expected --keep and --region, too"),
        ("pointing+overlap", {"region": BOX}, "--property overlap: expected --keep"),
        ("order", {"above": ((0, 0),)}, "expected --below"),
        ("pointing", {"region": "nowhere.png"}, "no such file"),
        ("pointing", {"region": "5,5,1,1"}, "X1 <= X2"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(text, given, message) -> None:
    with pytest.raises(UsageError, match=message):
        WantedProperty.read(text, **given)


def test_of_several_properties_each_has_the_options_it_takes() -> None:
    found = WantedProperty.read_each(["pointing", "overlap", "topk+inside"], region=BOX, keep=2, k2=5)
    assert found == (
        WantedProperty.read("pointing", region=BOX),
        WantedProperty.read("overlap", keep=2),
        WantedProperty.read("topk+inside", k2=5, keep=2, region=BOX),
    )
    assert WantedProperty.read_each(["topk"], keep=None) == (WantedProperty(),)


@pytest.mark.parametrize(
    ("texts", "given", "message"),
    [
        (["topk", "overlap"], {"keep": 2, "region": BOX}, "--region: .* --property topk and overlap"),
        (["topk", "overlap"], {}, "--property overlap: expected --keep"),
        (["topk", "iou", "topk"], {}, "--property topk: asked twice"),
        (["topk+iou", "iou+topk"], {}, "asked twice"),
        (["topk", "largest"], {}, "--property largest: expected one of"),
    ],
)
def test_of_several_properties_an_option_belongs_to_one(texts, given, message) -> None:
    with pytest.raises(UsageError, match=message):
        WantedProperty.read_each(texts, **given)


def test_an_annotation_is_read_of_each_picture(tmp_path: Path) -> None:
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", "a.ppm;8;8;0;0;3;3;1"]
    (tmp_path / "GT-test.csv").write_text("\n".join([*rows, "b.ppm;8;8;4;4;7;7;1"]) + "\n")
    wanted, told = WantedProperty.read("pointing", region="annotation"), []
    for name, pixels in (("a.ppm", QUARTER), ("b.ppm", (10, 11, 14, 15))):
        assert wanted.property(SHAPE, WINDOW, tmp_path / name, told.append) == Pointing(pixels)
    assert [region.pixels for region in told] == [QUARTER, (10, 11, 14, 15)]
    with pytest.raises(UsageError, match="no file's"):
        wanted.property(SHAPE, WINDOW)
    with pytest.raises(DataError, match="no annotation"):
        wanted.property(SHAPE, WINDOW, tmp_path / "c.ppm")


def test_parameters_tell_questions_apart(tmp_path: Path) -> None:
    assert WantedProperty().parameters() == {}
    assert WantedProperty(k2=20).parameters() == {}  # of the options, which name it themselves
    mask = tmp_path / "mask.png"
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(mask)
    asked = [
        WantedProperty.read("pointing", region=BOX),
        WantedProperty.read("pointing", region="0,0,3,4"),
        WantedProperty.read("pointing", region="annotation"),
        WantedProperty.read("pointing", region=(0, 1)),
        WantedProperty.read("pointing", region=str(mask)),
        WantedProperty.read("inside", region=BOX, keep=1),
        WantedProperty.read("inside", region=BOX, keep=2),
        WantedProperty.read("overlap", keep=2),
        WantedProperty.read("iou", iou=0.6),
        WantedProperty.read("iou", threshold=0.6),
        WantedProperty.read("order", above=((0, 1),), below=((1, 1),)),
        WantedProperty.read("topk+iou", k2=5),
    ]
    found = [json.dumps(one.parameters(), sort_keys=True) for one in asked]
    assert len(set(found)) == len(asked)
    before = asked[4].parameters()
    Image.fromarray(np.ones((8, 8), dtype=np.uint8)).save(mask)
    assert asked[4].parameters() != before


def test_files_of_regions_are_named_whole(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save("mask.png")
    (tmp_path / "boxes").mkdir()
    mask = WantedProperty.read("pointing", region="mask.png")
    folder = replace(mask, region="annotation:boxes")
    assert mask.absolute().region == str(tmp_path / "mask.png")
    assert folder.absolute().region == f"annotation:{tmp_path / 'boxes'}"
    for region in (BOX, "annotation", (1, 2)):
        assert replace(mask, region=region).absolute().region == region


def test_places() -> None:
    assert read_places("--above", "1,2") == ((1, 2),)
    assert read_places("--above", "1,2; 3 ,4") == ((1, 2), (3, 4))
    for text in ("", "1", "1,2;", "a,b", "-1,2", "1,2,3"):
        with pytest.raises(UsageError, match="expected ROW,COLUMN"):
            read_places("--above", text)


def test_regions_of_python() -> None:
    assert plain_region(None) is None
    assert plain_region(BOX) == BOX
    assert plain_region(np.array([3, 4])) == (3, 4)
