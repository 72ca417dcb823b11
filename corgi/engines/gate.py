"""The engine's part of the equality gate: what onnxruntime computes in a ball lies in the bounds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from corgi.changes.family import Family
from corgi.engines.interface import Bounder
from corgi.engines.parametric import Boxes, FamilyBounder
from corgi.errors import GateError
from corgi.network.depth import is_deep
from corgi.network.gate import compare
from corgi.network.network import Network
from corgi.types import Ball


def check_engine_at_radius_zero(
    network: Network, class_id: int, bounder: Bounder, images: NDArray[np.float32]
) -> None:
    """Hold an engine's bounds at radius 0 against onnxruntime on images [N, C, H, W].

    Raises:
        GateError: onnxruntime's map is outside.
    """
    for image in images:
        reference, _ = network.oracle_cam(image, class_id)
        ball = Ball(torch.from_numpy(image), 0.0)
        middle = bounder.middle(ball).numpy().reshape(reference.shape)
        middle = np.where(np.isfinite(middle), middle, reference)  # knowing nothing is vacuous
        bounds = bounder.intervals(ball)
        lower, upper = (
            end.to(torch.float64).numpy().reshape(reference.shape) for end in (bounds.lower, bounds.upper)
        )
        # Bounds that are wider than rounding of a deep network, or vacuous, are not wrong if they hold. What
        # all bounds are drawn around is held against onnxruntime itself.
        nearest = np.clip(reference, lower, upper)

        def rounding(image: NDArray[np.float32] = image) -> NDArray[np.float64]:
            with torch.no_grad():
                features = network.trunk32(torch.from_numpy(image)[None]).to(torch.float64)
            return (network.head.cam(features, class_id)[0] - network.cam(image, class_id)).numpy()

        compare(network, "the engine's map", middle, reference, rounding=rounding)
        compare(network, "bound of the map at radius 0", nearest, reference, rounding=rounding)


_PIXELS = 4
_RADIUS, _SLACK = 3e-4, 1e-4
"""The ball, and the share of the map's largest value that float32 in onnxruntime may be off by
(network/gate.py)."""
_MOVED, _FINE_SLACK = 1e-9, 1e-12
"""How far the map may move in the ball of a deep network, and what float64 may be off by there, in shares of
the map's largest value."""


def check_engine_on_a_ball(
    network: Network, class_id: int, bounder: Bounder, image: NDArray[np.float32]
) -> None:
    """Hold bounds over a small ball against its middle, and some pixels against images that take them there.

    At radius 0 an engine's rows have nothing to do. Here each of a few pixels is driven up or down by its
    gradient, which at this radius comes close to its bound: a layer that rows read wrongly shows. The images
    are run in onnxruntime; in a ball too small for float32 in corgi's own float64 trunk, which was compared
    with onnxruntime when the model was loaded.

    Raises:
        GateError: an image of the ball leaves the bounds.
    """
    centre, rng = torch.from_numpy(image), np.random.default_rng(1)
    pixels = torch.from_numpy(rng.choice(network.pixels, min(_PIXELS, network.pixels), replace=False))
    images = centre.expand(len(pixels), *centre.shape).clone().requires_grad_(True)
    values = network.head.cam(network.trunk32(images), class_id).flatten(1)
    chosen = values[torch.arange(len(pixels)), pixels]
    (gradient,) = torch.autograd.grad(chosen.sum(), images)
    fine, radius = is_deep(network.trunk), _RADIUS
    if fine:
        steepest = float(gradient.abs().sum((1, 2, 3)).max())
        radius = min(radius, _MOVED * float(values.detach().abs().max()) / max(steepest, 1e-30))
    ball = Ball(centre, radius)
    box = ball.inner_box(torch.float64 if fine else torch.float32)
    bounds = bounder.pixels(ball, pixels, pixels)
    lower, upper = bounds.lower.to(torch.float64).numpy(), bounds.upper.to(torch.float64).numpy()

    def hold(image: torch.Tensor, which: list[int]) -> None:
        reference = (
            network.cam(image, class_id).numpy() if fine else network.oracle_cam(image.numpy(), class_id)[0]
        ).reshape(-1)
        slack = (_FINE_SLACK if fine else _SLACK) * float(np.abs(reference).max())
        for pixel in which:
            if reference[pixel] < lower[pixel] - slack or reference[pixel] > upper[pixel] + slack:
                raise GateError(
                    f"{network.path}: map pixel {pixel} of class {class_id} is {reference[pixel]:.12g} on an"
                    f" image within {radius:g} of another, outside the engine's bounds"
                    f" [{lower[pixel]:.12g}, {upper[pixel]:.12g}]",
                    hint="The engine bounds another function than onnxruntime runs. No certificate is given.",
                )

    # All pixels: an engine that bounds only what it is asked for has infinite ends for the others.
    hold(centre, list(range(network.pixels)))
    for low in (True, False):
        ends = torch.where((gradient > 0) == low, box.lower, box.upper)
        for pixel, end in zip(pixels.tolist(), ends, strict=True):
            hold(end, [pixel])


_FAMILY_SLACK = 1e-10
"""What float64 may be off by in the map of a family's image, as a share of the map's largest value: what the
network computes, and the image it computes it of."""


def check_engine_on_a_family(
    network: Network, class_id: int, bounder: FamilyBounder, family: Family, points: torch.Tensor
) -> None:
    """Hold bounds over boxes from one of some points [N, d] of a family to the next against the maps there.

    By corgi's own float64 trunk, which was compared with onnxruntime before. Of a deep network, in which a
    box takes seconds, at the last two points.

    Raises:
        GateError: a map leaves the bounds of a box that holds its point.
    """
    points = points[-2:] if is_deep(network.trunk) else points
    ends = points, points.roll(1, 0)
    boxes = [Boxes(torch.minimum(*ends), torch.maximum(*ends)), Boxes(points, points)]
    maps = torch.stack([network.cam(image, class_id).reshape(-1) for image in family.at(points)])
    slack = _FAMILY_SLACK * float(maps.abs().max())
    for box in boxes:
        found = bounder.maps(family, box)
        known = found.narrower(torch.arange(len(box))).interval()
        outside = (maps < known.lower - slack) | (maps > known.upper + slack)
        if bool(outside.any()):
            point, pixel = outside.nonzero()[0].tolist()
            raise GateError(
                f"{network.path}: map pixel {pixel} of class {class_id} is {float(maps[point, pixel]):.12g}"
                f" on an image of the family, outside the engine's bounds"
                f" [{float(known.lower[point, pixel]):.12g}, {float(known.upper[point, pixel]):.12g}]",
                hint="The engine bounds another function than the network's. No certificate is given.",
            )
