"""Jacobian rows as functions of the derivatives of undecided windows, and the dual norm they can reach.

With G_w the gradient of undecided window w, over its live elements e a convex combination l_we of theirs,

    J = x + sum_w Y_w G_w,        G_w = sum_e l_we (X_we + sum over earlier v of Y_wev G_v),

where x, X and Y are exact up to rounding (and to curved activations on the way): everything between two
undecided windows is one linear map, whose cancellations interval arithmetic layer by layer would lose.

Forward through the windows, J_j lies in an interval [a_j, b_j]. Then every convex function h of one
coefficient is below its chord there, h(t) <= s t + c, and so

    sum_j h(J_j)  <=  s . J + sum_j c_j,

whose right side is linear in J: the largest s . J follows forward through the windows once more, as one
number a window, so one derivative l_w serves all pixels. With h = |t| that is the l_1 norm, with h = t^2 the
square of the l_2 norm. The l_inf norm is the largest of the a_j, b_j.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.budget import check
from corgi.engines.lipschitz.jacobian import JacobianPass, OnWindows, Rows, interval_norms
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.cones import cone_masks
from corgi.engines.patch.intervals import magnitude, widened
from corgi.engines.patch.patches import Patches, on_device
from corgi.engines.patch.prepare import Maximum
from corgi.engines.rigour import FOLDING, gamma, roundings, smallest, unit
from corgi.types import Interval, Norm


@dataclass(frozen=True)
class _Elements:
    """The live elements of the undecided windows of one Maximum that some rows meet, W windows.

    Attributes:
        start: number of its first window among those of all layers.
        zero: whether the constant 0 is live, bool [W].
        window: int64 [Q], whose element is which, the zero aside.
        image: the elements' coefficients on the image, [Q, columns].
        earlier: on the windows of earlier layers, [Q, start].
    """

    start: int
    zero: Tensor
    window: Tensor
    image: Interval
    earlier: Interval

    def hull(self, elements: Interval) -> Interval:
        """From values of the elements [Q, N] the values their convex combinations can have, [W, N]."""
        index = self.window[:, None].expand_as(elements.lower)
        shape, zero = (len(self.zero), elements.lower.shape[1]), self.zero[:, None]
        nothing = torch.zeros(shape, dtype=elements.lower.dtype, device=elements.lower.device)
        lower = nothing.masked_fill(~zero, torch.inf).scatter_reduce(0, index, elements.lower, "amin")
        upper = nothing.masked_fill(~zero, -torch.inf).scatter_reduce(0, index, elements.upper, "amax")
        return Interval(lower, upper)


@dataclass(frozen=True)
class CombinedRows:
    """P Jacobian rows on the image, and the windows whose derivatives they depend on.

    Attributes:
        image: x, [P, columns]; windows: Y, [P, windows].
        layers: first to last.
    """

    image: Interval
    windows: Interval
    layers: tuple[_Elements, ...]

    def coefficients(self) -> Interval:
        """What each entry of the rows can be: [P, columns]."""
        hulls = _nothing(self.windows.lower.shape[1], self.image.lower.shape[1], self.image.lower)
        for layer in self.layers:
            earlier = _product(layer.earlier, _rows(hulls, 0, layer.start))
            _put(hulls, layer.start, layer.hull(_sum(layer.image, earlier)))
        return _sum(self.image, _product(self.windows, hulls))

    def largest_sums(self, weights: Tensor) -> Tensor:
        """The largest sum_j weights_pj J_pj over all derivatives, weights [P, columns]: [P], rounded up."""
        points = Interval(weights, weights)
        # One column a row, so that windows stay the first axis.
        sums = _nothing(self.windows.lower.shape[1], len(weights), weights)
        for layer in self.layers:
            earlier = _product(layer.earlier, _rows(sums, 0, layer.start))
            _put(sums, layer.start, layer.hull(_sum(_product(layer.image, _turned(points)), earlier)))
        own, through = _dots(points, self.image), _dots(self.windows, _turned(sums))
        return _sum(own, through).upper

    def dual_norms(self, norm: Norm) -> Tensor:
        """Upper bounds of the rows' norms dual to that of a ball: float64 [P]."""
        known = self.coefficients()
        lower, upper = known.lower, known.upper
        if norm is Norm.L1:
            return magnitude(known).amax(1) if lower.shape[1] else lower.new_zeros(len(lower))
        if norm is Norm.LINF:
            slope = torch.where(
                lower >= 0, 1.0, torch.where(upper <= 0, -1.0, (upper + lower) / (upper - lower))
            )
            heights = [end.abs() - slope * end for end in (lower, upper)]
        else:
            slope = upper + lower
            heights = [end.square() - slope * end for end in (lower, upper)]
        # Sound for any slope: the convex h(t) - s t is largest at an end.
        size = (slope.abs() + magnitude(known) + 1) * magnitude(known)
        constant = torch.maximum(*heights) + 8 * unit(lower.dtype) * size + smallest(lower.dtype)
        total = self.largest_sums(slope) + constant.sum(1)
        total = total + (lower.shape[1] + 8) * unit(lower.dtype) * (total.abs() + constant.abs().sum(1))
        total = total.to(torch.float64)
        return total if norm is Norm.LINF else total.clamp(min=0).sqrt() * (1 + roundings(8))


def combined_norms(bounds: BallBounds, value: str, rows: Patches, norm: Norm) -> Tensor:
    """Upper bounds of the dual norms of rows' generalized gradients over a ball: float64 [P].

    Where the coefficients of one row, written out, would not fit the budget of the bounds, by intervals.

    Args:
        bounds: of one ball.
        value: what the rows read.
        rows: their coefficients.
        norm: of the ball.
    """
    read, count = _read(bounds, value, rows), len(rows.place)
    cone = cone_masks(bounds.graph, {value: read}, bounds.relaxation.shape)
    if _bytes(bounds, cone, count) > bounds.budget:
        if count == 1:
            return interval_norms(bounds, value, rows, norm)
        halves = torch.arange(count, device=rows.values.device).chunk(2)
        return torch.cat([combined_norms(bounds, value, rows.chosen(half), norm) for half in halves])
    combined = _combined(bounds, value, rows, _image_cone(bounds, cone))
    every = [combined.image, combined.windows]
    every += [part for layer in combined.layers for part in (layer.image, layer.earlier)]
    if not all(bool(torch.isfinite(end).all()) for part in every for end in (part.lower, part.upper)):
        # Nothing is known of some value, and minima and maxima might lose a NaN.
        return torch.full((count,), torch.inf, dtype=torch.float64)
    return combined.dual_norms(norm).to(torch.float64).cpu()


def _read(bounds: BallBounds, value: str, rows: Patches) -> Tensor:
    """The places of a value at which some row has a coefficient: bool [1, H, W]."""
    height, width = bounds.relaxation.shape(value)
    row, y, x = (rows.values != 0).any(1).nonzero(as_tuple=True)
    top, left = (on_device(corner[rows.place], row.device) for corner in (rows.places.top, rows.places.left))
    y, x = y + top[row], x + left[row]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    where = torch.zeros(1, height, width, dtype=torch.bool, device=rows.values.device)
    where[0, y[inside], x[inside]] = True
    return where


def _image_cone(bounds: BallBounds, cone: dict[str, Tensor]) -> Tensor:
    """The image's pixels in a cone: bool [H, W]."""
    name = bounds.graph.input_name
    nothing = torch.zeros(1, *bounds.relaxation.shape(name), dtype=torch.bool)
    return cone.get(name, nothing)[0]


def _bytes(bounds: BallBounds, cone: dict[str, Tensor], rows: int) -> int:
    """Memory of all coefficients, several times over for their products."""
    elements = windows = 0
    for step in bounds.graph.steps:
        if isinstance(step.layer, Maximum) and step.output in cone:
            live = bounds.live(step.output).sum(-1) * cone[step.output][:, None]
            elements += int(live[live > 1].sum())
            windows += int((live > 1).sum())
    channels = bounds.relaxation.channels(bounds.graph.input_name)
    columns = channels * int(_image_cone(bounds, cone).sum())
    return 32 * (elements + windows + rows) * (columns + windows)


@dataclass(frozen=True)
class _Part:
    """The windows of one Maximum, before they are numbered: `_Elements`, and the windows their rows end at.

    places: int64 [W], which of `JacobianPass.undecided` they are, ascending.
    """

    places: Tensor
    zero: Tensor
    window: Tensor
    image: Interval
    kept: dict[str, OnWindows]


def _combined(bounds: BallBounds, value: str, rows: Patches, read: Tensor) -> CombinedRows:
    graph = bounds.graph
    own = JacobianPass(bounds, keep=True)
    image = _on_columns(own, {value: Rows.around(rows)}, read, len(rows.place))
    parts: dict[str, _Part] = {}
    # From the last layer to the first: which windows are met, and what their elements read.
    for step in reversed(graph.steps):
        check()
        if not isinstance(step.layer, Maximum):
            continue
        kept = [own.kept, *(part.kept for part in parts.values())]
        met = [reader[step.output].window for reader in kept if step.output in reader]
        places = torch.unique(torch.cat(met)) if met else torch.zeros(0, dtype=torch.int64)
        if len(places) == 0:
            continue
        units = own.undecided(step.output)[places]
        live = bounds.live(step.output)[units.unbind(1)]
        window, element = live[:, 1:].nonzero(as_tuple=True)
        one = F.one_hot(element, live.shape[1] - 1).to(torch.float64)
        # The row of one element is a kernel or a 1: nothing is added up, it is only as wrong as weights are.
        source, patches, _ = bounds.builder.window_patches(step, step.layer, units[window], one)
        inner = JacobianPass(bounds, keep=True)
        found = _on_columns(inner, {source: Rows.around(patches, FOLDING + 4)}, read, len(window))
        parts[step.output] = _Part(places, live[:, 0], window, found, inner.kept)
    starts, total = {}, 0
    for name in reversed(parts):
        starts[name] = total
        total += len(parts[name].places)

    def on_windows(kept: dict[str, OnWindows], rows: int, count: int) -> Interval:
        dense = _nothing(rows, count, image.lower)
        for name, here in kept.items():
            if len(here.row):
                column = starts[name] + torch.searchsorted(parts[name].places, here.window)
                dense.lower[here.row, column] = here.span.lower
                dense.upper[here.row, column] = here.span.upper
        return dense

    layers = tuple(
        _Elements(
            starts[name],
            part.zero,
            part.window,
            part.image,
            on_windows(part.kept, len(part.window), starts[name]),
        )
        for name, part in reversed(parts.items())
    )
    return CombinedRows(image, on_windows(own.kept, len(rows.place), total), layers)


def _on_columns(backward: JacobianPass, start: dict[str, Rows], read: Tensor, count: int) -> Interval:
    """Rows on the image, written out on the pixels of their cone, bool [H, W]: [R, channels * pixels]."""
    bounds = backward.bounds
    image = bounds.relaxation.intervals[bounds.graph.input_name].lower
    found = backward.run(start)
    if found is None or not bool(read.any()):
        return _nothing(count, image.shape[1] * int(read.sum()), image)
    down, right = (read.any(axis).nonzero().reshape(-1) for axis in (1, 0))
    top, left = int(down[0]), int(right[0])
    size = int(down[-1]) + 1 - top, int(right[-1]) + 1 - left
    used = read[top : top + size[0], left : left + size[1]]
    shape = bounds.relaxation.shape(bounds.graph.input_name)
    span = found.both(lambda rows: rows.inside(shape).seen_from(top, left).dense(size)).span
    return Interval(span.lower[:, :, used].flatten(1), span.upper[:, :, used].flatten(1))


def _nothing(rows: int, columns: int, like: Tensor) -> Interval:
    return Interval(like.new_zeros(rows, columns), like.new_zeros(rows, columns))


def _rows(known: Interval, first: int, last: int) -> Interval:
    return Interval(known.lower[first:last], known.upper[first:last])


def _put(known: Interval, first: int, rows: Interval) -> None:
    known.lower[first : first + len(rows.lower)] = rows.lower
    known.upper[first : first + len(rows.upper)] = rows.upper


def _turned(known: Interval) -> Interval:
    return Interval(known.lower.T, known.upper.T)


def _sum(a: Interval, b: Interval) -> Interval:
    return widened(a.lower + b.lower, a.upper + b.upper, 0.0)


def _product(a: Interval, b: Interval) -> Interval:
    """The product of two matrices of intervals, rounded outwards."""
    (middle, half), (other, others_half) = _middle(a), _middle(b)
    share = gamma(2 * middle.shape[1] + 16, middle.dtype)
    far = other.abs() + others_half
    reach = middle.abs() @ others_half + (half + share * (middle.abs() + half)) @ far
    centre = middle @ other
    reach = reach * (1 + share)
    return widened(centre - reach, centre + reach, middle.shape[1] * smallest(middle.dtype))


def _dots(a: Interval, b: Interval) -> Interval:
    """The inner product of every row of one matrix with that of another: [rows]."""
    products = torch.stack([x * y for x in (a.lower, a.upper) for y in (b.lower, b.upper)])
    found = Interval(products.amin(0), products.amax(0))
    terms = products.shape[2]
    share = gamma(terms + 4, a.lower.dtype)
    error = share * magnitude(found).sum(1) + terms * smallest(a.lower.dtype)
    return widened(found.lower.sum(1), found.upper.sum(1), error)


def _middle(known: Interval) -> tuple[Tensor, Tensor]:
    """Middle and half-width, rounded up."""
    half = (known.upper - known.lower) / 2 + 4 * unit(known.lower.dtype) * magnitude(known)
    return (known.upper + known.lower) / 2, half
