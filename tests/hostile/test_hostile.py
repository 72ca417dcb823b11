"""Corrupt, mistyped and hostile files through the command line: exit code 4 and one line, or a sound answer.

All commands of a test run in a process of their own with limited memory (`run.py`), so that a crash, a hang
or a bomb ends the test and not the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from corgi.cli.exits import Exit
from corgi.cli.main import app
from corgi.errors import LONGEST_TEXT, printable
from tests.hostile import damage, external, images, models

ROOT = Path(__file__).parents[2]
HANG = 300
"""Seconds for all commands of a test, which take about 10: only a hang takes longer."""


@dataclass(frozen=True)
class Ended:
    """How a command ended; `native`: bytes that libraries wrote past Python."""

    name: str
    code: int
    stdout: str
    stderr: str
    native: int


def run(folder: Path, commands: list[list[str]]) -> Iterator[Ended]:
    """Run commands (name, arguments...) of corgi; a crash or hang fails with the name of the command."""
    source, target = folder / "commands.json", folder / "results.jsonl"
    source.write_text(json.dumps(commands))
    target.write_text("")
    program = [sys.executable, "-m", "tests.hostile.run", str(source), str(target)]
    try:
        code = subprocess.run(program, cwd=ROOT, timeout=HANG, capture_output=True, check=False).returncode
    except subprocess.TimeoutExpired:
        code = -9
    results = [json.loads(line) for line in target.read_text().splitlines()]
    if len(results) < len(commands):
        pytest.fail(f"{commands[len(results)][0]}: the process ended with {code}")
    for found in results:
        yield Ended(**found)


def faults(ended: Ended, culprit: Path) -> list[str]:
    """What is wrong with a refusal: it is exit code 4, one line that names the file, at most one more."""
    # A busy machine may take so long that corgi says what it is doing.
    lines = [line for line in ended.stderr.removesuffix("\n").split("\n") if not line.endswith(" so far)")]
    found = {
        f"exit code {ended.code}": ended.code != Exit.ERROR,
        f"stdout {ended.stdout[:80]!r}": ended.stdout != "",
        f"{len(lines)} lines": len(lines) > 2,
        "no name of the file": printable(str(culprit))[:LONGEST_TEXT] not in lines[0],
        "the file is named twice": lines[0].count(str(culprit)) > 1,
        "control characters": any(printable(line[:LONGEST_TEXT]) != line[:LONGEST_TEXT] for line in lines),
        "a long line": max(map(len, lines)) > 2 * LONGEST_TEXT,
        "a fault of corgi": "This is a fault in corgi" in ended.stderr,
        "output past Python": ended.native != 0,
    }
    return [f"{ended.name}: {fault} ({ended.stderr[:200]})" for fault, given in found.items() if given]


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    """Hostile models on a sound image and the other way round; the first command: both are served."""
    model, image = tmp_path / "sound.onnx", tmp_path / "sound.npy"
    model.write_bytes(models.proto(models.sound()).SerializeToString())
    image.write_bytes(images.npy(images.FLOATS))
    for name in ("images", "external", "paths"):
        (tmp_path / name).mkdir()
    commands, culprits = [["sound", "verify", "--k", "2", str(model), str(image)]], [model]
    for number, (name, content) in enumerate(models.files()):
        path = tmp_path / f"model{number}.onnx"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        commands.append([name, "verify", "--k", "2", str(path), str(image)])
        culprits.append(path)
    for name, path in external.with_folder(tmp_path / "external"):
        commands.append([name, "verify", "--k", "2", str(path), str(image)])
        culprits.append(path)
    for name, content in images.files():
        path = tmp_path / "images" / name
        path.write_bytes(content)
        commands.append([name, "verify", "--k", "2", str(model), str(path)])
        culprits.append(path)
    for name, path in images.with_folder(tmp_path / "paths"):
        commands.append([name, "verify", "--k", "2", str(model), str(path)])
        culprits.append(path)
    assert len(commands) > 500
    found = run(tmp_path, commands)
    assert next(found).code in (Exit.OK, Exit.UNKNOWN)
    assert not [
        fault for ended, path in zip(found, culprits[1:], strict=True) for fault in faults(ended, path)
    ]


def test_damaged_models_are_refused_or_certified_soundly(tmp_path: Path) -> None:
    """A flipped bit of a weight makes another model, which is served: no attack may break its certificate."""
    cases = []
    for name, content, shape in damage.files(seed=0, count=20):
        path, image = tmp_path / f"{name}.onnx", tmp_path / f"{name}.npy"
        path.write_bytes(content)
        image.write_bytes(images.npy(np.random.default_rng(1).random(shape, dtype=np.float32)))
        cases.append((path, ["--k", "2", "--eps", "0.002", str(path), str(image)]))
    commands = [[path.name, "verify", "--method", "crown", "--no-attack", *rest] for path, rest in cases]
    proved = 0
    for ended, (path, rest) in zip(run(tmp_path, commands), cases, strict=True):
        if ended.code == Exit.OK:
            proved += 1
            assert CliRunner().invoke(app, ["attack", *rest]).exit_code == Exit.UNKNOWN
        elif ended.code != Exit.UNKNOWN:
            assert not faults(ended, path)
    assert proved
