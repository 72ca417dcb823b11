"""CIFAR-10 as folders of pictures.

Krizhevsky, "Learning multiple layers of features from tiny images" (2009);
https://www.cs.toronto.edu/~kriz/cifar.html.

    DIR/train/CLASS/NAME.jpg     32 x 32 pixels; CLASS is one of `CLASS_NAMES`
    DIR/test/CLASS/NAME.jpg
"""

from __future__ import annotations

from pathlib import Path

from corgi.data.samples import Sample
from corgi.errors import DataError

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""What each of the ten class ids means."""


def read_training(data_dir: Path) -> tuple[Sample, ...]:
    """All training samples, by class and name. Each shows a thing of its own: tracks count the pictures.

    Raises:
        DataError: the folder is missing or has no picture, or a subfolder is not a class.
    """
    return _read(data_dir / "train")


def read_test(data_dir: Path) -> tuple[Sample, ...]:
    """All test samples, as `read_training`."""
    return _read(data_dir / "test")


def _read(root: Path) -> tuple[Sample, ...]:
    if not root.is_dir():
        raise DataError(
            f"{root}: missing; expected a folder with one subfolder a class",
            hint="DIR must hold train/CLASS/NAME.jpg and test/CLASS/NAME.jpg.",
        )
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir())
    samples = tuple(sample for folder in folders for sample in _read_class(folder))
    if not samples:
        raise DataError(f"{root}: no picture", hint="Expected CLASS/NAME.jpg.")
    return samples


def _read_class(folder: Path) -> list[Sample]:
    if folder.name not in CLASS_NAMES:
        raise DataError(f"{folder}: not a class folder", hint=f"Expected one of: {', '.join(CLASS_NAMES)}.")
    class_id = CLASS_NAMES.index(folder.name)
    return [Sample(path, class_id, track) for track, path in enumerate(sorted(folder.glob("*.jpg")))]
