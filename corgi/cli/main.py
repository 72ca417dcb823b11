"""The console script `corgi`: its subcommands, and nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from corgi import __version__
from corgi.cli import (
    attack,
    batch,
    cam,
    compare,
    curve,
    export,
    export_runs,
    inspect,
    radii,
    report,
    schema,
    smooth,
    train,
    verify,
    vnn,
)
from corgi.cli.app import CorgiGroup
from corgi.cli.exits import Exit

app = typer.Typer(
    cls=CorgiGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"corgi {__version__}")
        raise typer.Exit(Exit.OK)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Formal verification of class activation maps: certified radii, counterexamples, pictures.

    Exit codes: 0 proved, positive radius or done; 1 refuted; 2 unknown or radius 0; 3 time limit or Ctrl-C
    in a verification; 4 usage or input error; 130 Ctrl-C elsewhere.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(Exit.ERROR)


app.command("verify")(verify.command)
app.command("cam")(cam.command)
app.command("inspect")(inspect.command)
app.command("attack")(attack.command)
app.command("radii")(radii.command)
app.command("curve")(curve.command)
app.command("compare")(compare.command)
app.command("smooth")(smooth.command)
app.command("batch")(batch.command)
app.command("report")(report.command)
app.command("export-runs")(export_runs.command)
app.command("export")(export.command)
app.add_typer(vnn.app, name="vnn")
app.add_typer(train.app, name="train")
app.command("schema")(schema.command)
