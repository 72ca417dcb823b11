"""`corgi batch`: `corgi verify` for many images, into a store that survives interruption."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.asked import Asked, with_asked
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.cli.memory import keep_freed_memory
from corgi.errors import UsageError, encodable, printable

if TYPE_CHECKING:
    from corgi.batch.run import Tally
    from corgi.batch.store import Item, Setting, Store
    from corgi.results import VerifyResult

_SHOWN = 10
"""Classes, equal and skipped files that are named; of more their number is said."""


@with_asked
@with_loading
def command(
    model: common.ModelArgument,
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES...", help="Image files, and folders with all below them."),
    ] = None,
    gtsrb: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The test images of GTSRB, instead of IMAGES.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="C[,C,...]", help="Of --gtsrb: classes.", show_default="all")
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Of --gtsrb: the first N of each class.", show_default="all")
    ] = None,
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
    *,
    asked: Asked,
    loading: Loading,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Certify the maps of many images, one row each in a store; run it again to go on where it stopped.

    Exit code: 0 done, 2 done but some images failed, 4 error, 130 Ctrl-C. Rows written before stay.
    """
    common.check_outputs((model,), {"--store": store})
    from corgi.batch.cluster import Cluster
    from corgi.batch.code import code_version
    from corgi.batch.local import LocalWorker
    from corgi.batch.run import forget_failures, run_batch
    from corgi.batch.store import Store
    from corgi.batch.work import Work
    from corgi.reporting.versions import installed_versions

    with common.working("reading the images", quiet=quiet):
        skipped: list[str] = []
        chosen = _items(images, gtsrb, classes, per_class, skipped)
        network = loading.load(model)
    _tell(chosen, skipped, quiet=quiet)
    versions = installed_versions()
    parameters = json.dumps(
        asked.parameters(preprocess) | loading.parameters(), sort_keys=True, separators=(",", ":")
    )
    with ExitStack() as stack:
        cluster = None if ray is None else Cluster(ray)
        if cluster is not None:
            stack.callback(cluster.close)
        cores = len(os.sched_getaffinity(0)) if cluster is None else cluster.cores
        count = workers or (max(1, cores) if asked.device == "cpu" else 1)
        if cluster is not None and count > cores:
            raise UsageError(f"--workers {count}: the cluster has {cores} cores")
        work = Work(
            prepare=keep_freed_memory,
            load=partial(loading.load, model.absolute()),
            model_sha256=network.sha256,
            code=code_version(),
            folder=Path.cwd(),
            options=asked.options(),
            preprocess=preprocess,
            describe=_describe,
            threads=max(1, cores // count),
        )
        waits = partial(common.note, quiet=quiet)
        opened = stack.enter_context(Store(store, create=True, on_wait=waits))
        setting = opened.setting(network.sha256, encodable(str(model)), parameters, work.code)
        forget_failures(opened, setting, chosen, retry=retry)
        line = printable(shlex.join(["corgi", *sys.argv[1:]]))
        run = opened.begin_run(setting, line, count, work.threads, versions.model_dump_json())
        start = LocalWorker if cluster is None else cluster.worker
        show = stack.enter_context(_counting(quiet=quiet))
        started = [start(work) for _ in range(min(count, len(chosen)))]
        try:
            tally = run_batch(opened, setting, run, chosen, started, show)
        except KeyboardInterrupt:
            common.note("stopped; the same command goes on where it was", quiet=quiet)
            return Exit.KEYBOARD
        return _conclude(opened, setting, chosen, tally, quiet=quiet)


def _items(
    images: list[Path] | None,
    gtsrb: Path | None,
    classes: str | None,
    per_class: int | None,
    skipped: list[str],
) -> tuple[Item, ...]:
    from corgi.batch import items

    if bool(images) == (gtsrb is not None):
        raise UsageError("expected either IMAGES or --gtsrb DIR")
    if gtsrb is None:
        if classes is not None or per_class is not None:
            raise UsageError("--classes and --per-class: only with --gtsrb")
        return tuple(items.files(images or (), lambda path, why: skipped.append(f"{path} ({why})")))
    return tuple(items.gtsrb(gtsrb, None if classes is None else _classes(classes), per_class))


def _tell(chosen: tuple[Item, ...], skipped: list[str], *, quiet: bool) -> None:
    """What the run works on: how many images, of which classes, what is one row, and what was skipped."""
    kinds = Counter(item.true_class for item in chosen if item.true_class is not None)
    of = f" in {len(kinds)} classes ({_some([f'{kind}: {n}' for kind, n in kinds.items()])})" if kinds else ""
    common.note(f"{len(chosen)} images found{of}", quiet=quiet)
    first: dict[str, Item] = {}
    again = [item for item in chosen if first.setdefault(item.sha256, item) is not item]
    if again:
        shown = [
            f"{item.name} = {first[item.sha256].name}"
            + ("" if item.true_class == first[item.sha256].true_class else ", of another class")
            for item in again
        ]
        common.note(
            f"{len(again)} of them have the content of another and no row: {_some(shown)}", quiet=quiet
        )
    if skipped:
        common.note(f"{len(skipped)} skipped: {_some(skipped)}", quiet=quiet)


def _some(parts: list[str]) -> str:
    left = len(parts) - _SHOWN
    return printable(", ".join(parts[:_SHOWN])) + (f" and {left} more" if left > 0 else "")


def _classes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--classes {text}: expected class numbers with commas between, as 12,17") from None


def _describe(result: VerifyResult) -> str:
    from corgi.reporting.document import verify_document
    from corgi.reporting.versions import installed_versions

    return verify_document(result, installed_versions()).model_dump_json()


def _conclude(store: Store, setting: Setting, chosen: tuple[Item, ...], tally: Tally, *, quiet: bool) -> Exit:
    from corgi.batch.store import CRASHED, ERROR, FAILED

    wanted = {item.sha256 for item in chosen}
    found = Counter(row.answer.status for row in store.rows(setting) if row.item.sha256 in wanted)
    if not quiet:
        kinds = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in sorted(found.items()))
        typer.echo(f"{tally.total} images: {kinds}")
        typer.echo(
            f"{tally.computed} computed now, {tally.before} before"
            + (f", {tally.elsewhere} by others meanwhile" if tally.elsewhere else "")
            + f"; store {store.path}"
        )
    return Exit.UNKNOWN if any(found[status] for status in (FAILED, ERROR, CRASHED)) else Exit.OK


@contextmanager
def _counting(*, quiet: bool) -> Iterator[Callable[[Tally], None]]:
    """Progress with rate and time that remains, on stderr if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
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

        yield show
