"""Certified overlap of smoothed maps against the sparsification, in the shape of L figures 2, 12 and 15.

    python bench/smoothing.py cifar [DATA_DIR] [--images 12] [--samples 8192] [--out FILE.json]
    python bench/smoothing.py cam [DATA_DIR] [--images 30] [--samples 8192] [--out FILE.json]
    python bench/smoothing.py plot CIFAR.json CAM.json --out docs/smoothing.png

`cifar`: gradient maps of models/cifar10_resnet18.onnx on correctly classified test images, all colours
(n = 3072). `cam`: the class activation map of the paper's network on GTSRB test images of class 12 (n = 576).
K = 0.2 n, l_2 radius 0.03, confidence 0.95, as L figure 2. All maps of one image share their noise. Every
statement is about the expected map in the ball; a number is the share of the K largest that is certified.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import corgi
from corgi.data.gtsrb import read_test
from corgi.smoothing.cam_map import CamMap
from corgi.smoothing.confidence import Bounds, bounds
from corgi.smoothing.gaussian import floor
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.lecuyer import lecuyer_floor
from corgi.smoothing.maps.gradients import Colours
from corgi.smoothing.maps.quadratic import Quadratic
from corgi.smoothing.maps.relaxed import Relaxed
from corgi.smoothing.maps.saliency import SaliencyMap
from corgi.smoothing.noise import Noise
from corgi.smoothing.overlap import Index, overlap_radii
from corgi.smoothing.sparsified import Sparsified
from corgi.smoothing.tally import Tally, empty, sample
from corgi.terms import Confidence

TAUS = (0.02, 0.05, 0.1, 0.2, 0.5)
GAMMA = 0.01
SIGMAS = (0.1, 0.2, 0.4)
RADIUS, FAILURE, SHARE = 0.03, 0.05, 0.2
ROOT = Path(__file__).resolve().parents[1]


class Once:
    """A base map that remembers its last batch, for the maps that share it."""

    def __init__(self, base: BaseMap) -> None:
        self.base, self.name, self.shape, self.n, self.binary = base, base.name, base.shape, base.n, False
        self.model, self.live = base.model, base.live
        self.images, self.values = torch.zeros(0), torch.zeros(0)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Maps [B, n] of images [B, C, H, W]."""
        if images is not self.images:
            self.images, self.values = images, self.base(images)
        return self.values


class Several:
    """Maps one below the other, so that one pass over the noise serves all."""

    def __init__(self, maps: list[BaseMap]) -> None:
        self.maps, self.binary = maps, False
        self.name, self.model = "; ".join(one.name for one in maps), maps[0].model
        self.live = max(one.live for one in maps)
        self.shape = (sum(one.shape[0] for one in maps), maps[0].shape[1])
        self.n = self.shape[0] * self.shape[1]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Maps [B, n] of images [B, C, H, W]."""
        return torch.cat([one(images) for one in self.maps], 1)

    def split(self, tally: Tally) -> list[Tally]:
        """The tally of every map by itself."""
        size = self.maps[0].n
        parts = [slice(i * size, (i + 1) * size) for i in range(len(self.maps))]
        return [
            replace(
                tally,
                map_name=one.name,
                map_shape=one.shape,
                binary=one.binary,
                sums=tally.sums[part],
                squares=tally.squares[part],
                rung_sums=tally.rung_sums[part],
                rung_squares=tally.rung_squares[part],
            )
            for one, part in zip(self.maps, parts, strict=True)
        ]


def certified_share(tally: Tally, k: int, held: Bounds, index: Index = Index.PROVED) -> float:
    """Share of the k largest certified to stay within RADIUS (theory 7.3); what holds anyway counts as 0."""
    radii = overlap_radii(tally, k, held, index)
    certified = int((radii >= RADIUS).sum())
    return certified / k if certified > int(np.isinf(radii).sum()) else 0.0


def lecuyer_share(tally: Tally, k: int, held: Bounds) -> float:
    """The same by the bound of Lecuyer et al."""
    order = np.array(tally.order)
    floors = -np.sort(-lecuyer_floor(held.lower[order[:k]], RADIUS, tally.noise.sigma))
    outside = -np.sort(-held.upper[order[k:]])
    kept = [i for i in range(1, k + 1) if floors[i - 1] > outside[k - i]]
    return max(kept, default=0) / k


def shares(tally: Tally, k: int) -> dict[str, float]:
    """Certified shares of one map, by confidence method and form."""
    hoeffding = bounds(tally, Confidence.HOEFFDING, FAILURE)
    found = {
        "hoeffding": certified_share(tally, k, hoeffding),
        "hoeffding, published index": certified_share(tally, k, hoeffding, Index.AS_PUBLISHED),
        "hoeffding, lecuyer": lecuyer_share(tally, k, hoeffding),
        "bernstein": certified_share(tally, k, bounds(tally, Confidence.BERNSTEIN, FAILURE)),
    }
    if tally.binary:
        held = bounds(tally, Confidence.CLOPPER_PEARSON, FAILURE)
        found["clopper-pearson"] = certified_share(tally, k, held)
        found["clopper-pearson, lecuyer"] = lecuyer_share(tally, k, held)
    return found


def run(
    network: corgi.Network,
    images: list[Path],
    map_of: Callable[[int], BaseMap],
    samples: int,
    gradients: bool,
    out: Path,
) -> None:
    """All maps of all images at all sigmas, into a JSON file; what it holds already is not done again."""
    rows: list[dict[str, Any]] = json.loads(out.read_text()) if out.is_file() else []
    done = {(row["image"], row["sigma"]) for row in rows if row["samples"] == samples}
    for number, path in enumerate(images, 1):
        image = corgi.read_image(path, network, None if gradients else "gtsrb")
        for sigma in SIGMAS:
            if (f"{path.parent.name}/{path.name}", sigma) in done:
                continue
            started = time.perf_counter()
            base = Once(map_of(network.predict(image)))
            n, k = base.n, math.ceil(SHARE * base.n)
            named: dict[str, BaseMap] = {"scaled": base}
            if gradients:
                named["quadratic"] = Quadratic(base)
            for tau in TAUS:
                named[f"sparsified {tau:g}"] = Sparsified(base, math.ceil(tau * n))
                named[f"relaxed {tau:g}"] = Relaxed(base, math.ceil(GAMMA * n), math.ceil(tau * n))
            every = Several(list(named.values()))
            tally = sample(empty(every, image, Noise(sigma)), every, image, samples)
            found = {name: shares(one, k) for name, one in zip(named, every.split(tally), strict=True)}
            row = {
                "image": f"{path.parent.name}/{path.name}",
                "sigma": sigma,
                "n": n,
                "k": k,
                "shares": found,
            }
            rows.append(row | {"samples": samples, "seconds": time.perf_counter() - started})
            out.write_text(json.dumps(rows))
            best = {name: max(kinds.values()) for name, kinds in found.items()}
            text = ", ".join(f"{name} {share:.2f}" for name, share in best.items())
            print(f"{number}/{len(images)} sigma {sigma} {rows[-1]['seconds']:.0f} s: {text}", flush=True)
    table(complete(rows))


def complete(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the images that are done at every sigma."""
    done = {(row["image"], row["sigma"]) for row in rows}
    return [row for row in rows if all((row["image"], sigma) in done for sigma in SIGMAS)]


def table(rows: list[dict[str, Any]]) -> None:
    """Medians over images as a Markdown table, and how Clopper-Pearson compares with Hoeffding."""
    kinds = ("hoeffding, lecuyer", "hoeffding, published index", "hoeffding", "bernstein", "clopper-pearson")
    print(f"\n{len({row['image'] for row in rows})} images, n = {rows[0]['n']}, K = {rows[0]['k']}, medians")
    print(f"\n| sigma | map | {' | '.join(kinds)} |\n|---|---|{'---|' * len(kinds)}")
    for sigma in SIGMAS:
        here = [row["shares"] for row in rows if row["sigma"] == sigma]
        for name in here[0] if here else ():
            cells = [
                f"{np.median([one[name][kind] for one in here]):.3f}" if kind in here[0][name] else "-"
                for kind in kinds
            ]
            print(f"| {sigma:g} | {name} | {' | '.join(cells)} |")
    pairs = [
        (kinds["clopper-pearson"], kinds["hoeffding"])
        for row in rows
        for kinds in row["shares"].values()
        if "clopper-pearson" in kinds
    ]
    print(
        f"\nClopper-Pearson against Hoeffding, {len(pairs)} points: larger in {sum(a > b for a, b in pairs)},"
        f" equal in {sum(a == b for a, b in pairs)}, smaller in {sum(a < b for a, b in pairs)}"
    )


def plot(cifar: list[dict[str, Any]], cam: list[dict[str, Any]], out: Path) -> None:
    """Certified share against tau for both, and the floors of both theorems."""
    figure = Figure(figsize=(12, 7.2), layout="constrained")
    axes = figure.subplots(2, 2)
    _against_tau(axes[0, 0], cifar, "sparsified", "CIFAR-10, ResNet-18: sparsified SmoothGrad")
    _against_tau(axes[0, 1], cifar, "relaxed", f"the same, relaxed (gamma = {GAMMA:g})")
    _against_tau(axes[1, 0], cam, "sparsified", "GTSRB, network of Gu et al.: sparsified smoothed CAM")
    values = np.linspace(0.0, 1.0, 501)
    for ratio, colour in ((0.03, "#0072B2"), (0.1, "#E69F00"), (0.3, "#009E73")):
        name = f"radius / sigma = {ratio:g}"
        axes[1, 1].plot(values, floor(values, ratio, 1.0), color=colour, label=f"{name}: L Theorem 1")
        axes[1, 1].plot(values, lecuyer_floor(values, ratio, 1.0), ":", color=colour, label="Lecuyer et al.")
    axes[1, 1].set_title("what a smoothed value stays above (L figure 15)", fontsize=10)
    axes[1, 1].set_xlabel("population value here")
    axes[1, 1].set_ylabel("floor")
    axes[1, 1].legend(fontsize=8, frameon=False)
    for one in axes.flat:
        one.grid(alpha=0.25)
        one.tick_params(labelsize=8)
    figure.savefig(out, dpi=110)


def _against_tau(axes: Axes, rows: list[dict[str, Any]], name: str, title: str) -> None:
    """Medians over images; the scaled and quadratic maps as horizontal lines."""
    kinds = (("clopper-pearson", "o-"), ("bernstein", "D--"), ("hoeffding", "s:"))
    for sigma, colour in zip(SIGMAS, ("#0072B2", "#E69F00", "#009E73"), strict=True):
        here = [row["shares"] for row in rows if row["sigma"] == sigma]
        for kind, style in kinds:
            if kind not in here[0][f"{name} {TAUS[0]:g}"] or (name == "sparsified" and kind == "bernstein"):
                continue
            middle = [np.median([one[f"{name} {tau:g}"][kind] for one in here]) for tau in TAUS]
            axes.plot(TAUS, middle, style, color=colour, markersize=4, label=f"sigma {sigma:g}, {kind}")
        level = float(np.median([max(one["scaled"].values()) for one in here]))
        axes.axhline(level, color=colour, linewidth=0.8, linestyle=(0, (1, 4)))
    axes.plot([], [], color="black", linewidth=0.8, linestyle=(0, (1, 4)), label="not sparsified")
    axes.set_xscale("log")
    axes.set_xticks(TAUS, [f"{tau:g}" for tau in TAUS])
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.set_title(f"{title}, {len({row['image'] for row in rows})} images", fontsize=10)
    axes.set_xlabel("tau")
    axes.set_ylabel("certified overlap / K")
    axes.legend(fontsize=7, frameon=False)


def chosen(network: corgi.Network, folder: Path, count: int) -> list[Path]:
    """Correctly classified test images of CIFAR-10, class by class in turn."""
    classes = [sorted(part.iterdir()) for part in sorted(folder.iterdir())]
    found = [
        path
        for turn in zip(*(part[:20] for part in classes), strict=True)
        for path in turn
        if network.class_name(network.predict(corgi.read_image(path, network))) == path.parent.name
    ]
    return found[:count]


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = os.environ.get("CORGI_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("part", choices=("cifar", "cam", "plot"))
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "plot":
        cifar, cam = (complete(json.loads(path.read_text())) for path in arguments.paths)
        plot(cifar, cam, arguments.out)
        return
    data = arguments.paths[0] if arguments.paths else Path(default)
    if arguments.part == "cifar":
        network = corgi.load(ROOT / "models" / "cifar10_resnet18.onnx")
        images = chosen(network, data / "CIFAR10" / "test", arguments.images)
        run(
            network,
            images,
            lambda c: SaliencyMap(network, c, Colours.EACH),
            arguments.samples,
            True,
            arguments.out,
        )
    else:
        network = corgi.load(data / "corgi_paper" / "gtsrb_gu2020.onnx")
        images = [s.path for s in read_test(data / "GTSRB") if s.class_id == 12][: arguments.images]
        run(network, images, lambda c: CamMap(network, c), arguments.samples, False, arguments.out)


if __name__ == "__main__":
    main()
