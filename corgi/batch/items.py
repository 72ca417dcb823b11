"""The images of a batch: files, folders of files, a data set; each with the digest that names its row."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import file_digest
from pathlib import Path

from corgi.batch.store import Item
from corgi.data.gtsrb import read_test
from corgi.data.image import is_npy
from corgi.errors import UsageError, encodable

ENDINGS = (".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".pbm", ".npy")
"""Names that are taken from a folder; a file that is named itself may have any."""

_UNREADABLE = "unreadable:"


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of one that cannot be read, its path in a form that is no digest.

    `npy:` stands before it where the file is read as an array: under another ending, equal bytes are another
    image.
    """
    try:
        with path.open("rb") as file:
            return ("npy:" if is_npy(path) else "") + file_digest(file, "sha256").hexdigest()
    except OSError:
        return unreadable(path)


def unreadable(path: Path) -> str:
    """What stands for the digest of a file that cannot be read."""
    whole = os.path.abspath(path)  # noqa: PTH100 - a link to itself has no other path
    return f"{_UNREADABLE}{encodable(whole)}"


def item_of(path: Path, true_class: str | None = None) -> Item:
    """An image file as an item of a batch."""
    return Item(digest_of(path), encodable(str(path)), true_class, path)


def files(paths: Iterable[Path]) -> Iterator[Item]:
    """The images of files and folders, in order; folders with all below them, by name.

    What a picture shows is said by the folder, right below the one given, that it lies in.

    Raises:
        UsageError: a path does not exist, or a folder holds no image.
    """
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            if not found:
                raise UsageError(f"{path}: no image in this folder", hint=f"Expected {', '.join(ENDINGS)}.")
            for each in found:
                inner = each.relative_to(path).parts
                yield item_of(each, encodable(inner[0]) if len(inner) > 1 else None)
        elif path.is_file():
            yield item_of(path)
        else:
            raise UsageError(f"{path}: no such image file or folder")


def gtsrb(data_dir: Path, classes: Sequence[int] | None, per_class: int | None) -> Iterator[Item]:
    """The first `per_class` test images of each of the classes; None for all.

    Raises:
        DataError: the folder does not have GTSRB's layout.
        UsageError: a class has no test image.
    """
    samples = read_test(data_dir)
    for class_id in sorted({s.class_id for s in samples}) if classes is None else classes:
        chosen = [sample for sample in samples if sample.class_id == class_id][:per_class]
        if not chosen:
            raise UsageError(f"class {class_id}: no test image of it in {data_dir}")
        for sample in chosen:
            yield item_of(sample.path, str(class_id))
