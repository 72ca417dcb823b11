"""Stickers at every place of GTSRB test images: certified, refuted and open shares of the places.

    python bench/stickers.py [DATA_DIR] [--model FILE] [--per-class 4] [--classes 12 17 25 38 1]
        [--size 4] [--stride 2] [--eps 255 16 4] [--seconds 60] [--property pointing]

Correctly classified images; `--eps` in 1/255 (255 is any sticker); the region is the sign's own box. Each
image and eps has its time; one thread. `worst` is the place of the witness that breaks the property by most.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from pathlib import Path

import torch

import corgi
from corgi.data.gtsrb import read_test
from corgi.data.image import look_at
from corgi.data.preprocess import GTSRB
from corgi.data.region import read_region
from corgi.properties import Pointing, Topk
from corgi.results import Status

MODEL = Path(__file__).parents[1] / "models" / "gtsrb.onnx"


def main() -> None:
    """Print a Markdown table, and the shares of all places of an eps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--per-class", type=int, default=4)
    parser.add_argument("--classes", type=int, nargs="*", default=[12, 17, 25, 38, 1])
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--eps", type=float, nargs="*", default=[255, 16, 4])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--property", choices=["pointing", "topk30"], default="pointing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network, totals = corgi.load(given.model), {eps: Counter[Status]() for eps in given.eps}
    print("| image | eps, 1/255 | certified | refuted | open | worst | processor s |\n|" + " --- |" * 7)
    samples, map_shape = read_test(given.data / "GTSRB"), network.head.map_shape
    for class_id in given.classes:
        taken = 0
        for sample in (one for one in samples if one.class_id == class_id):
            seen = look_at(sample.path, network.input_shape, GTSRB, None)
            if taken == given.per_class or network.predict(seen.pixels) != class_id:
                continue
            taken += 1
            region = read_region("annotation", seen.window, map_shape, sample.path).pixels
            asked = Pointing(region) if given.property == "pointing" else Topk(30)
            for eps in given.eps:
                began = time.process_time()
                found = corgi.sticker(
                    network,
                    seen.pixels,
                    size=given.size,
                    stride=given.stride,
                    eps=eps / 255,
                    property=asked,
                    k=15,
                    time_limit=given.seconds,
                )
                counts, seconds = found.counts, time.process_time() - began
                totals[eps] += counts
                kinds = [counts[kind] for kind in (Status.PROVED, Status.REFUTED, Status.UNKNOWN)]
                cells = f"{kinds[0]} | {kinds[1]} | {kinds[2]} | {found.worst_place or found.reason or '-'}"
                name = f"{class_id} {sample.path.name}"
                print(f"| {name} | {eps:g} | {cells} | {seconds:.0f} |", flush=True)
    for eps, counts in totals.items():
        shares = ", ".join(f"{kind.value} {n / counts.total():.1%}" for kind, n in sorted(counts.items()))
        print(f"eps {eps:g}/255: {counts.total()} places: {shares}")


if __name__ == "__main__":
    main()
