"""How bounds of single map pixels grow with the work spent on them (corgi/decide/minimum.py).

    python bench/minima.py [DATA_DIR] [--per-class 1] [--classes 12 17 25 38 1] [--radii 1 2]
        [--nodes 1 4 16 64 256]

Of GTSRB test images the largest pixel of the map, over balls of some radii (in 1/255): its lower bound by
CROWN, then after so many sub-problems, with the processor seconds until then, and the least value seen.
`rate` is nodes / (s / (1 - s))^3, s the share of the way from the first bound to the least value seen, which
`decide/separation.py` reckons with. One thread.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch

import corgi
from corgi import PatchEngine
from corgi.certify.explain import explain
from corgi.data.gtsrb import Sample, read_test
from corgi.data.image import look_at
from corgi.data.preprocess import GTSRB
from corgi.decide.pixels import PixelBounds
from corgi.decide.tree import TreeDecider
from corgi.network.network import Network
from corgi.properties import Topk
from corgi.types import Norm

MODEL = Path(__file__).parents[1] / "models" / "gtsrb.onnx"


def row(network: Network, sample: Sample, radius: float, nodes: list[int]) -> str:
    """One line of the table."""
    seen = look_at(sample.path, network.input_shape, GTSRB, None)
    explained = explain(network, seen.pixels, 1, sample.class_id)
    pixel = explained.top.pixels[0]
    bounder = PatchEngine().bind(network, sample.class_id)
    ball = explained.ball(Norm.LINF).with_radius(radius)
    crown = float(bounder.pixels(ball, torch.tensor([pixel]), torch.tensor([pixel])).lower[pixel])
    pixels = PixelBounds(explained.question(Topk()), bounder, TreeDecider(), ball)
    ends, cells = pixels.least, []
    before = time.process_time()
    for wanted in nodes:
        while int(ends.nodes[pixel]) < wanted and float(ends.bound[pixel]) < float(ends.seen[pixel]):
            pixels.improve(ends, pixel, float("inf"))
        cells.append(f"{float(ends.bound[pixel]):.0f} ({time.process_time() - before:.1f} s)")
    share = float((ends.bound[pixel] - ends.first[pixel]) / (ends.seen[pixel] - ends.first[pixel]))
    rate = float(ends.nodes[pixel]) / (share / (1 - share)) ** 3 if 0 < share < 1 else float("nan")
    value = float(explained.cam.max())
    first = f"{sample.class_id} {sample.path.name} | {255 * radius:g} | {value:.0f} | {crown:.0f}"
    return f"| {first} | {' | '.join(cells)} | {float(ends.seen[pixel]):.0f} | {rate:.0f} |"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--per-class", type=int, default=1)
    parser.add_argument("--classes", type=int, nargs="*", default=[12, 17, 25, 38, 1])
    parser.add_argument("--radii", type=float, nargs="*", default=[1, 2])
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 4, 16, 64, 256])
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = corgi.load(MODEL)
    columns = ["image", "radius, 1/255", "value", "CROWN", *map(str, given.nodes), "seen", "rate"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    samples = read_test(given.data / "GTSRB")
    for class_id in given.classes:
        of_class = [sample for sample in samples if sample.class_id == class_id]
        for sample in of_class[: given.per_class]:
            for radius in given.radii:
                print(row(network, sample, radius / 255, given.nodes), flush=True)


if __name__ == "__main__":
    main()
