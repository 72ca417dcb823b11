"""`corgi verify`: a certified radius, an attack radius and a picture of one image's map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from corgi.budget import announce
from corgi.cli import common
from corgi.cli.asked import Asked, with_asked
from corgi.cli.exits import exit_of
from corgi.cli.property import property_of, with_wanted
from corgi.cli.task import Array, Task, with_task
from corgi.cli.where import where_of
from corgi.errors import UsageError
from corgi.wanted import WantedProperty

if TYPE_CHECKING:
    from corgi.network.network import Network
    from corgi.results import ImageArray, VerifyResult

DEEP_SECONDS = 45.0
"""Time limit for a deep network where none is given: its bounds could take hours to get a little better."""


@with_wanted
@with_asked
@with_task
def command(*, wanted: WantedProperty, asked: Asked, witness: common.WitnessOption = None, task: Task) -> int:
    """Certify the class activation map of IMAGE: within which radius its largest pixels stay the same.

    Other questions than that of the largest pixels: --property, with the options named after it.

    Exit code: 0 proved or a positive radius, 1 refuted, 2 unknown, 3 time limit or Ctrl-C, 4 error.
    """
    if witness is not None and not asked.attack:
        raise UsageError("--witness: with --no-attack there is none to save")
    options = asked.options()

    def ask(network: Network, image: ImageArray) -> VerifyResult:
        from corgi.certify.verify import verify
        from corgi.network.depth import is_deep

        chosen = replace(
            options,
            k2=wanted.k2 if wanted.plain else None,
            property=property_of(wanted, network, task),
            where=where_of(asked.where, network, task),
        )
        if options.time_limit is None and is_deep(network.trunk):
            chosen = replace(chosen, time_limit=DEEP_SECONDS)
            about = f"a deep network: at most {DEEP_SECONDS:g} s, or as --time-limit says (inf: no limit)"
            announce("verify", about)
        return verify(network, image, chosen, image_name=str(task.image))

    array: Array[VerifyResult] = Array(
        "--witness", witness, lambda result: common.image_of(result.attack), common.NO_WITNESS
    )
    return task.answer(ask, lambda r: exit_of(r.status), seconds=asked.time_limit, array=array)
