"""The paper's figure 2: certified and attack radius over test images of two classes, beside the paper's.

    python bench/two_classes.py [DATA_DIR] [--model FILE] [--per-class 100] [--classes 12 17]
        [--out FILE.csv] [--bounds]

Correctly classified GTSRB test images, k = 15, two processes of one thread each; `--bounds` leaves the exact
search away. The recipe of Gu et al., or the model's own where it carries one. Images whose attack / certified
is over 1.01 are listed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

import corgi
from corgi.data.gtsrb import Sample, read_test


def verify_one(
    model: Path, exact: corgi.ExactOptions | None, sample: Sample
) -> dict[str, float | str] | None:
    """One row, or None for an image that is not classified correctly."""
    torch.set_num_threads(1)
    network = corgi.load(model)
    image = corgi.read_image(sample.path, network, None if network.preprocess else "gtsrb")
    if network.predict(image) != sample.class_id:
        return None
    result = corgi.verify(network, image, k=15, exact=exact)
    search = result.certificate.exact
    return {
        "image": sample.path.name,
        "class": sample.class_id,
        "certified": result.certificate.radius,
        "attack": result.attack.radius if result.attack and result.attack.radius else float("nan"),
        "evaluations": result.certificate.evaluations,
        "seconds": result.seconds,
        "certify_seconds": result.certificate.seconds,
        "decisions": search.decisions if search else 0,
        "reason": (search.reason if search else "") or result.reason,
    }


def main() -> None:
    """Print a Markdown table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--classes", type=int, nargs="+", default=[12, 17])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--bounds", action="store_true")
    arguments = parser.parse_args()
    model = arguments.model or arguments.data / "corgi_paper" / "gtsrb_gu2020.onnx"
    paper = json.loads((arguments.data / "corgi_paper" / "reference.json").read_text())["per_class"]
    columns = ["class", "images", "certified (paper)", "attack (paper)", "attack / certified (paper)"]
    columns += ["IQR of the ratio", "at most 1.01", "no certificate", "evaluations", "s", "longest s"]
    exact = None if arguments.bounds else corgi.ExactOptions()
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    everything = []
    for class_id in arguments.classes:
        samples = [s for s in read_test(arguments.data / "GTSRB") if s.class_id == class_id]
        with ProcessPoolExecutor(2) as pool:
            found = pool.map(partial(verify_one, model, exact), samples[: arguments.per_class])
            rows = []
            for row in found:
                if row is not None:
                    rows.append(row)
                    print(*row.values(), file=sys.stderr, flush=True)
        everything += rows
        solved = [row for row in rows if row["certified"] > 0]
        ratios = [row["attack"] / row["certified"] for row in solved]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [math.nan] * 3
        theirs = paper.get(str(class_id))  # of the two classes of their figure

        def median(key: str, solved=solved) -> float:
            return statistics.median([row[key] for row in solved] or [math.nan])

        def beside(ours: str, key: str, theirs=theirs) -> str:
            return ours if theirs is None else f"{ours} ({theirs[key]:.6g})"

        cells = [
            class_id,
            len(rows),
            beside(f"{median('certified'):.6f}", "median_certificate"),
            beside(f"{median('attack'):.6f}", "median_attack"),
            beside(f"{statistics.median(ratios or [math.nan]):.3f}", "median_ratio"),
            f"{low:.3f}-{high:.3f}",
            f"{sum(ratio <= 1.01 for ratio in ratios)} of {len(rows)}",
            len(rows) - len(solved),
            f"{median('evaluations'):g}",
            f"{median('seconds'):.2f}",
            f"{max((row['seconds'] for row in rows), default=math.nan):.1f}",
        ]
        print(f"| {' | '.join(str(c) for c in cells)} |", flush=True)
    for row in everything:
        if not row["attack"] <= 1.01 * row["certified"] and exact is not None:
            bracket = f"{row['certified']:.6f} to {row['attack']:.6f}"
            print(f"class {row['class']} {row['image']}: {bracket}, {row['seconds']:.0f} s, {row['reason']}")
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, everything[0])
            writer.writeheader()
            writer.writerows(everything)


if __name__ == "__main__":
    main()
