"""The questions people ask of a map, on GTSRB test images: certified, refuted and open shares at fixed radii.

    python bench/questions.py [DATA_DIR] [--model FILE] [--per-class 20] [--classes 12 17 25 38 1]
        [--properties pointing ...] [--seconds 30] [--radii 0.5 1 2 4] [--out FILE.csv] [--bounds]
        [--where annotation|background|X1,Y1,X2,Y2]

Correctly classified images, k = 15; the region is the sign's own box; `--where`: what of a picture changes.
Each image and property has its time for all radii (in 1/255); processes of one thread each. Images at which a
property does not hold count apart.
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
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path

import torch

import corgi
from corgi import ExactOptions, VerifyOptions
from corgi.data.gtsrb import Sample, read_test
from corgi.data.image import look_at
from corgi.data.preprocess import GTSRB
from corgi.data.region import read_region
from corgi.data.where import WantedWhere
from corgi.network.network import Network
from corgi.properties import Inside, Iou, Overlap, Pointing, Property, Topk

K, KEEP = 15, 12
PROPERTIES = ("pointing", "inside", "overlap", "topk", "topk30", "iou")


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


@dataclass(frozen=True)
class Answer:
    """What became of one property of one image."""

    image: str
    class_id: int
    property: str
    decided: corgi.RadiiDecided
    seconds: float


def ask(
    model: Path,
    names: tuple[str, ...],
    radii: tuple[float, ...],
    options: VerifyOptions,
    where: str | None,
    sample: Sample,
) -> list[Answer]:
    """One answer a property."""
    torch.set_num_threads(1)
    network = corgi.load(model)
    seen = look_at(sample.path, network.input_shape, GTSRB, None)
    region = read_region("annotation", seen.window, network.head.map_shape, sample.path).pixels
    if where is not None:
        places = WantedWhere(where).read(network.input_shape, seen.window, sample.path)
        options = replace(options, where=places)
    answers = []
    for name in names:
        began = time.process_time()
        asked = replace(options, property=property_of(name, region))
        decided = corgi.decide_radii(network, seen.pixels, radii, asked)
        seconds = time.process_time() - began
        answers.append(Answer(sample.path.name, sample.class_id, name, decided, seconds))
    return answers


def correct(network: Network, samples: list[Sample], class_id: int) -> Iterator[Sample]:
    """Those of a class that are classified correctly."""
    for sample in samples:
        if sample.class_id == class_id:
            seen = look_at(sample.path, network.input_shape, GTSRB, None)
            if network.predict(seen.pixels) == class_id:
                yield sample


def report(answers: list[Answer], radii: tuple[float, ...]) -> None:
    """Print a Markdown table."""
    shares = " | ".join(f"{255 * r:g}/255: certified, refuted, open" for r in radii)
    print(f"| property | images | holds | {shares} | median certified | attack / certified | seconds |")
    print("|" + " --- |" * (6 + len(radii)))
    for name in dict.fromkeys(answer.property for answer in answers):
        of = [answer for answer in answers if answer.property == name]
        good = [answer.decided for answer in of if answer.decided.holds]
        cells = [
            ", ".join(f"{n / max(at.holds, 1):.0%}" for n in (at.certified, at.refuted, at.open))
            for at in corgi.shares([answer.decided for answer in of])
        ]
        median = "- | -"
        if good:
            ratios = [(one.attacked or inf) / one.certified if one.certified else inf for one in good]
            certified = 255 * statistics.median(one.certified for one in good)
            median = f"{certified:.3f}/255 | {statistics.median(ratios):.3f}"
        seconds = statistics.mean(answer.seconds for answer in of)
        print(
            f"| {name} | {len(of)} | {len(good)} | {' | '.join(cells)} | {median} | {seconds:.1f} |",
            flush=True,
        )


def row(answer: Answer) -> dict[str, str | float | None]:
    """One answer for a CSV file."""
    decided = answer.decided
    return {
        "image": answer.image,
        "class": answer.class_id,
        "property": answer.property,
        "holds": decided.holds,
        "certified": 255 * decided.certified,
        "attacked": None if decided.attacked is None else 255 * decided.attacked,
        "open": " ".join(f"{255 * radius:g}" for radius in decided.open),
        "seconds": answer.seconds,
        "reason": decided.result.reason,
    }


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
    parser.add_argument("--where")
    given = parser.parse_args()
    radii = tuple(radius / 255 for radius in given.radii)
    samples = read_test(given.data / "GTSRB")
    exact = None if given.bounds else ExactOptions()
    options = VerifyOptions(k=K, exact=exact, time_limit=given.seconds)
    asked = partial(ask, given.model, tuple(given.properties), radii, options, given.where)
    network, answers = corgi.load(given.model), list[Answer]()
    chosen = [one for c in given.classes for one in islice(correct(network, samples, c), given.per_class)]
    with ProcessPoolExecutor(given.workers) as pool:
        for one in pool.map(asked, chosen):
            answers += one
            for answer in one:
                print(*row(answer).values(), sep=", ", file=sys.stderr, flush=True)
    report(answers, radii)
    if given.out is not None:
        with given.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row(answers[0])))
            writer.writeheader()
            writer.writerows(row(answer) for answer in answers)


if __name__ == "__main__":
    main()
