"""Several images, several radii, several ranks, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from corgi.ambient import settled
from corgi.budget import left, tell
from corgi.certify.bounders import Bounders
from corgi.certify.explain import explain
from corgi.certify.options import VerifyOptions
from corgi.certify.verify import verify, verify_explained
from corgi.network.network import Network
from corgi.results import ImageArray, MapKind, VerifyResult
from corgi.types import Interval

BALLS_AT_ONCE = 16
"""Balls bounded in one pass of `verify_radii`."""


@settled()
def verify_batch(
    network: Network,
    images: Sequence[ImageArray],
    options: VerifyOptions,
    names: Sequence[str],
) -> tuple[VerifyResult, ...]:
    """One result an image, as `verify` gives it; what depends on the network and class only is done once."""
    bounders, results = Bounders(), []
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        tell("batch", f"image {number + 1} of {len(images)}")
        result = verify(network, image, options, image_name=name, bounders=bounders)
        results.append(result)
    return tuple(results)


@settled()
def verify_radii(
    network: Network,
    images: Sequence[ImageArray],
    radii: Sequence[float],
    options: VerifyOptions,
    names: Sequence[str],
    together: bool | None = None,
) -> tuple[tuple[VerifyResult, ...], ...]:
    """Decide every radius for every image: results [images][radii].

    `together`: bound the pixels of many balls in one pass of the patch engine first. None means on an
    accelerator, where it fills the device; on a CPU the few rows of one ball after the other are cheaper.
    """
    if together is None:
        together = options.engine.device != "cpu"
    # Large balls first: what is known of them holds for the smaller ones.
    distinct = sorted(set(radii), reverse=True)
    bounders, results = Bounders(), []
    at_once = max(1, BALLS_AT_ONCE // max(len(distinct), 1))
    for start in range(0, len(images), at_once):
        some = range(start, min(start + at_once, len(images)))
        tell("batch", f"images {start + 1} to {some.stop} of {len(images)}")
        explained = {n: explain(network, images[n], options.k, options.class_id) for n in some}
        balls = {
            (n, r): explained[n].ball(options.norm, options.where).with_radius(r)
            for n in some
            for r in distinct
        }
        bounds: dict[tuple[int, float], Interval] = {}
        found = None
        if together and network.map_kind is MapKind.CAM:
            classes = [explained[n].class_id for n, _ in balls]
            found = options.engine.maps(network, list(balls.values()), classes)
        if found is not None:
            pairs = zip(found.lower, found.upper, strict=True)
            bounds = {key: Interval(*pair) for key, pair in zip(balls, pairs, strict=True)}
        for n in some:
            decided = {}
            for radius in distinct:
                if bounds and left() > 0:
                    one = explained[n]
                    bounder = bounders.bind(options.engine, one.network, one.class_id)
                    bounder.remember(balls[n, radius], bounds[n, radius])
                asked = replace(options, eps=radius)
                decided[radius] = verify_explained(
                    explained[n], asked, image_name=names[n], bounders=bounders
                )
            results.append(tuple(decided[radius] for radius in radii))
    return tuple(results)


@settled()
def verify_ranks(
    network: Network,
    image: ImageArray,
    ranks: Sequence[tuple[int, int]],
    options: VerifyOptions,
    name: str,
) -> tuple[VerifyResult, ...]:
    """One result for each (k, k2) of one image: the k-curve. Bounds of one radius serve all ranks.

    The more pixels a rank may spare, the larger its radius: those come first, because bounds of a large ball
    are where those of a smaller one begin.
    """
    explained = explain(network, image, ranks[0][0] if ranks else options.k, options.class_id)
    bounders, results = Bounders(), {}
    for k, k2 in sorted(set(ranks), key=lambda rank: rank[0] - rank[1]):
        results[k, k2] = verify_explained(
            explained.at(k),
            replace(options, k2=k2),
            image_name=name,
            bounders=bounders,
        )
    return tuple(results[rank] for rank in ranks)
