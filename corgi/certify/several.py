"""Several properties of the map of one image: an answer each, from work that is shared.

The network is loaded, held against onnxruntime and explained once, engines are bound and pass their gate
once, and a bounder keeps what it knows of the balls around the image. Nothing that is certified of one
property is taken over for another: attack, certificate and answer are its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from corgi.ambient import settled
from corgi.budget import left, limited, within
from corgi.certify.bounders import Bounders
from corgi.certify.explain import explain
from corgi.certify.options import VerifyOptions
from corgi.certify.verify import verify_explained
from corgi.errors import UsageError
from corgi.network.network import Network
from corgi.properties.interface import Property
from corgi.results import ImageArray, VerifyResult, VerifyResults


@settled()
def verify_properties(
    network: Network,
    image: ImageArray,
    properties: Sequence[Property],
    options: VerifyOptions | None = None,
    *,
    image_name: str = "array",
    bounders: Bounders | None = None,
) -> VerifyResults:
    """Verify several properties of the map of an image [C, H, W] float32 in [0, 1]: one result each.

    Each may take an equal share of the time that is left, so what one does not use the next ones have. After
    Ctrl-C the others say that they were interrupted. An error in one ends all: what is raised then is a fault
    of the network or of the bounds, which the answers before it rest on, too.

    Args:
        network: with the map.
        image: its input.
        properties: what is asked, each once.
        options: how, without a property; its time limit is that of all together.
        image_name: where the image came from.
        bounders: shared among calls on the same network.

    Raises:
        UsageError: no property, the same twice, or one in the options, too; see `verify` for others.
        ImageError, GateError, EngineError: see `verify`.
    """
    options, started = options or VerifyOptions(), time.monotonic()
    _check(properties, options)
    explained, bounders = explain(network, image, options.k, options.class_id), bounders or Bounders()
    for one in properties:  # before any work is done
        explained.question(one, form=options.form)
    results = list[VerifyResult]()
    with limited(None if options.time_limit is None else started + options.time_limit):
        for number, one in enumerate(properties):
            known = next((result.label for result in results if result.label is not None), None)
            asked = replace(options, property=one, time_limit=None, label=options.label and known is None)
            share = left() / (len(properties) - number)
            with within(one.name), limited(time.monotonic() + share):
                result = verify_explained(explained, asked, image_name=image_name, bounders=bounders)
            results.append(result if known is None else replace(result, label=known))
    return VerifyResults(tuple(results), time.monotonic() - started)


def _check(properties: Sequence[Property], options: VerifyOptions) -> None:
    if not properties:
        raise UsageError("properties: expected at least one")
    for place, one in enumerate(properties):
        if one in properties[:place]:
            raise UsageError(f"properties: {one.name} stands twice, with the same options")
    if options.property is not None:
        raise UsageError(f"property {options.property.name} beside properties", hint="Name it among them.")
