"""`corgi sticker`: at which places a sticker can break a property of the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import finished
from corgi.cli.property import property_of, with_wanted
from corgi.cli.radius import radius_option
from corgi.cli.task import Task, with_task
from corgi.wanted import WantedProperty

if TYPE_CHECKING:
    from corgi.certify.sticker import StickerMap
    from corgi.network.network import Network
    from corgi.results import ImageArray


@with_wanted
@with_task
def command(
    *,
    size: Annotated[
        int, typer.Option("--size", min=1, help="Side of the sticker, in pixels of the network's input.")
    ] = 4,
    stride: Annotated[int, typer.Option(min=1, help="Pixels between places.")] = 1,
    eps: Annotated[
        float,
        radius_option(help="How far its pixels may be from those below it, pixel scale; as 4/255. 1 is any."),
    ] = 1.0,
    k: common.KOption = None,
    wanted: WantedProperty,
    class_id: common.ClassOption = None,
    time_limit: common.TimeLimitOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the attack's random starts.")] = 0,
    task: Task,
) -> int:
    """Decide for every place of IMAGE whether a sticker there can break the property of its map.

    Exit code: 0 done, 3 time limit or Ctrl-C (the answer printed is what was done until then), 4 error.
    """
    ranks = common.parse_k(k)

    def ask(network: Network, image: ImageArray) -> StickerMap:
        from corgi.certify.sticker import StickerOptions, sticker_map
        from corgi.properties.topk import Topk

        asked = Topk(wanted.k2) if wanted.plain else property_of(wanted, network, task)
        seconds = common.in_time("sticker", time_limit, network)
        options = StickerOptions(size, stride, eps, ranks, asked, class_id, time_limit=seconds, seed=seed)
        return sticker_map(network, image, options)

    return task.answer(ask, finished, seconds=time_limit)
