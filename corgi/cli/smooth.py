"""`corgi smooth`: a statistical certificate of a map averaged over noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit, finished
from corgi.cli.groups import with_group
from corgi.cli.radius import radius_option
from corgi.cli.task import Task, with_task
from corgi.errors import UsageError
from corgi.smoothing.options import SmoothOptions, order_of
from corgi.terms import Claim, Confidence, Correction, MapForm, MapKind, MapName, Status

if TYPE_CHECKING:
    from corgi.network.network import Network
    from corgi.results import ImageArray, SmoothResult


def _failure(confidence: float) -> float:
    """The failure probability of a confidence."""
    if not 0 < confidence < 1:
        raise UsageError(f"--confidence {confidence:g}: expected a probability between 0 and 1, as 0.999")
    return 1 - confidence


@dataclass(frozen=True)
class _Asked:
    """What the options say; each field is an option, named as in `SmoothOptions` but for the first.

    Raises:
        UsageError: what cannot be asked, see `SmoothOptions`.
    """

    map_kind: Annotated[MapName, typer.Option("--map", help="The map that is averaged.")] = MapName.CAM
    form: Annotated[
        MapForm | None,
        typer.Option(
            help="What becomes of its values: scaled to [0, 1], squared, the largest set to 1.",
            show_default="sparsified",
        ),
    ] = None
    tau: Annotated[
        float | None,
        typer.Option(
            help="Of sparsified and relaxed: share of values that is kept.", show_default="K values"
        ),
    ] = None
    gamma: Annotated[
        float | None, typer.Option(help="Of relaxed: share of values that become 1.", show_default="0.01")
    ] = None
    claim: Annotated[Claim, typer.Option("--certificate", help="What is certified.")] = Claim.OVERLAP
    k: common.KOption = None
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Find the radius at which so many of the K pixels stay.",
            show_default="the largest",
        ),
    ] = None
    radius: Annotated[
        float | None,
        radius_option(
            help="Certify for this radius, pixel scale [0, 1]; as 1/255.", show_default="the largest"
        ),
    ] = None
    norm: Annotated[
        str, typer.Option(metavar="linf|l2|l1|lD", help="Of the radius; other than l2 with renyi only.")
    ] = "l2"
    sigma: Annotated[float, radius_option(help="Standard deviation of the noise, pixel scale [0, 1].")] = (
        SmoothOptions.sigma
    )
    samples: Annotated[int, typer.Option(help="Noisy images, those of --state included.")] = (
        SmoothOptions.samples
    )
    failure: Annotated[
        float,
        typer.Option(
            "--confidence",
            help="Probability with which the claim holds, over the noise.",
            callback=_failure,
        ),
    ] = 1 - SmoothOptions.failure
    confidence: Annotated[
        Confidence | None,
        typer.Option(
            "--interval",
            help="How intervals are found.",
            show_default="clopper-pearson; bernstein if not 0/1",
        ),
    ] = None
    correction: Annotated[
        Correction | None, typer.Option(help="Of pixels: over all of their tests.", show_default="holm")
    ] = None
    eta: Annotated[
        float | None,
        typer.Option(help="renyi: how steeply scores fall per rank.", show_default="10 / center"),
    ] = None
    center: Annotated[
        int | None, typer.Option(help="renyi: the rank around which scores fall.", show_default="K")
    ] = None
    as_published: Annotated[
        bool,
        typer.Option("--as-published", help="overlap: the weaker index of the paper; renyi: NO guarantee."),
    ] = False
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0
    batch: Annotated[
        int | None,
        typer.Option(help="Noisy images evaluated at once.", show_default="what 64 MiB hold, at most 16"),
    ] = None

    def __post_init__(self) -> None:
        self.options()

    def options(self) -> SmoothOptions:
        """What to certify and how."""
        given = vars(self) | {"k": common.parse_k(self.k), "norm": order_of(self.norm)}
        return SmoothOptions(map=given.pop("map_kind"), **given)


@with_task
@with_group("asked", _Asked)
def command(
    *,
    asked: _Asked,
    class_id: common.ClassOption = None,
    time_limit: common.TimeLimitOption = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Go on from the samples saved there, and save all; certified at 100, 200, 400 ...",
            metavar="FILE.npz",
        ),
    ] = None,
    task: Task,
) -> int:
    """Certify the map of IMAGE averaged over noise: which of its largest pixels stay, with high probability.

    By default the largest overlap that the samples show, its radius, and the radius of every smaller overlap;
    all of it holds at once. Ctrl-C and --time-limit certify with the samples drawn until then.

    Exit code: 0 certified, 2 nothing certified, 3 Ctrl-C or time limit, 4 error.
    """
    common.check_ending("--state", state, ("npz",))
    task.check({"--state": state})
    if asked.map_kind is MapName.GRADCAM:
        task = replace(task, loading=replace(task.loading, map_kind=MapKind.GRADCAM))

    def ask(network: Network, image: ImageArray) -> SmoothResult:
        from corgi.certify.smooth import smooth_map

        return smooth_map(
            network,
            image,
            asked.options(),
            class_id=class_id,
            state=state,
            image_name=str(task.image),
        )

    return task.answer(ask, _exit, seconds=time_limit)


def _exit(result: SmoothResult) -> Exit:
    nothing = result.certificate.status is not Status.CERTIFIED
    return Exit.UNKNOWN if nothing and not result.interrupted else finished(result)
