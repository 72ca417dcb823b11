"""The boxes of the things in a picture, from the files of a data set.

    GT-*.csv, Test.csv, Train.csv   GTSRB: Filename (or Path), Width, Height, Roi.X1, Roi.Y1, Roi.X2, Roi.Y2;
                                    first and last column and row, from 0; `;` or `,` between columns
    NAME.xml                        Pascal VOC: first and last column and row, from 1
    instances*.json, *.coco.json    COCO: left, top, width, height, from 0, also in parts of a pixel

Places are in the picture as corgi reads it: upright. Where a file says how large its picture is, that is
checked, for a box of another picture, or of one that was scaled since, would be a wrong answer.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corgi.data.file import is_regular_file, read_text
from corgi.data.window import Box
from corgi.errors import DataError, UsageError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

BOX_COLUMNS = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
"""GTSRB's names of first column, first row, last column, last row."""

_NAME_COLUMNS = ("Filename", "Path")
_MOST_BYTES = 1_000_000_000
"""Of a file: the largest lists of COCO have half of it."""

_TABLES = ("GT-*.csv", "Test.csv", "Train.csv")
_LISTS = ("instances*.json", "*.coco.json")


@dataclass(frozen=True)
class Entry:
    """What a file says of one picture.

    Attributes:
        name: the picture's file, maybe with folders in front.
        size: its height and width, where the file says them.
        boxes: reads its boxes, one a thing, in pixels of the picture, or raises `DataError`: a list of a data
            set has those of a hundred thousand other pictures, too.
    """

    name: str
    size: tuple[int, int] | None
    boxes: Callable[[], tuple[Box, ...]]


@dataclass(frozen=True)
class Found:
    """The boxes of the things in a picture, cut to it, and the file that says so."""

    file: Path
    boxes: tuple[Box, ...]


def read_annotation(picture: Path, size: tuple[int, int], place: Path | None = None) -> Found:
    """The boxes of the things in a picture.

    Args:
        picture: its file; only its name is used.
        size: its height and width, upright.
        place: the file that says it, or a folder to look in; None to look beside the picture, in the folder
            above (tables), in ../Annotations (VOC) and in ../annotations (COCO). The first file that names
            the picture counts.

    Raises:
        DataError: no file names the picture, or it is damaged, names no thing in it, is of a picture of
            another size, or has a box that is not in the picture.
    """
    if place is not None and not place.is_dir():
        entries = _entries_of(picture, place)
        if not entries:
            raise DataError(f"{place}: does not name {picture.name}")
        return Found(place, _checked(entries, size, place))
    files, looked = _candidates(picture, place)
    for file in files:
        entries = _entries_of(picture, file)
        if entries:
            return Found(file, _checked(entries, size, file))
    silent = f"; {', '.join(map(str, files))}: does not name it" if files else ""
    raise DataError(
        f"{picture}: no annotation; looked for {', '.join(looked)}{silent}",
        hint="Name the file, as annotation:FILE, or give a box, X1,Y1,X2,Y2, or a mask, FILE.png.",
    )


def annotation_digest(picture: Path, place: Path | None = None) -> str:
    """SHA-256 of what is said of a picture: changes with its boxes, not with those of others beside them.

    Of a picture that nothing names, or whose annotation cannot be read, it is that of nothing.

    Args:
        picture: its file; only its name is used.
        place: a folder to look in; None to look where `read_annotation` does.
    """
    try:
        each = (_entries_of(picture, file) for file in _candidates(picture, place)[0])
        entries = next((found for found in each if found), [])
        said = repr([(entry.size, entry.boxes()) for entry in entries])
    except DataError:
        said = "[]"
    return sha256(said.encode()).hexdigest()


def _candidates(picture: Path, place: Path | None) -> tuple[list[Path], list[str]]:
    """The files that may annotate a picture, and what was looked for."""
    name = f"{picture.stem}.xml"
    if place is not None:
        patterns = [(place, pattern) for pattern in (name, *_TABLES, *_LISTS)]
    else:
        beside = picture.absolute().parent
        above = beside.parent
        patterns = [(beside, name), (above / "Annotations", name)]
        patterns += [(folder, table) for folder in (beside, above) for table in _TABLES]
        patterns += [(folder, listed) for folder in (beside, above / "annotations") for listed in _LISTS]
    files: list[Path] = []
    for folder, pattern in patterns:
        # A picture's own name is no pattern: it may hold a bracket.
        matching = [folder / name] if pattern == name else sorted(folder.glob(pattern))
        files += [file for file in matching if is_regular_file(file) and file not in files]
    return files, [str(folder / pattern) for folder, pattern in patterns]


def _entries_of(picture: Path, file: Path) -> list[Entry]:
    """What a file says of a picture; nothing if it does not name it.

    A name with folders in front is that of a picture in such folders: frames of different things of GTSRB
    have the same name in different ones.
    """
    try:
        stamp = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    entries = _read(file.absolute(), stamp.st_mtime_ns, stamp.st_size)
    if file.suffix.lower() == ".xml":
        ((entry,),) = entries.values()
        stems = (file.stem, PurePosixPath(_parts(entry)[-1]).stem)
        return [entry] if picture.stem in stems else []
    parts = picture.absolute().parts
    named = entries.get(picture.name, ())
    return [entry for entry in named if parts[-len(_parts(entry)) :] == _parts(entry)]


def _checked(entries: Sequence[Entry], size: tuple[int, int], file: Path) -> tuple[Box, ...]:
    """All boxes of a picture, cut to it: annotators go beyond it by the rounding of a pixel.

    Raises:
        DataError: no box, a picture of another size, or a box further outside.
    """
    name, whole = entries[0].name, Box.whole(size)
    for height, width in (entry.size for entry in entries if entry.size is not None):
        if (height, width) != size:
            raise DataError(
                f"{file}: {name} has {width} x {height} pixels (width x height) there,"
                f" but the picture has {size[1]} x {size[0]}",
                hint="Hand over the picture as it was annotated, or a box in its own pixels, X1,Y1,X2,Y2.",
            )
    inside = []
    for box in (box for entry in entries for box in entry.boxes()):
        cut = box.common(whole)
        if cut is None or not box.inside(whole, tolerance=1):
            outside = f"lies outside of its {size[1]} x {size[0]} pixels"
            raise DataError(f"{file}: a box of {name}, {box}, {outside}")
        inside.append(cut)
    if not inside:
        raise DataError(f"{file}: names {name}, but nothing in it")
    return tuple(inside)


@lru_cache(maxsize=16)
def _read(file: Path, modified: int, size: int) -> Mapping[str, tuple[Entry, ...]]:
    """The entries of a file by the names of their pictures without folders; read anew once it has changed."""
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{file}: not an annotation", hint=f"Expected a file {', '.join(READERS)}.")
    found: dict[str, list[Entry]] = {}
    for entry in reader(file):
        found.setdefault(_parts(entry)[-1], []).append(entry)
    return MappingProxyType({name: tuple(entries) for name, entries in found.items()})


def _parts(entry: Entry) -> tuple[str, ...]:
    return PurePosixPath(entry.name.replace("\\", "/")).parts or ("",)


# GTSRB


def read_rows(table: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a file with `;` or `,` between columns, that has at least these.

    Raises:
        DataError: it cannot be read, is no text, or a column is missing.
    """
    text = read_text(table, _MOST_BYTES, lambda what: DataError(f"{table}: not a text table: {what}"))
    separator = ";" if ";" in text.partition("\n")[0] else ","
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="")
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            hint = "Columns are separated by `;` or `,`; the first line names them."
            raise DataError(f"{table}: no column {', '.join(missing)}", hint=hint)
        return list(reader)
    except csv.Error as error:
        raise DataError(f"{table}: not a text table ({error})") from error


def box_of(row: Mapping[str, str], table: Path) -> Box:
    """The box of a row of GTSRB.

    Raises:
        DataError: it is none.
    """
    try:
        x1, y1, x2, y2 = (int(row[column]) for column in BOX_COLUMNS)
        return Box.of_pixels(x1, y1, x2, y2)
    except (UsageError, ValueError):
        given = ", ".join(row[column] for column in BOX_COLUMNS)
        name = next((row[column] for column in _NAME_COLUMNS if column in row), "a row")
        raise DataError(
            f"{table}: the box of {name}, {given}, is not four integers with X1 <= X2 and Y1 <= Y2"
        ) from None


def _read_table(file: Path) -> list[Entry]:
    entries = []
    for row in read_rows(file, BOX_COLUMNS):
        name = next((row[column] for column in _NAME_COLUMNS if column in row), None)
        if name is None:
            raise DataError(f"{file}: no column {' or '.join(_NAME_COLUMNS)}")
        sizes = [row.get(column, "") for column in ("Height", "Width")]
        known = all(text.isdecimal() and len(text) < 10 for text in sizes)
        size = (int(sizes[0]), int(sizes[1])) if known else None
        entries.append(Entry(name, size, partial(_row_boxes, row, file)))
    return entries


def _row_boxes(row: Mapping[str, str], file: Path) -> tuple[Box, ...]:
    return (box_of(row, file),)


# Pascal VOC


def _read_voc(file: Path) -> list[Entry]:
    from xml.etree import ElementTree

    text = read_text(file, 10_000_000, lambda what: DataError(f"{file}: {what}"))
    if "<!DOCTYPE" in text:  # entities: a small file can claim any size
        raise DataError(f"{file}: declares a document type, which no annotation needs")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not readable as XML ({error})") from error
    if root.tag != "annotation":
        raise DataError(f"{file}: its root is <{root.tag}>, expected <annotation> as of Pascal VOC")

    size = root.find("size")
    height, width = (0, 0) if size is None else _numbers(file, size, ("height", "width"))
    # Some annotators leave the size 0 where they do not know it.
    known = (int(height), int(width)) if height > 0 and width > 0 else None
    name = (root.findtext("filename") or file.stem).strip()
    return [Entry(name, known, partial(_voc_boxes, file, list(root.iter("object"))))]


def _voc_boxes(file: Path, things: Sequence[Element]) -> tuple[Box, ...]:
    boxes = []
    for thing in things:
        sides = [f"bndbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax")]
        x1, y1, x2, y2 = _numbers(file, thing, sides)
        boxes.append(_box(file, x1 - 1, y1 - 1, x2, y2))
    return tuple(boxes)


def _numbers(file: Path, node: Element, names: Sequence[str]) -> list[Fraction]:
    texts = [(node.findtext(name) or "").strip() for name in names]
    try:
        return [_exact(text) for text in texts]
    except ValueError:
        given = ", ".join(f"{name} {text!r}" for name, text in zip(names, texts, strict=True))
        raise DataError(f"{file}: {given}; expected numbers") from None


# COCO


def _read_coco(file: Path) -> list[Entry]:
    text = read_text(file, _MOST_BYTES, lambda what: DataError(f"{file}: {what}"))
    try:
        document: Any = json.loads(text)
        things: dict[Any, list[Any]] = {image["id"]: [] for image in document["images"]}
        for thing in document["annotations"]:
            things[thing["image_id"]].append(thing["bbox"])
        return [
            Entry(str(image["file_name"]), _coco_size(image), partial(_coco_boxes, file, things[image["id"]]))
            for image in document["images"]
        ]
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: not readable as JSON ({error})") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file}: not a list of instances as of COCO ({type(error).__name__}: {error})",
            hint='Expected {"images": [{"id", "file_name"}], "annotations": [{"image_id", "bbox"}]}.',
        ) from error


def _coco_boxes(file: Path, things: Sequence[Any]) -> tuple[Box, ...]:
    boxes = []
    for thing in things:
        try:
            left, top, width, height = (_exact(part) for part in thing)
        except (TypeError, ValueError) as error:
            raise DataError(f"{file}: bbox {thing!r}; expected left, top, width, height") from error
        if width and height:  # COCO has things without an extent; no place lies in them
            boxes.append(_box(file, left, top, left + width, top + height))
    return tuple(boxes)


def _coco_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _box(file: Path, left: Fraction, top: Fraction, right: Fraction, bottom: Fraction) -> Box:
    try:
        return Box(left, top, right, bottom)
    except UsageError as error:
        raise DataError(f"{file}: {error.message}") from None


def _exact(number: object) -> Fraction:
    """A number of a file.

    Raises:
        ValueError: not finite, or none.
    """
    try:
        if isinstance(number, int | float | str) and math.isfinite(value := float(number)):
            return Fraction(value)
    except (OverflowError, ValueError):
        pass
    raise ValueError(f"{number!r} is no finite number")


READERS: Mapping[str, Callable[[Path], list[Entry]]] = MappingProxyType(
    {".csv": _read_table, ".xml": _read_voc, ".json": _read_coco}
)
"""What reads an annotation, by the ending of its file."""
