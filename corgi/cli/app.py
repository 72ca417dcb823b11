"""The typer application without its commands: how it fails.

Every error a user can cause ends as one or two lines on stderr and exit code 4, usage errors included:
typer's own code for those, 2, means "unknown" here.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from corgi.budget import OutOfTime
from corgi.cli.exits import Exit
from corgi.errors import CorgiError, printable

# Releases of typer differ in where click lives (a dependency, or inside typer); its base of errors is two
# above BadParameter in both.
_ClickError: Any = typer.BadParameter.__mro__[2]


class CorgiGroup(TyperGroup):
    """A group of commands that return their exit code and raise `CorgiError`."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run a command line and exit; never lets a traceback out unless it holds `--debug`."""
        arguments = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in arguments
        options["standalone_mode"] = False
        try:
            code = super().main(arguments, *rest, **options)
        except _ClickError as error:
            code = _usage(error)
        except CorgiError as error:
            code = _failed(str(error), debug)
        except OutOfTime:
            _stderr("time limit reached before there was anything to show")
            code = Exit.TIME_LIMIT
        except (KeyboardInterrupt, typer.Abort):
            code = _stopped(debug)
        except Exception as error:  # the last line of defence: a fault of corgi, not of the user
            text = printable(f"unexpected {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
            code = _failed(f"{text}\nThis is a fault in corgi; --debug shows where.", debug)
        sys.exit(int(code or Exit.OK))

    def invoke(self, ctx: Any) -> Any:
        """Run the command of a parsed line; a closed pipe ends it quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # typer would exit with 1, which means "refuted". Nothing may be flushed into the pipe later.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.ERROR) from None


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "corgi"
    _stderr(f"{error.format_message()}\nTry: {where} --help")
    return Exit.ERROR


def _failed(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    _stderr(message)
    return Exit.ERROR


def _stopped(debug: bool) -> int:
    if debug:
        traceback.print_exc()
    _stderr("stopped")
    return Exit.KEYBOARD


def _stderr(message: str) -> None:
    typer.echo(f"corgi: {message}", err=True)
