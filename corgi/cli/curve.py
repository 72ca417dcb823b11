"""`corgi curve`: certified and attack radius against k and k2, and the k it recommends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import finished
from corgi.cli.task import Task, with_task
from corgi.errors import UsageError
from corgi.terms import Norm

if TYPE_CHECKING:
    from corgi.certify.curve import Curve
    from corgi.network.network import Network
    from corgi.results import ImageArray


def ranks_of(option: str, text: str) -> list[int]:
    """Ranks as a user writes them: `5-15`, `5-50:5`, `5,10,30`, or several of these.

    Raises:
        UsageError: not of that form.
    """
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, dash, last = span.partition("-")
        try:
            low, high, by = int(first), int(last if dash else first), int(step or 1)
        except ValueError:
            low, high, by = 1, 0, 1
        if not (0 < low <= high and by > 0):
            raise UsageError(f"{option} {text}: expected ranks like 5-15, 5-50:5 or 5,10,30")
        found |= set(range(low, high + 1, by))
    return sorted(found)


@with_task
def command(
    *,
    ks: Annotated[str, typer.Option("--k", metavar="RANKS", help="As 5-15, 5-50:5 or 5,10,30.")] = "5-50:5",
    k2s: Annotated[
        str | None,
        typer.Option("--k2", metavar="RANKS", help="Also vary k2, with k = BASE.", show_default="none"),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="The k of the k2 curve.", show_default="15, at most half of it"),
    ] = None,
    class_id: common.ClassOption = None,
    norm: common.NormOption = Norm.LINF,
    gap: Annotated[float, typer.Option(help="How close witness and certificate shall come.")] = 0.01,
    seconds: Annotated[float, typer.Option(help="Most seconds to decide one rank exactly.")] = 30.0,
    time_limit: common.TimeLimitOption = None,
    task: Task,
) -> int:
    """Certify the map of IMAGE for many k (and k2), and say for which k it is hardest to change.

    Exit code: 0 done, 3 time limit or Ctrl-C (the answer printed is what was done until then), 4 error.
    """
    by_k = ranks_of("--k", ks)
    by_k2 = [] if k2s is None else ranks_of("--k2", k2s)
    k = common.parse_k(base)

    def ask(network: Network, image: ImageArray) -> Curve:
        from corgi.certify.curve import radius_curve
        from corgi.certify.verify import VerifyOptions
        from corgi.decide.ball import ExactOptions

        exact = ExactOptions(gap=gap, seconds=seconds)
        options = VerifyOptions(k=k, class_id=class_id, norm=norm, exact=exact)
        name = str(task.image)
        return radius_curve(network, image, by_k, by_k2, options, image_name=name)

    return task.answer(ask, finished, seconds=time_limit)
