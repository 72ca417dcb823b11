"""The product of two values: its interval, and planes around it.

Let x = c_x + d_x and y = c_y + d_y, the deviations in intervals [l, u] of middle m and half-width h. Then

    x y - c_x c_y = (c_y + m_y) d_x + (c_x + m_x) d_y - m_x m_y + (d_x - m_x) (d_y - m_y),

and the last product is at most h_x h_y in size: a plane that much above and one that much below, with the
same slopes. Each is the mean of two of McCormick's (1976): (d_x - l_x) (d_y - l_y) >= 0 and
(u_x - d_x) (u_y - d_y) >= 0 give two lower planes, which are as high as one another in the middle and in the
mean over the box. Where even both intervals' product says more, its ends are the planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.engines.patch.intervals import Centre, cast_up, magnitude
from corgi.engines.rigour import FAR_RAISED, SPARE, smallest, unit
from corgi.types import Interval

_ROUNDINGS = 64
"""Roundings of slopes and shifts here and in the pass that uses them, generously."""


@dataclass(frozen=True)
class ProductPlanes:
    """first d_x + second d_y + low_shift <= x y - its centre <= first d_x + second d_y + up_shift.

    All [B, C, H, W].
    """

    first: Tensor
    second: Tensor
    low_shift: Tensor
    up_shift: Tensor

    def stacked(self) -> Tensor:
        """The four fields as channels, [B, 4 C, H, W]: one window serves them all."""
        return torch.cat([self.first, self.second, self.low_shift, self.up_shift], 1)


def middles(known: Interval) -> tuple[Tensor, Tensor]:
    """Middle and half-width of intervals, float64: no deviation is further off, up to rounding."""
    lower, upper = known.lower.to(torch.float64), known.upper.to(torch.float64)
    middle = (lower + upper) / 2
    return middle, torch.maximum(upper - middle, middle - lower)


def product_planes(
    inputs: list[Interval], before: list[Centre], after: Centre, out: Interval
) -> ProductPlanes:
    """Planes around the product of two values, drawn in float64, with room for rounding.

    `out`: the deviations of the product, as far as they are known. What nothing is known of gets infinite
    shifts, which make every row through it vacuous.
    """
    dtype = out.lower.dtype
    (mx, hx), (my, hy) = (middles(known) for known in inputs)
    (cx, cy), (dx, dy) = (c.value for c in before), (magnitude(known).to(torch.float64) for known in inputs)
    first, second, height = cy + my, cx + mx, hx * hy
    # All that is computed is a sum of a few products, at most `terms` in absolute value together; the
    # centre's own error is that of c_x c_y.
    terms = (cy.abs() + dy) * dx + (cx.abs() + dx) * dy
    error = _ROUNDINGS * unit(dtype) * terms + 4 * smallest(dtype) * (1 + dx + dy)
    error = error + SPARE * after.error[:, :, None, None]
    low, up = -mx * my - height - error, -mx * my + height + error
    # Written so that NaN takes the ends of `out`.
    flat = ~(2 * height <= (out.upper - out.lower).to(torch.float64))
    low, up = torch.where(flat, out.lower.to(low), low), torch.where(flat, out.upper.to(up), up)
    slack = _ROUNDINGS * unit(dtype) * torch.maximum(low.abs(), up.abs())
    return ProductPlanes(
        torch.where(flat, 0, first).to(dtype),
        torch.where(flat, 0, second).to(dtype),
        -cast_up(slack - low, dtype),
        cast_up(up + slack, dtype),
    )


def product_norm(inputs: list[Interval], before: list[Centre], norms: list[Tensor]) -> Tensor:
    """Largest Euclidean norm of the product's deviations, its centre's error not counted: float64 [B].

    x y - c_x c_y = x d_y + c_y d_x, and the same with x and y exchanged.
    """

    def largest(values: Tensor) -> Tensor:
        return values.abs().amax((1, 2, 3)).to(torch.float64)

    centre = [largest(c.value) for c in before]
    whole = [c + largest(magnitude(known)) for c, known in zip(centre, inputs, strict=True)]
    ways = (whole[i] * norms[1 - i] + centre[1 - i] * norms[i] for i in (0, 1))
    return torch.fmin(*ways) * FAR_RAISED
