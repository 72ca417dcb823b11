"""`corgi compare`: every kind of certificate for one image, side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import finished
from corgi.cli.property import property_of
from corgi.cli.radius import radius_option
from corgi.cli.task import Task, with_task
from corgi.comparison.options import CompareOptions
from corgi.wanted import WantedProperty

if TYPE_CHECKING:
    from corgi.comparison.rows import Comparison
    from corgi.network.network import Network
    from corgi.results import ImageArray


@with_task
def command(
    *,
    k: common.KOption = None,
    class_id: common.ClassOption = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X1,Y1,X2,Y2|FILE|annotation",
            help="Also ask whether the largest pixel stays inside, as of verify --property pointing.",
        ),
    ] = None,
    share: Annotated[
        float, typer.Option(help="Of the k pixels: also certify that at least this share stays.")
    ] = CompareOptions.share,
    sigma: Annotated[
        float, radius_option(help="Standard deviation of the noise, pixel scale [0, 1].")
    ] = CompareOptions.sigma,
    samples: Annotated[int, typer.Option(help="Noisy images a smoothed map.")] = CompareOptions.samples,
    failure: Annotated[
        float, typer.Option(help="Failure probability of each statistical answer.")
    ] = CompareOptions.failure,
    time_limit: common.TimeLimitOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    task: Task,
) -> int:
    """Compare deterministic, statistical and empirical answers about the largest pixels of IMAGE's map.

    Exit code: 0 done, 3 time limit or Ctrl-C (finished rows are kept), 4 error.
    """
    pointing = None if region is None else WantedProperty.read("pointing", region=region)
    options = CompareOptions(
        k=common.parse_k(k),
        class_id=class_id,
        share=share,
        sigma=sigma,
        samples=samples,
        failure=failure,
        seed=seed,
    )

    def ask(network: Network, image: ImageArray) -> Comparison:
        from corgi.comparison.compare import compare

        asked = None if pointing is None else property_of(pointing, network, task)
        return compare(network, image, replace(options, region=getattr(asked, "region", None)))

    return task.answer(ask, finished, seconds=time_limit)
