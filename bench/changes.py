"""Changes of light, weather, focus and geometry on GTSRB test images: shares certified, refuted and open.

    python bench/changes.py [DATA_DIR] [--model FILE] [--per-class 2] [--classes 12 17 25 38 1]
        [--changes brightness ...] [--sizes 0.05 0.1 0.2] [--seconds 20] [--workers 1] [--out FILE.csv]
        [--eps 0.25]
    python bench/changes.py --per-class 4 --changes rotation --sizes 0.5 1 2
    python bench/changes.py --per-class 4 --changes shift --sizes 0.25 0.5 1

`--eps`: of the l_inf ball around each image, in 1/255.

Correctly classified images, k = 15; the region is the sign's own box. One time limit an image, change and
property, of wall time and for all sizes together; processes of one thread each. The table has processor
seconds. Only sizes count: parts beyond a size that is refuted are not refined. Images at which a property
does not hold count apart.

Every answer is held against an attack: the image at 2,000 points of the largest size. That one of them breaks
the property within what is proved ends the run. `attack / certified` is the median of the smallest size that
the attack or a witness breaks, in certified sizes.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from questions import correct, property_of

import corgi
from corgi import Status, SweepOptions, SweepResult
from corgi.attacks.along import exact_margin, margins_at
from corgi.data.gtsrb import Sample, read_test
from corgi.data.image import look_at
from corgi.data.preprocess import GTSRB
from corgi.data.region import read_region
from corgi.decide.parts import Fineness
from corgi.properties import Property
from corgi.terms import Finding

K = 15
POINTS = 2000
CHANGES = ("brightness", "contrast", "fog", "blur", "brightness+contrast")
PROPERTIES = ("pointing", "topk30")


@dataclass(frozen=True)
class Answer:
    """What became of one change and one property of one image."""

    image: str
    class_id: int
    change: str
    property: str
    holds: bool | None
    sizes: tuple[tuple[float, Status], ...]
    certified: float
    broken: float | None
    attack: float | None
    dimensions: int
    bounded: int
    seconds: float


def attacked(found: SweepResult, asked: Property | None) -> float | None:
    """The smallest size of the points that break the property, of a sample and of the witness.

    Raises:
        AssertionError: one of them lies within what is proved.
    """
    assert asked is not None
    target, family = found.explanation.question(asked), found.family
    low, high = (torch.tensor(end, dtype=torch.float64) for end in family.box(found.largest))
    shares = torch.rand(POINTS, family.dimensions, generator=torch.Generator().manual_seed(0))
    points = low + shares.to(torch.float64) * (high - low)
    sizes = [found.witness.size] if found.witness is not None else []
    for point in points[margins_at(target, family, points) < 0].tolist():
        if exact_margin(target, family, tuple(point)) < 0:
            sizes.append(max(map(abs, point)))
            inside = [part for part in found.parts if part.holds_point(tuple(point))]
            assert all(part.finding is not Finding.HOLDS for part in inside), (point, found)
    assert all(size >= found.certified for size in sizes), (sizes, found)
    return min(sizes, default=None)


def ask(model: Path, changes: tuple[str, ...], options: SweepOptions, sample: Sample) -> list[Answer]:
    """One answer a change and property."""
    torch.set_num_threads(1)
    network = corgi.load(model)
    seen = look_at(sample.path, network.input_shape, GTSRB, None)
    region = read_region("annotation", seen.window, network.head.map_shape, sample.path).pixels
    answers = []
    for change in changes:
        for name in PROPERTIES:
            asked = replace(options, property=property_of(name, region))
            began = time.process_time()
            found: SweepResult = corgi.sweep(network, seen.pixels, change, asked)
            seconds = time.process_time() - began
            answers.append(
                Answer(
                    sample.path.name,
                    sample.class_id,
                    change,
                    name,
                    found.holds,
                    found.sizes,
                    found.certified,
                    found.broken,
                    attacked(found, asked.property) if found.holds else None,
                    found.family.dimensions,
                    found.bounded,
                    seconds,
                )
            )
    return answers


def report(answers: list[Answer], sizes: tuple[float, ...]) -> None:
    """Print a Markdown table."""
    shares = " | ".join(f"{size:g}: certified, refuted, open" for size in sizes)
    times = "processor seconds: median, most"
    print(
        f"| change | property | images | holds | {shares} | widest bracket | attack / certified | {times} |"
    )
    print("|" + " --- |" * (7 + len(sizes)))
    for change, name in dict.fromkeys((answer.change, answer.property) for answer in answers):
        of = [answer for answer in answers if (answer.change, answer.property) == (change, name)]
        good = [answer for answer in of if answer.holds]
        cells = []
        for size in sizes:
            found = [dict(answer.sizes)[size] for answer in good]
            kinds = (Status.PROVED, Status.REFUTED, Status.UNKNOWN)
            cells.append(", ".join(f"{found.count(kind) / max(len(good), 1):.0%}" for kind in kinds))
        widths = [a.broken / a.certified - 1 for a in good if a.broken is not None and a.certified > 0]
        bracket = f"{max(widths):.1e}" if widths and of[0].dimensions == 1 else "-"
        ratios = [a.attack / a.certified for a in good if a.attack is not None and a.certified > 0]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        seconds = [answer.seconds for answer in good] or [0.0]
        times = f"{statistics.median(seconds):.2f}, {max(seconds):.1f}"
        print(
            f"| {change} | {name} | {len(of)} | {len(good)} | {' | '.join(cells)} | {bracket} | {ratio} |"
            f" {times} |",
            flush=True,
        )


def row(answer: Answer) -> dict[str, str | float | bool | None]:
    """One answer for a CSV file."""
    sizes = {f"{size:g}": status.value for size, status in answer.sizes}
    kept = (
        "image",
        "class_id",
        "change",
        "property",
        "holds",
        "certified",
        "broken",
        "attack",
        "bounded",
        "seconds",
    )
    return {name: getattr(answer, name) for name in kept} | sizes


def main() -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--model", type=Path, default=Path("models/gtsrb.onnx"))
    parser.add_argument("--per-class", type=int, default=2)
    parser.add_argument("--classes", type=int, nargs="*", default=[12, 17, 25, 38, 1])
    parser.add_argument("--changes", nargs="*", default=CHANGES)
    parser.add_argument("--sizes", type=float, nargs="*", default=[0.05, 0.1, 0.2])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--eps", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sizes, samples = tuple(given.sizes), read_test(given.data / "GTSRB")
    # A part that no size waits for is not split: one side of it is not longer than twice the largest size.
    options = SweepOptions(
        sizes, K, time_limit=given.seconds, fineness=Fineness(shown=2.0), eps=given.eps / 255
    )
    network = corgi.load(given.model)
    chosen = [
        sample
        for class_id in given.classes
        for sample in islice(correct(network, samples, class_id), given.per_class)
    ]
    asking = partial(ask, given.model, tuple(given.changes), options)
    answers: list[Answer] = []
    with ProcessPoolExecutor(given.workers) as pool:
        for found in pool.map(asking, chosen):
            answers += found
            print(f"{len(answers)} answers", flush=True)
    report(answers, sizes)
    if given.out is not None:
        with given.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row(answers[0])))
            writer.writeheader()
            writer.writerows(map(row, answers))


if __name__ == "__main__":
    main()
