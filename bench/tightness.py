"""What each step of the relaxation is worth: certified radii on the paper's image and on test images.

    python bench/tightness.py [DATA_DIR] [--images 10] [--class-id 12] [--tolerance 0.001]

The paper's network, k = 15, no attack. Radii are those of `corgi.verify`, searched until the bracket is
`--tolerance` wide, so smaller differences mean nothing. The last column is the median over correctly
classified GTSRB test images (the recipe of Gu et al.) of a step's radius divided by that of `REFERENCE` on
the same image.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import corgi
from corgi.certify.verify import VerifyOptions
from corgi.data.gtsrb import read_test
from corgi.engines.auto_lirpa import BoundedModule, BoundedTensor, PerturbationLpNorm, release
from corgi.engines.forms import ClassMargins, Forms
from corgi.engines.interface import BoundEngine, Bounder
from corgi.network import layers
from corgi.network.network import Network
from corgi.terms import Form
from corgi.types import Ball, Interval


@dataclass(frozen=True)
class OwnMaxPoolEngine(BoundEngine):
    """auto_LiRPA CROWN as it comes: MaxPool is the library's own node, nothing is lowered."""

    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name and release."""
        return f"auto_LiRPA {release()}, MaxPool its own node"

    @property
    def method(self) -> str:
        """The relaxation."""
        return "crown"

    def check(self, network: Network) -> None:
        """Nothing is refused before it is tried."""

    def bind(self, network: Network, class_id: int, dtype: torch.dtype = torch.float64) -> OwnMaxPoolBounder:
        """Prepare to bound the map of a class."""
        return OwnMaxPoolBounder(self, network, class_id, dtype)


class OwnMaxPoolBounder(Bounder):
    """`OwnMaxPoolEngine` bound to a network, class and precision. Folded intervals only.

    Its rounding is not bounded, so its radius is a figure to compare with and no certificate.
    """

    rounding = 0.0

    def middle(self, ball: Ball) -> Tensor:
        """The middle of the bounds at radius 0, float64 [pixels]."""
        found = self.pixels(ball.with_radius(0.0))
        return (found.lower.to(torch.float64) + found.upper.to(torch.float64)) / 2

    def __init__(self, engine: OwnMaxPoolEngine, network: Network, class_id: int, dtype: torch.dtype) -> None:
        self._engine, self._network, self._dtype = engine, network, dtype
        module = torch_sequential(network, class_id).to(dtype)
        dummy = torch.zeros(1, *network.input_shape, dtype=dtype)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            self._module = BoundedModule(module, dummy, bound_opts={"verbosity": 0}, device="cpu")

    def intervals(self, ball: Ball) -> Interval:
        """Nothing: the library bounds all pixels at once."""
        infinite = torch.full((self._network.pixels,), torch.inf, dtype=torch.float64)
        return Interval(-infinite, infinite)

    @torch.no_grad()
    def pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        """Folded intervals (theory 1.2), each [pixels]; all of them, whichever were asked for."""
        box = ball.box(self._dtype)
        norm = PerturbationLpNorm(norm=np.inf, x_L=box.lower[None], x_U=box.upper[None])
        before = torch.get_default_dtype()
        torch.set_default_dtype(self._dtype)  # the library creates tensors of the default type
        try:
            image = BoundedTensor(ball.center.to(self._dtype)[None], norm)
            lower, upper = self._module.compute_bounds(x=(image,), method="CROWN")
        finally:
            torch.set_default_dtype(before)
        # At radius 0 the ends may cross by rounding.
        slack = 1e-3 * float(upper.abs().max())
        return Interval.from_engine(
            lower.reshape(-1), upper.reshape(-1), slack=slack, engine=self._engine.name
        )

    def lower(self, ball: Ball, forms: Forms | ClassMargins, *, sharply: bool = False) -> Tensor:
        """Not offered."""
        raise NotImplementedError("folded intervals only")


def torch_sequential(network: Network, class_id: int) -> nn.Sequential:
    """The map of a class in torch's own layers, from the weights of a network of plain layers in a row."""
    modules: list[nn.Module] = []
    for step in network.trunk.steps:
        match step.layer:
            case layers.Conv() as conv:
                modules.append(_conv(conv))
            case layers.Relu():
                modules.append(nn.ReLU())
            case layers.MaxPool(dilation=(1, 1), ceil_mode=False, pads=(0, 0, 0, 0)) as pool:
                modules.append(nn.MaxPool2d(pool.kernel, pool.stride))
            case layers.Identity():
                pass
            case other:
                raise SystemExit(f"{step}: this benchmark has no torch layer for {type(other).__name__}")
    weight = network.head.weight[class_id][None, :, None, None]
    modules += [_conv(layers.Conv(weight, weight.new_zeros(1))), nn.Flatten()]
    return nn.Sequential(*modules).eval()


def _conv(conv: layers.Conv) -> nn.Conv2d:
    out, channels, high, wide = conv.weight.shape
    made = nn.Conv2d(
        channels * conv.groups,
        out,
        (high, wide),
        conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
    )
    made.weight = nn.Parameter(conv.weight.clone(), requires_grad=False)
    made.bias = nn.Parameter(conv.bias.clone(), requires_grad=False)
    return made


@dataclass(frozen=True)
class Step:
    """One step: its name in the tables, and how it bounds."""

    name: str
    engine: BoundEngine
    form: Form


LIRPA = corgi.LirpaEngine()
IBP_INNER = corgi.PatchEngine(relaxation=corgi.PatchMethod.CROWN_IBP)
CROWN = corgi.PatchEngine(relaxation=corgi.PatchMethod.CROWN)
ALPHA = corgi.PatchEngine(relaxation=corgi.PatchMethod.ALPHA_CROWN)
FOCUS = corgi.PatchEngine(relaxation=corgi.PatchMethod.FOCUS)

REFERENCE = "auto_LiRPA CROWN, lowered, pairwise"
STEPS = (
    Step("auto_LiRPA CROWN, MaxPool its own node, folded", OwnMaxPoolEngine(), Form.FOLDED),
    Step("auto_LiRPA CROWN, lowered, folded", LIRPA, Form.FOLDED),
    Step(REFERENCE, LIRPA, Form.PAIRWISE),
    Step("patch CROWN-IBP, folded", IBP_INNER, Form.FOLDED),
    Step("patch CROWN-IBP, pairwise", IBP_INNER, Form.PAIRWISE),
    Step("patch CROWN, folded", CROWN, Form.FOLDED),
    Step("patch CROWN, pairwise", CROWN, Form.PAIRWISE),
    Step("patch alpha-CROWN, pairwise", ALPHA, Form.PAIRWISE),
    Step("patch focus, pairwise", FOCUS, Form.PAIRWISE),
)
"""The lines of the table, top to bottom."""


def radii(network: Network, image: np.ndarray, tolerance: float) -> list[float]:
    """The radius of every step for an image [C, H, W]."""
    found = []
    for step in STEPS:
        options = VerifyOptions(
            k=15,
            engine=step.engine,
            form=step.form,
            attack=None,
            exact=None,
            tolerance=tolerance,
            max_evaluations=60,
        )
        found.append(corgi.verify(network, image, options).certificate.radius)
    print("radii", *(f"{radius:.6f}" for radius in found), file=sys.stderr, flush=True)
    return found


def print_table(paper: Sequence[float], medians: Sequence[float], images: str) -> None:
    """Markdown: step, radius, gain over the line above; median over other images."""
    print(f"| step | radius, image_496 | gain over the line above | radius / reference, {images} |")
    print("|---|---|---|---|")
    for i, (step, radius, median) in enumerate(zip(STEPS, paper, medians, strict=True)):
        gain = f"{100 * (radius / paper[i - 1] - 1):+.1f}%" if i and paper[i - 1] > 0 else "-"
        print(f"| {step.name} | {radius:.6f} | {gain} | {median:.3f} |")
    print(f"\nReference: {REFERENCE}.")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--class-id", type=int, default=12)
    parser.add_argument("--tolerance", type=float, default=0.001)
    arguments = parser.parse_args()
    folder = arguments.data / "corgi_paper"
    network = corgi.load(folder / "gtsrb_gu2020.onnx")
    paper = radii(network, np.load(folder / "image_496.npy"), arguments.tolerance)
    reference = next(i for i, step in enumerate(STEPS) if step.name == REFERENCE)
    relative: list[list[float]] = []
    for sample in (s for s in read_test(arguments.data / "GTSRB") if s.class_id == arguments.class_id):
        if len(relative) == arguments.images:
            break
        image = corgi.read_image(sample.path, network, "gtsrb")
        if network.predict(image) != sample.class_id:
            continue
        found = radii(network, image, arguments.tolerance)
        if found[reference] > 0:
            relative.append([radius / found[reference] for radius in found])
    columns = zip(*relative, strict=True) if relative else ([float("nan")] for _ in STEPS)
    medians = [statistics.median(column) for column in columns]
    print_table(paper, medians, f"median of {len(relative)} images of class {arguments.class_id}")


if __name__ == "__main__":
    main()
