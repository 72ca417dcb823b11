"""`corgi train`: train networks that have a class activation map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress as Bar

from corgi.cli import common
from corgi.cli.app import CorgiGroup
from corgi.cli.exits import Exit
from corgi.errors import UsageError
from corgi.report.text import training_text
from corgi.train.gtsrb import GtsrbOptions, train_gtsrb
from corgi.train.run import Progress
from corgi.train.task import TrainingReport

app = typer.Typer(
    cls=CorgiGroup, no_args_is_help=False, help="Train networks that have a class activation map."
)

_DEFAULTS = GtsrbOptions()


@app.callback()
def _group() -> None:
    """Train networks that have a class activation map."""


@app.command("gtsrb")
def gtsrb(
    data: Annotated[Path, typer.Option(help="Folder with Training/ and Final_Test/.", metavar="DIR")],
    out: Annotated[
        Path, typer.Option(help="ONNX file to write; a model card goes beside it.", metavar="FILE")
    ],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = _DEFAULTS.epochs,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = _DEFAULTS.seed,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = _DEFAULTS.threads,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read pictures.")] = _DEFAULTS.workers,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Train the network of Gu et al. on German traffic signs; split by track; write ONNX and a model card."""
    if out.suffix != ".onnx":
        raise UsageError(f"--out {out}: expected a name that ends in .onnx")
    common.check_outputs((), {"--out": out, "model card": out.with_suffix(".md")})
    options = GtsrbOptions(epochs=epochs, seed=seed, threads=threads, workers=workers)
    report = _train(data, out, options, quiet)
    if not quiet:
        Console(highlight=False).print(training_text(report))
    return Exit.OK


def _train(data: Path, out: Path, options: GtsrbOptions, quiet: bool) -> TrainingReport:
    console = Console(stderr=True, quiet=quiet or not os.isatty(2))
    with Bar(console=console) as bar:
        tasks = {stage: bar.add_task(stage, total=None) for stage in ("read", "train")}

        def show(event: Progress) -> None:
            task = tasks[event.stage]
            bar.update(
                task, completed=event.done, total=event.total, description=f"{event.stage}: {event.note}"
            )

        return train_gtsrb(data, out, options, show)
