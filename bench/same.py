"""Whether bounds, radii and verdicts are, bit for bit, what they were: of 3 networks, 30 images.

    python bench/same.py record FILE.json [DATA_DIR]      before a change
    python bench/same.py compare FILE.json [DATA_DIR]     after it; lists every difference, exit code 1 if any

A change of the house that shall not change the mathematics is held against a record made before its first
commit. All methods of the engines patch and lipschitz; auto_LiRPA takes minutes a ball. Floats are kept as
hexadecimal digits; of long rows, a digest. But for the minute that an exact search may take nothing follows
from the clock. Threads are set to one: sums in another order end in other last digits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import corgi
from corgi.types import Ball
from corgi.vnnlib.decide import decide_files

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("gtsrb", "gu2020", "cifar10_squeezenet")
IMAGES = 10
RADII = (1e-5, 0.3 / 255)
SLOW = 2
"""Images on which the slow methods are asked, and verdicts by name: label, pixels, other norms."""

FEW = 150
"""Map pixels up to which a network counts as deep: its bounds take long."""

QUICK = {"exact": None, "max_evaluations": 3}
"""Of deep networks, whose bounds take long."""

FAST = (corgi.PatchMethod.CROWN_IBP, corgi.PatchMethod.CROWN)


def digits(values: torch.Tensor | np.ndarray | float) -> str:
    """All bits of some numbers."""
    row = np.asarray(values, dtype=np.float64).reshape(-1) + 0.0
    return row[0].hex() if row.size == 1 else hashlib.sha256(row.tobytes()).hexdigest()[:16]


def load(name: str, data: Path) -> tuple[corgi.Network, list[Path], str]:
    """A network, its images and their preprocessing."""
    signs = sorted((data / "GTSRB" / "Final_Test" / "Images").glob("*.ppm"))[:: 1060 // IMAGES][:IMAGES]
    if name == "gtsrb":
        return corgi.load(ROOT / "models" / "gtsrb.onnx"), signs, "gtsrb"
    if name == "gu2020":
        return corgi.load(data / "corgi_paper" / "gtsrb_gu2020.onnx"), signs, "gtsrb"
    folders = sorted((data / "CIFAR10" / "test").iterdir())
    return corgi.load(ROOT / "models" / f"{name}.onnx"), [min(f.iterdir()) for f in folders][:IMAGES], "none"


def engines(slow: bool) -> dict[str, object]:
    """Every engine and method that is asked for bounds."""
    patch = [method for method in corgi.PatchMethod if slow or method in FAST]
    found: dict[str, object] = {f"patch {m}": corgi.PatchEngine(m) for m in patch}
    found |= {str(m): corgi.LipschitzEngine(m) for m in corgi.LipschitzMethod}
    return found


def bounds(network: corgi.Network, image: np.ndarray, slow: bool) -> Iterator[tuple[str, str]]:
    """Of the map and of pairs of its pixels, in every norm that is slow enough to be told apart."""
    class_id = network.predict(image)
    order = (-network.cam(image, class_id).reshape(-1)).argsort(stable=True)
    above, below = order[:3].repeat_interleave(4), order[3:7].repeat(3)
    for name, engine in engines(slow).items():
        for norm in corgi.Norm if slow else (corgi.Norm.LINF,):
            for radius in RADII if network.pixels > FEW else RADII[:1]:
                ball = Ball(torch.from_numpy(image), radius, norm)
                where = f"{name} {norm} {radius:.0e}"
                try:
                    bounder = engine.bind(network, class_id, torch.float64)  # type: ignore[attr-defined]
                    map_ = bounder.pixels(ball)
                    yield f"{where} pixels", digits(torch.stack([map_.lower, map_.upper]))
                    yield f"{where} pairs", digits(bounder.differences(ball, above, below))
                except corgi.CorgiError as error:
                    yield where, type(error).__name__


def verdicts(network: corgi.Network, image: np.ndarray, slow: bool) -> Iterator[tuple[str, str]]:
    """Of `verify`: status, certified and attacked radius."""
    asked: dict[str, dict[str, object]] = {"default": {} if network.pixels > FEW else QUICK}
    if slow:
        asked |= {
            "folded": {"form": corgi.Form.FOLDED},
            "feature": {"form": corgi.Form.FEATURE},
            "crown": {"engine": corgi.PatchEngine(corgi.PatchMethod.CROWN), "exact": None},
            "l_2": {"norm": corgi.Norm.L2},
            "k2": {"k": 5, "k2": 10, "exact": None},
            "eps": {"eps": RADII[1]},
            "label": {"label": True},
            "lipschitz": {"engine": corgi.LipschitzEngine(), "exact": None},
        }
    for name, changes in asked.items():
        try:
            result = corgi.verify(network, image, **changes)
        except corgi.CorgiError as error:
            yield f"verify {name}", type(error).__name__
            continue
        certified, attack = result.certificate, result.attack
        radii = (certified.radius if certified else 0.0, attack.radius if attack else 0.0)
        label = result.label.radius if result.label else 0.0
        yield (
            f"verify {name}",
            f"{certified.status if certified else ''} {' '.join(map(digits, (*radii, label)))}",
        )


def specs() -> Iterator[tuple[str, str]]:
    """Every instance of specs/."""
    for line in (ROOT / "specs" / "instances.csv").read_text().split():
        onnx, vnnlib, _ = line.split(",")
        outcome = decide_files(ROOT / "specs" / onnx, ROOT / "specs" / vnnlib, math.inf)
        yield f"specs {vnnlib}", str(outcome.answer)


def answers(data: Path) -> Iterator[tuple[str, str]]:
    """All that is compared."""
    for name in NETWORKS:
        network, paths, recipe = load(name, data)
        for at, path in enumerate(paths):
            image = corgi.read_image(path, network, recipe)
            slow = at < SLOW and network.pixels > FEW
            for of in (bounds, verdicts):
                for what, found in of(network, image, slow):
                    yield f"{name} {at} {path.name} {what}", found
    yield from specs()


def main() -> int:
    """Record, or compare and list what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    default = os.environ.get("CORGI_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    before = json.loads(asked.file.read_text()) if asked.what == "compare" else {}
    found: dict[str, str] = {}
    different = 0
    for what, value in answers(asked.data):
        found[what] = value
        if asked.what == "record":
            print(what, value, flush=True)
        elif before.get(what) != value:
            different += 1
            print(f"{what}: {before.get(what)} became {value}", flush=True)
    missing = before.keys() - found.keys()
    if asked.what == "record":
        asked.file.write_text(json.dumps(found, indent=0))
    print(f"{len(found)} answers, {different} differ, {len(missing)} are missing", file=sys.stderr)
    return 1 if different or missing else 0


if __name__ == "__main__":
    sys.exit(main())
