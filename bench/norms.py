"""Balls of l_inf, l_2 and l_1: certified radius by bounds and by exact decisions, witness, ratio, work.

    python bench/norms.py [DATA_DIR] [--norm l2 l1] [--method crown focus exact] [--per-class 1]
        [--classes 12 17 25 38 1] [--seconds 60]

The paper's image and network first, then correctly classified GTSRB test images and models/gtsrb.onnx, of
which the medians are; k = 15. DATA_DIR holds `corgi_paper/` and `GTSRB/` (default: $CORGI_DATA or
../shared/data).
Every answer has the time limit, attack included; one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import corgi
from corgi.data.gtsrb import read_test
from corgi.data.image import InputArray, look_at
from corgi.data.preprocess import GTSRB

MODEL = Path(__file__).parents[1] / "models" / "gtsrb.onnx"
METHODS = ("crown", "focus", "exact")


def main() -> None:
    """Print a Markdown table, and medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--norm", nargs="*", type=corgi.Norm, default=list(corgi.Norm))
    parser.add_argument("--method", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--per-class", type=int, default=1)
    parser.add_argument("--classes", type=int, nargs="*", default=[12, 17, 25, 38, 1])
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| image | norm | method | certified | witness | ratio | sub-problems | processor s |")
    print("|" + " --- |" * 8)
    ratios = defaultdict[tuple[corgi.Norm, str], list[float]](list)
    for name, network, image in images(given.data, given.classes, given.per_class):
        for norm in given.norm:
            for method in given.method:
                began = time.process_time()
                found = corgi.verify(network, image, k=15, norm=norm, method=method, time_limit=given.seconds)
                certificate, witness = found.certificate, found.attack
                assert witness is not None
                assert witness.radius is not None
                ratio = witness.radius / certificate.radius
                nodes = certificate.exact.nodes if certificate.exact is not None else 0
                cells = f"{certificate.radius:.6f} | {witness.radius:.6f} | {ratio:.3f} | {nodes}"
                seconds = time.process_time() - began
                print(f"| {name} | {norm.label} | {method} | {cells} | {seconds:.0f} |", flush=True)
                if name != "496":
                    ratios[norm, method].append(ratio)
    for (norm, method), found_ratios in ratios.items():
        median = statistics.median(found_ratios)
        print(f"{norm.label}, {method}: median attack/certified {median:.3f} of {len(found_ratios)} images")


def images(data: Path, classes: list[int], per_class: int) -> Iterator[tuple[str, corgi.Network, InputArray]]:
    """Names, networks and images [C, H, W]."""
    folder = data / "corgi_paper"
    yield "496", corgi.load(folder / "gtsrb_gu2020.onnx"), np.load(folder / "image_496.npy")
    network, samples = corgi.load(MODEL), read_test(data / "GTSRB")
    for class_id in classes:
        taken = 0
        for sample in (one for one in samples if one.class_id == class_id):
            seen = look_at(sample.path, network.input_shape, GTSRB, None)
            if taken < per_class and network.predict(seen.pixels) == class_id:
                taken += 1
                yield f"{class_id} {sample.path.name}", network, seen.pixels


if __name__ == "__main__":
    main()
