"""Images of a family that break a property: a counterexample of the family is a point t of its box.

The exact image at t need not be one of float32, which is all that onnxruntime takes. So a witness is the
image at t rounded to float32 pixels, and it counts only if all of three break the property: onnxruntime's
map of that image, strictly; float64's map of it, by more than rounding explains (`witness.py`); and, by as
much, float64's map of the image at t itself as float64 computes it, which is off by a few units of 1, or
where pixels move by the slopes of the image times a few units of its width.

Of small balls around the images of a family a witness is, besides, an image of float32 pixels within the
radius of the image at t as float64 computes it: onnxruntime's map of it breaks the property, and float64's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from corgi.attacks.margin import MarginAttack
from corgi.attacks.pairs import critical_sets
from corgi.attacks.target import Target, at_once
from corgi.attacks.witness import confirm
from corgi.changes.family import Family
from corgi.results import Witness
from corgi.types import Ball

_DESCENT, _CRITICAL = MarginAttack(steps=30, restarts=1), 4
"""How a witness is looked for around the image at a point, and how many critical sets are followed."""


@dataclass(frozen=True)
class FamilyWitness:
    """A point of a family where the property is broken.

    Attributes:
        parameters: t.
        witness: the image at t rounded to float32 pixels, or one beside it; its radius is the largest change
            of a pixel.
        beside: how far it is from the image at t in l_inf, if it is not that image rounded; else 0.
    """

    parameters: tuple[float, ...]
    witness: Witness
    beside: float = 0.0

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


def confirm_around(
    target: Target, family: Family, point: tuple[float, ...], eps: float
) -> FamilyWitness | None:
    """A witness within eps of the image at a point, looked for by descents of the margin; or None."""
    ball = Ball(family.at(torch.tensor([point], dtype=torch.float64))[0], eps)
    rounded = Ball(ball.center.to(torch.float32), eps)
    aimed = replace(target, critical=critical_sets(target, rounded, _CRITICAL))
    none, generator = torch.zeros(0, *ball.center.shape), torch.Generator().manual_seed(0)
    attempt = _DESCENT.run(aimed, ball, none, generator)
    found = confirm(target, ball, attempt.image) if attempt.margin < 0 else None
    if found is None:
        return None
    change = Ball(family.image, 0.0).distance(torch.from_numpy(found.image))
    return FamilyWitness(point, replace(found, radius=change), found.radius)


def margins_at(target: Target, family: Family, points: Tensor) -> Tensor:
    """Margins at points [N, d] by the float32 trunk, to choose points by: nothing is proved by them."""
    images = family.at(points).to(torch.float32)
    with torch.no_grad():
        return torch.cat([target.margins(some) for some in at_once(images)]).to(torch.float64)
