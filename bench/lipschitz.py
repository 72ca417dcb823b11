"""Lipschitz certificates against linear bounds and the exact radius, on the paper's network.

    python bench/lipschitz.py [DATA_DIR] [--class-id 12] [--images 100] [--norm linf] [--out FILE.csv]

Correctly classified GTSRB test images, k = 15, the recipe of Gu et al., one thread. The exact radius lies
between the exact search's certificate and its witness (l_inf; in other norms the witness is the attack's).
No radius may reach the witness. Certificates are timed alone, without an attack, in seconds of the processor.
Images that FILE.csv holds already are not run again.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from pathlib import Path

import torch

import corgi
from corgi.certify.verify import Bounders, verify
from corgi.data.gtsrb import read_test
from corgi.engines.interface import BoundEngine
from corgi.network.network import Network
from corgi.results import ImageArray

ENGINES: tuple[BoundEngine, ...] = (
    corgi.PatchEngine(),
    *(corgi.LipschitzEngine(method) for method in reversed(corgi.LipschitzMethod)),
)
"""The lines of the table, top to bottom; times are relative to the first."""


def certify_all(
    network: Network, image: ImageArray, norm: corgi.Norm, bounders: Bounders
) -> dict[str, float]:
    """Radii and seconds of one image [C, H, W]; certificate and witness of the exact search."""
    row = {}
    for engine in ENGINES:
        options = corgi.VerifyOptions(k=15, norm=norm, engine=engine, attack=None, exact=None)
        started = time.process_time()
        row[engine.method] = verify(network, image, options, bounders=bounders).certificate.radius
        row[f"{engine.method} s"] = time.process_time() - started
    # Last: it goes on with the rows of the first engine.
    exact = verify(network, image, corgi.VerifyOptions(k=15, norm=norm), bounders=bounders)
    row["exact"] = exact.certificate.radius
    row["witness"] = exact.attack.radius if exact.attack and exact.attack.radius else float("inf")
    return row


def print_table(rows: list[dict[str, float]]) -> None:
    """Markdown: one line a method, medians over the images."""
    columns = ["method", "median radius", "radius / exact", "IQR", "radius / crown", "at or past the witness"]
    print(f"| {' | '.join([*columns, 'no certificate', 's', 's / crown'])} |")
    print("|---" * 9 + "|")
    for engine in ENGINES:
        method, first = engine.method, ENGINES[0].method
        shares = [row[method] / row["exact"] for row in rows if row["exact"] > 0]
        low, middle, high = statistics.quantiles(shares, n=4)
        to_first = [row[method] / row[first] for row in rows if row[first] > 0]
        times = [row[f"{method} s"] / row[f"{first} s"] for row in rows]
        cells = [
            method,
            f"{statistics.median(row[method] for row in rows):.3g}",
            f"{middle:.3f}",
            f"{low:.3f}-{high:.3f}",
            f"{statistics.median(to_first):.3f}",
            sum(row[method] >= row["witness"] for row in rows),
            sum(row[method] == 0 for row in rows),
            f"{statistics.median(row[f'{method} s'] for row in rows):.2f}",
            f"{statistics.median(times):.2f}",
        ]
        print(f"| {' | '.join(str(cell) for cell in cells)} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--class-id", type=int, default=12)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--norm", type=corgi.Norm, default=corgi.Norm.LINF)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = corgi.load(arguments.data / "corgi_paper" / "gtsrb_gu2020.onnx")
    samples = [s for s in read_test(arguments.data / "GTSRB") if s.class_id == arguments.class_id]
    found: dict[str, dict[str, float]] = {}
    if arguments.out and arguments.out.exists():
        with arguments.out.open(newline="") as file:
            for row in csv.DictReader(file):
                name = row.pop("image")
                found[name] = {key: float(value) for key, value in row.items()}
    bounders = Bounders()
    for sample in samples[: arguments.images]:
        image = corgi.read_image(sample.path, network, "gtsrb")
        if sample.path.name in found or network.predict(image) != sample.class_id:
            continue
        row = certify_all(network, image, arguments.norm, bounders)
        found[sample.path.name] = row
        print(sample.path.name, *row.values(), file=sys.stderr, flush=True)
        if arguments.out:
            with arguments.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, ["image", *row])
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow({"image": sample.path.name, **row})
    rows = list(found.values())
    print(f"{len(rows)} images of class {arguments.class_id}, {arguments.norm.label}\n")
    print_table(rows)


if __name__ == "__main__":
    main()
