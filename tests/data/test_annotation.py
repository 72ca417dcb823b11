"""Boxes from the files of data sets."""

from __future__ import annotations

import json
import os
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corgi.data.annotation import read_annotation
from corgi.data.window import Box
from corgi.errors import DataError

SIZE = (10, 20)
HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
BOX = Box.of_pixels(2, 3, 5, 6)


def voc(*boxes: tuple[object, ...], size: tuple[int, int] = SIZE, name: str = "cat.jpg") -> str:
    def thing(x1, y1, x2, y2):
        sides = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        return f"<object><name>cat</name><bndbox>{sides}</bndbox></object>"

    height, width = size
    return (
        f"<?xml version='1.0'?><annotation><filename>{name}</filename><size><width>{width}</width>"
        f"<height>{height}</height></size>{''.join(thing(*box) for box in boxes)}</annotation>"
    )


def coco(*boxes: list[float], name: str = "cat.jpg", size: tuple[int, int] = SIZE) -> str:
    images = [{"id": 7, "file_name": name, "height": size[0], "width": size[1]}, {"id": 8, "file_name": "b"}]
    return json.dumps({"images": images, "annotations": [{"image_id": 7, "bbox": box} for box in boxes]})


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


FILES = {
    "images/cat.xml": voc((3, 4, 6, 7)),
    "Annotations/cat.xml": voc((3, 4, 6, 7)),
    "images/GT-00017.csv": f"{HEADER}\ncat.jpg;20;10;2;3;5;6;17\n",
    "GT-final_test.csv": f"{HEADER}\ndog.jpg;9;9;1;1;2;2;0\ncat.jpg;20;10;2;3;5;6;17\n",
    "Test.csv": "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n20,10,2,3,5,6,17,images/cat.jpg\n",
    "images/instances_val.json": coco([2, 3, 4, 4]),
    "annotations/instances_val.json": coco([2, 3, 4, 4]),
    "images/_annotations.coco.json": coco([2, 3, 4, 4]),
}


@pytest.mark.parametrize("name", FILES)
def test_each_format_where_its_data_set_has_it(tmp_path, name) -> None:
    """All say the same box: VOC counts from 1, COCO says width and height."""
    file = written(tmp_path / name, FILES[name])
    written(tmp_path / "images" / "instances_other.json", coco([0, 0, 1, 1], name="dog.jpg"))
    picture = tmp_path / "images" / "cat.jpg"
    found = read_annotation(picture, SIZE)
    assert (found.file, found.boxes) == (file, (BOX,))
    assert read_annotation(picture, SIZE, file).boxes == (BOX,)
    assert read_annotation(picture, SIZE, file.parent).boxes == (BOX,)


def test_what_was_looked_for_is_said(tmp_path) -> None:
    table = written(tmp_path / "GT-x.csv", f"{HEADER}\ndog.jpg;20;10;2;3;5;6;17\n")
    picture = tmp_path / "images" / "cat.jpg"
    picture.parent.mkdir()
    with pytest.raises(DataError) as caught:
        read_annotation(picture, SIZE)
    for part in ("images/cat.xml", "Annotations/cat.xml", "GT-*.csv", "annotations/instances*.json",
                 f"; {table}: does not name it", "annotation:FILE"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(DataError, match=r"GT-x.csv: does not name cat.jpg"):
        read_annotation(picture, SIZE, table)
    with pytest.raises(DataError, match=r"nowhere.json: cannot be read"):
        read_annotation(picture, SIZE, tmp_path / "nowhere.json")
    with pytest.raises(DataError, match=r"a.txt: not an annotation\nExpected a file .csv, .xml, .json"):
        read_annotation(picture, SIZE, written(tmp_path / "a.txt", ""))


def test_a_name_with_folders_is_that_of_a_picture_there(tmp_path) -> None:
    header = "Path,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2\n"
    file = written(tmp_path / "Train.csv", f"{header}Train/1/a.png,0,0,1,1\nTrain\\2\\a.png,2,3,5,6\n")
    assert read_annotation(tmp_path / "Train" / "2" / "a.png", SIZE, file).boxes == (BOX,)
    with pytest.raises(DataError, match="does not name"):
        read_annotation(tmp_path / "a.png", SIZE, file)


def test_an_xml_file_is_of_the_picture_of_its_name_or_of_the_one_it_names(tmp_path) -> None:
    file = written(tmp_path / "0001.xml", voc((3, 4, 6, 7), name="C:\\pictures\\cat.jpg"))
    for name in ("0001.png", "cat.jpg", "cat.png"):
        assert read_annotation(tmp_path / name, SIZE, file).boxes == (BOX,)
    with pytest.raises(DataError, match=r"does not name dog.jpg"):
        read_annotation(tmp_path / "dog.jpg", SIZE, file)


@pytest.mark.parametrize("name", ["cat.xml", "instances.json", "GT-a.csv"])
def test_several_things_are_kept(tmp_path, name) -> None:
    rows = f"{HEADER}\ncat.jpg;20;10;2;3;5;6;1\ncat.jpg;20;10;0;0;0;0;2\n"
    texts = {
        "cat.xml": voc((3, 4, 6, 7), (1, 1, 1, 1)),
        "instances.json": coco([2, 3, 4, 4], [0, 0, 1, 1], [5, 5, 0, 3]),
        "GT-a.csv": rows,
    }
    written(tmp_path / name, texts[name])
    assert read_annotation(tmp_path / "cat.jpg", SIZE).boxes == (BOX, Box.of_pixels(0, 0, 0, 0))


def test_parts_of_pixels_and_rounding_at_the_border(tmp_path) -> None:
    written(tmp_path / "instances.json", coco([18.5, 0.25, 2.25, 9.75]))
    (box,) = read_annotation(tmp_path / "cat.jpg", SIZE).boxes
    assert box == Box(Fraction(37, 2), Fraction(1, 4), Fraction(20), Fraction(10))
    written(tmp_path / "cat.xml", voc((0, 1, 5.5, 10)))  # counted from 0, against the format
    (box,) = read_annotation(tmp_path / "cat.jpg", SIZE).boxes
    assert box == Box(Fraction(0), Fraction(0), Fraction(11, 2), Fraction(10))


def test_a_file_that_changed_is_read_again(tmp_path) -> None:
    file = written(tmp_path / "instances.json", coco([2, 3, 4, 4]))
    assert read_annotation(tmp_path / "cat.jpg", SIZE).boxes == (BOX,)
    written(file, coco([0, 0, 1, 1]))
    os.utime(file, ns=(1, 1))
    assert read_annotation(tmp_path / "cat.jpg", SIZE).boxes == (Box.of_pixels(0, 0, 0, 0),)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "cat.xml",
            voc((3, 4, 6, 7), size=(20, 10)),
            "cat.jpg has 10 x 20 pixels .* but the picture has 20 x 10",
        ),
        ("cat.xml", voc(), "names cat.jpg, but nothing in it"),
        ("cat.xml", voc((3, 4, 6, 12)), "x 2 to 6, y 3 to 12, lies outside of its 20 x 10"),
        ("cat.xml", voc((21, 4, 21, 5)), "lies outside"),
        ("cat.xml", voc((6, 4, 3, 7)), "a box of x 5 to 3, y 3 to 7 is empty"),
        ("cat.xml", voc((3, 4, "six", 7)), "xmax 'six'"),
        ("cat.xml", voc((3, 4, "nan", 7)), "expected numbers"),
        ("cat.xml", voc((3, 4, "1e999999999", 7)), "expected numbers"),
        ("cat.xml", "<annotation><object/></annotation>", "xmin ''"),
        ("cat.xml", "<html/>", "its root is <html>, expected <annotation>"),
        ("cat.xml", "<annotation>", "not readable as XML"),
        ("cat.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "declares a document type"),
        ("cat.xml", "", "not readable as XML"),
        ("instances.json", "{", "not readable as JSON"),
        ("instances.json", "[]", "not a list of instances"),
        ("instances.json", "[" * 10_000, "not"),
        ("instances.json", '{"images": [{"id": []}], "annotations": []}', "not a list of instances"),
        ("instances.json", coco([2, 3, 4]), "bbox .2, 3, 4.; expected left"),
        ("instances.json", coco([2, 3, float("nan"), 4]), "bbox .2, 3, nan, 4.; expected"),
        ("instances.json", coco([2, 3, 10**400, 4]), "bbox .2, 3, 10*, 4.; expected"),
        ("instances.json", coco([2, 3, -1, 4]), "is empty"),
        ("instances.json", coco(), "nothing in it"),
        ("GT-a.csv", f"{HEADER}\ncat.jpg;10;20;2;3;5;6;1\n", "but the picture has"),
        ("GT-a.csv", f"{HEADER}\ncat.jpg;20;10;2;3;one;6;1\n", "cat.jpg, 2, 3, one, 6, is not four integers"),
        ("GT-a.csv", "Roi.X1,Roi.Y1,Roi.X2,Roi.Y2\n1,2,3,4\n", "no column Filename or Path"),
        ("Test.csv", "Filename,Class\ncat.jpg,3\n", "no column Roi.X1"),
    ],
)
def test_annotations_that_say_nothing(tmp_path, name, text, message) -> None:
    written(tmp_path / name, text)
    with pytest.raises(DataError, match=message) as caught:
        read_annotation(tmp_path / "cat.jpg", SIZE)
    assert name in str(caught.value)


def test_a_file_that_is_no_text(tmp_path) -> None:
    (tmp_path / "cat.xml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cat.xml: byte 0 is no UTF-8"):
        read_annotation(tmp_path / "cat.jpg", SIZE)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 12),
        st.sampled_from(
            ["", "9" * 5000, "-1", "null", "nan", "1e999", "{}", "[]", ";", ",", '"', "<a>", "\0", "\n"]
        ),
    ),
    min_size=1,
    max_size=3,
)


EDITED = {
    "cat.xml": FILES["Annotations/cat.xml"],
    "GT-a.csv": FILES["GT-final_test.csv"],
    "Test.csv": FILES["Test.csv"],
    "instances.json": FILES["annotations/instances_val.json"],
}


@settings(max_examples=300)
@given(st.sampled_from(sorted(EDITED)), EDITS)
def test_whatever_a_file_holds_is_an_answer_or_an_error_of_its_own(tmp_path_factory, name, edits) -> None:
    text = EDITED[name]
    for place, cut, put in edits:
        text = text[:place] + put + text[place + cut :]
    file = written(tmp_path_factory.mktemp("edited") / name, text)
    try:
        found = read_annotation(file.parent / "images" / "cat.jpg", SIZE, file)
    except DataError as error:
        said = error.message
        found = None
    assert found is not None or name in said
    assert found is None or found.boxes
    assert found is None or all(box.inside(Box.whole(SIZE)) for box in found.boxes)
