"""The images of a batch: files, folders of files, a data set; each with the digest that names its row."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path

from corgi.batch.store import WITH, Item
from corgi.data.file import is_regular_file, resolved
from corgi.data.gtsrb import read_test
from corgi.data.image import is_npy
from corgi.errors import UsageError, encodable, printable

ENDINGS = (".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".pbm", ".npy")
"""Names that are taken from a folder; a file that is named itself may have any."""

_LEFT_BEHIND = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",
        "lost+found",
        "__pycache__",
    }
)
"""What macOS, Windows, network storage, Unix and python put beside pictures, in lower case."""

_UNREADABLE = "unreadable:"

_SHOWN = 10
"""Classes, equal and skipped files that are named; of more their number is said."""


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of one that cannot be read, its path in a form that is no digest.

    `npy:` stands before it where the file is read as an array: under another ending, equal bytes are another
    image.
    """
    try:
        with path.open("rb") as file:
            return _named(path, file_digest(file, "sha256").hexdigest())
    except OSError:
        return unreadable(path)


def digest_of_content(path: Path, content: bytes) -> str:
    """The same of what was read of a file."""
    return _named(path, sha256(content).hexdigest())


def _named(path: Path, digest: str) -> str:
    return f"npy:{digest}" if is_npy(path) else digest


def unreadable(path: Path) -> str:
    """What stands for the digest of a file that cannot be read."""
    whole = os.path.abspath(path)  # noqa: PTH100 - a link to itself has no other path
    return f"{_UNREADABLE}{encodable(whole)}"


def item_of(path: Path, true_class: str | None = None) -> Item:
    """An image file as an item of a batch."""
    return Item(digest_of(path), encodable(str(path)), true_class, path)


Said = Callable[[Path], str | None]
"""The digest of what annotates a picture, where that is part of what is asked."""


def annotated(items: Iterable[Item], said: Said) -> tuple[Item, ...]:
    """Items whose digests have that of their annotation, where it is part of what is asked; each once."""
    return tuple(_annotated(item, said) for item in items)


def _annotated(item: Item, said_of: Said) -> Item:
    if item.content != item.sha256 or item.sha256.startswith(_UNREADABLE):
        return item
    said = said_of(item.file)
    return item if said is None else replace(item, sha256=f"{item.sha256}{WITH}{said}")


def files(
    paths: Iterable[Path], skipped: Callable[[Path, str], None] = lambda _path, _why: None
) -> Iterator[Item]:
    """The images of files and folders, in order; folders with all below them, by name.

    What a picture shows is said by the folder, right below the one given, that it lies in. Links are
    followed. What systems and programs leave in folders is no part of a data set: hidden files and folders,
    and those of `_LEFT_BEHIND`. A path that is named itself is taken whatever its name is.

    Args:
        paths: files and folders.
        skipped: is told what lies in a folder and is not taken, and why; of files that only have another
            ending nothing is said.

    Raises:
        UsageError: a path does not exist, or a folder holds no image.
    """
    for path in paths:
        if path.is_dir():
            left: list[str] = []

            def told(each: Path, why: str, left: list[str] = left) -> None:
                left.append(f"{each} ({why})")
                skipped(each, why)

            found = sorted(_below(path, (resolved(path),), told))
            if not found:
                besides = f"; {len(left)} entries skipped: {', '.join(left)}" if left else ""
                expected = f"Expected {', '.join(ENDINGS)}."
                raise UsageError(f"{path}: no image in this folder{besides}", hint=expected)
            for each in found:
                inner = each.relative_to(path).parts
                yield item_of(each, encodable(inner[0]) if len(inner) > 1 else None)
        elif path.is_file():
            yield item_of(path)
        else:
            raise UsageError(f"{path}: no such image file or folder")


def _below(folder: Path, within: tuple[Path, ...], skipped: Callable[[Path, str], None]) -> Iterator[Path]:
    """The image files of a folder; `within`: itself and the folders it lies in, without links."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        skipped(folder, f"cannot be read: {error.strerror}")
        return
    for path in entries:
        image = path.suffix.lower() in ENDINGS
        why = _left_behind(path.name)
        if os.path.isdir(path):  # noqa: PTH112 - never raises
            inside = resolved(path)
            if why is None and inside in within:
                why = "a link to a folder it lies in"
            if why is None:
                yield from _below(path, (*within, inside), skipped)
            else:
                skipped(path, why)
        elif why is not None:
            skipped(path, why)
        elif image and is_regular_file(path):
            yield path
        elif image or path.is_symlink():
            skipped(path, "a link to nothing" if path.is_symlink() else "not a regular file")


def _left_behind(name: str) -> str | None:
    """Why a file or folder of that name is no part of a data set; None if it may be."""
    if name.startswith("."):
        return "hidden"
    return "left there by a system" if name.lower() in _LEFT_BEHIND else None


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


@dataclass(frozen=True)
class Chosen:
    """The images of a batch, and what was not taken of the folders they lie in, with reasons."""

    items: tuple[Item, ...]
    skipped: tuple[str, ...] = ()

    def asked(self, said: Said) -> Chosen:
        """The same as rows of what is asked are named. See `annotated`."""
        return replace(self, items=annotated(self.items, said))

    def told(self) -> Iterator[str]:
        """How many there are, of which classes, which are one row, and what was skipped."""
        kinds = Counter(item.true_class for item in self.items if item.true_class is not None)
        counts = _some([f"{kind}: {n}" for kind, n in kinds.items()])
        yield f"{len(self.items)} images found" + (f" in {len(kinds)} classes ({counts})" if kinds else "")
        first: dict[str, Item] = {}
        again = [
            (item, one) for item in self.items if (one := first.setdefault(item.sha256, item)) is not item
        ]
        if again:
            other = ("", ", of another class")
            shown = [f"{i.name} = {one.name}{other[i.true_class != one.true_class]}" for i, one in again]
            yield f"{len(again)} of them have the content of another and no row: {_some(shown)}"
        if self.skipped:
            yield f"{len(self.skipped)} skipped: {_some(self.skipped)}"


def _some(parts: Sequence[str]) -> str:
    left = len(parts) - _SHOWN
    return printable(", ".join(parts[:_SHOWN])) + (f" and {left} more" if left > 0 else "")


def of_paths(paths: Iterable[Path]) -> Chosen:
    """The images of files and folders. See `files`."""
    skipped: list[str] = []
    items = tuple(files(paths, lambda path, why: skipped.append(f"{path} ({why})")))
    return Chosen(items, tuple(skipped))


def of_gtsrb(data_dir: Path, classes: Sequence[int] | None, per_class: int | None) -> Chosen:
    """Test images of GTSRB. See `gtsrb`."""
    return Chosen(tuple(gtsrb(data_dir, classes, per_class)))
