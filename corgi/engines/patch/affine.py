"""Rows as they are, not bounded: affine in the image and in what undecided windows return.

Decided windows are linear, so a row on any value is exactly

    row = sum_j x_j d_j + sum_w y_w d_w  up to rounding,

d_j the deviations of pixels, d_w those of the undecided windows it meets (theory 1.10).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from corgi.engines.patch.backward import BackwardPass, MaximumLines
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.patches import Patches
from corgi.engines.patch.prepare import Maximum
from corgi.engines.rigour import SPARE
from corgi.errors import EngineError
from corgi.network.convert import Step


@dataclass(frozen=True)
class AffineRows:
    """R rows, exact up to `error`.

    Attributes:
        error: what rounding may have changed on the whole ball, float64 [R].
        image: coefficients on the chosen pixels, [R, columns].
        windows: by the name of a Maximum: row, place in its `Planes.units`, coefficient, each [entries].
    """

    error: Tensor
    image: Tensor
    windows: dict[str, tuple[Tensor, Tensor, Tensor]]


@dataclass
class _UnfoldingPass(BackwardPass):
    """A backward pass that stops at undecided windows."""

    unknown: dict[str, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def _correct(
        self, step: Step, layer: Maximum, patches: Patches, spread: Tensor, lines: MaximumLines
    ) -> Tensor:
        here = self.memo[step.output]
        amount = patches.values.reshape(-1).index_select(0, here.at)
        used = (amount != 0).nonzero().reshape(-1)
        self.unknown[step.output] = here.row[used], here.window[used], amount[used]
        return spread


def affine_rows(bounds: BallBounds, value: str, rows: Patches, columns: Tensor) -> AffineRows:
    """Rows on a value, unfolded down to undecided windows and the image.

    Args:
        bounds: of one ball, all activations of which are Maximum.
        value: what the rows read.
        rows: their coefficients.
        columns: int64, the pixels (c, y, x flattened) in the cone of the rows.
    """
    relaxation = replace(bounds.relaxation, lines=bounds.state.without_planes, half_space=None)
    name = relaxation.graph.input_name
    size = max(1, int(bounds.budget / bounds.builder.bytes_a_row(value, rows)))
    errors, images = [], []
    windows: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
    for start in range(0, len(rows.place), size):
        chunk = rows if size >= len(rows.place) else rows.chosen(slice(start, start + size))
        nothing = torch.zeros(len(chunk.place), dtype=torch.float64, device=chunk.values.device)
        backward = _UnfoldingPass(relaxation, nothing, nothing.clone())
        backward.run({value: chunk})
        errors.append(SPARE * backward.error)
        if name in backward.ended:
            shape = relaxation.shape(name)
            dense = backward.ended[name].inside(shape).dense(shape).values.flatten(1)
            images.append(dense[:, columns])
            if int(images[-1].count_nonzero()) != int(dense.count_nonzero()):
                raise EngineError("a row reads pixels outside of its cone: it is not what it is taken for")
        else:
            images.append(chunk.values.new_zeros(len(chunk.place), len(columns)))
        for at, (row, window, amount) in backward.unknown.items():
            windows.setdefault(at, []).append((row + start, window, amount))
    joined = {
        at: tuple(torch.cat(part) for part in zip(*parts, strict=True)) for at, parts in windows.items()
    }
    return AffineRows(torch.cat(errors), torch.cat(images), joined)  # type: ignore[arg-type]
