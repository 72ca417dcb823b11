"""Certified and attack radius of a CIFAR-10 network on test images, in two norms, with time and memory.

    python bench/cifar.py MODEL [DATA_DIR] [--images 20] [--k 4] [--norms linf l2] [--time-limit 60]

Images are taken in turn from the ten classes, correctly classified ones only. Memory is kept as the command
line keeps it (corgi/cli/memory.py). One process a norm, so that each has its own peak.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import corgi
from corgi.memory import keep_freed_memory


def chosen(network: corgi.Network, folder: Path, count: int) -> list[Path]:
    """Correctly classified test images, class by class in turn."""
    classes = [sorted(part.iterdir()) for part in sorted(folder.iterdir())]
    found: list[Path] = []
    for turn in zip(*classes, strict=True):
        for path in turn:
            if len(found) == count:
                return found
            if network.class_name(network.predict(corgi.read_image(path, network))) == path.parent.name:
                found.append(path)
    return found


def run(model: Path, folder: Path, count: int, k: int, norm: corgi.Norm, seconds: float) -> None:
    """One line an image, then the medians."""
    keep_freed_memory()
    network = corgi.load(model)
    rows = []
    for path in chosen(network, folder, count):
        started = time.perf_counter()
        image = corgi.read_image(path, network)
        result = corgi.verify(network, image, k=k, norm=norm, time_limit=seconds)
        certificate = result.certificate
        row = {
            "certified": certificate.radius,
            "attack": None if result.attack is None else result.attack.radius,
            "seconds": time.perf_counter() - started,
        }
        rows.append(row)
        print(
            f"{path.parent.name}/{path.name} {json.dumps(row)} {certificate.method}, {result.status}",
            flush=True,
        )
    both = [row for row in rows if row["attack"] and row["certified"] > 0]
    summary = {
        "images": len(rows),
        "certified": len(both),
        "median certified": statistics.median(row["certified"] for row in rows),
        "median attack": statistics.median(row["attack"] for row in both),
        "median ratio": statistics.median(row["attack"] / row["certified"] for row in both),
        "median seconds": statistics.median(row["seconds"] for row in rows),
        "longest seconds": max(row["seconds"] for row in rows),
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    threads = torch.get_num_threads()
    asked = f"{norm.label}, k = {k} of {network.pixels}, time limit {seconds:g} s, threads {threads}"
    print(f"{model.name}, {asked}: {summary}")


def main() -> None:
    """One process a norm."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("model", type=Path)
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--norms", nargs="*", default=["linf", "l2"])
    parser.add_argument("--time-limit", type=float, default=60.0)
    given = parser.parse_args()
    if len(given.norms) == 1:
        run(
            given.model,
            given.data / "CIFAR10" / "test",
            given.images,
            given.k,
            corgi.Norm(given.norms[0]),
            given.time_limit,
        )
        return
    for norm in given.norms:
        arguments = [given.model, given.data, "--images", given.images, "--k", given.k, "--norms", norm]
        arguments += ["--time-limit", given.time_limit]
        subprocess.run([sys.executable, __file__, *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
