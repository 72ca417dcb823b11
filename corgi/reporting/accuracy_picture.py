"""The picture of `corgi batch --radii`: of how many images the property is certified, refuted or open."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from corgi.reporting.marks import KEPT, LOST
from corgi.reporting.picture import new_figure
from corgi.reporting.wording import percent_down, percent_up
from corgi.terms import Norm

if TYPE_CHECKING:
    from corgi.reporting.summary import AccuracyCurve, Decided

_OPEN, _FAILS = "#DDDDDD", "#8A8A8A"


def accuracy_picture(curve: AccuracyCurve) -> Figure:
    """Shares of all images, one above the other, against the radius; lines at the radii asked for."""
    figure = new_figure(5.2)
    images = curve.decided[0].images
    title = f"{images:,} image{'' if images == 1 else 's'}: {curve.asked}"
    figure.suptitle(textwrap.fill(title, 100), fontsize=12, fontweight="bold")
    axes = figure.add_subplot()
    # In l_inf, people think in steps of 8-bit pictures; of changes, in per cent.
    unit = 1.0 if curve.norm not in (None, Norm.LINF) else curve.measure.unit
    _areas(axes, curve, unit)
    for row in curve.decided:
        _said(axes, row, unit, at_end=row.radius >= curve.between[-1].radius)
    low, high = curve.between[0].radius, curve.between[-1].radius
    if curve.far:
        axes.set_xscale("log")
    axes.set_xlim(low * unit, high * unit)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_ylabel("share of all images", fontsize=9)
    scale = "in 1/255" if unit > 1 else "pixel scale [0, 1]"
    scale, name = (
        (f"in {curve.measure.suffix.strip()}", "size")
        if curve.norm is None
        else (scale, f"{curve.norm.label} radius")
    )
    axes.set_xlabel(f"{name}, {scale}: {curve.changing}", fontsize=9)
    axes.tick_params(which="both", labelsize=8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _areas(axes: Axes, curve: AccuracyCurve, unit: float) -> None:
    """Certified from below, refuted from above, what is between them open.

    Between two radii at which shares are known the smaller one is drawn of either: what is certified at the
    larger of them, what is refuted at the smaller one.
    """
    rows, images, holds = curve.between, curve.decided[0].images, curve.decided[0].holds
    radii, top = [row.radius * unit for row in rows], holds / images
    certified = [row.certified / images for row in rows]
    left = [(holds - row.refuted) / images for row in rows]
    fails = "not true of the image itself, or no answer"
    axes.fill_between(radii, certified, 0.0, step="pre", facecolor=KEPT, label="certified")
    axes.fill_between(radii, top, 0.0, facecolor=_OPEN, zorder=0, label="open")
    axes.fill_between(
        radii, top, left, step="post", facecolor=LOST, label="refuted by a witness", hatch="//",
        edgecolor="white", linewidth=0.0,
    )  # fmt: skip
    axes.fill_between(radii, 1.0, top, facecolor=_FAILS, label=fails)


def _said(axes: Axes, row: Decided, unit: float, *, at_end: bool) -> None:
    """A radius that was asked for, and its shares; at the end of the axis left of its line."""
    certified, refuted, opened = (count / row.images for count in (row.certified, row.refuted, row.open))
    text = f"certified {percent_down(certified)}\nopen {percent_up(opened)}\nrefuted {percent_down(refuted)}"
    axes.axvline(row.radius * unit, color="black", linewidth=0.8, linestyle=":")
    side, shift = ("right", -4) if at_end else ("left", 4)
    axes.annotate(
        text, (row.radius * unit, 0.02), textcoords="offset points", xytext=(shift, 0), fontsize=8, ha=side,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip
