"""Hold bounds and decisions of all properties against images, on as many generated networks as time allows.

    python bench/soundness_properties.py [--cases 20000] [--seconds 1200] [--seed 0]

A case is a property of an image, a ball, a norm and an engine: the bound of the property's margin may not be
above the margin at any of the images that are tried (samples, corners, attacks on pixels and descents of the
margin itself), and neither may what exact decisions prove; witnesses must be some. Every kind of property is
asked of every network. Prints what was wrong, and counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from corgi import (  # noqa: E402
    ExactOptions,
    Form,
    LipschitzEngine,
    LipschitzMethod,
    LirpaEngine,
    LirpaMethod,
    Norm,
    PatchEngine,
    PatchMethod,
)
from corgi.engines.interface import BoundEngine  # noqa: E402
from corgi.errors import EngineError  # noqa: E402
from corgi.types import Where  # noqa: E402
from tests.soundness.properties import Checked, Subject, images_of, properties, radius_of, subject  # noqa: E402
from tests.soundness.samples import PLACES, places  # noqa: E402

ENGINES: list[BoundEngine] = [
    *[PatchEngine()] * 8,
    *[PatchEngine(PatchMethod.CROWN_IBP)] * 3,
    LipschitzEngine(),
    LipschitzEngine(LipschitzMethod.INTERVALS),
    LipschitzEngine(LipschitzMethod.NORMS),
    LirpaEngine(LirpaMethod.CROWN),
    LirpaEngine(LirpaMethod.IBP),
]
NORMS = (Norm.LINF, Norm.LINF, Norm.LINF, Norm.L2, Norm.L1)
BALLS, DECIDED = 3, 3
EXACT = ExactOptions(nodes=60, seconds=2.0)
LARGEST = 42
"""Most pixels of a map: of larger ones there would be few."""

SOMEWHERE = 0.4
"""Share of networks of whose image a part may change alone."""

FOLDED = 2
"""Further properties of each kind, by intervals of the pixels, which are known by then."""


def main() -> None:
    """Run cases until there are enough of them, or time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    started, seed, checked, kinds = time.monotonic(), given.seed, Checked(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        while checked.bounds + checked.decided < given.cases:
            if time.monotonic() - started > given.seconds:
                break
            try:
                one(seed, Path(folder), checked, kinds)
            except EngineError as error:
                if "contradiction" in error.message:
                    checked.note(f"seed {seed}: {error.message}")
            seed += 1
            if seed % 100 == 0:
                print(said(checked, seed - given.seed, started), file=sys.stderr, flush=True)
    for line in checked.wrong or []:
        print(line)
    print(said(checked, seed - given.seed, started))
    print(", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    sys.exit(bool(checked.wrong))


def said(checked: Checked, networks: int, started: float) -> str:
    """Where it is."""
    return (
        f"{checked.bounds} bounds ({checked.positive} > 0), {checked.decided} decisions"
        f" ({checked.proved} proved, {checked.refuted} refuted), {networks} networks,"
        f" {time.monotonic() - started:.0f} s: {len(checked.wrong or [])} violations"
    )


def somewhere(of: Subject, norm: Norm, rng: np.random.Generator) -> Where | None:
    """What may change of an image: now and then a part."""
    kind = str(rng.choice(PLACES if norm is Norm.LINF else ("box", "channel", "one")))
    return places(kind, of.network.input_shape, of.seed) if rng.random() < SOMEWHERE else None


def one(seed: int, folder: Path, checked: Checked, kinds: Counter[str]) -> None:
    """All properties of one network, over a few balls."""
    rng = np.random.default_rng(10**6 + seed)
    of = subject(seed, folder, curved=seed % 4 == 3)
    if of is None or of.network.pixels > LARGEST:
        return
    asked = properties(of, rng)
    engine, norm = ENGINES[seed % len(ENGINES)], NORMS[int(rng.integers(len(NORMS)))]
    of = replace(of, where=somewhere(of, norm, rng))
    bounder = engine.bind(of.network, of.explained.class_id)
    for number in range(BALLS):
        if not bounder.whole:
            bounder = engine.bind(of.network, of.explained.class_id)
        name = str(rng.choice(list(asked)))
        radius = radius_of(of, asked[name][0], norm, float(rng.uniform(0.2, 1.5)))
        ball = of.ball(radius, norm)
        images = images_of(of, ball, [formula for _, formula in asked.values()], 30, seed + number)
        with torch.no_grad():
            cams = of.cams(images)
        for kind, (property, _) in asked.items():
            checked.bound(of, bounder, ball, property, cams, sign=bool(rng.integers(2)))
            kinds[kind] += 1
        for _ in range(FOLDED):
            for kind, (property, _) in properties(of, rng).items():
                checked.bound(of, bounder, ball, property, cams, form=Form.FOLDED)
                kinds[kind] += 1
        if bounder.unfolds:
            for kind in rng.choice(list(asked), DECIDED):
                if not bounder.whole:  # time was up in the middle of a bound
                    bounder = engine.bind(of.network, of.explained.class_id)
                checked.exact(of, bounder, ball, asked[str(kind)][0], cams, EXACT)
                kinds[f"{kind} decided"] += 1


if __name__ == "__main__":
    main()
