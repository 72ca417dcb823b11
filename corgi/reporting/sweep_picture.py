"""The picture of `corgi sweep`: where a change keeps the property, and the map at a few of its points."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from corgi.reporting import wording
from corgi.reporting.picture import MAP_COLOURS, display, extent_of, in_units, new_figure, outline
from corgi.reporting.sweep import around_each, finding_of, guarantee
from corgi.reporting.wording import class_label
from corgi.terms import Finding

if TYPE_CHECKING:
    from corgi.certify.sweep import SweepResult, View

COLOURS = {Finding.HOLDS: "#009E73", Finding.BROKEN: "#D55E00", Finding.OPEN: "#BBBBBB"}
"""Of Okabe and Ito; what is broken is hatched as well, so that a grey print can be read."""

_WORDS = {Finding.HOLDS: "proved to hold", Finding.BROKEN: "proved to be broken", Finding.OPEN: "open"}
_OF_SIZES = {
    Finding.HOLDS: "holds on all of it",
    Finding.BROKEN: "broken somewhere in it",
    Finding.OPEN: "open",
}


def sweep_picture(result: SweepResult) -> Figure:
    """The answer over the parameters, and the map over the image at a few of them."""
    plane = result.family.dimensions == 2
    figure = new_figure(7.6 if plane else 5.6)
    explained = result.explanation
    label = class_label(explained.class_id, explained.class_name)
    what = f"{result.statement.name} along {result.change}{around_each(result.eps)}"
    title = f"{label}, {what}: {wording.headline(result.status)}"
    figure.suptitle(title, fontsize=12, fontweight="bold")
    grid = figure.add_gridspec(3, 1, height_ratios=[0.22, 1.5 if plane else 0.4, 1.0])
    _said(figure.add_subplot(grid[0]), result)
    axes = figure.add_subplot(grid[1])
    draw = {1: _line, 2: _plane}.get(result.family.dimensions, _sizes)
    draw(axes, result)
    words = _WORDS if draw in (_line, _plane) else _OF_SIZES
    handles = [_patch(kind, words[kind]) for kind in Finding]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.005, 1.0), fontsize=8, frameon=False,
    )  # fmt: skip
    row = grid[2].subgridspec(1, max(len(result.views), 1))
    for column, view in enumerate(result.views):
        _view(figure.add_subplot(row[column]), result, view)
    return figure


def _patch(kind: Finding, words: str) -> Patch:
    hatch = "//" if kind is Finding.BROKEN else None
    return Patch(facecolor=COLOURS[kind], edgecolor="white", hatch=hatch, label=words)


def _bar(axes: Axes, low: float, high: float, kind: Finding) -> None:
    hatch = "//" if kind is Finding.BROKEN else None
    axes.barh(
        0, high - low, left=low, height=1, color=COLOURS[kind], hatch=hatch, edgecolor="white", linewidth=0
    )


def _said(axes: Axes, result: SweepResult) -> None:
    axes.set_axis_off()
    reason = f"Nothing is proved: {result.reason}." if result.reason else "Nothing is proved."
    text = textwrap.fill(guarantee(result) or reason, 120)
    axes.text(0, 1, text, transform=axes.transAxes, va="top", fontsize=10, fontweight="bold")
    text = textwrap.fill(finding_of(result), 150)
    axes.text(0, 0.15, text, transform=axes.transAxes, va="top", fontsize=8.5)


def _line(axes: Axes, result: SweepResult) -> None:
    """One parameter: its intervals on a line, and the witness."""
    for low, high, kind in result.intervals:
        hatch = "//" if kind is Finding.BROKEN else None
        axes.barh(
            0,
            high - low,
            left=low,
            height=1,
            color=COLOURS[kind],
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
        )
    for view in result.views:
        axes.axvline(view.parameters[0], color="black", linewidth=0.8, linestyle=":")
    if result.witness is not None:
        axes.plot(result.witness.parameters[0], 0, "x", color="black", markersize=8, markeredgewidth=2)
    (low,), (high,) = result.family.box(result.largest)
    axes.set(xlim=(low, high), ylim=(-0.5, 0.5), yticks=[])
    axes.set_xlabel(f"t: {result.family.names[0]}", fontsize=9)
    axes.tick_params(labelsize=8)


def _plane(axes: Axes, result: SweepResult) -> None:
    """Two parameters: their parts, the sizes that were asked for, and the witness."""
    for part in result.parts:
        (x, y), (right, top) = part.lower, part.upper
        hatch = "//" if part.finding is Finding.BROKEN else None
        axes.add_patch(
            Rectangle(
                (x, y), right - x, top - y, facecolor=COLOURS[part.finding], hatch=hatch, edgecolor="white",
                linewidth=0.3,
            )
        )  # fmt: skip
    for size, _ in result.sizes:
        (x, y), (right, top) = result.family.box(size)
        axes.add_patch(Rectangle((x, y), right - x, top - y, fill=False, edgecolor="black", linewidth=1.2))
    if result.witness is not None:
        axes.plot(*result.witness.parameters, "x", color="black", markersize=8, markeredgewidth=2)
    (left, bottom), (right, top) = result.family.box(result.largest)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_xlabel(result.family.names[0], fontsize=9)
    axes.set_ylabel(result.family.names[1], fontsize=9)
    axes.tick_params(labelsize=8)


def _sizes(axes: Axes, result: SweepResult) -> None:
    """More parameters: certified up to a size, broken from another one on."""
    end = result.largest
    broken = end if result.broken is None else result.broken
    for low, high, kind in (
        (0.0, result.certified, Finding.HOLDS),
        (result.certified, broken, Finding.OPEN),
        (broken, end, Finding.BROKEN),
    ):
        hatch = "//" if kind is Finding.BROKEN else None
        axes.barh(
            0, max(high - low, 0), left=low, height=1, color=COLOURS[kind], hatch=hatch, edgecolor="white"
        )
    axes.set(xlim=(0, end), ylim=(-0.5, 0.5), yticks=[])
    axes.set_xlabel(f"size: largest of {result.family.dimensions} parameters", fontsize=9)
    axes.tick_params(labelsize=8)


def _view(axes: Axes, result: SweepResult, view: View) -> None:
    """The map over the image at one point."""
    extent = extent_of(view.cam)
    axes.imshow(display(view.image), extent=extent, interpolation="nearest")
    over, _ = in_units(view.cam)
    axes.imshow(over, cmap=MAP_COLOURS, alpha=0.5, extent=extent, interpolation="bilinear")
    if result.statement.region is not None:
        outline(axes, result.statement.region, (view.cam.shape[0], view.cam.shape[1]))
    at = ", ".join(f"{t:.9g}" for t in view.parameters)
    words = "broken: a witness" if view.witness else _WORDS[view.finding]
    kind = Finding.BROKEN if view.witness else view.finding
    axes.set_title(f"t = {at}\n{words}", fontsize=9, color=_dark(kind))
    axes.set(xticks=[], yticks=[])
    axes.autoscale(enable=False)


def _dark(kind: Finding) -> str:
    return "#555555" if kind is Finding.OPEN else COLOURS[kind]
