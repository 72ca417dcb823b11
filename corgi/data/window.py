"""Boxes in a picture, and the part of it that a network sees, in exact arithmetic.

Places are in pixels of the picture, upright: pixel (row, column) covers x in [column, column + 1) and y in
[row, row + 1), its centre is at + 1/2. Boxes are half-open, too, so a point lies in the box of some pixels
exactly if the pixel that the point lies in is one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from corgi.errors import UsageError

Side = tuple[Fraction, Fraction]
"""Where something begins and ends along one axis, [begin, end)."""


@dataclass(frozen=True)
class Box:
    """The places (x, y) of a picture with left <= x < right and top <= y < bottom, in pixels.

    Raises:
        UsageError: nothing lies in it.
    """

    left: Fraction
    top: Fraction
    right: Fraction
    bottom: Fraction

    def __post_init__(self) -> None:
        if not (self.left < self.right and self.top < self.bottom):
            raise UsageError(f"a box of {self} is empty", hint="Expected X1 <= X2 and Y1 <= Y2.")

    @staticmethod
    def of_pixels(x1: int, y1: int, x2: int, y2: int) -> Box:
        """The box of pixels from column x1 and row y1 to column x2 and row y2, the last ones included."""
        return Box(Fraction(x1), Fraction(y1), Fraction(x2 + 1), Fraction(y2 + 1))

    @staticmethod
    def whole(size: tuple[int, int]) -> Box:
        """All of a picture of height and width `size`."""
        return Box.of_pixels(0, 0, size[1] - 1, size[0] - 1)

    @property
    def columns(self) -> Side:
        """Left and right."""
        return self.left, self.right

    @property
    def rows(self) -> Side:
        """Top and bottom."""
        return self.top, self.bottom

    def __str__(self) -> str:
        return f"x {_short(self.left)} to {_short(self.right)}, y {_short(self.top)} to {_short(self.bottom)}"

    def common(self, other: Box) -> Box | None:
        """What lies in both; None if nothing does."""
        left, right = max(self.left, other.left), min(self.right, other.right)
        top, bottom = max(self.top, other.top), min(self.bottom, other.bottom)
        return Box(left, top, right, bottom) if left < right and top < bottom else None

    def inside(self, other: Box, tolerance: int = 0) -> bool:
        """Whether no side of it lies more than so many pixels beyond the other's."""
        least = min(self.left - other.left, self.top - other.top)
        most = max(self.right - other.right, self.bottom - other.bottom)
        return least >= -tolerance and most <= tolerance


@dataclass(frozen=True)
class Window:
    """The part of a picture that a network's input shows, stretched over all of it.

    Attributes:
        picture: height and width of the picture, upright.
        box: the part.
    """

    picture: tuple[int, int]
    box: Box

    @staticmethod
    def whole(size: tuple[int, int]) -> Window:
        """All of a picture of height and width `size`: of an image that is the network's input already."""
        return Window(size, Box.whole(size))

    def spacing(self, cells: tuple[int, int]) -> tuple[Fraction, Fraction]:
        """Height and width, in pixels of the picture, of one of `cells` (rows, columns) over the window."""
        (top, bottom), (left, right) = self.box.rows, self.box.columns
        return (bottom - top) / cells[0], (right - left) / cells[1]

    def centres(self, cells: tuple[int, int]) -> tuple[list[Fraction], list[Fraction]]:
        """Where in the picture the centres of `cells` (rows, columns) laid over the window are: y, x.

        Map [h, w] over input [H, W] has its centres at ((r + 1/2) H / h, (c + 1/2) W / w) of the input, which
        is ((r + 1/2) / h, (c + 1/2) / w) of the window, whatever H and W are.
        """
        height, width = self.spacing(cells)
        rows = [self.box.top + (r + Fraction(1, 2)) * height for r in range(cells[0])]
        return rows, [self.box.left + (c + Fraction(1, 2)) * width for c in range(cells[1])]


def _short(value: Fraction) -> str:
    return f"{float(value):.6g}"
