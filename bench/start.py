"""What starting the command line costs, now and at another commit, in turn in one run.

    python bench/start.py COMMIT [--runs 3]

Processor seconds (all threads, children included) and wall seconds, the least of the runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = {
    "--version": ["--version"],
    "--help": ["--help"],
    "verify --help": ["verify", "--help"],
    "no such file": ["verify", "no.onnx", "no.png"],
    "verify the demo": ["verify", "models/gtsrb.onnx", "models/demo/no_entry.png"],
}


def cost(source: Path, line: list[str]) -> tuple[float, float]:
    """Processor and wall seconds of one command line of a source tree."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "corgi", *line],
        env={**os.environ, "PYTHONPATH": str(source)}, cwd=source, capture_output=True, check=False,
    )  # fmt: skip
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, time.perf_counter() - began


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        subprocess.run(["git", "worktree", "add", "--detach", tree, asked.commit], cwd=ROOT, check=True)
        try:
            print(f"{'':18}{asked.commit[:9]:>22}{'now':>22}")
            for name, line in LINES.items():
                # In turn, so that both meet the machine in the same mood.
                found = [(cost(tree, line), cost(ROOT, line)) for _ in range(asked.runs)]
                cells = [tuple(min(run[i][j] for run in found) for j in range(2)) for i in range(2)]
                print(
                    f"{name:18}" + "".join(f"{cpu:10.2f} s{wall:8.2f} s" for cpu, wall in cells), flush=True
                )
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
