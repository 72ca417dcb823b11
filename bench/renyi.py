"""Renyi-Robust-Smooth against Sparsified SmoothGrad, few samples, under a transferred attack (theory 3.7).

    python bench/renyi.py run [DATA_DIR] [--model FILE] [--images 40] --out FILE.json
    python bench/renyi.py certify [DATA_DIR] [--images 10] [--samples 4096]
    python bench/renyi.py plot FILE.json --out docs/renyi.png

`run`: GTSRB test images that carry a sign's box and are classified correctly, classes in turn. The attack is
found on the plain gradient (l_inf 8/256, rate 0.5, 300 steps, its top k), and every other map is asked how
much of its own top k it keeps, also where only the noise is drawn anew, and how much of that lies on the
sign. All colours, n = 6912; the source's 2500 of 150528 values are k = 115 here. sigma = 0.1; each map draws
its own noise at either image.

`certify`: with many samples, certified radii of both on the class activation map of the paper's network.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import corgi
from corgi.attacks.overlap import kept_share
from corgi.attacks.transfer import TransferAttack
from corgi.attacks.twin import saliency_guide
from corgi.cam.pointing import pointing_share
from corgi.data.gtsrb import read_test
from corgi.data.image import look_at
from corgi.data.preprocess import GTSRB
from corgi.data.region import box_region
from corgi.data.samples import Sample
from corgi.smoothing.cam_map import CamMap
from corgi.smoothing.confidence import bounds
from corgi.smoothing.divergence import noise_for
from corgi.smoothing.interface import BaseMap
from corgi.smoothing.maps.gradients import Colours
from corgi.smoothing.maps.saliency import SaliencyMap
from corgi.smoothing.noise import Noise
from corgi.smoothing.overlap import overlap_radii
from corgi.smoothing.rank_scores import ETA_AS_PUBLISHED, RankScores
from corgi.smoothing.renyi import renyi_radii
from corgi.smoothing.sparsified import Sparsified
from corgi.smoothing.tally import empty, sample
from corgi.terms import Confidence

SIGMA, LINF, FAILURE = 0.1, 8 / 256, 0.05
ORIGINAL_SHARE = 2500 / (3 * 224 * 224)
COUNTS = (5, 10, 15, 20, 25, 30)
ROOT = Path(__file__).resolve().parents[1]


def maps(base: BaseMap, k: int) -> dict[str, tuple[BaseMap, float]]:
    """What is compared: a map and the shape of its noise, by name."""
    wide = noise_for(math.inf, SIGMA, base.n, 0).shape
    return {
        "Renyi, eta as in R": (RankScores(base, k, ETA_AS_PUBLISHED / base.n), wide),
        "Renyi, eta = 10 / k": (RankScores(base, k), wide),
        "sparsified, tau = k / n": (Sparsified(base, k), 2.0),
        "sparsified, tau = 0.1": (Sparsified(base, math.ceil(0.1 * base.n)), 2.0),
        "scaled SmoothGrad": (base, 2.0),
    }


def run(network: corgi.Network, samples: list[Sample], out: Path) -> None:
    """Overlap and pointing of every map at every number of samples; images in the file are not done again."""
    rows: list[dict[str, Any]] = json.loads(out.read_text()) if out.is_file() else []
    done = {row["image"] for row in rows}
    for number, one in enumerate(samples, 1):
        if one.path.name in done:
            continue
        started = time.perf_counter()
        seen = look_at(one.path, network.input_shape, GTSRB, None)
        image = seen.pixels
        assert one.box is not None
        height, width = network.input_shape[1:]
        region = box_region([one.box], seen.window, (height, width))
        base = SaliencyMap(network, one.class_id, Colours.EACH)
        k = math.ceil(ORIGINAL_SHARE * base.n)
        plain = base(torch.from_numpy(image)[None])[0]
        top = tuple(plain.argsort(descending=True, stable=True)[:k].tolist())
        ball = corgi.Ball(torch.from_numpy(image), LINF, corgi.Norm.LINF)
        found = TransferAttack().run(saliency_guide(network, one.class_id), ball, top)
        moved = np.ascontiguousarray(found.image.numpy())
        moved_plain = base(found.image[None])[0]
        row: dict[str, Any] = {
            "image": one.path.name,
            "class": one.class_id,
            "label kept": network.predict(moved) == one.class_id,
            "mask": len(region.pixels) / (height * width),
            "plain": {
                "overlap": kept_share(plain, moved_plain, k),
                "overlap, no attack": 1.0,
                "pointing": pointing_share(plain.reshape(3, height, width), k, region),
                "pointing attacked": pointing_share(moved_plain.reshape(3, height, width), k, region),
            },
            "smoothed": {},
        }
        for name, (smoothed, shape) in maps(base, k).items():
            for count in COUNTS:
                before, after, again = (
                    torch.from_numpy(
                        sample(empty(smoothed, x, Noise(SIGMA, shape, seed)), smoothed, x, count).mean
                    )
                    for seed, x in ((0, image), (1, moved), (1, image))
                )
                row["smoothed"].setdefault(name, {})[str(count)] = {
                    "overlap": kept_share(before, after, k),
                    "overlap, no attack": kept_share(before, again, k),
                    "pointing": pointing_share(before.reshape(3, height, width), k, region),
                    "pointing attacked": pointing_share(after.reshape(3, height, width), k, region),
                }
        rows.append(row)
        out.write_text(json.dumps(rows))
        line = ", ".join(f"{name} {row['smoothed'][name]['30']['overlap']:.2f}" for name in row["smoothed"])
        seconds = time.perf_counter() - started
        print(
            f"{number} {one.path.name} {seconds:.0f} s: plain {row['plain']['overlap']:.2f}, {line}",
            flush=True,
        )
    table(rows)


def table(rows: list[dict[str, Any]]) -> None:
    """Means over images as Markdown."""
    kept = sum(row["label kept"] for row in rows)
    print(f"\n{len(rows)} images, the label stays in {kept}; the sign covers {_mean(rows, 'mask'):.1%}")
    for what in ("overlap", "overlap, no attack", "pointing", "pointing attacked"):
        print(f"\n{what} of the top k; plain gradient: {np.mean([row['plain'][what] for row in rows]):.1%}\n")
        print(f"| T | {' | '.join(str(count) for count in COUNTS)} |\n|---|{'---|' * len(COUNTS)}")
        for name in rows[0]["smoothed"]:
            cells = [
                f"{np.mean([row['smoothed'][name][str(count)][what] for row in rows]):.1%}"
                for count in COUNTS
            ]
            print(f"| {name} | {' | '.join(cells)} |")


def _mean(rows: list[dict[str, Any]], what: str) -> float:
    return float(np.mean([row[what] for row in rows]))


def plot(rows: list[dict[str, Any]], out: Path) -> None:
    """Overlap and pointing against the number of samples."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    titles = {
        "overlap": "top-k kept under the transferred attack",
        "overlap, no attack": "top-k kept where only the noise is drawn anew",
        "pointing attacked": "top-k on the sign, attacked image",
    }
    colours = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73")
    for axes, (what, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for name, colour, mark in zip(rows[0]["smoothed"], colours, "osDv^", strict=True):
            means = [np.mean([row["smoothed"][name][str(c)][what] for row in rows]) for c in COUNTS]
            axes.plot(COUNTS, means, f"{mark}-", color=colour, markersize=4, label=name)
        level = np.mean([row["plain"][what] for row in rows])
        axes.axhline(level, color="black", linewidth=0.8, linestyle=":", label="plain gradient")
        if what == "pointing attacked":
            axes.axhline(_mean(rows, "mask"), color="#999999", linewidth=0.8, label="pixels of the sign")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("samples T")
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
    figure.axes[0].legend(fontsize=7.5, frameon=False)
    figure.suptitle(f"{len(rows)} GTSRB test images, network of Gu et al., k = 115 of 6912", fontsize=10)
    figure.savefig(out, dpi=110)


def certify(network: corgi.Network, samples: list[Sample], count: int) -> None:
    """Certified radii of the class activation map, k = 15: all, 12 and 8 of the 15 pixels."""
    k, wanted = 15, (15, 12, 8)
    rows: dict[tuple[str, str], list[list[float]]] = {}
    few: dict[int, int] = dict.fromkeys((30, 50), 0)
    for number, one in enumerate(samples, 1):
        image = corgi.read_image(one.path, network, "gtsrb")
        cam = CamMap(network, network.predict(image))
        sparse, scored = Sparsified(cam, k), RankScores(cam, k)
        original = RankScores(cam, k, ETA_AS_PUBLISHED / cam.n)
        for norm in (2.0, math.inf):
            noise = noise_for(norm, SIGMA, image.size, 0)
            for name, ranked in (("Renyi, eta = 10 / k", scored), ("Renyi, eta as in R", original)):
                tally = sample(empty(ranked, image, noise), ranked, image, count)
                radii = renyi_radii(tally, ranked, k, norm, bounds(tally, Confidence.BERNSTEIN, FAILURE))
                rows.setdefault((name, f"l_{norm:g}"), []).append([float(radii[i - 1]) for i in wanted])
        for small in few:
            tally = sample(empty(original, image, noise), original, image, small)
            held = bounds(tally, Confidence.HOEFFDING, FAILURE)
            few[small] += int(renyi_radii(tally, original, k, math.inf, held).max() > 0)
        tally = sample(empty(sparse, image, Noise(SIGMA)), sparse, image, count)
        radii = overlap_radii(tally, k, bounds(tally, Confidence.CLOPPER_PEARSON, FAILURE))
        rows.setdefault(("sparsified, tau = k / n", "l_2"), []).append([float(radii[i - 1]) for i in wanted])
        in_linf = [float(radii[i - 1]) / math.sqrt(image.size) for i in wanted]
        rows.setdefault(("sparsified, tau = k / n", "l_inf from l_2"), []).append(in_linf)
        print(f"{number}/{len(samples)} {one.path.name}", flush=True)
    print(f"\n{len(samples)} images, {count} samples, medians\n")
    print("| map | norm | 15 of 15 | 12 | 8 |\n|---|---|---|---|---|")
    for (name, norm), found in rows.items():
        middle = np.median(np.array(found), axis=0)
        print(f"| {name} | {norm} | {' | '.join(f'{radius:.2g}' for radius in middle)} |")
    for small, certified in few.items():
        print(f"T = {small}: the sound l_inf bound says anything at all for {certified} of {len(samples)}")


def chosen(network: corgi.Network, data: Path, count: int) -> list[Sample]:
    """Correctly classified test samples with a box, classes in turn."""
    by_class: dict[int, list[Sample]] = {}
    for one in read_test(data / "GTSRB"):
        by_class.setdefault(one.class_id, []).append(one)
    found: list[Sample] = []
    for place in range(max(map(len, by_class.values()))):
        for class_id in sorted(by_class):
            if len(found) < count and place < len(by_class[class_id]):
                one = by_class[class_id][place]
                if network.predict(corgi.read_image(one.path, network, "gtsrb")) == class_id:
                    found.append(one)
    return found


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = os.environ.get("CORGI_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("part", choices=("run", "certify", "plot"))
    parser.add_argument("path", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "plot":
        plot(json.loads(arguments.path.read_text()), arguments.out)
        return
    network = corgi.load(arguments.model or arguments.path / "corgi_paper" / "gtsrb_gu2020.onnx")
    samples = chosen(network, arguments.path, arguments.images)
    if arguments.part == "run":
        run(network, samples, arguments.out)
    else:
        certify(network, samples, arguments.samples)


if __name__ == "__main__":
    main()
