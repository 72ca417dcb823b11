"""One bound of the whole map and one radius search: the patch engine beside auto_LiRPA CROWN, in one run.

    python bench/engines.py [DATA_DIR] [--images 20] [--classes 12 17]

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
from corgi.types import Ball


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
    arguments = parser.parse_args()
    network = corgi.load(arguments.data / "corgi_paper" / "gtsrb_gu2020.onnx")
    samples = [s for s in read_test(arguments.data / "GTSRB") if s.class_id in arguments.classes]
    engines = {"patch": corgi.PatchEngine(), "lirpa": corgi.LirpaEngine()}
    rows = []
    for sample in samples:
        image = corgi.read_image(sample.path, network, "gtsrb")
        if network.predict(image) != sample.class_id:
            continue
        seconds, result = timed(lambda image=image: corgi.verify(network, image, attack=None, exact=None))
        radius = result.certificate.radius
        if radius == 0:
            continue
        row = {"search": seconds, "evaluations": result.certificate.evaluations}
        bounds = {}
        for name, engine in engines.items():
            bounder = engine.bind(network, sample.class_id, torch.float32)
            bounder.pixels(Ball(torch.from_numpy(image), radius / 2))
            ball = Ball(torch.from_numpy(image), radius)
            row[name], bounds[name] = timed(lambda b=bounder, ball=ball: b.pixels(ball))
        widths = {name: float((b.upper - b.lower).mean()) for name, b in bounds.items()}
        row["width"] = widths["patch"] / widths["lirpa"]
        rows.append(row)
        ratio = row["lirpa"] / row["patch"]
        print(
            f"{sample.path.name} radius {radius:.6f}: patch {row['patch']:.3f} s, lirpa {row['lirpa']:.3f} s,"
            f" ratio {ratio:.1f}, width {row['width']:.6f}; search {seconds:.2f} s,"
            f" {row['evaluations']} evaluations",
            flush=True,
        )
        if len(rows) > arguments.images:
            break
    rows = rows[1:]
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    ratio = statistics.median(row["lirpa"] / row["patch"] for row in rows)
    threads = torch.get_num_threads()
    print(f"medians over {len(rows)} images: {medians}, speed ratio {ratio:.1f}, threads {threads}")


if __name__ == "__main__":
    main()
