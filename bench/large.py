"""What one certificate costs on networks of a real size: random residual networks (torchvision's ResNet).

    python bench/large.py [DATA_DIR] [--net resnet18] [--side 224] [--width 64] [--classes 1000] [--k 4]
                          [--image 0] [--tolerance 0.1] [--unfolded] [--method crown] [--budget MB]
                          [--work TERA] [--no-attack] [--no-exact] [--file MODEL] [--bound RADIUS]

DATA_DIR holds `ImageNet/` (default: $CORGI_DATA or ../shared/data). Weights are He's; every batch norm has
the statistics of eight of those images and random scales and shifts, and is folded into its convolution by
the exporter unless `--unfolded`. Each network is exported to a temporary folder and verified in a process of
its own; one line of JSON says what was certified, how, and what it took (processor and wall seconds, peak
resident memory). With `--bound`, no search: one bound of all map pixels on that ball.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def build(net: str, width: int, classes: int, side: int, pictures: np.ndarray) -> Any:
    """A seeded residual network in evaluation mode; below 64 pixels its first layers do not stride."""
    import torch
    from torch import Tensor, nn

    torch.manual_seed(0)

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        norm = nn.BatchNorm2d(outputs, momentum=None)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.2)
        return [layer, norm]

    class Block(nn.Module):
        """Basic or bottleneck block."""

        def __init__(self, inputs: int, planes: int, stride: int) -> None:
            super().__init__()
            if net == "resnet18":
                outputs = planes
                body = [*conv(inputs, planes, 3, stride), nn.ReLU(), *conv(planes, planes, 3)]
            else:
                outputs = 4 * planes
                body = [*conv(inputs, planes, 1), nn.ReLU(), *conv(planes, planes, 3, stride), nn.ReLU()]
                body += conv(planes, outputs, 1)
            self.body = nn.Sequential(*body)
            same = stride == 1 and inputs == outputs
            self.skip = nn.Identity() if same else nn.Sequential(*conv(inputs, outputs, 1, stride))
            self.outputs = outputs

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.relu(self.body(x) + self.skip(x))
            return out

    layers = [*conv(3, width, 3), nn.ReLU()]
    if side >= 64:
        layers = [*conv(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for stage, count in enumerate(BLOCKS[net]):
        for number in range(count):
            block = Block(channels, width << stage, 2 if stage and not number else 1)
            layers.append(block)
            channels = block.outputs
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    with torch.no_grad():
        model.train()(torch.from_numpy(pictures))
    return model.eval()


def export(model: Any, path: Path, side: int, *, folded: bool) -> None:
    """The network as ONNX, its batch norms folded or not."""
    import torch

    kept = {} if folded else {"training": torch.onnx.TrainingMode.PRESERVE}
    image = torch.zeros(1, 3, side, side)
    torch.onnx.export(
        model, (image,), str(path), dynamo=False, opset_version=17, do_constant_folding=folded, **kept
    )


def picture(path: Path, side: int) -> np.ndarray:
    """The middle of a photograph, its shorter side scaled to 8/7 of `side`: [3, side, side] in [0, 1]."""
    photo = Image.open(path).convert("RGB")
    scale = side * 8 / 7 / min(photo.size)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BILINEAR)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    photo = photo.crop((left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(photo, dtype=np.float32).transpose(2, 0, 1) / np.float32(255))


def peak() -> float:
    """Peak resident memory of this process so far, GB (10^9 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def bounded(network: Any, engine: Any, image: np.ndarray, radius: float) -> dict[str, Any]:
    """One bound of all pixels of the predicted class's map."""
    import torch

    from corgi.types import Ball

    class_id = int(network.predict(image))
    ball = Ball(torch.from_numpy(image), radius)
    before, started = time.process_time(), time.monotonic()
    bounder = engine.bind(network, class_id, torch.float64)
    bounds = bounder.pixels(ball)
    return {
        "radius": radius,
        "widest": float((bounds.upper - bounds.lower).max()),
        "largest": float(network.cam(torch.from_numpy(image), class_id).abs().max()),
        "note": bounder.shortfall(ball),
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(time.process_time() - before, 1),
        "peak_gb": round(peak(), 2),
    }


def measured(file: str, image_file: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One verification, in this process."""
    from dataclasses import replace

    import torch

    import corgi
    from corgi.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    started = time.monotonic()
    network = corgi.load(file)
    loaded, memory = time.monotonic() - started, peak()
    engine = corgi.PatchEngine(relaxation=corgi.PatchMethod(arguments.method))
    if arguments.budget is not None:
        engine = replace(engine, budget=int(arguments.budget * 1e6))
    if arguments.work is not None:
        engine = replace(engine, work=arguments.work * 1e12)
    if arguments.bound is not None:
        return bounded(network, engine, np.load(image_file), arguments.bound)
    spent: dict[str, float] = {}
    clock = [time.monotonic()]

    def listen(progress: Any) -> None:
        now = time.monotonic()
        spent[progress.stage] = spent.get(progress.stage, 0.0) + now - clock[0]
        clock[0] = now
        print(f"{now - started:7.1f} s  {progress}  peak {peak():.2f} GB", file=sys.stderr, flush=True)

    options: dict[str, Any] = {"k": arguments.k, "engine": engine, "listener": listen}
    options["tolerance"] = arguments.tolerance
    if arguments.no_attack:
        options["attack"] = None
    if arguments.no_exact:
        options["exact"] = None
    before = time.process_time()
    result = corgi.verify(network, np.load(image_file), **options)
    certificate, attack = result.certificate, result.attack
    return {
        "radius": certificate.radius,
        "uncertified": certificate.uncertified_radius,
        "attack": None if attack is None else attack.radius,
        "method": certificate.method,
        "note": certificate.note,
        "status": str(result.status),
        "reason": result.reason,
        "exact": None if certificate.exact is None else certificate.exact.reason,
        "evaluations": certificate.evaluations,
        "gap": result.top.gap,
        "load_s": round(loaded, 1),
        "wall_s": round(result.seconds, 1),
        "cpu_s": round(time.process_time() - before, 1),
        "stages_s": {stage: round(seconds, 1) for stage, seconds in spent.items()},
        "peak_gb": round(peak(), 2),
        "loaded_gb": round(memory, 2),
    }


def main() -> None:
    """Export, then verify in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--net", choices=tuple(BLOCKS), default="resnet18")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--image", type=int, default=0, help="which photograph, 0 to 9")
    parser.add_argument("--unfolded", action="store_true", help="keep batch norms as nodes")
    parser.add_argument("--method", default="crown")
    parser.add_argument("--budget", type=float, help="megabytes of one backward pass")
    parser.add_argument("--tolerance", type=float, default=0.1, help="relative width of the final bracket")
    parser.add_argument("--work", type=float, help="10^12 multiply-adds of the rows of one ball")
    parser.add_argument("--bound", type=float, metavar="RADIUS", help="one bound instead of a search")
    parser.add_argument("--no-attack", action="store_true")
    parser.add_argument("--no-exact", action="store_true")
    parser.add_argument("--file", type=Path, help="verify this model instead of a random one")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measured(*arguments.child, arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        photos = sorted((arguments.data / "ImageNet").glob("*.JPEG"))
        image, file = Path(folder) / "image.npy", arguments.file or Path(folder) / "model.onnx"
        np.save(image, picture(photos[arguments.image], arguments.side))
        # The exporter's memory must not count: a new process starts with its parent's peak.
        pid = os.fork() if arguments.file is None else 0
        if pid == 0 and arguments.file is None:
            pictures = np.stack([picture(photo, arguments.side) for photo in photos[:8]])
            model = build(arguments.net, arguments.width, arguments.classes, arguments.side, pictures)
            export(model, file, arguments.side, folded=not arguments.unfolded)
            os._exit(0)
        if pid:
            os.waitpid(pid, 0)
        subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--child", str(file), str(image)], check=True
        )


if __name__ == "__main__":
    main()
