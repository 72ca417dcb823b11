"""Bounds of many maps in one pass: several images, several radii, each with its own class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from corgi.engines.lowering import explained_class
from corgi.engines.patch.bounds import BallBounds
from corgi.engines.patch.norms import reach_of
from corgi.engines.patch.patches import Patches, distinct_places, on_host
from corgi.engines.patch.prepare import cast, prepare
from corgi.engines.patch.region import deviations, middle_of
from corgi.engines.rigour import plainly, roundings
from corgi.network.network import Network
from corgi.types import Ball, Interval

if TYPE_CHECKING:
    from corgi.engines.patch.engine import PatchEngine


@plainly
def bound_maps(engine: PatchEngine, network: Network, balls: list[Ball], class_ids: list[int]) -> Interval:
    """Folded intervals (theory 1.2) of the maps of N balls, rounded outwards: float64 [N, pixels].

    Raises:
        EngineError: a layer the engine has no rule for.
        ValueError: balls of different norms.
    """
    exact = prepare(network)
    graph, device = cast(exact, torch.float64, engine.device), engine.device
    centre = middle_of(exact, torch.stack([ball.center for ball in balls]), device)
    box = deviations(balls, torch.float64, device)
    bounds = BallBounds.over(
        graph,
        centre,
        box,
        refine=engine.refines,
        budget=engine.budget,
        work=engine.work,
        reach=reach_of(balls, device),
    )
    name, (height, width) = graph.output_name, network.head.map_shape
    bounds.require(name, torch.ones(len(balls), height, width, dtype=torch.bool, device=device))
    weights = torch.stack([explained_class(network, c).weight.reshape(-1) for c in class_ids]).to(device)
    terms = weights[:, :, None, None] * centre[name].value
    value, off = terms.sum(1).flatten(), roundings(2 * (terms.shape[1] + 4)) * terms.abs().sum(1).flatten()
    ball, y, x = torch.ones(len(balls), height, width, device=device).nonzero().unbind(1)
    places, place = distinct_places(*map(on_host, (ball, y, x)))
    lower, upper = (
        sign
        * bounds.lower_rows(
            name,
            Patches((sign * weights[ball])[:, :, None, None], places, place),
            sign * value - off,
        )
        for sign in (1.0, -1.0)
    )
    shape = (len(balls), height * width)
    return Interval.from_engine(
        lower.cpu().reshape(shape), upper.cpu().reshape(shape), slack=0.0, engine=engine.name
    )
