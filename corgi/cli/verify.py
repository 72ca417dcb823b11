"""`corgi verify`: a certified radius, an attack radius and a picture of one image's map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from corgi.cli import common
from corgi.cli.asked import Asked, with_asked
from corgi.cli.exits import Exit, exit_of_all
from corgi.cli.property import properties_of, property_of, with_several
from corgi.cli.task import Array, Task, with_task
from corgi.cli.where import where_of
from corgi.errors import UsageError
from corgi.wanted import WantedProperty

if TYPE_CHECKING:
    from corgi.network.network import Network
    from corgi.results import ImageArray, VerifyResult, VerifyResults

    Found = VerifyResult | VerifyResults


@with_several
@with_asked
@with_task
def command(
    *,
    several: tuple[WantedProperty, ...],
    asked: Asked,
    witness: common.WitnessOption = None,
    task: Task,
) -> int:
    """Certify the class activation map of IMAGE: within which radius its largest pixels stay the same.

    Other questions than that of the largest pixels: --property, with the options named after it. Given
    several times, each is answered by itself, and they share the work and the time.

    Exit code: 0 proved or a positive radius, 1 refuted, 2 unknown, 3 time limit or Ctrl-C, 4 error. Of
    several properties the first of 1, 3, 2, 0 that one of them has.
    """
    if witness is not None and not asked.attack:
        raise UsageError("--witness: with --no-attack there is none to save")
    if witness is not None and len(several) > 1:
        raise UsageError("--witness: each property has its own", hint="Ask for one --property.")
    options = asked.options()

    def ask(network: Network, image: ImageArray) -> Found:
        from corgi.certify.several import verify_properties
        from corgi.certify.verify import verify

        seconds, name = common.in_time("verify", options.time_limit, network, len(several)), str(task.image)
        chosen = replace(options, time_limit=seconds)
        chosen = replace(chosen, where=where_of(asked.where, network, task))
        if len(several) > 1:
            properties = properties_of(several, network, task)
            return verify_properties(network, image, properties, chosen, image_name=name)
        (wanted,) = several
        k2, one = wanted.k2 if wanted.plain else None, property_of(wanted, network, task)
        return verify(network, image, replace(chosen, k2=k2, property=one), image_name=name)

    def all_exits(found: Found) -> Exit:
        return exit_of_all(result.status for result in _all(found))

    array: Array[Found] = Array(
        "--witness", witness, lambda found: common.image_of(_all(found)[0].attack), common.NO_WITNESS
    )
    return task.answer(ask, all_exits, seconds=asked.time_limit, array=array)


def _all(found: Found) -> tuple[VerifyResult, ...]:
    from corgi.results import VerifyResults

    return found.results if isinstance(found, VerifyResults) else (found,)
