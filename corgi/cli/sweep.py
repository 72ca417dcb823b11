"""`corgi sweep`: where a property of one image's map holds along a change of light, weather or geometry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import finished
from corgi.cli.property import property_of, with_wanted
from corgi.cli.radius import radius_option, sizes_of
from corgi.cli.task import Task, with_task
from corgi.errors import UsageError
from corgi.wanted import WantedProperty

if TYPE_CHECKING:
    from corgi.certify.sweep import SweepResult
    from corgi.changes.interface import Change
    from corgi.network.network import Network
    from corgi.results import ImageArray

_CHANGE = (
    "What changes: brightness, contrast, darken, colour, fog, blur, sharpen, shadow:REGION, haze:IMAGE,"
    " towards:IMAGE, noise-pattern:FILE.npy, basis:FILE.npy, several of these with + between; or gamma,"
    " rotation (sizes in degrees), shift (in pixels), scale."
)

_USUAL = "20%; rotation 2 degrees, shift 1 pixel, scale 5%"


@with_wanted
@with_task
def command(
    *,
    change: Annotated[str, typer.Option("--change", metavar="NAME[:FILE][+...]", help=_CHANGE)],
    to: Annotated[
        str | None,
        typer.Option(metavar="T", help="Largest size of its parameters; as 0.2 or 20%.", show_default=_USUAL),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="T[,T]", help="Sizes to decide, each by itself; as 5%,10%,20%.", show_default="--to"
        ),
    ] = None,
    eps: Annotated[
        float | None,
        radius_option(
            help="Of an l_inf ball around each image, all of whose images count; as 0.25/255.",
            show_default="0",
        ),
    ] = None,
    wanted: WantedProperty,
    k: common.KOption = None,
    class_id: common.ClassOption = None,
    time_limit: common.TimeLimitOption = None,
    task: Task,
) -> int:
    """Certify the map of IMAGE along a change of light, weather, focus or geometry: where it stays as asked.

    The change is the set of all its images, clip(x + t A, 0, 1) for most, with t up to a size. One parameter
    is cut into intervals that are proved to hold, proved to be broken, or open; several into boxes. With
    --eps the set is all images within that of one of these, pixel by pixel.

    Exit code: 0 done, 3 time limit or Ctrl-C (the answer printed is what was done until then), 4 error.
    """
    ranks, asked, largest = (
        common.parse_k(k),
        sizes_along("--sizes", sizes, change),
        sizes_along("--to", to, change),
    )
    if len(largest) > 1:
        raise UsageError(f"--to {to}: expected one number", hint="--sizes takes several.")
    if largest and max(asked, default=0) > largest[0]:
        raise UsageError(f"--sizes {sizes}: beyond --to {to}", hint="Leave --to away.")
    ends = tuple(sorted({*asked, *largest})) or None

    def ask(network: Network, image: ImageArray) -> SweepResult:
        from corgi.certify.sweep import SweepOptions, sweep

        options = SweepOptions(
            ends,
            ranks,
            wanted.k2 if wanted.plain else None,
            class_id,
            property_of(wanted, network, task),
            time_limit,
            eps=eps or 0.0,
        )
        return sweep(network, image, _read(change, network, task), options)

    return task.answer(ask, finished, seconds=time_limit)


def sizes_along(option: str, text: str | None, change: str) -> tuple[float, ...]:
    """Sizes as a user writes them; none for None.

    Raises:
        UsageError: one of them is no number, or has a percent sign where sizes have a unit; or the change is
            none.
    """
    from corgi.changes.names import unit_of

    unit = unit_of(change)
    if text is not None and unit and "%" in text:
        raise UsageError(f"{option} {text}: sizes of {change} are in {unit}", hint="As 1, or 0.5.")
    return () if text is None else sizes_of(option, text)


def _read(text: str, network: Network, task: Task) -> Change:
    """The change a text names: images are read as the image is, regions are those of its picture.

    Raises:
        UsageError, ImageError, DataError: see `read_change`.
    """
    from corgi.changes.wanted import WantedChange

    def image(path: Path) -> ImageArray:
        return common.seen(network, path, task.preprocess).pixels

    return WantedChange(text).read(network.input_shape, task.window(network), task.image, image)
