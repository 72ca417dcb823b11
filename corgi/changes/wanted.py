"""A change as the user writes it, before image and network are known (`names.py` has the forms)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from corgi.changes.interface import Change
from corgi.changes.names import GIVEN, Reader, parse_change, read_change
from corgi.data.file import is_regular_file
from corgi.data.image import InputArray
from corgi.data.region import Wanted, annotated_by, parse_region, read_region, together
from corgi.data.window import Window
from corgi.errors import UsageError

_REGION = "REGION"


@dataclass(frozen=True)
class WantedChange:
    """A change, before the image is known.

    Attributes:
        text: as it was written.

    Raises:
        UsageError: see `parse_change` and `parse_region`; or a file that is missing.
    """

    text: str

    def __post_init__(self) -> None:
        for _, given in self._parts():
            if isinstance(given, Path) and not is_regular_file(given):
                raise UsageError(f"--change {self.text}: {given}: no such file")

    def _parts(self) -> Iterator[tuple[str, Wanted | Path | None]]:
        """Names, and what stands behind their colons: a region, a file, or nothing."""
        for name, rest in parse_change(self.text):
            if not rest:
                yield name, None
            else:
                yield name, parse_region(rest) if GIVEN[name] == _REGION else Path(rest)

    def absolute(self) -> WantedChange:
        """The same, wherever it is read: of files the whole paths."""
        found = []
        for name, given in self._parts():
            rest = given.absolute if isinstance(given, Wanted) else given and given.absolute()
            found.append(name if rest is None else f"{name}:{rest}")
        return WantedChange("+".join(found))

    def annotated_by(self, picture: Path) -> str | None:
        """The digest of what annotates a picture; None where no region is looked for of each picture."""
        regions = (given for _, given in self._parts() if isinstance(given, Wanted))
        return together(annotated_by(one, picture) for one in regions)

    def parameters(self) -> dict[str, Any]:
        """What was asked, by name, for the identity of a batch; files count by their content, in order.

        What is looked for of each picture is named with the picture (`annotated_by`).
        """
        files = (given.file if isinstance(given, Wanted) else given for _, given in self._parts())
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file is not None]
        return {"text": self.text} | ({"sha256": digests} if digests else {})

    def read(
        self,
        shape: tuple[int, int, int],
        window: Window,
        picture: Path | None,
        image: Callable[[Path], InputArray],
    ) -> Change:
        """The change for one picture.

        Args:
            shape: of the network's input, [C, H, W].
            window: the part of the picture that the network sees.
            picture: the picture's file, by whose name annotations are found.
            image: the network's input that another image file stands for.

        Raises:
            UsageError, ImageError, DataError: see `read_change`.
        """
        region = partial(read_region, window=window, shape=shape[1:], picture=picture, grid="input")
        return read_change(self.text, Reader(image, region))
