"""What margins depend on: the pixels and undecided windows of their cone, everything else substituted away.

With d the deviations of the pixels and y those of the undecided windows (theory 1.10),

    margin_p = c_p + x_p . d + Y_p . y,        y_w = max_e (lead_e + X_e . d + Y_e . y),

the maximum over the live elements of window w, where Y_e only reads windows of earlier layers. A margin of
the paper's network has some 20 to 250 undecided windows and 1100 pixels near the radius that matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from corgi.engines.rigour import roundings
from corgi.types import Interval, Norm


@dataclass(frozen=True)
class ConeLayer:
    """The undecided windows of one Maximum, W of them, with Q live elements that are not the zero.

    Attributes:
        start: number of the first of its windows in the cone.
        live: bool [W, E], elements that can be the maximum, the zero first.
        lead: float64 [W, E], each element minus the maximum in the middle of the ball; of no
            meaning for dead ones.
        low: a lower plane, window >= sum_e low_e element_e; up, up_shift: an upper one, its shift rounded up.
        slack: what rounding of planes whose weights do not quite add up to 1 may lose, [W].
        window, element: int64 [Q], whose row is which.
        image: float64 [Q, pixels]; earlier: [Q, start], coefficients on windows of earlier layers.
        error: by how much each row may be off anywhere in the ball, [Q].
        lower, upper: deviations of each window, [W].
    """

    start: int
    live: Tensor
    lead: Tensor
    low: Tensor
    up: Tensor
    up_shift: Tensor
    slack: Tensor
    window: Tensor
    element: Tensor
    image: Tensor
    earlier: Tensor
    error: Tensor
    lower: Tensor
    upper: Tensor

    def __len__(self) -> int:
        return len(self.live)

    def chosen(self, windows: Tensor, start: int, pixels: Tensor, earlier: Tensor) -> ConeLayer:
        """Some windows, bool [W], numbered from `start`, on some pixels and earlier windows: bool."""
        rows, number = windows[self.window], windows.cumsum(0) - 1
        return ConeLayer(
            start=start,
            live=self.live[windows],
            lead=self.lead[windows],
            low=self.low[windows],
            up=self.up[windows],
            up_shift=self.up_shift[windows],
            slack=self.slack[windows],
            window=number[self.window[rows]],
            element=self.element[rows],
            image=self.image[rows][:, pixels],
            earlier=self.earlier[rows][:, earlier],
            error=self.error[rows],
            lower=self.lower[windows],
            upper=self.upper[windows],
        )

    @property
    def leads(self) -> Tensor:
        """Leads of the live elements, -inf for others: [W, E]."""
        return torch.where(self.live, self.lead, -torch.inf)

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
        norm, radius: the deviations' norm is at most the radius, too; l_inf says no more than their ends.
    """

    pixels: Tensor
    lower: Tensor
    upper: Tensor
    constant: Tensor
    error: Tensor
    image: Tensor
    windows: Tensor
    layers: tuple[ConeLayer, ...]
    norm: Norm = Norm.LINF
    radius: float = math.inf

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


def with_inputs(cone: Cone, coefficients: Tensor, constant: Tensor, error: Tensor, box: Interval) -> Cone:
    """A cone whose margins also have coefficients on the inputs themselves.

    Args:
        cone: P margins of outputs.
        coefficients: on deviations of the flattened input, float64 [P, inputs].
        constant: what is added to each margin in the middle of the box, rounded down: [P].
        error: how far below the truth that may be, and what coefficients may be off by in the box: [P].
        box: deviations of the flattened input, each [inputs].
    """
    used = (coefficients != 0).any(0).nonzero().reshape(-1)
    pixels = torch.unique(torch.cat([cone.pixels, used]))
    lower, upper = box.lower.flatten()[pixels], box.upper.flatten()[pixels]
    column = torch.searchsorted(pixels, cone.pixels)

    def widened(image: Tensor) -> Tensor:
        wide = image.new_zeros(len(image), len(pixels))
        wide[:, column] = image
        return wide

    image = widened(cone.image) + coefficients[:, pixels]
    # The sums here are rounded, too.
    size = torch.maximum(lower.abs(), upper.abs())
    error = error + roundings(4) * (image.abs() @ size + cone.constant.abs() + constant.abs())
    return replace(
        cone,
        pixels=pixels,
        lower=lower,
        upper=upper,
        constant=cone.constant + constant - error,
        error=cone.error + 2 * error,
        image=image,
        layers=tuple(replace(layer, image=widened(layer.image)) for layer in cone.layers),
    )


def reading(cone: Cone, constant: Tensor, error: Tensor, image: Tensor, windows: Tensor) -> Cone:
    """Other margins over the same ball: the cone of what they read.

    Args:
        cone: with the pixels and windows.
        constant: of P margins (see `Cone`), [P].
        error: how far below the truth that may be, [P].
        image: their coefficients on its pixels, [P, pixels].
        windows: on its first windows, those of whole layers, [P, W].
    """
    layers = [layer for layer in cone.layers if layer.start < windows.shape[1]]
    needed, used = (windows != 0).any(0), (image != 0).any(0)
    for layer in reversed(layers):
        rows = needed[layer.start : layer.start + len(layer)][layer.window]
        used = used | (layer.image[rows] != 0).any(0)
        needed[: layer.start] |= (layer.earlier[rows] != 0).any(0)
    kept, start = list[ConeLayer](), 0
    for layer in layers:
        own = needed[layer.start : layer.start + len(layer)]
        if bool(own.any()):
            kept.append(layer.chosen(own, start, used, needed[: layer.start]))
            start += len(kept[-1])
    return replace(
        cone,
        pixels=cone.pixels[used],
        lower=cone.lower[used],
        upper=cone.upper[used],
        constant=constant,
        error=error,
        image=image[:, used],
        windows=windows[:, needed],
        layers=tuple(kept),
    )
