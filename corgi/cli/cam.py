"""`corgi cam`: the class activation map of an image and its largest pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.task import Array, Task, with_task

if TYPE_CHECKING:
    from corgi.certify.explain import Explanation
    from corgi.network.network import Network
    from corgi.results import ImageArray


@with_task
def command(
    *,
    k: common.KOption = None,
    class_id: common.ClassOption = None,
    save: Annotated[Path | None, typer.Option(help="Save the map [h, w].", metavar="FILE.npy")] = None,
    task: Task,
) -> int:
    """Show the class activation map of IMAGE and its largest pixels."""
    ranks = common.parse_k(k)

    def ask(network: Network, image: ImageArray) -> Explanation:
        from corgi.certify.explain import explain

        return explain(network, image, ranks, class_id)

    return task.answer(ask, lambda _: Exit.OK, array=Array("--save", save, lambda found: found.cam))
