"""`corgi schema`: the JSON Schema of what `--json` writes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit


class Kind(StrEnum):
    """The published documents, by the command that writes them.

    `properties` is that of `verify` about several properties, `report` the report.json.
    """

    VERIFY = "verify"
    PROPERTIES = "properties"
    CAM = "cam"
    ATTACK = "attack"
    INSPECT = "inspect"
    RADII = "radii"
    CURVE = "curve"
    STICKER = "sticker"
    COMPARE = "compare"
    SMOOTH = "smooth"
    SWEEP = "sweep"
    REPORT = "report"


def command(
    kind: Annotated[Kind, typer.Argument(help="The command whose --json it describes.")] = Kind.VERIFY,
    debug: common.DebugOption = False,
) -> int:
    """Print the JSON Schema of a command's --json document."""
    from corgi.reporting.schemas import json_schema

    typer.echo(json_schema(kind.value), nl=False)
    return Exit.OK
