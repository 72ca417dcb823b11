"""`corgi radii`: for every pixel of the map the radius within which it stays on its side of rank k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import finished
from corgi.cli.task import Task, with_task
from corgi.terms import Norm

if TYPE_CHECKING:
    from corgi.certify.radii import PixelRadii
    from corgi.network.network import Network
    from corgi.results import ImageArray


@with_task
def command(
    *,
    k: common.KOption = None,
    class_id: common.ClassOption = None,
    norm: common.NormOption = Norm.LINF,
    outside: Annotated[
        int, typer.Option(min=0, help="Largest outside pixels that are searched one by one, too.")
    ] = 15,
    time_limit: common.TimeLimitOption = None,
    task: Task,
) -> int:
    """Certify each pixel of the map of IMAGE: within which radius it stays among the K largest, or outside.

    Exit code: 0 done, 3 time limit or Ctrl-C (the answer printed is what was done until then), 4 error.
    """
    ranks = common.parse_k(k)

    def ask(network: Network, image: ImageArray) -> PixelRadii:
        from corgi.certify.radii import RadiiOptions, pixel_radii

        options = RadiiOptions(k=ranks, class_id=class_id, norm=norm, outside=outside, time_limit=time_limit)
        return pixel_radii(network, image, options)

    return task.answer(ask, finished, seconds=time_limit)
