"""One bound of the whole map and one radius search: the patch engine beside auto_LiRPA CROWN, in one run.

Timed in float32. With `--widths`, then, in float64: the mean width as a share of auto_LiRPA's, and the most
by which an end of a single pixel lies outside of auto_LiRPA's, as a share of its width and a 10,000th of
the widest one's (some pixels have no width).

    python bench/engines.py [DATA_DIR] [--images 20] [--classes 12 17] [--widths]

Real test images (GTSRB, the recipe of Gu et al.) on the paper's network, each at its own certified radius;
the two engines take turns on every image. The first image is a warm-up and not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import torch

import corgi
from corgi.data.gtsrb import read_test
from corgi.engines.lirpa import PATCHES, LirpaBounder
from corgi.types import Ball


class FastLirpa:
    """auto_LiRPA's CROWN in its fast layout of convolutions, which corgi does not believe, to measure by."""

    def bind(self, network, class_id, dtype):
        """As engines do."""
        return LirpaBounder(corgi.LirpaEngine(), network, class_id, dtype, layout=PATCHES)


def timed(call):
    """Seconds and result of a call."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def main() -> None:
    """Print one line an image, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--classes", type=int, nargs="*", default=[12, 17])
    parser.add_argument("--widths", action="store_true")
    arguments = parser.parse_args()
    network = corgi.load(arguments.data / "corgi_paper" / "gtsrb_gu2020.onnx")
    samples = [s for s in read_test(arguments.data / "GTSRB") if s.class_id in arguments.classes]
    engines = {
        "patch": corgi.PatchEngine(),
        "lirpa": FastLirpa(),
    }
    rows, asked = [], []
    for sample in samples:
        image = corgi.read_image(sample.path, network, "gtsrb")
        if network.predict(image) != sample.class_id:
            continue
        seconds, result = timed(lambda image=image: corgi.verify(network, image, attack=None, exact=None))
        radius = result.certificate.radius
        if radius == 0:
            continue
        row = {"search": seconds, "evaluations": result.certificate.evaluations}
        ball = Ball(torch.from_numpy(image), radius)
        for name, engine in engines.items():
            bounder = engine.bind(network, sample.class_id, torch.float32)
            bounder.pixels(ball.with_radius(radius / 2))
            row[name], _ = timed(lambda b=bounder, ball=ball: b.pixels(ball))
        rows.append(row)
        asked.append((sample, ball))
        print(
            f"{sample.path.name} radius {radius:.6f}: patch {row['patch']:.3f} s, lirpa {row['lirpa']:.3f} s,"
            f" ratio {row['lirpa'] / row['patch']:.1f};"
            f" search {seconds:.2f} s, {row['evaluations']} evaluations",
            flush=True,
        )
        if len(rows) > arguments.images:
            break
    rows, asked = rows[1:], asked[1:]
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    ratio = statistics.median(row["lirpa"] / row["patch"] for row in rows)
    threads = torch.get_num_threads()
    print(
        f"medians over {len(rows)} images: {medians}, speed ratio {ratio:.1f}, threads {threads}", flush=True
    )
    if arguments.widths:
        compare_widths(network, engines, asked)


def compare_widths(network, engines, asked) -> None:
    """In float64, after all timing: larger arrays would teach the allocator to keep its memory."""
    shares = []
    for sample, ball in asked:
        bounds = {n: e.bind(network, sample.class_id, torch.float64).pixels(ball) for n, e in engines.items()}
        theirs = bounds["lirpa"]
        width = theirs.upper - theirs.lower
        share = {}
        mine = bounds["patch"]
        more = torch.maximum(mine.upper - theirs.upper, theirs.lower - mine.lower)
        share["mean width"] = float((mine.upper - mine.lower).mean() / width.mean())
        share["widest excess"] = float((more / (width + 1e-4 * width.max())).max())
        shares.append(share)
        print(f"{sample.path.name} radius {ball.radius:.6f}: {share}", flush=True)
    print("medians", {key: statistics.median(share[key] for share in shares) for key in shares[0]})
    print("largest", {key: max(share[key] for share in shares) for key in shares[0]})


if __name__ == "__main__":
    main()
