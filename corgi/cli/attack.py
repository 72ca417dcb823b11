"""`corgi attack`: the closest image an attack finds whose map has other largest pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.property import property_of, with_wanted
from corgi.cli.radius import radius_option
from corgi.cli.task import Array, Task, with_task
from corgi.cli.where import where_of
from corgi.terms import AttackKind, Norm
from corgi.wanted import WantedProperty

if TYPE_CHECKING:
    from corgi.certify.attack import AttackResult
    from corgi.network.network import Network
    from corgi.results import ImageArray


@with_wanted
@with_task
def command(
    *,
    k: common.KOption = None,
    wanted: WantedProperty,
    class_id: common.ClassOption = None,
    norm: common.NormOption = Norm.LINF,
    where: common.WhereOption = None,
    eps: Annotated[
        float | None,
        radius_option(help="Attack this radius only, pixel scale [0, 1]; as 1/255.", show_default="search"),
    ] = None,
    attack_kind: Annotated[AttackKind, typer.Option("--kind", "--attack-kind", help="Which attack.")] = (
        AttackKind.MARGIN
    ),
    keep_label: Annotated[
        bool, typer.Option("--keep-label", help="A witness must keep the predicted class.")
    ] = False,
    time_limit: common.TimeLimitOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random starts.")] = 0,
    witness: common.WitnessOption = None,
    task: Task,
) -> int:
    """Look for the closest image to IMAGE whose map has other largest pixels: an upper bound, no guarantee.

    Exit code: 0 a witness was found (1 with --eps: refuted), 2 none was found, 3 Ctrl-C, 4 error.
    """
    ranks = common.parse_k(k)

    def ask(network: Network, image: ImageArray) -> AttackResult:
        from corgi.attacks.search import AttackOptions
        from corgi.certify.attack import attack

        options = AttackOptions(kind=attack_kind, keep_label=keep_label, seed=seed)
        return attack(
            network,
            image,
            options,
            k=ranks,
            k2=wanted.k2 if wanted.plain else None,
            property=property_of(wanted, network, task),
            class_id=class_id,
            norm=norm,
            where=where_of(where, network, task),
            eps=eps,
        )

    array: Array[AttackResult] = Array(
        "--witness", witness, lambda found: common.image_of(found.found), common.NO_WITNESS
    )
    return task.answer(ask, _exit, seconds=time_limit, array=array)


def _exit(result: AttackResult) -> Exit:
    if result.interrupted:
        return Exit.TIME_LIMIT
    if result.found.witness is None:
        return Exit.UNKNOWN
    return Exit.OK if result.eps is None else Exit.REFUTED
