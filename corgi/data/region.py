"""Regions: which pixels of a map lie on a thing in the picture.

A map pixel lies inside if its centre does. Map [h, w] over input [H, W] has its centres at ((r + 1/2) H / h,
(c + 1/2) W / w) of the input; the recipe's steps are undone, exactly, to see where in the picture they are
(`window.py`), and there a box or a mask says what is inside. The box of some pixels and the mask of the same
pixels are one region.

    X1,Y1,X2,Y2       first column, first row, last column, last row, from 0, of the picture in the file,
                      upright; the last ones belong to it, as in GTSRB's Roi: 0,0,W-1,H-1 is all of it
    FILE.png          a mask of the picture's size (also .pgm, .pbm, .ppm): not 0 is inside
    annotation        what the data set says: see `annotation.py`; all things in the picture together
    annotation:FILE   by this file, or by those in this folder; FILE.xml, .json or .csv alone means the same
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from corgi.data.annotation import READERS, annotation_digest, read_annotation
from corgi.data.file import is_regular_file
from corgi.data.window import Box, Side, Window
from corgi.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MASKS = (".png", ".pgm", ".pbm", ".ppm")
"""Endings of masks. JPEG is none of them: what it makes of 0 may not be 0."""

ANNOTATION = "annotation"

_FORMS = (
    f"Expected X1,Y1,X2,Y2 in pixels of the picture, a mask ({', '.join(MASKS)}), {ANNOTATION}, or"
    f" the file of an annotation ({', '.join(READERS)})."
)
Grid = Literal["map", "input"]
"""Whose pixels a region is of."""

_NUMBER = r"\s*[-+]?[\d.]+(?:e[-+]?\d+)?\s*"


@dataclass(frozen=True)
class Region:
    """Pixels of a map, some but not all: those that lie on the thing.

    Attributes:
        pixels: their flat indices, row by row, ascending.
        shape: height and width of the map.
        source: what the region is, in words.
        notes: what one should know of how it was read.
        grid: whose pixels: of the map, or of the network's input.

    Raises:
        UsageError: pixels that the map does not have, none of it, all of it, or not in ascending order.
    """

    pixels: tuple[int, ...]
    shape: tuple[int, int]
    source: str
    notes: tuple[str, ...] = ()
    grid: Grid = "map"

    def __post_init__(self) -> None:
        height, width = self.shape
        map_is = f"the {self.grid} has {height} x {width} pixels (height x width)"
        if not self.pixels:
            raise UsageError(f"region {self.source}: no pixel; {map_is}")
        if list(self.pixels) != sorted(set(self.pixels)):
            raise UsageError(f"region {self.source}: its pixels are not in ascending order")
        if self.pixels[0] < 0 or self.pixels[-1] >= height * width:
            raise UsageError(f"region {self.source}: pixels {self.pixels[0]} to {self.pixels[-1]}; {map_is}")
        if len(self.pixels) == height * width:
            raise UsageError(f"region {self.source}: all pixels; {map_is}, and some must be outside")

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which pixels of the map are inside: [h, w]."""
        import numpy as np

        inside = np.zeros(self.shape, dtype=bool)
        inside.flat[list(self.pixels)] = True
        return inside


@dataclass(frozen=True)
class Wanted:
    """A region as the user writes it: one of a box, a mask, and what annotates the picture.

    Attributes:
        text: as it was written.
        box: in the picture.
        mask: a picture file.
        place: the file or folder that annotates; None with neither box nor mask: looked for.
    """

    text: str
    box: Box | None = None
    mask: Path | None = None
    place: Path | None = None

    @property
    def file(self) -> Path | None:
        """The one file that is read for every picture alike; None where there is none."""
        found = self.mask or self.place
        return None if found is None or found.is_dir() else found

    @property
    def absolute(self) -> str:
        """The text, wherever it is read: of a file or folder the whole path."""
        if self.mask is not None:
            return str(self.mask.absolute())
        return self.text if self.place is None else f"{ANNOTATION}:{self.place.absolute()}"


def parse_region(text: str) -> Wanted:
    """What `--region` says. Loads nothing heavy; files need only be there.

    Raises:
        UsageError: none of the forms, a box without pixels, or a file that is missing.
    """
    if re.fullmatch(rf"{_NUMBER}(?:,{_NUMBER})+", text):
        return Wanted(text, box=_box(text))
    if text == ANNOTATION:
        return Wanted(text)
    named = text.startswith(f"{ANNOTATION}:")
    rest = text.removeprefix(f"{ANNOTATION}:")
    path = Path(rest)
    if named and os.path.isdir(rest):  # noqa: PTH112 - never raises
        return Wanted(text, place=path)
    ending = path.suffix.lower()
    if ending not in READERS and (named or ending not in MASKS):
        lossy = ending in (".jpg", ".jpeg")
        hint = "JPEG changes values, so what was 0 may not be: save the mask as PNG." if lossy else _FORMS
        raise UsageError(f"region {text}: none that corgi reads", hint=hint)
    if not is_regular_file(path):
        raise UsageError(f"region {text}: no such file")
    return Wanted(text, place=path) if ending in READERS else Wanted(text, mask=path)


def _box(text: str) -> Box:
    expected = "expected X1,Y1,X2,Y2: four whole numbers from 0 with X1 <= X2 and Y1 <= Y2"
    try:
        x1, y1, x2, y2 = (int(part) for part in text.split(","))
        if min(x1, y1) < 0:
            raise ValueError
        return Box.of_pixels(x1, y1, x2, y2)
    except (UsageError, ValueError):
        hint = "First column, first row, last column, last row that belong to it; a comma between numbers."
        raise UsageError(f"region {text}: {expected}", hint=hint) from None


def annotated_by(wanted: Wanted, picture: Path) -> str | None:
    """The digest of what annotates a picture; None where that is not looked for of each picture."""
    if wanted.box is not None or wanted.mask is not None:
        return None
    if wanted.place is not None and not wanted.place.is_dir():
        return None  # one file for all: it counts by its content
    return annotation_digest(picture, wanted.place)


def together(said: Iterable[str | None]) -> str | None:
    """One digest of several, None among them left out; None where there is none."""
    found = [digest for digest in said if digest is not None]
    return None if not found else found[0] if len(found) == 1 else sha256("".join(found).encode()).hexdigest()


@dataclass(frozen=True)
class Cells:
    """Which cells of a grid laid over what the network sees have their centres inside; maybe none, maybe all.

    Attributes:
        inside: their flat indices, row by row, ascending.
        source: what they are in, in words.
        notes: what one should know of how it was read.
    """

    inside: tuple[int, ...]
    source: str
    notes: tuple[str, ...] = ()


def read_region(
    wanted: Wanted | str,
    window: Window,
    shape: tuple[int, int],
    picture: Path | None = None,
    grid: Grid = "map",
) -> Region:
    """The pixels of a map, or of the network's input, that lie in what the user calls the thing.

    Args:
        wanted: see the module's docstring.
        window: the part of the picture that the network sees (`image.look_at`, `Recipe.window`); of an image
            that is no file's, `Window.whole` of the network's input.
        shape: height and width of the map, or of the input.
        picture: its file, by whose name annotations are found.
        grid: which of both, for words.

    Raises:
        UsageError: see `parse_region`, `box_region` and `mask_region`; or an annotation without a picture.
        ImageError: the mask cannot be read.
        DataError: see `read_annotation`.
    """
    return _region(read_cells(wanted, window, shape, picture), window, shape, grid)


def read_cells(
    wanted: Wanted | str, window: Window, shape: tuple[int, int], picture: Path | None = None
) -> Cells:
    """The same of any grid over what the network sees, as that of its input.

    Raises:
        UsageError, ImageError, DataError: see `read_region`; not where none lies inside, or all do.
    """
    if isinstance(wanted, str):
        wanted = parse_region(wanted)
    if wanted.box is not None:
        return _in_boxes([wanted.box], window, shape, wanted.text)
    if wanted.mask is not None:
        from corgi.data.image import read_image

        inside = (read_image(wanted.mask) != 0).any(axis=2)
        return _in_mask(inside, window, shape, str(wanted.mask))
    if picture is None:
        hint = f"{_FORMS} Or hand over the picture's file."
        raise UsageError(f"region {wanted.text}: the image is no file's, so none annotates it", hint=hint)
    found = read_annotation(picture, window.picture, wanted.place)
    several = f"{picture.name} has {len(found.boxes)} things by {found.file.name}: the region is all of them"
    notes = (several,) if len(found.boxes) > 1 else ()
    cells = _in_boxes(found.boxes, window, shape, f"{ANNOTATION} {found.file.name}")
    return replace(cells, notes=notes)


def box_region(
    boxes: Sequence[Box],
    window: Window,
    shape: tuple[int, int],
    *,
    source: str | None = None,
) -> Region:
    """The pixels of a map whose centre lies in one of some boxes of the picture.

    Args:
        boxes: in pixels of the picture.
        window: the part of it that the network sees.
        shape: height and width of the map.
        source: what the region is called; the boxes by default.

    Raises:
        UsageError: a box is not in the picture; no pixel's centre lies in them, or all do.
    """
    source = "; ".join(map(str, boxes)) if source is None else source
    return _region(_in_boxes(boxes, window, shape, source), window, shape)


def _in_boxes(boxes: Sequence[Box], window: Window, shape: tuple[int, int], source: str) -> Cells:
    height, width = window.picture
    rows, columns = window.centres(shape)
    pixels: set[int] = set()
    for box in boxes:
        if not box.inside(Box.whole(window.picture)):
            raise UsageError(
                f"region {source}: lies outside of the picture, which has {width} x {height} pixels"
                " (width x height)",
                hint=f"Its last column is {width - 1}, its last row {height - 1}.",
            )
        across = _between(columns, box.columns)
        pixels.update(r * shape[1] + c for r in _between(rows, box.rows) for c in across)
    if not pixels and all(box.common(window.box) is None for box in boxes):
        raise UsageError(
            f"region {source}: lies where the picture is cut off; the network sees {window.box}",
            hint="Choose a region there, or a recipe (--preprocess) that keeps more.",
        )
    return Cells(tuple(sorted(pixels)), source)


def mask_region(
    mask: NDArray[Any], window: Window, shape: tuple[int, int], *, source: str = "mask"
) -> Region:
    """The pixels of a map whose centre lies in a pixel of the picture that a mask marks.

    Args:
        mask: [H, W], of the picture's size; not 0 is inside.
        window: the part of the picture that the network sees.
        shape: height and width of the map.
        source: what the region is called.

    Raises:
        UsageError: the mask has another size; no pixel's centre lies in it, or all do.
    """
    return _region(_in_mask(mask, window, shape, source), window, shape)


def _in_mask(mask: NDArray[Any], window: Window, shape: tuple[int, int], source: str) -> Cells:
    import numpy as np

    if mask.shape != window.picture:
        have, want = (" x ".join(map(str, size[::-1])) for size in (mask.shape, window.picture))
        raise UsageError(
            f"region {source}: a mask of {have} pixels, but the picture has {want} (width x height)",
            hint="A mask covers the picture as it is in its file, before any crop or resize.",
        )
    if not mask.any():
        raise UsageError(f"region {source}: marks no pixel", hint="Whatever is not 0 is inside.")
    # A place (x, y) lies in the pixel of column floor(x) and row floor(y).
    rows, columns = ([int(place) for place in places] for places in window.centres(shape))
    inside = np.flatnonzero(mask[np.ix_(rows, columns)])
    return Cells(tuple(inside.tolist()), source)


def _region(cells: Cells, window: Window, shape: tuple[int, int], grid: Grid = "map") -> Region:
    """A region, or the error that says why it asks nothing."""
    pixels, source = cells.inside, cells.source
    height, width = (f"{float(side):.3g}" for side in window.spacing(shape))
    spacing = f"a pixel of the {grid} is {width} x {height} pixels of the picture (width x height)"
    if not pixels:
        raise UsageError(
            f"region {source}: no pixel of the {grid} has its centre inside; {spacing}",
            hint="Choose a larger region.",
        )
    if len(pixels) == shape[0] * shape[1]:
        raise UsageError(
            f"region {source}: every pixel of the {grid} has its centre inside; {spacing}",
            hint="Choose a smaller region.",
        )
    return Region(pixels, shape, source, cells.notes, grid)


def _between(places: Sequence[Fraction], side: Side) -> list[int]:
    """Which places lie in [begin, end)."""
    begin, end = side
    return [i for i, place in enumerate(places) if begin <= place < end]
