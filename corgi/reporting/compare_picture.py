"""The picture of `corgi compare`: the maps, and how many of their largest pixels stay within which radius.

Of a region: its edge on the maps that have its pixels, and within which radius the largest pixel stays in it.
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from corgi.comparison.rows import Guarantee, converted
from corgi.reporting import wording
from corgi.reporting.marks import KEPT, LOST
from corgi.reporting.picture import display, draw_map, extent_of, new_figure, outline
from corgi.reporting.wording import class_label
from corgi.results import FloatArray, MapKind
from corgi.types import Norm

if TYPE_CHECKING:
    from corgi.comparison.rows import Comparison, Row

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#D55E00")
"""Of Okabe and Ito; marks and dashes tell rows apart as well."""
_MARKS = "osD^v<>P"
_DASHES = {Guarantee.DETERMINISTIC: "-", Guarantee.STATISTICAL: "--", Guarantee.EMPIRICAL: ""}
_MOST_MAPS = 5


def compare_picture(comparison: Comparison) -> Figure:
    """Image and maps with their largest pixels framed; below, the share of them that stays, by radius."""
    maps: dict[str, Row] = {}
    for row in comparison.rows:
        maps.setdefault(row.about, row)
    shown = list(maps.values())[:_MOST_MAPS]
    pointing = comparison.pointing
    figure = new_figure(6.9 + (0.9 + 0.28 * len(pointing) if pointing else 0.0))
    explained = comparison.explanation
    label = class_label(explained.class_id, explained.class_name)
    fixed = explained.network.map_kind is MapKind.GRADCAM
    kind = wording.map_title(MapKind.GRADCAM) if fixed else "the class activation map"
    title = f"{label}, k = {explained.top.k} on {kind}: what is certified, and of which map"
    figure.suptitle(title, fontsize=12, fontweight="bold")
    heights = [2.9, 3.6] + ([0.9 + 0.28 * len(pointing)] if pointing else [])
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    upper = figure.add_subfigure(grid[0])
    panels = upper.subplots(1, 1 + len(shown), squeeze=False)[0]
    _panel(panels[0], "image")
    panels[0].imshow(display(explained.image), extent=extent_of(explained.cam), interpolation="nearest")
    for axes, row in zip(panels[1:], shown, strict=True):
        _map(axes, row.values, row.pixels, row.about)
    for axes, cam in zip(panels, (explained.cam, *(row.values for row in shown)), strict=True):
        if cam.shape == explained.cam.shape and comparison.region:
            outline(axes, comparison.region, explained.map_shape)
    lower = figure.add_subfigure(grid[1])
    left, right = lower.subplots(1, 2, sharey=True)
    for axes, norm in ((left, Norm.LINF), (right, Norm.L2)):
        _shares(axes, comparison, norm)
    left.set_ylabel("share of the k pixels that stays", fontsize=9)
    handles, labels = right.get_legend_handles_labels()
    if handles:
        lower.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    if pointing:
        last = figure.add_subfigure(grid[2])
        last.suptitle("the largest pixel stays in the region", fontsize=9, fontweight="bold")
        for axes, norm in zip(last.subplots(1, 2, sharey=True), (Norm.LINF, Norm.L2), strict=True):
            _pointing(axes, comparison, norm)
    return figure


def _panel(axes: Axes, title: str) -> None:
    axes.set_title(title.replace(", ", "\n"), fontsize=8)
    axes.set(xticks=[], yticks=[])


def _map(axes: Axes, values: FloatArray, pixels: tuple[int, ...], title: str) -> None:
    """A map [h, w] with its largest pixels framed."""
    draw_map(axes, values, title.replace(", ", "\n"), bar=False)
    for pixel in pixels:
        row, column = divmod(pixel, values.shape[1])
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=LOST, linewidth=0.8))
    axes.title.set_fontsize(8)


def _pointing(axes: Axes, comparison: Comparison, norm: Norm) -> None:
    """One bar a certificate, up to its radius; the image of an attack as a cross."""
    rows, inputs = comparison.pointing, comparison.explanation.image.size
    found = [
        (row.distance(norm) if row.guarantee is Guarantee.EMPIRICAL else row.radius(1, norm, inputs)) or 0.0
        for row in rows
    ]
    least = min((radius for radius in found if radius), default=1e-3) / 20
    for place, (row, radius) in enumerate(zip(rows, found, strict=True)):
        if not radius:
            axes.text(least, place, " nothing", va="center", fontsize=8)
        elif row.guarantee is Guarantee.EMPIRICAL:
            axes.plot(radius, place, "x", color=LOST, markersize=8, markeredgewidth=2)
        else:
            hatch = "" if row.guarantee is Guarantee.DETERMINISTIC else "//"
            axes.barh(
                place, radius - least, left=least, height=0.6, color=KEPT, hatch=hatch, edgecolor="white"
            )
    names = [f"{row.method} ({row.norm.label}), {row.guarantee.value}" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlim(left=least)
    axes.set_xlabel(f"{norm.label} radius: {wording.size_of_change(norm)}", fontsize=9)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(axis="x", alpha=0.25)


def _shares(axes: Axes, comparison: Comparison, norm: Norm) -> None:
    """One line a certificate, falling where fewer pixels are certified to stay; attacks as crosses."""
    inputs = comparison.explanation.image.size
    reached = [
        radius
        for row in comparison.rows
        for radius in (
            row.distance(norm) if row.guarantee is Guarantee.EMPIRICAL else row.radius(0, norm, inputs),
        )
        if radius
    ]
    least = min(reached, default=1e-3) / 20
    for row, colour, mark in zip(comparison.rows, cycle(_COLOURS), cycle(_MARKS), strict=False):
        name = f"{row.method} ({row.norm.label}), {row.about}"
        if row.guarantee is Guarantee.EMPIRICAL:
            distance = row.distance(norm)
            if distance is not None:
                kept = row.steps[0][0] / row.k
                axes.plot(distance, kept, "x", color=colour, markersize=8, markeredgewidth=2, label=name)
            continue
        steps = [(kept / row.k, converted(radius, row.norm, norm, inputs)) for kept, radius in row.steps]
        if not steps:
            axes.plot([], [], _DASHES[row.guarantee], color=colour, label=f"{name}: nothing")
            continue
        ends = [max(radius, least) for _, radius in steps]
        heights = [share for share, _ in steps]
        axes.step([least, *ends, ends[-1]], [heights[0], *heights, 0.0], _DASHES[row.guarantee], where="pre",
            color=colour, linewidth=1.4, marker=mark, markersize=3.5, label=name)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left=least)
    axes.set_ylim(0, 1.06)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel(f"{norm.label} radius: {wording.size_of_change(norm)}", fontsize=9)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(alpha=0.25)
