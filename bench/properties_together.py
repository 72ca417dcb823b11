"""Several properties of one map: processor seconds of one call together over those of one call each.

    python bench/properties_together.py [DATA_DIR]

The demo image, and a GTSRB test image where the data is there; k = 15. Loading is in neither. How: the
search by bounds alone; the radii 0.5/255 and 1/255 by bounds alone; and 0.25/255 with exact decisions. No
search with those: it is ended by the clock. Orders: properties with large radii first, and last.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import corgi
from corgi import VerifyOptions
from corgi.data.gtsrb import read_test
from corgi.data.image import look_at
from corgi.data.preprocess import GTSRB, Recipe
from corgi.data.region import read_region
from corgi.network.network import Network
from corgi.properties import Inside, Iou, Overlap, Pointing, Property, Topk
from corgi.results import ImageArray, VerifyResult

ROOT = Path(__file__).parents[1]
MODEL, DEMO = ROOT / "models" / "gtsrb.onnx", ROOT / "models" / "demo" / "no_entry.png"

HOW = {
    "bounds, search": VerifyOptions(exact=None),
    "bounds, 0.5/255": VerifyOptions(exact=None, attack=None, eps=0.5 / 255),
    "bounds, 1/255": VerifyOptions(exact=None, attack=None, eps=1 / 255),
    "exact, 0.25/255": VerifyOptions(attack=None, eps=0.25 / 255),
}


def images(network: Network, data: Path | None) -> Iterator[tuple[str, ImageArray, list[Property]]]:
    """Names, inputs, and what is asked, large radii first."""
    found = [(DEMO, "10,11,53,54", None if network.preprocess is None else Recipe.parse(network.preprocess))]
    if data is not None:
        sample = next(one for one in read_test(data / "GTSRB") if one.class_id == 12)
        found.append((sample.path, "annotation", GTSRB))
    for path, region, recipe in found:
        seen = look_at(path, network.input_shape, recipe, None)
        pixels = read_region(region, seen.window, network.head.map_shape, path).pixels
        asked: list[Property] = [Pointing(pixels), Inside(12, pixels), Topk(30), Iou(), Overlap(12), Topk()]
        yield path.name, seen.pixels, asked


def radii(results: Sequence[VerifyResult]) -> str:
    """Certified radii by property."""
    return " ".join(f"{r.certificate.statement.name} {r.certificate.radius:.5f}" for r in results)


def main(data: Path | None) -> None:
    """One line an image, a way and an order."""
    torch.set_num_threads(1)
    network = corgi.load(MODEL)
    for name, image, asked in images(network, data):
        for how, options in HOW.items():
            began = time.process_time()
            alone = [corgi.verify(network, image, options, property=one) for one in asked]
            separately = time.process_time() - began
            print(f"{name}, {how}: separately {separately:.1f} s: {radii(alone)}", flush=True)
            for order, properties in (("large first", asked), ("small first", asked[::-1])):
                began = time.process_time()
                found = corgi.verify_properties(network, image, properties, options)
                together = time.process_time() - began
                ratio = together / separately
                print(
                    f"  {order}: together {together:.1f} s, {ratio:.2f}: {radii(found.results)}", flush=True
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
