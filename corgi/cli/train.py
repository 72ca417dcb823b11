"""`corgi train`: train networks that have a class activation map."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.app import CorgiGroup
from corgi.cli.exits import Exit
from corgi.errors import UsageError
from corgi.train.options import ARCHITECTURES, Cifar10Options, GtsrbOptions

if TYPE_CHECKING:
    from corgi.train.run import Progress
    from corgi.train.task import TrainingReport

app = typer.Typer(
    cls=CorgiGroup, rich_markup_mode=None, help="Train networks that have a class activation map."
)

_GTSRB = GtsrbOptions()
_CIFAR10 = Cifar10Options()

OutOption = Annotated[
    Path, typer.Option(help="ONNX file to write; a model card goes beside it.", metavar="FILE")
]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over the training images.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything random.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Torch threads.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes that read pictures.")]


@app.callback()
def _group() -> None:
    """Train networks that have a class activation map."""


@app.command("gtsrb")
def gtsrb(
    data: Annotated[Path, typer.Option(help="Folder with Training/ and Final_Test/.", metavar="DIR")],
    out: OutOption,
    epochs: EpochsOption = _GTSRB.epochs,
    seed: SeedOption = _GTSRB.seed,
    threads: ThreadsOption = _GTSRB.threads,
    workers: WorkersOption = _GTSRB.workers,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Train the network of Gu et al. on German traffic signs; split by track; write ONNX and a model card."""
    from corgi.train.gtsrb import train_gtsrb

    options = GtsrbOptions(epochs=epochs, seed=seed, threads=threads, workers=workers)
    return _train(out, quiet, lambda show: train_gtsrb(data, out, options, show))


@app.command("cifar10")
def cifar10(
    data: Annotated[
        Path, typer.Option(help="Folder with train/CLASS/ and test/CLASS/, JPEG pictures.", metavar="DIR")
    ],
    out: OutOption,
    architecture: Annotated[
        str, typer.Option(metavar="NAME", help=f"Network to train: {', '.join(ARCHITECTURES)}.")
    ] = _CIFAR10.architecture,
    epochs: EpochsOption = _CIFAR10.epochs,
    seed: SeedOption = _CIFAR10.seed,
    threads: ThreadsOption = _CIFAR10.threads,
    workers: WorkersOption = _CIFAR10.workers,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Train a modern architecture on CIFAR-10, from its pictures in folders; write ONNX and a model card."""
    from corgi.train.cifar10 import train_cifar10

    options = Cifar10Options(
        architecture=architecture, epochs=epochs, seed=seed, threads=threads, workers=workers
    )
    return _train(out, quiet, lambda show: train_cifar10(data, out, options, show))


def _train(out: Path, quiet: bool, training: Callable[[Callable[[Progress], None]], TrainingReport]) -> int:
    """Check the output, train with a progress bar, say how it went."""
    if out.suffix != ".onnx":
        raise UsageError(f"--out {out}: expected a name that ends in .onnx")
    common.check_outputs((), {"--out": out, "model card": out.with_suffix(".md")})
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True, quiet=quiet or not os.isatty(2))
    with Bar(console=console) as bar:
        tasks = {stage: bar.add_task(stage, total=None) for stage in ("read", "train")}

        def show(event: Progress) -> None:
            task = tasks[event.stage]
            bar.update(
                task, completed=event.done, total=event.total, description=f"{event.stage}: {event.note}"
            )

        report = training(show)
    if not quiet:
        from corgi.reporting.text import training_text

        common.show(training_text(report))
    return Exit.OK
