"""Where an image may change, as the user writes it: pixels of the network's input, or radii of each of them.

A pixel of the input may change if its centre lies inside, in every channel. In the words of `region.py`:

    X1,Y1,X2,Y2, FILE.png, annotation, annotation:FILE   inside of it
    background, background:FILE                          outside of what annotates the picture
    FILE.npy                                             [H, W] or [C, H, W] of the input, in [0, 1]: how far
                                                         each may change, in radii
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corgi.data.file import is_regular_file
from corgi.data.region import ANNOTATION, Wanted, annotated_by, parse_region, read_cells
from corgi.data.window import Window
from corgi.errors import ImageError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corgi.types import Where

BACKGROUND = "background"


@dataclass(frozen=True)
class WantedWhere:
    """Where an image may change, before the image is known.

    Attributes:
        text: as it was written.

    Raises:
        UsageError: none of the forms, or a file that is missing.
    """

    text: str

    def __post_init__(self) -> None:
        if self.map is not None and not is_regular_file(self.map):
            raise UsageError(f"where {self.text}: no such file")
        if self.map is None:
            self._region()

    @property
    def map(self) -> Path | None:
        """The file of radii, if it is one."""
        path = Path(self.text)
        return path if path.suffix.lower() == ".npy" else None

    @property
    def outside(self) -> bool:
        """Whether it is what lies outside of the region."""
        return self.text == BACKGROUND or self.text.startswith(f"{BACKGROUND}:")

    def _region(self) -> Wanted:
        text = ANNOTATION + self.text.removeprefix(BACKGROUND) if self.outside else self.text
        return parse_region(text)

    def absolute(self) -> WantedWhere:
        """The same, wherever it is read: of a file the whole path."""
        if self.map is not None:
            return WantedWhere(str(self.map.absolute()))
        whole = self._region().absolute
        return WantedWhere(BACKGROUND + whole.removeprefix(ANNOTATION) if self.outside else whole)

    def annotated_by(self, picture: Path) -> str | None:
        """The digest of what annotates a picture; None where that is not looked for of each picture."""
        return annotated_by(self._region(), picture) if self.map is None else None

    def parameters(self) -> dict[str, str]:
        """What was asked, by name, for the identity of a batch; a file counts by its content.

        What is looked for of each picture is named with the picture (`annotated_by`).
        """
        file = self.map or self._region().file
        named = {"text": self.text}
        if file is not None:
            named["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        return named

    def read(self, shape: tuple[int, int, int], window: Window, picture: Path | None = None) -> Where:
        """The places for one picture.

        Args:
            shape: of the network's input, [C, H, W].
            window: the part of the picture that the network sees.
            picture: the picture's file, by whose name annotations are found.

        Raises:
            UsageError: no pixel may change, all may, or radii that are none.
            ImageError, DataError: see `read_region`.
        """
        import numpy as np
        import torch

        from corgi.types import Where

        if self.map is not None:
            return self._radii(shape)
        cells = read_cells(self._region(), window, shape[1:], picture)
        inside = np.zeros(shape[1:], dtype=bool)
        inside.flat[list(cells.inside)] = True
        inside = ~inside if self.outside else inside
        source = f"{'outside' if self.outside else 'inside'} of {cells.source}"
        size = f"the input has {shape[1]} x {shape[2]} pixels (height x width)"
        if not inside.any():
            raise UsageError(f"where {self.text}: no pixel may change; {size}")
        if inside.all():
            raise UsageError(f"where {self.text}: every pixel may change; {size}", hint="Leave it out.")
        return Where(torch.from_numpy(inside)[None].to(torch.float64), source)

    def _radii(self, shape: tuple[int, int, int]) -> Where:
        from corgi.data.image import read_array

        assert self.map is not None
        try:
            values = read_array(self.map)
        except ImageError as error:
            raise UsageError(f"where {self.text}: cannot be read as NPY: {error.message}") from None
        return where_of(values, shape, self.text)


def where_of(values: NDArray[Any], shape: tuple[int, int, int], source: str) -> Where:
    """The places that an array [H, W] or [C, H, W] marks of an input [C, H, W].

    Args:
        values: bool, or in [0, 1]: how far each pixel may change, in radii.
        shape: of the input.
        source: what they are called.

    Raises:
        UsageError: of another shape or type; or see `Where`.
    """
    import numpy as np
    import torch

    from corgi.types import Where

    if values.shape not in (shape, shape[1:]):
        have, want = values.shape, f"{shape[1:]} or {shape}"
        raise UsageError(f"where {source}: an array of shape {have}, expected {want}")
    if values.dtype.kind not in "biuf":
        raise UsageError(f"where {source}: an array of {values.dtype}, expected real numbers")
    wide = torch.from_numpy(values.astype(np.float64)).reshape(-1, *shape[1:])
    return Where(wide, source)
