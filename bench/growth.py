"""How time and peak memory of the patch engine grow with image side and with width, beside auto_LiRPA.

    python bench/growth.py [DATA_DIR] [--sides 32 48 ...] [--widths 8 16 ...] [--plot FILE] [--out FILE.csv]

The networks have the paper's architecture (conv w, conv w, maxpool 2, conv 2w, conv 2w, GAP, dense 10; 3x3,
same padding, ReLU) with seeded He weights. The picture is seeded low-pass noise whose details are equally
many pixels large at every side, so a larger picture is more of the same; of `SEEDS` pictures the one whose
top-15 set would break nearest to `RADIUS` were the network linear. So bounds, all taken at `RADIUS`, and
searches deal with balls of one size: about 1% of the windows (a Relu, or a pool with its Relu) are undecided
there; the share is printed. Measured are

    bound       PatchEngine, CROWN: bounds of all map pixels in float32
    search      corgi.verify(network, image, attack=None, exact=None), k = 15
    auto_LiRPA  LirpaEngine, CROWN (MaxPool lowered): bounds of all map pixels in float32

each in a process of its own: a first run, after which peak memory is read (ru_maxrss), then up to two more,
whose median is the time (that of the first, if it took over 20 s). Seconds are those the processor spent on
one thread: wall time on a free core. Memory in brackets is over that before the first run, when corgi is
imported and the model loaded. "over" and "not run" stand for what was given up: see LIMITS and MEMORY. The
last table is the paper's network.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# On Linux a new process starts with its parent's peak memory, so the parent must stay smaller than any child:
# torch is imported by the children only, and matplotlib once they are done.
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RADIUS = 0.0003
SEEDS = 16
SMOOTH = 2.0
"""Standard deviation of the picture's low-pass filter, pixels."""

SIDES, SIDE = (32, 48, 64, 96, 128, 160, 192, 224), 64
WIDTHS, WIDTH = (8, 16, 32, 64), 16

LIMITS = {"picture": 600, "bound": 120, "search": 120, "lirpa": 60, "verify": 120}
"""Seconds after which a run is given up."""

WALL = 10
"""No child may take longer by the clock than this many times its limit: other work may slow it down."""

MEMORY = 12 * 2**30
"""Bytes of address space a child may have: this machine is shared."""


def write_network(path: Path, side: int, width: int, seed: int = 0) -> None:
    """The paper's architecture at a side and width, He weights, as ONNX."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{len(weights)}"))
        return weights[-1].name

    def node(op: str, *operands: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, operands, [f"v{len(nodes)}"], name=f"n{len(nodes)}", **attributes))
        return f"v{len(nodes) - 1}"

    value, channels = "image", 3
    for layer, out in enumerate((width, width, 2 * width, 2 * width)):
        kernel = rng.standard_normal((out, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
        bias = 0.05 * rng.standard_normal(out)
        value = node("Relu", node("Conv", value, weight(kernel), weight(bias), pads=[1, 1, 1, 1]))
        if layer == 1:
            value = node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
        channels = out
    dense = rng.standard_normal((10, channels)) * channels**-0.5
    pooled = node("Flatten", node("GlobalAveragePool", value), axis=1)
    value = node("Gemm", pooled, weight(dense), weight(np.zeros(10)), transB=1)
    graph = helper.make_graph(
        nodes,
        "growth",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def picture(side: int, seed: int) -> np.ndarray:
    """Low-pass noise [3, side, side] in [0, 1], mean about 0.5 and standard deviation about 0.2."""
    noise = np.random.default_rng(seed).standard_normal((3, side, side))
    squared = np.add.outer(np.fft.fftfreq(side) ** 2, np.fft.fftfreq(side) ** 2)
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-2 * (np.pi * SMOOTH) ** 2 * squared)).real
    image: np.ndarray = np.clip(0.5 + 0.2 * (smooth - smooth.mean()) / smooth.std(), 0, 1)
    return image.astype(np.float32)


def peak() -> float:
    """Peak resident memory of this process so far, MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def child(kind: str, model: str, image_file: str) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    import torch

    import corgi

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    network = corgi.load(model)
    if kind == "picture":
        np.save(image_file, chosen_picture(network))
        return {}
    run = {"bound": patch_run, "search": search_run, "verify": verify_run, "lirpa": lirpa_run}[kind]
    seconds, memory, more, found = timed(run(network, np.load(image_file)), LIMITS[kind])
    return {"seconds": seconds, "memory": memory, "more": more} | found


def timed(run: Callable[[], dict[str, Any]], limit: int) -> tuple[float, float, float, dict[str, Any]]:
    """Seconds, peak memory, the part of it that the first run added, and what a run found.

    The process is ended by SIGXCPU in a run that takes over `limit` seconds.
    """
    before = peak()
    times: list[float] = []
    while len(times) < 3 and sum(times) < 20:
        started = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(started) + limit + 1, resource.RLIM_INFINITY))
        found = run()
        times.append(time.process_time() - started)
        if len(times) == 1:
            memory = peak()
    return statistics.median(times[1:] or times), memory, memory - before, found


def chosen_picture(network: Any) -> np.ndarray:
    """The picture whose linear radius at k = 15 is nearest to `RADIUS`."""
    import torch

    from corgi.attacks.pairs import linear_radius
    from corgi.attacks.target import Target
    from corgi.cam.topk import top_k
    from corgi.properties.topk import stays
    from corgi.types import Ball

    def distance(image: np.ndarray) -> float:
        label = network.predict(image)
        top = top_k(network.cam(image, label), 15, 0.0)
        target = Target(network, label, top, stays(top, 15, network.pixels))
        radius = linear_radius(target, Ball(torch.from_numpy(image), 0.0))
        return abs(float(np.log((radius or 1e-9) / RADIUS)))

    side = network.input_shape[-1]
    return min((picture(side, seed) for seed in range(SEEDS)), key=distance)


def patch_run(network: Any, image: np.ndarray) -> Callable[[], dict[str, Any]]:
    """The patch engine bound anew, and one bound of the map: rows, undecided windows."""
    import torch

    import corgi

    engine = corgi.PatchEngine(relaxation=corgi.PatchMethod.CROWN)
    class_id, ball = network.predict(image), corgi.Ball(torch.from_numpy(image), RADIUS)

    def run() -> dict[str, Any]:
        bounder = engine.bind(network, class_id, torch.float32)
        bounder.pixels(ball)
        # Told to nobody but this benchmark, hence the private names.
        bounds = bounder._bounds(ball)
        live = [windows.live for windows in bounds.state.windows.values()]
        return {
            "rows": bounds.builder.count,
            "undecided": sum(int((some.sum(-1) > 1).sum()) for some in live),
            "windows": sum(some[..., 0].numel() for some in live),
        }

    return run


def lirpa_run(network: Any, image: np.ndarray) -> Callable[[], dict[str, Any]]:
    """One bound of the map by auto_LiRPA; the first run also builds its module."""
    import torch

    import corgi
    from corgi.engines.lirpa import PATCHES, LirpaBounder

    engine, class_id = corgi.LirpaEngine(), network.predict(image)
    bounder = LirpaBounder(engine, network, class_id, torch.float32, layout=PATCHES)

    def run() -> dict[str, Any]:
        # A new ball: the engine keeps the inner bounds of the last one.
        bounder.pixels(corgi.Ball(torch.from_numpy(image), RADIUS))
        return {}

    return run


def search_run(network: Any, image: np.ndarray) -> Callable[[], dict[str, Any]]:
    """A radius search without an attack: radius and evaluations."""
    return verify_run(network, image, attack=None)


def verify_run(network: Any, image: np.ndarray, **options: Any) -> Callable[[], dict[str, Any]]:
    """A whole verification: radius and evaluations."""
    from corgi import verify

    def run() -> dict[str, Any]:
        certificate = verify(network, image, k=15, exact=None, **options).certificate
        return {"radius": certificate.radius, "evaluations": certificate.evaluations}

    return run


def measure(kind: str, model: Path, image: Path) -> dict[str, Any]:
    """The result of a child, or {"note": why there is none}."""
    limit = LIMITS[kind]
    command = [sys.executable, __file__, "--child", kind, str(model), str(image)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WALL * limit, check=False)
    except subprocess.TimeoutExpired:
        return {"note": f"over {WALL * limit} s by the clock", "over": True}
    if done.returncode == -signal.SIGXCPU:
        return {"note": f"over {limit} s", "over": True}
    if done.returncode == 0:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result
    if "allocate memory" in done.stderr or "MemoryError" in done.stderr:
        return {"note": f"over {MEMORY / 2**30:.0f} GiB", "over": True}
    print(done.stderr, file=sys.stderr)
    return {"note": "failed"}


@dataclass
class Point:
    """One network and picture, and what was measured: results of children by kind."""

    side: int
    width: int
    results: dict[str, dict[str, Any]]


def measure_point(side: int, width: int, folder: Path, before: Sequence[Point]) -> Point:
    """All three kinds, save those that were over their limit on a network no larger in side and width."""
    model, image = folder / f"{side}x{width}.onnx", folder / f"{side}x{width}.npy"
    write_network(model, side, width)
    measure("picture", model, image)
    point = Point(side, width, {})
    for kind in ("bound", "search", "lirpa"):
        smaller = [p.results[kind] for p in before if p.side <= side and p.width <= width]
        if any(result.get("over") for result in smaller):
            point.results[kind] = {"note": "not run", "over": True}
        else:
            point.results[kind] = measure(kind, model, image)
        print(f"side {side} width {width} {kind}: {point.results[kind]}", file=sys.stderr, flush=True)
    return point


COLUMNS = (
    "side",
    "width",
    "windows",
    "undecided",
    "rows",
    "bound s",
    "bound MB",
    "search s",
    "evaluations",
    "radius",
    "search MB",
    "auto_LiRPA s",
    "auto_LiRPA MB",
    "auto_LiRPA s / bound s",
)


def cells(point: Point) -> list[str]:
    """A row of the table."""
    bound, search, lirpa = (point.results[kind] for kind in ("bound", "search", "lirpa"))
    ratio = "-"
    if "note" not in bound and "note" not in lirpa:
        ratio = f"{lirpa['seconds'] / bound['seconds']:.1f}"
    counts = ["-", "-", "-"]
    if "note" not in bound:
        share = 100 * bound["undecided"] / bound["windows"]
        counts = [str(bound["windows"]), f"{bound['undecided']} ({share:.2f}%)", str(bound["rows"])]
    found = ["-", "-"]
    if "note" not in search:
        found = [str(search["evaluations"]), f"{search['radius']:.2e}"]
    return [
        str(point.side),
        str(point.width),
        *counts,
        *_cost(bound),
        _cost(search)[0],
        *found,
        _cost(search)[1],
        *_cost(lirpa),
        ratio,
    ]


def _cost(result: dict[str, Any]) -> tuple[str, str]:
    """Seconds and memory."""
    if "note" in result:
        return result["note"], "-"
    return f"{result['seconds']:.2f}", f"{result['memory']:.0f} ({result['more']:.0f})"


def at_width(points: Sequence[Point]) -> list[Point]:
    """The points that differ in side only."""
    return sorted((p for p in points if p.width == WIDTH), key=lambda p: p.side)


def at_side(points: Sequence[Point]) -> list[Point]:
    """The points that differ in width only."""
    return sorted((p for p in points if p.side == SIDE), key=lambda p: p.width)


def print_table(points: Sequence[Point]) -> None:
    """Markdown."""
    print(f"\n| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for point in points:
        print(f"| {' | '.join(cells(point))} |")


def print_paper(folder: Path) -> None:
    """The paper's network and image: what every kind costs, and a whole verification with its attack."""
    names = {
        "bound": f"bound of all map pixels, radius {RADIUS}",
        "search": "radius search, no attack",
        "verify": "corgi.verify with its attack",
        "lirpa": f"auto_LiRPA CROWN bound of all map pixels, radius {RADIUS}",
    }
    print("\n| the paper's network, image_496 | s | peak MB (over loading) |\n|---|---|---|")
    for kind, name in names.items():
        seconds, memory = _cost(measure(kind, folder / "gtsrb_gu2020.onnx", folder / "image_496.npy"))
        print(f"| {name} | {seconds} | {memory} |", flush=True)


_STYLES = {
    "bound": ("corgi, one bound of the map", "#0072B2", "o"),
    "search": ("corgi, radius search (no attack)", "#009E73", "s"),
    "lirpa": ("auto_LiRPA CROWN, one bound of the map", "#D55E00", "^"),
}
"""Label, colour (Okabe and Ito) and mark of every kind."""


def draw(points: Sequence[Point], path: Path) -> None:
    """Time and memory (rows) against side and width (columns), all axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    series = [
        ("side", f"image side, pixels (width {WIDTH})", at_width(points)),
        ("width", f"channels of the first layer (side {SIDE})", at_side(points)),
    ]
    quantities = (("seconds", "seconds"), ("more", "peak memory over the loaded model, MB"))
    for column, (attribute, title, chosen) in enumerate(series):
        for row, (key, label) in enumerate(quantities):
            axis = axes[row, column]
            for kind, (name, colour, mark) in _STYLES.items():
                done = [p for p in chosen if "note" not in p.results[kind]]
                x = [getattr(p, attribute) for p in done]
                y = [p.results[kind][key] for p in done]
                axis.plot(x, y, color=colour, marker=mark, markersize=6, linewidth=1.8, label=name)
            _square(axis, chosen, attribute, key)
            _dress(axis, [getattr(p, attribute) for p in chosen])
            if column == 0:
                axis.set_ylabel(label)
            if row == 1:
                axis.set_xlabel(title)
            missing = [p for p in chosen if "note" in p.results["lirpa"]]
            if missing and row == 0:
                note = f"auto_LiRPA from {attribute} {getattr(missing[0], attribute)}:\n"
                note += missing[0].results["lirpa"]["note"]
                axis.text(0.03, 0.97, note, transform=axis.transAxes, va="top", color="#D55E00", fontsize=9)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)


def _square(axis: Any, chosen: Sequence[Point], attribute: str, key: str) -> None:
    """A line of slope 2 below the bounds, to read growth against."""
    done = [p for p in chosen if "note" not in p.results["bound"]]
    x = np.array([getattr(p, attribute) for p in done], dtype=float)
    y = np.array([p.results["bound"][key] for p in done])
    axis.plot(
        x,
        0.7 * np.min(y / x**2, initial=np.inf) * x**2,
        color="0.55",
        linestyle=":",
        linewidth=1.5,
        label="square of the horizontal axis",
    )


def _dress(axis: Any, ticks: Sequence[int]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(ticks, [str(t) for t in ticks])
    axis.set_xticks([], minor=True)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.grid(True, which="major", color="0.9")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def main() -> None:
    """Print the tables; draw and save what was asked for."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--sides", type=int, nargs="*", default=list(SIDES), help=f"at width {WIDTH}")
    parser.add_argument("--widths", type=int, nargs="*", default=list(WIDTHS), help=f"at side {SIDE}")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(*arguments.child)))
        return
    pairs = sorted({(s, WIDTH) for s in arguments.sides} | {(SIDE, w) for w in arguments.widths})
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as folder:
        for side, width in pairs:
            points.append(measure_point(side, width, Path(folder), points))
    print_table(at_width(points))
    print_table(at_side(points))
    if (arguments.data / "corgi_paper").is_dir():
        print_paper(arguments.data / "corgi_paper")
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([COLUMNS, *map(cells, points)])
    if arguments.plot:
        draw(points, arguments.plot)


if __name__ == "__main__":
    main()
