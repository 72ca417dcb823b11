"""Pictures of results, laid out like figure 1 of Gu et al.: image, map and largest pixels, before and after.

Drawn with matplotlib's object interface, so nothing here touches global state or a screen. Colours are those
of Okabe and Ito; kept, lost and gained pixels differ by their mark as well, so a grey print can be read.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from corgi.properties.topk import Topk
from corgi.reporting import wording
from corgi.reporting.document import VerifyDocument, verify_document
from corgi.reporting.marks import KEPT, LOST, Shown, after, before, wrapped
from corgi.reporting.marks import changes as changes
from corgi.reporting.wording import class_label, round_down, round_up
from corgi.results import FloatArray, ImageArray, MapKind, Mapped, Statement, VerifyResult, Witness
from corgi.terms import Norm

if TYPE_CHECKING:
    from corgi.certify.attack import AttackResult
    from corgi.certify.explain import Explanation

MAP_COLOURS = "viridis"
PERTURBATION_PEAK = 0.45
"""An amplified perturbation fills the grey scale up to this distance from middle grey."""


@dataclass(frozen=True)
class _Scene:
    """What all panels of a picture share.

    Attributes:
        background: the image for display [H, W, 3].
        limits: the range of maps; map_kind: their kind.
        mapped: the map at the image; asked: what is asked of it; k2: among how many the set must stay.
    """

    background: NDArray[np.float64]
    limits: tuple[float, float]
    map_kind: MapKind
    mapped: Mapped
    asked: Statement
    k2: int


def verify_picture(result: VerifyResult) -> Figure:
    """Image, map and largest pixels; what is certified; and the witness, if there is one."""
    witness = None if result.attack is None else result.attack.witness
    heights = [1.0, 0.95] + ([1.0] if witness is not None else [])
    figure = new_figure(3.15 * sum(heights) + 0.6)
    figure.suptitle(_title(result), fontsize=12, fontweight="bold")
    grid = figure.add_gridspec(len(heights), 4, height_ratios=heights)
    maps = [result.cam] if witness is None else [result.cam, witness.cam]
    scene = _Scene(
        display(result.image),
        (min(m.min() for m in maps), max(m.max() for m in maps)),
        result.map_kind,
        result,
        result.certificate.statement,
        result.certificate.k2,
    )
    top = [figure.add_subplot(grid[0, column]) for column in range(4)]
    _original_row(top, scene)
    certified = result.certificate.radius > 0
    middle = grid[1, : 3 if certified else 4].subgridspec(2, 1, height_ratios=[1.0, 0.9])
    document = verify_document(result)
    _statement(figure.add_subplot(middle[0]), document)
    _bracket(figure.add_subplot(middle[1]), document)
    if certified:
        title = f"up to {round_down(result.certificate.radius)}:{_same(result)}"
        shown = replace(before(scene.asked, result), title=title)
        _largest(figure.add_subplot(grid[1, 3]), scene, result.cam, shown)
    if witness is not None:
        bottom = [figure.add_subplot(grid[2, column]) for column in range(4)]
        _witness_row(bottom, scene, result.image, result.class_id, witness)
    return figure


def attack_picture(result: AttackResult) -> Figure:
    """Image, map and largest pixels; and the witness, if the attack found one."""
    explanation, witness = result.explanation, result.found.witness
    image, cam, top = explanation.image, explanation.cam, explanation.top
    kind = explanation.network.map_kind
    maps = [cam] if witness is None else [cam, witness.cam]
    figure = new_figure(3.4 * len(maps) + 0.4)
    label = class_label(explanation.class_id, explanation.class_name)
    found = "no witness" if witness is None else f"witness at distance {round_up(witness.radius)}"
    asked = result.asked.statement(top.k)
    what = f"k = {top.k}" if asked.name == "topk" else asked.name
    figure.suptitle(f"Attack on the map of {label}, {what}: {found}", fontsize=12, fontweight="bold")
    limits = (min(m.min() for m in maps), max(m.max() for m in maps))
    scene = _Scene(display(image), limits, kind, explanation, asked, result.k2)
    rows = figure.subplots(len(maps), 4, squeeze=False)
    _original_row(list(rows[0]), scene)
    if witness is not None:
        _witness_row(list(rows[1]), scene, image, explanation.class_id, witness)
    return figure


def cam_picture(explanation: Explanation) -> Figure:
    """Image, its map and its largest pixels."""
    figure = new_figure(3.6)
    label = class_label(explanation.class_id, explanation.class_name)
    axes = [figure.add_subplot(1, 4, column + 1) for column in range(4)]
    cam = explanation.cam
    kind = explanation.network.map_kind
    figure.suptitle(f"{wording.map_title(kind)} of {label}", fontsize=12, fontweight="bold")
    limits, k = (float(cam.min()), float(cam.max())), explanation.top.k
    scene = _Scene(display(explanation.image), limits, kind, explanation, Topk().statement(k), k)
    _original_row(axes, scene)
    return figure


def picture_bytes(figure: Figure, ending: str) -> bytes:
    """A figure as a file of one of `PICTURE_FORMATS`; equal figures give equal PNG files."""
    target = BytesIO()
    figure.savefig(target, format=ending, dpi=150)
    return target.getvalue()


def display(image: ImageArray) -> NDArray[np.float64]:
    """A network input [C, H, W] as [H, W, 3] in [0, 1]; colour if it has three channels, else their mean."""
    pixels = np.asarray(image, dtype=np.float64).transpose(1, 2, 0)
    if pixels.shape[2] != 3:
        pixels = np.repeat(pixels.mean(2, keepdims=True), 3, axis=2)
    return np.clip(pixels, 0.0, 1.0)


def new_figure(height: float) -> Figure:
    """A figure as wide as all pictures of corgi; height in inches."""
    return Figure(figsize=(12, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def _same(result: VerifyResult) -> str:
    asked, k, k2 = result.certificate.statement, result.certificate.k, result.certificate.k2
    if asked.name != "topk":
        return f"\n{wrapped(str(asked))}"
    return " the same set" if k2 == k else f" among the {k2} largest"


def _title(result: VerifyResult) -> str:
    k, k2 = result.certificate.k, result.certificate.k2
    ranks = f"k = {k}" if k2 == k else f"k = {k}, k2 = {k2}"
    if result.certificate.statement.name != "topk":
        ranks = result.certificate.statement.name
    return f"{class_label(result.class_id, result.class_name)}, {ranks}: {wording.headline(result.status)}"


def _original_row(axes: list[Axes], scene: _Scene) -> None:
    cam = scene.mapped.cam
    _image(axes[0], scene.background, cam, "image")
    _image(axes[1], scene.background, cam, "map over the image")
    over, _ = in_units(cam)
    axes[1].imshow(over, cmap=MAP_COLOURS, alpha=0.55, extent=extent_of(cam), interpolation="bilinear")
    _map(axes[2], scene, cam, wording.map_title(scene.map_kind))
    _largest(axes[3], scene, cam, before(scene.asked, scene.mapped))
    for each in axes[:3]:
        _outline(each, scene)


def _witness_row(axes: list[Axes], scene: _Scene, image: ImageArray, class_id: int, witness: Witness) -> None:
    _image(axes[0], display(witness.image), witness.cam, f"witness at distance {round_up(witness.radius)}")
    change = witness.image.astype(np.float64) - image.astype(np.float64)
    _perturbation(axes[1], change, witness.cam)
    _map(axes[2], scene, witness.cam, f"map of the witness (class {class_id})")
    shown = after(scene.asked, scene.mapped, witness, scene.k2)
    _largest(axes[3], scene, witness.cam, shown)
    for each in axes[:3]:
        _outline(each, scene)
    handles = [
        Line2D([], [], linestyle="", marker="s", markersize=8, color=group.colour, label=group.name)
        for group in shown.groups
    ]
    if handles:
        axes[3].legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, frameon=False,
            handletextpad=0.1, columnspacing=1.0, fontsize=9,
        )  # fmt: skip


def _outline(axes: Axes, scene: _Scene) -> None:
    outline(axes, scene.asked, scene.mapped.map_shape)


def outline(axes: Axes, asked: Statement, map_shape: tuple[int, int]) -> None:
    """The edge of a property's region, if it has one: white on black, to be seen on any map."""
    if asked.region is None:
        return
    height, width = map_shape
    inside = np.zeros((height + 2, width + 2), dtype=bool)
    inside[1:-1, 1:-1].flat[list(asked.region)] = True
    rows, columns = np.nonzero(inside[:-1] != inside[1:])
    edges = [[(c - 1, r), (c, r)] for r, c in zip(rows.tolist(), columns.tolist(), strict=True)]
    rows, columns = np.nonzero(inside[:, :-1] != inside[:, 1:])
    edges += [[(c, r - 1), (c, r)] for r, c in zip(rows.tolist(), columns.tolist(), strict=True)]
    for colour, line in (("black", 2.6), ("white", 1.2)):
        axes.add_collection(LineCollection(edges, colors=colour, linewidths=line, capstyle="projecting"))


def _perturbation(axes: Axes, change: NDArray[np.float64], cam: FloatArray) -> None:
    """The change [C, H, W] around middle grey, amplified until its largest entry is clearly visible."""
    largest = float(np.abs(change).max())
    factor = PERTURBATION_PEAK / largest if largest > 0 else 1.0
    shown = 0.5 + factor * change.transpose(1, 2, 0)
    if shown.shape[2] != 3:
        shown = np.repeat(shown.mean(2, keepdims=True), 3, axis=2)
    _image(axes, np.clip(shown, 0.0, 1.0), cam, f"what was changed, times {factor:.0f}")


def _image(axes: Axes, pixels: NDArray[np.float64], cam: FloatArray, title: str) -> None:
    axes.imshow(pixels, extent=extent_of(cam), interpolation="nearest")
    _frame(axes, title)


def _map(axes: Axes, scene: _Scene, cam: FloatArray, title: str) -> None:
    draw_map(axes, cam, title, scene.limits)
    axes.autoscale(enable=False)


def draw_map(
    axes: Axes, cam: FloatArray, title: str, limits: tuple[float, float] | None = None, *, bar: bool = True
) -> None:
    """A map [h, w] in colours from the smaller to the larger limit (by default its own), and what they mean.

    A map with nothing to tell apart is drawn, too, and its title says so.
    """
    (low, high), unit = in_units(np.array(limits or (cam.min(), cam.max()), dtype=np.float64))
    drawn = axes.imshow(
        cam / unit, cmap=MAP_COLOURS, vmin=low, vmax=high, extent=extent_of(cam), interpolation="nearest"
    )
    notes = [f"all values are {cam.flat[0]:.4g}"] if cam.min() == cam.max() else []
    notes += [] if unit == 1 else [f"in units of {unit:.0e}"]
    axes.set_title("\n".join([title, *notes]), fontsize=10)
    axes.set(xticks=[], yticks=[])
    figure = axes.get_figure()
    if bar and figure is not None:
        figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03).ax.tick_params(labelsize=7)


def in_units(values: FloatArray) -> tuple[FloatArray, float]:
    """Values that matplotlib can compute with: beyond 1e100 or below 1e-100, in units of a power of 10."""
    peak = float(np.abs(values).max())
    if peak == 0 or 1e-100 < peak < 1e100:
        return values, 1.0
    unit = max(10.0 ** math.floor(math.log10(peak)), 1e-300)
    return values / unit, unit


def _largest(axes: Axes, scene: _Scene, cam: FloatArray, shown: Shown) -> None:
    """Pixels of the map, by group, on the image in faint grey."""
    faint = 0.45 + 0.55 * np.repeat(scene.background.mean(2, keepdims=True), 3, axis=2)
    axes.imshow(faint, extent=extent_of(cam), interpolation="nearest")
    width = cam.shape[1]
    # A mark as large as half a map pixel: panels are about 2.6 inches wide, 72 points an inch.
    size = max(0.5 * 72 * 2.6 / max(cam.shape), 2.0)
    for group in shown.groups:
        for index in group.pixels:
            row, column = divmod(index, width)
            axes.add_patch(
                Rectangle((column, row), 1, 1, facecolor=group.colour, edgecolor="black", linewidth=0.6)
            )
            if group.mark:
                axes.plot(
                    column + 0.5, row + 0.5, group.mark, color="black", markersize=size, markeredgewidth=1.1
                )
    for (row, column), mark in shown.points:
        colour = "white" if mark == "*" else LOST
        axes.plot(
            column + 0.5, row + 0.5, mark, color=colour, markeredgecolor="black" if mark == "*" else LOST,
            markersize=2 * size, markeredgewidth=0.8 if mark == "*" else 1.6,
        )  # fmt: skip
    if shown.box is not None:
        (row, column), within = shown.box
        corner, side = (column + 0.5 - within, row + 0.5 - within), 2 * within
        axes.add_patch(Rectangle(corner, side, side, facecolor="none", edgecolor=KEPT, linewidth=1.6))
    _outline(axes, scene)
    _frame(axes, shown.title)


def _statement(axes: Axes, document: VerifyDocument) -> None:
    """What holds, what was found, in words."""
    axes.set_axis_off()
    colour = KEPT if document.certified_radius > 0 else "black"
    text = textwrap.fill(document.guarantee or wording.no_guarantee(document), 92)
    axes.text(
        0.0, 1.0, text, transform=axes.transAxes, va="top", fontsize=11, fontweight="bold", color=colour
    )
    text = textwrap.fill(wording.finding(document), 112)
    axes.text(0.0, 0.4, text, transform=axes.transAxes, va="top", fontsize=9.5, color="black")


def _bracket(axes: Axes, document: VerifyDocument) -> None:
    """The radii on one axis: certified up to here, changed from there on, and what is open between."""
    certified, attacked = document.certified_radius, document.attack_radius
    end = 1.25 * max(attacked or 0.0, certified, document.uncertified_radius or 0.0) or 1.0
    axes.barh(0, certified, height=0.5, color=KEPT)
    if attacked is not None:
        axes.barh(0, end - attacked, left=attacked, height=0.5, color=LOST, hatch="//", edgecolor="white")
    open_end = end if attacked is None else attacked
    axes.barh(0, max(open_end - certified, 0), left=certified, height=0.5, color="#DDDDDD")
    axes.annotate(
        f"certified up to {round_down(certified)}" if certified > 0 else "nothing certified",
        (certified, 0.25), (0.0, 0.62), ha="left", color=KEPT, fontsize=10, fontweight="bold",
    )  # fmt: skip
    if attacked is not None:
        text = f"changed from {round_up(attacked)} on"
        axes.text(end, -0.45, text, ha="right", va="top", color=LOST, fontsize=10, fontweight="bold")
    axes.set(xlim=(0, end), ylim=(-0.95, 1.0), yticks=[])
    axes.set_xlabel(f"{wording.size_of_change(Norm(document.norm))}, scale [0, 1]", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["left", "right", "top"]].set_visible(False)


def extent_of(cam: FloatArray) -> tuple[float, float, float, float]:
    """All panels in the coordinates of the map, so that an image pixel lies where the map shows it."""
    height, width = cam.shape
    return (0.0, float(width), float(height), 0.0)


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])
    axes.autoscale(enable=False)
