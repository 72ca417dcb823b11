"""What margins depend on: the pixels and undecided windows of their cone, everything else substituted away.

With d the deviations of the pixels and y those of the undecided windows (theory 1.10),

    margin_p = c_p + x_p . d + Y_p . y,        y_w = max_e (lead_e + X_e . d + Y_e . y),

the maximum over the live elements of window w, where Y_e only reads windows of earlier layers. A margin of
the paper's network has some 20 to 250 undecided windows and 1100 pixels near the radius that matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.patch.affine import AffineRows, affine_rows
from corgi.engines.patch.backward import ACTIVATIONS, MaximumLines
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.cones import cone_masks
from corgi.engines.patch.maximum import Planes
from corgi.engines.patch.patches import Patches
from corgi.engines.patch.prepare import Maximum
from corgi.network.convert import TorchGraph


@dataclass(frozen=True)
class ConeLayer:
    """The undecided windows of one Maximum, W of them, with Q live elements that are not the zero.

    Attributes:
        start: number of the first of its windows in the cone.
        planes: linear bounds of the windows, live elements and leads; rows in the order of the windows.
        window, element: int64 [Q], whose row is which.
        image: float64 [Q, pixels]; earlier: [Q, start], coefficients on windows of earlier layers.
        error: by how much each row may be off anywhere in the ball, [Q].
        lower, upper: deviations of each window, [W].
    """

    start: int
    planes: Planes
    window: Tensor
    element: Tensor
    image: Tensor
    earlier: Tensor
    error: Tensor
    lower: Tensor
    upper: Tensor

    def __len__(self) -> int:
        return len(self.planes.live)

    @property
    def leads(self) -> Tensor:
        """Leads of the live elements, -inf for others: [W, E]."""
        return torch.where(self.planes.live, self.planes.lead, -torch.inf)

    def elements(self, deviations: Tensor, windows: Tensor) -> Tensor:
        """All elements, lead included, at N points [N, pixels] with known earlier windows: [N, W, E]."""
        rows = deviations @ self.image.T + windows[:, : self.start] @ self.earlier.T
        values = self.leads.expand(len(deviations), -1, -1).clone()
        values[:, self.window, self.element] += rows
        return values


@dataclass(frozen=True)
class NotUnfolded:
    """Why there is no cone.

    Attributes:
        reason: for people.
    """

    reason: str


@dataclass(frozen=True)
class Cone:
    """P margins over one ball, exact up to the errors they carry.

    Attributes:
        pixels: int64, places in the flattened image [C, H, W] of the pixels that have a coefficient.
        lower, upper: their deviations, float64.
        constant: the margins in the middle of the ball, rounded down by their errors: float64 [P].
        error: how far below the truth that may be, [P]; errors of layers not counted.
        image, windows: the margins' coefficients, [P, pixels] and [P, windows].
        layers: first to last.
    """

    pixels: Tensor
    lower: Tensor
    upper: Tensor
    constant: Tensor
    error: Tensor
    image: Tensor
    windows: Tensor
    layers: tuple[ConeLayer, ...]

    @property
    def undecided(self) -> int:
        """Number of undecided windows."""
        return self.windows.shape[1]

    def margins(self, deviations: Tensor) -> Tensor:
        """The margins at points [N, pixels]: [N, P]. By plain float64, so up to rounding."""
        return self.constant + deviations @ self.image.T + self.outputs(deviations) @ self.windows.T

    def largest(self, deviations: Tensor) -> Tensor:
        """The largest margin at points [N, pixels], errors added: < 0 where all margins should be. [N]."""
        return (self.margins(deviations) + 2 * self.error).amax(1)

    def maxima(self, deviations: Tensor) -> list[int]:
        """Which element is the maximum of each window at a point [pixels]."""
        outputs, found = self.outputs(deviations[None]), []
        for layer in self.layers:
            found.extend(layer.elements(deviations[None], outputs)[0].argmax(-1).tolist())
        return found

    def outputs(self, deviations: Tensor) -> Tensor:
        """What the undecided windows return at points [N, pixels]: [N, windows]."""
        found = deviations.new_zeros(len(deviations), self.undecided)
        for layer in self.layers:
            end = layer.start + len(layer)
            found[:, layer.start : end] = layer.elements(deviations, found).amax(-1)
        return found


def is_piecewise_linear(graph: TorchGraph) -> bool:
    """Whether all activations are maxima, so that margins can be unfolded."""
    kinds = [type(step.layer) for step in graph.steps if isinstance(step.layer, ACTIVATIONS)]
    return all(kind is Maximum for kind in kinds)


def too_large(bounds: BallBounds, value: str, rows: Patches, budget: int) -> NotUnfolded | None:
    """Whether the coefficients of a cone, all of them written out, would need more bytes than a budget."""
    masks = cone_masks(bounds.graph, {value: _where(bounds, value, rows)}, bounds.relaxation.shape)
    elements = windows = 0
    for step in bounds.graph.steps:
        if isinstance(step.layer, Maximum) and step.output in masks:
            lines = bounds.relaxation.lines(step.output)
            assert isinstance(lines, MaximumLines)
            _, _, y, x = lines.planes.units.unbind(1)
            inside = masks[step.output][0, y, x]
            windows += int(inside.sum())
            elements += int(lines.planes.live[inside].sum())
    pixels = len(_columns(bounds, value, rows))
    if 8 * (elements + windows) * (pixels + windows) <= budget:
        return None
    return NotUnfolded(f"a margin depends on {pixels} pixels and up to {windows} undecided windows")


def cone_of(
    bounds: BallBounds, value: str, rows: Patches, at_centre: Tensor, off: Tensor | float = 0.0
) -> Cone:
    """Unfold P rows on a value over one ball.

    Args:
        bounds: float64 bounds of the ball, refined for the rows.
        value: what the rows read.
        rows: their coefficients.
        at_centre: lower bounds of the rows in the middle of the ball, float64 [P].
        off: by how much they may be too low, [P].
    """
    graph, known = bounds.graph, bounds.relaxation.intervals
    columns = _columns(bounds, value, rows)
    margins = affine_rows(bounds, value, rows, columns)
    # From the last layer to the first: which windows are met, and by which coefficients.
    parts: dict[str, _Part] = {}
    for step in reversed(graph.steps):
        if not isinstance(step.layer, Maximum):
            continue
        readers = [margins, *(part.rows for part in parts.values())]
        met = [reader.windows[step.output][1] for reader in readers if step.output in reader.windows]
        places = torch.unique(torch.cat(met)) if met else torch.zeros(0, dtype=torch.int64)
        if len(places) == 0:
            continue
        lines = bounds.relaxation.lines(step.output)
        assert isinstance(lines, MaximumLines)
        planes = lines.planes.chosen(places)
        window, element = planes.live[:, 1:].nonzero(as_tuple=True)
        weights = F.one_hot(element, planes.live.shape[1] - 1).to(torch.float64)
        source, patches, error = bounds.window_patches(step, step.layer, planes.units[window], weights)
        found = affine_rows(bounds, source, patches, columns)
        at = planes.units.unbind(1)
        ends = known[step.output].lower[at], known[step.output].upper[at]
        parts[step.output] = _Part(places, planes, window, element + 1, found, error + found.error, *ends)
    starts, total = {}, 0
    for name in reversed(parts):
        starts[name] = total
        total += len(parts[name].places)

    def on_windows(reader: AffineRows, count: int) -> Tensor:
        dense = torch.zeros(len(reader.error), count, dtype=torch.float64)
        for at, (row, place, amount) in reader.windows.items():
            if len(row):
                column = starts[at] + torch.searchsorted(parts[at].places, place)
                dense.index_put_((row, column), amount, accumulate=True)
        return dense

    # Where the pixels of a patch do not matter: between two cones, or behind windows that are decided at 0.
    matter = (margins.image != 0).any(0)
    for part in parts.values():
        matter |= (part.rows.image != 0).any(0)
    columns = columns[matter]
    layers = tuple(
        ConeLayer(
            starts[name],
            part.planes,
            part.window,
            part.element,
            part.rows.image[:, matter],
            on_windows(part.rows, starts[name]),
            part.error,
            part.lower,
            part.upper,
        )
        for name, part in reversed(parts.items())
    )
    box = known[graph.input_name]
    return Cone(
        columns,
        box.lower.flatten()[columns],
        box.upper.flatten()[columns],
        at_centre - margins.error,
        margins.error + off,
        margins.image[:, matter],
        on_windows(margins, total),
        layers,
    )


def _columns(bounds: BallBounds, value: str, rows: Patches) -> Tensor:
    """The pixels that rows read, among all of the flattened image."""
    name = bounds.graph.input_name
    mask = cone_masks(bounds.graph, {value: _where(bounds, value, rows)}, bounds.relaxation.shape)[name]
    channels = bounds.relaxation.intervals[name].lower.shape[1]
    return mask.expand(channels, -1, -1).flatten().nonzero().reshape(-1)


def _where(bounds: BallBounds, value: str, rows: Patches) -> Tensor:
    """The places of a value that rows read: bool [1, H, W]."""
    (height, width), (high, wide) = bounds.relaxation.shape(value), rows.size
    where = torch.zeros(1, height, width, dtype=torch.bool)
    for top, left in zip(rows.places.top.tolist(), rows.places.left.tolist(), strict=True):
        where[:, max(top, 0) : top + high, max(left, 0) : left + wide] = True
    return where


@dataclass(frozen=True)
class _Part:
    """The windows of one Maximum, before they are numbered."""

    places: Tensor
    planes: Planes
    window: Tensor
    element: Tensor
    rows: AffineRows
    error: Tensor
    lower: Tensor
    upper: Tensor
