"""The official folder layout of GTSRB, the German Traffic Sign Recognition Benchmark.

Stallkamp et al., "Man vs. computer", Neural Networks 32 (2012); https://benchmark.ini.rub.de.

    DIR/Training/CCCCC/TTTTT_FFFFF.ppm     class, track (one physical sign), frame of the track
    DIR/Final_Test/Images/NNNNN.ppm        without tracks
    DIR/Final_Test/GT-final_test.csv       Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from corgi.data.annotation import BOX_COLUMNS, box_of, read_rows
from corgi.data.samples import Sample
from corgi.errors import DataError

CLASS_NAMES = (
    "speed limit 20", "speed limit 30", "speed limit 50", "speed limit 60", "speed limit 70",
    "speed limit 80", "end of speed limit 80", "speed limit 100", "speed limit 120", "no overtaking",
    "no overtaking by trucks", "priority at next crossing", "priority road", "yield", "stop", "no vehicles",
    "no trucks", "no entry", "danger", "curve left", "curve right", "double curve", "uneven road",
    "slippery road", "road narrows on the right", "road works", "traffic lights", "pedestrians", "children",
    "bicycles", "snow or ice", "wild animals", "end of all restrictions", "turn right", "turn left",
    "straight on", "straight on or right", "straight on or left", "pass on the right", "pass on the left",
    "roundabout", "end of no overtaking", "end of no overtaking by trucks",
)  # fmt: skip
"""What each of the 43 class ids means."""

_SYMMETRIC = (11, 12, 13, 15, 17, 18, 22, 26, 30, 35)
_PAIRS = ((19, 20), (33, 34), (36, 37), (38, 39))
MIRRORED: Mapping[int, int] = MappingProxyType(
    {c: c for c in _SYMMETRIC} | dict(_PAIRS) | {right: left for left, right in _PAIRS}
)
"""The class a sign belongs to when its picture is mirrored left to right; other classes have none."""

_TRAINING_NAME = re.compile(r"(\d{5})_(\d{5})\.ppm")


def read_training(data_dir: Path) -> tuple[Sample, ...]:
    """All training samples, by class, track and frame. Boxes come from `GT-CCCCC.csv` where it exists.

    Raises:
        DataError: a folder is missing or empty, or a name is not the layout's.
    """
    root = _existing(data_dir / "Training", "a folder with one subfolder CCCCC a class")
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir())
    samples = tuple(sample for folder in folders for sample in _read_class(folder))
    if not samples:
        raise DataError(f"{root}: no training image", hint="Expected Training/CCCCC/TTTTT_FFFFF.ppm.")
    return samples


def read_test(data_dir: Path) -> tuple[Sample, ...]:
    """All test samples, in the order of the CSV file.

    Raises:
        DataError: the folder, the CSV file, one of its columns or an image it names is missing.
    """
    images = _existing(data_dir / "Final_Test" / "Images", "the folder of test images")
    table = _existing(data_dir / "Final_Test" / "GT-final_test.csv", "the table of test labels")
    samples = []
    for row in read_rows(table, ("Filename", *BOX_COLUMNS, "ClassId")):
        path = images / row["Filename"]
        if not path.is_file():
            raise DataError(f"{table}: names {row['Filename']}, which is not in {images}")
        samples.append(Sample(path, _class_id(row["ClassId"], table), None, box_of(row, table)))
    if not samples:
        raise DataError(f"{table}: no row, expected one a test image")
    return tuple(samples)


def _read_class(folder: Path) -> list[Sample]:
    """The samples of one class folder; an empty folder has none."""
    if not re.fullmatch(r"\d{5}", folder.name):
        raise DataError(f"{folder}: not a class folder", hint="Expected a name of five digits, as 00017.")
    class_id = _class_id(folder.name, folder)
    table = folder / f"GT-{folder.name}.csv"
    rows = read_rows(table, ("Filename", *BOX_COLUMNS)) if table.is_file() else []
    boxes = {row["Filename"]: box_of(row, table) for row in rows}
    samples = []
    for path in sorted(folder.glob("*.ppm")):
        name = _TRAINING_NAME.fullmatch(path.name)
        if name is None:
            raise DataError(f"{path}: not a training image's name", hint="Expected TTTTT_FFFFF.ppm.")
        samples.append(Sample(path, class_id, int(name.group(1)), boxes.get(path.name)))
    return samples


def _existing(path: Path, what: str) -> Path:
    if not path.exists():
        raise DataError(
            f"{path}: missing; expected {what}",
            hint="DIR must hold Training/ and Final_Test/ as GTSRB's archives unpack them.",
        )
    return path


def _class_id(text: str, where: Path) -> int:
    if text.isdecimal() and int(text) < len(CLASS_NAMES):
        return int(text)
    raise DataError(f"{where}: class {text!r}; expected 0..{len(CLASS_NAMES) - 1}")
