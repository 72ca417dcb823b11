"""The paper's image, every k and k2 of its tables: our certificate and attack beside the paper's.

    python bench/paper_image.py [DATA_DIR] [--relaxed] [--k 15] [--seconds 120]

DATA_DIR holds `corgi_paper/` (default: $CORGI_DATA or ../shared/data). Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

import corgi


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--relaxed", action="store_true", help="vary k2 at k = 15 instead of k")
    parser.add_argument("--k", type=int, nargs="*", help="only these values of k (or k2)")
    parser.add_argument("--seconds", type=float, help="time limit of each")
    arguments = parser.parse_args()
    folder = arguments.data / "corgi_paper"
    reference = json.loads((folder / "reference.json").read_text())
    network = corgi.load(folder / "gtsrb_gu2020.onnx")
    image = np.load(folder / "image_496.npy")

    theirs = reference["certificate_by_k2_at_k15" if arguments.relaxed else "certificate_by_k"]
    attacks = {} if arguments.relaxed else reference["attack_by_k"]
    name = "k2 (k = 15)" if arguments.relaxed else "k"
    columns = [
        "paper certified",
        "corgi certified",
        "corgi attack",
        "paper attack",
        "corgi attack / certified",
    ]
    print(f"| {name} | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|")
    for key in arguments.k or [int(k) for k in theirs]:
        ranks = {"k": 15, "k2": key} if arguments.relaxed else {"k": key}
        result = corgi.verify(network, image, **ranks, time_limit=arguments.seconds)
        certified = result.certificate.radius
        attacked = result.attack.radius if result.attack else None
        ratio = f"{attacked / certified:.3f}" if attacked and certified else "-"
        paper, paper_attack = theirs.get(str(key)), attacks.get(str(key))
        paper, paper_attack = ("-" if value is None else f"{value:.6f}" for value in (paper, paper_attack))
        print(
            f"| {key} | {paper} | {certified:.6f} | {attacked or float('nan'):.6f} "
            f"| {paper_attack} | {ratio} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
