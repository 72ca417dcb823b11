"""Images of a family that break a property: a counterexample of the family is a point t of its box.

The exact image at t need not be one of float32, which is all that onnxruntime takes. So a witness is the
image at t rounded to float32 pixels, and it counts only if all of three break the property: onnxruntime's
map of that image, strictly; float64's map of it, by more than rounding explains (`witness.py`); and, by as
much, float64's map of the image at t itself as float64 computes it, which is off by a few units of 1, or
where pixels move by the slopes of the image times a few units of its width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corgi.attacks.target import Target, at_once
from corgi.attacks.witness import confirm
from corgi.changes.family import Family
from corgi.results import Witness
from corgi.types import Ball


@dataclass(frozen=True)
class FamilyWitness:
    """A point of a family where the property is broken.

    Attributes:
        parameters: t.
        witness: the image at t rounded to float32 pixels; its radius is the largest change of a pixel.
    """

    parameters: tuple[float, ...]
    witness: Witness

    @property
    def size(self) -> float:
        """max_j |t_j|: the size of the smallest box around 0 that holds it."""
        return max(map(abs, self.parameters))


def exact_margin(target: Target, family: Family, point: tuple[float, ...]) -> float:
    """The margin at the image of a point by float64, the network's own layers, no engine."""
    image = family.at(torch.tensor([point], dtype=torch.float64))[0]
    cam = target.network.cam(image, target.class_id).reshape(-1)
    return float(target.holds.margin(cam))


def confirm_at(target: Target, family: Family, point: tuple[float, ...]) -> FamilyWitness | None:
    """The witness that a point is, or None."""
    if not exact_margin(target, family, point) < -target.holds.sensitivity * target.rounding:
        return None
    image = family.at(torch.tensor([point], dtype=torch.float64))[0].to(torch.float32)
    ball = Ball(family.image.to(torch.float32), 0.0)
    found = confirm(target, ball.with_radius(ball.largest), image)
    return None if found is None else FamilyWitness(point, found)


def margins_at(target: Target, family: Family, points: Tensor) -> Tensor:
    """Margins at points [N, d] by the float32 trunk, to choose points by: nothing is proved by them."""
    images = family.at(points).to(torch.float32)
    with torch.no_grad():
        return torch.cat([target.margins(some) for some in at_once(images)]).to(torch.float64)
