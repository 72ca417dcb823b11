"""The picture of `corgi smooth`: base map, smoothed map, and what is certified of its pixels."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from corgi.reporting.marks import GAINED, KEPT, LOST
from corgi.reporting.picture import display, draw_map, extent_of, new_figure
from corgi.reporting.smoothing import no_guarantee, smooth_document
from corgi.reporting.wording import class_label
from corgi.results import Claim, FloatArray, SmoothResult, StatisticalCertificate

_Groups = list[tuple[str, str, tuple[int, ...]]]


def smooth_picture(result: SmoothResult) -> Figure:
    """Image, base map, smoothed map, certified pixels; below, the claim in words, and the curve."""
    certificate = result.certificate
    figure = new_figure(5.4 if certificate.curve else 4.6)
    label = class_label(result.class_id, result.class_name)
    title = f"{label}, {certificate.claim} certificate, k = {certificate.k}: {certificate.status}"
    figure.suptitle(title, fontsize=12, fontweight="bold")
    grid = figure.add_gridspec(2, 4, height_ratios=[1.0, 0.55 if certificate.curve else 0.28])
    axes = [figure.add_subplot(grid[0, column]) for column in range(4)]
    axes[0].imshow(display(result.image), extent=extent_of(result.mean), interpolation="nearest")
    _frame(axes[0], "image")
    _map(axes[1], result.base, "base map, without noise")
    noise = certificate.sampling
    _map(axes[2], result.mean, f"smoothed: {noise.samples} samples, sigma {noise.sigma:g}")
    _certified(axes[3], result)
    document = smooth_document(result)
    claim = document.guarantee
    words = figure.add_subplot(grid[1, :2] if certificate.curve else grid[1, :])
    words.set_axis_off()
    text = textwrap.fill(claim or no_guarantee(document), 64 if certificate.curve else 128)
    colour = KEPT if claim else "black"
    words.text(
        0.0, 1.0, text, transform=words.transAxes, va="top", fontsize=10.5, fontweight="bold", color=colour
    )
    if certificate.curve:
        _curve(figure.add_subplot(grid[1, 2:]), certificate)
    return figure


def _curve(axes: Axes, certificate: StatisticalCertificate) -> None:
    """How many pixels stay at least, against the radius; the claim as a point."""
    overlaps, radii = zip(*certificate.curve, strict=True)
    # At radii up to radii[i] overlaps[i] stay; beyond the last nothing is known.
    x, y = [0.0, *radii], [overlaps[0], *overlaps]
    axes.step(x, y, where="pre", color=KEPT, linewidth=2)
    axes.fill_between(x, y, step="pre", color=KEPT, alpha=0.15, linewidth=0)
    if certificate.overlap is not None:
        axes.plot([certificate.radius], [certificate.overlap], "o", color="black", markersize=5)
    axes.set(xlim=(0, radii[-1] * 1.05), ylim=(0, certificate.k * 1.08))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set_xlabel(f"{certificate.norm_label} radius, scale [0, 1]", fontsize=9)
    axes.set_ylabel(f"of {certificate.k} stay", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def _groups(certificate: StatisticalCertificate) -> tuple[str, _Groups]:
    """Title, and groups (name, colour, pixels) of the last panel."""
    k, top = certificate.k, certificate.pixels
    if certificate.claim is Claim.PIXELS and certificate.inside is not None:
        decided = {*certificate.inside, *(certificate.outside or ())}
        height, width = certificate.sampling.map_shape
        rest = tuple(i for i in range(height * width) if i not in decided)
        return "certified, each pixel by itself", [
            ("inside", KEPT, certificate.inside),
            ("abstain", GAINED, rest),
        ]
    if certificate.ranks is not None:
        kept = tuple(i for i, rank in zip(top, certificate.ranks, strict=True) if rank <= k)
        others = tuple(i for i in top if i not in kept)
        return "certified ranks", [(f"rank <= {k}", KEPT, kept), (f"rank > {k}", GAINED, others)]
    if certificate.overlap is not None:
        return f"at least {certificate.overlap} of these {k} stay", [("largest pixels", KEPT, top)]
    return f"its {k} largest pixels", [("not certified", LOST, top)]


def _certified(axes: Axes, result: SmoothResult) -> None:
    """Groups of pixels on the image in faint grey."""
    extent = extent_of(result.mean)
    grey = np.repeat(display(result.image).mean(2, keepdims=True), 3, axis=2)
    axes.imshow(0.45 + 0.55 * grey, extent=extent, interpolation="nearest")
    title, groups = _groups(result.certificate)
    layer = np.zeros((result.mean.size, 4))
    for _, colour, members in groups:
        layer[list(members)] = to_rgba(colour, 0.85)
    axes.imshow(layer.reshape(*result.mean.shape, 4), extent=extent, interpolation="nearest")
    handles = [
        Line2D([], [], linestyle="", marker="s", markersize=8, color=colour, label=f"{name}: {len(members)}")
        for name, colour, members in groups
    ]
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, frameon=False,
        handletextpad=0.1, columnspacing=1.0, fontsize=9,
    )  # fmt: skip
    _frame(axes, title)


def _map(axes: Axes, values: FloatArray, title: str) -> None:
    draw_map(axes, values, title)


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])
