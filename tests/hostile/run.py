"""Run commands of corgi one after the other in this process, memory limited, and write down how each ends.

Usage: python -m tests.hostile.run COMMANDS.json RESULTS.jsonl
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from typer.testing import CliRunner

from corgi.cli.main import app

MEMORY = 6 * 2**30
"""Address space in bytes: what reserves more fails, instead of making the machine swap."""


def main(commands: Path, results: Path) -> None:
    """Run commands [name, arguments...]; each result is in the file before the next command begins."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    runner = CliRunner()
    with results.open("w") as out, tempfile.TemporaryFile() as native:
        os.dup2(native.fileno(), 2)  # what libraries write past Python
        for name, *arguments in json.loads(commands.read_text()):
            written = native.tell()
            result = runner.invoke(app, arguments)
            found = {
                "name": name,
                "code": result.exit_code,
                "stdout": result.stdout,
                "stderr": result.stderr,
                "native": native.seek(0, os.SEEK_END) - written,
            }
            out.write(json.dumps(found) + "\n")
            out.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
