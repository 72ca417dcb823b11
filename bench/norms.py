"""The paper's image in l_inf, l_2 and l_1: certified radius by bounds, witness, ratio, work.

    python bench/norms.py [DATA_DIR] [--norm l2 l1] [--method crown focus]

DATA_DIR holds `corgi_paper/` (default: $CORGI_DATA or ../shared/data). Prints a Markdown table, k = 15.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

import corgi


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--norm", nargs="*", type=corgi.Norm, default=list(corgi.Norm))
    parser.add_argument("--method", nargs="*", type=corgi.PatchMethod, default=list(corgi.PatchMethod))
    arguments = parser.parse_args()
    folder = arguments.data / "corgi_paper"
    network, image = corgi.load(folder / "gtsrb_gu2020.onnx"), np.load(folder / "image_496.npy")
    print(
        "| norm | method | certified | witness | ratio | evaluations | certify, s | gradients | attack, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for norm in arguments.norm:
        for method in arguments.method:
            engine = corgi.PatchEngine(method)
            result = corgi.verify(network, image, k=15, norm=norm, engine=engine, exact=None)
            certificate, attack = result.certificate, result.attack
            assert attack is not None
            assert attack.radius is not None
            print(
                f"| {norm.label} | {certificate.method} | {certificate.radius:.6f} | {attack.radius:.6f} "
                f"| {attack.radius / certificate.radius:.3f} | {certificate.evaluations} "
                f"| {certificate.seconds:.1f} | {attack.gradients} | {attack.seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
