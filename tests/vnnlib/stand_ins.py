"""What decides instances in tests of processes, by the name of the network."""

from __future__ import annotations

import os
import time
from pathlib import Path


def stand_in(onnx: Path, vnnlib: Path, seconds: float) -> tuple[str, ...]:
    """Dies, hangs, is late, or answers."""
    if onnx.name == "dies":
        os._exit(7)
    if onnx.name in ("hangs", "late", "slow"):
        time.sleep({"hangs": 60.0, "late": seconds + 0.05, "slow": 1.0}[onnx.name])
    return "unsat", "", ""
