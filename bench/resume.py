"""A batch that is killed at random and resumed has the same table as one that is not.

    python bench/resume.py [DATA_DIR] [--model FILE] [--per-class 100] [--classes 12,17] [--method crown]
        [--kills 3] [--seed 0] [--folder DIR] [OPTION OF corgi batch ...]

`corgi batch` on GTSRB test images with the recipe of Gu et al., once to its end and once with SIGKILL at
random moments. Compared are all columns, documents and pictures except times; rows whose exact search gave
up (`--method exact` stops after a minute) are counted apart. A last run must find nothing to compute.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from corgi.batch.store import Row, Store
from corgi.errors import StoreError


def without_times(value: Any) -> Any:
    """A document without what the clock says."""
    if isinstance(value, dict):
        return {name: without_times(inner) for name, inner in value.items() if "seconds" not in name}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def comparable(store: Store, row: Row) -> dict[str, Any]:
    """All that must be equal in two runs."""
    answer = dict(vars(row.answer))
    answer["document"] = (
        None if row.answer.document is None else without_times(json.loads(row.answer.document))
    )
    pictures = store.pictures(row.id)
    drawn = None
    if pictures is not None:
        maps = [None if m is None else m.tobytes() for m in (pictures.cam, pictures.witness_cam)]
        drawn = (pictures.image_png, pictures.change_png, *maps)
    return {**answer, "image": row.item.name, "class": row.item.true_class, "pictures": drawn}


def may_be_clocked(row: dict[str, Any]) -> bool:
    """Whether an exact search gave up, as it does when its time is over."""
    exact = (row["document"] or {}).get("exact")
    return exact is not None and not exact["closed"]


def table(path: Path) -> dict[tuple[int, str], dict[str, Any]]:
    """What must be equal, by (setting, digest of the image)."""
    with Store(path) as store:
        rows = list(store.rows())
        found = {(row.setting, row.item.sha256): comparable(store, row) for row in rows}
        assert len(found) == len(rows), "a row is doubled"
    return found


def count(path: Path) -> int:
    """Rows so far."""
    try:
        with Store(path) as store:
            return sum(len(store.done(setting)) for setting in store.settings())
    except StoreError:  # it is just being made
        return 0


def children(pid: int) -> list[int]:
    """Processes a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def kill_at(process: subprocess.Popen[bytes], path: Path, rows: int, delay: float) -> str:
    """Kill a run once it has so many rows and a little time has passed; what was left behind, in words."""
    while process.poll() is None and count(path) < rows:
        time.sleep(0.05)
    time.sleep(delay)
    workers = children(process.pid) if process.poll() is None else []
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while (left := [w for w in workers if Path(f"/proc/{w}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return (
        f"killed with {count(path)} rows; {len(workers)} child processes, {len(left)} of them left after it"
    )


def main() -> None:
    """Run, kill, resume, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("CORGI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--classes", default="12,17")
    parser.add_argument("--method", default="crown")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments, further = parser.parse_known_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    model = arguments.model or arguments.data / "corgi_paper" / "gtsrb_gu2020.onnx"
    chosen = ["--classes", arguments.classes, "--per-class", str(arguments.per_class)]
    command = [sys.executable, "-m", "corgi", "batch", str(model), "--gtsrb", str(arguments.data / "GTSRB")]
    command += [*chosen, "--preprocess", "gtsrb", "--method", arguments.method, *further, "--store"]
    whole, broken = folder / "whole.sqlite", folder / "broken.sqlite"
    for path in (whole, broken):
        path.unlink(missing_ok=True)

    rng = random.Random(arguments.seed)
    expected = arguments.per_class * len(arguments.classes.split(","))
    for rows in sorted(rng.sample(range(expected), arguments.kills)):
        process = subprocess.Popen([*command, str(broken)])
        print(kill_at(process, broken, rows, rng.uniform(0, 3)), flush=True)
    subprocess.run([*command, str(broken)], check=True)
    subprocess.run([*command, str(whole)], check=True)
    print(
        "again:", subprocess.run([*command, str(broken)], check=True, capture_output=True, text=True).stdout
    )

    one, other = table(whole), table(broken)
    clocked = {key for found in (one, other) for key, row in found.items() if may_be_clocked(row)}
    different = [key for key in one if key not in clocked and one[key] != other.get(key)]
    print(f"{len(one)} rows uninterrupted, {len(other)} rows after {arguments.kills} kills")
    print(f"different apart from times: {len(different)}; not compared, gave up: {len(clocked)}")
    sys.exit(bool(different or one.keys() != other.keys()))


if __name__ == "__main__":
    main()
