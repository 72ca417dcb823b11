"""Pictures of many radii: one a pixel of the map, or one a rank."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator

from corgi.reporting import wording
from corgi.reporting.document import curve_document
from corgi.reporting.marks import KEPT, LOST
from corgi.reporting.picture import display, draw_map, extent_of, new_figure
from corgi.reporting.wording import class_label
from corgi.results import FloatArray

if TYPE_CHECKING:
    from corgi.certify.curve import Curve, CurvePoint
    from corgi.certify.radii import PixelRadii
    from corgi.types import Norm

_LEAST = 1e-30
"""Smaller radii are drawn as this one: no network tells them apart."""

_BOUNDS = "#009E73"
"""Radii certified by bounds alone."""


def radii_picture(radii: PixelRadii) -> Figure:
    """The image, its map, the certified radius of every pixel, and those searched by rank."""
    explained = radii.explanation
    figure = new_figure(6.6)
    label = class_label(explained.class_id, explained.class_name)
    title = f"{label}: how far each pixel of the map is from crossing rank {explained.top.k}"
    figure.suptitle(title, fontsize=12, fontweight="bold")
    grid = figure.add_gridspec(2, 3, height_ratios=[1.1, 0.9])
    panels = [figure.add_subplot(grid[0, column]) for column in range(3)]
    width, extent = explained.cam.shape[1], extent_of(explained.cam)
    panels[0].imshow(display(explained.image), extent=extent, interpolation="nearest")
    panels[0].set_title("image", fontsize=10)
    draw_map(panels[1], explained.cam, f"map; framed: its {explained.top.k} largest pixels")
    _radius_map(figure, panels[2], radii.certified, extent)
    panels[2].set_title("certified radius of every pixel", fontsize=10)
    for panel in panels[1:]:
        _outlined(panel, explained.top.pixels, width)
    for panel in panels:
        panel.set(xticks=[], yticks=[])
    _by_rank(figure.add_subplot(grid[1, :]), radii)
    return figure


def _radius_map(
    figure: Figure, axes: Axes, certified: FloatArray, extent: tuple[float, float, float, float]
) -> None:
    """Radii in logarithmic colours; those of 0 stay white."""
    positive = certified[certified > 0]
    if positive.size == 0:
        axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        axes.text(0.5, 0.5, "nothing is certified", transform=axes.transAxes, ha="center")
        return
    least = max(float(positive.min()), _LEAST)
    colours = LogNorm(least, max(float(positive.max()), 1.01 * least))
    shown = np.where(certified > 0, np.maximum(certified, least), np.nan)
    drawn = axes.imshow(shown, cmap="cividis", norm=colours, extent=extent, interpolation="nearest")
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(which="both", labelsize=7)


def _outlined(axes: Axes, pixels: tuple[int, ...], width: int) -> None:
    for pixel in pixels:
        row, column = divmod(pixel, width)
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=LOST, linewidth=1.2))


def _by_rank(axes: Axes, radii: PixelRadii) -> None:
    """Certified and attack radius of the searched pixels, and what is open between them."""
    k = radii.explanation.top.k
    searched = [
        replace(
            found,
            certified=max(found.certified, _LEAST) if found.certified > 0 else 0.0,
            attacked=None if found.attacked is None else max(found.attacked, _LEAST),
        )
        for found in radii.searched
    ]
    if not any(found.certified > 0 or found.attacked is not None for found in searched):
        # A logarithmic axis needs something to show.
        axes.set_axis_off()
        reasons = sorted({found.reason for found in searched if found.reason})
        why = f": {'; '.join(reasons)}" if reasons else ""
        axes.text(
            0.5, 0.5, textwrap.fill(f"no radius was certified, and no witness found{why}", 100),
            transform=axes.transAxes, ha="center", va="center", fontsize=10,
        )  # fmt: skip
        return
    for found in searched:
        if found.attacked is not None and found.certified > 0:
            axes.plot(
                [found.rank] * 2, [found.certified, found.attacked], color="#BBBBBB", linewidth=3, zorder=1
            )
    ranks = [found.rank for found in searched if found.certified > 0]
    certified = [found.certified for found in searched if found.certified > 0]
    axes.plot(ranks, certified, "o", color=KEPT, markersize=5, label="certified: stays on its side")
    broken = [(found.rank, found.attacked) for found in searched if found.attacked is not None]
    axes.plot(
        [rank for rank, _ in broken], [radius for _, radius in broken],
        "x", color=LOST, markersize=6, label="witness: it does not",
    )  # fmt: skip
    axes.axvline(k + 0.5, color="black", linewidth=0.8, linestyle=":")
    axes.annotate(
        f"outside the {k} largest", (k + 0.5, 0.96), xycoords=("data", "axes fraction"), va="top",
        textcoords="offset points", xytext=(4, 0), fontsize=8,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlim(0.5, max((found.rank for found in searched), default=1) + 0.5)
    axes.set_xlabel("rank of the pixel at the image", fontsize=9)
    axes.set_ylabel(wording.size_of_change(radii.norm), fontsize=9)
    axes.grid(axis="y", which="both", alpha=0.25)
    axes.tick_params(which="both", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(2, 0.5)))
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0.0, 1.13), ncols=2)


def curve_picture(curve: Curve) -> Figure:
    """Radii against k, the gap of the map against k, and radii against k2 (Gu et al., figure 3)."""
    panels = [points for points in (curve.by_k, curve.by_k2) if points]
    figure = new_figure(3.6 * max(len(panels), 1) + 0.8)
    label = class_label(curve.explanation.class_id, curve.explanation.class_name)
    advice = wording.recommendation(curve_document(curve, "image"))
    figure.suptitle(f"{label}: {advice}", fontsize=11, fontweight="bold")
    rows = figure.subplots(max(len(panels), 1), 2, squeeze=False)
    row = 0
    if curve.by_k:
        best = curve.recommended
        ks = [point.k for point in curve.by_k]
        _radii(rows[row][0], ks, curve.by_k, "k", None if best is None else best.k, curve.norm)
        _gaps(rows[row][1], ks, curve.by_k, "k")
        row += 1
    if curve.by_k2:
        k2s = [point.k2 for point in curve.by_k2]
        _radii(rows[row][0], k2s, curve.by_k2, f"k2, with k = {curve.explanation.top.k}", None, curve.norm)
        _gaps(rows[row][1], k2s, curve.by_k2, "k2")
    return figure


def _radii(
    axes: Axes, ranks: list[int], points: tuple[CurvePoint, ...], name: str, marked: int | None, norm: Norm
) -> None:
    certified = [point.certified or np.nan for point in points]
    attacked = [np.nan if point.attacked is None else point.attacked for point in points]
    axes.fill_between(ranks, certified, attacked, color="#DDDDDD", label="open")
    axes.plot(ranks, attacked, "x-", color=LOST, markersize=5, linewidth=1, label="witness")
    axes.plot(ranks, certified, "o-", color=KEPT, markersize=4, linewidth=1, label="certified, exact")
    bounds = [point.bounds or np.nan for point in points]
    axes.plot(ranks, bounds, "s:", color=_BOUNDS, markersize=3, linewidth=1, label="certified, bounds alone")
    if marked is not None:
        axes.axvline(marked, color=KEPT, linewidth=0.8, linestyle=":")
    axes.set_xlabel(name, fontsize=9)
    axes.set_ylabel(wording.size_of_change(norm), fontsize=9)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


def _gaps(axes: Axes, ranks: list[int], points: tuple[CurvePoint, ...], name: str) -> None:
    axes.bar(ranks, [100 * point.gap for point in points], color="#777777", width=0.7)
    axes.set_xlabel(name, fontsize=9)
    axes.set_ylabel(f"gap of the map behind rank {name[:2].rstrip(',')}, %", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25)
