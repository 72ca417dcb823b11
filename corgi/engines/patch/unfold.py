"""Margins as piecewise linear functions of their cone (engines/cone.py): rows stop at undecided windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.engines.cone import Cone, ConeLayer, NotUnfolded
from corgi.engines.patch.affine import AffineRows, affine_rows
from corgi.engines.patch.backward import ACTIVATIONS, MaximumLines
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.cones import cone_masks
from corgi.engines.patch.maximum import Planes
from corgi.engines.patch.patches import Patches
from corgi.engines.patch.prepare import Maximum
from corgi.network.convert import TorchGraph


def is_piecewise_linear(graph: TorchGraph) -> bool:
    """Whether all activations are maxima, so that margins can be unfolded."""
    kinds = [type(step.layer) for step in graph.steps if isinstance(step.layer, ACTIVATIONS)]
    return all(kind is Maximum for kind in kinds)


def unfolded(
    bounds: BallBounds, value: str, rows: Patches, at_centre: Tensor, off: Tensor, budget: int
) -> Cone | NotUnfolded:
    """`cone_of`, if all coefficients of the cone, written out, need no more bytes than a budget."""
    if bounds.relaxation.dtype is not torch.float64:
        return NotUnfolded("margins are decided exactly in float64 only")
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
    if 8 * (elements + windows) * (pixels + windows) > budget:
        return NotUnfolded(f"a margin depends on {pixels} pixels and up to {windows} undecided windows")
    return cone_of(bounds, value, rows, at_centre, off)


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
    columns = _columns(bounds, value, rows)
    margins = affine_rows(bounds, value, rows, columns)
    parts = _parts(bounds, margins, columns)
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

    # Where the pixels of a patch do not matter: between two cones, behind windows that are decided at 0, or
    # where their deviations are exactly 0.
    box = bounds.relaxation.intervals[bounds.graph.input_name]
    lower, upper = (end.flatten()[columns] for end in (box.lower, box.upper))
    matter = (margins.image != 0).any(0)
    for part in parts.values():
        matter |= (part.rows.image != 0).any(0)
    matter &= (lower < 0) | (upper > 0)
    return Cone(
        columns[matter],
        lower[matter],
        upper[matter],
        at_centre - margins.error,
        margins.error + off,
        margins.image[:, matter],
        on_windows(margins, total),
        tuple(
            part.layer(starts[name], matter, on_windows(part.rows, starts[name]))
            for name, part in reversed(parts.items())
        ),
    )


@dataclass(frozen=True)
class _Part:
    """The windows of one Maximum, before they are numbered; places: which of its undecided windows."""

    places: Tensor
    planes: Planes
    window: Tensor
    element: Tensor
    rows: AffineRows
    error: Tensor
    ends: tuple[Tensor, Tensor]

    def layer(self, start: int, matter: Tensor, earlier: Tensor) -> ConeLayer:
        """The same, numbered from `start`, on the pixels that matter."""
        planes, image = self.planes, self.rows.image[:, matter]
        drawn = (planes.live, planes.lead, planes.low, planes.up, planes.up_shift, planes.slack)
        return ConeLayer(start, *drawn, self.window, self.element, image, earlier, self.error, *self.ends)


def _parts(bounds: BallBounds, margins: AffineRows, columns: Tensor) -> dict[str, _Part]:
    """Which windows are met, and by which coefficients: from the last layer to the first."""
    known, parts = bounds.relaxation.intervals, dict[str, _Part]()
    for step in reversed(bounds.graph.steps):
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
        source, patches, error = bounds.builder.window_patches(
            step, step.layer, planes.units[window], weights
        )
        found = affine_rows(bounds, source, patches, columns)
        at = planes.units.unbind(1)
        ends = known[step.output].lower[at], known[step.output].upper[at]
        parts[step.output] = _Part(places, planes, window, element + 1, found, error + found.error, ends)
    return parts


def _columns(bounds: BallBounds, value: str, rows: Patches) -> Tensor:
    """The pixels that rows read, among all of the flattened image."""
    name = bounds.graph.input_name
    mask = cone_masks(bounds.graph, {value: _where(bounds, value, rows)}, bounds.relaxation.shape)[name]
    channels = bounds.relaxation.channels(name)
    return mask.expand(channels, -1, -1).flatten().nonzero().reshape(-1)


def _where(bounds: BallBounds, value: str, rows: Patches) -> Tensor:
    """The places of a value that rows read: bool [1, H, W]."""
    (height, width), (high, wide) = bounds.relaxation.shape(value), rows.size
    where = torch.zeros(1, height, width, dtype=torch.bool)
    for top, left in zip(rows.places.top.tolist(), rows.places.left.tolist(), strict=True):
        where[:, max(top, 0) : top + high, max(left, 0) : left + wide] = True
    return where
