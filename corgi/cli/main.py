"""The console script `corgi`: its subcommands, and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from corgi import __version__
from corgi.cli.app import CorgiGroup
from corgi.cli.exits import Exit

COMMANDS = {
    "verify": "Certify the class activation map of IMAGE: within which radius its largest pixels stay the "
    "same.",
    "cam": "Show the class activation map of IMAGE and its largest pixels.",
    "inspect": "Show the input, the CAM head and the classes of MODEL, and what bounding it takes.",
    "attack": "Look for the closest image to IMAGE whose map has other largest pixels: an upper bound, no "
    "guarantee.",
    "radii": "Certify each pixel of the map of IMAGE: within which radius it stays among the K largest, or "
    "outside.",
    "curve": "Certify the map of IMAGE for many k (and k2), and say for which k it is hardest to change.",
    "sticker": "Decide for every place of IMAGE whether a sticker there can break the property of its map.",
    "sweep": "Certify the map of IMAGE along a change of light, weather, focus or geometry: where it stays "
    "as asked.",
    "compare": "Compare deterministic, statistical and empirical answers about the largest pixels of IMAGE's "
    "map.",
    "smooth": "Certify the map of IMAGE averaged over noise: which of its largest pixels stay, with high "
    "probability.",
    "batch": "Certify the maps of many images, one row each in a store; run it again to go on where it "
    "stopped.",
    "report": "Report on the rows of stores: figures, charts, a table with a card for each image, two runs "
    "compared.",
    "export-runs": "Write all rows of STORE as CSV, JSON lines or Parquet.",
    "export": 'Write the claim "the K largest pixels of IMAGE\'s map stay the same within EPS" for other '
    "verifiers.",
    "vnn": "Decide VNN-LIB specifications of networks.",
    "train": "Train networks that have a class activation map.",
    "schema": "Print the JSON Schema of a command's --json document.",
}
"""Every subcommand with the first line of its help. Its module is imported when it is called: `corgi --help`
waits for none of them."""


class _Corgi(CorgiGroup):
    """The subcommands, each loaded when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A subcommand, from the module that has its name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"corgi.cli.{cmd_name.replace('-', '_')}")
        own = getattr(module, "app", None)
        if own is None:
            own = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_HELP)
            own.command(cmd_name)(module.command)
        command: Any = typer.main.get_command(own)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of them in `corgi --help`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=_Corgi,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_HELP,
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
