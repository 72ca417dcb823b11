"""Public instances of the competition of neural network verifiers: answers found, wrong, and what they take.

    python bench/vnncomp.py [BENCHMARK ...] [--data DATA_DIR] [--seconds 120] [--every 1] [--verbose]

Of each benchmark of DATA_DIR/vnncomp every instance, or every N-th, one after the other in a process of one
thread, each with the same seconds. The processor seconds of an instance are those of its own process, reading
included; of one that had to be ended its wall seconds. An answer that contradicts the one on which the
competition's tools agree ends with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from corgi.terms import Answer
from corgi.vnnlib.instances import Result, read_expected, read_instances
from corgi.vnnlib.run import Reply, run_instances, solve

COLUMNS = ("benchmark", "found", "wrong", "not found", "s an instance", "processor s an instance")


def timed(onnx: Path, vnnlib: Path, seconds: float) -> Reply:
    """`solve`, with its processor seconds as the last note."""
    before = time.process_time()
    return *solve(onnx, vnnlib, seconds), str(time.process_time() - before)


def measured(folder: Path, seconds: float, every: int, verbose: bool) -> tuple[list[str], bool]:
    """One line of the table, and whether an answer was wrong."""
    known = read_expected(folder / "expected.csv")
    results: list[tuple[Result, Answer | None, float]] = []
    for instance in read_instances(folder / "instances.csv")[::every]:
        (found,) = run_instances([replace(instance, timeout=seconds)], solver=timed)
        # One that was ended from outside has said nothing.
        used = float(found.notes[-1]) if found.notes else found.seconds
        results.append((found, known.get((instance.onnx, instance.vnnlib)), used))
        if verbose:
            cells = (instance.name, found.answer.value, f"{found.seconds:.1f}", f"{results[-1][2]:.1f}")
            print(folder.name, *cells, found.reason[:90], sep=" | ", file=sys.stderr, flush=True)
    decided = {Answer.SAT, Answer.UNSAT}
    right = sum(found.answer == answer for found, answer, _ in results)
    wrong = sum(
        found.answer in decided and answer is not None and found.answer != answer
        for found, answer, _ in results
    )
    times = [found.seconds for found, _, _ in results], [used for _, _, used in results]
    took = [f"{min(of):.1f} to {max(of):.1f}" for of in times]
    cells = [folder.name, f"{right} of {len(results)}", str(wrong), str(len(results) - right), *took]
    return cells, wrong > 0


def main() -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("benchmarks", nargs="*")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.data / "vnncomp"
    names = arguments.benchmarks or sorted(path.name for path in folder.iterdir())
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    failed = False
    for name in names:
        cells, wrong = measured(folder / name, arguments.seconds, arguments.every, arguments.verbose)
        failed |= wrong
        print(f"| {' | '.join(cells)} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
