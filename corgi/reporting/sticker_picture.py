"""The picture of what a sticker can do: a colour a place, and the worst sticker that was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from corgi.reporting.marks import KEPT, LOST
from corgi.reporting.picture import display, draw_map, new_figure
from corgi.reporting.wording import class_label, round_down
from corgi.results import Status

if TYPE_CHECKING:
    from corgi.certify.sticker import StickerMap

_COLOURS = {Status.PROVED: KEPT, Status.REFUTED: LOST, Status.UNKNOWN: "#DDDDDD"}
_NAMES = {Status.PROVED: "certified", Status.REFUTED: "refuted", Status.UNKNOWN: "open"}


def sticker_picture(found: StickerMap) -> Figure:
    """The image, its map, the places; below, the worst sticker and the map under it."""
    explained, options, worst = found.explanation, found.options, found.worst
    figure = new_figure(3.6 if worst is None else 6.6)
    label = class_label(explained.class_id, explained.class_name)
    size = f"{options.size} x {options.size}"
    how = "any" if options.eps >= 1 else f"within {round_down(options.eps * 255)}/255"
    asked = str(found.asked.statement(explained.top.k))
    figure.suptitle(f"{label}: {asked}, under a sticker of {size} ({how})", fontsize=11, fontweight="bold")
    panels = figure.subplots(1 if worst is None else 2, 3, squeeze=False)
    _image(panels[0][0], explained.image, "image")
    draw_map(panels[0][1], explained.cam, "map")
    _places(panels[0][2], found)
    if worst is not None and found.worst_place is not None:
        row, column = found.worst_place
        _image(panels[1][0], worst.image, f"worst sticker found: row {row}, column {column}")
        side = options.size
        edge = Rectangle((column, row), side, side, fill=False, edgecolor=LOST, linewidth=1.5)
        panels[1][0].add_patch(edge)
        draw_map(panels[1][1], worst.cam, "its map")
        panels[1][2].set_axis_off()
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    return figure


def _image(axes: Axes, image: np.ndarray, title: str) -> None:
    height, width = image.shape[1:]
    axes.imshow(display(image), extent=(0, width, height, 0), interpolation="nearest")
    axes.set_title(title, fontsize=10)


def _places(axes: Axes, found: StickerMap) -> None:
    """A square a place, where the middle of the sticker lies, over the image."""
    height, width = found.explanation.image.shape[1:]
    _image(axes, found.explanation.image, "places, by the middle of the sticker")
    kinds = list(_COLOURS)
    numbers = np.array([[kinds.index(status) for status in row] for row in found.statuses])
    half, stride = found.options.size / 2, found.options.stride
    left, top = found.columns[0] + half - stride / 2, found.rows[0] + half - stride / 2
    extent = (left, left + stride * numbers.shape[1], top + stride * numbers.shape[0], top)
    colours = ListedColormap(list(_COLOURS.values()))
    axes.imshow(
        numbers, cmap=colours, vmin=-0.5, vmax=2.5, extent=extent, alpha=0.75, interpolation="nearest"
    )
    axes.set(xlim=(0, width), ylim=(height, 0))
    counts = found.counts
    handles = [Patch(color=_COLOURS[kind], label=f"{_NAMES[kind]}: {counts[kind]}") for kind in kinds]
    axes.legend(
        handles=handles, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3
    )
