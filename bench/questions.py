"""The questions people ask of a map, on GTSRB test images: certified, refuted and open shares at fixed radii.

    python bench/questions.py [DATA_DIR] [--model FILE] [--per-class 20] [--classes 12 17 25 38 1]
        [--properties pointing ...] [--seconds 30] [--radii 0.5 1 2 4] [--out FILE.csv] [--bounds]

Correctly classified images, k = 15; the region is the sign's own box. Each image and property has its time
for all radii (in 1/255); processes of one thread each. Images at which a property does not hold count apart.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import torch

import corgi
from corgi.data.gtsrb import Sample, read_test
from corgi.data.image import look_at
from corgi.data.preprocess import GTSRB
from corgi.data.region import read_region
from corgi.properties import Inside, Iou, Overlap, Pointing, Property, Topk

K, KEEP = 15, 12
PROPERTIES = ("pointing", "inside", "overlap", "topk", "topk30", "iou")
Row = dict[str, float | str]


def property_of(name: str, region: tuple[int, ...]) -> Property:
    """The property of a name, for the map pixels of a sign."""
    found = {
        "pointing": Pointing(region),
        "inside": Inside(KEEP, region),
        "overlap": Overlap(KEEP),
        "topk": Topk(),
        "topk30": Topk(30),
        "iou": Iou(0.5, 0.5),
    }
    return found[name]


def ask(
    model: Path,
    names: tuple[str, ...],
    radii: tuple[float, ...],
    seconds: float,
    bounds: bool,
    sample: Sample,
) -> list[Row] | None:
    """One row a property, or None for an image that is not classified correctly."""
    torch.set_num_threads(1)
    network = corgi.load(model)
    seen = look_at(sample.path, network.input_shape, GTSRB, None)
    if network.predict(seen.pixels) != sample.class_id:
        return None
    region = read_region("annotation", seen.window, network.head.map_shape, sample.path).pixels
    exact = None if bounds else corgi.ExactOptions()
    rows: list[Row] = []
    for name in names:
        began = time.process_time()
        options = corgi.VerifyOptions(
            k=K, property=property_of(name, region), exact=exact, time_limit=seconds
        )
        result = corgi.verify(network, seen.pixels, options)
        attacked = float("inf") if result.attack is None or not result.attack.radius else result.attack.radius
        rows.append(
            {
                "image": sample.path.name,
                "class": sample.class_id,
                "property": name,
                "holds": int(not result.reason.startswith("at the image itself")),
                "certified": result.certificate.radius,
                "attacked": attacked,
                "seconds": time.process_time() - began,
                "reason": result.reason
                or (result.certificate.exact.reason if result.certificate.exact else ""),
            }
        )
    return rows


def report(rows: list[Row], radii: tuple[float, ...]) -> None:
    """Print a Markdown table."""
    shares = " | ".join(f"{255 * r:g}/255: certified, refuted, open" for r in radii)
    print(f"| property | images | holds | {shares} | median certified | attack / certified | seconds |")
    print("|" + " --- |" * (6 + len(radii)))
    for name in dict.fromkeys(row["property"] for row in rows):
        of = [row for row in rows if row["property"] == name]
        good = [row for row in of if row["holds"]]
        cells = []
        for radius in radii:
            proved = sum(float(row["certified"]) >= radius for row in good)
            refuted = sum(float(row["attacked"]) <= radius for row in good)
            total = max(len(good), 1)
            cells.append(
                ", ".join(f"{n / total:.0%}" for n in (proved, refuted, len(good) - proved - refuted))
            )
        certified = [255 * float(row["certified"]) for row in good]
        ratios = [
            float(r["attacked"]) / float(r["certified"]) if r["certified"] else float("inf") for r in good
        ]
        median = (
            f"{statistics.median(certified):.3f}/255 | {statistics.median(ratios):.3f}" if good else "- | -"
        )
        seconds = statistics.mean(float(row["seconds"]) for row in of)
        print(
            f"| {name} | {len(of)} | {len(good)} | {' | '.join(cells)} | {median} | {seconds:.1f} |",
            flush=True,
        )


def main() -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--model", type=Path, default=Path("models/gtsrb.onnx"))
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--classes", type=int, nargs="*", default=[12, 17, 25, 38, 1])
    parser.add_argument("--properties", nargs="*", default=PROPERTIES, choices=PROPERTIES)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--radii", type=float, nargs="*", default=[0.5, 1, 2, 4])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bounds", action="store_true", help="no exact decisions")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    radii = tuple(radius / 255 for radius in given.radii)
    samples = read_test(given.data / "GTSRB")
    asked = partial(ask, given.model, tuple(given.properties), radii, given.seconds, given.bounds)
    rows: list[Row] = []
    for class_id in given.classes:
        with ProcessPoolExecutor(given.workers) as pool:
            of_class = [sample for sample in samples if sample.class_id == class_id]
            found: Iterator[list[Row]] = (
                one for one in pool.map(asked, of_class[: 2 * given.per_class]) if one
            )
            for one in islice(found, given.per_class):
                rows += one
                print(one[0]["class"], one[0]["image"], file=sys.stderr, flush=True)
            pool.shutdown(cancel_futures=True)
    report(rows, radii)
    if given.out is not None:
        with given.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
