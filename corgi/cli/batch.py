"""`corgi batch`: `corgi verify` for many images, into a store that survives interruption."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.asked import Asked, with_asked
from corgi.cli.exits import Exit
from corgi.cli.groups import with_group
from corgi.cli.loading import Loading, with_loading
from corgi.cli.property import with_wanted
from corgi.cli.radius import radii_of
from corgi.cli.sweep import sizes_along
from corgi.data.where import WantedWhere
from corgi.errors import UsageError
from corgi.terms import PICTURE_FORMATS
from corgi.wanted import WantedProperty

if TYPE_CHECKING:
    from corgi.batch.call import BatchResult
    from corgi.batch.items import Chosen
    from corgi.batch.question import Question
    from corgi.batch.run import Tally


@dataclass(frozen=True)
class _Images:
    """Which images; each field is an argument or option."""

    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES...", help="Image files, and folders with all below them."),
    ] = None
    gtsrb: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The test images of GTSRB, instead of IMAGES.")
    ] = None
    classes: Annotated[
        str | None, typer.Option(metavar="C[,C,...]", help="Of --gtsrb: classes.", show_default="all")
    ] = None
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Of --gtsrb: the first N of each class.", show_default="all")
    ] = None

    def chosen(self) -> Chosen:
        """The images there are.

        Raises:
            UsageError: none, or options that do not go together.
        """
        from corgi.batch import items

        if bool(self.images) == (self.gtsrb is not None):
            raise UsageError("expected either IMAGES or --gtsrb DIR")
        if self.gtsrb is not None:
            classes = None if self.classes is None else _classes(self.classes)
            return items.of_gtsrb(self.gtsrb, classes, self.per_class)
        if self.classes is not None or self.per_class is not None:
            raise UsageError("--classes and --per-class: only with --gtsrb")
        return items.of_paths(self.images or ())


def _classes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--classes {text}: expected class numbers with commas between, as 12,17") from None


@dataclass(frozen=True)
class _Shares:
    """Radii, or sizes of a change, that are decided for shares of images; each field is an option.

    Raises:
        UsageError: radii or sizes that are none, sizes of no change, or a picture that could not be drawn.
    """

    radii: Annotated[
        str | None,
        typer.Option(
            metavar="R[,R...]",
            help="Also decide these radii, pixel scale [0, 1], for shares of images; as 1/255,2/255.",
            show_default="the search alone",
        ),
    ] = None
    change: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:FILE][+...]",
            help="Decide the property along a change instead of in balls, as `corgi sweep` does: fog, blur,"
            " haze:IMAGE, brightness+contrast, ...",
            show_default="balls",
        ),
    ] = None
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="T[,T...]", help="Of --change: sizes to decide; as 5%,10%,20%.", show_default="as sweep"
        ),
    ] = None
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of --radii and --change: draw the shares against radius or size:"
            f" {', '.join(PICTURE_FORMATS)}.",
        ),
    ] = None

    def __post_init__(self) -> None:
        common.check_ending("--picture", self.picture, PICTURE_FORMATS)
        if not self.decided and self.change is None and self.picture is not None:
            hint = "Name some radii, or a change."
            raise UsageError("--picture: draws the shares of images at --radii, or along --change", hint=hint)
        if self.sizes is not None and self.change is None:
            raise UsageError("--sizes: of a change", hint="Name it by --change.")

    @property
    def decided(self) -> tuple[float, ...]:
        """The radii, each once, ascending."""
        return () if self.radii is None else radii_of("--radii", self.radii)

    @property
    def ends(self) -> tuple[float, ...] | None:
        """The sizes; None where none are named."""
        return None if self.sizes is None else sizes_along("--sizes", self.sizes, self.change or "")


@with_group("given", _Images)
@with_group("shares", _Shares)
@with_wanted
@with_asked
@with_loading
def command(
    model: common.ModelArgument,
    *,
    given: _Images,
    store: Annotated[Path, typer.Option(metavar="FILE", help="Rows go here; those there are kept.")] = Path(
        "runs.sqlite"
    ),
    retry: Annotated[bool, typer.Option("--retry", help="Try images again that failed or crashed.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Images computed at once.", show_default="one a core; 1 on a GPU"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Compute on a Ray cluster: HOST:PORT, auto or local."),
    ] = None,
    preprocess: common.PreprocessOption = None,
    shares: _Shares,
    wanted: WantedProperty,
    asked: Asked,
    loading: Loading,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Certify the maps of many images, one row each in a store; run it again to go on where it stopped.

    Exit code: 0 done, 2 done but some images failed, 4 error, 130 Ctrl-C. Rows written before stay.
    """
    common.check_outputs((model,), {"--store": store, "--picture": shares.picture})
    from corgi.batch.call import run_batch

    question = _question(asked, loading, preprocess, wanted, shares)
    with common.working("reading the images", quiet=quiet):
        chosen = given.chosen().asked(question.annotated_by)
    for line in chosen.told():
        common.note(line, quiet=quiet)
    with _counting(quiet=quiet) as show:
        found = run_batch(
            model,
            chosen.items,
            store,
            question,
            retry=retry,
            workers=workers,
            ray=ray,
            command=common.command_line(),
            on_progress=show,
            on_wait=partial(common.note, quiet=quiet),
        )
    _show(found, shares.picture, quiet=quiet)
    return Exit.OK if found.complete else Exit.UNKNOWN


def _show(found: BatchResult, picture: Path | None, *, quiet: bool) -> None:
    """What the batch did, in words and as a picture."""
    if not quiet:
        typer.echo(found.in_words)
        if found.curve is not None:
            from corgi.reporting.facts import columns, decided_table

            typer.echo(columns(*decided_table(found.decided, found.curve.measure)))
    if picture is not None and found.curve is None:
        common.note(f"no image has an answer, {picture} is not written", quiet=quiet)
    elif picture is not None and found.curve is not None:
        from corgi.reporting.accuracy_picture import accuracy_picture

        common.save_picture(accuracy_picture(found.curve), picture)


def _question(
    asked: Asked,
    loading: Loading,
    preprocess: str | None,
    wanted: WantedProperty,
    shares: _Shares,
) -> Question:
    from corgi.batch.question import Question
    from corgi.changes.wanted import WantedChange

    chosen = replace(asked.options(), k2=wanted.k2 if wanted.plain else None)
    where = None if asked.where is None else WantedWhere(asked.where)
    change = None if shares.change is None else WantedChange(shares.change)
    return Question(chosen, loading, preprocess, wanted, shares.decided, where, change, shares.ends)


@contextmanager
def _counting(*, quiet: bool) -> Iterator[Callable[[Tally], None]]:
    """Progress with rate and time that remains, on stderr if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    shown = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
    with redirect_stdout(sys.stderr), shown as progress:
        task = progress.add_task("images", total=None, rate="")
        told = False

        def show(tally: Tally) -> None:
            nonlocal told
            if tally.claimed and not told:
                told = True
                left = f"{tally.claimed} images left, which other runs on this store have claimed"
                common.note(f"waiting: {left}; claims of a machine that is gone end in a minute", quiet=quiet)
            speed = progress.tasks[0].speed
            rate = "" if speed is None else f"{60 * speed:.1f} images/min"
            progress.update(task, total=tally.total, completed=tally.done, rate=rate)

        try:
            yield show
        except KeyboardInterrupt:
            common.note("the same command goes on where this one stopped", quiet=quiet)
            raise
